//! One layer onto those below it: by renaming, so that nothing is copied.
//!
//! What a layer's archive leaves open is settled as if it had been extracted straight onto the layers below, whiteouts
//! first. A directory that only the names of other entries imply (`lib/x` without `lib`) is then the one that the
//! name leads to below, be it through a link (`lib -> usr/lib`); a directory with an entry of its own replaces a link.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, RenameFlags, renameat, renameat2};
use nix::sys::stat::{Mode, fchmod, fstat, futimens};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, linkat};

use super::create::{is_kept, time_spec};
use super::error::{Error, shown};
use super::layer::Layer;
use super::path::split;
use super::resolve::{Absent, Found, look, resolve};
use super::tree::{NodeId, ROOT, State, Tree};
use crate::sys::fs::{DirReader, EntryKind, PATH_DIRECTORY, READ_DIRECTORY};
use crate::sys::fs::{open_beneath, open_in_root};
use crate::sys::remove_tree::remove_tree;
use crate::sys::xattr::{fgetxattr, flistxattr, fremovexattr, fsetxattr};

/// Moves all of `upper`, the directory that `layer` was extracted into, onto `base`, the tree of the layers below.
///
/// Both must be on the same file system, and nobody else may have access to either. What is left in `upper` are
/// directories that `base` already had and what it had in the place of others, to be removed by the caller; after an error
/// so is `base`. Merging the lowest layer onto an empty directory is cheap: it moves what is in its root.
///
/// Directories end with the metadata of the uppermost layer that has an entry for them, times included; one that only
/// gained or lost files keeps its own. If no layer has an entry for the root, it is 0755 and has the time of the lowest
/// layer's first entry.
///
/// # Errors
/// [`Error::LinkTarget`] if a hard link's target is in no layer, otherwise what the file system reports.
pub fn merge(base: BorrowedFd<'_>, upper: BorrowedFd<'_>, layer: &Layer) -> Result<(), Error> {
    let mut merge =
        Merge { base, upper, layer, lowest: false, touched: HashMap::new(), redirects: Vec::new() };
    merge.lowest = merge.is_empty()?;
    merge.link_deferred()?;
    merge.apply_whiteouts()?;
    merge.move_tree(Frame { node: ROOT, path: Vec::new() })?;
    // Links are looked at when everything else is in its place, as nothing then moves under them any more.
    for Frame { node, path } in std::mem::take(&mut merge.redirects) {
        merge.follow(node, path)?;
    }
    merge.restore_times()
}

/// A directory of the layer that meets one of the base, and where that is.
struct Frame {
    node: NodeId,
    path: Vec<u8>,
}

/// A directory of the base that was changed, and the times that it is to have in the end.
struct Touched {
    path: Vec<u8>,
    atime: TimeSpec,
    mtime: TimeSpec,
}

struct Merge<'a> {
    base: BorrowedFd<'a>,
    upper: BorrowedFd<'a>,
    layer: &'a Layer,
    /// Whether there are no layers below.
    lowest: bool,
    /// By inode number: the base is one file system.
    touched: HashMap<u64, Touched>,
    /// Implied directories for which the base has a link, by the link's path.
    redirects: Vec<Frame>,
}

impl Merge<'_> {
    fn tree(&self) -> &Tree {
        &self.layer.tree
    }

    fn is_empty(&self) -> Result<bool, Error> {
        let mut reader = DirReader::new(self.open_base(b"")?);
        let first = reader.next_entry().map_err(|errno| Error::entry("list", b"/", errno))?;
        Ok(first.is_none())
    }

    /// Makes the hard links whose targets are below, in the layer's own directory. This comes first, so that they get
    /// what was below before this layer changed it, and then move like everything else.
    fn link_deferred(&self) -> Result<(), Error> {
        for ((node, name), target) in &self.layer.deferred {
            let mut path = self.tree().path(*node);
            join(&mut path, name);
            let missing = || Error::LinkTarget { path: shown(&path), target: shown(target) };
            let failed = |errno| match errno {
                Errno::ENOENT | Errno::ENOTDIR => missing(),
                errno => Error::entry("link", &path, errno),
            };
            let (dir, file) = split(target);
            let from = open_in_root(self.base, dir, PATH_DIRECTORY).map_err(failed)?;
            let to = self.open_upper(*node)?;
            linkat(&from, file, &to, name.as_slice(), AtFlags::empty()).map_err(failed)?;
            let time = time_spec(self.tree().metadata(*node).mtime);
            futimens(&to, &time, &time)
                .map_err(|errno| Error::entry("set times of directory of", &path, errno))?;
        }
        Ok(())
    }

    /// Removes from the base what the layer hides, before anything of the layer is there.
    fn apply_whiteouts(&mut self) -> Result<(), Error> {
        let mut hidden: BTreeMap<NodeId, Vec<&[u8]>> = BTreeMap::new();
        for node in self.tree().live() {
            if self.tree().is_opaque(node) {
                hidden.insert(node, Vec::new());
            }
        }
        for (node, name) in &self.layer.whiteouts {
            hidden.entry(*node).or_default().push(name);
        }
        for (node, names) in hidden {
            let Some(path) = self.locate(node)? else { continue };
            let dir = self.open_base(&path)?;
            self.touch(&dir, &path, None)?;
            for name in names {
                remove(&dir, name, &path)?;
            }
            if self.tree().is_opaque(node) {
                empty(dir, &path)?;
            }
        }
        Ok(())
    }

    /// Where the base has the directory `node`, as far as whiteouts are concerned; `None` if what is there is not to
    /// be seen through the layer anyway, or nothing is there.
    fn locate(&self, node: NodeId) -> Result<Option<Vec<u8>>, Error> {
        let mut chain = vec![node];
        while let Some(last) = chain.last()
            && *last != ROOT
        {
            chain.push(self.tree().parent(*last));
        }
        let mut path = Vec::new();
        for node in chain.into_iter().rev().skip(1) {
            join(&mut path, self.tree().name(node));
            match look(self.base, &path)? {
                Found::Directory => {}
                Found::Link(_) if self.tree().state(node) != State::Explicit => {
                    match resolve(self.base, &path, Absent::Fail)? {
                        Some(target) => path = target,
                        None => return Ok(None),
                    }
                }
                Found::Link(_) | Found::Nothing | Found::Other => return Ok(None),
            }
        }
        Ok(Some(path))
    }

    /// Moves what is in one directory of the layer, and in those below that the base has as well.
    fn move_tree(&mut self, start: Frame) -> Result<(), Error> {
        let mut frames = vec![start];
        while let Some(frame) = frames.pop() {
            let base = self.open_base(&frame.path)?;
            let upper = self.open_upper(frame.node)?;
            let describes_root = self.lowest && frame.node == ROOT;
            if describes_root || self.tree().state(frame.node) == State::Explicit {
                self.describe(frame.node, &base, &upper, &frame.path)?;
            } else {
                self.touch(&base, &frame.path, None)?;
            }
            let mut reader = DirReader::new(upper);
            // All of them first: what is exchanged for one of them is not to be met as another.
            let mut entries = Vec::new();
            loop {
                let next = reader.next_entry();
                let next = next.map_err(|errno| Error::entry("list", &frame.path, errno))?;
                let Some((name, kind)) = next else { break };
                entries.push((name.to_vec(), kind));
            }
            for (name, kind) in entries {
                let child = match kind {
                    EntryKind::Other => None,
                    _ => self.tree().child(frame.node, &name),
                };
                if !self.move_entry(&frame, &reader, &base, &name, child)? {
                    let mut path = frame.path.clone();
                    join(&mut path, &name);
                    let Some(node) = child else { continue };
                    match look(self.base, &path)? {
                        Found::Link(_) => self.redirects.push(Frame { node, path }),
                        _ => frames.push(Frame { node, path }),
                    }
                }
            }
        }
        Ok(())
    }

    /// Moves one entry; `false` if it is a directory that has to be merged with what the base has of that name.
    fn move_entry(
        &self,
        frame: &Frame,
        upper: &DirReader,
        base: &OwnedFd,
        name: &[u8],
        child: Option<NodeId>,
    ) -> Result<bool, Error> {
        let mut path = frame.path.clone();
        join(&mut path, name);
        let failed = |errno| Error::entry("move", &path, errno);
        let upper = upper.fd();
        match renameat2(upper, name, base, name, RenameFlags::RENAME_NOREPLACE) {
            Ok(()) => return Ok(true),
            Err(Errno::EEXIST) => {}
            Err(errno) => return Err(failed(errno)),
        }
        if let Some(child) = child {
            match look(self.base, &path)? {
                Found::Directory => return Ok(false),
                Found::Link(_) if self.tree().state(child) != State::Explicit => return Ok(false),
                _ => {}
            }
        }
        // What the base had goes with the rest of the layer's folder. Renaming over it would make ext4 write out the new file
        // at once (`auto_da_alloc`, ext4(5)), and take the old one apart here.
        if renameat2(upper, name, base, name, RenameFlags::RENAME_EXCHANGE).is_err() {
            remove(base, name, &frame.path)?;
            renameat(upper, name, base, name).map_err(failed)?;
        }
        Ok(true)
    }

    /// Merges an implied directory into the directory that a link of the base leads to.
    fn follow(&mut self, node: NodeId, link: Vec<u8>) -> Result<(), Error> {
        self.redirects.push(Frame { node, path: link });
        // One for the link given, and one for each that a directory behind it meets in turn.
        while let Some(Frame { node, path }) = self.redirects.pop() {
            let absent = Absent::Create(self.tree().metadata(node).mtime);
            if let Some(path) = resolve(self.base, &path, absent)? {
                self.move_tree(Frame { node, path })?;
            }
        }
        Ok(())
    }

    /// Gives a directory of the base the metadata of the layer's entry.
    fn describe(
        &mut self,
        node: NodeId,
        base: &OwnedFd,
        upper: &OwnedFd,
        path: &[u8],
    ) -> Result<(), Error> {
        let metadata = self.tree().metadata(node);
        let failed = |action| move |errno| Error::entry(action, path, errno);
        let stat = fstat(base).map_err(failed("look at"))?;
        if (stat.st_uid, stat.st_gid) != (metadata.uid, metadata.gid) {
            let (uid, gid) = (Uid::from_raw(metadata.uid), Gid::from_raw(metadata.gid));
            fchown(base, Some(uid), Some(gid)).map_err(failed("change owner of"))?;
        }
        let mode = Mode::from_bits_truncate(metadata.mode);
        fchmod(base, mode).map_err(failed("change mode of"))?;
        copy_xattrs(upper.as_fd(), base.as_fd()).map_err(failed("set extended attribute of"))?;
        self.touch(base, path, Some(time_spec(metadata.mtime)))
    }

    /// Remembers which times a directory is to have: those it had at first, or `mtime`.
    fn touch(&mut self, dir: &OwnedFd, path: &[u8], mtime: Option<TimeSpec>) -> Result<(), Error> {
        let stat = fstat(dir).map_err(|errno| Error::entry("look at", path, errno))?;
        let touched = self.touched.entry(stat.st_ino).or_insert_with(|| Touched {
            path: path.to_vec(),
            atime: TimeSpec::new(stat.st_atime, stat.st_atime_nsec),
            mtime: TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec),
        });
        if let Some(mtime) = mtime {
            (touched.atime, touched.mtime) = (mtime, mtime);
        }
        Ok(())
    }

    fn restore_times(&self) -> Result<(), Error> {
        for (inode, Touched { path, atime, mtime }) in &self.touched {
            let failed = |errno| Error::entry("set times of", path, errno);
            let dir = match open_beneath(self.base, path, READ_DIRECTORY) {
                Ok(dir) => dir,
                // A directory that has been replaced since.
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => continue,
                Err(errno) => return Err(failed(errno)),
            };
            if fstat(&dir).map_err(failed)?.st_ino == *inode {
                futimens(&dir, atime, mtime).map_err(failed)?;
            }
        }
        Ok(())
    }

    fn open_base(&self, path: &[u8]) -> Result<OwnedFd, Error> {
        open_beneath(self.base, path, READ_DIRECTORY)
            .map_err(|errno| Error::entry("open directory", path, errno))
    }

    fn open_upper(&self, node: NodeId) -> Result<OwnedFd, Error> {
        let path = self.tree().path(node);
        open_beneath(self.upper, &path, READ_DIRECTORY)
            .map_err(|errno| Error::entry("open directory", &path, errno))
    }
}

fn join(path: &mut Vec<u8>, name: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

fn remove(dir: &OwnedFd, name: &[u8], path: &[u8]) -> Result<(), Error> {
    remove_tree(dir.as_fd(), name).map_err(|source| Error::Remove { path: shown(path), source })
}

/// Removes everything in a directory.
fn empty(dir: OwnedFd, path: &[u8]) -> Result<(), Error> {
    let mut reader = DirReader::new(dir);
    loop {
        let next = reader.next_entry().map_err(|errno| Error::entry("list", path, errno))?;
        let Some((name, _)) = next else { return Ok(()) };
        let name = name.to_vec();
        remove_tree(reader.fd(), &name)
            .map_err(|source| Error::Remove { path: shown(path), source })?;
    }
}

/// Makes the extended attributes of `to` those of `from`, as far as they belong to a tree.
fn copy_xattrs(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> nix::Result<()> {
    let list = |fd| match flistxattr(fd) {
        Err(Errno::EOPNOTSUPP) => Ok(Vec::new()),
        other => other,
    };
    for name in list(to)? {
        if is_kept(&name) {
            fremovexattr(to, &name)?;
        }
    }
    for name in list(from)? {
        if is_kept(&name) {
            fsetxattr(to, &name, &fgetxattr(from, &name)?)?;
        }
    }
    Ok(())
}
