//! `mydocker port`.

use super::failure::While as _;
use super::{Global, Outcome};

/// List the published ports of a container
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name, id or first digits of an id
    container: String,
}

/// No network of a container's has ports that could be published: it has the host's own, or none.
pub(super) fn run(global: &Global, args: &Args) -> Outcome {
    let what = format!("port {}", args.container);
    let containers = global.containers().doing(&what)?;
    containers.find(&args.container).doing(&what)?;
    Ok(0)
}
