//! Staging: where an image is put together, unseen, until all of it is right.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use nix::fcntl::{Flock, FlockArg};

use super::error::{At as _, Error};
use super::{Partial, Store, open_folder, reserve};
use crate::oci::descriptor::Descriptor;
use crate::oci::digest::{Digest, ImageId};
use crate::oci::reference::Reference;
use crate::sys::random::getrandom;
use crate::sys::remove_tree::remove_tree;

/// A folder of its own under `tmp/`, locked while its owner lives and removed when dropped.
#[derive(Debug)]
pub struct Staging {
    path: PathBuf,
    _lock: Flock<OwnedFd>,
    /// Blobs that have come and are in here under a second name, until it is known whether they are published.
    held: Mutex<Vec<Partial>>,
}

/// A new image, staged and verified, ready to be seen.
#[derive(Debug)]
pub struct Publication<'a> {
    /// What the image is to be called; an image without a name is found by its id alone.
    pub name: Option<&'a Reference>,
    /// The image's manifest.
    pub image: &'a Descriptor,
    /// The digest of its configuration.
    pub id: &'a ImageId,
    /// Everything that the image consists of: its manifest, its configuration and its layers, staged or in the store.
    pub blobs: &'a [Digest],
    /// The name of the staged tree, unless the store has the tree.
    pub tree: Option<&'a str>,
}

impl Store {
    /// A new staging folder. What earlier owners left behind when they were killed is swept on the way.
    pub fn stage(&self) -> Result<Staging, Error> {
        self.sweep()?;
        self.sweep_partial()?;
        let folder = self.root.join("tmp");
        loop {
            let mut name = [0_u8; 8];
            getrandom(&mut name).map_err(io::Error::from).at("name a folder in", &folder)?;
            let path = folder.join(format!("{:016x}", u64::from_ne_bytes(name)));
            fs::DirBuilder::new().mode(0o700).create(&path).at("create", &path)?;
            // A sweeper may have seen the folder before it was locked; then it is gone or going, and the next is ours.
            let Ok(opened) = open_folder(&path) else { continue };
            let Ok(lock) = Flock::lock(opened, FlockArg::LockExclusiveNonblock) else { continue };
            if path.is_dir() {
                return Ok(Staging { path, _lock: lock, held: Mutex::default() });
            }
        }
    }

    /// Removes what no living process owns from `tmp/`.
    fn sweep(&self) -> Result<(), Error> {
        let folder = self.root.join("tmp");
        for entry in fs::read_dir(&folder).at("read", &folder)? {
            let path = entry.at("read", &folder)?.path();
            let Ok(opened) = open_folder(&path) else { continue };
            // Held until the folder is gone: whoever makes it locks it a moment later, and must not find it whole then.
            let Ok(_lock) = Flock::lock(opened, FlockArg::LockExclusiveNonblock) else { continue };
            delete(&path)?;
        }
        Ok(())
    }

    /// Makes a staged image visible: flush, rename, name; in this order.
    ///
    /// # Errors
    /// [`Error::Vanished`] when a blob that was in the store at the start has been removed since; the image is then
    /// not published, and pulling again fetches the blob.
    pub fn publish(&self, staging: &Staging, new: &Publication<'_>) -> Result<(), Error> {
        self.reserve();
        self.flush()?;
        let _lock = self.lock()?;
        for digest in new.blobs {
            let (from, to) = (staging.blob_path(digest), self.blob_path(digest));
            match fs::rename(&from, &to) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if !to.exists() {
                        return Err(Error::Vanished(digest.clone()));
                    }
                }
                result => result.at("rename", &to)?,
            }
        }
        if let Some(tree) = new.tree {
            self.move_tree(staging, new.id, tree)?;
        } else if !self.has_tree(new.id) {
            return Err(Error::Vanished(new.id.digest().clone()));
        }
        for folder in ["blobs/sha256", "blobs/sha512", "trees"] {
            self.sync_folder(&self.root.join(folder))?;
        }
        self.set_name(staging, new)
    }

    /// Puts a staged tree in the place of one that is missing.
    pub fn publish_tree(&self, staging: &Staging, id: &ImageId, tree: &str) -> Result<(), Error> {
        self.flush()?;
        let _lock = self.lock()?;
        self.move_tree(staging, id, tree)?;
        self.sync_folder(&self.root.join("trees"))
    }

    /// Moves a staged tree and its lists to their places; the lists first, so that a tree that is there has them. The
    /// caller holds the lock.
    pub(super) fn move_tree(
        &self,
        staging: &Staging,
        id: &ImageId,
        tree: &str,
    ) -> Result<(), Error> {
        if self.has_tree(id) {
            // Another process made the same tree meanwhile; it has the same digests behind it.
            return Ok(());
        }
        let lists = self.lists_path(id);
        // What is there belongs to a tree that was taken away while its lists could not be.
        staging.take(&lists)?;
        let folder = self.root.join("lists");
        fs::DirBuilder::new().mode(0o700).recursive(true).create(&folder).at("create", &folder)?;
        match fs::rename(staging.path.join(lists_name(tree)), &lists) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => {
                result.at("rename", &lists)?;
                self.sync_folder(&folder)?;
            }
        }
        let to = self.tree_path(id);
        fs::rename(staging.path.join(tree), &to).at("rename", &to)
    }

    /// Takes a tree and its lists away; says whether there was a tree. The caller holds the lock.
    pub(super) fn take_tree(&self, staging: &Staging, id: &ImageId) -> Result<bool, Error> {
        let there = staging.take(&self.tree_path(id))?;
        let lists = self.lists_path(id);
        // Both have the same name.
        fs::rename(&lists, staging.path.join(lists_name(&super::tree_name(id))))
            .or_else(|error| match error.kind() {
                io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            })
            .at("remove", &lists)?;
        Ok(there)
    }
}

fn headers_name(tree: &str, layer: usize) -> String {
    format!("{}/{}", lists_name(tree), super::headers_name(layer))
}

/// The name in a staging folder of the folder for the lists of the staged tree `tree`.
fn lists_name(tree: &str) -> String {
    format!("{tree}.lists")
}

impl Staging {
    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many bytes may still be written to the store's file system.
    pub fn free(&self) -> Result<u64, Error> {
        reserve::free(&self.path).at("look at", &self.path)
    }

    /// Where the staged blob of `digest` is or will be.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path.join(digest.to_string().replace(':', "-"))
    }

    /// A new, empty file for the blob of `digest`.
    pub fn create_blob(&self, digest: &Digest) -> Result<fs::File, Error> {
        self.create_file(&digest.to_string().replace(':', "-"))
    }

    /// Gives a file in here its name as the blob of `digest`; returns its size in bytes.
    pub fn rename_blob(&self, name: &str, digest: &Digest) -> Result<u64, Error> {
        let to = self.blob_path(digest);
        fs::rename(self.path.join(name), &to).at("rename", &to)?;
        Ok(fs::symlink_metadata(&to).at("look at", &to)?.len())
    }

    /// A file in here for writing past the page cache; `None` where the file system cannot do that.
    pub fn open_direct(&self, name: &str) -> Option<fs::File> {
        let mut options = fs::OpenOptions::new();
        options.write(true).custom_flags(libc::O_DIRECT).open(self.path.join(name)).ok()
    }

    /// A new, empty file, also readable by the caller.
    pub fn create_file(&self, name: &str) -> Result<fs::File, Error> {
        let path = self.path.join(name);
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        options.open(&path).at("create", &path)
    }

    /// Keeps a blob that is complete locked, and its name in `partial/`, until this folder goes.
    pub fn hold(&self, complete: Partial) {
        self.held().push(complete);
    }

    /// Leaves the blobs that are complete for the next process, since nothing comes of this work.
    pub fn keep_held(&self) {
        self.held().iter_mut().for_each(Partial::keep);
    }

    fn held(&self) -> MutexGuard<'_, Vec<Partial>> {
        self.held.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Writes a whole small blob and says what its digest is.
    pub fn write_blob(&self, bytes: &[u8]) -> Result<Digest, Error> {
        let digest = Digest::sha256(bytes);
        let path = self.blob_path(&digest);
        if !path.exists() {
            let mut file = self.create_blob(&digest)?;
            io::Write::write_all(&mut file, bytes).at("write", &path)?;
        }
        Ok(digest)
    }

    /// A new, empty folder, opened. It has the mode that a root directory has which no layer describes.
    pub fn create_folder(&self, name: &str) -> Result<OwnedFd, Error> {
        let path = self.path.join(name);
        fs::DirBuilder::new().mode(0o755).create(&path).at("create", &path)?;
        open_folder(&path)
    }

    /// A new, empty folder for the lists of the staged tree `tree`.
    pub fn create_lists(&self, tree: &str) -> Result<(), Error> {
        let folder = self.path.join(lists_name(tree));
        fs::DirBuilder::new().mode(0o700).create(&folder).at("create", &folder)
    }

    /// A new, empty file for the list of the staged tree `tree`.
    pub fn create_list(&self, tree: &str) -> Result<fs::File, Error> {
        self.create_file(&format!("{}/{}", lists_name(tree), super::LIST))
    }

    /// A new, empty file for the headers of the staged tree's layer with this number.
    pub fn create_headers(&self, tree: &str, layer: usize) -> Result<fs::File, Error> {
        self.create_file(&headers_name(tree, layer))
    }

    /// Takes over the headers of layer `from` of `image`, for layer `to` of the staged tree, and opens them; `None` if
    /// they are not there.
    pub fn adopt_headers(
        &self,
        store: &Store,
        image: &ImageId,
        from: u32,
        tree: &str,
        to: usize,
    ) -> Option<fs::File> {
        let from = store.lists_path(image).join(super::headers_name(from as usize));
        let to = self.path.join(headers_name(tree, to));
        fs::hard_link(from, &to).ok()?;
        fs::File::open(to).ok()
    }

    /// Removes what [`Staging::adopt_headers`] took over.
    pub fn remove_headers(&self, tree: &str, layer: usize) -> Result<(), Error> {
        self.remove(&headers_name(tree, layer))
    }

    /// Removes the staged tree `tree` with its lists, if it is there.
    pub fn remove_tree(&self, tree: &str) -> Result<(), Error> {
        self.remove(tree)?;
        self.remove(&lists_name(tree))
    }

    /// Removes a file or folder in here, if it is there.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        delete(&self.path.join(name))
    }

    /// Moves a file or folder of the store in here; says whether there was one.
    pub(super) fn take(&self, path: &Path) -> Result<bool, Error> {
        let Some(name) = path.file_name() else { return Ok(false) };
        match fs::rename(path, self.path.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            result => result.at("remove", path).map(|()| true),
        }
    }

    /// Removes the folder and reports what stands in the way, where dropping it would not.
    pub fn discard(self) -> Result<(), Error> {
        delete(&self.path)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What cannot be removed now is swept by the next writer.
        let _ = delete(&self.path);
    }
}

fn delete(path: &Path) -> Result<(), Error> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let parent = open_folder(parent)?;
    remove_tree(parent.as_fd(), name.as_bytes())
        .map_err(|source| Error::Remove { path: path.to_owned(), source })
}
