//! What the two ends of a copy mean, by docker's rules (its reference page of `container cp`).
//!
//! The same rules hold on both sides: names are found below a root directory, that of the host or that of a container,
//! and no link and no `..` leads out of it. A `..` is taken away with what is before it, in the text.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, readlinkat};
use nix::sys::stat::{FileStat, SFlag, fstatat};

use crate::sys::fs::{READ_DIRECTORY, is_of_the_kernel, open_in_root};

/// How many links at the end of a path are followed, as by the kernel.
const MAX_LINKS: usize = 40;

/// Why something cannot be copied from or to a path.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// A directory would take the place of a file.
    #[error("cannot copy a directory: `{0}` is there and is a file")]
    CannotCopyDirectory(String),
    /// The kernel would not do it.
    #[error("{verb} `{path}`")]
    Io {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: String,
        /// What the kernel said.
        #[source]
        source: Errno,
    },
    /// It lies on proc, sysfs, or their like.
    #[error("`{0}` lies on a file system of the kernel's, and is not a file of the container's")]
    Kernel(String),
    /// What is to become a directory by its name would be a file.
    #[error("no such directory: `{0}`")]
    NoDirectory(String),
    /// Nothing is there.
    #[error("could not find the file `{0}`")]
    NotFound(String),
    /// A directory was meant.
    #[error("`{0}` is not a directory")]
    NotDirectory(String),
    /// What cannot be copied, or copied to.
    #[error("`{path}` is a {kind}")]
    Special {
        /// The path.
        path: String,
        /// What it is.
        kind: &'static str,
    },
}

/// What is copied.
#[derive(Debug)]
pub struct Source {
    /// The directory itself, or that of the file.
    pub dir: OwnedFd,
    /// The file's name in `dir`; empty for the directory itself.
    pub name: Vec<u8>,
    /// What the copy is called unless its destination says otherwise; empty for what is in a directory.
    pub base: Vec<u8>,
    /// Whether it is a directory.
    pub is_directory: bool,
}

/// Where a copy goes.
#[derive(Debug)]
pub struct Destination {
    /// The directory that the copy is laid in.
    pub dir: OwnedFd,
    /// What is taken from the beginning of each of its names.
    pub strip: Vec<u8>,
    /// What then comes before it.
    pub under: Vec<u8>,
}

/// A path as its user meant it.
struct Asked {
    /// Without `.`, `..` and slashes too many; empty for the root.
    path: Vec<u8>,
    /// Whether its end says that it is a directory.
    is_directory: bool,
    /// Whether what is in the directory is meant.
    is_content: bool,
}

impl Asked {
    fn new(text: &[u8]) -> Self {
        let last = text.rsplit(|b| *b == b'/').next().unwrap_or_default();
        let path = clean(text);
        let is_content = last == b"." || path.is_empty();
        Self { is_directory: matches!(last, b"" | b".") || path.is_empty(), is_content, path }
    }
}

/// What the copy of `path` is called; empty for what is in a directory.
pub fn base(path: &[u8]) -> Vec<u8> {
    let asked = Asked::new(path);
    if asked.is_content { Vec::new() } else { split(&asked.path).1.to_vec() }
}

/// Finds what is to be copied. A symbolic link at the end of `path` is copied as such, unless `follow`.
///
/// # Errors
/// [`CopyError`].
pub fn find_source(root: BorrowedFd<'_>, path: &[u8], follow: bool) -> Result<Source, CopyError> {
    let asked = Asked::new(path);
    let base = base(path);
    if asked.is_directory {
        let dir = directory(root, &asked.path, path)?;
        return Ok(Source { dir, name: Vec::new(), base, is_directory: true });
    }
    let (place, found) = place(root, asked.path, follow, path)?;
    let Some(stat) = found else { return Err(CopyError::NotFound(shown(path))) };
    if kind(&stat) == SFlag::S_IFDIR {
        let dir = directory(root, &place, path)?;
        return Ok(Source { dir, name: Vec::new(), base, is_directory: true });
    }
    if kind(&stat) == SFlag::S_IFSOCK {
        return Err(CopyError::Special { path: shown(path), kind: "socket" });
    }
    let (parent, name) = split(&place);
    let dir = directory(root, parent, path)?;
    Ok(Source { dir, name: name.to_vec(), base, is_directory: false })
}

/// Finds where a copy goes that is called `base` and is a directory or not.
///
/// # Errors
/// [`CopyError`].
pub fn find_destination(
    root: BorrowedFd<'_>,
    path: &[u8],
    base: &[u8],
    is_directory: bool,
) -> Result<Destination, CopyError> {
    let asked = Asked::new(path);
    let (place, found) = place(root, asked.path, true, path)?;
    let (parent, name) = split(&place);
    let renamed = |dir| Destination { dir, strip: base.to_vec(), under: name.to_vec() };
    match found.as_ref().map(kind) {
        Some(SFlag::S_IFDIR) => {
            let dir = directory(root, &place, path)?;
            Ok(Destination { dir, strip: Vec::new(), under: Vec::new() })
        }
        Some(SFlag::S_IFREG) if asked.is_directory => Err(CopyError::NotDirectory(shown(path))),
        Some(SFlag::S_IFREG) if is_directory => Err(CopyError::CannotCopyDirectory(shown(path))),
        Some(SFlag::S_IFREG) => directory(root, parent, path).map(renamed),
        Some(other) => Err(CopyError::Special { path: shown(path), kind: word(other) }),
        None if asked.is_directory && !is_directory => Err(CopyError::NoDirectory(shown(path))),
        None => directory(root, parent, parent).map(renamed),
    }
}

/// Finds the directory that an archive is laid in.
///
/// # Errors
/// [`CopyError::NotDirectory`] if it is none.
pub fn find_directory(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, CopyError> {
    directory(root, &Asked::new(path).path, path)
}

/// Opens a directory, behind whatever links.
fn directory(root: BorrowedFd<'_>, path: &[u8], asked: &[u8]) -> Result<OwnedFd, CopyError> {
    // The links of a path in a root are followed there.
    let flags = READ_DIRECTORY.difference(OFlag::O_NOFOLLOW);
    match open_in_root(root, path, flags) {
        Ok(dir) => check(dir, asked),
        Err(Errno::ENOENT) => Err(CopyError::NotFound(shown(asked))),
        Err(Errno::ENOTDIR) => Err(CopyError::NotDirectory(shown(asked))),
        Err(source) => Err(CopyError::Io { verb: "open", path: shown(asked), source }),
    }
}

/// Refuses what the kernel makes up.
fn check(file: OwnedFd, asked: &[u8]) -> Result<OwnedFd, CopyError> {
    match is_of_the_kernel(file.as_fd()) {
        Ok(false) => Ok(file),
        Ok(true) => Err(CopyError::Kernel(shown(asked))),
        Err(source) => Err(CopyError::Io { verb: "look at", path: shown(asked), source }),
    }
}

/// Where a path is behind the links at its end, if those are followed, and what is there.
fn place(
    root: BorrowedFd<'_>,
    mut path: Vec<u8>,
    follow: bool,
    asked: &[u8],
) -> Result<(Vec<u8>, Option<FileStat>), CopyError> {
    let failed = |source| CopyError::Io { verb: "look at", path: shown(asked), source };
    for _ in 0..MAX_LINKS {
        let (parent, name) = split(&path);
        let dir = directory(root, parent, &[b"/", parent].concat())?;
        let name = if name.is_empty() { b"." } else { name };
        let stat = match fstatat(&dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => return Ok((path, None)),
            found => found.map_err(failed)?,
        };
        if !follow || kind(&stat) != SFlag::S_IFLNK {
            return Ok((path, Some(stat)));
        }
        let target = readlinkat(&dir, name).map_err(failed)?.into_vec();
        path = clean(&if target.starts_with(b"/") {
            target
        } else {
            [parent, b"/", &target].concat()
        });
    }
    Err(failed(Errno::ELOOP))
}

/// The path from the root, by the text alone.
fn clean(text: &[u8]) -> Vec<u8> {
    let mut names: Vec<&[u8]> = Vec::new();
    for name in text.split(|b| *b == b'/') {
        match name {
            b"" | b"." => {}
            b".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    names.join(&b'/')
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(slash) => (path.get(..slash).unwrap_or(path), path.get(slash + 1..).unwrap_or(path)),
        None => (b"", path),
    }
}

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

fn word(kind: SFlag) -> &'static str {
    match kind {
        SFlag::S_IFBLK | SFlag::S_IFCHR => "device",
        SFlag::S_IFIFO => "named pipe",
        _ => "socket",
    }
}

/// A path for a message.
fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).chars().take(256).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_copy_is_called() {
        for (path, expected) in [
            ("/etc/passwd", "passwd"),
            ("etc/", "etc"),
            ("/etc/.", ""),
            ("/", ""),
            (".", ""),
            ("/a/b/..", "a"),
            ("/..", ""),
            ("//a//b//", "b"),
        ] {
            assert_eq!(base(path.as_bytes()), expected.as_bytes(), "{path}");
        }
    }
}
