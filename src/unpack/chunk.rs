//! Buffers that go round between the threads of a layer: filled by one, read by others, filled again.

use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel};

/// The size of a buffer, in bytes: small enough to stay in a core's cache between its writer and its readers.
const CHUNK: usize = 256 << 10;
/// How many buffers there are on either side of the decompression.
pub(super) const CHUNKS: usize = 8;
/// What a buffer's address is a multiple of, in bytes, so that it can be written with `O_DIRECT`: a page, and no disk has
/// larger sectors.
pub(super) const ALIGNMENT: usize = 4096;

/// A stretch of the uncompressed layer; or how reading it failed.
pub(super) type Chunk = io::Result<Arc<Buffer>>;

/// A buffer that goes back to be filled again when its last reader lets go of it.
pub(super) struct Buffer {
    room: Room,
    /// How much of it is filled.
    length: usize,
    home: Sender<Room>,
}

impl Buffer {
    pub(super) fn bytes(&self) -> &[u8] {
        self.room.bytes().get(..self.length).unwrap_or_default()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // Nobody wants it after the stream's end.
        let _ = self.home.send(std::mem::take(&mut self.room));
    }
}

/// Memory for a buffer.
#[derive(Default)]
struct Room {
    memory: Vec<u8>,
    /// Where the buffer begins in it.
    start: usize,
}

impl Room {
    fn new() -> Self {
        let memory = vec![0; CHUNK + ALIGNMENT];
        let start = memory.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        Self { memory, start }
    }

    fn bytes(&self) -> &[u8] {
        self.memory.get(self.start..self.start + CHUNK).unwrap_or_default()
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self.memory.get_mut(self.start..self.start + CHUNK).unwrap_or_default()
    }
}

/// A part of a buffer, which it keeps from being filled again.
pub(super) struct Slice {
    buffer: Arc<Buffer>,
    start: usize,
    end: usize,
}

impl Slice {
    pub(super) fn bytes(&self) -> &[u8] {
        self.buffer.bytes().get(self.start..self.end).unwrap_or_default()
    }
}

/// Fills buffers until the stream ends, fails, or nobody wants them any more. `listeners` get all that the extractor gets.
pub(super) fn pump(
    mut reader: impl Read,
    buffers: usize,
    listeners: &[SyncSender<Arc<Buffer>>],
    to_extractor: &SyncSender<Chunk>,
) {
    let (home, recycled) = channel();
    let mut fresh = buffers;
    loop {
        let mut room = match recycled.try_recv() {
            Ok(room) => room,
            Err(_) if fresh > 0 => {
                fresh -= 1;
                Room::new()
            }
            Err(_) => match recycled.recv() {
                Ok(room) => room,
                Err(_) => return,
            },
        };
        let (length, result) = fill(&mut reader, room.bytes_mut());
        if length > 0 {
            let chunk = Arc::new(Buffer { room, length, home: home.clone() });
            // One that goes away early has failed, and then all is in vain.
            if listeners.iter().any(|listener| listener.send(Arc::clone(&chunk)).is_err())
                || to_extractor.send(Ok(chunk)).is_err()
            {
                return;
            }
        }
        match result {
            Ok(()) if length == CHUNK => {}
            Ok(()) => return,
            Err(error) => {
                // An extractor that is gone has an error of its own to report.
                let _ = to_extractor.send(Err(error));
                return;
            }
        }
    }
}

/// Reads until `buffer` is full or the stream ends or fails; returns how much was read before that.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> (usize, io::Result<()>) {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (filled, Err(error)),
        }
    }
    (filled, Ok(()))
}

/// The extractor's end of the stream.
pub(super) struct ChunkReader {
    input: Receiver<Chunk>,
    chunk: Option<Arc<Buffer>>,
    position: usize,
}

impl ChunkReader {
    pub(super) fn new(input: Receiver<Chunk>) -> Self {
        Self { input, chunk: None, position: 0 }
    }

    /// The next `length` bytes of the buffer that is being read, without a copy; `None` if it has not so many.
    pub(super) fn slice(&self, length: usize) -> Option<Slice> {
        let buffer = Arc::clone(self.chunk.as_ref()?);
        let (start, end) = (self.position, self.position.checked_add(length)?);
        (end <= buffer.length).then_some(Slice { buffer, start, end })
    }
}

impl BufRead for ChunkReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.chunk.as_ref().is_none_or(|chunk| self.position >= chunk.length) {
            // Let go of before the wait, so that it can be filled again meanwhile.
            self.chunk = None;
            self.position = 0;
            // The sender goes away at the stream's end.
            self.chunk = self.input.recv().ok().transpose()?;
        }
        Ok(self.chunk.as_ref().map_or(&[], |chunk| &chunk.bytes()[self.position..]))
    }

    fn consume(&mut self, count: usize) {
        self.position += count;
    }
}

impl Read for ChunkReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let data = self.fill_buf()?;
        let count = data.len().min(buf.len());
        buf[..count].copy_from_slice(&data[..count]);
        self.consume(count);
        Ok(count)
    }
}
