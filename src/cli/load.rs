//! `mydocker load`.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use super::failure::{Failure, While as _};
use super::progress::Progress;
use super::{Global, Outcome, output};
use crate::image::{self, ImportOptions, Input};

/// Load images from an archive
///
/// Takes what `save` of docker, podman or this program writes, OCI archives and image layouts, also packed with gzip,
/// zstd, xz or bzip2.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Take names that the archive brings away from other images
    #[arg(short, long)]
    force: bool,
    /// Read this file or folder instead of standard input
    #[arg(short, long, value_name = "FILE|DIR")]
    input: Option<PathBuf>,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
}

pub(super) fn run(global: &Global, args: Args) -> Outcome {
    let (what, input) = match args.input {
        Some(path) => {
            let what = format!("load {}", path.display());
            (what, if path.is_dir() { Input::Folder(path) } else { Input::File(path) })
        }
        None if std::io::stdin().is_terminal() => {
            let hint = "give a file with -i, or send one to standard input";
            return Err(Failure::new("load", "an archive is not read from a terminal", hint));
        }
        None => ("load".to_owned(), Input::Stdin),
    };
    let store = global.store().doing(&what)?;
    let progress = Progress::new(args.quiet);
    let options =
        ImportOptions { take_names: args.force, images_only: true, ..ImportOptions::default() };
    let loaded = image::import(&store, &input, &options, &progress).doing(&what)?;
    for (name, id) in loaded {
        let told = name.as_ref().map(|name| name.familiar()).unwrap_or_default();
        global.tell_image("load", &id.to_string(), &told);
        output::data(&match name {
            Some(name) => match name.tag() {
                Some(tag) => format!("Loaded image: {}:{tag}\n", name.familiar_repository()),
                None => format!("Loaded image: {}\n", name.familiar()),
            },
            None => format!("Loaded image ID: {id}\n"),
        });
    }
    Ok(0)
}
