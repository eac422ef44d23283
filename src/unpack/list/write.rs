//! Writing the list of a tree that was just unpacked.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};

use nix::fcntl::{OFlag, readlinkat};
use nix::sys::stat::{FileStat, SFlag, major, minor};

use super::content::ContentHasher;
use super::origins::{Attributes, Made, Origins, Sorted};
use super::scan::{Scan, Seen, file_kind, kind};
use super::{
    BLOCK, CHARACTER, DIRECTORY, FIFO, FILE, LINKED, ListError, ListedLayer, MAGIC, ORIGIN, Record,
    RecordKind, SPARSE, SYMLINK, XATTRS, Xattrs,
};
use crate::unpack::create::is_kept;

/// Writes down the tree in `root`, made of these layers, whose extraction filled `origins`.
///
/// Of what `origins` knows, the file system is asked for the name alone; contents are read only of a file that it does not
/// know.
///
/// # Errors
/// [`ListError::Tree`] and [`ListError::Write`].
pub fn write_list(
    root: BorrowedFd<'_>,
    layers: &[ListedLayer],
    origins: Origins,
    out: impl Write,
) -> Result<(), ListError> {
    let mut origins = origins.into_sorted();
    let mut out = ListWriter::new(out, layers).map_err(ListError::Write)?;
    let mut hasher = ContentHasher::new();
    let mut scan = Scan::new(root);
    while let Some(seen) = scan.advance() {
        let seen = seen.map_err(|errno| ListError::tree(scan.path(), errno))?;
        let record = record(&mut scan, seen, &mut origins, &mut hasher);
        let record = record.map_err(|source| {
            let path = crate::unpack::error::shown(scan.path());
            ListError::Tree { path, source }
        })?;
        out.record(&record).map_err(ListError::Write)?;
    }
    out.finish().map_err(ListError::Write)
}

fn record(
    scan: &mut Scan<'_>,
    seen: Seen,
    origins: &mut Sorted,
    hasher: &mut ContentHasher,
) -> io::Result<Record> {
    let inode = scan.inode(seen);
    if let Some(made) = inode.and_then(|inode| origins.find(inode)) {
        return known(scan, made);
    }
    let stat = scan.look()?;
    // Nothing is noted of directories: whatever had the inode number before one is gone.
    if kind(&stat) != SFlag::S_IFDIR
        && let Some(made) = origins.find(stat.st_ino)
    {
        return known(scan, made);
    }
    let kind = if kind(&stat) == SFlag::S_IFREG {
        let mut file = File::from(scan.open(OFlag::O_RDONLY | OFlag::O_NOFOLLOW)?);
        RecordKind::File { size: size(&stat), digest: hasher.file(&mut file, true)?, sparse: true }
    } else {
        special(scan, &stat)?
    };
    let xattrs = xattrs(scan, stat.st_mode)?;
    Ok(new_record(scan, Attributes::from(&stat), kind, xattrs))
}

/// The record of a file that a layer made.
fn known(scan: &mut Scan<'_>, made: &mut Made) -> io::Result<Record> {
    let Made { attributes, digest, sparse, .. } = *made;
    let kind = match file_kind(attributes.mode) {
        SFlag::S_IFREG => RecordKind::File { size: attributes.size, digest, sparse },
        SFlag::S_IFLNK => symlink(scan)?,
        _ => {
            let stat = scan.look()?;
            special(scan, &stat)?
        }
    };
    let xattrs = if made.has_xattrs { xattrs(scan, attributes.mode)? } else { Vec::new() };
    let linked = std::mem::replace(&mut made.seen, true);
    let record = new_record(scan, attributes, kind, xattrs);
    Ok(Record { origin: Some(made.origin), linked, ..record })
}

fn new_record(scan: &Scan<'_>, attributes: Attributes, kind: RecordKind, xattrs: Xattrs) -> Record {
    let Attributes { mode, uid, gid, mtime, .. } = attributes;
    let (path, mode) = (scan.path().to_vec(), mode & 0o7777);
    Record { path, kind, mode, uid, gid, mtime, xattrs, origin: None, linked: false }
}

/// What a file is that is no regular one.
pub(super) fn special(scan: &Scan<'_>, stat: &FileStat) -> nix::Result<RecordKind> {
    let number = |number| u32::try_from(number).unwrap_or(u32::MAX);
    let (major, minor) = (number(major(stat.st_rdev)), number(minor(stat.st_rdev)));
    Ok(match kind(stat) {
        SFlag::S_IFDIR => RecordKind::Directory,
        SFlag::S_IFBLK => RecordKind::Block { major, minor },
        SFlag::S_IFCHR => RecordKind::Character { major, minor },
        SFlag::S_IFLNK => symlink(scan)?,
        SFlag::S_IFIFO => RecordKind::Fifo,
        // A socket, which no layer can hold.
        _ => return Err(nix::errno::Errno::EINVAL),
    })
}

fn symlink(scan: &Scan<'_>) -> nix::Result<RecordKind> {
    let target = readlinkat(scan.dir(), scan.name())?;
    Ok(RecordKind::Symlink { target: std::os::unix::ffi::OsStringExt::into_vec(target) })
}

pub(super) fn size(stat: &FileStat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// The extended attributes that belong to the tree, by name.
pub(super) fn xattrs(scan: &Scan<'_>, mode: u32) -> nix::Result<Xattrs> {
    use crate::sys::xattr::{fgetxattr, flistxattr, lgetxattrat, llistxattrat};
    type Get<'a> = Box<dyn Fn(&[u8]) -> nix::Result<Vec<u8>> + 'a>;
    let fd;
    let (names, get): (_, Get<'_>) = match file_kind(mode) {
        SFlag::S_IFREG | SFlag::S_IFDIR => {
            fd = scan.open(OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK)?;
            (flistxattr(fd.as_fd()), Box::new(|name| fgetxattr(fd.as_fd(), name)))
        }
        _ => {
            let (dir, file) = (scan.dir(), scan.name());
            (llistxattrat(dir, file), Box::new(move |name| lgetxattrat(dir, file, name)))
        }
    };
    let mut names = match names {
        Err(nix::errno::Errno::EOPNOTSUPP) => Vec::new(),
        other => other?,
    };
    names.retain(|name| is_kept(name));
    names.sort();
    names.into_iter().map(|name| get(&name).map(|value| (name, value))).collect()
}

/// The form on the disk.
pub(super) struct ListWriter<W: Write> {
    out: io::BufWriter<W>,
    hasher: blake3::Hasher,
    buffer: Vec<u8>,
    last: Vec<u8>,
    records: u64,
}

impl<W: Write> ListWriter<W> {
    pub(super) fn new(out: W, layers: &[ListedLayer]) -> io::Result<Self> {
        let out = io::BufWriter::with_capacity(256 << 10, out);
        let (hasher, last) = (blake3::Hasher::new(), Vec::new());
        let mut writer = Self { out, hasher, buffer: MAGIC.to_vec(), last, records: 0 };
        number(&mut writer.buffer, layers.len() as u64);
        for layer in layers {
            bytes(&mut writer.buffer, layer.diff_id.to_string().as_bytes());
            number(&mut writer.buffer, layer.files);
        }
        writer.flush()?;
        Ok(writer)
    }

    pub(super) fn record(&mut self, record: &Record) -> io::Result<()> {
        self.records += 1;
        let Record { path, kind, xattrs, origin, .. } = record;
        let flag = |on, flag| if on { flag } else { 0 };
        let sparse = matches!(kind, RecordKind::File { sparse: true, .. });
        let out = &mut self.buffer;
        out.push(
            kind_byte(kind)
                | flag(record.linked, LINKED)
                | flag(!xattrs.is_empty(), XATTRS)
                | flag(origin.is_some(), ORIGIN)
                | flag(sparse, SPARSE),
        );
        let same = self.last.iter().zip(path).take_while(|(a, b)| a == b).count();
        number(out, same as u64);
        bytes(out, path.get(same..).unwrap_or_default());
        self.last.clone_from(path);
        for value in [record.mode, record.uid, record.gid] {
            number(out, value.into());
        }
        number(out, zigzag(record.mtime.0));
        number(out, record.mtime.1.into());
        if let Some(origin) = origin {
            number(out, origin.layer.into());
            number(out, origin.entry.into());
        }
        match kind {
            RecordKind::File { size, digest, .. } => {
                number(out, *size);
                out.extend_from_slice(digest);
            }
            RecordKind::Symlink { target } => bytes(out, target),
            RecordKind::Block { major, minor } | RecordKind::Character { major, minor } => {
                number(out, (*major).into());
                number(out, (*minor).into());
            }
            RecordKind::Directory | RecordKind::Fifo => {}
        }
        if !xattrs.is_empty() {
            number(out, xattrs.len() as u64);
            for (name, value) in xattrs {
                bytes(out, name);
                bytes(out, value);
            }
        }
        self.flush()
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        self.buffer.push(0);
        number(&mut self.buffer, self.records);
        self.flush()?;
        self.out.write_all(self.hasher.finalize().as_bytes())?;
        self.out.flush()
    }

    /// Hands on what is in the buffer, in pieces that are worth hashing.
    fn flush(&mut self) -> io::Result<()> {
        self.hasher.update(&self.buffer);
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

fn kind_byte(kind: &RecordKind) -> u8 {
    match kind {
        RecordKind::Directory => DIRECTORY,
        RecordKind::File { .. } => FILE,
        RecordKind::Symlink { .. } => SYMLINK,
        RecordKind::Block { .. } => BLOCK,
        RecordKind::Character { .. } => CHARACTER,
        RecordKind::Fifo => FIFO,
    }
}

/// LEB128: seven bits a byte, the lowest first, the eighth set on all but the last.
fn number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn zigzag(value: i64) -> u64 {
    (value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned()
}
