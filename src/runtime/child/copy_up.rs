//! The content that a directory had before a tmpfs is mounted on it (`tmpcopyup`).
//!
//! The directory is the image's: it is walked by descriptors, no link is followed, and what is no directory, file, link or
//! pipe is left out.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{
    self, FchmodatFlags, FileStat, Mode, UtimensatFlags, fchmodat, fstatat, mkdirat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchownat, mkfifoat, symlinkat};

use super::place;
use crate::sys::fs::DirReader;

/// How deep directories may lie in one another, as each takes a descriptor or two.
const MAX_DEPTH: u32 = 128;

/// Copies what is at `path` below `root`, if it is a directory, into the filesystem `to`.
pub(super) fn copy_up(root: BorrowedFd<'_>, path: &CStr, to: BorrowedFd<'_>) -> Result<(), Errno> {
    let from = match place::open(root, path) {
        Err(Errno::ENOENT) => return Ok(()),
        from => from?,
    };
    if stat::fstat(&from)?.st_mode & libc::S_IFMT != libc::S_IFDIR {
        return Ok(());
    }
    copy_directory(from.as_fd(), to, 0)?;
    // Its own options may say otherwise; nobody else than the directory before it is the next best to ask.
    let found = stat::fstat(&from)?;
    fchownat(to, c"", owner(&found).0, owner(&found).1, AtFlags::AT_EMPTY_PATH)
}

fn owner(found: &FileStat) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(found.st_uid)), Some(Gid::from_raw(found.st_gid)))
}

fn copy_directory(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: u32) -> Result<(), Errno> {
    if depth == MAX_DEPTH {
        return Err(Errno::ELOOP);
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let listed = openat(from, c".", flags, Mode::empty())?;
    let from = listed.try_clone().map_err(|_| Errno::EMFILE)?;
    let mut entries = DirReader::new(listed);
    while let Some((name, _)) = entries.next_entry()? {
        let name = std::ffi::CString::new(name).map_err(|_| Errno::EINVAL)?;
        copy_one(&from, to, &name, depth)?;
    }
    Ok(())
}

fn copy_one(from: &OwnedFd, to: BorrowedFd<'_>, name: &CStr, depth: u32) -> Result<(), Errno> {
    let found = fstatat(from, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    let open = |directory: BorrowedFd<'_>, flags: OFlag| {
        let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        openat(directory, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)
    };
    match found.st_mode & libc::S_IFMT {
        libc::S_IFDIR => {
            mkdirat(to, name, Mode::S_IRWXU)?;
            let below = open(to, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
            let directory = open(from.as_fd(), OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
            copy_directory(directory.as_fd(), below.as_fd(), depth + 1)?;
        }
        libc::S_IFREG => {
            let source = open(from.as_fd(), OFlag::O_RDONLY)?;
            let target = open(to, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL)?;
            std::io::copy(&mut File::from(source), &mut File::from(target))
                .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))?;
        }
        libc::S_IFLNK => symlinkat(readlinkat(from, name)?.as_os_str(), to, name)?,
        libc::S_IFIFO => mkfifoat(to, name, Mode::S_IRUSR | Mode::S_IWUSR)?,
        _ => return Ok(()),
    }
    let (uid, gid) = owner(&found);
    fchownat(to, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    if found.st_mode & libc::S_IFMT != libc::S_IFLNK {
        // Behind the change of owner, which takes the set-user-id bit away. Nobody else can reach the tmpfs yet.
        let mode = Mode::from_bits_truncate(found.st_mode & 0o7777);
        fchmodat(to, name, mode, FchmodatFlags::FollowSymlink)?;
    }
    let times = [
        TimeSpec::new(found.st_atime, found.st_atime_nsec),
        TimeSpec::new(found.st_mtime, found.st_mtime_nsec),
    ];
    utimensat(to, name, &times[0], &times[1], UtimensatFlags::NoFollowSymlink)
}
