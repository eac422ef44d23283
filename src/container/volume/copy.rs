//! What a volume begins with: the content of the image's folder that it is mounted on, as with docker.
//!
//! ```text
//! volumes/<name>/_copying/    being written; whatever is in it is thrown away when somebody begins anew
//! volumes/<name>/_copied/     whole, and flushed; its entries are on their way into _data/
//! ```
//!
//! The entries are moved into `_data/` one by one, so that the folder stays the one that other containers may have mounted,
//! and whoever finds `_copied/` after a crash goes on with that.
//!
//! The image is walked on descriptors, no link is followed, and its folder is found as if the image were the root. What a
//! container that already has the volume does in `_data/` meanwhile only keeps its own files.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, RenameFlags, renameat2};
use nix::sys::stat::fstat;
use nix::unistd::syncfs;

use super::DATA;
use super::error::VolumeError;
use super::files::{self, Copier};
use super::hold::Held;
use crate::sys::fs::{DirReader, PATH_DIRECTORY, READ_DIRECTORY, open_in_root, open_on_mount};
use crate::sys::remove_tree::remove_tree;

const COPYING: &str = "_copying";
const COPIED: &str = "_copied";

/// Copies what is at `destination` in the image's `tree` into an empty volume; `flush` makes it last through a power cut.
pub(super) fn copy_up(
    volume: &Held,
    tree: &Path,
    destination: &str,
    flush: bool,
) -> Result<(), VolumeError> {
    let _lock = lock(volume)?;
    let at = |verb, name: &str| {
        let path = volume.path().join(name);
        move |errno: Errno| VolumeError::Io { verb, path, source: errno.into() }
    };
    let folder = volume.fd();
    let data = open_on_mount(folder, DATA.as_bytes(), READ_DIRECTORY).map_err(at("open", DATA))?;
    if let Some(copied) = open(folder, COPIED).map_err(at("open", COPIED))? {
        return finish(volume, copied, &data);
    }
    if !is_empty(&data).map_err(at("read", DATA))? {
        return Ok(());
    }
    let Some(source) = find(tree, destination)? else { return Ok(()) };
    remove(volume, COPYING)?;
    let path = volume.path().join(COPYING);
    let made = fs::DirBuilder::new().mode(0o700).create(&path);
    made.map_err(|source| VolumeError::Io { verb: "create", path, source })?;
    let target = open_on_mount(folder, COPYING.as_bytes(), READ_DIRECTORY);
    let target = target.map_err(at("open", COPYING))?;
    Copier::new(&source, &target).copy().map_err(|failed| VolumeError::Copy {
        volume: volume.name().to_owned(),
        path: failed.path,
        source: failed.errno.into(),
    })?;
    if flush {
        syncfs(&target).map_err(at("flush", COPYING))?;
    }
    let flags = RenameFlags::RENAME_NOREPLACE;
    renameat2(folder, COPYING, folder, COPIED, flags).map_err(at("rename", COPYING))?;
    finish(volume, target, &data)
}

/// Keeps others from copying into the volume at the same time.
fn lock(volume: &Held) -> Result<Flock<File>, VolumeError> {
    let path = volume.path().join(".lock");
    let failed = |verb, source| VolumeError::Io { verb, path: path.clone(), source };
    let mut options = File::options();
    let opened = options.write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = opened.map_err(|source| failed("open", source))?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| failed("lock", errno.into()))
}

/// The image's folder, if there is one at that place.
fn find(tree: &Path, destination: &str) -> Result<Option<OwnedFd>, VolumeError> {
    let failed = |source: io::Error| VolumeError::Io {
        verb: "open",
        path: tree.join(destination.trim_start_matches('/')),
        source,
    };
    let root = File::open(tree).map_err(failed)?;
    match open_in_root(root.as_fd(), destination.as_bytes(), PATH_DIRECTORY) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        found => found.map(Some).map_err(|errno| failed(errno.into())),
    }
}

fn open(folder: BorrowedFd<'_>, name: &str) -> nix::Result<Option<OwnedFd>> {
    match open_on_mount(folder, name.as_bytes(), READ_DIRECTORY) {
        Err(Errno::ENOENT) => Ok(None),
        opened => opened.map(Some),
    }
}

fn is_empty(directory: &OwnedFd) -> nix::Result<bool> {
    let again = open_on_mount(directory.as_fd(), b"", READ_DIRECTORY)?;
    Ok(DirReader::new(again).next_entry()?.is_none())
}

/// Moves what was copied into the volume. What somebody has made there meanwhile stays.
fn finish(volume: &Held, copied: OwnedFd, data: &OwnedFd) -> Result<(), VolumeError> {
    let failed = |errno: Errno| VolumeError::Io {
        verb: "move into",
        path: volume.path().join(DATA),
        source: errno.into(),
    };
    let found = fstat(&copied).map_err(failed)?;
    files::set_attributes(copied.as_fd(), data.as_fd(), &found).map_err(failed)?;
    let again = open_on_mount(copied.as_fd(), b"", READ_DIRECTORY).map_err(failed)?;
    let mut entries = DirReader::new(again);
    let mut names = Vec::new();
    while let Some((name, _)) = entries.next_entry().map_err(failed)? {
        names.push(name.to_vec());
    }
    for name in names {
        let name = name.as_slice();
        match renameat2(&copied, name, data, name, RenameFlags::RENAME_NOREPLACE) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(failed(errno)),
        }
    }
    // Moving has changed the time.
    files::set_times(data.as_fd(), &found).map_err(failed)?;
    remove(volume, COPIED)
}

fn remove(volume: &Held, name: &str) -> Result<(), VolumeError> {
    remove_tree(volume.fd(), name.as_bytes())
        .map_err(|source| VolumeError::Remove { path: volume.path().join(name), source })
}

/// How files are opened that are read or made here.
pub(super) const NO_FOLLOW: OFlag =
    OFlag::O_NOFOLLOW.union(OFlag::O_NONBLOCK).union(OFlag::O_CLOEXEC);
