//! Open directories of the tree that is being extracted.

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use super::tree::{NodeId, ROOT, Tree};
use crate::sys::fs::{PATH_DIRECTORY, open_beneath};

/// How many directories are kept open.
const OPEN: usize = 24;

/// A cache of directory descriptors.
///
/// What is cached is the descriptor and never what a path led to: a descriptor cannot be made to mean another directory
/// (CVE-2025-47290 was a cache that could).
pub(super) struct Descriptors {
    root: Rc<OwnedFd>,
    /// The most recently used last.
    open: Vec<(NodeId, Rc<OwnedFd>)>,
}

impl Descriptors {
    pub(super) fn new(root: OwnedFd) -> Self {
        Self { root: Rc::new(root), open: Vec::with_capacity(OPEN) }
    }

    /// The descriptor, opened with `O_PATH`, of a directory that is on the disk.
    pub(super) fn open(&mut self, tree: &Tree, node: NodeId) -> nix::Result<Rc<OwnedFd>> {
        if node == ROOT {
            return Ok(Rc::clone(&self.root));
        }
        if let Some(i) = self.open.iter().rposition(|(known, _)| *known == node) {
            if i + 1 < self.open.len() {
                let used = self.open.remove(i);
                self.open.push(used);
            }
            if let Some((_, fd)) = self.open.last() {
                return Ok(Rc::clone(fd));
            }
        }
        let fd = Rc::new(open_beneath(self.root.as_fd(), &tree.path(node), PATH_DIRECTORY)?);
        if self.open.len() >= OPEN {
            self.open.remove(0);
        }
        self.open.push((node, Rc::clone(&fd)));
        Ok(fd)
    }
}
