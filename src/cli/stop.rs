//! `mydocker stop`.

use super::failure::{Failure, While as _};
use super::stop_options::{self, StopArgs};
use super::{Global, Outcome, each};
use crate::container;

/// Ask containers to end, and kill those that do not
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// All containers that run
    #[arg(short, long, conflicts_with = "container")]
    all: bool,
    #[command(flatten)]
    stop: StopArgs,
    /// Names, ids or first digits of ids
    #[arg(required_unless_present = "all")]
    container: Vec<String>,
}

pub(super) fn run(global: &Global, args: &Args) -> Outcome {
    let StopArgs { signal, time } = args.stop;
    let all = if args.all { stop_options::all(global, "stop", true)? } else { Vec::new() };
    let names = if args.all { &all } else { &args.container };
    each(names, |name| -> Result<(), Failure> {
        let what = format!("stop {name}");
        let containers = global.containers().doing(&what)?;
        let record = containers.find(name).doing(&what)?;
        container::stop(&containers, &record, signal, time).doing(&what)
    })
}
