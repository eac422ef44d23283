//! Room on a full disk for what frees it: to remove something, the store first has to write a little.

use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statvfs::statvfs;

use super::Store;

/// How many bytes are kept: folders and a long `index.json`.
const SIZE: u64 = 256 << 10;

/// Room that was given up for a removal, if there was need; taken again when dropped.
pub(super) struct Room<'a> {
    store: &'a Store,
}

impl Store {
    fn reserve_path(&self) -> PathBuf {
        self.root.join("reserve")
    }

    /// Takes room, if there is some and none is taken yet. Without it the store works as well, until the disk is full.
    pub(super) fn reserve(&self) {
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let Ok(file) = options.open(self.reserve_path()) else { return };
        let length = i64::try_from(SIZE).unwrap_or(i64::MAX);
        if fallocate(file.as_fd(), FallocateFlags::empty(), 0, length).is_err() {
            // A file system that cannot, or one that is full by now.
            let _ = fs::remove_file(self.reserve_path());
        }
    }

    /// Gives up what is reserved, if the disk is full, for as long as what is returned lives.
    pub(super) fn make_room(&self) -> Room<'_> {
        if free(&self.root).is_ok_and(|free| free < SIZE) {
            let _ = fs::remove_file(self.reserve_path());
        }
        Room { store: self }
    }
}

/// How many bytes may still be written to the file system of `path`.
pub(super) fn free(path: &Path) -> io::Result<u64> {
    let found = statvfs(path)?;
    Ok(found.blocks_available().saturating_mul(found.fragment_size()))
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.store.reserve();
    }
}
