//! `mydocker export`.

use std::path::{Path, PathBuf};

use super::diff::{Opened, open, overlay};
use super::failure::While as _;
use super::{Global, Outcome};
use crate::container::Hold;
use crate::image;

/// Write a container's root filesystem to a tar archive
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Name, id or first digits of an id
    container: String,
}

pub(super) fn run(global: &Global, args: Args) -> Outcome {
    let what = format!("export {}", args.container);
    let output = super::save::output(args.output, &what)?;
    let Opened { layer, lower, .. } = open(global, &args.container, Hold::Frozen, &what)?;
    image::export(&overlay(&layer, &lower), Path::new(&args.container), &output).doing(&what)?;
    global.tell_container(&args.container, "export", &[]);
    Ok(0)
}
