//! Files that another tree has from the same layer: linked instead of written again.
//!
//! What has been published is never written to, so one inode can belong to any number of trees: removing one of them takes
//! a name away and nothing else. A file is known by its layer's DiffID and its entry's number, so that it is the one that
//! the layer wrote, and not what an upper layer has put in its place.

use std::collections::HashMap;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, SFlag};
use nix::unistd::linkat;

use super::list::{ContentDigest, ListError, ListReader, Origin, RecordKind, mtime};
use super::note::Content;
use super::path::split;
use super::tar::Entry;
use super::tree::{NodeId, Tree};
use crate::oci::digest::DiffId;
use crate::sys::fs::{PATH_DIRECTORY, open_beneath};

/// A tree that lends its files.
#[derive(Debug)]
pub struct Donor {
    root: OwnedFd,
    /// Of each layer, how many files its archive has and how many of them are in the tree.
    layers: Vec<(DiffId, u64, u64)>,
    files: HashMap<Origin, Lent>,
    paths: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Lent {
    start: usize,
    length: u16,
    digest: ContentDigest,
    sparse: bool,
}

impl Donor {
    /// Takes in what `list`, the list of the tree in `root`, says of files from the layers that are `wanted`.
    ///
    /// # Errors
    /// What is wrong with the list.
    pub fn new(
        root: OwnedFd,
        mut list: ListReader<impl Read>,
        wanted: impl Fn(&DiffId) -> bool,
    ) -> Result<Self, ListError> {
        let layers: Vec<_> =
            list.layers().iter().map(|layer| (layer.diff_id.clone(), layer.files, 0)).collect();
        let mut donor = Self { root, layers, files: HashMap::new(), paths: Vec::new() };
        while let Some(record) = list.next_record()? {
            let (Some(origin), RecordKind::File { digest, sparse, .. }) =
                (record.origin, record.kind)
            else {
                continue;
            };
            let Some(layer) = donor.layers.get_mut(origin.layer as usize) else { continue };
            if record.linked || !wanted(&layer.0) {
                continue;
            }
            layer.2 += 1;
            let length = u16::try_from(record.path.len()).unwrap_or(u16::MAX);
            let lent = Lent { start: donor.paths.len(), length, digest, sparse };
            donor.paths.extend_from_slice(&record.path);
            donor.files.insert(origin, lent);
        }
        Ok(donor)
    }

    /// The number of the layer in the donor's own image; `None` if it has no such layer, or has it more than once.
    pub fn layer(&self, diff_id: &DiffId) -> Option<u32> {
        let mut found = (0..).zip(&self.layers).filter(|(_, layer)| layer.0 == *diff_id);
        match (found.next(), found.next()) {
            (Some((number, _)), None) => Some(number),
            _ => None,
        }
    }

    /// Whether the tree still has every file that the layer's archive has.
    pub fn is_complete(&self, layer: u32) -> bool {
        self.layers.get(layer as usize).is_some_and(|(_, all, there)| all == there)
    }
}

/// Files of one layer on their way from a donor.
///
/// The kernel links files within a mount alone. These descriptors are therefore of the mount that the donor is in, and
/// not of the one that the thread was shut in with.
pub(super) struct Links<'a> {
    donor: &'a Donor,
    layer: u32,
    /// The layer's folder.
    folder: BorrowedFd<'a>,
    /// The directory that the last file came from.
    from: Option<(&'a [u8], OwnedFd)>,
    /// The directory that it went to.
    to: Option<(NodeId, OwnedFd)>,
}

impl<'a> Links<'a> {
    pub(super) fn new(donor: &'a Donor, layer: u32, folder: BorrowedFd<'a>) -> Self {
        Self { donor, layer, folder, from: None, to: None }
    }

    /// What links are made from and to.
    pub(super) fn directories(&self) -> [BorrowedFd<'a>; 2] {
        [self.donor.root.as_fd(), self.folder]
    }

    pub(super) fn find(&self, entry: u64) -> Option<&'a Lent> {
        let entry = u32::try_from(entry.checked_sub(1)?).ok()?;
        self.donor.files.get(&Origin { layer: self.layer, entry })
    }

    /// Makes `name` in the directory `parent` of `tree` one more name of the file.
    pub(super) fn link(
        &mut self,
        lent: &Lent,
        tree: &Tree,
        parent: NodeId,
        name: &[u8],
    ) -> nix::Result<()> {
        let end = lent.start + usize::from(lent.length);
        let (dir, file) = split(self.donor.paths.get(lent.start..end).unwrap_or_default());
        let from = match self.from.take() {
            Some((last, fd)) if last == dir => fd,
            _ => open_beneath(self.donor.root.as_fd(), dir, PATH_DIRECTORY)?,
        };
        let to = match self.to.take() {
            Some((last, fd)) if last == parent => fd,
            _ => open_beneath(self.folder, &tree.path(parent), PATH_DIRECTORY)?,
        };
        let linked = linkat(&from, file, &to, name, AtFlags::empty());
        (self.from, self.to) = (Some((dir, from)), Some((parent, to)));
        linked
    }
}

impl Lent {
    /// Whether a file that was linked is what the entry describes; content aside, which is as the donor has it.
    pub(super) fn is(&self, entry: &Entry, stat: &FileStat) -> bool {
        stat.st_mode == SFlag::S_IFREG.bits() | entry.mode
            && (stat.st_uid, stat.st_gid) == (entry.uid, entry.gid)
            && u64::try_from(stat.st_size) == Ok(entry.size)
            && mtime(stat) == (entry.mtime.seconds, entry.mtime.nanoseconds)
            && self.sparse == entry.extents.is_some()
    }

    pub(super) fn content(&self) -> Content {
        if self.sparse { Content::Sparse(self.digest) } else { Content::Dense(self.digest) }
    }
}
