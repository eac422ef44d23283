//! `mydocker pull`.

use super::failure::{Failure, OWN_ERROR, While as _};
use super::progress::Progress;
use super::remote::{PARALLEL, RemoteArgs};
use super::tags::names_a_tag;
use super::{Global, Outcome, output};
use crate::image::{self, PullOptions};
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;
use crate::registry::Client;
use crate::store::Store;

/// The most tags that are pulled with `--all-tags`.
const MAX_TAGS: usize = 10_000;

/// Download an image from a registry
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Download the images of all tags
    #[arg(short, long)]
    all_tags: bool,
    /// Take the image for this platform instead of this machine's own
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,
    #[command(flatten)]
    remote: RemoteArgs,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    /// [REGISTRY/]REPOSITORY[:TAG][@DIGEST]; with --all-tags without tag and digest
    reference: String,
}

pub(super) fn run(global: &Global, args: Args) -> Outcome {
    let what = format!("pull {}", args.reference);
    let reference: Reference = args.reference.parse().doing(&what)?;
    let platform: Option<Platform> =
        args.platform.map(|platform| platform.parse()).transpose().doing(&what)?;
    if args.all_tags && names_a_tag(&args.reference) {
        let hint = "give the repository alone, or leave out --all-tags";
        return Err(Failure::new(&what, "one tag or digest is not all tags", hint));
    }
    let store = global.store().doing(&what)?;
    let client = args.remote.client().doing(&what)?;
    let pull = Pull { store: &store, client: &client, platform, quiet: args.quiet };
    match args.all_tags {
        true => pull.all(&what, &reference),
        false => pull.one(&what, &reference, &args.reference),
    }
}

struct Pull<'a> {
    store: &'a Store,
    client: &'a Client,
    platform: Option<Platform>,
    quiet: bool,
}

impl Pull<'_> {
    /// Pulls one image, which the user has called `given`.
    fn one(&self, what: &str, reference: &Reference, given: &str) -> Outcome {
        let progress = Progress::new(self.quiet);
        progress.say(&format!("Pulling {reference}"));
        let (reference, platform) = (reference.clone(), self.platform.clone());
        let options = PullOptions { reference, platform, parallel: PARALLEL };
        let pulled = image::pull(self.store, self.client, &options, &progress).doing(what)?;
        progress.say(&format!("Digest: {}", pulled.digest));
        progress.say(&if pulled.fresh {
            format!("Status: Downloaded newer image for {given}")
        } else {
            format!("Status: Image is up to date for {given}")
        });
        output::data(&format!("{}\n", options.reference));
        Ok(0)
    }

    /// Pulls all images of a repository. One that cannot be pulled does not keep the others.
    fn all(&self, what: &str, repository: &Reference) -> Outcome {
        let mut found = Vec::new();
        let mut each = |tagged| {
            found.push(tagged);
            found.len() < MAX_TAGS
        };
        self.client.tags(repository, &mut each).doing(what)?;
        if found.is_empty() {
            let hint = "`mydocker tags` lists what a repository has";
            return Err(Failure::new(what, "the repository has no tags", hint));
        }
        if found.len() == MAX_TAGS {
            output::warning(&format!("only the first {MAX_TAGS} tags are pulled"));
        }
        let mut code = 0;
        for tagged in found {
            let name = tagged.familiar();
            if let Err(failure) = self.one(&format!("pull {name}"), &tagged, &name) {
                failure.report();
                code = OWN_ERROR;
            }
        }
        Ok(code)
    }
}
