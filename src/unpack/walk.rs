//! From the name of a directory to the directory, inside the tree and nowhere else.

use nix::errno::Errno;
use nix::fcntl::readlinkat;
use nix::sys::stat::{Mode, mkdirat};

use super::error::Error;
use super::extract::{Extractor, IMPLICIT_MODE};
use super::limits::MAX_LINKS;
use super::tar::Time;
use super::tree::{Metadata, NodeId, ROOT, State};

/// What to do about a directory that is not there.
#[derive(Clone, Copy)]
pub(super) enum Missing {
    /// Make it, with this time. What is in the way and neither directory nor link is replaced, as umoci does it.
    Create(Time),
    /// Give up.
    Fail,
    /// Only remember it: it may be in a layer below.
    Ghost,
}

enum Step {
    Into(NodeId),
    Link(Vec<u8>),
    Nothing,
}

impl Extractor<'_> {
    /// Resolves `dir`, one component at a time. A symbolic link that an earlier entry left on the way is followed as if
    /// the tree's root were `/`: no target leads out of it, neither an absolute one nor one with `..`.
    ///
    /// `path` is the entry's whole path, for errors. The result is `None` if there is no such directory and `missing`
    /// asked for none.
    pub(super) fn walk(
        &mut self,
        dir: &[u8],
        missing: Missing,
        path: &[u8],
    ) -> Result<Option<NodeId>, Error> {
        let mut node = ROOT;
        let mut links = 0;
        let mut rest = dir.to_vec();
        let mut start = 0;
        while start < rest.len() {
            let end = rest[start..].iter().position(|b| *b == b'/');
            let end = end.map_or(rest.len(), |length| start + length);
            let component = &rest[start..end];
            start = end + 1;
            if matches!(component, b"" | b".") {
                continue;
            }
            if component == b".." {
                node = self.tree.parent(node);
                continue;
            }
            match self.step(node, component, missing, path)? {
                Step::Into(child) => node = child,
                Step::Nothing => return Ok(None),
                Step::Link(target) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Error::entry("resolve", path, Errno::ELOOP));
                    }
                    if target.starts_with(b"/") {
                        node = ROOT;
                    }
                    let behind = rest.split_off(end.min(rest.len()));
                    rest = target;
                    rest.extend_from_slice(&behind);
                    start = 0;
                }
            }
        }
        Ok(Some(node))
    }

    fn step(
        &mut self,
        node: NodeId,
        name: &[u8],
        missing: Missing,
        path: &[u8],
    ) -> Result<Step, Error> {
        if let Some(child) = self.tree.child(node, name) {
            return match (self.tree.state(child), missing) {
                (State::Ghost, Missing::Fail) => Ok(Step::Nothing),
                (State::Ghost, Missing::Create(time)) => {
                    self.make_implicit(node, name, time, Some(child), path).map(Step::Into)
                }
                _ => Ok(Step::Into(child)),
            };
        }
        let on_disk = if self.tree.state(node) == State::Ghost {
            Err(Errno::ENOENT)
        } else {
            readlinkat(&*self.fd(node, path)?, name)
        };
        match (on_disk, missing) {
            (Ok(target), _) => Ok(Step::Link(std::os::unix::ffi::OsStringExt::into_vec(target))),
            (Err(Errno::EINVAL), Missing::Create(time)) => {
                self.clear(node, name, path)?;
                let child = self.make_implicit(node, name, time, None, path)?;
                // What was there for a while, and was no directory, has taken the place of one that is below.
                self.tree.set_opaque(child);
                Ok(Step::Into(child))
            }
            (Err(Errno::ENOENT), Missing::Create(time)) => {
                self.make_implicit(node, name, time, None, path).map(Step::Into)
            }
            (Err(Errno::ENOENT), Missing::Ghost) => {
                self.add_node(node, name, State::Ghost, path).map(Step::Into)
            }
            (Err(Errno::EINVAL | Errno::ENOENT), _) => Ok(Step::Nothing),
            (Err(errno), _) => Err(Error::entry("resolve", path, errno)),
        }
    }

    fn make_implicit(
        &mut self,
        parent: NodeId,
        name: &[u8],
        mtime: Time,
        ghost: Option<NodeId>,
        path: &[u8],
    ) -> Result<NodeId, Error> {
        let replaced = self.forget_deferred(parent, name);
        let dir = self.fd(parent, path)?;
        mkdirat(&*dir, name, Mode::from_bits_truncate(IMPLICIT_MODE))
            .map_err(|errno| Error::entry("create directory of", path, errno))?;
        let node = match ghost {
            Some(node) => node,
            None => self.add_node(parent, name, State::Implicit, path)?,
        };
        if replaced {
            self.tree.set_opaque(node);
        }
        self.tree.set_state(node, State::Implicit);
        let metadata = Metadata { mtime, ..self.tree.metadata(node) };
        self.tree.set_metadata(node, metadata);
        Ok(node)
    }
}
