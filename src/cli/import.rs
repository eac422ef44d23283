//! `mydocker import`.

use std::path::PathBuf;

use super::failure::While as _;
use super::progress::Progress;
use super::{Global, Outcome, output};
use crate::image::{self, ImportOptions, Input, Limits};
use crate::oci::reference::Reference;

/// Make an image from a file or folder, without a registry
///
/// Takes a root filesystem as `docker export` writes it, an archive of `docker save`, an OCI archive, an OCI image
/// layout, or a folder with a root filesystem; archives also packed with gzip, zstd, xz or bzip2.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Take names that the archive brings away from other images
    #[arg(short, long)]
    force: bool,
    /// What to call the image [default: the name in the archive, or the file's own]
    #[arg(long)]
    name: Option<String>,
    /// Let a layer ask for more or less; see pull
    #[arg(long, value_name = "NAME=NUMBER[k|m|g|t]")]
    limit: Vec<String>,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    /// The file or folder; - for standard input
    #[arg(value_name = "FILE|-|DIR")]
    input: PathBuf,
}

pub(super) fn run(global: &Global, args: Args) -> Outcome {
    let what = format!("import {}", args.input.display());
    let name: Option<Reference> = args.name.map(|name| name.parse()).transpose().doing(&what)?;
    let mut limits = Limits::default();
    args.limit.iter().try_for_each(|limit| limits.set(limit)).doing(&what)?;
    let options = ImportOptions { name, take_names: args.force, images_only: false, limits };
    let input = match args.input {
        path if path.as_os_str() == "-" => Input::Stdin,
        path if path.is_dir() => Input::Folder(path),
        path => Input::File(path),
    };
    let store = global.store().doing(&what)?;
    let progress = Progress::new(args.quiet);
    let imported = image::import(&store, &input, &options, &progress).doing(&what)?;
    for (name, id) in imported {
        let told = name.as_ref().map(Reference::familiar).unwrap_or_default();
        global.tell_image("import", &id.to_string(), &told);
        let name = name.map_or_else(|| "<none>".to_owned(), |name| name.familiar());
        progress.say(&format!("Imported {name} ({})", id.digest().short()));
        output::data(&format!("{id}\n"));
    }
    Ok(0)
}
