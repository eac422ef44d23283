//! `mydocker pull`.

use std::sync::Arc;

use super::failure::{Failure, OWN_ERROR, While as _};
use super::progress::Progress;
use super::remote::{PARALLEL, RemoteArgs};
use super::tags::names_a_tag;
use super::{Global, Outcome, output};
use crate::image::{self, Limits, PullOptions};
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
    /// Fetch and unpack at most so many layers at a time
    #[arg(long, value_name = "N", default_value_t = PARALLEL, value_parser = parse_parallel)]
    max_parallel: usize,
    /// Take the image for this platform instead of this machine's own
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,
    #[command(flatten)]
    remote: RemoteArgs,
    /// Let a layer ask for more or less: entries, bytes, directories, whiteouts, extension, extents, directory-xattrs; or
    /// keep so many bytes free: free
    #[arg(long, value_name = "NAME=NUMBER[k|m|g|t]")]
    limit: Vec<String>,
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
    let mut limits = Limits::default();
    args.limit.iter().try_for_each(|limit| limits.set(limit)).doing(&what)?;
    let progress = Arc::new(Progress::new(args.quiet));
    let client = args.remote.watched(Arc::<Progress>::clone(&progress)).doing(&what)?;
    let (store, client, parallel) = (&store, &client, args.max_parallel);
    let pull = Pull { global, store, client, progress: &progress, platform, parallel, limits };
    match args.all_tags {
        true => pull.all(&what, &reference),
        false => pull.first(&what, &args.reference),
    }
}

struct Pull<'a> {
    global: &'a Global,
    store: &'a Store,
    client: &'a Client,
    progress: &'a Progress,
    platform: Option<Platform>,
    parallel: usize,
    limits: Limits,
}

impl Pull<'_> {
    /// Pulls the image that `given` stands for: the first of them, where it is a short name.
    fn first(&self, what: &str, given: &str) -> Outcome {
        let candidates = self.client.candidates(given).doing(what)?;
        self.one(what, &candidates, given)
    }

    /// Pulls the first of `candidates` that can be had, which the user has called `given`.
    fn one(&self, what: &str, candidates: &[Reference], given: &str) -> Outcome {
        let Some(first) = candidates.first() else { return Ok(OWN_ERROR) };
        self.progress.say(&format!("Pulling {first}"));
        let options = PullOptions {
            reference: first.clone(),
            platform: self.platform.clone(),
            parallel: self.parallel,
            limits: self.limits.clone(),
        };
        let (store, client) = (self.store, self.client);
        let pulled = image::pull_first(store, client, candidates, &options, self.progress);
        let (reference, pulled) = pulled.doing(what)?;
        self.progress.say(&format!("Digest: {}", pulled.digest));
        self.progress.say(&if pulled.fresh {
            format!("Status: Downloaded newer image for {given}")
        } else {
            format!("Status: Image is up to date for {given}")
        });
        let name = reference.familiar();
        self.global.tell_image("pull", &name, &name);
        output::data(&format!("{reference}\n"));
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
            let what = format!("pull {name}");
            if let Err(failure) = self.one(&what, std::slice::from_ref(&tagged), &name) {
                failure.report();
                code = OWN_ERROR;
            }
        }
        Ok(code)
    }
}

fn parse_parallel(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=64) => Ok(count),
        _ => Err("expected a number from 1 to 64".to_owned()),
    }
}
