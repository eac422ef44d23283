//! A walk through a tree on the disk, in the order of its list.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, SFlag, fstat, fstatat};

use crate::sys::fs::{DirReader, EntryKind, READ_DIRECTORY, open_on_mount};

/// How many directories are held open; those further up are opened again when the walk comes back to them.
const OPEN: usize = 64;

/// A walk. After each step [`Scan::path`], [`Scan::dir`] and [`Scan::name`] tell where it is.
pub(super) struct Scan<'a> {
    root: BorrowedFd<'a>,
    started: bool,
    /// Whether what was found last is a directory, to be entered next.
    entering: bool,
    frames: Vec<Frame>,
    path: Vec<u8>,
    name_start: usize,
}

/// A directory on the way.
struct Frame {
    fd: Option<OwnedFd>,
    names: Names,
    path_length: usize,
    /// Whether its entries' inode numbers are those that stat(2) tells: found out from the first one that it is asked of.
    inodes: Option<bool>,
}

/// What the directory itself says of a file.
#[derive(Clone, Copy)]
pub(super) struct Seen {
    inode: u64,
    /// Whether it is surely no directory.
    plain: bool,
}

impl<'a> Scan<'a> {
    pub(super) fn new(root: BorrowedFd<'a>) -> Self {
        let (frames, path) = (Vec::new(), Vec::new());
        Self { root, started: false, entering: false, frames, path, name_start: 0 }
    }

    /// The path of what was found last.
    pub(super) fn path(&self) -> &[u8] {
        &self.path
    }

    /// The last component of that path.
    pub(super) fn name(&self) -> &[u8] {
        self.path.get(self.name_start..).unwrap_or_default()
    }

    /// The directory that it is in; for the root the root itself.
    pub(super) fn dir(&self) -> BorrowedFd<'_> {
        self.frames.last().and_then(|frame| frame.fd.as_ref()).map_or(self.root, AsFd::as_fd)
    }

    /// Opens what was found last.
    pub(super) fn open(&self, flags: nix::fcntl::OFlag) -> nix::Result<OwnedFd> {
        open_on_mount(self.dir(), self.name(), flags)
    }

    /// The next file; an error belongs to [`Scan::path`], and the walk goes on behind it.
    pub(super) fn next(&mut self) -> Option<nix::Result<FileStat>> {
        Some(self.advance()?.and_then(|_| self.look()))
    }

    /// Goes to the next file; unless [`Scan::look`] is called, it must be known to be no directory.
    pub(super) fn advance(&mut self) -> Option<nix::Result<Seen>> {
        if !self.started {
            self.started = true;
            return Some(Ok(Seen { inode: 0, plain: false }));
        }
        if std::mem::take(&mut self.entering)
            && let Err(errno) = self.enter()
        {
            return Some(Err(errno));
        }
        loop {
            let frame = self.frames.last_mut()?;
            self.path.truncate(frame.path_length);
            let Some((name, seen)) = frame.names.next() else {
                self.frames.pop();
                continue;
            };
            if frame.path_length > 0 {
                self.path.push(b'/');
            }
            self.name_start = self.path.len();
            self.path.extend_from_slice(name);
            return Some(self.reopen().map(|()| seen));
        }
    }

    /// What stat(2) says of what was found last.
    pub(super) fn look(&mut self) -> nix::Result<FileStat> {
        let stat = if self.frames.is_empty() {
            fstat(self.root)?
        } else {
            fstatat(self.dir(), self.name(), AtFlags::AT_SYMLINK_NOFOLLOW)?
        };
        self.entering = kind(&stat) == SFlag::S_IFDIR;
        Ok(stat)
    }

    /// The inode number of what was found last, if it is no directory and that can be told without stat(2).
    ///
    /// Some file systems, overlayfs among them, have other numbers in directories. They are found out by one file of each
    /// directory, as it is the directory that decides.
    pub(super) fn inode(&mut self, seen: Seen) -> Option<u64> {
        if !seen.plain {
            return None;
        }
        let known = self.frames.last()?.inodes;
        let same = known.unwrap_or_else(|| self.look().is_ok_and(|stat| stat.st_ino == seen.inode));
        self.frames.last_mut()?.inodes = Some(same);
        same.then_some(seen.inode)
    }

    fn enter(&mut self) -> nix::Result<()> {
        let fd = self.open(READ_DIRECTORY)?;
        let mut reader = DirReader::new(fd);
        let names = Names::read(&mut reader)?;
        let depth = self.frames.len();
        if let Some(above) = depth.checked_sub(OPEN).and_then(|above| self.frames.get_mut(above)) {
            above.fd = None;
        }
        let (fd, path_length) = (Some(reader.into_fd()), self.path.len());
        self.frames.push(Frame { fd, names, path_length, inodes: None });
        Ok(())
    }

    /// Opens the present directory again, if too many others were open meanwhile.
    fn reopen(&mut self) -> nix::Result<()> {
        let Some(frame) = self.frames.last_mut() else { return Ok(()) };
        if frame.fd.is_none() {
            let path = self.path.get(..frame.path_length).unwrap_or_default();
            frame.fd = Some(open_on_mount(self.root, path, READ_DIRECTORY)?);
        }
        Ok(())
    }
}

/// The kind of file, which is part of its mode.
pub(super) fn kind(stat: &FileStat) -> SFlag {
    file_kind(stat.st_mode)
}

pub(in super::super) fn file_kind(mode: u32) -> SFlag {
    SFlag::from_bits_truncate(mode) & SFlag::S_IFMT
}

pub(in super::super) fn mtime(stat: &FileStat) -> (i64, u32) {
    (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0))
}

/// The names in a directory, sorted, in little memory.
struct Names {
    bytes: Vec<u8>,
    /// Where each begins and how long it is, the first one last.
    spans: Vec<(usize, u16, Seen)>,
}

impl Names {
    fn read(reader: &mut DirReader) -> nix::Result<Self> {
        let (mut bytes, mut spans) = (Vec::new(), Vec::new());
        while let Some((name, kind)) = reader.next_entry()? {
            let (start, length) = (bytes.len(), u16::try_from(name.len()));
            bytes.extend_from_slice(name);
            let seen = Seen { inode: reader.inode(), plain: kind == EntryKind::Other };
            spans.push((start, length.map_err(|_| Errno::EIO)?, seen));
        }
        spans.sort_unstable_by(|a, b| name_at(&bytes, (b.0, b.1)).cmp(name_at(&bytes, (a.0, a.1))));
        Ok(Self { bytes, spans })
    }

    fn next(&mut self) -> Option<(&[u8], Seen)> {
        let (start, length, seen) = self.spans.pop()?;
        Some((name_at(&self.bytes, (start, length)), seen))
    }
}

fn name_at(bytes: &[u8], (start, length): (usize, u16)) -> &[u8] {
    bytes.get(start..start + usize::from(length)).unwrap_or_default()
}
