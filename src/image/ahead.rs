//! A layer that is unpacked before anybody knows its digest: that of an uncompressed root filesystem, which is read once.

use std::fs::File;
use std::os::fd::AsFd;

use super::Error;
use super::layers::{TREE, Unpacked, layer_name};
use crate::oci::digest::DiffId;
use crate::store::{Staging, Store};
use crate::unpack::list::Origins;
use crate::unpack::{self, Compression, Copy, Destination, Limits};

/// The layer, with the notes for the list of its tree.
pub(super) struct Ready {
    pub(super) unpacked: Unpacked,
    pub(super) origins: Origins,
}

/// Unpacks an uncompressed layer while it is hashed and copied into the staging folder; returns its digest as well, and
/// its size in bytes. It becomes the only layer of its image.
pub(super) fn unpack_ahead(
    store: &Store,
    staging: &Staging,
    tar: &mut File,
    limits: &Limits,
    shown: &str,
) -> Result<(Ready, DiffId, u64), Error> {
    const NAME: &str = "blob";
    staging.create_lists(TREE)?;
    let headers = staging.create_headers(TREE, 0)?;
    let folder = staging.create_folder(&layer_name(0))?;
    let origins = Origins::new();
    let file = staging.create_file(NAME)?;
    let copy = Copy::new(file, staging.open_direct(NAME));
    let dest = Destination {
        origins: Some((&origins, 0)),
        headers: Some(&headers),
        copy: Some(&copy),
        ..Destination::new(folder.as_fd(), limits)
    };
    let (unpacked, diff_id) = store.writing_back(|| {
        let done = unpack::unpack_layer(tar, Compression::None, None, &dest);
        done.map_err(|source| Error::Layer { layer: shown.to_owned(), source })
    })?;
    let size = staging.rename_blob(NAME, diff_id.digest())?;
    Ok((Ready { unpacked: Unpacked { folder, layer: unpacked }, origins }, diff_id, size))
}
