//! The hidden verb that holds a container still for another process of this program.

use super::failure::While as _;
use super::{Global, Outcome, output};
use crate::container;

/// Hold a container still until standard input ends
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Its id
    id: String,
}

pub(super) fn run(global: &Global, args: &Args) -> Outcome {
    let what = format!("hold {}", args.id);
    let containers = global.containers().doing(&what)?;
    container::hold(&containers, &args.id, || output::data("frozen\n")).doing(&what)?;
    Ok(0)
}
