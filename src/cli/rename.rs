//! `mydocker rename`.

use super::failure::While as _;
use super::{Global, Outcome};

/// Give a container another name
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name, id or first digits of an id
    container: String,
    /// New name
    name: String,
}

pub(super) fn run(global: &Global, args: &Args) -> Outcome {
    let what = format!("rename {}", args.container);
    let containers = global.containers().doing(&what)?;
    let record = containers.find(&args.container).doing(&what)?;
    containers.rename(&record, &args.name).doing(&what)?;
    Ok(0)
}
