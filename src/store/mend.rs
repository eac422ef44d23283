//! Putting right what was found broken: one object at a time, each in one step.

use std::fs;
use std::io;

use super::error::{At as _, Error};
use super::{Staging, Store, index};
use crate::oci::descriptor::Descriptor;
use crate::oci::digest::{Digest, ImageId};
use crate::oci::reference::Reference;

/// What a broken `index.json` is kept as.
const BROKEN_INDEX: &str = "index.json.broken";

impl Store {
    /// Puts a staged and verified blob in the place of one that is broken or missing.
    pub fn replace_blob(&self, staging: &Staging, digest: &Digest) -> Result<(), Error> {
        let (from, to) = (staging.blob_path(digest), self.blob_path(digest));
        if self.sync {
            let file = fs::File::open(&from).at("open", &from)?;
            file.sync_all().at("flush", &from)?;
        }
        let _lock = self.lock()?;
        if fs::symlink_metadata(&to).is_ok_and(|found| found.is_dir()) {
            staging.take(&to)?;
        }
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder).at("create", folder)?;
        }
        fs::rename(&from, &to).at("rename", &to)?;
        self.sync_folder(to.parent().unwrap_or(&self.root))
    }

    /// Removes a blob that no image needs; what it is worth has been looked at before.
    pub fn remove_blob(&self, digest: &Digest) -> Result<(), Error> {
        let staging = self.stage()?;
        {
            let _lock = self.lock()?;
            staging.take(&self.blob_path(digest))?;
        }
        staging.discard()
    }

    /// Puts a staged tree with its lists in the place of a broken or missing one.
    pub fn replace_tree(&self, staging: &Staging, id: &ImageId, tree: &str) -> Result<(), Error> {
        self.flush()?;
        let _lock = self.lock()?;
        self.take_tree(staging, id)?;
        self.move_tree(staging, id, tree)?;
        self.sync_folder(&self.root.join("trees"))
    }

    /// What `rootfs/` has under the name of an image, if it is not what belongs there.
    pub fn wrong_link(&self, name: &Reference, id: &ImageId) -> Option<String> {
        let link = self.root.join("rootfs").join(name.file_name());
        match fs::read_link(&link) {
            Ok(target) if target == index::link_target(id) => None,
            Ok(target) => Some(format!("leads to `{}`", target.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some("is missing".to_owned()),
            Err(_) => Some("is no symbolic link".to_owned()),
        }
    }

    /// Points `rootfs/` at the tree of an image again, whatever is in the way.
    pub fn mend_link(&self, name: &Reference, id: &ImageId) -> Result<(), Error> {
        let staging = self.stage()?;
        {
            let _lock = self.lock()?;
            let folder = self.root.join("rootfs");
            fs::create_dir_all(&folder).at("create", &folder)?;
            let link = folder.join(name.file_name());
            if fs::symlink_metadata(&link).is_ok_and(|found| !found.is_symlink()) {
                staging.take(&link)?;
            }
            self.link_rootfs(&staging, &name.file_name(), id)?;
        }
        staging.discard()
    }

    /// The images that `rootfs/` has names for, by the names' files.
    pub fn links(&self) -> Result<Vec<(String, ImageId)>, Error> {
        let folder = self.root.join("rootfs");
        let mut found = Vec::new();
        for name in super::collect::names(&folder)? {
            let Ok(target) = fs::read_link(folder.join(&name)) else { continue };
            let tree = target.file_name().and_then(|name| name.to_str());
            let digest = tree.and_then(|tree| tree.replacen('-', ":", 1).parse().ok());
            found.extend(digest.map(|digest| (name, ImageId::new(digest))));
        }
        Ok(found)
    }

    /// Writes a new `index.json` with these images, and keeps a broken one beside it.
    pub fn rewrite_index(&self, manifests: Vec<Descriptor>) -> Result<(), Error> {
        let staging = self.stage()?;
        {
            let _lock = self.lock()?;
            let path = self.index_path();
            let kept = self.root.join(BROKEN_INDEX);
            match fs::rename(&path, &kept) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                moved => moved.at("rename", &kept)?,
            }
            let mut index = index::empty();
            index.manifests = manifests;
            self.write_index(&staging, &index)?;
        }
        staging.discard()
    }

    /// Whether `oci-layout` says what it has to.
    pub fn has_layout(&self) -> bool {
        let read = fs::read_to_string(self.root.join("oci-layout"));
        read.is_ok_and(|text| text.contains("\"imageLayoutVersion\""))
    }

    /// Writes `oci-layout` again.
    pub fn mend_layout(&self) -> Result<(), Error> {
        let staging = self.stage()?;
        {
            let _lock = self.lock()?;
            let content = super::OCI_LAYOUT.as_bytes();
            self.replace_file(&staging, &self.root.join("oci-layout"), content)?;
        }
        staging.discard()
    }
}
