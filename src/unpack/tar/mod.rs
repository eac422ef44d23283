//! A strict, streaming reader of tar archives.
//!
//! The dialects are Version 7, ustar, PAX, old GNU and star. Layers come from strangers, and the same bytes must not mean
//! different files to this program and to the scanner that looked at them before (CVE-2025-62518): where GNU tar
//! and Go's reader, which docker uses, understand an archive differently, and wherever it is malformed, reading ends
//! with an error. Nothing is skipped.
//!
//! This module knows nothing of file systems: names come out as they stand in the archive.

mod header;
mod pax;
mod sparse;

use std::io::{self, BufRead, Write};

use self::header::{BLOCK, Header, Problem, text};
use self::pax::Records;
use super::error::Error;
use super::limits::{Limits, MAX_PATH};

pub(crate) use self::pax::{Time, Xattr};
pub(crate) use self::sparse::Extent;

/// What an entry is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Kind {
    Block(u32, u32),
    Character(u32, u32),
    Directory,
    Fifo,
    #[default]
    File,
    HardLink,
    Symlink,
}

/// One entry, with everything that headers and extension headers say about it.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    /// The name as the archive has it; not empty, without NUL.
    pub(crate) name: Vec<u8>,
    /// What a link names; not empty for a link.
    pub(crate) link: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Time,
    /// The size that the file will have, in bytes.
    pub(crate) size: u64,
    /// Where the stored bytes belong, if the file is sparse.
    pub(crate) extents: Option<Vec<Extent>>,
    pub(crate) xattrs: Vec<Xattr>,
}

/// Extension headers that wait for the entry that they describe.
#[derive(Default)]
struct Pending {
    records: Option<Records>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.records.is_none() && self.long_name.is_none() && self.long_link.is_none()
    }
}

/// An archive that is being read.
pub(crate) struct Archive<'a, R> {
    reader: R,
    limits: &'a Limits,
    /// Gets a copy of everything but the files' contents.
    headers: Option<&'a mut dyn Write>,
    /// Whether the archive is such a copy.
    hollow: bool,
    /// Bytes taken from the reader.
    offset: u64,
    /// Where the present header begins.
    at: u64,
    /// Bytes of the present entry's data that are still to come.
    remaining: u64,
    /// Bytes that fill the data's last block.
    padding: u64,
    global: Records,
    end_marker: bool,
}

impl<'a, R: BufRead> Archive<'a, R> {
    /// Reads an archive from its first header on.
    pub(crate) fn new(reader: R, limits: &'a Limits) -> Self {
        let global = Records::default();
        let (offset, at, remaining, padding) = (0, 0, 0, 0);
        let (headers, hollow, end_marker) = (None, false, false);
        Self { reader, limits, headers, hollow, offset, at, remaining, padding, global, end_marker }
    }

    /// Reads an archive without contents, as another one has written it to its `headers`.
    pub(crate) fn hollow(reader: R, limits: &'a Limits) -> Self {
        Self { hollow: true, ..Self::new(reader, limits) }
    }

    /// Writes a copy of everything but contents to `headers`.
    pub(crate) fn with_headers(self, headers: Option<&'a mut dyn Write>) -> Self {
        Self { headers, ..self }
    }

    /// Goes to the next entry, past what is left of the present one; `false` at the archive's end, when the stream has
    /// been read to its own end.
    pub(crate) fn next_entry(&mut self, entry: &mut Entry) -> Result<bool, Error> {
        if !self.hollow {
            self.skip(self.remaining)?;
            self.skip(self.padding)?;
        }
        (self.remaining, self.padding) = (0, 0);
        let mut pending = Pending::default();
        loop {
            self.at = self.offset;
            let Some(block) = self.block()? else {
                return self.end(&pending);
            };
            if block.iter().all(|b| *b == 0) {
                match self.block()? {
                    Some(second) if second.iter().any(|b| *b != 0) => {
                        return Err(self.malformed("one block of zeros inside the archive"));
                    }
                    _ => self.end_marker = true,
                }
                return self.end(&pending);
            }
            let header = Header::parse(&block).map_err(|problem| self.malformed(problem))?;
            if !self.extension(header, &mut pending)? {
                self.fill(header, pending, entry)?;
                return Ok(true);
            }
        }
    }

    /// The next bytes of the present entry's data; empty at its end.
    pub(crate) fn data(&mut self) -> Result<&[u8], Error> {
        if self.remaining == 0 {
            return Ok(&[]);
        }
        if self.hollow {
            return Err(self.malformed("contents are elsewhere"));
        }
        let most = usize::try_from(self.remaining).unwrap_or(usize::MAX);
        let at = self.at;
        let data = fill_buf(&mut self.reader)?;
        if data.is_empty() {
            let problem = "archive ends inside an entry";
            return Err(Error::Malformed { offset: at, problem });
        }
        Ok(&data[..data.len().min(most)])
    }

    /// Says that `count` bytes of what [`Archive::data`] returned are done with.
    pub(crate) fn consume(&mut self, count: usize) {
        self.reader.consume(count);
        self.offset += count as u64;
        self.remaining -= count as u64;
    }

    /// What the archive is read from, where the bytes that [`Archive::data`] returned are still to be read.
    pub(crate) fn reader(&self) -> &R {
        &self.reader
    }

    /// Where the present entry's data, or what is left of it, begins.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether the archive ended with the block of zeros that POSIX wants, and not just with the stream.
    ///
    /// Every reader accepts an archive without it, but then one that was cut off between two entries looks complete.
    pub(crate) fn end_marker(&self) -> bool {
        self.end_marker
    }

    fn malformed(&self, problem: Problem) -> Error {
        Error::Malformed { offset: self.at, problem }
    }

    /// Reads what follows the end marker: padding, which counts for the layer's digest.
    fn end(&mut self, pending: &Pending) -> Result<bool, Error> {
        if !pending.is_empty() {
            return Err(self.malformed("extension header without its entry"));
        }
        loop {
            let count = fill_buf(&mut self.reader)?.len();
            if count == 0 {
                return Ok(false);
            }
            self.reader.consume(count);
            self.count(count as u64)?;
        }
    }

    /// Counts what was read. The archive may be longer than all its files by as much again: for headers, which have a
    /// limit of their own, and for padding at its end, which otherwise would have none.
    fn count(&mut self, bytes: u64) -> Result<(), Error> {
        self.offset = self.offset.saturating_add(bytes);
        if self.offset > self.limits.bytes.saturating_add(self.limits.bytes) {
            return Err(Error::Limit { what: "bytes", maximum: self.limits.bytes });
        }
        Ok(())
    }

    /// The next block; `None` if the stream ends before it.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, Error> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            let data = fill_buf(&mut self.reader)?;
            let count = data.len().min(BLOCK - filled);
            if count == 0 && filled == 0 {
                return Ok(None);
            }
            if count == 0 {
                return Err(self.malformed("archive ends inside a header"));
            }
            block[filled..filled + count].copy_from_slice(&data[..count]);
            self.reader.consume(count);
            filled += count;
        }
        self.count(BLOCK as u64)?;
        self.copy(&block)?;
        Ok(Some(block))
    }

    fn copy(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let Some(headers) = &mut self.headers else { return Ok(()) };
        headers.write_all(bytes).map_err(Error::Headers)
    }

    fn skip(&mut self, mut count: u64) -> Result<(), Error> {
        while count > 0 {
            let available = fill_buf(&mut self.reader)?.len();
            if available == 0 {
                return Err(self.malformed("archive ends inside an entry"));
            }
            let step = available.min(usize::try_from(count).unwrap_or(usize::MAX));
            self.reader.consume(step);
            self.count(step as u64)?;
            count -= step as u64;
        }
        Ok(())
    }

    /// Takes in an extension header; `false` if `header` is none.
    fn extension(&mut self, header: Header<'_>, pending: &mut Pending) -> Result<bool, Error> {
        let flag = header.typeflag();
        let again = match flag {
            b'g' => !pending.is_empty(),
            b'x' => pending.records.is_some(),
            b'L' => pending.long_name.is_some(),
            b'K' => pending.long_link.is_some(),
            _ => return Ok(false),
        };
        if again {
            return Err(self.malformed("extension header without its entry"));
        }
        let data = self.extension_data(header)?;
        let extents = self.limits.extents;
        let result = match flag {
            b'g' => pax::parse_global(&data, &mut self.global),
            b'x' => pax::parse_local(&data, extents).map(|records| {
                pending.records = Some(records);
            }),
            b'L' => long_name(&data).map(|name| pending.long_name = Some(name)),
            _ => long_name(&data).map(|name| pending.long_link = Some(name)),
        };
        result.map(|()| true).map_err(|problem| self.malformed(problem))
    }

    fn extension_data(&mut self, header: Header<'_>) -> Result<Vec<u8>, Error> {
        let size = header.size().map_err(|problem| self.malformed(problem))?;
        if size > self.limits.extension {
            let maximum = self.limits.extension;
            return Err(Error::Limit { what: "bytes in an extension header", maximum });
        }
        let mut data = Vec::new();
        let mut rest = size + padding(size);
        while rest > 0 {
            let piece = fill_buf(&mut self.reader)?;
            let count = piece.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
            data.extend_from_slice(&piece[..count]);
            if count == 0 {
                return Err(self.malformed("archive ends inside an entry"));
            }
            self.reader.consume(count);
            self.count(count as u64)?;
            rest -= count as u64;
        }
        self.copy(&data)?;
        data.truncate(usize::try_from(size).unwrap_or(usize::MAX));
        Ok(data)
    }

    /// Makes `entry` what the header and its extensions say.
    fn fill(
        &mut self,
        header: Header<'_>,
        pending: Pending,
        entry: &mut Entry,
    ) -> Result<(), Error> {
        let Pending { records, long_name, long_link } = pending;
        let mut records = records.unwrap_or_default();
        let problem = |problem| Error::Malformed { offset: self.at, problem };
        let renamed = records.path.is_some() || records.sparse.is_present();
        if long_name.is_some() && renamed || long_link.is_some() && records.linkpath.is_some() {
            return Err(problem("GNU and PAX names for the same entry"));
        }
        header.name_into(&mut entry.name);
        for name in [records.path.take(), long_name, records.sparse.name.take()] {
            entry.name = name.unwrap_or_else(|| std::mem::take(&mut entry.name));
        }
        entry.kind = kind(header, &entry.name).map_err(problem)?;
        entry.link.clear();
        if matches!(entry.kind, Kind::HardLink | Kind::Symlink) {
            match records.linkpath.take().or(long_link) {
                Some(link) => entry.link = link,
                None => entry.link.extend_from_slice(header.linkname()),
            }
            if entry.link.is_empty() || entry.link.len() > MAX_PATH {
                return Err(problem("link that names nothing, or more than 4095 bytes"));
            }
        }
        let global = &self.global;
        entry.mode = header.mode().map_err(problem)?;
        entry.uid = records.uid.or(global.uid).map_or_else(|| header.uid(), Ok).map_err(problem)?;
        entry.gid = records.gid.or(global.gid).map_or_else(|| header.gid(), Ok).map_err(problem)?;
        entry.mtime = match records.mtime.or(global.mtime) {
            Some(time) => time,
            None => Time { seconds: header.mtime().map_err(problem)?, nanoseconds: 0 },
        };
        entry.xattrs = std::mem::take(&mut records.xattrs);
        let stored = stored_size(header, entry.kind, records.size).map_err(problem)?;
        (self.remaining, self.padding) = (stored, padding(stored));
        (entry.size, entry.extents) = (stored, None);
        if header.typeflag() == b'S' || records.sparse.is_present() {
            self.fill_sparse(header, records, entry)?;
        }
        Ok(())
    }

    /// Finds the map of a sparse file in whichever of four places it is.
    fn fill_sparse(
        &mut self,
        header: Header<'_>,
        mut records: Records,
        entry: &mut Entry,
    ) -> Result<(), Error> {
        let problem = |problem| Error::Malformed { offset: self.at, problem };
        let most = self.limits.extents;
        let sparse = &mut records.sparse;
        let (map, real_size) = if header.typeflag() == b'S' {
            if sparse.is_present() {
                return Err(problem("two maps of the same sparse file"));
            }
            let (mut map, mut more, real_size) = sparse::old_gnu(header, most).map_err(problem)?;
            while more {
                let block = self.block()?.ok_or_else(|| self.malformed("archive ends early"))?;
                more = sparse::old_gnu_more(&mut map, &block, most)
                    .map_err(|problem| self.malformed(problem))?;
            }
            (map, real_size)
        } else {
            if entry.kind != Kind::File {
                return Err(problem("sparse file that is no file"));
            }
            let real_size =
                sparse.real_size.ok_or_else(|| problem("sparse file without its size"))?;
            let map = sparse.finished_map().map_err(problem)?;
            match (sparse.major, sparse.minor, map) {
                (None, None, Some(map)) | (Some(0), Some(0 | 1), Some(map)) => (map, real_size),
                (Some(1), Some(0), None) => (self.read_map()?, real_size),
                _ => return Err(problem("unknown version of sparse file")),
            }
        };
        entry.size = real_size;
        let extents = map.check(real_size, self.remaining);
        entry.extents = Some(extents.map_err(|problem| self.malformed(problem))?);
        Ok(())
    }

    /// Reads the map that precedes the data in format 1.0.
    fn read_map(&mut self) -> Result<sparse::Map, Error> {
        let mut map = sparse::MapReader::default();
        loop {
            let rest = self.remaining.checked_sub(BLOCK as u64);
            self.remaining =
                rest.ok_or_else(|| self.malformed("sparse map longer than its file"))?;
            let block = self.block()?.ok_or_else(|| self.malformed("archive ends early"))?;
            let done = map.block(&block, self.limits.extents);
            if done.map_err(|problem| self.malformed(problem))? {
                return Ok(map.finish());
            }
        }
    }
}

fn fill_buf<R: BufRead>(reader: &mut R) -> Result<&[u8], Error> {
    loop {
        match reader.fill_buf() {
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::Read(error)),
        }
    }
    // The buffer that the call above filled; the borrow checker does not let it leave the loop.
    reader.fill_buf().map_err(Error::Read)
}

/// How many bytes fill up the last block of `size` bytes.
fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}

/// The content of a GNU long name header: the name, a NUL, perhaps more of them.
fn long_name(data: &[u8]) -> Result<Vec<u8>, Problem> {
    let name = text(data);
    if name.is_empty() || data[name.len()..].iter().any(|b| *b != 0) {
        return Err("malformed GNU long name");
    }
    Ok(name.to_vec())
}

fn kind(header: Header<'_>, name: &[u8]) -> Result<Kind, Problem> {
    if name.is_empty() {
        return Err("entry without a name");
    }
    let slash = name.ends_with(b"/");
    let kind = match header.typeflag() {
        // Version 7 had no directories: a slash at the end of the name made one.
        0 if slash => Kind::Directory,
        // GNU tar reads this as a directory, Go's reader as a file.
        b'0' | b'7' | b'S' if slash => return Err("regular file with a slash behind its name"),
        0 | b'0' | b'7' | b'S' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => match header.device()? {
            // It would hide what has its name in whatever overlayfs lays the tree over or under.
            (0, 0) => return Err("character device 0:0, which is a whiteout to overlayfs"),
            (major, minor) => Kind::Character(major, minor),
        },
        b'4' => {
            let (major, minor) = header.device()?;
            Kind::Block(major, minor)
        }
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        _ => return Err("unsupported kind of entry"),
    };
    Ok(kind)
}

/// How many bytes of data follow the header.
fn stored_size(header: Header<'_>, kind: Kind, pax: Option<u64>) -> Result<u64, Problem> {
    let size = match pax {
        Some(size) => size,
        None => header.size()?,
    };
    match kind {
        Kind::File => Ok(size),
        // star and old cpio write the target's size and no data, and every reader knows; not so in an extended header.
        Kind::HardLink if pax.is_none() => Ok(0),
        // Some readers expect data here and others do not, so what follows would be a header to only some of them.
        _ if size != 0 => Err("size on an entry that has no data"),
        _ => Ok(0),
    }
}
