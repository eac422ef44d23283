//! The directories of a layer, in memory: which there are, and what is to become of them.
//!
//! A directory here is known by an id and not by its name, so that what was resolved once cannot come to mean something
//! else. Ids are never used again: a directory that is replaced takes everything below it out of reach.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use super::tar::Time;

/// A directory's id.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct NodeId(u32);

/// The root of the tree.
pub(super) const ROOT: NodeId = NodeId(0);

/// Stands for "none" in the chain of nodes with the same hash.
const NONE: u32 = u32::MAX;

/// How a directory came to be known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum State {
    /// The layer has an entry for it, and it is on the disk.
    Explicit,
    /// The name of another entry implies it, and it is on the disk.
    Implicit,
    /// Only whiteouts speak of it; it is not on the disk.
    Ghost,
    /// It was there and has been replaced.
    Gone,
}

/// A directory's metadata.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Metadata {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Time,
}

#[derive(Debug)]
struct Node {
    parent: u32,
    /// The next node whose parent and name have the same hash.
    chain: u32,
    name: u32,
    name_length: u8,
    state: State,
    opaque: bool,
    /// The length of the path from the root, in bytes.
    path_length: u16,
    metadata: Metadata,
}

/// The directories of a layer.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    names: Vec<u8>,
    index: HashMap<u64, u32>,
    hasher: RandomState,
    ghosts: usize,
}

impl Tree {
    /// A tree of nothing but the root, which no entry has described.
    pub(super) fn new(metadata: Metadata) -> Self {
        let root = Node {
            parent: 0,
            chain: NONE,
            name: 0,
            name_length: 0,
            state: State::Implicit,
            opaque: false,
            path_length: 0,
            metadata,
        };
        let (names, index, hasher) = (Vec::new(), HashMap::new(), RandomState::new());
        Self { nodes: vec![root], names, index, hasher, ghosts: 0 }
    }

    /// How many directories there are and have been.
    pub(super) fn len(&self) -> u64 {
        self.nodes.len() as u64
    }

    /// Whether whiteouts speak of any directory that the layer does not hold.
    pub(super) fn has_ghosts(&self) -> bool {
        self.ghosts > 0
    }

    /// All directories, parents before children, without those that are gone or below one that is.
    pub(super) fn live(&self) -> Vec<NodeId> {
        let mut alive = vec![false; self.nodes.len()];
        let mut live = Vec::new();
        for (i, node) in (0_u32..).zip(&self.nodes) {
            let parent = i == 0 || alive.get(node.parent as usize) == Some(&true);
            if parent && node.state != State::Gone {
                alive[i as usize] = true;
                live.push(NodeId(i));
            }
        }
        live
    }

    /// The directory `name` in `parent`.
    pub(super) fn child(&self, parent: NodeId, name: &[u8]) -> Option<NodeId> {
        let mut next = self.index.get(&self.hash(parent, name)).copied()?;
        while next != NONE {
            let node = self.node(NodeId(next));
            if node.parent == parent.0 && self.name_of(node) == name {
                return Some(NodeId(next));
            }
            next = node.chain;
        }
        None
    }

    /// Adds the directory `name`, which `parent` must not have yet.
    pub(super) fn add(
        &mut self,
        parent: NodeId,
        name: &[u8],
        state: State,
        metadata: Metadata,
    ) -> NodeId {
        let id = u32::try_from(self.nodes.len()).unwrap_or(NONE);
        let hash = self.hash(parent, name);
        let chain = self.index.insert(hash, id).unwrap_or(NONE);
        let start = u32::try_from(self.names.len()).unwrap_or(NONE);
        self.names.extend_from_slice(name);
        let slash = usize::from(parent != ROOT);
        let path_length = usize::from(self.node(parent).path_length) + slash + name.len();
        self.nodes.push(Node {
            parent: parent.0,
            chain,
            name: start,
            name_length: u8::try_from(name.len()).unwrap_or(u8::MAX),
            state,
            opaque: false,
            path_length: u16::try_from(path_length).unwrap_or(u16::MAX),
            metadata,
        });
        self.ghosts += usize::from(state == State::Ghost);
        NodeId(id)
    }

    /// Says that a directory has been replaced by something else.
    pub(super) fn kill(&mut self, id: NodeId) {
        let (parent, chain) = (NodeId(self.node(id).parent), self.node(id).chain);
        let hash = self.hash(parent, self.name(id));
        match self.index.get(&hash).copied() {
            Some(head) if head == id.0 && chain == NONE => {
                self.index.remove(&hash);
            }
            Some(head) if head == id.0 => {
                self.index.insert(hash, chain);
            }
            Some(mut before) => {
                while before != NONE && self.node(NodeId(before)).chain != id.0 {
                    before = self.node(NodeId(before)).chain;
                }
                if before != NONE {
                    self.nodes[before as usize].chain = chain;
                }
            }
            None => {}
        }
        self.set_state(id, State::Gone);
    }

    pub(super) fn state(&self, id: NodeId) -> State {
        self.node(id).state
    }

    pub(super) fn set_state(&mut self, id: NodeId, state: State) {
        let node = &mut self.nodes[id.0 as usize];
        self.ghosts -= usize::from(node.state == State::Ghost);
        self.ghosts += usize::from(state == State::Ghost);
        node.state = state;
    }

    pub(super) fn metadata(&self, id: NodeId) -> Metadata {
        self.node(id).metadata
    }

    pub(super) fn set_metadata(&mut self, id: NodeId, metadata: Metadata) {
        self.nodes[id.0 as usize].metadata = metadata;
    }

    pub(super) fn is_opaque(&self, id: NodeId) -> bool {
        self.node(id).opaque
    }

    pub(super) fn set_opaque(&mut self, id: NodeId) {
        self.nodes[id.0 as usize].opaque = true;
    }

    /// The directory above; the root's is the root.
    pub(super) fn parent(&self, id: NodeId) -> NodeId {
        NodeId(self.node(id).parent)
    }

    pub(super) fn name(&self, id: NodeId) -> &[u8] {
        self.name_of(self.node(id))
    }

    /// The length that the path of `name` in `parent` has, in bytes.
    pub(super) fn path_length(&self, parent: NodeId, name: &[u8]) -> usize {
        usize::from(self.node(parent).path_length) + 1 + name.len()
    }

    /// The path from the root, without a slash at either end.
    pub(super) fn path(&self, mut id: NodeId) -> Vec<u8> {
        let mut path = vec![b'/'; usize::from(self.node(id).path_length)];
        let mut end = path.len();
        while id != ROOT {
            let name = self.name(id);
            let start = end.saturating_sub(name.len());
            path[start..end].copy_from_slice(&name[..end - start]);
            end = start.saturating_sub(1);
            id = self.parent(id);
        }
        path
    }

    fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    fn name_of(&self, node: &Node) -> &[u8] {
        let start = node.name as usize;
        &self.names[start..start + usize::from(node.name_length)]
    }

    fn hash(&self, parent: NodeId, name: &[u8]) -> u64 {
        self.hasher.hash_one((parent.0, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_come_and_go() {
        let mut tree = Tree::new(Metadata::default());
        let a = tree.add(ROOT, b"a", State::Explicit, Metadata::default());
        let b = tree.add(a, b"b", State::Implicit, Metadata::default());
        let c = tree.add(b, b"c", State::Ghost, Metadata::default());
        assert_eq!(tree.path(c), b"a/b/c");
        assert_eq!(tree.path(ROOT), b"");
        assert_eq!(tree.child(a, b"b"), Some(b));
        assert_eq!(tree.child(ROOT, b"b"), None);
        assert_eq!(tree.live(), [ROOT, a, b, c]);
        assert!(tree.has_ghosts());
        tree.kill(a);
        assert_eq!(tree.child(ROOT, b"a"), None);
        assert_eq!(tree.live(), [ROOT]);
        let again = tree.add(ROOT, b"a", State::Explicit, Metadata::default());
        assert_eq!(tree.child(ROOT, b"a"), Some(again));
        assert_eq!(tree.child(again, b"b"), None);
        assert_eq!(tree.parent(again), ROOT);
    }
}
