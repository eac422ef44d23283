//! Reading a store's events, and waiting for more.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::Error;
use super::events::{Event, Journal, MAX_LINE};

/// How many files are kept open: a writer may have opened one before it was put aside.
const MAX_FILES: usize = 2;

/// Events from the oldest on.
#[derive(Debug)]
pub struct EventReader {
    journal: Journal,
    inotify: Inotify,
    /// The oldest first.
    files: VecDeque<Journaled>,
}

#[derive(Debug)]
struct Journaled {
    reader: BufReader<File>,
    inode: u64,
    /// A line whose end has not come.
    begun: Vec<u8>,
}

impl EventReader {
    /// Opens the journal, which need not be there yet.
    ///
    /// # Errors
    /// When its folder cannot be watched, or one of its files cannot be read.
    pub fn open(journal: Journal) -> Result<Self, Error> {
        let folder = journal.path.parent().unwrap_or(Path::new("/")).to_owned();
        let failed =
            |errno: Errno| Error::Io { verb: "watch", path: folder.clone(), source: errno.into() };
        let inotify =
            Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(failed)?;
        let events = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVE;
        inotify.add_watch(&folder, events).map_err(failed)?;
        let mut reader = Self { journal, inotify, files: VecDeque::new() };
        // The newer one first: what is put aside in between is then opened twice, and not missed.
        let paths = [reader.journal.path.clone(), reader.journal.before()];
        for path in paths {
            if let Some(file) = reader.open_file(&path)?
                && reader.files.iter().all(|known| known.inode != file.inode)
            {
                reader.files.push_front(file);
            }
        }
        Ok(reader)
    }

    fn open_file(&self, path: &Path) -> Result<Option<Journaled>, Error> {
        let failed = |source| Error::Io { verb: "read", path: path.to_owned(), source };
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(failed)?,
        };
        let inode = file.metadata().map_err(failed)?.ino();
        Ok(Some(Journaled { reader: BufReader::new(file), inode, begun: Vec::new() }))
    }

    /// The next event; `None` where there is none yet. What is none is passed over: a full disk tears lines.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn next_event(&mut self) -> Result<Option<Event>, Error> {
        loop {
            for file in &mut self.files {
                while let Some(line) = file.line().map_err(|source| {
                    let path = self.journal.path.clone();
                    Error::Io { verb: "read", path, source }
                })? {
                    if let Ok(event) = serde_json::from_slice(&line) {
                        return Ok(Some(event));
                    }
                }
            }
            let Some(newest) = self.open_file(&self.journal.path)? else { return Ok(None) };
            if self.files.back().is_some_and(|known| known.inode == newest.inode) {
                return Ok(None);
            }
            self.files.push_back(newest);
            while self.files.len() > MAX_FILES {
                self.files.pop_front();
            }
        }
    }

    /// Waits until there may be more, at most so long; for ever where `None`.
    ///
    /// # Errors
    /// When the folder cannot be watched any more.
    pub fn wait(&self, limit: Option<Duration>) -> Result<(), Error> {
        let failed = |errno: Errno| Error::Io {
            verb: "watch",
            path: self.journal.path.clone(),
            source: errno.into(),
        };
        let limit = limit.map_or(PollTimeout::NONE, |limit| {
            // Not a moment too early, and again if it is too long for one call.
            let millis = limit.as_millis().saturating_add(1);
            u16::try_from(millis).map_or(PollTimeout::from(u16::MAX), PollTimeout::from)
        });
        let mut fds = [PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, limit) {
            Err(Errno::EINTR) | Ok(_) => {}
            Err(errno) => return Err(failed(errno)),
        }
        match self.inotify.read_events() {
            Ok(_) | Err(Errno::EAGAIN) => Ok(()),
            Err(errno) => Err(failed(errno)),
        }
    }
}

impl Journaled {
    /// The next whole line.
    fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let room = MAX_LINE.saturating_sub(self.begun.len()) as u64;
        self.reader.by_ref().take(room).read_until(b'\n', &mut self.begun)?;
        // One that is too long is none, and is read in pieces that are none either.
        let whole = self.begun.ends_with(b"\n") || self.begun.len() >= MAX_LINE;
        Ok(whole.then(|| std::mem::take(&mut self.begun)))
    }
}
