//! `mydocker image`: docker's other spelling of verbs about images.

use super::{
    Global, Outcome, history, images, import, inspect, load, prune, pull, push, rmi, save, tag,
};

/// Manage images: the verbs that there are without `image` too
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    History(history::Args),
    Import(import::Args),
    Inspect(inspect::Args),
    Load(load::Args),
    #[command(visible_alias = "list")]
    Ls(images::Args),
    Prune(prune::Args),
    Pull(pull::Args),
    Push(push::Args),
    #[command(visible_alias = "remove")]
    Rm(rmi::Args),
    Save(save::Args),
    Tag(tag::Args),
}

pub(super) fn run(global: &Global, args: Args) -> Outcome {
    match args.verb {
        Verb::History(args) => history::run(global, &args),
        Verb::Import(args) => import::run(global, args),
        Verb::Inspect(args) => inspect::run_images(global, args),
        Verb::Load(args) => load::run(global, args),
        Verb::Ls(args) => images::run(global, &args),
        Verb::Prune(args) => prune::run(global, &args),
        Verb::Pull(args) => pull::run(global, args),
        Verb::Push(args) => push::run(global, &args),
        Verb::Rm(args) => rmi::run(global, &args),
        Verb::Save(args) => save::run(global, args),
        Verb::Tag(args) => tag::run(global, &args),
    }
}
