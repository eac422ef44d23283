//! `mydocker healthcheck`.

use super::failure::{Failure, While as _, chain};
use super::{Global, Outcome, output};
use crate::container::{self, monitor};

/// Find out whether containers are well
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Run(RunArgs),
    #[command(hide = true)]
    Watch(RunArgs),
}

/// Check a container's health once, now; the exit code is 0 if it is well, and 1 if not
#[derive(Debug, clap::Args)]
struct RunArgs {
    /// Name, id or first digits of an id
    container: String,
}

pub(super) fn run(global: &Global, args: &Args) -> Outcome {
    let args = match &args.verb {
        Verb::Run(args) => args,
        Verb::Watch(args) => return watch(global, &args.container),
    };
    // An error is told apart from a container that is not well.
    match probe(global, &args.container).map_err(Failure::into_own)? {
        true => Ok(0),
        false => {
            output::data("unhealthy\n");
            Ok(1)
        }
    }
}

/// Has a container checked which runs in the foreground.
fn watch(global: &Global, name: &str) -> Outcome {
    let what = format!("healthcheck watch {name}");
    let containers = global.containers().doing(&what)?;
    let record = containers.find(name).doing(&what)?;
    monitor::watch(&containers, &record).doing(&what)?;
    Ok(0)
}

fn probe(global: &Global, name: &str) -> Result<bool, Failure> {
    let what = format!("healthcheck run {name}");
    let containers = global.containers().doing(&what)?;
    let record = containers.find(name).doing(&what)?;
    container::probe(&containers, &record, chain).doing(&what)
}
