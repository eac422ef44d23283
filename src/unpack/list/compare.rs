//! A tree on the disk beside its list.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, SFlag};

use super::content::ContentHasher;
use super::read::ListReader;
use super::scan::{Scan, kind, mtime};
use super::write::{size, special, xattrs};
use super::{ListError, Origin, Record, RecordKind, compare_paths};

/// How closely a tree is looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Depth {
    /// What lstat(2) and readlink(2) tell.
    Metadata,
    /// Contents and extended attributes as well.
    Contents,
}

/// Something in a tree that is not as the list has it.
#[derive(Debug)]
pub struct Difference {
    /// The path inside the tree; empty for the root.
    pub path: Vec<u8>,
    /// What is different.
    pub change: Change,
}

/// How a path differs from its record.
#[derive(Debug)]
#[non_exhaustive]
pub enum Change {
    /// It is there and the list has nothing of that name.
    Added,
    /// A regular file has other content.
    Content,
    /// A device has other numbers.
    Device,
    /// It is another kind of file.
    Kind,
    /// It is not there.
    Missing,
    /// The mode, as recorded and as it is.
    Mode(u32, u32),
    /// The modification time, in seconds since 1970 and nanoseconds, as recorded and as it is.
    ModifiedAt((i64, u32), (i64, u32)),
    /// Owner and group, as recorded and as they are.
    Owner((u32, u32), (u32, u32)),
    /// Two names that were of one file are of two.
    Separated,
    /// A file's size in bytes, as recorded and as it is.
    Size(u64, u64),
    /// A symbolic link holds something else.
    Target,
    /// It could not be looked at.
    Unreadable(io::Error),
    /// The extended attributes.
    Xattrs,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added => f.write_str("does not belong here"),
            Self::Content => f.write_str("has other content"),
            Self::Device => f.write_str("is another device"),
            Self::Kind => f.write_str("is another kind of file"),
            Self::Missing => f.write_str("is missing"),
            Self::Mode(was, is) => write!(f, "has mode {is:04o} instead of {was:04o}"),
            Self::ModifiedAt(was, is) => {
                write!(f, "was modified at {}.{:09} instead of {}.{:09}", is.0, is.1, was.0, was.1)
            }
            Self::Owner(was, is) => {
                write!(f, "belongs to {}:{} instead of {}:{}", is.0, is.1, was.0, was.1)
            }
            Self::Separated => f.write_str("is no longer linked to its other name"),
            Self::Size(was, is) => write!(f, "has {is} bytes instead of {was}"),
            Self::Target => f.write_str("points elsewhere"),
            Self::Unreadable(error) => write!(f, "cannot be read: {error}"),
            Self::Xattrs => f.write_str("has other extended attributes"),
        }
    }
}

/// Compares the tree in `root` with its list, and hands each difference to `report`; returns how many records there
/// are.
///
/// What cannot be read is a difference like any other, and the comparison goes on behind it. Of a directory that is
/// missing, what was in it is reported too.
///
/// # Errors
/// What is wrong with the list itself.
pub fn compare<R: Read>(
    root: BorrowedFd<'_>,
    mut list: ListReader<R>,
    depth: Depth,
    report: impl FnMut(Difference),
) -> Result<u64, ListError> {
    let mut scan = Scan::new(root);
    let mut state = State { depth, hasher: ContentHasher::new(), names: HashMap::new(), report };
    let mut records = 0;
    let mut expected = list.next_record()?;
    let mut found = scan.next();
    loop {
        let order = match (&expected, &found) {
            (None, None) => return Ok(records),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(record), Some(_)) => compare_paths(&record.path, scan.path()),
        };
        match (&expected, &found) {
            (Some(record), _) if order == Ordering::Less => {
                state.report(&record.path, Change::Missing);
            }
            (_, Some(Err(errno))) => state.report(scan.path(), Change::Unreadable((*errno).into())),
            (_, Some(Ok(_))) if order == Ordering::Greater => {
                state.report(scan.path(), Change::Added);
            }
            (Some(record), Some(Ok(stat))) => state.compare(record, stat, &scan),
            _ => {}
        }
        if order != Ordering::Greater {
            records += 1;
            expected = list.next_record()?;
        }
        if order != Ordering::Less {
            found = scan.next();
        }
    }
}

struct State<F> {
    depth: Depth,
    hasher: ContentHasher,
    /// The inode numbers of files with several names.
    names: HashMap<Origin, u64>,
    report: F,
}

impl<F: FnMut(Difference)> State<F> {
    fn report(&mut self, path: &[u8], change: Change) {
        (self.report)(Difference { path: path.to_vec(), change });
    }

    fn compare(&mut self, record: &Record, stat: &FileStat, scan: &Scan<'_>) {
        let path = &record.path;
        if kind(stat) != expected_kind(&record.kind) {
            return self.report(path, Change::Kind);
        }
        let mode = stat.st_mode & 0o7777;
        if mode != record.mode {
            self.report(path, Change::Mode(record.mode, mode));
        }
        let (expected, actual) = ((record.uid, record.gid), (stat.st_uid, stat.st_gid));
        if expected != actual {
            self.report(path, Change::Owner(expected, actual));
        }
        if mtime(stat) != record.mtime {
            self.report(path, Change::ModifiedAt(record.mtime, mtime(stat)));
        }
        self.compare_names(record, stat);
        let result = match &record.kind {
            RecordKind::File { .. } => self.compare_file(record, stat, scan),
            _ => self.compare_special(record, stat, scan),
        };
        let result = result.and_then(|()| self.compare_xattrs(record, stat, scan));
        if let Err(error) = result {
            self.report(path, Change::Unreadable(error));
        }
    }

    fn compare_names(&mut self, record: &Record, stat: &FileStat) {
        let Some(origin) = record.origin else {
            return;
        };
        if record.linked {
            if self.names.get(&origin) != Some(&stat.st_ino) {
                self.report(&record.path, Change::Separated);
            }
        } else if stat.st_nlink > 1 {
            self.names.insert(origin, stat.st_ino);
        }
    }

    fn compare_file(
        &mut self,
        record: &Record,
        stat: &FileStat,
        scan: &Scan<'_>,
    ) -> io::Result<()> {
        let RecordKind::File { size: expected, digest, sparse } = record.kind else {
            return Ok(());
        };
        if size(stat) != expected {
            self.report(&record.path, Change::Size(expected, size(stat)));
        } else if self.depth == Depth::Contents && !record.linked {
            // Not to wait for a writer, if it has become a FIFO a moment ago.
            let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
            let mut file = File::from(scan.open(flags)?);
            if self.hasher.file(&mut file, sparse)? != digest {
                self.report(&record.path, Change::Content);
            }
        }
        Ok(())
    }

    fn compare_special(
        &mut self,
        record: &Record,
        stat: &FileStat,
        scan: &Scan<'_>,
    ) -> io::Result<()> {
        if special(scan, stat)? != record.kind {
            let change = match record.kind {
                RecordKind::Symlink { .. } => Change::Target,
                _ => Change::Device,
            };
            self.report(&record.path, change);
        }
        Ok(())
    }

    fn compare_xattrs(
        &mut self,
        record: &Record,
        stat: &FileStat,
        scan: &Scan<'_>,
    ) -> io::Result<()> {
        if self.depth == Depth::Metadata || record.linked {
            return Ok(());
        }
        match xattrs(scan, stat.st_mode) {
            Ok(found) if found == record.xattrs => {}
            Ok(_) => self.report(&record.path, Change::Xattrs),
            Err(Errno::EOPNOTSUPP) if record.xattrs.is_empty() => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(())
    }
}

fn expected_kind(kind: &RecordKind) -> SFlag {
    match kind {
        RecordKind::Directory => SFlag::S_IFDIR,
        RecordKind::File { .. } => SFlag::S_IFREG,
        RecordKind::Symlink { .. } => SFlag::S_IFLNK,
        RecordKind::Block { .. } => SFlag::S_IFBLK,
        RecordKind::Character { .. } => SFlag::S_IFCHR,
        RecordKind::Fifo => SFlag::S_IFIFO,
    }
}
