//! From archive to directory: one entry after the other, each on the descriptor of its parent directory.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::thread;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{Mode, fstat, mkdirat, umask};
use nix::sys::statvfs::fstatvfs;
use nix::unistd::{UnlinkatFlags, getegid, geteuid, linkat, unlinkat};

use super::chunk::ChunkReader;
use super::confine::{Confined, enter, unconfined};
use super::descriptors::Descriptors;
use super::error::Error;
use super::layer::Layer;
use super::limits::{Limits, MAX_PATH};
use super::note::Notes;
use super::path::{Target, clean, split, target};
use super::share::Links;
use super::stream::Destination;
use super::tar::{Archive, Entry, Kind, Xattr};
use super::tree::{Metadata, NodeId, ROOT, State, Tree};
use super::walk::Missing;
use super::writer::{Created, Stopped, Writer, writer};
use crate::sys::remove_tree::remove_tree;
use crate::sys::xattr::fremovexattr;

/// The mode of a directory that only other entries' names imply.
pub(super) const IMPLICIT_MODE: u32 = 0o755;

/// A layer that is being extracted.
pub(super) struct Extractor<'a> {
    pub(super) limits: &'a Limits,
    pub(super) links: Option<Links<'a>>,
    pub(super) notes: Option<Notes<'a>>,
    pub(super) writer: Writer,
    pub(super) tree: Tree,
    pub(super) fds: Descriptors,
    /// The directory of the last entry as its name had it, and what that led to.
    pub(super) last: Option<(Vec<u8>, NodeId)>,
    pub(super) whiteouts: HashSet<(NodeId, Vec<u8>)>,
    pub(super) deferred: HashMap<(NodeId, Vec<u8>), Vec<u8>>,
    /// Extended attributes of directories, set at the end: a default ACL would be inherited.
    pub(super) directory_xattrs: HashMap<NodeId, Vec<Xattr>>,
    pub(super) directory_xattr_bytes: u64,
    /// This process's effective user and group.
    ids: (u32, u32),
    /// What new files have. Where they get their modes, the working directory is this thread's own, too.
    pub(super) created: Created,
    own_root: bool,
    pub(super) entries: u64,
    files: u64,
    /// After how many bytes to look again at what is free.
    next_look: u64,
    bytes: u64,
    pub(super) dropped_xattrs: u64,
    /// The present entry's clean path.
    pub(super) path: Vec<u8>,
}

/// Reads an archive to the end of its stream and extracts it.
///
/// Belongs into a thread of its own, which it shuts in for good ([`super::confine`]).
pub(super) fn extract_archive(
    archive: Archive<'_, ChunkReader>,
    dest: &Destination<'_>,
) -> Result<Layer, Error> {
    let links = dest.donor.map(|(donor, layer)| Links::new(donor, layer, dest.dir));
    let reach: Vec<_> = links.iter().flat_map(Links::directories).collect();
    let keep: Vec<_> = dest.headers.iter().map(|headers| headers.as_fd()).collect();
    let confined = if dest.walls { enter(dest.dir, &reach, &keep) } else { unconfined(dest.dir) };
    let confined = confined.map_err(|errno| Error::Confine(errno.into()))?;
    let created = prepare(&confined)?;
    thread::scope(|scope| {
        let (writer, steps) = writer();
        let notes = dest.notes();
        // Here, where it has this thread's descriptors, and may still be started.
        let write = move || steps.write(notes, created, dest.walls);
        let writing = thread::Builder::new().name("write".to_owned()).spawn_scoped(scope, write);
        let writing = writing.map_err(Error::Thread)?;
        let restricted = if dest.walls { confined.restrict(&reach) } else { Ok(confined) };
        let extracted =
            restricted.map_err(|errno| Error::Confine(errno.into())).and_then(|confined| {
                let extractor = Extractor::new(dest, links, confined, created, writer);
                extractor.run(archive)
            });
        // What it failed on came before what the extractor did.
        let dropped = writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let mut layer = extracted?;
        layer.dropped_xattrs += dropped;
        Ok(layer)
    })
}

impl<'a> Extractor<'a> {
    fn new(
        dest: &Destination<'a>,
        links: Option<Links<'a>>,
        confined: Confined,
        created: Created,
        writer: Writer,
    ) -> Self {
        let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
        let metadata = Metadata { mode: IMPLICIT_MODE, uid, gid, ..Metadata::default() };
        Self {
            limits: dest.limits,
            links,
            notes: dest.notes(),
            writer,
            tree: Tree::new(metadata),
            fds: Descriptors::new(confined.root),
            last: None,
            whiteouts: HashSet::new(),
            deferred: HashMap::new(),
            directory_xattrs: HashMap::new(),
            directory_xattr_bytes: 0,
            ids: (uid, gid),
            created,
            own_root: confined.own_root,
            entries: 0,
            files: 0,
            next_look: 0,
            bytes: 0,
            dropped_xattrs: 0,
            path: Vec::new(),
        }
    }

    fn run(mut self, mut archive: Archive<'_, ChunkReader>) -> Result<Layer, Error> {
        let mut entry = Entry::default();
        while archive.next_entry(&mut entry)? {
            self.entry(&mut archive, &mut entry)?;
        }
        self.writer.flush().map_err(|Stopped| Error::Stopped)?;
        self.finish()?;
        let live: HashSet<NodeId> = self.tree.live().into_iter().collect();
        self.whiteouts.retain(|(node, _)| live.contains(node));
        self.deferred.retain(|(node, _), _| live.contains(node));
        Ok(Layer {
            tree: self.tree,
            whiteouts: self.whiteouts,
            deferred: self.deferred,
            entries: self.entries,
            files: self.files,
            bytes: self.bytes,
            dropped_xattrs: self.dropped_xattrs,
            own_root: self.own_root,
            end_marker: archive.end_marker(),
        })
    }

    fn entry(
        &mut self,
        archive: &mut Archive<'_, ChunkReader>,
        entry: &mut Entry,
    ) -> Result<(), Error> {
        self.count(entry)?;
        let mut path = std::mem::take(&mut self.path);
        let result = clean(&entry.name, &mut path)
            .and_then(|()| target(&path))
            .and_then(|target| self.dispatch(archive, entry, &target, &path));
        self.path = path;
        result
    }

    fn count(&mut self, entry: &Entry) -> Result<(), Error> {
        if self.entries == 0 {
            let metadata = Metadata { mtime: entry.mtime, ..self.tree.metadata(ROOT) };
            self.tree.set_metadata(ROOT, metadata);
        }
        self.entries += 1;
        self.files += u64::from(entry.kind == Kind::File);
        self.bytes = self.bytes.saturating_add(entry.size);
        for (what, count, maximum) in [
            ("entries", self.entries, self.limits.entries),
            ("bytes", self.bytes, self.limits.bytes),
        ] {
            if count > maximum {
                return Err(Error::Limit { what, maximum });
            }
        }
        self.check_free()
    }

    /// Looks now and then whether enough stays free, if any limit is set.
    fn check_free(&mut self) -> Result<(), Error> {
        /// After how many bytes, a new file counting as one block.
        const OFTEN: u64 = 16 << 20;
        let limit = self.limits.free;
        let written = self.bytes.saturating_add(self.entries << 12);
        if limit == 0 || written < self.next_look {
            return Ok(());
        }
        self.next_look = written.saturating_add(OFTEN);
        let root = self.fd(ROOT, b"/")?;
        let found = fstatvfs(&*root).map_err(|errno| Error::entry("look at", b"/", errno))?;
        let free = found.blocks_available().saturating_mul(found.fragment_size());
        if free < limit { Err(Error::Full { free, limit }) } else { Ok(()) }
    }

    fn dispatch(
        &mut self,
        archive: &mut Archive<'_, ChunkReader>,
        entry: &mut Entry,
        target: &Target<'_>,
        path: &[u8],
    ) -> Result<(), Error> {
        match *target {
            Target::Aufs => Ok(()),
            // A root that is a link would make every later path lead elsewhere (CVE-2021-29136).
            Target::Root if entry.kind == Kind::Directory => self.describe(ROOT, entry),
            Target::Root => Err(Error::name(&entry.name, "the root is a directory")),
            Target::Opaque { dir } => {
                if let Some(node) = self.walk(dir, Missing::Ghost, path)? {
                    self.tree.set_opaque(node);
                }
                Ok(())
            }
            Target::Whiteout { dir, name } => {
                if let Some(node) = self.walk(dir, Missing::Ghost, path)? {
                    self.whiteouts.insert((node, name.to_vec()));
                    self.check_whiteouts()?;
                }
                Ok(())
            }
            Target::File { dir, name } => {
                let parent = self.parent(dir, entry, path)?;
                if self.tree.path_length(parent, name) > MAX_PATH {
                    return Err(Error::name(path, "behind its links it is longer than 4095 bytes"));
                }
                self.create(archive, entry, parent, name, path)
            }
        }
    }

    fn check_whiteouts(&self) -> Result<(), Error> {
        let maximum = self.limits.whiteouts;
        if (self.whiteouts.len() + self.deferred.len()) as u64 > maximum {
            return Err(Error::Limit { what: "whiteouts", maximum });
        }
        Ok(())
    }

    /// The directory that `dir` leads to, made if need be.
    fn parent(&mut self, dir: &[u8], entry: &Entry, path: &[u8]) -> Result<NodeId, Error> {
        match &self.last {
            Some((last, node)) if last == dir => return Ok(*node),
            _ => {}
        }
        let node = self.walk(dir, Missing::Create(entry.mtime), path)?.unwrap_or(ROOT);
        let mut last = self.last.take().map(|(last, _)| last).unwrap_or_default();
        last.clear();
        last.extend_from_slice(dir);
        self.last = Some((last, node));
        Ok(node)
    }

    fn create(
        &mut self,
        archive: &mut Archive<'_, ChunkReader>,
        entry: &mut Entry,
        parent: NodeId,
        name: &[u8],
        path: &[u8],
    ) -> Result<(), Error> {
        if entry.kind == Kind::Directory {
            return self.directory(entry, parent, name, path);
        }
        if self.tree.has_ghosts() {
            // What is no directory hides all that whiteouts have said about one of its name.
            if let Some(child) = self.tree.child(parent, name)
                && self.tree.state(child) == State::Ghost
            {
                self.tree.kill(child);
            }
        }
        if entry.kind == Kind::HardLink {
            return self.hard_link(entry, parent, name, path);
        }
        self.forget_deferred(parent, name);
        match entry.kind {
            Kind::File => self.file(archive, entry, parent, name, path),
            Kind::Symlink => self.symlink(entry, parent, name, path),
            _ => self.special(entry, parent, name, path),
        }
    }

    fn directory(
        &mut self,
        entry: &mut Entry,
        parent: NodeId,
        name: &[u8],
        path: &[u8],
    ) -> Result<(), Error> {
        let known = self.tree.child(parent, name);
        if let Some(child) = known
            && self.tree.state(child) != State::Ghost
        {
            return self.describe(child, entry);
        }
        let mut replaced = self.forget_deferred(parent, name);
        let mode = Mode::from_bits_truncate(entry.mode & 0o777 | 0o700);
        self.replacing(parent, name, path, "create directory", |dir| {
            mkdirat(dir, name, mode).inspect_err(|errno| replaced |= *errno == Errno::EEXIST)
        })?;
        let child = match known {
            Some(ghost) => ghost,
            None => self.add_node(parent, name, State::Implicit, path)?,
        };
        if replaced {
            // What was there for a while, and was no directory, has taken the place of one that is below.
            self.tree.set_opaque(child);
        }
        self.describe(child, entry)
    }

    /// Notes what an entry says about a directory; it is applied at the end.
    fn describe(&mut self, node: NodeId, entry: &mut Entry) -> Result<(), Error> {
        let Entry { mode, uid, gid, mtime, .. } = *entry;
        self.tree.set_state(node, State::Explicit);
        self.tree.set_metadata(node, Metadata { mode, uid, gid, mtime });
        self.note_xattrs(node, std::mem::take(&mut entry.xattrs))
    }

    pub(super) fn add_node(
        &mut self,
        parent: NodeId,
        name: &[u8],
        state: State,
        path: &[u8],
    ) -> Result<NodeId, Error> {
        let maximum = self.limits.directories;
        if self.tree.len() >= maximum {
            return Err(Error::Limit { what: "directories", maximum });
        }
        if self.tree.path_length(parent, name) > MAX_PATH {
            return Err(Error::name(path, "behind its links it is longer than 4095 bytes"));
        }
        let (uid, gid) = self.ids;
        let metadata = Metadata { mode: IMPLICIT_MODE, uid, gid, ..Metadata::default() };
        Ok(self.tree.add(parent, name, state, metadata))
    }

    fn hard_link(
        &mut self,
        entry: &Entry,
        parent: NodeId,
        name: &[u8],
        path: &[u8],
    ) -> Result<(), Error> {
        let mut link = Vec::new();
        clean(&entry.link, &mut link)?;
        let (target_dir, target_name) = split(&link);
        if target_name.is_empty() {
            return Err(Error::entry("link", path, Errno::EPERM));
        }
        let Some(node) = self.walk(target_dir, Missing::Fail, path)? else {
            return self.defer(parent, name, link.clone(), path);
        };
        if let Some(deferred) = self.deferred.get(&(node, target_name.to_vec())) {
            return self.defer(parent, name, deferred.clone(), path);
        }
        let from = self.fd(node, path)?;
        if (node, target_name) == (parent, name) {
            // A link to itself changes nothing; removing the old name first would lose the file.
            return match nix::sys::stat::fstatat(&*from, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(_) => Ok(()),
                Err(Errno::ENOENT) => self.defer(parent, name, link.clone(), path),
                Err(errno) => Err(Error::entry("link", path, errno)),
            };
        }
        let result = self.replacing(parent, name, path, "link", |dir| {
            // Without AT_SYMLINK_FOLLOW a link to a symbolic link is one more name of that.
            match linkat(&*from, target_name, dir, name, AtFlags::empty()) {
                Err(Errno::ENOENT) => Ok(false),
                other => other.map(|()| true),
            }
        });
        if result? {
            self.forget_deferred(parent, name);
            return Ok(());
        }
        self.defer(parent, name, link.clone(), path)
    }

    /// Leaves a hard link to the merging, because its target is not in this layer.
    fn defer(
        &mut self,
        parent: NodeId,
        name: &[u8],
        link: Vec<u8>,
        path: &[u8],
    ) -> Result<(), Error> {
        self.clear(parent, name, path)?;
        self.deferred.insert((parent, name.to_vec()), link);
        self.check_whiteouts()
    }

    /// Drops a link that was left to the merging; returns whether there was one.
    pub(super) fn forget_deferred(&mut self, parent: NodeId, name: &[u8]) -> bool {
        !self.deferred.is_empty() && self.deferred.remove(&(parent, name.to_vec())).is_some()
    }

    /// Calls `make` with the descriptor of `parent`; if `name` exists there, removes it and calls again.
    pub(super) fn replacing<T>(
        &mut self,
        parent: NodeId,
        name: &[u8],
        path: &[u8],
        action: &'static str,
        mut make: impl FnMut(BorrowedFd<'_>) -> nix::Result<T>,
    ) -> Result<T, Error> {
        let dir = self.fd(parent, path)?;
        let result = match make(dir.as_fd()) {
            Err(Errno::EEXIST) => {
                self.clear(parent, name, path)?;
                make(dir.as_fd())
            }
            other => other,
        };
        result.map_err(|errno| Error::entry(action, path, errno))
    }

    /// Removes `name` from `parent`, whatever it is, if it is there.
    pub(super) fn clear(&mut self, parent: NodeId, name: &[u8], path: &[u8]) -> Result<(), Error> {
        // What any path leads to is only certain as long as nothing is taken away.
        self.last = None;
        let dir = self.fd(parent, path)?;
        if let Some(child) = self.tree.child(parent, name) {
            if self.tree.state(child) != State::Ghost {
                remove_tree(dir.as_fd(), name)
                    .map_err(|source| Error::Remove { path: super::error::shown(path), source })?;
            }
            self.tree.kill(child);
            return Ok(());
        }
        match unlinkat(&*dir, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(Error::entry("remove", path, errno)),
        }
    }

    /// The descriptor of a directory.
    pub(super) fn fd(&mut self, node: NodeId, path: &[u8]) -> Result<Rc<OwnedFd>, Error> {
        self.fds
            .open(&self.tree, node)
            .map_err(|errno| Error::entry("open directory of", path, errno))
    }
}

/// Takes away from the layer's folder what new files would inherit: a default ACL and the set-group-ID bit; and tells what
/// they are certain to have.
fn prepare(confined: &Confined) -> Result<Created, Error> {
    let root = &confined.root;
    match fremovexattr(root.as_fd(), b"system.posix_acl_default") {
        Ok(()) | Err(Errno::ENODATA | Errno::EOPNOTSUPP) => {}
        Err(errno) => return Err(Error::entry("open directory", b"/", errno)),
    }
    nix::sys::stat::fchmod(root, Mode::from_bits_truncate(0o700))
        .map_err(|errno| Error::entry("open directory", b"/", errno))?;
    // The umask belongs to all threads until one stops sharing it. Where that is forbidden, each mode is set again.
    if confined.own_fs {
        umask(Mode::empty());
    }
    // With other group semantics (mount option `grpid`) new files do not belong to the process's own group.
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let stat = fstat(root).map_err(|errno| Error::entry("look at", b"/", errno))?;
    let own = (stat.st_gid == gid).then_some((uid, gid));
    Ok(Created { own, exact_modes: confined.own_fs })
}
