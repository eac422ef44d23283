//! `mydocker rm`.

use super::failure::{Failure, While as _};
use super::{Global, Outcome, each};
use crate::container;

/// Remove containers
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Kill a container that runs; one that is not there is no failure
    #[arg(short, long)]
    force: bool,
    /// Remove its volumes too, but for those that have a name
    #[arg(short, long)]
    volumes: bool,
    /// Names, ids or first digits of ids
    #[arg(required = true)]
    container: Vec<String>,
}

pub(super) fn run(global: &Global, args: &Args) -> Outcome {
    each(&args.container, |name| remove(global, name, args))
}

fn remove(global: &Global, name: &str, args: &Args) -> Result<(), Failure> {
    let what = format!("rm {name}");
    let containers = global.containers().doing(&what)?;
    let removed = container::remove(&containers, name, args.force, args.volumes);
    let is_missing = matches!(removed, Err(container::Error::NoSuchContainer(_)));
    removed.doing(&what).map_err(|failure| failure.tolerated(args.force && is_missing))
}
