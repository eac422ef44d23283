//! The digest of a file's content, taken while it is written and taken again from the disk.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

use super::ContentDigest;

/// The unit in which zeros are left out of a sparse file's digest.
const BLOCK: usize = 4096;
/// How much is read at once, in bytes.
const CHUNK: usize = 64 << 10;

/// Hashes contents, one after the other.
pub(in super::super) struct ContentHasher {
    hasher: blake3::Hasher,
    buffer: Vec<u8>,
}

impl ContentHasher {
    pub(in super::super) fn new() -> Self {
        Self { hasher: blake3::Hasher::new(), buffer: Vec::new() }
    }

    /// Adds `data` to the present content.
    pub(in super::super) fn update(&mut self, data: &[u8]) {
        self.hasher.update(data);
    }

    /// The digest of the present content; the next one begins.
    pub(in super::super) fn finish(&mut self) -> ContentDigest {
        let digest = self.hasher.finalize();
        self.hasher.reset();
        *digest.as_bytes()
    }

    /// The digest of what is in `file`.
    pub(in super::super) fn file(
        &mut self,
        file: &mut File,
        sparse: bool,
    ) -> io::Result<ContentDigest> {
        self.hasher.reset();
        self.buffer.resize(CHUNK, 0);
        if sparse {
            return self.sparse(file);
        }
        loop {
            match file.read(&mut self.buffer) {
                Ok(0) => return Ok(self.finish()),
                Ok(count) => {
                    self.hasher.update(self.buffer.get(..count).unwrap_or_default());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn sparse(&mut self, file: &mut File) -> io::Result<ContentDigest> {
        let size = file.metadata()?.len();
        let mut offset = 0_u64;
        while offset < size {
            let Some(data) = next_data(file, offset)? else { break };
            // Where data begins depends on the file system; where a block begins does not.
            offset = data - data % BLOCK as u64;
            let filled = read_at(file, offset, &mut self.buffer)?;
            if filled == 0 {
                break;
            }
            for block in self.buffer.get(..filled).unwrap_or_default().chunks(BLOCK) {
                if block.iter().any(|b| *b != 0) {
                    self.hasher.update(&offset.to_le_bytes());
                    self.hasher.update(block);
                }
                offset += block.len() as u64;
            }
        }
        self.hasher.update(&size.to_le_bytes());
        Ok(self.finish())
    }
}

/// Where the next data is at or behind `offset`; `None` if there is none before the end.
fn next_data(file: &File, offset: u64) -> io::Result<Option<u64>> {
    let offset = i64::try_from(offset).map_err(|_| Errno::EOVERFLOW)?;
    match lseek(file.as_fd(), offset, Whence::SeekData) {
        Ok(data) => Ok(u64::try_from(data).ok()),
        Err(Errno::ENXIO) => Ok(None),
        // Some file systems know nothing of holes: then all is data.
        Err(Errno::EINVAL) => Ok(u64::try_from(offset).ok()),
        Err(errno) => Err(errno.into()),
    }
}

fn read_at(file: &mut File, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    file.seek(SeekFrom::Start(offset))?;
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
