//! `mydocker system`: what is about everything at once.

use super::container::prune_containers;
use super::failure::{Failure, While as _};
use super::volume::prune_volumes;
use super::volume_filter::VolumeFilters;
use super::{Global, Outcome, df, events, info, output, prompt, prune};

/// Show what there is and what happens, and free room
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Df(df::Args),
    Events(events::Args),
    Info(info::Args),
    Prune(PruneArgs),
}

/// Remove containers that do not run, then images that no container stands on
#[derive(Debug, clap::Args)]
struct PruneArgs {
    /// Remove images that have names too
    #[arg(short, long)]
    all: bool,
    /// Only what is so: label=, until=
    #[arg(long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Remove volumes too that nobody has named and no container has
    #[arg(long)]
    volumes: bool,
}

pub(super) fn run(global: &Global, args: &Args) -> Outcome {
    match &args.verb {
        Verb::Df(args) => df::run(global, args),
        Verb::Events(args) => events::run(global, args),
        Verb::Info(args) => info::run(global, args),
        Verb::Prune(args) => prune_all(global, args),
    }
}

fn prune_all(global: &Global, args: &PruneArgs) -> Outcome {
    let what = "system prune";
    let images = prune::options(args.all, &args.filter)?;
    if args.volumes && args.filter.iter().any(|filter| filter.starts_with("until=")) {
        let cause = "volumes have no filter `until`";
        return Err(Failure::new(what, cause, "leave out --volumes, or use --filter label="));
    }
    if !args.force && !prompt::is_sure(&warning(args)) {
        return Ok(0);
    }
    let containers = global.containers().doing(what)?;
    let (mut freed, code) = prune_containers(&containers, &args.filter).doing(what)?;
    if args.volumes {
        let filters = VolumeFilters::parse_prune(&args.filter, false).doing(what)?;
        freed = freed.saturating_add(prune_volumes(&containers, &filters).doing(what)?);
    }
    freed = freed.saturating_add(prune::prune_images(global, &images)?);
    output::data(&format!("Total reclaimed space: {}\n", output::size(freed)));
    Ok(code)
}

fn warning(args: &PruneArgs) -> String {
    let volumes = if args.volumes {
        "\n  - all anonymous volumes not used by at least one container"
    } else {
        ""
    };
    let images = if args.all {
        "all images without at least one container associated to them"
    } else {
        "all dangling images"
    };
    format!("This will remove:\n  - all stopped containers{volumes}\n  - {images}\n")
}
