//! What the list of a tree has to know and only the extraction does: contents' digests, and which entry made what.

use nix::sys::stat::FileStat;

use super::list::{Attributes, ContentHasher, Made, Origin, Origins};
use super::tar::Xattr;

/// A layer's notes, on their way into the image's table.
pub(super) struct Notes<'a> {
    origins: &'a Origins,
    layer: u32,
    /// Hashes the present file while it is written.
    pub(super) hasher: ContentHasher,
}

impl<'a> Notes<'a> {
    pub(super) fn new(origins: &'a Origins, layer: u32) -> Self {
        Self { origins, layer, hasher: ContentHasher::new() }
    }

    /// Notes that the entry with this number, counted from 1, made the file behind `stat`.
    pub(super) fn made(&self, stat: &FileStat, entry: u64, content: Content, xattrs: &[Xattr]) {
        let entry = u32::try_from(entry.saturating_sub(1)).unwrap_or(u32::MAX);
        let origin = Origin { layer: self.layer, entry };
        self.origins.note(made(stat, origin, content, !xattrs.is_empty()));
    }
}

/// What is noted of a file.
pub(super) fn made(stat: &FileStat, origin: Origin, content: Content, has_xattrs: bool) -> Made {
    let (digest, sparse) = match content {
        Content::Dense(digest) => (digest, false),
        Content::Sparse(digest) => (digest, true),
        Content::None => ([0; 32], false),
    };
    let attributes = Attributes::from(stat);
    Made { inode: stat.st_ino, attributes, origin, digest, sparse, has_xattrs, seen: false }
}

/// What a file holds.
pub(super) enum Content {
    Dense([u8; 32]),
    Sparse([u8; 32]),
    /// It is no regular file.
    None,
}
