//! What an extracted layer is, beside the files that it left in its directory.

use std::collections::{HashMap, HashSet};

use super::tree::{NodeId, Tree};

/// An extracted layer: what merging it onto the layers below needs to know, and what there is to say about it.
#[derive(Debug)]
pub struct Layer {
    pub(super) tree: Tree,
    /// Names that are hidden in the layers below.
    pub(super) whiteouts: HashSet<(NodeId, Vec<u8>)>,
    /// Hard links to files that this layer does not hold: where they belong, and the clean path that they name.
    pub(super) deferred: HashMap<(NodeId, Vec<u8>), Vec<u8>>,
    pub(super) entries: u64,
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) dropped_xattrs: u64,
    pub(super) own_root: bool,
    pub(super) end_marker: bool,
}

impl Layer {
    /// How many entries the archive has, whiteouts among them.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// How many regular files the archive has.
    pub fn files(&self) -> u64 {
        self.files
    }

    /// The sum of the sizes of all regular files, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many extended attributes were left out because the file system cannot hold them.
    ///
    /// File capabilities are not among them: without those a program would not work, so that is an error.
    pub fn dropped_xattrs(&self) -> u64 {
        self.dropped_xattrs
    }

    /// Whether the layer was extracted in a mount namespace that holds nothing but its folder. An ordinary user has none.
    pub fn own_root(&self) -> bool {
        self.own_root
    }

    /// Whether the archive ended with the end-of-archive marker that POSIX wants. All readers accept an archive without
    /// it, but unless its digest is known, one that was cut off looks the same.
    pub fn end_marker(&self) -> bool {
        self.end_marker
    }
}
