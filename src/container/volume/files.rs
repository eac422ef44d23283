//! Copying a tree of files with all that belongs to them: owners, modes, extended attributes, times, holes and names that
//! are one file.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags, fchmod, fchmodat, fstatat, futimens,
    mkdirat, mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, Whence, fchown, fchownat, ftruncate, linkat, lseek64, symlinkat};

use super::copy::NO_FOLLOW;
use crate::sys::fs::{DirReader, READ_DIRECTORY, open_on_mount};
use crate::sys::xattr::{fgetxattr, flistxattr, fsetxattr, lgetxattrat, llistxattrat, lsetxattrat};

/// A file that could not be copied.
#[derive(Debug)]
pub(super) struct CopyFailed {
    /// Where it is, from the tree's root on.
    pub(super) path: Vec<u8>,
    pub(super) errno: Errno,
}

/// A copy under way. What is copied is a hostile tree, where it goes is nobody else's to reach.
#[derive(Debug)]
pub(super) struct Copier<'a> {
    source: &'a OwnedFd,
    target: &'a OwnedFd,
    /// Files of which there is more than one name, and the first that was copied.
    links: HashMap<(u64, u64), Vec<u8>>,
    /// Directories whose attributes are set when all is in them.
    directories: Vec<(Vec<u8>, FileStat)>,
}

/// Two directories, one being copied into the other.
struct Pair<'a> {
    path: &'a [u8],
    from: BorrowedFd<'a>,
    to: &'a OwnedFd,
}

impl<'a> Copier<'a> {
    /// The content of the directory `source` to the empty directory `target`.
    pub(super) fn new(source: &'a OwnedFd, target: &'a OwnedFd) -> Self {
        Self { source, target, links: HashMap::new(), directories: Vec::new() }
    }

    /// Copies everything, and the root's own attributes.
    pub(super) fn copy(mut self) -> Result<(), CopyFailed> {
        let at = |path: &[u8]| {
            let path = path.to_vec();
            move |errno| CopyFailed { path, errno }
        };
        let root = nix::sys::stat::fstat(self.source).map_err(at(b"."))?;
        self.directories.push((Vec::new(), root));
        let mut pending = vec![Vec::new()];
        while let Some(path) = pending.pop() {
            self.copy_directory(&path, &mut pending)?;
        }
        // The innermost first, as a change in a directory changes its time.
        for (path, found) in self.directories.iter().rev() {
            let done = self.open_both(path).and_then(|(from, to)| {
                set_attributes(from.as_fd(), to.as_fd(), found)?;
                set_times(to.as_fd(), found)
            });
            done.map_err(at(path))?;
        }
        Ok(())
    }

    /// The directory `path` of both trees; no link is met on the way, and no other mount.
    fn open_both(&self, path: &[u8]) -> nix::Result<(OwnedFd, OwnedFd)> {
        Ok((
            open_on_mount(self.source.as_fd(), path, READ_DIRECTORY)?,
            open_on_mount(self.target.as_fd(), path, READ_DIRECTORY)?,
        ))
    }

    fn copy_directory(
        &mut self,
        path: &[u8],
        pending: &mut Vec<Vec<u8>>,
    ) -> Result<(), CopyFailed> {
        let failed = |errno| CopyFailed { path: path.to_vec(), errno };
        let (from, to) = self.open_both(path).map_err(failed)?;
        let mut entries = DirReader::new(from);
        while let Some(name) = entries.next_entry().map_err(failed)?.map(|(name, _)| name.to_vec())
        {
            let slash: &[u8] = if path.is_empty() { b"" } else { b"/" };
            let whole = [path, slash, &name].concat();
            let pair = Pair { path: &whole, from: entries.fd(), to: &to };
            let copied = self.copy_one(&pair, &name);
            if copied.map_err(|errno| CopyFailed { path: whole.clone(), errno })? {
                pending.push(whole);
            }
        }
        Ok(())
    }

    /// Copies the entry `name`, and says whether it is a directory, which is empty yet.
    fn copy_one(&mut self, pair: &Pair<'_>, name: &[u8]) -> nix::Result<bool> {
        let found = fstatat(pair.from, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        let kind = SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits());
        if kind == SFlag::S_IFDIR {
            mkdirat(pair.to, name, Mode::S_IRWXU)?;
            self.directories.push((pair.path.to_vec(), found));
            return Ok(true);
        }
        let identity = (found.st_dev, found.st_ino);
        if let Some(first) = self.links.get(&identity) {
            linkat(self.target, first.as_slice(), pair.to, name, AtFlags::empty())?;
            return Ok(false);
        }
        if kind == SFlag::S_IFREG {
            copy_file(pair, name, &found)?;
        } else if !make_special(pair, name, kind, &found)? {
            return Ok(false);
        }
        if found.st_nlink > 1 {
            self.links.insert(identity, pair.path.to_vec());
        }
        Ok(false)
    }
}

fn copy_file(pair: &Pair<'_>, name: &[u8], found: &FileStat) -> nix::Result<()> {
    let source = open_on_mount(pair.from, name, OFlag::O_RDONLY | NO_FOLLOW)?;
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | NO_FOLLOW;
    let target = openat(pair.to, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
    copy_content(&source, &target, found.st_size)?;
    set_attributes(source.as_fd(), target.as_fd(), found)?;
    set_times(target.as_fd(), found)
}

/// Copies data where there is some, and leaves holes as holes.
fn copy_content(source: &OwnedFd, target: &OwnedFd, size: i64) -> nix::Result<()> {
    let mut at = 0;
    while at < size {
        let start = match lseek64(source, at, Whence::SeekData) {
            // Nothing but a hole is left.
            Err(Errno::ENXIO) => break,
            // The file system cannot tell.
            Err(Errno::EINVAL) => at,
            start => start?,
        };
        let end = lseek64(source, start, Whence::SeekHole).unwrap_or(size);
        copy_range(source, target, start, end)?;
        at = end;
    }
    ftruncate(target, size)
}

/// Copies the bytes from `start` to `end`; the kernel does it where it can (`copy_file_range(2)`).
fn copy_range(source: &OwnedFd, target: &OwnedFd, start: i64, end: i64) -> nix::Result<()> {
    let errno = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
    for file in [source, target] {
        lseek64(file, start, Whence::SeekSet)?;
    }
    let source = File::from(source.try_clone().map_err(errno)?);
    let mut target = File::from(target.try_clone().map_err(errno)?);
    let length = u64::try_from(end - start).unwrap_or(0);
    std::io::copy(&mut source.take(length), &mut target).map_err(errno).map(drop)
}

/// Makes a link, a pipe, a socket or a device, and says whether it could: an ordinary user makes no devices.
fn make_special(pair: &Pair<'_>, name: &[u8], kind: SFlag, found: &FileStat) -> nix::Result<bool> {
    let (owner, group) = owner(found);
    if kind == SFlag::S_IFLNK {
        symlinkat(readlinkat(pair.from, name)?.as_os_str(), pair.to, name)?;
        fchownat(pair.to, name, owner, group, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    } else {
        match mknodat(pair.to, name, kind, Mode::S_IRUSR | Mode::S_IWUSR, found.st_rdev) {
            Err(Errno::EPERM) => return Ok(false),
            made => made?,
        }
        fchownat(pair.to, name, owner, group, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        // It was made this instant, in a directory that nobody else can reach: it is no link.
        fchmodat(pair.to, name, mode(found), FchmodatFlags::FollowSymlink)?;
    }
    for attribute in llistxattrat(pair.from, name).or_else(none_if_unsupported)? {
        let value = lgetxattrat(pair.from, name, &attribute)?;
        lsetxattrat(pair.to.as_fd(), name, &attribute, &value).or_else(passed_over)?;
    }
    let (accessed, modified) = times(found);
    utimensat(pair.to, name, &accessed, &modified, UtimensatFlags::NoFollowSymlink)?;
    Ok(true)
}

/// Gives the open file `to` the owner, mode and extended attributes of `from`, in an order in which none undoes another.
pub(super) fn set_attributes(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    found: &FileStat,
) -> nix::Result<()> {
    let (owner, group) = owner(found);
    fchown(to, owner, group)?;
    fchmod(to, mode(found))?;
    for name in flistxattr(from).or_else(none_if_unsupported)? {
        let value = fgetxattr(from, &name)?;
        fsetxattr(to, &name, &value).or_else(passed_over)?;
    }
    Ok(())
}

/// Sets the times of the open file `to`.
pub(super) fn set_times(to: BorrowedFd<'_>, found: &FileStat) -> nix::Result<()> {
    let (accessed, modified) = times(found);
    futimens(to, &accessed, &modified)
}

fn none_if_unsupported(errno: Errno) -> nix::Result<Vec<Vec<u8>>> {
    if errno == Errno::EOPNOTSUPP { Ok(Vec::new()) } else { Err(errno) }
}

/// Attributes that only root of the machine may set, and labels of security modules, are not an ordinary user's to copy.
fn passed_over(errno: Errno) -> nix::Result<()> {
    if matches!(errno, Errno::EPERM | Errno::EOPNOTSUPP) { Ok(()) } else { Err(errno) }
}

fn owner(found: &FileStat) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(found.st_uid)), Some(Gid::from_raw(found.st_gid)))
}

fn mode(found: &FileStat) -> Mode {
    Mode::from_bits_truncate(found.st_mode & 0o7777)
}

fn times(found: &FileStat) -> (TimeSpec, TimeSpec) {
    (
        TimeSpec::new(found.st_atime, found.st_atime_nsec),
        TimeSpec::new(found.st_mtime, found.st_mtime_nsec),
    )
}
