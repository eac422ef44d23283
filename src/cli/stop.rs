//! `mydocker stop`.

use super::container_options::parse_signal;
use super::failure::{Failure, While as _};
use super::{Global, Outcome, each};
use crate::container;

/// Ask containers to end, and kill those that do not
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Signal that asks [default: the container's stop signal]
    #[arg(short, long, value_name = "SIGNAL", value_parser = parse_signal)]
    signal: Option<i32>,
    /// Seconds before it is killed; -1 for never [default: the container's, or 10]
    #[arg(
        short,
        long,
        visible_alias = "timeout",
        value_name = "SECONDS",
        allow_hyphen_values = true
    )]
    time: Option<i64>,
    /// Names, ids or first digits of ids
    #[arg(required = true)]
    container: Vec<String>,
}

pub(super) fn run(global: &Global, args: &Args) -> Outcome {
    each(&args.container, |name| -> Result<(), Failure> {
        let what = format!("stop {name}");
        let containers = global.containers().doing(&what)?;
        let record = containers.find(name).doing(&what)?;
        container::stop(&containers, &record, args.signal, args.time).doing(&what)
    })
}
