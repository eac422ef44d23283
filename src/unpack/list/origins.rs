//! Which layer made which file: noted while the layers are extracted, asked for when the tree is written down.

use std::sync::{Mutex, PoisonError};

use nix::sys::stat::FileStat;

use super::ContentDigest;
use super::scan::mtime;
use super::write::size;

/// Where a file comes from.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Origin {
    /// The layer, counted from 0 at the base.
    pub layer: u32,
    /// The entry of that layer's archive, counted from 0.
    pub entry: u32,
}

/// What is known of a file beside what the file system says.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Made {
    pub(in super::super) inode: u64,
    pub(in super::super) attributes: Attributes,
    pub(in super::super) origin: Origin,
    pub(in super::super) digest: ContentDigest,
    pub(in super::super) sparse: bool,
    pub(in super::super) has_xattrs: bool,
    /// Whether one of its names has been written down already.
    pub(in super::super) seen: bool,
}

/// What of stat(2)'s answer a record holds.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Attributes {
    /// The kind of file and its mode.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
    pub(super) mtime: (i64, u32),
}

impl From<&FileStat> for Attributes {
    fn from(stat: &FileStat) -> Self {
        Self {
            mode: stat.st_mode,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: size(stat),
            mtime: mtime(stat),
        }
    }
}

/// The files that the layers of one image made, by inode number: one table for all layers, since what one of them
/// removes again frees its inode number for another.
#[derive(Debug, Default)]
pub struct Origins {
    made: Mutex<Vec<Made>>,
}

impl Origins {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    pub(in super::super) fn note(&self, made: Made) {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).push(made);
    }

    /// The table by inode number, the last file of each number.
    pub(super) fn into_sorted(self) -> Sorted {
        let mut made = self.made.into_inner().unwrap_or_else(PoisonError::into_inner);
        // Stable, so that the last of those with one number is the one that was made last and is there now.
        made.sort_by_key(|made| made.inode);
        Sorted(made)
    }
}

pub(super) struct Sorted(Vec<Made>);

impl Sorted {
    pub(super) fn find(&mut self, inode: u64) -> Option<&mut Made> {
        let end = self.0.partition_point(|made| made.inode <= inode);
        self.0.get_mut(end.checked_sub(1)?).filter(|made| made.inode == inode)
    }
}
