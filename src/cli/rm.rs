//! `mydocker rm`.

use super::failure::{Failure, While as _};
use super::{Global, Outcome, each};
use crate::container;

/// Remove containers
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Kill a container that runs
    #[arg(short, long)]
    force: bool,
    /// Names, ids or first digits of ids
    #[arg(required = true)]
    container: Vec<String>,
}

pub(super) fn run(global: &Global, args: &Args) -> Outcome {
    each(&args.container, |name| remove(global, name, args.force))
}

fn remove(global: &Global, name: &str, force: bool) -> Result<(), Failure> {
    let what = format!("rm {name}");
    let containers = global.containers().doing(&what)?;
    container::remove(&containers, name, force).doing(&what)
}
