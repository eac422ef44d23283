//! `mydocker pull`.

use super::failure::While as _;
use super::progress::Progress;
use super::{Global, Outcome, output};
use crate::image::{self, Limits, PullOptions};
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;
use crate::registry::{self, Client};

/// How many layers are fetched and unpacked at a time.
const PARALLEL: usize = 3;

/// Download an image from a registry
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Take the image for this platform instead of this machine's own
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,
    /// Let a layer ask for more or less: entries, bytes, directories, whiteouts, extension, extents, directory-xattrs; or
    /// keep so many bytes free: free
    #[arg(long, value_name = "NAME=NUMBER[k|m|g|t]")]
    limit: Vec<String>,
    /// Reach this registry over http, without encryption
    #[arg(long, value_name = "REGISTRY")]
    plain_http: Vec<String>,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    /// [REGISTRY/]REPOSITORY[:TAG][@DIGEST]
    reference: String,
}

pub(super) fn run(global: &Global, args: Args) -> Outcome {
    let what = format!("pull {}", args.reference);
    let reference: Reference = args.reference.parse().doing(&what)?;
    let platform: Option<Platform> =
        args.platform.map(|platform| platform.parse()).transpose().doing(&what)?;
    let store = global.store().doing(&what)?;
    let options = registry::Options { plain_http: args.plain_http, ..registry::Options::default() };
    let client = Client::new(options).doing(&what)?;
    let progress = Progress::new(args.quiet);
    progress.say(&format!("Pulling {reference}"));
    let mut limits = Limits::default();
    args.limit.iter().try_for_each(|limit| limits.set(limit)).doing(&what)?;
    let options =
        PullOptions { reference: reference.clone(), platform, parallel: PARALLEL, limits };
    let pulled = image::pull(&store, &client, &options, &progress).doing(&what)?;
    progress.say(&format!("Digest: {}", pulled.digest));
    progress.say(&if pulled.fresh {
        format!("Status: Downloaded newer image for {}", args.reference)
    } else {
        format!("Status: Image is up to date for {}", args.reference)
    });
    output::data(&format!("{reference}\n"));
    Ok(0)
}
