//! `mydocker copy`.

use std::sync::Arc;

use super::failure::While as _;
use super::progress::Progress;
use super::remote::{PARALLEL, RemoteArgs};
use super::{Outcome, output};
use crate::image::{self, CopyOptions, Place};

/// Copy an image between registries, archives and layouts, without the store
///
/// A place is docker://REFERENCE (a registry; docker:// may be left out), oci:DIR[:TAG] (an OCI image layout),
/// oci-archive:FILE[:TAG] (an archive of one), or docker-archive:FILE[:REFERENCE] (as `docker save` writes it, for one
/// platform). All platforms of an image are copied, byte for byte. Standard output has the digest of what was copied.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Copy the image for this platform alone
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,
    #[command(flatten)]
    remote: RemoteArgs,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    /// Where from
    #[arg(value_name = "SRC")]
    from: String,
    /// Where to
    #[arg(value_name = "DST")]
    to: String,
}

pub(super) fn run(args: &Args) -> Outcome {
    let what = format!("copy {} {}", args.from, args.to);
    let from: Place = args.from.parse().doing(&what)?;
    let to: Place = args.to.parse().doing(&what)?;
    let platform = args.platform.as_ref().map(|platform| platform.parse());
    let options = CopyOptions { platform: platform.transpose().doing(&what)?, parallel: PARALLEL };
    let progress = Arc::new(Progress::of_copy(args.quiet));
    let client = args.remote.watched(Arc::<Progress>::clone(&progress)).doing(&what)?;
    progress.say(&format!("Copying {from} to {to}"));
    let copied = image::copy(&client, &from, &to, &options, &*progress).doing(&what)?;
    output::data(&format!("{}\n", copied.digest));
    Ok(0)
}
