//! `mydocker restart`.

use super::failure::{Failure, While as _};
use super::stop_options::StopArgs;
use super::{Global, Outcome, each};
use crate::container;

/// Stop containers and start them again
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    stop: StopArgs,
    /// Names, ids or first digits of ids
    #[arg(required = true)]
    container: Vec<String>,
}

impl Args {
    /// The containers that are named.
    pub(super) fn names(&self) -> &[String] {
        &self.container
    }
}

pub(super) fn run(global: &Global, args: &Args) -> Outcome {
    let StopArgs { signal, time } = args.stop;
    each(&args.container, |name| -> Result<(), Failure> {
        let what = format!("restart {name}");
        let containers = global.containers().doing(&what)?;
        let record = containers.find(name).doing(&what)?;
        container::restart(&containers, &global.root(), &record, signal, time).doing(&what)
    })
}
