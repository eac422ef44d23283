//! An image that a new one begins with, and whose tree is there.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

use super::Image;
use crate::oci::descriptor::Descriptor;
use crate::oci::digest::{DiffId, ImageId};
use crate::store::{Staging, Store};
use crate::unpack::list::{ListError, ListReader, ListedLayer, Origins};
use crate::unpack::replicate;

/// The lowest layers of a new image, all in one tree. It may be removed at any time.
pub(super) struct Prefix {
    id: ImageId,
    root: File,
    list: ListReader<File>,
    /// The blobs that its layers were made from.
    pub(super) blobs: Vec<Descriptor>,
    /// The bytes of all its files.
    pub(super) size: u64,
}

impl Prefix {
    /// The image with most of the layers that `diff_ids` begins with, and with no others. A tree or a list that cannot be used
    /// is passed over.
    pub(super) fn find(store: &Store, images: &[Image], diff_ids: &[DiffId]) -> Option<Self> {
        let layers = |image: &Image| image.config.rootfs.diff_ids.len();
        let mut candidates: Vec<_> = images
            .iter()
            .filter(|image| {
                layers(image) > 0 && diff_ids.starts_with(&image.config.rootfs.diff_ids)
            })
            .collect();
        candidates.sort_by(|a, b| layers(b).cmp(&layers(a)).then_with(|| a.id.cmp(&b.id)));
        candidates.into_iter().find_map(|image| Self::open(store, image))
    }

    fn open(store: &Store, image: &Image) -> Option<Self> {
        let list = ListReader::new(store.open_list(&image.id).ok()??).ok()?;
        let listed = list.layers().iter().map(|layer| &layer.diff_id);
        if !listed.eq(&image.config.rootfs.diff_ids) {
            return None;
        }
        let root = File::open(store.tree_path(&image.id)).ok()?;
        let (id, blobs) = (image.id.clone(), image.manifest.layers.clone());
        Some(Self { id, root, list, blobs, size: image.size() })
    }

    /// What the list of the new tree says of these layers.
    pub(super) fn listed(&self) -> Vec<ListedLayer> {
        self.list.layers().to_vec()
    }

    /// Takes over the headers of its layers, for the staged tree `tree`; `false` if one is missing.
    pub(super) fn adopt_headers(&self, store: &Store, staging: &Staging, tree: &str) -> bool {
        (0..self.blobs.len()).all(|at| {
            let number = u32::try_from(at).unwrap_or(u32::MAX);
            staging.adopt_headers(store, &self.id, number, tree, at).is_some()
        })
    }

    /// Links all that the tree has into `dest`, which is empty.
    pub(super) fn replicate(
        self,
        dest: BorrowedFd<'_>,
        origins: &Origins,
    ) -> Result<(), ListError> {
        replicate(self.root.as_fd(), self.list, dest, origins)
    }
}
