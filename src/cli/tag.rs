//! `mydocker tag`.

use super::failure::While as _;
use super::{Global, Outcome};
use crate::image;
use crate::oci::reference::Reference;

/// Give an image another name
///
/// An image that had the name before stays without one.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The image: a name, an id or the first digits of one
    source: String,
    /// The new name: [REGISTRY/]REPOSITORY[:TAG]
    target: String,
}

pub(super) fn run(global: &Global, args: &Args) -> Outcome {
    let what = format!("tag {} {}", args.source, args.target);
    let target: Reference = args.target.parse().doing(&what)?;
    let store = global.store().doing(&what)?;
    let image = image::find(&store, &args.source).doing(&what)?;
    image::tag(&store, &image, &target).doing(&what)?;
    global.tell_image("tag", &image.id.to_string(), &target.familiar());
    Ok(0)
}
