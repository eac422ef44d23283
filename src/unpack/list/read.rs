//! Reading a list, which may have rotted or been forged like everything on a disk.

use std::cmp::Ordering;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

use super::{
    BLOCK, CHARACTER, ContentDigest, DIRECTORY, FIFO, FILE, KIND, LINKED, ListError, ListedLayer,
    MAGIC, ORIGIN, Origin, Record, RecordKind, SPARSE, SYMLINK, XATTRS, Xattrs, compare_paths,
};
use crate::oci::digest::DiffId;
use crate::unpack::limits::{MAX_NAME, MAX_PATH};

/// The most layers that an image can have here: more than any builder makes.
const MAX_LAYERS: u64 = 1 << 16;
/// The longest text of a digest, in bytes: that of a SHA-512.
const MAX_DIGEST: u64 = 135;
/// The most extended attributes of one file, and the longest value, in bytes (xattr(7)).
const MAX_XATTRS: u64 = 32 << 10;
const MAX_VALUE: u64 = 64 << 10;
/// The bytes of all extended attributes of one file: no more than a layer's extension header may hold.
const MAX_XATTR_BYTES: usize = 4 << 20;
const DIGEST: u64 = 32;

/// A list that is being read.
#[derive(Debug)]
pub struct ListReader<R> {
    reader: BufReader<R>,
    offset: u64,
    layers: Vec<ListedLayer>,
    path: Vec<u8>,
    /// Whether the last record is that of a directory.
    in_directory: bool,
    records: u64,
    done: bool,
}

impl<R: Read + Seek> ListReader<R> {
    /// Verifies the digest of the whole list, and reads what stands before its records.
    ///
    /// # Errors
    /// [`ListError::Corrupt`] and [`ListError::Read`].
    pub fn new(mut reader: R) -> Result<Self, ListError> {
        verify(&mut reader)?;
        let reader = BufReader::with_capacity(64 << 10, reader);
        let (layers, path) = (Vec::new(), Vec::new());
        let mut list =
            Self { reader, offset: 0, layers, path, in_directory: false, records: 0, done: false };
        let mut magic = [0; MAGIC.len()];
        list.exact(&mut magic)?;
        if magic != *MAGIC {
            return Err(list.corrupt("not a list, or one of an unknown version"));
        }
        let count = list.number(MAX_LAYERS)?;
        for _ in 0..count {
            let text = list.bytes(MAX_DIGEST)?;
            let digest = std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok());
            let digest = digest.ok_or_else(|| list.corrupt("malformed DiffID"))?;
            let files = list.number(u64::MAX)?;
            list.layers.push(ListedLayer { diff_id: DiffId::new(digest), files });
        }
        Ok(list)
    }
}

/// Compares the list's digest with its bytes, and goes back to its start.
fn verify(reader: &mut (impl Read + Seek)) -> Result<(), ListError> {
    let size = reader.seek(SeekFrom::End(0)).map_err(ListError::Read)?;
    let corrupt = |problem| ListError::Corrupt { offset: size, problem };
    let body = size.checked_sub(DIGEST).ok_or_else(|| corrupt("it ends early"))?;
    reader.rewind().map_err(ListError::Read)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 64 << 10];
    let mut rest = body;
    while rest > 0 {
        let most = buffer.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
        let piece = buffer.get_mut(..most).unwrap_or_default();
        reader.read_exact(piece).map_err(ListError::Read)?;
        hasher.update(piece);
        rest -= most as u64;
    }
    let mut stored = [0; 32];
    reader.read_exact(&mut stored).map_err(ListError::Read)?;
    if *hasher.finalize().as_bytes() != stored {
        return Err(corrupt("its digest does not match"));
    }
    reader.rewind().map_err(ListError::Read)
}

impl<R: Read> ListReader<R> {
    /// The layers that made the tree, base first.
    pub fn layers(&self) -> &[ListedLayer] {
        &self.layers
    }

    /// The next record; `None` at the list's end.
    ///
    /// # Errors
    /// [`ListError::Corrupt`] and [`ListError::Read`].
    pub fn next_record(&mut self) -> Result<Option<Record>, ListError> {
        if self.done {
            return Ok(None);
        }
        let first = self.byte()?;
        if first == 0 {
            return self.end();
        }
        self.records += 1;
        let path = self.next_path()?;
        let mode = self.number_u32(0o7777)?;
        let (uid, gid) = (self.number_u32(u32::MAX)?, self.number_u32(u32::MAX)?);
        let seconds = unzigzag(self.number(u64::MAX)?);
        let mtime = (seconds, self.number_u32(999_999_999)?);
        let origin = if first & ORIGIN != 0 { Some(self.origin()?) } else { None };
        let kind = self.kind(first)?;
        let xattrs = if first & XATTRS != 0 { self.xattrs()? } else { Vec::new() };
        self.in_directory = kind == RecordKind::Directory;
        let linked = first & LINKED != 0;
        if linked && (self.in_directory || origin.is_none()) {
            return Err(self.corrupt("one more name of nothing"));
        }
        if path.is_empty() && !self.in_directory {
            return Err(self.corrupt("the root is no directory"));
        }
        Ok(Some(Record { path, kind, mode, uid, gid, mtime, xattrs, origin, linked }))
    }

    fn end(&mut self) -> Result<Option<Record>, ListError> {
        let records = self.number(u64::MAX)?;
        if records != self.records || records == 0 {
            return Err(self.corrupt("not as many records as it says"));
        }
        self.exact(&mut [0; 32])?;
        if !self.reader.fill_buf().map_err(ListError::Read)?.is_empty() {
            return Err(self.corrupt("something behind its end"));
        }
        self.done = true;
        Ok(None)
    }

    fn next_path(&mut self) -> Result<Vec<u8>, ListError> {
        let same = usize::try_from(self.number(MAX_PATH as u64)?).unwrap_or(usize::MAX);
        let rest = self.bytes(MAX_PATH as u64)?;
        let Some(before) = self.path.get(..same) else {
            return Err(self.corrupt("path with too much of the one before"));
        };
        let path = [before, &rest].concat();
        if self.records == 1 {
            if !path.is_empty() {
                return Err(self.corrupt("the first record is not the root"));
            }
            return Ok(path);
        }
        let component = |name: &[u8]| {
            !matches!(name, b"" | b"." | b"..") && name.len() <= MAX_NAME && !name.contains(&0)
        };
        if path.len() > MAX_PATH || !path.split(|b| *b == b'/').all(component) {
            return Err(self.corrupt("path that cannot be"));
        }
        if compare_paths(&self.path, &path) != Ordering::Less || !self.follows(&path) {
            return Err(self.corrupt("path out of order"));
        }
        self.path.clone_from(&path);
        Ok(path)
    }

    /// Whether the directory that `path` is in stands before it: it is the last one, or one above the last record.
    fn follows(&self, path: &[u8]) -> bool {
        let parent = path.iter().rposition(|b| *b == b'/').and_then(|slash| path.get(..slash));
        let Some(parent) = parent else { return self.in_directory || !self.path.is_empty() };
        match self.path.strip_prefix(parent) {
            Some([]) => self.in_directory,
            Some([b'/', ..]) => true,
            _ => false,
        }
    }

    fn origin(&mut self) -> Result<Origin, ListError> {
        let layer = self.number_u32(u32::MAX)?;
        if layer as usize >= self.layers.len() {
            return Err(self.corrupt("layer that the image does not have"));
        }
        Ok(Origin { layer, entry: self.number_u32(u32::MAX)? })
    }

    fn kind(&mut self, first: u8) -> Result<RecordKind, ListError> {
        let sparse = first & SPARSE != 0;
        let kind = first & KIND;
        if sparse && kind != FILE {
            return Err(self.corrupt("sparse, but no file"));
        }
        Ok(match kind {
            DIRECTORY => RecordKind::Directory,
            FILE => {
                let size = self.number(i64::MAX.cast_unsigned())?;
                let mut digest: ContentDigest = [0; 32];
                self.exact(&mut digest)?;
                RecordKind::File { size, digest, sparse }
            }
            SYMLINK => {
                let target = self.bytes(MAX_PATH as u64)?;
                if target.is_empty() || target.contains(&0) {
                    return Err(self.corrupt("link that names nothing"));
                }
                RecordKind::Symlink { target }
            }
            BLOCK | CHARACTER => {
                let (major, minor) = (self.number_u32(u32::MAX)?, self.number_u32(u32::MAX)?);
                match kind {
                    BLOCK => RecordKind::Block { major, minor },
                    _ => RecordKind::Character { major, minor },
                }
            }
            FIFO => RecordKind::Fifo,
            _ => return Err(self.corrupt("unknown kind of file")),
        })
    }

    fn xattrs(&mut self) -> Result<Xattrs, ListError> {
        let count = self.number(MAX_XATTRS)?;
        let mut xattrs = Vec::new();
        let mut size = 0;
        for _ in 0..count {
            let (name, value) = (self.bytes(MAX_NAME as u64)?, self.bytes(MAX_VALUE)?);
            size += name.len() + value.len();
            let ordered = xattrs.last().is_none_or(|(last, _)| *last < name);
            if name.is_empty() || !ordered || size > MAX_XATTR_BYTES {
                return Err(self.corrupt("extended attributes that cannot be"));
            }
            xattrs.push((name, value));
        }
        Ok(xattrs)
    }

    fn corrupt(&self, problem: &'static str) -> ListError {
        ListError::Corrupt { offset: self.offset, problem }
    }

    fn exact(&mut self, bytes: &mut [u8]) -> Result<(), ListError> {
        match self.reader.read_exact(bytes) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(self.corrupt("it ends early"))
            }
            result => {
                self.offset += bytes.len() as u64;
                result.map_err(ListError::Read)
            }
        }
    }

    fn byte(&mut self) -> Result<u8, ListError> {
        let mut byte = [0];
        self.exact(&mut byte)?;
        Ok(byte[0])
    }

    fn number(&mut self, most: u64) -> Result<u64, ListError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return Err(self.corrupt("number that is too large"));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                if value > most {
                    return Err(self.corrupt("number that is too large"));
                }
                return Ok(value);
            }
        }
        Err(self.corrupt("number that does not end"))
    }

    fn number_u32(&mut self, most: u32) -> Result<u32, ListError> {
        Ok(u32::try_from(self.number(most.into())?).unwrap_or(most))
    }

    fn bytes(&mut self, most: u64) -> Result<Vec<u8>, ListError> {
        let length = self.number(most)?;
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        self.exact(&mut bytes)?;
        Ok(bytes)
    }
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}
