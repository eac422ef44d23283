//! Reading a container's log, over all its files and on while it is written.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::FlockArg;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::log::{self, LogEntry};
use super::status::Identity;
use super::{Containers, Error, Record};
use crate::runtime::Init;

/// The longest entry that is read: sixteen times what is written at most.
const MAX_ENTRY: u64 = 1 << 20;

/// A log that is read from its oldest entry, or from so many before its end.
#[derive(Debug)]
pub struct LogReader {
    containers: Containers,
    id: String,
    /// All files, the current one first; not all of them need be there.
    paths: Vec<PathBuf>,
    /// What is still to be read, the oldest last.
    files: Vec<BufReader<File>>,
    /// The file that was read last.
    last: Option<BufReader<File>>,
    /// The begin of an entry whose end is not written yet.
    begun: Vec<u8>,
}

impl LogReader {
    /// Opens the log of a container; `tail` is how many entries of its end are read, all where `None`.
    ///
    /// # Errors
    /// [`Error::NoLog`] if it has none.
    pub fn open(
        containers: &Containers,
        record: &Record,
        tail: Option<u64>,
    ) -> Result<Self, Error> {
        let options = record.settings.log.ok_or_else(|| Error::NoLog(record.name.clone()))?;
        let paths = log::paths(&containers.folder(&record.id), &record.id, options);
        let (mut files, mut left) = (Vec::new(), tail);
        {
            // No file is put aside between the opening of two.
            let _lock = containers.lock(&record.id, FlockArg::LockShared)?;
            for path in &paths {
                if left == Some(0) && !files.is_empty() {
                    break;
                }
                let failed = |source| Error::Io { verb: "read", path: path.clone(), source };
                let Some(mut file) = open(path).map_err(failed)? else { continue };
                if let Some(left) = &mut left {
                    *left -= seek_back(&mut file, *left).map_err(failed)?;
                }
                files.push(BufReader::new(file));
            }
        }
        if files.is_empty() && record.started.is_some() {
            // It has run without a monitor, which would have kept one.
            return Err(Error::NoLog(record.name.clone()));
        }
        let (containers, id) = (containers.clone(), record.id.clone());
        Ok(Self { containers, id, paths, files, last: None, begun: Vec::new() })
    }

    /// The next entry; `None` at the end of what has been written so far. What is no entry is passed over: a crash tears
    /// one.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn next_entry(&mut self) -> Result<Option<LogEntry>, Error> {
        loop {
            let Some(file) = self.files.last_mut() else { return Ok(None) };
            let room = MAX_ENTRY.saturating_sub(self.begun.len() as u64);
            let read = file.by_ref().take(room).read_until(b'\n', &mut self.begun);
            let count = read.map_err(|source| self.failed(source))?;
            let whole = self.begun.ends_with(b"\n") || self.begun.len() as u64 >= MAX_ENTRY;
            if whole {
                let line = std::mem::take(&mut self.begun);
                if let Ok(entry) = serde_json::from_slice(&line) {
                    return Ok(Some(entry));
                }
            } else if count == 0 {
                if self.files.len() == 1 {
                    return Ok(None);
                }
                self.begun.clear();
                self.last = self.files.pop();
            }
        }
    }

    fn failed(&self, source: io::Error) -> Error {
        let path = self.paths.first().cloned().unwrap_or_default();
        Error::Io { verb: "read", path, source }
    }

    /// Goes on to files that were begun after the one that was read last. Says whether there is more to read.
    fn advance(&mut self) -> Result<bool, Error> {
        let current = self.files.last_mut().or(self.last.as_mut());
        let known = match current {
            Some(reader) => {
                let found = reader.get_ref().metadata();
                let found = found.map_err(|source| Error::Io {
                    verb: "read",
                    path: self.paths.first().cloned().unwrap_or_default(),
                    source,
                })?;
                if found.len() < reader.stream_position().unwrap_or(0) {
                    // With a single file, it is made empty and written anew.
                    let _ = reader.seek(SeekFrom::Start(0));
                    self.begun.clear();
                    return Ok(true);
                }
                Some(found.ino())
            }
            None => None,
        };
        let _lock = self.containers.lock(&self.id, FlockArg::LockShared)?;
        let mut newer = Vec::new();
        for path in &self.paths {
            let failed = |source| Error::Io { verb: "read", path: path.clone(), source };
            let Some(file) = open(path).map_err(failed)? else { continue };
            if Some(file.metadata().map_err(failed)?.ino()) == known {
                break;
            }
            newer.push(BufReader::new(file));
        }
        let more = !newer.is_empty();
        if more {
            // What was written to the old file last is read before the new ones.
            newer.append(&mut self.files);
            self.files = newer;
        }
        Ok(more)
    }

    /// Waits for more entries; `false` when there will be none: the container has ended and its monitor too.
    ///
    /// # Errors
    /// When the log's folder cannot be watched.
    pub fn wait(&mut self, follow: &Follow) -> Result<bool, Error> {
        let folder = self.containers.folder(&self.id);
        let alive = follow.monitor.as_ref().is_some_and(|monitor| !monitor.wait(Duration::ZERO));
        match self.advance() {
            Ok(false) => {}
            Err(Error::NoSuchContainer(_)) => return Ok(false),
            more => return more,
        }
        if !alive {
            // What it wrote before it ended may have come since the last look.
            return Ok(self.has_more());
        }
        follow.wait(&folder)?;
        Ok(true)
    }

    fn has_more(&mut self) -> bool {
        let more = |reader: &mut BufReader<File>| reader.fill_buf().is_ok_and(|b| !b.is_empty());
        self.files.last_mut().is_some_and(more) || self.files.len() > 1
    }
}

/// What tells that a log may have got longer, or will not any more.
#[derive(Debug)]
pub struct Follow {
    inotify: Inotify,
    /// Held, so that its end is seen whenever it comes.
    monitor: Option<Init>,
}

impl Follow {
    /// Watches the log of a container. Made before the log is opened, so that nothing is missed between.
    ///
    /// # Errors
    /// When the kernel has no watch left for this user.
    pub fn new(containers: &Containers, record: &Record) -> Result<Self, Error> {
        let folder = containers.folder(&record.id);
        let failed =
            |errno: Errno| Error::Io { verb: "watch", path: folder.clone(), source: errno.into() };
        let inotify =
            Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(failed)?;
        let events = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVE;
        inotify.add_watch(&folder, events).map_err(failed)?;
        let status = containers.status(record);
        let monitor = status.running().and_then(|running| running.monitor);
        let monitor = monitor.and_then(Identity::find);
        Ok(Self { inotify, monitor })
    }

    fn wait(&self, folder: &Path) -> Result<(), Error> {
        let failed = |errno: Errno| Error::Io {
            verb: "watch",
            path: folder.to_owned(),
            source: errno.into(),
        };
        let mut fds = vec![PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN)];
        fds.extend(self.monitor.iter().map(|m| PollFd::new(m.pidfd(), PollFlags::POLLIN)));
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) | Ok(_) => {}
            Err(errno) => return Err(failed(errno)),
        }
        match self.inotify.read_events() {
            Ok(_) | Err(Errno::EAGAIN) => Ok(()),
            Err(errno) => Err(failed(errno)),
        }
    }
}

fn open(path: &Path) -> io::Result<Option<File>> {
    let mut options = fs::OpenOptions::new();
    match options.read(true).custom_flags(libc::O_NOFOLLOW).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some),
    }
}

/// Goes to where at most `lines` lines are left, and says how many are.
fn seek_back(file: &mut File, lines: u64) -> io::Result<u64> {
    const BLOCK: u64 = 64 << 10;
    let mut end = file.seek(SeekFrom::End(0))?;
    let mut found = 0;
    let mut block = Vec::new();
    while end > 0 {
        let begin = end.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(begin))?;
        block.clear();
        file.by_ref().take(end - begin).read_to_end(&mut block)?;
        for (at, byte) in block.iter().enumerate().rev() {
            if *byte != b'\n' {
                continue;
            }
            if found == lines {
                file.seek(SeekFrom::Start(begin + at as u64 + 1))?;
                return Ok(found);
            }
            found += 1;
        }
        end = begin;
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(found)
}
