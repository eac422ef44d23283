//! `mydocker inventory`.

use std::path::PathBuf;

use super::failure::While as _;
use super::{Global, Outcome};
use crate::image::{self, Output};

/// List the digests of all that this store has, for `bundle` on another machine
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn run(global: &Global, args: Args) -> Outcome {
    let store = global.store().doing("inventory")?;
    let output = args.output.map_or(Output::Stdout, Output::File);
    image::inventory(&store, &output).doing("inventory")?;
    Ok(0)
}
