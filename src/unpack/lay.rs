//! From archive to a directory that is there already, and keeps what it has.
//!
//! As docker lays a copy: a directory is merged into one of its name, any other file takes the place of any other file,
//! and a directory never takes the place of a file or the reverse.

use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{
    FileStat, Mode, SFlag, UtimensatFlags, fchmod, fstatat, futimens, makedev, mkdirat, mknodat,
    umask, utimensat,
};
use nix::unistd::{
    Gid, LinkatFlags, Uid, UnlinkatFlags, fchown, fchownat, linkat, symlinkat, unlinkat, write,
};

use super::create::{is_kept, time_spec, write_extents};
use super::error::{Error, shown};
use super::extract::IMPLICIT_MODE;
use super::limits::Limits;
use super::list::file_kind;
use super::path::{clean, split};
use super::tar::{Archive, Entry, Kind, Time};
use crate::sys::fs::{PATH_DIRECTORY, READ_DIRECTORY, open_beneath, open_following};
use crate::sys::xattr::fsetxattr;

/// How much is read at a time, in bytes.
const CHUNK: usize = 256 << 10;
/// Set-user-ID and set-group-ID.
const SET_ID: u32 = 0o6000;

/// Who owns what is laid down.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Owners {
    /// Who the archive says.
    Archive,
    /// Whoever calls. Directories that are there keep owner and mode.
    Caller,
    /// Root. Directories that are there keep owner and mode.
    Root,
}

/// How an archive is laid down.
#[derive(Debug)]
pub struct Laying<'a> {
    /// The directory.
    pub dir: BorrowedFd<'a>,
    /// What is taken away from the beginning of every name; empty for nothing.
    pub strip: &'a [u8],
    /// What then comes before every name; empty for nothing.
    pub under: &'a [u8],
    /// Who owns the files.
    pub owners: Owners,
    /// Whether symbolic links on the way to a file are followed, to wherever they lead for this process: its root directory
    /// must be the container's. Otherwise such a way is an error.
    pub follow: bool,
    /// Whether the archive's author is not to be trusted with devices, set-user-ID bits and extended attributes, which then
    /// stay away.
    pub harmless: bool,
}

/// What has been laid down.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Laid {
    /// The sum of the sizes of all files, in bytes.
    pub bytes: u64,
    /// The names of devices that were left out.
    pub left_out: Vec<String>,
}

/// Reads `tar`, an uncompressed archive, to its very end, and lays it down.
///
/// # Errors
/// [`Error`]; what was laid down before stays.
pub fn lay(tar: impl Read, laying: &Laying<'_>) -> Result<Laid, Error> {
    // Modes are those of the archive. This process does nothing else.
    let mask = umask(Mode::empty());
    let limits = Limits { free: 0, ..Limits::default() };
    let laid = Work { laying, directories: Vec::new(), laid: Laid::default() }.run(tar, &limits);
    umask(mask);
    laid
}

/// A directory whose metadata are set at the end, when nothing is made in it any more.
struct Directory {
    path: Vec<u8>,
    mode: u32,
    owner: Option<(u32, u32)>,
    mtime: Time,
}

struct Work<'a> {
    laying: &'a Laying<'a>,
    directories: Vec<Directory>,
    laid: Laid,
}

impl Work<'_> {
    fn run(mut self, tar: impl Read, limits: &Limits) -> Result<Laid, Error> {
        let mut archive = Archive::new(BufReader::with_capacity(CHUNK, tar), limits);
        let mut entry = Entry::default();
        let mut count = 0;
        while archive.next_entry(&mut entry)? {
            count += 1;
            self.laid.bytes = self.laid.bytes.saturating_add(entry.size);
            for (what, count, maximum) in [
                ("entries", count, limits.entries),
                ("bytes", self.laid.bytes, limits.bytes),
                ("directories", self.directories.len() as u64, limits.directories),
            ] {
                if count > maximum {
                    return Err(Error::Limit { what, maximum });
                }
            }
            let path = self.place(&entry.name)?;
            self.entry(&mut archive, &entry, &path)?;
        }
        // Those inside others first, as setting the time of one would be undone by what happens in it.
        while let Some(directory) = self.directories.pop() {
            self.describe(&directory)?;
        }
        Ok(self.laid)
    }

    /// Where the entry of this name goes.
    fn place(&self, name: &[u8]) -> Result<Vec<u8>, Error> {
        if leads_out(name) {
            return Err(Error::name(name, "it leads out of the directory"));
        }
        let mut path = Vec::new();
        clean(name, &mut path)?;
        let Laying { strip, under, .. } = self.laying;
        let below = match path.strip_prefix(*strip) {
            Some(below) if strip.is_empty() || matches!(below, [] | [b'/', ..]) => below,
            _ => return Err(Error::name(name, "it is not below what is copied")),
        };
        let below = below.strip_prefix(b"/").unwrap_or(below);
        let slash: &[u8] = if under.is_empty() || below.is_empty() { b"" } else { b"/" };
        Ok([under, slash, below].concat())
    }

    fn entry<R: BufRead>(
        &mut self,
        archive: &mut Archive<'_, R>,
        entry: &Entry,
        path: &[u8],
    ) -> Result<(), Error> {
        let (dir, name) = split(path);
        if name.is_empty() {
            // The directory itself, which is as it is.
            let fine = entry.kind == Kind::Directory;
            let problem = "it stands for the directory, and is none";
            return if fine { Ok(()) } else { Err(Error::name(&entry.name, problem)) };
        }
        let is_device = matches!(entry.kind, Kind::Block(..) | Kind::Character(..));
        if is_device && self.laying.harmless {
            self.laid.left_out.push(shown(path));
            return Ok(());
        }
        let parent = self.parent(dir, path)?;
        let found = look(parent.as_fd(), name, path)?;
        if entry.kind == Kind::Directory {
            return self.directory(entry, parent.as_fd(), path, found.as_ref());
        }
        if found.as_ref().is_some_and(is_directory) {
            return Err(Error::name(path, "cannot overwrite directory with non-directory"));
        }
        if entry.kind == Kind::HardLink {
            return self.hard_link(entry, parent.as_fd(), name, path);
        }
        let in_place = match found {
            Some(_) => self.clear(parent.as_fd(), name, path)?,
            None => None,
        };
        match entry.kind {
            Kind::File => self.file(archive, entry, parent.as_fd(), path, in_place),
            _ => self.special(entry, parent.as_fd(), name, path),
        }
    }

    /// Opens the directory `dir`, which is made if it is missing.
    fn parent(&self, dir: &[u8], path: &[u8]) -> Result<OwnedFd, Error> {
        let failed = |errno| Error::entry("open the directory of", path, errno);
        match self.open(dir) {
            Err(Errno::ENOENT) => {}
            opened => return opened.map_err(failed),
        }
        let mut end = 0;
        while end < dir.len() {
            let next = dir.get(end + 1..).and_then(|rest| rest.iter().position(|b| *b == b'/'));
            end = next.map_or(dir.len(), |length| end + 1 + length);
            let (parent, name) = split(dir.get(..end).unwrap_or(dir));
            let parent = self.open(parent).map_err(failed)?;
            match mkdirat(&parent, name, Mode::from_bits_truncate(IMPLICIT_MODE)) {
                Ok(()) if self.laying.owners == Owners::Root => {
                    fchownat(
                        &parent,
                        name,
                        Some(Uid::from_raw(0)),
                        Some(Gid::from_raw(0)),
                        AtFlags::AT_SYMLINK_NOFOLLOW,
                    )
                    .map_err(failed)?;
                }
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(Error::entry("create the directory of", path, errno)),
            }
        }
        self.open(dir).map_err(failed)
    }

    fn open(&self, dir: &[u8]) -> nix::Result<OwnedFd> {
        let open = if self.laying.follow { open_following } else { open_beneath };
        open(self.laying.dir, dir, PATH_DIRECTORY)
    }

    fn directory(
        &mut self,
        entry: &Entry,
        parent: BorrowedFd<'_>,
        path: &[u8],
        found: Option<&FileStat>,
    ) -> Result<(), Error> {
        match found {
            None => {
                let (_, name) = split(path);
                // Nobody else needs to be let in before all is there.
                mkdirat(parent, name, Mode::S_IRWXU)
                    .map_err(|errno| Error::entry("create directory", path, errno))?;
            }
            Some(stat) if !is_directory(stat) => {
                return Err(Error::name(path, "cannot overwrite non-directory with directory"));
            }
            Some(_) if self.laying.owners != Owners::Archive => return Ok(()),
            Some(_) => {}
        }
        self.directories.push(Directory {
            path: path.to_vec(),
            mode: self.mode(entry),
            owner: self.owner(entry),
            mtime: entry.mtime,
        });
        Ok(())
    }

    fn describe(&self, directory: &Directory) -> Result<(), Error> {
        let Directory { path, mode, owner, mtime } = directory;
        let (dir, name) = split(path);
        let set = || {
            let parent = self.open(dir)?;
            let fd = open_beneath(parent.as_fd(), name, READ_DIRECTORY)?;
            chown(&fd, *owner)?;
            fchmod(&fd, Mode::from_bits_truncate(*mode))?;
            futimens(&fd, &time_spec(*mtime), &time_spec(*mtime))
        };
        set().map_err(|errno| Error::entry("describe directory", path, errno))
    }

    fn file<R: BufRead>(
        &self,
        archive: &mut Archive<'_, R>,
        entry: &Entry,
        parent: BorrowedFd<'_>,
        path: &[u8],
        in_place: Option<OwnedFd>,
    ) -> Result<(), Error> {
        let failed = |action| move |errno| Error::entry(action, path, errno);
        let (_, name) = split(path);
        let file = match in_place {
            Some(file) => file,
            None => {
                let flags = OFlag::O_WRONLY
                    | OFlag::O_CREAT
                    | OFlag::O_EXCL
                    | OFlag::O_NOFOLLOW
                    | OFlag::O_CLOEXEC;
                let mode = Mode::S_IRUSR | Mode::S_IWUSR;
                openat(parent, name, flags, mode).map_err(failed("create file"))?
            }
        };
        match &entry.extents {
            None => write_all(archive, &file, path)?,
            Some(extents) => write_extents(archive, &file, extents, entry.size, path)?,
        }
        chown(&file, self.owner(entry)).map_err(failed("change owner of"))?;
        let mode = Mode::from_bits_truncate(self.mode(entry));
        fchmod(&file, mode).map_err(failed("change mode of"))?;
        if !self.laying.harmless {
            // After the change of owner, which takes capabilities away.
            for (name, value) in entry.xattrs.iter().filter(|(name, _)| is_kept(name)) {
                match fsetxattr(file.as_fd(), name, value) {
                    // A file system without such attributes.
                    Err(Errno::EOPNOTSUPP) => {}
                    set => set.map_err(failed("set an extended attribute of"))?,
                }
            }
        }
        let time = time_spec(entry.mtime);
        futimens(&file, &time, &time).map_err(failed("set times of"))
    }

    fn special(
        &self,
        entry: &Entry,
        parent: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
    ) -> Result<(), Error> {
        let mode = Mode::from_bits_truncate(self.mode(entry));
        let make = |kind, device| mknodat(parent, name, kind, mode, device);
        let device = |major, minor| makedev(u64::from(major), u64::from(minor));
        let made = match entry.kind {
            Kind::Symlink => symlinkat(entry.link.as_slice(), parent, name),
            Kind::Block(major, minor) => make(SFlag::S_IFBLK, device(major, minor)),
            Kind::Character(major, minor) => make(SFlag::S_IFCHR, device(major, minor)),
            _ => make(SFlag::S_IFIFO, 0),
        };
        made.map_err(|errno| Error::entry("create", path, errno))?;
        if let Some((uid, gid)) = self.owner(entry) {
            let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
            fchownat(parent, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)
                .map_err(|errno| Error::entry("change owner of", path, errno))?;
        }
        let time = time_spec(entry.mtime);
        utimensat(parent, name, &time, &time, UtimensatFlags::NoFollowSymlink)
            .map_err(|errno| Error::entry("set times of", path, errno))
    }

    fn hard_link(
        &self,
        entry: &Entry,
        parent: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
    ) -> Result<(), Error> {
        let target = self.place(&entry.link)?;
        if target == path {
            return Ok(());
        }
        let (dir, target_name) = split(&target);
        let link = |action| move |errno| Error::entry(action, path, errno);
        let from = self.open(dir).map_err(link("link"))?;
        self.clear(parent, name, path)?;
        linkat(&from, target_name, parent, name, LinkatFlags::empty()).map_err(link("link"))
    }

    /// Makes way for a file. One that cannot go, as something is mounted on it, is opened and emptied, if it is the
    /// container's own affair.
    fn clear(
        &self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
    ) -> Result<Option<OwnedFd>, Error> {
        let failed = |errno| Error::entry("replace", path, errno);
        match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(None),
            Err(Errno::EBUSY) if self.laying.follow => {
                let flags = OFlag::O_WRONLY | OFlag::O_TRUNC | OFlag::O_NONBLOCK;
                open_beneath(parent, name, flags).map(Some).map_err(failed)
            }
            Err(errno) => Err(failed(errno)),
        }
    }

    fn owner(&self, entry: &Entry) -> Option<(u32, u32)> {
        match self.laying.owners {
            Owners::Archive => Some((entry.uid, entry.gid)),
            Owners::Caller => None,
            Owners::Root => Some((0, 0)),
        }
    }

    fn mode(&self, entry: &Entry) -> u32 {
        if self.laying.harmless { entry.mode & !SET_ID } else { entry.mode }
    }
}

fn chown(file: &OwnedFd, owner: Option<(u32, u32)>) -> nix::Result<()> {
    let Some((uid, gid)) = owner else { return Ok(()) };
    fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
}

fn write_all<R: BufRead>(
    archive: &mut Archive<'_, R>,
    file: &OwnedFd,
    path: &[u8],
) -> Result<(), Error> {
    loop {
        let data = archive.data()?;
        if data.is_empty() {
            return Ok(());
        }
        match write(file, data) {
            Ok(count) => archive.consume(count),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::entry("write file", path, errno)),
        }
    }
}

fn look(parent: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<Option<FileStat>, Error> {
    match fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(Error::entry("look at", path, errno)),
    }
}

fn is_directory(stat: &FileStat) -> bool {
    file_kind(stat.st_mode) == SFlag::S_IFDIR
}

/// Whether `..` would lead a name above where it starts.
fn leads_out(name: &[u8]) -> bool {
    let mut depth = 0_usize;
    for component in name.split(|b| *b == b'/') {
        match component {
            b"" | b"." => {}
            b".." if depth == 0 => return true,
            b".." => depth -= 1,
            _ => depth += 1,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_out() {
        for (name, out) in
            [("a/b", false), ("a/../b", false), ("./a", false), ("..", true), ("a/../../b", true)]
        {
            assert_eq!(leads_out(name.as_bytes()), out, "{name}");
        }
    }
}
