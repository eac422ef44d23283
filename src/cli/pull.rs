//! `mydocker pull`.

use std::sync::Arc;

use super::failure::While as _;
use super::progress::Progress;
use super::{Global, Outcome, output};
use crate::image::{self, PullOptions};
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;
use crate::registry::{self, Client};

/// How many layers are fetched and unpacked at a time; docs/registries.md says how this was measured.
const PARALLEL: usize = 3;

/// Download an image from a registry
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Fetch and unpack at most so many layers at a time
    #[arg(long, value_name = "N", default_value_t = PARALLEL, value_parser = parse_parallel)]
    max_parallel: usize,
    /// Take the image for this platform instead of this machine's own
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,
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
    let progress = Arc::new(Progress::new(args.quiet));
    let options = registry::Options {
        plain_http: args.plain_http,
        watcher: Some(Arc::<Progress>::clone(&progress)),
        ..registry::Options::default()
    };
    let client = Client::new(options).doing(&what)?;
    let candidates = client.candidates(&args.reference).doing(&what)?;
    if let Some(first) = candidates.first() {
        progress.say(&format!("Pulling {first}"));
    }
    let options = PullOptions { reference, platform, parallel: args.max_parallel };
    let pulled = image::pull_first(&store, &client, &candidates, &options, &*progress);
    let (reference, pulled) = pulled.doing(&what)?;
    progress.say(&format!("Digest: {}", pulled.digest));
    progress.say(&if pulled.fresh {
        format!("Status: Downloaded newer image for {}", args.reference)
    } else {
        format!("Status: Image is up to date for {}", args.reference)
    });
    output::data(&format!("{reference}\n"));
    Ok(0)
}

fn parse_parallel(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=64) => Ok(count),
        _ => Err("expected a number from 1 to 64".to_owned()),
    }
}
