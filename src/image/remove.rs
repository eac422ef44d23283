//! `rmi`: takes an image's name away, and the image with its last name.

use std::collections::BTreeSet;

use super::{Error, Image, find, list};
use crate::oci::descriptor::Descriptor;
use crate::oci::digest::{Digest, ImageId};
use crate::oci::reference::Reference;
use crate::store::Store;

/// What [`remove`] took away.
#[derive(Debug, Default)]
pub struct Untagged {
    /// Names that are gone.
    pub names: Vec<String>,
    /// Images that are gone with their last name.
    pub images: Vec<ImageId>,
}

/// Removes what `text` means: a name alone while the image has others, else the image.
///
/// `users` tells which containers stand on images, each with its id; `None` if that cannot be told, and then no image
/// goes. An image that one stands on is kept, and losing its last name is refused unless `force`; then the image stays
/// without a name until its containers are gone.
pub fn remove(
    store: &Store,
    text: &str,
    users: &dyn Fn() -> Option<Vec<(String, ImageId)>>,
    force: bool,
) -> Result<Untagged, Error> {
    let (images, broken) = list(store)?;
    let named = text.parse::<Reference>().ok().map(|reference| reference.familiar());
    if let Some((entry, _)) = broken.iter().find(|(entry, _)| entry.ref_name() == named.as_deref())
    {
        return remove_broken(store, entry);
    }
    let image = find(store, text)?;
    let same: Vec<&Image> = images.iter().filter(|other| other.id == image.id).collect();
    let by_name = named.is_some() && image.name() == named.as_deref();
    let names: BTreeSet<&str> = same.iter().filter_map(|image| image.name()).collect();
    if !by_name && names.len() > 1 && !force {
        return Err(Error::AmbiguousId(text.to_owned()));
    }
    let last = !by_name || names.len() <= 1;
    let user = users().into_iter().flatten().find(|(_, id)| *id == image.id);
    if let (true, Some((container, _)), false) = (last, user, force) {
        return Err(Error::InUse(container));
    }
    let chosen = |entry: &Descriptor| {
        if by_name {
            entry.ref_name() == image.name()
        } else {
            same.iter().any(|image| image.descriptor == *entry)
        }
    };
    let file_name = |name: &str| name.parse().ok().map(|name: Reference| name.file_name());
    let in_use = || Some(users()?.into_iter().map(|(_, id)| id).collect());
    let removed = store.remove(chosen, file_name, |entry| parts(store, entry), in_use)?;
    let names =
        same.iter().filter(|image| chosen(&image.descriptor)).filter_map(|image| image.name());
    Ok(Untagged { names: names.map(str::to_owned).collect(), images: removed.images })
}

/// Takes an image that cannot be read out of the index. What it consists of cannot be told, and stays.
fn remove_broken(store: &Store, broken: &Descriptor) -> Result<Untagged, Error> {
    let file_name = |name: &str| name.parse().ok().map(|name: Reference| name.file_name());
    store.remove(|entry| entry == broken, file_name, |_| None, || None)?;
    let names = broken.ref_name().map(str::to_owned).into_iter().collect();
    Ok(Untagged { names, images: Vec::new() })
}

/// The blobs and the tree that an entry needs.
pub(super) fn parts(store: &Store, entry: &Descriptor) -> Option<(Vec<Digest>, ImageId)> {
    let image = Image::load(store, entry).ok()?;
    Some((super::df::parts(&image), image.id))
}
