//! `tag`: another name for an image of the store.

use super::{Error, Image};
use crate::oci::descriptor::ANNOTATION_REF_NAME;
use crate::oci::reference::Reference;
use crate::store::{ANNOTATION_PULLED, Publication, Store};

/// Gives `image` the name `target`, and takes that name from whichever image has it.
pub fn tag(store: &Store, image: &Image, target: &Reference) -> Result<(), Error> {
    if let Some(digest) = target.digest() {
        return Err(Error::DigestNamed(digest.clone()));
    }
    // A name leads to a tree.
    image.tree(store)?;
    let staging = store.stage()?;
    let mut entry = image.descriptor.clone();
    entry.annotations.remove(ANNOTATION_REF_NAME);
    let same_place = |name: Reference| name.familiar_repository() == target.familiar_repository();
    // No registry is known to have it in another repository.
    if !image.reference().is_some_and(same_place) {
        entry.annotations.remove(ANNOTATION_PULLED);
    }
    let mut blobs = vec![entry.digest.clone(), image.manifest.config.digest.clone()];
    blobs.extend(image.manifest.layers.iter().map(|layer| layer.digest.clone()));
    let (name, image, id) = (Some(target), &entry, &image.id);
    Ok(store.publish(&staging, &Publication { name, image, id, blobs: &blobs, tree: None })?)
}
