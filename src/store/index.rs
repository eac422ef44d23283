//! `index.json`: which images there are and what they are called; and what goes when a name goes.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use super::error::{At as _, Error};
use super::{Publication, Staging, Store, tree_name};
use crate::oci::descriptor::{ANNOTATION_REF_NAME, Descriptor};
use crate::oci::digest::{Digest, ImageId};
use crate::oci::manifest::{Index, MAX_MANIFEST};
use crate::oci::media_type::OCI_INDEX;

/// Annotation of ours in `index.json`: the digest that the registry's tag stood for when the image was pulled, which
/// is that of an index where there is one.
pub const ANNOTATION_PULLED: &str = "mydocker.pulled-digest";
/// Annotation of ours in `index.json`: the bytes of all files in the image's tree.
pub const ANNOTATION_SIZE: &str = "mydocker.unpacked-size";
/// Annotation of ours in `index.json`: the full reference that the image was pulled from.
pub const ANNOTATION_SOURCE: &str = "mydocker.source";

/// The largest `index.json` that is read: some 20 000 images.
const MAX_INDEX: u64 = 4 * MAX_MANIFEST;

pub(super) fn empty() -> Index {
    Index { schema_version: 2, media_type: Some(OCI_INDEX.to_owned()), manifests: Vec::new() }
}

/// What the symbolic link of an image's name holds.
pub(super) fn link_target(id: &ImageId) -> PathBuf {
    PathBuf::from("../trees").join(tree_name(id))
}

impl Store {
    pub(super) fn index_path(&self) -> PathBuf {
        self.root.join("index.json")
    }

    /// All images, named or not, in the order in which they came.
    pub fn images(&self) -> Result<Vec<Descriptor>, Error> {
        Ok(self.read_index()?.manifests)
    }

    /// The image called `name`, in the familiar form.
    pub fn named(&self, name: &str) -> Result<Option<Descriptor>, Error> {
        let images = self.images()?;
        Ok(images.into_iter().find(|image| image.ref_name() == Some(name)))
    }

    fn read_index(&self) -> Result<Index, Error> {
        let path = self.index_path();
        let size = fs::metadata(&path).at("open", &path)?.len();
        if size > MAX_INDEX {
            return Err(Error::TooLarge { path, size, limit: MAX_INDEX });
        }
        let bytes = fs::read(&path).at("read", &path)?;
        serde_json::from_slice(&bytes).map_err(|source| Error::Index { path, source })
    }

    pub(super) fn write_index(&self, staging: &Staging, index: &Index) -> Result<(), Error> {
        let path = self.index_path();
        let bytes = serde_json::to_vec(index)
            .map_err(|source| Error::Index { path: path.clone(), source })?;
        self.replace_file(staging, &path, &bytes)
    }

    /// Gives the new image its name. The caller holds the lock, and all of the image is there.
    ///
    /// An image that had the name before stays without one, as with docker, until it is removed by its id.
    pub(super) fn set_name(&self, staging: &Staging, new: &Publication<'_>) -> Result<(), Error> {
        let Publication { image, id, .. } = *new;
        let mut index = self.read_index()?;
        let Some(reference) = new.name else {
            if index.manifests.iter().all(|entry| entry.digest != image.digest) {
                index.manifests.push(image.clone());
                self.write_index(staging, &index)?;
            }
            return Ok(());
        };
        let name = &*reference.familiar();
        index.manifests.retain(|entry| {
            entry.digest != image.digest || entry.ref_name().is_some_and(|other| other != name)
        });
        for entry in &mut index.manifests {
            if entry.ref_name() == Some(name) {
                entry.annotations.remove(ANNOTATION_REF_NAME);
            }
        }
        let mut entry = image.clone();
        entry.annotations.insert(ANNOTATION_REF_NAME.to_owned(), name.to_owned());
        index.manifests.push(entry);
        self.link_rootfs(staging, &reference.file_name(), id)?;
        self.write_index(staging, &index)
    }

    /// Points `rootfs/<file_name>` at the tree of `id`, in one step.
    pub(super) fn link_rootfs(
        &self,
        staging: &Staging,
        file_name: &str,
        id: &ImageId,
    ) -> Result<(), Error> {
        let link = self.root.join("rootfs").join(file_name);
        let target = link_target(id);
        if fs::read_link(&link).is_ok_and(|found| found == target) {
            return Ok(());
        }
        let temporary = staging.path().join("link");
        symlink(&target, &temporary).at("create", &temporary)?;
        fs::rename(&temporary, &link).at("rename", &link)?;
        self.sync_folder(&self.root.join("rootfs"))
    }

    /// Takes the entries that `chosen` picks out of `index.json`, and with them every blob and tree that no other
    /// entry needs. `parts` tells what an entry needs; `in_use`, asked under the lock, which trees containers still
    /// stand on: whoever starts one writes that down under the shared lock.
    ///
    /// What is removed goes to `tmp/` under the lock, in no time, and is deleted afterwards.
    ///
    /// # Errors
    /// An entry whose parts cannot be read keeps everything that it might need, and so do containers that cannot be
    /// listed: nothing is removed on a guess.
    pub fn remove(
        &self,
        chosen: impl Fn(&Descriptor) -> bool,
        file_name: impl Fn(&str) -> Option<String>,
        parts: impl Fn(&Descriptor) -> Option<(Vec<Digest>, ImageId)>,
        in_use: impl Fn() -> Option<BTreeSet<ImageId>>,
    ) -> Result<Removed, Error> {
        let _room = self.make_room();
        let staging = self.stage()?;
        let mut removed = Removed::default();
        {
            let _lock = self.lock()?;
            let mut index = self.read_index()?;
            let (gone, kept): (Vec<_>, Vec<_>) = index.manifests.into_iter().partition(chosen);
            index.manifests = kept;
            self.write_index(&staging, &index)?;
            for name in gone.iter().filter_map(Descriptor::ref_name) {
                if let Some(link) = file_name(name) {
                    let link = self.root.join("rootfs").join(link);
                    match fs::remove_file(&link) {
                        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                            return Err(error).at("remove", &link);
                        }
                        _ => {}
                    }
                }
            }
            let mut needed = BTreeSet::new();
            let Some(mut trees) = in_use() else { return Ok(removed) };
            for entry in &index.manifests {
                needed.insert(entry.digest.clone());
                let Some((blobs, id)) = parts(entry) else { return Ok(removed) };
                needed.extend(blobs);
                trees.insert(id);
            }
            for entry in &gone {
                let Some((blobs, id)) = parts(entry) else { continue };
                for digest in blobs.into_iter().chain([entry.digest.clone()]) {
                    if !needed.contains(&digest) && staging.take(&self.blob_path(&digest))? {
                        removed.blobs.push(digest);
                    }
                }
                if !trees.contains(&id) && self.take_tree(&staging, &id)? {
                    removed.images.push(id);
                }
            }
        }
        staging.discard()?;
        Ok(removed)
    }
}

/// What [`Store::remove`] took away.
#[derive(Debug, Default)]
pub struct Removed {
    /// Blobs.
    pub blobs: Vec<Digest>,
    /// Images whose trees are gone.
    pub images: Vec<ImageId>,
}
