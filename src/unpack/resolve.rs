//! From a path to the directory that it leads to in a tree on the disk.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;

use nix::errno::Errno;
use nix::fcntl::{OFlag, readlinkat};
use nix::sys::stat::{Mode, SFlag, fchmod, fstat, futimens, mkdirat};
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::create::time_spec;
use super::error::Error;
use super::extract::IMPLICIT_MODE;
use super::limits::MAX_LINKS;
use super::path::split;
use super::tar::Time;
use crate::sys::fs::{READ_DIRECTORY, open_beneath};

/// What to do about a component that is not there, or that is neither directory nor link.
#[derive(Clone, Copy)]
pub(super) enum Absent {
    /// Make a directory of it, with this time; the directory that it is made in keeps its own.
    Create(Time),
    /// Give up.
    Fail,
}

/// What a path names, without following a link at its end.
pub(super) enum Found {
    Directory,
    Link(Vec<u8>),
    Nothing,
    Other,
}

/// Looks at `path`, on the way to which there may be no links.
pub(super) fn look(root: BorrowedFd<'_>, path: &[u8]) -> Result<Found, Error> {
    let failed = |errno| Error::entry("look at", path, errno);
    let fd = match open_beneath(root, path, OFlag::O_PATH | OFlag::O_NOFOLLOW) {
        Ok(fd) => fd,
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(Found::Nothing),
        Err(errno) => return Err(failed(errno)),
    };
    let mode = fstat(&fd).map_err(failed)?.st_mode;
    match SFlag::from_bits_truncate(mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFDIR => Ok(Found::Directory),
        SFlag::S_IFLNK => Ok(Found::Link(readlinkat(&fd, "").map_err(failed)?.into_vec())),
        _ => Ok(Found::Other),
    }
}

/// The path, free of links, of the directory that `path` leads to with `root` as the root directory; `None` if there is
/// none and `absent` does not say to make it.
pub(super) fn resolve(
    root: BorrowedFd<'_>,
    path: &[u8],
    absent: Absent,
) -> Result<Option<Vec<u8>>, Error> {
    let mut done: Vec<u8> = Vec::new();
    let mut rest = path.to_vec();
    let mut start = 0;
    let mut links = 0;
    while start < rest.len() {
        let end = rest[start..].iter().position(|b| *b == b'/');
        let end = end.map_or(rest.len(), |length| start + length);
        let component = &rest[start..end];
        start = end + 1;
        if matches!(component, b"" | b".") {
            continue;
        }
        if component == b".." {
            done.truncate(split(&done).0.len());
            continue;
        }
        let parent = done.len();
        if parent > 0 {
            done.push(b'/');
        }
        done.extend_from_slice(component);
        match (look(root, &done)?, absent) {
            (Found::Directory, _) => {}
            (Found::Link(target), _) => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Error::entry("resolve", path, Errno::ELOOP));
                }
                done.truncate(if target.starts_with(b"/") { 0 } else { parent });
                let behind = rest.split_off(end);
                rest = target;
                rest.extend_from_slice(&behind);
                start = 0;
            }
            (_, Absent::Fail) => return Ok(None),
            (found, Absent::Create(time)) => make_directory(root, &done, &found, time)?,
        }
    }
    Ok(Some(done))
}

fn make_directory(
    root: BorrowedFd<'_>,
    path: &[u8],
    found: &Found,
    time: Time,
) -> Result<(), Error> {
    let make = || {
        let (parent, name) = split(path);
        let parent = open_beneath(root, parent, READ_DIRECTORY)?;
        let before = fstat(&parent)?;
        if matches!(found, Found::Other) {
            unlinkat(parent.as_fd(), name, UnlinkatFlags::NoRemoveDir)?;
        }
        mkdirat(&parent, name, Mode::from_bits_truncate(IMPLICIT_MODE))?;
        let directory = open_beneath(parent.as_fd(), name, READ_DIRECTORY)?;
        // Whatever the umask is.
        fchmod(&directory, Mode::from_bits_truncate(IMPLICIT_MODE))?;
        futimens(&directory, &time_spec(time), &time_spec(time))?;
        futimens(
            &parent,
            &TimeSpec::new(before.st_atime, before.st_atime_nsec),
            &TimeSpec::new(before.st_mtime, before.st_mtime_nsec),
        )
    };
    make().map_err(|errno| Error::entry("create directory", path, errno))
}
