//! A walk through a tree on the disk, in the order of its list.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, SFlag, fstat, fstatat};

use crate::sys::fs::{DirReader, READ_DIRECTORY, open_on_mount};

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
        if !self.started {
            self.started = true;
            self.entering = true;
            return Some(fstat(self.root));
        }
        if std::mem::take(&mut self.entering)
            && let Err(errno) = self.enter()
        {
            return Some(Err(errno));
        }
        loop {
            let frame = self.frames.last_mut()?;
            self.path.truncate(frame.path_length);
            let Some(name) = frame.names.next() else {
                self.frames.pop();
                continue;
            };
            if frame.path_length > 0 {
                self.path.push(b'/');
            }
            self.name_start = self.path.len();
            self.path.extend_from_slice(name);
            return Some(self.look());
        }
    }

    fn look(&mut self) -> nix::Result<FileStat> {
        self.reopen()?;
        let stat = fstatat(self.dir(), self.name(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        self.entering = is_directory(&stat);
        Ok(stat)
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
        self.frames.push(Frame { fd, names, path_length });
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

pub(super) fn is_directory(stat: &FileStat) -> bool {
    kind(stat) == SFlag::S_IFDIR
}

/// The kind of file, which is part of its mode.
pub(super) fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

pub(in super::super) fn mtime(stat: &FileStat) -> (i64, u32) {
    (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0))
}

/// The names in a directory, sorted, in little memory.
struct Names {
    bytes: Vec<u8>,
    /// Where each begins and how long it is, the first one last.
    spans: Vec<(usize, u16)>,
}

impl Names {
    fn read(reader: &mut DirReader) -> nix::Result<Self> {
        let (mut bytes, mut spans) = (Vec::new(), Vec::new());
        while let Some((name, _)) = reader.next_entry()? {
            spans.push((bytes.len(), u16::try_from(name.len()).map_err(|_| Errno::EIO)?));
            bytes.extend_from_slice(name);
        }
        spans.sort_unstable_by(|a, b| name_at(&bytes, *b).cmp(name_at(&bytes, *a)));
        Ok(Self { bytes, spans })
    }

    fn next(&mut self) -> Option<&[u8]> {
        self.spans.pop().map(|span| name_at(&self.bytes, span))
    }
}

fn name_at(bytes: &[u8], (start, length): (usize, u16)) -> &[u8] {
    bytes.get(start..start + usize::from(length)).unwrap_or_default()
}
