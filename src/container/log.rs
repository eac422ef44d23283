//! Writing a container's log: docker's `json-file`, one JSON object a line, in files of bounded size.
//!
//! ```text
//! <id>-json.log       what comes now
//! <id>-json.log.1     what came before; the highest number is the oldest
//! ```
//!
//! A file is put aside between two lines of the program's, never inside one, and with the container's folder locked, so
//! that a reader opens all of them or none.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::FlockArg;
use serde::{Deserialize, Serialize};

use super::Error;
use super::record::Containers;
use super::settings::LogOptions;

/// The longest piece of a line that becomes one entry, as with docker.
const MAX_ENTRY: usize = 16 << 10;
/// So many bytes of entries are written at once: short lines would cost a system call each.
const BATCH: usize = 32 << 10;

/// One line of a log.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct LogEntry {
    /// What the program wrote; it ends with a newline unless the line goes on in the next entry of its stream.
    pub log: String,
    /// Where.
    pub stream: Stream,
    /// When, in RFC 3339 with nanoseconds.
    pub time: String,
}

/// A stream that a program writes to.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output; the terminal, where there is one.
    Stdout,
    /// Standard error.
    Stderr,
}

/// The files of a container's log, the current one first; not all of them need be there.
pub(super) fn paths(folder: &Path, id: &str, options: LogOptions) -> Vec<PathBuf> {
    let path = |number: u32| match number {
        0 => folder.join(format!("{id}-json.log")),
        number => folder.join(format!("{id}-json.log.{number}")),
    };
    (0..options.max_file).map(path).collect()
}

/// A log that is written.
#[derive(Debug)]
pub(super) struct Log {
    containers: Containers,
    id: String,
    options: LogOptions,
    /// All files, the current one first.
    paths: Vec<PathBuf>,
    file: File,
    size: u64,
    /// Entries that are yet to be written to it.
    waiting: Vec<u8>,
    /// By stream: the begin of a line whose end has not come, and whether a piece of it is written already.
    lines: [(Vec<u8>, bool); 2],
}

impl Log {
    /// Opens the log of a container, or begins it.
    pub(super) fn open(
        containers: &Containers,
        id: &str,
        options: LogOptions,
    ) -> Result<Self, Error> {
        let paths = paths(&containers.folder(id), id, options);
        let path = paths.first().cloned().unwrap_or_default();
        let failed = |source| Error::Io { verb: "open", path: path.clone(), source };
        let mut file = open(&path).map_err(failed)?;
        let size = file.seek(io::SeekFrom::End(0)).map_err(failed)?;
        let (containers, id) = (containers.clone(), id.to_owned());
        let (waiting, lines) = Default::default();
        let mut log = Self { containers, id, options, paths, file, size, waiting, lines };
        if size > 0 && !log.ends_whole() {
            // A crash has torn the last entry; what comes now is not to be torn with it.
            log.append(b"\n");
        }
        Ok(log)
    }

    fn ends_whole(&mut self) -> bool {
        let mut last = [0];
        let read =
            self.file.seek(io::SeekFrom::End(-1)).and_then(|_| self.file.read_exact(&mut last));
        read.is_ok() && last == *b"\n"
    }

    /// Takes what the program wrote. A log that cannot be written to does not keep the program from running: what there is
    /// no room for is lost, entry by entry.
    pub(super) fn write(&mut self, stream: Stream, mut bytes: &[u8]) {
        let time = timestamp();
        while !bytes.is_empty() {
            let (line, _) = self.line(stream);
            let room = MAX_ENTRY.saturating_sub(line.len()).max(1);
            let newline = bytes.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
            let take = newline.unwrap_or(bytes.len()).min(room).min(bytes.len());
            let (now, rest) = bytes.split_at(take);
            line.extend_from_slice(now);
            bytes = rest;
            let whole = line.ends_with(b"\n");
            if whole || line.len() >= MAX_ENTRY {
                let kept = if whole { 0 } else { incomplete(line) };
                let rest = line.split_off(line.len() - kept);
                let entry = std::mem::replace(line, rest);
                self.entry(stream, &entry, &time);
            }
        }
        self.flush();
    }

    /// Writes what is left of lines without an end: the program has ended.
    pub(super) fn finish(&mut self) {
        let time = timestamp();
        for stream in [Stream::Stdout, Stream::Stderr] {
            let rest = std::mem::take(&mut self.line(stream).0);
            if !rest.is_empty() {
                self.entry(stream, &rest, &time);
            }
            self.line(stream).1 = false;
        }
        self.flush();
    }

    fn line(&mut self, stream: Stream) -> &mut (Vec<u8>, bool) {
        let [stdout, stderr] = &mut self.lines;
        match stream {
            Stream::Stdout => stdout,
            Stream::Stderr => stderr,
        }
    }

    fn entry(&mut self, stream: Stream, bytes: &[u8], time: &str) {
        let log = String::from_utf8_lossy(bytes).into_owned();
        let entry = LogEntry { log, stream, time: time.to_owned() };
        // A structure of strings can always be written as JSON.
        let mut text = serde_json::to_vec(&entry).unwrap_or_default();
        text.push(b'\n');
        let size = self.size.saturating_add(self.waiting.len() as u64);
        let full = size > 0 && size.saturating_add(text.len() as u64) > self.options.max_size;
        let open = self.lines.iter().any(|(_, begun)| *begun);
        // A line that is longer than a whole file may be is the one that has to be torn.
        if full && (!open || size > self.options.max_size.saturating_mul(2)) {
            self.flush();
            self.rotate();
        }
        self.waiting.append(&mut text);
        if self.waiting.len() >= BATCH {
            self.flush();
        }
        self.line(stream).1 = !bytes.ends_with(b"\n");
    }

    /// Writes the entries that wait, together; one by one where there is no room for all of them.
    fn flush(&mut self) {
        let entries = std::mem::take(&mut self.waiting);
        if !self.append(&entries) {
            for entry in entries.split_inclusive(|byte| *byte == b'\n') {
                self.append(entry);
            }
        }
    }

    /// Says whether it was written.
    fn append(&mut self, text: &[u8]) -> bool {
        let written = self.file.write_all(text).is_ok();
        if written {
            self.size += text.len() as u64;
        } else {
            // No half of an entry stays; if even that fails, a reader passes over it.
            let _ = self.file.set_len(self.size);
        }
        written
    }

    fn rotate(&mut self) {
        let Ok(_lock) = self.containers.lock(&self.id, FlockArg::LockExclusive) else { return };
        for pair in self.paths.windows(2).rev() {
            if let [newer, older] = pair {
                // The oldest is overwritten; one that is not there need not move.
                let _ = std::fs::rename(newer, older);
            }
        }
        let Some(path) = self.paths.first() else { return };
        match (self.paths.len(), open(path)) {
            (2.., Ok(file)) => (self.file, self.size) = (file, 0),
            // With a single file there is nowhere to put anything aside.
            (..2, _) if self.file.set_len(0).is_ok() => self.size = 0,
            _ => {}
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    // Appending, so that a file that was made shorter goes on at its new end.
    options.read(true).append(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    options.open(path)
}

/// How many bytes at the end are the begin of a character of UTF-8 that goes on.
fn incomplete(bytes: &[u8]) -> usize {
    let tail = &bytes[bytes.len().saturating_sub(3)..];
    (1..=tail.len())
        .find(|count| {
            let end = &tail[tail.len() - count..];
            std::str::from_utf8(end)
                .is_err_and(|error| error.error_len().is_none() && error.valid_up_to() == 0)
        })
        .unwrap_or(0)
}

/// The time in RFC 3339 with nanoseconds.
pub(super) fn timestamp() -> String {
    let format = &time::format_description::well_known::Rfc3339;
    time::OffsetDateTime::now_utc().format(format).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_not_torn() {
        assert_eq!(incomplete("aä".as_bytes()), 0);
        assert_eq!(incomplete(&"aä".as_bytes()[..2]), 1);
        assert_eq!(incomplete(&"a😀".as_bytes()[..4]), 3);
        assert_eq!(incomplete(b"a\xff"), 0);
        assert_eq!(incomplete(b""), 0);
    }
}
