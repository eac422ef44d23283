//! `mydocker kill`.

use super::container_options::parse_signal;
use super::failure::{Failure, While as _};
use super::{Global, Outcome, each};
use crate::container;

/// Send a signal to containers
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Signal, by name or number
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL", value_parser = parse_signal)]
    signal: i32,
    /// Names, ids or first digits of ids
    #[arg(required = true)]
    container: Vec<String>,
}

pub(super) fn run(global: &Global, args: &Args) -> Outcome {
    each(&args.container, |name| -> Result<(), Failure> {
        let what = format!("kill {name}");
        let containers = global.containers().doing(&what)?;
        let record = containers.find(name).doing(&what)?;
        container::kill(&containers, &record, args.signal).doing(&what)
    })
}
