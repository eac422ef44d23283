//! A copy of a layer that is unpacked from a file, written while that goes on.
//!
//! What is copied is not read again soon, so it goes straight to the disk (`O_DIRECT`, open(2)), by DMA: else it would take
//! as much memory again as the tree, and the processor's time to move it there. Where the disk does not keep up, the page
//! cache takes what it cannot.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use super::chunk::{ALIGNMENT, Buffer, CHUNKS};

/// How many buffers may wait for the disk, so that there are others to be filled.
const PATIENCE: usize = CHUNKS / 2;

/// Where the copy of a layer goes: an empty file.
#[derive(Debug)]
pub struct Copy {
    file: File,
    /// The same file past the page cache, where the file system can do that.
    direct: Option<File>,
}

impl Copy {
    /// A copy in `file`; `direct` is the same file, opened with `O_DIRECT`.
    pub fn new(file: File, direct: Option<File>) -> Self {
        Self { file, direct }
    }

    /// Writes what comes until there is no more.
    pub(super) fn write(&self, input: &Receiver<Arc<Buffer>>) -> io::Result<()> {
        let mut waiting: VecDeque<Arc<Buffer>> = VecDeque::new();
        let mut offset = 0;
        let mut direct = self.direct.as_ref();
        loop {
            waiting.extend(input.try_iter());
            let next = waiting.pop_front().or_else(|| input.recv().ok());
            let Some(chunk) = next else { return Ok(()) };
            let bytes = chunk.bytes();
            let unhurried = waiting.len() < PATIENCE && bytes.len().is_multiple_of(ALIGNMENT);
            let taken = match direct.filter(|_| unhurried) {
                Some(file) => {
                    let taken = file.write_all_at(bytes, offset).is_ok();
                    // A refusal is one of the file system, or of a disk with larger sectors; a full disk will say it again.
                    direct = direct.filter(|_| taken);
                    taken
                }
                None => false,
            };
            if !taken {
                self.file.write_all_at(bytes, offset)?;
            }
            offset += bytes.len() as u64;
        }
    }
}
