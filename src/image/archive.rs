//! Writing archives that are the same bytes for the same content: no times, no owners, names in order.

use std::io::{self, Read, Write};

use tar::{Builder, EntryType, Header};

/// An archive under way.
pub(super) struct Archive<W: Write>(Builder<W>);

impl<W: Write> Archive<W> {
    pub(super) fn new(out: W) -> Self {
        Self(Builder::new(out))
    }

    /// Adds a directory; its name ends in a slash.
    pub(super) fn folder(&mut self, name: &str) -> io::Result<()> {
        let mut header = header(EntryType::Directory, 0o755, 0);
        self.0.append_data(&mut header, name, io::empty())
    }

    /// Adds a file of exactly `size` bytes, and reads `data` to its very end, which is where it may turn out that they
    /// were the wrong ones.
    pub(super) fn file(&mut self, name: &str, size: u64, mut data: impl Read) -> io::Result<()> {
        let mut header = header(EntryType::Regular, 0o644, size);
        let mut limited = Read::by_ref(&mut data).take(size);
        self.0.append_data(&mut header, name, &mut limited)?;
        if limited.limit() > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match data.read(&mut [0; 1])? {
            0 => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "more data than its size says")),
        }
    }

    /// Writes the end-of-archive marker.
    pub(super) fn finish(self) -> io::Result<W> {
        self.0.into_inner()
    }
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header
}
