//! A container's overlay, read from its two directories without mounting it.
//!
//! The upper directory holds what the container changed, in overlayfs's own form (kernel documentation,
//! `filesystems/overlayfs.rst`, with `userxattr`): a character device 0:0 hides a name, `user.overlay.opaque` hides all
//! that the directory below holds. Everything in it is hostile, and may change while it is read: nothing is reached but by
//! descriptors, and no link is followed.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::vec::IntoIter;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{SFlag, fstat};

use super::error::Error;
use super::pack::{Fields, Names, Packer, join, list, xattrs};
use super::path::split;
use crate::sys::fs::{READ_DIRECTORY, open_beneath, open_on_mount};
use crate::sys::xattr::fgetxattr;

/// Hides what the directory below holds, with the value `y`.
const OPAQUE: &[u8] = b"user.overlay.opaque";
/// Says that a directory's lower part, or a file's data, lies under another name. The overlays of this program are
/// mounted so that the kernel never makes these.
const ELSEWHERE: [&[u8]; 2] = [b"user.overlay.redirect", b"user.overlay.metacopy"];

/// The two directories of an overlay.
#[derive(Clone, Copy, Debug)]
pub struct Overlay<'a> {
    /// What the container wrote.
    pub upper: BorrowedFd<'a>,
    /// The image's tree.
    pub lower: BorrowedFd<'a>,
    /// Paths, without leading slash, on which something was mounted that is none of the container's own: what was made for
    /// them to be mounted on is no change.
    pub mount_points: &'a BTreeSet<Vec<u8>>,
}

/// How a path differs from the image.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ChangeKind {
    /// The image has nothing there.
    Added,
    /// The image has it, but other.
    Changed,
    /// The image has it, the container not.
    Deleted,
}

/// One difference.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// What kind.
    pub kind: ChangeKind,
    /// Where, without leading slash; empty for the root.
    pub path: Vec<u8>,
    /// Whether a directory hides all that the image has in it.
    opaque: bool,
    /// Whether the name goes with the directory that hides it.
    hidden: bool,
}

impl Change {
    fn new(kind: ChangeKind, path: Vec<u8>) -> Self {
        Self { kind, path, opaque: false, hidden: false }
    }
}

/// Tells `see` of every difference between the container and its image, directories before what is in them.
///
/// # Errors
/// [`Error`], also what `see` returns.
pub fn changes(
    overlay: &Overlay<'_>,
    see: &mut dyn FnMut(&Change) -> Result<(), Error>,
) -> Result<(), Error> {
    Comparison { overlay, see, levels: Vec::new() }.run()
}

/// Writes the differences as a layer. Says whether there are any.
///
/// # Errors
/// [`Error`]: a file whose name would make a whiteout of it is among them.
pub fn pack_changes(overlay: &Overlay<'_>, out: &mut dyn Write) -> Result<bool, Error> {
    let mut packer = Packer::new(out, Names::Layer);
    let mut any = false;
    changes(overlay, &mut |change| {
        any = true;
        let (dir, name) = split(&change.path);
        match change.kind {
            ChangeKind::Deleted if change.hidden => Ok(()),
            ChangeKind::Deleted => packer.whiteout(dir, Some(name)),
            ChangeKind::Added | ChangeKind::Changed => {
                packer.entry(overlay.upper, &change.path)?;
                if change.opaque { packer.whiteout(&change.path, None) } else { Ok(()) }
            }
        }
    })?;
    packer.finish()?;
    Ok(any)
}

/// Writes the root filesystem as the container sees it, without what is mounted on it.
///
/// # Errors
/// [`Error`].
pub fn pack_merged(overlay: &Overlay<'_>, out: &mut dyn Write) -> Result<(), Error> {
    let mut packer = Packer::new(out, Names::Any);
    let mut pending = vec![Place { path: Vec::new(), upper: true, lower: true }];
    while let Some(place) = pending.pop() {
        let root = if place.upper { overlay.upper } else { overlay.lower };
        if !packer.entry(root, &place.path)? {
            continue;
        }
        let mut names = BTreeSet::new();
        for (root, there) in [(overlay.upper, place.upper), (overlay.lower, place.lower)] {
            if there {
                names.extend(list(root, &place.path)?);
            }
        }
        // Backwards, because the last one is the next.
        for name in names.into_iter().rev() {
            pending.extend(place.child(overlay, join(&place.path, &name))?);
        }
    }
    packer.finish()
}

/// A path of the merged tree, and in which of the two directories it is.
struct Place {
    path: Vec<u8>,
    upper: bool,
    lower: bool,
}

impl Place {
    /// What the container sees at `path` in this directory.
    fn child(&self, overlay: &Overlay<'_>, path: Vec<u8>) -> Result<Option<Self>, Error> {
        let above = if self.upper { above(overlay.upper, &path)? } else { Above::Nothing };
        Ok(match above {
            Above::Whiteout => None,
            Above::Nothing => Some(Self { path, upper: false, lower: true }),
            Above::Directory { opaque } => {
                let lower =
                    !opaque && self.lower && below(overlay.lower, &path)? == Below::Directory;
                Some(Self { path, upper: true, lower })
            }
            Above::Other => Some(Self { path, upper: true, lower: false }),
        })
    }
}

/// What the upper directory has at a path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Above {
    Nothing,
    Whiteout,
    Directory { opaque: bool },
    Other,
}

fn above(upper: BorrowedFd<'_>, path: &[u8]) -> Result<Above, Error> {
    let Some(fields) = look(upper, path)? else { return Ok(Above::Nothing) };
    match fields.kind {
        SFlag::S_IFCHR if fields.device == 0 => Ok(Above::Whiteout),
        SFlag::S_IFDIR => {
            let failed = |errno| Error::entry("read", path, errno);
            let dir = open_on_mount(upper, path, READ_DIRECTORY).map_err(failed)?;
            let opaque = match fgetxattr(dir.as_fd(), OPAQUE) {
                Ok(value) => value == b"y",
                Err(Errno::ENODATA | Errno::EOPNOTSUPP) => false,
                Err(errno) => return Err(failed(errno)),
            };
            for name in ELSEWHERE {
                if fgetxattr(dir.as_fd(), name).is_ok() {
                    return Err(Error::name(path, "overlayfs keeps part of it elsewhere"));
                }
            }
            Ok(Above::Directory { opaque })
        }
        _ => Ok(Above::Other),
    }
}

/// What the image's tree has at a path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Below {
    Nothing,
    Directory,
    Other,
}

fn below(lower: BorrowedFd<'_>, path: &[u8]) -> Result<Below, Error> {
    Ok(match look(lower, path)? {
        None => Below::Nothing,
        Some(fields) if fields.kind == SFlag::S_IFDIR => Below::Directory,
        Some(_) => Below::Other,
    })
}

fn look(root: BorrowedFd<'_>, path: &[u8]) -> Result<Option<Fields>, Error> {
    let failed = |errno| Error::entry("look at", path, errno);
    match open_beneath(root, path, OFlag::O_PATH | OFlag::O_NOFOLLOW) {
        Ok(fd) => Ok(Some(Fields::of(&fstat(&fd).map_err(failed)?))),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        Err(errno) => Err(failed(errno)),
    }
}

/// A directory of the upper tree on the way to what is looked at.
struct Level {
    /// What there is to say of the directory itself, until it has been said.
    change: Option<Change>,
    path: Vec<u8>,
    names: IntoIter<Vec<u8>>,
    /// Whether the image has this directory.
    lower: bool,
    /// Whether what the image has in it is hidden.
    hides: bool,
}

struct Comparison<'a> {
    overlay: &'a Overlay<'a>,
    see: &'a mut dyn FnMut(&Change) -> Result<(), Error>,
    levels: Vec<Level>,
}

impl Comparison<'_> {
    fn run(&mut self) -> Result<(), Error> {
        let root = Change::new(ChangeKind::Changed, Vec::new());
        let differs = self.root_differs()?;
        self.enter(root, differs, true, false)?;
        while let Some(level) = self.levels.last_mut() {
            match level.names.next() {
                Some(name) => {
                    let path = join(&level.path, &name);
                    let (lower, hides) = (level.lower, level.hides);
                    self.compare(path, lower, hides)?;
                }
                None => drop(self.levels.pop()),
            }
        }
        Ok(())
    }

    /// Whether the root itself was changed. Its time tells nothing, nor do its attributes, which the upper directory did
    /// not get from the image.
    fn root_differs(&self) -> Result<bool, Error> {
        let (upper, lower) = (look(self.overlay.upper, b"")?, look(self.overlay.lower, b"")?);
        let rights = |fields: Option<Fields>| fields.map(|f| (f.mode, f.uid, f.gid));
        Ok(rights(upper) != rights(lower))
    }

    fn compare(&mut self, path: Vec<u8>, in_lower: bool, hidden: bool) -> Result<(), Error> {
        let below = if in_lower { below(self.overlay.lower, &path)? } else { Below::Nothing };
        let known = below != Below::Nothing;
        let kind = if known { ChangeKind::Changed } else { ChangeKind::Added };
        match above(self.overlay.upper, &path)? {
            Above::Nothing | Above::Whiteout if known => {
                let mut change = Change::new(ChangeKind::Deleted, path);
                change.hidden = hidden;
                self.tell(&change)
            }
            Above::Nothing | Above::Whiteout => Ok(()),
            Above::Other if !known && self.is_mount_point(&path)? => Ok(()),
            Above::Other => self.tell(&Change::new(kind, path)),
            Above::Directory { .. } if self.is_only_mount_points(&path, below)? => Ok(()),
            Above::Directory { opaque } => {
                let merged = below == Below::Directory;
                let differs = opaque || !merged || self.directory_differs(&path)?;
                // In a directory that hides, those below hide too without saying so.
                let hides = merged && (opaque || hidden);
                let mut change = Change::new(kind, path);
                change.opaque = hides && !hidden;
                self.enter(change, differs, merged, hides)
            }
        }
    }

    /// Goes into a directory. If it differs only by what is in it, it is told of when there is something.
    fn enter(
        &mut self,
        change: Change,
        differs: bool,
        lower: bool,
        hides: bool,
    ) -> Result<(), Error> {
        let mut names = BTreeSet::from_iter(list(self.overlay.upper, &change.path)?);
        if hides {
            names.extend(list(self.overlay.lower, &change.path)?);
        }
        let names: Vec<Vec<u8>> = names.into_iter().collect();
        if differs {
            self.tell(&change)?;
        }
        self.levels.push(Level {
            path: change.path.clone(),
            hides,
            change: (!differs).then_some(change),
            names: names.into_iter(),
            lower,
        });
        Ok(())
    }

    fn tell(&mut self, change: &Change) -> Result<(), Error> {
        for level in &mut self.levels {
            if let Some(parent) = level.change.take().filter(|parent| !parent.path.is_empty()) {
                (self.see)(&parent)?;
            }
        }
        (self.see)(change)
    }

    fn directory_differs(&self, path: &[u8]) -> Result<bool, Error> {
        let Overlay { upper, lower, .. } = *self.overlay;
        let time = |fields: Option<Fields>| fields.map(|fields| fields.mtime);
        Ok(time(look(upper, path)?) != time(look(lower, path)?) || self.rights_differ(path)?)
    }

    /// Whether mode, owner or extended attributes of a directory differ.
    fn rights_differ(&self, path: &[u8]) -> Result<bool, Error> {
        let failed = |errno| Error::entry("read", path, errno);
        let rights = |root: BorrowedFd<'_>| {
            let dir = open_on_mount(root, path, READ_DIRECTORY).map_err(failed)?;
            let fields = Fields::of(&fstat(&dir).map_err(failed)?);
            Ok((fields.mode, fields.uid, fields.gid, xattrs(dir.as_fd(), path)?))
        };
        Ok(rights(self.overlay.upper)? != rights(self.overlay.lower)?)
    }

    /// Whether `path` is what was made for something to be mounted on it: an empty file.
    fn is_mount_point(&self, path: &[u8]) -> Result<bool, Error> {
        if !self.overlay.mount_points.contains(path) {
            return Ok(false);
        }
        let found = look(self.overlay.upper, path)?;
        Ok(found.is_some_and(|fields| fields.kind == SFlag::S_IFREG && fields.size == 0))
    }

    /// Whether the directory `path` holds nothing but what things were mounted on, or is empty and such a place itself.
    ///
    /// The way down is no longer than the paths that things are mounted on.
    fn is_only_mount_points(&self, path: &[u8], found: Below) -> Result<bool, Error> {
        let itself = self.overlay.mount_points.contains(path);
        let inside = [path, b"/"].concat();
        let leads = self.overlay.mount_points.iter().any(|point| point.starts_with(&inside));
        if !(itself || leads) || found == Below::Other {
            return Ok(false);
        }
        if found == Below::Directory && self.rights_differ(path)? {
            return Ok(false);
        }
        let names = list(self.overlay.upper, path)?;
        if names.is_empty() {
            // One that the image has was touched by nobody but who mounted something on it, or in it.
            return Ok(found == Below::Nothing && itself);
        }
        for name in names {
            let child = join(path, &name);
            let below = match found {
                Below::Directory => below(self.overlay.lower, &child)?,
                _ => Below::Nothing,
            };
            let fine = match above(self.overlay.upper, &child)? {
                Above::Other => below == Below::Nothing && self.is_mount_point(&child)?,
                Above::Directory { opaque: false } => self.is_only_mount_points(&child, below)?,
                Above::Directory { opaque: true } => {
                    below == Below::Nothing && self.is_only_mount_points(&child, below)?
                }
                Above::Nothing | Above::Whiteout => false,
            };
            if !fine {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
