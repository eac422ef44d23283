//! What nothing in the store needs any more: left by a crash, by another tool, or by an image that could not be read when
//! its name was taken away.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use super::error::{At as _, Error};
use super::{Removed, Store};
use crate::oci::descriptor::Descriptor;
use crate::oci::digest::{Digest, ImageId};

impl Store {
    /// The blobs that the store holds, whoever needs them, in order.
    pub fn blobs(&self) -> Result<Vec<Digest>, Error> {
        let mut digests = Vec::new();
        for algorithm in ["sha256", "sha512"] {
            let folder = self.root.join("blobs").join(algorithm);
            digests.extend(names(&folder)?.iter().filter_map(|name| {
                let digest: Result<Digest, _> = format!("{algorithm}:{name}").parse();
                digest.ok()
            }));
        }
        Ok(digests)
    }

    /// The images of which the store holds trees, or lists of trees.
    pub fn trees(&self) -> Result<Vec<ImageId>, Error> {
        let mut found = BTreeSet::new();
        for folder in ["trees", "lists"] {
            found.extend(names(&self.root.join(folder))?);
        }
        let parsed = found.iter().filter_map(|name| name.replacen('-', ":", 1).parse().ok());
        Ok(parsed.map(ImageId::new).collect())
    }

    /// The blobs and trees that are not among these.
    pub(super) fn unneeded(
        &self,
        blobs: &BTreeSet<Digest>,
        trees: &BTreeSet<ImageId>,
    ) -> Result<(Vec<Digest>, Vec<ImageId>), Error> {
        let (mut found, mut found_trees) = (self.blobs()?, self.trees()?);
        found.retain(|digest| !blobs.contains(digest));
        found_trees.retain(|id| !trees.contains(id));
        Ok((found, found_trees))
    }

    /// Removes every blob and tree that no entry of `index.json` needs, and names that lead to nothing.
    ///
    /// `parts` tells what an entry needs; an entry of which that cannot be told keeps everything. `in_use` are trees that
    /// containers stand on.
    pub fn collect(
        &self,
        parts: impl Fn(&Descriptor) -> Option<(Vec<Digest>, ImageId)>,
        in_use: impl Fn() -> Option<BTreeSet<ImageId>>,
    ) -> Result<Removed, Error> {
        let _room = self.make_room();
        let staging = self.stage()?;
        let mut removed = Removed::default();
        {
            let _lock = self.lock()?;
            let Some(mut trees) = in_use() else { return Ok(removed) };
            let mut blobs = BTreeSet::new();
            for entry in self.images()? {
                let Some((needed, id)) = parts(&entry) else { return Ok(removed) };
                blobs.extend(needed);
                blobs.insert(entry.digest);
                trees.insert(id);
            }
            let (blobs, trees) = self.unneeded(&blobs, &trees)?;
            for digest in blobs {
                if staging.take(&self.blob_path(&digest))? {
                    removed.blobs.push(digest);
                }
            }
            for id in trees {
                self.take_tree(&staging, &id)?;
                removed.images.push(id);
            }
            self.remove_dangling_names()?;
        }
        staging.discard()?;
        Ok(removed)
    }

    fn remove_dangling_names(&self) -> Result<(), Error> {
        let folder = self.root.join("rootfs");
        for name in names(&folder)? {
            let link = folder.join(name);
            let leads_nowhere =
                fs::metadata(&link).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
            if leads_nowhere && fs::symlink_metadata(&link).is_ok_and(|found| found.is_symlink()) {
                fs::remove_file(&link).at("remove", &link)?;
            }
        }
        Ok(())
    }
}

/// The names in a folder, in order; none if it is not there.
pub(super) fn names(folder: &std::path::Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.at("read", folder)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.at("read", folder)?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}
