//! `mydocker push`.

use super::failure::{Failure, While as _};
use super::progress::Progress;
use super::remote::{PARALLEL, RemoteArgs};
use super::{Global, Outcome, output};
use crate::image;
use crate::oci::reference::Reference;

/// Upload an image to a registry
///
/// The image goes as it lies in the store, byte for byte. On success, standard output has one line as docker's:
/// TAG: digest: DIGEST size: BYTES.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    remote: RemoteArgs,
    /// Show no progress, and print the full reference only
    #[arg(short, long)]
    quiet: bool,
    /// The image: a name, an id or the first digits of one
    reference: String,
    /// Where to, unless to where its name says: [REGISTRY/]REPOSITORY[:TAG]
    destination: Option<String>,
}

pub(super) fn run(global: &Global, args: &Args) -> Outcome {
    let what = format!("push {}", args.reference);
    let destination = args.destination.as_ref().unwrap_or(&args.reference);
    let destination = destination.strip_prefix("docker://").unwrap_or(destination);
    let destination: Reference = destination.parse().doing(&what)?;
    let store = global.store().doing(&what)?;
    let image = image::find(&store, &args.reference).doing(&what)?;
    // An id has the form of a name, of a repository that nobody means.
    if args.destination.is_none() && image.reference().as_ref() != Some(&destination) {
        let hint =
            format!("say where to: mydocker push {} REGISTRY/REPOSITORY:TAG", args.reference);
        return Err(Failure::new(&what, "that is not the image's name", hint));
    }
    let client = args.remote.client().doing(&what)?;
    let progress = Progress::new(args.quiet);
    let (registry, repository) = (destination.registry(), destination.repository());
    progress.say(&format!("The push refers to repository [{registry}/{repository}]"));
    let pushed = image::push(&store, &client, &image, &destination, PARALLEL, &progress);
    let pushed = pushed.doing(&what)?;
    global.tell_image("push", &destination.familiar(), &destination.familiar());
    let (tag, size) = (destination.tag().unwrap_or("latest"), pushed.bytes.len());
    output::data(&match args.quiet {
        true => format!("{destination}\n"),
        false => format!("{tag}: digest: {} size: {size}\n", pushed.digest),
    });
    Ok(0)
}
