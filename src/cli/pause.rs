//! `mydocker pause` and `mydocker unpause`.

use super::failure::{Failure, While as _};
use super::{Global, Outcome, each};
use crate::container;

/// Hold all processes of containers where they are
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Names, ids or first digits of ids
    #[arg(required = true)]
    container: Vec<String>,
}

/// Let paused containers go on
#[derive(Debug, clap::Args)]
pub(super) struct UnpauseArgs {
    /// Names, ids or first digits of ids
    #[arg(required = true)]
    container: Vec<String>,
}

pub(super) fn run(global: &Global, args: &Args) -> Outcome {
    each(&args.container, |name| -> Result<(), Failure> {
        let what = format!("pause {name}");
        let containers = global.containers().doing(&what)?;
        let record = containers.find(name).doing(&what)?;
        container::pause(&containers, &record).doing(&what)
    })
}

pub(super) fn unpause(global: &Global, args: &UnpauseArgs) -> Outcome {
    each(&args.container, |name| -> Result<(), Failure> {
        let what = format!("unpause {name}");
        let containers = global.containers().doing(&what)?;
        let record = containers.find(name).doing(&what)?;
        container::unpause(&containers, &record).doing(&what)
    })
}
