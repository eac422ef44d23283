//! From directory to archive: the layer that a tree would be.
//!
//! The archive is the same for the same tree: names in order, owners as numbers, no times but those of the last change.
//! It is POSIX pax, with records only where a header has no room.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use nix::errno::Errno;
use nix::fcntl::{OFlag, readlinkat};
use nix::sys::stat::{FileStat, SFlag, fstat, major, minor};
use tar::{Builder, EntryType, Header};

use super::create::is_kept;
use super::error::Error;
use super::limits::Limits;
use super::path::{OPAQUE, Target, WHITEOUT, target};
use super::tar::Xattr;
use crate::sys::fs::{DirReader, READ_DIRECTORY, is_of_the_kernel, open_beneath, open_on_mount};
use crate::sys::xattr::{fgetxattr, flistxattr};

/// The longest name that fits a header without a prefix, in bytes.
const NAME: usize = 100;

/// Writes the tree below `dir` as an uncompressed layer.
///
/// Other file systems that are mounted in it are left out, but for the directories that they are mounted on, and so are
/// sockets. Symbolic links are never followed.
///
/// # Errors
/// [`Error::Write`] if `out` fails; [`Error::Name`] for a file whose name would make a whiteout of it; otherwise what
/// the file system reports, or that a file became shorter while it was read.
pub fn pack(dir: BorrowedFd<'_>, out: &mut dyn Write) -> Result<(), Error> {
    let mut packer = Packer::new(out, Names::Layer);
    let mut paths = vec![Vec::new()];
    while let Some(path) = paths.pop() {
        if packer.entry(dir, &path)? {
            // Backwards, because the last one is the next.
            for name in list(dir, &path)?.into_iter().rev() {
                paths.push(join(&path, &name));
            }
        }
    }
    packer.finish()
}

/// What names an archive may hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Names {
    /// Any that a file can have.
    Any,
    /// Those that do not make a whiteout of a file: the archive is to be a layer.
    Layer,
}

/// Writes the file `name` of `dir` as an uncompressed archive of any names, or with an empty `name` all of `dir`; the
/// archive calls it `top`, and what is in it by names below that.
///
/// What is mounted in it is part of it, but for file systems that the kernel itself fills, of which only the directories
/// that they are mounted on are written, and but for sockets. Symbolic links are never followed. Says the sum of the sizes
/// of all files, in bytes.
///
/// # Errors
/// As [`pack`].
pub fn pack_files(
    dir: BorrowedFd<'_>,
    name: &[u8],
    top: &[u8],
    out: &mut dyn Write,
) -> Result<u64, Error> {
    let mut packer = Packer::new(out, Names::Any);
    packer.copying = Some(Copying { from: name.to_vec(), to: top.to_vec() });
    let mut paths = vec![name.to_vec()];
    while let Some(path) = paths.pop() {
        if packer.entry(dir, &path)? {
            for name in packer.list(dir, &path)?.into_iter().rev() {
                paths.push(join(&path, &name));
            }
        }
    }
    let bytes = packer.bytes;
    packer.finish().map(|()| bytes)
}

/// What is renamed in an archive that is a copy and no layer.
struct Copying {
    from: Vec<u8>,
    to: Vec<u8>,
}

/// An archive that is being filled with the files of a tree, or of several.
pub(super) struct Packer<'a> {
    tar: Builder<&'a mut dyn Write>,
    names: Names,
    copying: Option<Copying>,
    /// The first name of each file that has several, by device and inode.
    links: HashMap<(u64, u64), Vec<u8>>,
    /// The sum of the sizes of all files, in bytes.
    bytes: u64,
}

impl<'a> Packer<'a> {
    pub(super) fn new(out: &'a mut dyn Write, names: Names) -> Self {
        Self { tar: Builder::new(out), names, copying: None, links: HashMap::new(), bytes: 0 }
    }

    /// Writes the end-of-archive marker.
    pub(super) fn finish(mut self) -> Result<(), Error> {
        self.tar.finish().map_err(Error::Write)
    }

    /// Writes the entry of a layer that hides `path` in the layers below, or with `None` all that `dir` holds there.
    pub(super) fn whiteout(&mut self, dir: &[u8], name: Option<&[u8]>) -> Result<(), Error> {
        let name = match name {
            Some(name) => [WHITEOUT, name].concat(),
            None => OPAQUE.to_vec(),
        };
        // As docker's: an empty file of root's, without permissions, from the beginning of time.
        self.write(&join(dir, &name), &Fields::default(), EntryType::Regular, b"", &[])
    }

    /// Writes the entry of `path` in `root`; returns whether it is a directory to go into.
    pub(super) fn entry(&mut self, root: BorrowedFd<'_>, path: &[u8]) -> Result<bool, Error> {
        let plain = matches!(target(path), Ok(Target::File { .. } | Target::Root));
        if self.names == Names::Layer && !plain {
            return Err(Error::name(path, "as a layer's entry it would be a whiteout"));
        }
        let failed = |errno| Error::entry("read", path, errno);
        let (fd, mounted) = self.look(root, path).map_err(failed)?;
        let fields = Fields::of(&fstat(&fd).map_err(failed)?);
        let kind = match fields.kind {
            SFlag::S_IFDIR => EntryType::Directory,
            SFlag::S_IFREG => EntryType::Regular,
            SFlag::S_IFLNK => EntryType::Symlink,
            SFlag::S_IFCHR => EntryType::Char,
            SFlag::S_IFBLK => EntryType::Block,
            SFlag::S_IFIFO => EntryType::Fifo,
            _ => return Ok(false),
        };
        if kind == EntryType::Directory {
            if mounted {
                self.write(path, &fields, kind, b"", &[])?;
                return Ok(false);
            }
            let dir = open(root, path, READ_DIRECTORY, &fields)?;
            let xattrs = xattrs(dir.as_fd(), path)?;
            self.write(path, &fields, kind, b"", &xattrs)?;
            return Ok(true);
        }
        if fields.links > 1 {
            if let Some(first) = self.links.get(&fields.inode).cloned() {
                let first = self.shown_as(&first);
                self.write(path, &fields, EntryType::Link, &first, &[])?;
                return Ok(false);
            }
            self.links.insert(fields.inode, path.to_vec());
        }
        match kind {
            EntryType::Regular => self.file(root, path, &fields)?,
            EntryType::Symlink => {
                let link = readlinkat(&fd, "").map_err(failed)?.into_vec();
                self.write(path, &fields, kind, &link, &[])?;
            }
            _ => self.write(path, &fields, kind, b"", &[])?,
        }
        Ok(false)
    }

    /// Opens `path` as a place, and says whether it is a mount that is to be left out.
    fn look(&self, root: BorrowedFd<'_>, path: &[u8]) -> nix::Result<(OwnedFd, bool)> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW;
        match open_on_mount(root, path, flags) {
            Err(Errno::EXDEV) => {
                let fd = open_beneath(root, path, flags)?;
                let left_out = self.copying.is_none() || is_of_the_kernel(fd.as_fd())?;
                Ok((fd, left_out))
            }
            other => Ok((other?, false)),
        }
    }

    /// The names in a directory, in order.
    fn list(&self, root: BorrowedFd<'_>, path: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
        let open = if self.copying.is_some() { open_beneath } else { open_on_mount };
        let dir = open(root, path, READ_DIRECTORY).map_err(|e| Error::entry("list", path, e))?;
        names(dir, path)
    }

    /// The name that the archive has for `path`.
    fn shown_as(&self, path: &[u8]) -> Vec<u8> {
        let Some(Copying { from, to }) = &self.copying else { return path.to_vec() };
        let below = path.get(from.len()..).unwrap_or_default();
        let below = below.strip_prefix(b"/").unwrap_or(below);
        if below.is_empty() { to.clone() } else { join(to, below) }
    }

    fn file(&mut self, root: BorrowedFd<'_>, path: &[u8], fields: &Fields) -> Result<(), Error> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let fd = open(root, path, flags, fields)?;
        let xattrs = xattrs(fd.as_fd(), path)?;
        let fields = Fields::of(&fstat(&fd).map_err(|errno| Error::entry("read", path, errno))?);
        self.bytes = self.bytes.saturating_add(fields.size);
        let maximum = Limits::default().bytes;
        if self.bytes > maximum {
            // A hole of many terabytes costs its maker nothing; what nobody could unpack is not packed.
            return Err(Error::Limit { what: "bytes of files", maximum });
        }
        let mut data = Exactly { file: File::from(fd), left: fields.size, error: None };
        let header = self.extended(path, &fields, EntryType::Regular, b"", &xattrs)?;
        let result = self.tar.append(&header, &mut data);
        if let Some(source) = data.error {
            return Err(Error::Entry { action: "read", path: super::error::shown(path), source });
        }
        result.map_err(Error::Write)
    }

    fn write(
        &mut self,
        path: &[u8],
        fields: &Fields,
        kind: EntryType,
        link: &[u8],
        xattrs: &[Xattr],
    ) -> Result<(), Error> {
        let header = self.extended(path, fields, kind, link, xattrs)?;
        self.tar.append(&header, io::empty()).map_err(Error::Write)
    }

    /// Makes the header, and writes the extension header that it needs, if it needs one.
    fn extended(
        &mut self,
        path: &[u8],
        fields: &Fields,
        kind: EntryType,
        link: &[u8],
        xattrs: &[Xattr],
    ) -> Result<Header, Error> {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(fields.mode);
        header.set_uid(u64::from(fields.uid));
        header.set_gid(u64::from(fields.gid));
        header.set_mtime(u64::try_from(fields.mtime.0).unwrap_or(0));
        header.set_size(if kind == EntryType::Regular { fields.size } else { 0 });
        if matches!(kind, EntryType::Char | EntryType::Block) {
            // ustar headers always have room for these.
            let narrow = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
            header.set_device_major(narrow(major(fields.device))).map_err(Error::Write)?;
            header.set_device_minor(narrow(minor(fields.device))).map_err(Error::Write)?;
        }
        let name = self.shown_as(path);
        let name = match (&name[..], kind) {
            (b"", _) => b"./".to_vec(),
            (_, EntryType::Directory) => [&name[..], b"/"].concat(),
            _ => name,
        };
        let mut records = Vec::new();
        let old = header.as_old_mut();
        for (field, text, keyword) in
            [(&mut old.name, &name[..], "path"), (&mut old.linkname, link, "linkpath")]
        {
            let room = text.len().min(NAME);
            field[..room].copy_from_slice(&text[..room]);
            if text.len() > NAME {
                record(&mut records, keyword.as_bytes(), text);
            }
        }
        if fields.mtime.1 != 0 || fields.mtime.0 < 0 {
            let time = decimal_time(fields.mtime.0, fields.mtime.1);
            record(&mut records, b"mtime", time.as_bytes());
        }
        for (xattr, value) in xattrs {
            record(&mut records, &[b"SCHILY.xattr.", &xattr[..]].concat(), value);
        }
        if !records.is_empty() {
            let mut extension = Header::new_ustar();
            extension.set_entry_type(EntryType::XHeader);
            extension.as_old_mut().name[..11].copy_from_slice(b"PaxHeader/x");
            extension.set_mode(0o644);
            extension.set_size(records.len() as u64);
            extension.set_cksum();
            self.tar.append(&extension, &records[..]).map_err(Error::Write)?;
        }
        header.set_cksum();
        Ok(header)
    }
}

/// What `fstat(2)` says of a file, as far as an archive can hold it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Fields {
    pub(super) kind: SFlag,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
    /// Seconds and nanoseconds.
    pub(super) mtime: (i64, i64),
    pub(super) device: u64,
    pub(super) links: u64,
    /// The file system's device, and the number of the inode there.
    pub(super) inode: (u64, u64),
}

impl Default for Fields {
    fn default() -> Self {
        let (mode, uid, gid, size, device, links) = (0, 0, 0, 0, 0, 1);
        let (kind, mtime, inode) = (SFlag::S_IFREG, (0, 0), (0, 0));
        Self { kind, mode, uid, gid, size, mtime, device, links, inode }
    }
}

impl Fields {
    #[allow(
        clippy::useless_conversion,
        reason = "the width of `st_nlink` differs between machines"
    )]
    pub(super) fn of(stat: &FileStat) -> Self {
        Self {
            kind: SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()),
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime: (stat.st_mtime, stat.st_mtime_nsec),
            device: stat.st_rdev,
            links: u64::from(stat.st_nlink),
            inode: (stat.st_dev, stat.st_ino),
        }
    }
}

/// The path of `name` in the directory `path`, which is empty for the root.
pub(super) fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    let slash: &[u8] = if path.is_empty() { b"" } else { b"/" };
    [path, slash, name].concat()
}

/// The names in a directory, in order.
pub(super) fn list(root: BorrowedFd<'_>, path: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
    let failed = |errno| Error::entry("list", path, errno);
    names(open_on_mount(root, path, READ_DIRECTORY).map_err(failed)?, path)
}

fn names(dir: OwnedFd, path: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
    let failed = |errno| Error::entry("list", path, errno);
    let mut reader = DirReader::new(dir);
    let mut names = Vec::new();
    while let Some((name, _)) = reader.next_entry().map_err(failed)? {
        names.push(name.to_vec());
    }
    names.sort();
    Ok(names)
}

/// Opens what was looked at before, and nothing that has taken its place since.
fn open(
    root: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlag,
    looked: &Fields,
) -> Result<OwnedFd, Error> {
    let failed = |errno| Error::entry("open", path, errno);
    let fd = open_beneath(root, path, flags).map_err(failed)?;
    let now = Fields::of(&fstat(&fd).map_err(failed)?);
    if now.inode == looked.inode { Ok(fd) } else { Err(failed(Errno::ESTALE)) }
}

/// Those extended attributes of an open file that belong into a layer, in the order of their names.
pub(super) fn xattrs(fd: BorrowedFd<'_>, path: &[u8]) -> Result<Vec<Xattr>, Error> {
    let failed = |errno| Error::entry("read", path, errno);
    let mut names = match flistxattr(fd) {
        Err(Errno::EOPNOTSUPP) => Vec::new(),
        other => other.map_err(failed)?,
    };
    // A name with `=` in it cannot be told from its value in a record.
    names.retain(|name| is_kept(name) && !name.contains(&b'='));
    names.sort();
    let read = |name: Vec<u8>| {
        let value = fgetxattr(fd, &name).map_err(failed)?;
        Ok((name, value))
    };
    names.into_iter().map(read).collect()
}

/// Appends `LENGTH KEYWORD=VALUE\n`, where LENGTH counts its own digits.
fn record(records: &mut Vec<u8>, keyword: &[u8], value: &[u8]) {
    let rest = keyword.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(length.to_string().as_bytes());
    for part in [b" ", keyword, b"=", value, b"\n"] {
        records.extend_from_slice(part);
    }
}

/// Seconds with a fraction, where the kernel counts nanoseconds forward from the second before.
fn decimal_time(seconds: i64, nanoseconds: i64) -> String {
    match (seconds, nanoseconds) {
        (seconds, 0) => seconds.to_string(),
        (0.., _) => format!("{seconds}.{nanoseconds:09}"),
        _ => format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanoseconds),
    }
}

/// A file that is read for exactly as many bytes as its header says.
struct Exactly {
    file: File,
    left: u64,
    error: Option<io::Error>,
}

impl Read for Exactly {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = buf.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        let result = match self.file.read(&mut buf[..most]) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            other => other,
        };
        match result {
            Ok(count) => {
                self.left -= count as u64;
                Ok(count)
            }
            Err(error) => {
                // Remembered here, because the writer's errors come back from the same call.
                let kind = error.kind();
                self.error = Some(error);
                Err(kind.into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(decimal_time(5, 0), "5");
        assert_eq!(decimal_time(5, 1), "5.000000001");
        assert_eq!(decimal_time(-2, 500_000_000), "-1.500000000");
        assert_eq!(decimal_time(-1, 500_000_000), "-0.500000000");
        assert_eq!(decimal_time(-3, 0), "-3");
    }

    #[test]
    fn a_record_counts_its_own_length() {
        for (value, expected) in
            [("x", "6 k=x\n".to_owned()), (&"x".repeat(95), format!("102 k={}\n", "x".repeat(95)))]
        {
            let mut records = Vec::new();
            record(&mut records, b"k", value.as_bytes());
            assert_eq!(String::from_utf8(records).unwrap(), expected);
        }
    }
}
