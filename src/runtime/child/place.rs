//! Names inside a root, found and made without ever leaving it.

use std::collections::VecDeque;
use std::ffi::{CStr, CString, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::{self, Mode};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

/// How many symbolic links are followed, as by the kernel.
const MAX_LINKS: usize = 40;
/// How often a lookup is tried again that another process's renaming has disturbed (`EAGAIN`).
const MAX_RETRIES: usize = 100;

/// What to make where there is nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Directory,
    File,
}

/// Opens `path` below `root` as a place, not for reading; links lead nowhere but below `root`.
pub(super) fn open(root: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd, Errno> {
    lookup(root, path, ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS)
}

/// As [`open`], without following any link.
pub(in crate::runtime) fn open_strict(root: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd, Errno> {
    lookup(root, path, ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS)
}

fn lookup(root: BorrowedFd<'_>, path: &CStr, resolve: ResolveFlag) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(resolve);
    let mut found = openat2(root, path, how);
    for _ in 0..MAX_RETRIES {
        match found {
            Err(Errno::EAGAIN) => found = openat2(root, path, how),
            _ => break,
        }
    }
    found
}

/// Opens `path` below `root`, after making what is missing of it: directories, and at the end what `kind` says.
///
/// With `strict`, a symbolic link on the way is an error (`ELOOP`).
pub(super) fn find_or_make(
    root: BorrowedFd<'_>,
    path: &CStr,
    kind: Kind,
    strict: bool,
) -> Result<OwnedFd, Errno> {
    let found = if strict { open_strict(root, path) } else { open(root, path) };
    match found {
        Err(Errno::ENOENT) => make(root, path, kind, strict),
        found => found,
    }
}

/// Walks the way component by component, as the kernel cannot make anything on its way. Every step is a single name on a
/// descriptor, not followed; links are followed here, below `root`, which also finds the place that a dangling one names
/// (`/etc/resolv.conf` of images made for systemd).
fn make(root: BorrowedFd<'_>, path: &CStr, kind: Kind, strict: bool) -> Result<OwnedFd, Errno> {
    let mut names = components(path.to_bytes());
    // The directories from the root to here; `..` steps back in this list and so never above the root.
    let mut way: Vec<OwnedFd> = Vec::new();
    let mut links = 0;
    while let Some(name) = names.pop_front() {
        if name.as_bytes() == b".." {
            way.pop();
            continue;
        }
        let here = way.last().map_or(root, OwnedFd::as_fd);
        let last = names.is_empty();
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let found = match openat(here, name.as_c_str(), flags, Mode::empty()) {
            Err(Errno::ENOENT) => {
                make_one(here, &name, if last { kind } else { Kind::Directory })?;
                openat(here, name.as_c_str(), flags, Mode::empty())?
            }
            found => found?,
        };
        if stat::fstat(&found)?.st_mode & libc::S_IFMT != libc::S_IFLNK {
            way.push(found);
            continue;
        }
        links += 1;
        // Nothing can be made behind a link of proc, and the text of a magic one says where it leads on the host.
        let magic = fstatfs(&found)?.filesystem_type() == PROC_SUPER_MAGIC;
        if strict || magic || links > MAX_LINKS {
            return Err(Errno::ELOOP);
        }
        let target: OsString = readlinkat(&found, c"")?;
        let target = target.into_vec();
        if target.first() == Some(&b'/') {
            way.clear();
        }
        for name in components(&target).into_iter().rev() {
            names.push_front(name);
        }
    }
    way.pop().map_or_else(|| open(root, c"."), Ok)
}

fn make_one(here: BorrowedFd<'_>, name: &CStr, kind: Kind) -> Result<(), Errno> {
    let made = match kind {
        Kind::Directory => stat::mkdirat(here, name, Mode::from_bits_truncate(0o755)),
        Kind::File => {
            let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            openat(here, name, flags, Mode::from_bits_truncate(0o644)).map(drop)
        }
    };
    match made {
        // Somebody else was quicker, who may be another container with the same volume: what is there is looked at.
        Err(Errno::EEXIST) => Ok(()),
        made => made,
    }
}

fn components(path: &[u8]) -> VecDeque<CString> {
    let names = path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b"."));
    names.filter_map(|name| CString::new(name).ok()).collect()
}

/// Opens a directory of the host's, as a place.
pub(in crate::runtime) fn open_host(path: &CStr) -> Result<OwnedFd, Errno> {
    openat(AT_FDCWD, path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// A root in a directory that has a secret beside it.
    fn root(name: &str) -> (std::path::PathBuf, OwnedFd) {
        let outer =
            std::env::temp_dir().join(format!("mydocker-place-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&outer);
        let root = outer.join("root");
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::create_dir(outer.join("outside")).unwrap();
        symlink(outer.join("outside"), root.join("absolute")).unwrap();
        symlink("../../outside", root.join("etc/relative")).unwrap();
        symlink("/run/stub/file", root.join("etc/dangling")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let fd = openat(AT_FDCWD, &root, OFlag::O_PATH, Mode::empty()).unwrap();
        (root, fd)
    }

    #[test]
    fn what_is_missing_is_made_inside() {
        let (path, fd) = root("inside");
        let file = |name| find_or_make(fd.as_fd(), name, Kind::File, false);
        file(c"a/b/c").unwrap();
        assert!(path.join("a/b/c").is_file());
        file(c"etc/dangling").unwrap();
        assert!(path.join("run/stub/file").is_file());
        // Links out of the root lead to places of the same name inside.
        file(c"absolute/x").unwrap();
        file(c"etc/relative/y").unwrap();
        let outside = path.parent().unwrap().join("outside");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        assert!(path.join("outside/y").is_file());
        assert_eq!(file(c"loop/x").unwrap_err(), Errno::ELOOP);
        assert_eq!(file(c"a/b/c/d").unwrap_err(), Errno::ENOTDIR);
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn strict_ways_have_no_links() {
        let (path, fd) = root("strict");
        let directory = |name| find_or_make(fd.as_fd(), name, Kind::Directory, true);
        directory(c"proc").unwrap();
        assert!(path.join("proc").is_dir());
        assert_eq!(directory(c"absolute").unwrap_err(), Errno::ELOOP);
        assert_eq!(directory(c"etc/relative").unwrap_err(), Errno::ELOOP);
        assert_eq!(directory(c"etc/dangling").unwrap_err(), Errno::ELOOP);
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }
}
