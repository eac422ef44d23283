//! `mydocker bundle`.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::failure::While as _;
use super::{Global, Outcome, output};
use crate::image::{self, Error};

/// Write images to an archive without the layers that another machine has
///
/// That machine tells what it has with `mydocker inventory`, and takes the archive with `mydocker import`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What the other machine has, as `inventory` wrote it there; - for standard input
    #[arg(long, required = true, value_name = "INVENTORY")]
    have: PathBuf,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Names, ids or first digits of ids; a repository without a tag means all its tags
    #[arg(required = true)]
    image: Vec<String>,
}

pub(super) fn run(global: &Global, args: Args) -> Outcome {
    let what = format!("bundle {}", args.image.join(" "));
    let output = super::save::output(args.output, &what)?;
    let have = if args.have == Path::new("-") {
        image::read_inventory(std::io::stdin().lock(), &args.have)
    } else {
        let opened = File::open(&args.have);
        let failed = |source| Error::Io { verb: "open", path: args.have.clone(), source };
        opened.map_err(failed).and_then(|file| image::read_inventory(file, &args.have))
    };
    let have = have.doing(&what)?;
    let store = global.store().doing(&what)?;
    let images = image::choose(&store, &args.image).doing(&what)?;
    let left_out = image::bundle(&store, &images, &have, &output).doing(&what)?;
    output::message(&format!("Left out: {} of layers\n", output::size(left_out)));
    Ok(0)
}
