//! A pipe between two threads of this process, of a bounded size, whose writer notices when nothing moves.
//!
//! The blocking HTTP client has one deadline for a whole request. A big upload over a slow link must not run into it,
//! and one that stands still must not wait for it; so the client reads from here, and the writer keeps the time.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::transport::lock;

/// The pieces that wait in a pipe at most.
const CAPACITY: usize = 4;

/// A new pipe.
pub(super) fn pipe() -> (PipeWriter, PipeReader) {
    let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
    (PipeWriter(Arc::clone(&shared)), PipeReader { shared, piece: Vec::new(), at: 0 })
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    pieces: VecDeque<Vec<u8>>,
    end: Option<End>,
    reader_is_gone: bool,
}

#[derive(Clone, Copy)]
enum End {
    /// All was written.
    Whole,
    /// The writer has given up.
    Broken,
}

/// The end that bytes go into. Dropped before [`PipeWriter::finish`], it leaves an error to the reader.
pub(super) struct PipeWriter(Arc<Shared>);

/// Why a pipe takes no more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stuck {
    /// Nobody reads any longer.
    Closed,
    /// Nothing was read for as long as said.
    Standstill,
}

impl PipeWriter {
    /// Puts `piece` in, as soon as there is room.
    pub(super) fn write(&self, piece: Vec<u8>, patience: Duration) -> Result<(), Stuck> {
        let full = |state: &mut State| state.pieces.len() >= CAPACITY && !state.reader_is_gone;
        let waited = self.0.changed.wait_timeout_while(lock(&self.0.state), patience, full);
        let (mut state, waited) = waited.unwrap_or_else(|poisoned| poisoned.into_inner());
        if state.reader_is_gone {
            return Err(Stuck::Closed);
        }
        if waited.timed_out() {
            return Err(Stuck::Standstill);
        }
        state.pieces.push_back(piece);
        self.0.changed.notify_all();
        Ok(())
    }

    /// Says that all was written, and waits until it has been read.
    pub(super) fn finish(self, patience: Duration) -> Result<(), Stuck> {
        let mut state = lock(&self.0.state);
        state.end = Some(End::Whole);
        self.0.changed.notify_all();
        let mut left = state.pieces.len();
        while left > 0 && !state.reader_is_gone {
            let same = |state: &mut State| state.pieces.len() == left && !state.reader_is_gone;
            let waited = self.0.changed.wait_timeout_while(state, patience, same);
            let (next, waited) = waited.unwrap_or_else(|poisoned| poisoned.into_inner());
            if waited.timed_out() {
                return Err(Stuck::Standstill);
            }
            state = next;
            left = state.pieces.len();
        }
        Ok(())
    }
}

impl Drop for PipeWriter {
    fn drop(&mut self) {
        lock(&self.0.state).end.get_or_insert(End::Broken);
        self.0.changed.notify_all();
    }
}

/// The end that bytes come out of.
pub(super) struct PipeReader {
    shared: Arc<Shared>,
    piece: Vec<u8>,
    at: usize,
}

impl Read for PipeReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() {
            let empty = |state: &mut State| state.pieces.is_empty() && state.end.is_none();
            let waited = self.shared.changed.wait_while(lock(&self.shared.state), empty);
            let mut state = waited.unwrap_or_else(|poisoned| poisoned.into_inner());
            match (state.pieces.pop_front(), state.end) {
                (Some(piece), _) => (self.piece, self.at) = (piece, 0),
                (None, Some(End::Whole)) => return Ok(0),
                (None, _) => return Err(io::ErrorKind::BrokenPipe.into()),
            }
            self.shared.changed.notify_all();
        }
        let rest = &self.piece[self.at..];
        let count = rest.len().min(buf.len());
        buf[..count].copy_from_slice(&rest[..count]);
        self.at += count;
        Ok(count)
    }
}

impl Drop for PipeReader {
    fn drop(&mut self) {
        lock(&self.shared.state).reader_is_gone = true;
        self.shared.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn what_goes_in_comes_out() {
        let (writer, mut reader) = pipe();
        let read = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).map(|_| bytes)
        });
        for number in 0..100 {
            writer.write(vec![number; 1000], LONG).unwrap();
        }
        writer.finish(LONG).unwrap();
        let bytes = read.join().unwrap().unwrap();
        let expected: Vec<u8> = (0..100).flat_map(|number| vec![number; 1000]).collect();
        assert!(bytes == expected);
    }

    #[test]
    fn a_standstill_is_noticed() {
        let (writer, _reader) = pipe();
        for _ in 0..CAPACITY {
            writer.write(vec![0], SHORT).unwrap();
        }
        assert_eq!(writer.write(vec![0], SHORT), Err(Stuck::Standstill));
        assert_eq!(writer.finish(SHORT), Err(Stuck::Standstill));
    }

    #[test]
    fn either_end_learns_that_the_other_is_gone() {
        let (writer, reader) = pipe();
        drop(reader);
        assert_eq!(writer.write(vec![0], LONG), Err(Stuck::Closed));
        let (writer, mut reader) = pipe();
        writer.write(vec![1], LONG).unwrap();
        drop(writer);
        let mut bytes = Vec::new();
        assert!(reader.read_to_end(&mut bytes).is_err());
        assert_eq!(bytes, [1]);
    }
}
