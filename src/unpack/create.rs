//! Making one file, with all that its entry says about it.

use std::fs::File;
use std::io::BufRead;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{
    FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmod, fchmodat, fstatat, futimens, makedev,
    mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::sys::uio::pwrite;
use nix::unistd::{Gid, Uid, fchdir, fchown, fchownat, ftruncate, symlinkat};

use super::chunk::ChunkReader;
use super::error::{Error, shown};
use super::extract::Extractor;
use super::note::Content;
use super::tar::{Archive, Entry, Extent, Kind, Time, Xattr};
use super::tree::{NodeId, State};
use super::writer::{Attributes, SPECIAL_BITS, Stopped, settle};
use crate::sys::fs::{READ_DIRECTORY, fchmodat2, open_beneath};
use crate::sys::xattr::{fsetxattr, lsetxattr, lsetxattrat};

/// Whether an extended attribute belongs into an unpacked tree.
///
/// What is left out are the notes of file systems and kernels on the machine where the image was made
/// (`security.selinux`, `security.ima`, …), and above all what would make overlayfs show something else than what was
/// unpacked (`trusted.overlay.*`, `user.overlay.*`).
pub(super) fn is_kept(name: &[u8]) -> bool {
    match name {
        b"security.capability" | b"system.posix_acl_access" | b"system.posix_acl_default" => true,
        _ => name.starts_with(b"user.") && !name.starts_with(b"user.overlay."),
    }
}

pub(super) fn time_spec(time: Time) -> TimeSpec {
    TimeSpec::new(time.seconds, i64::from(time.nanoseconds))
}

impl Extractor<'_> {
    pub(super) fn file(
        &mut self,
        archive: &mut Archive<'_, ChunkReader>,
        entry: &mut Entry,
        parent: NodeId,
        name: &[u8],
        path: &[u8],
    ) -> Result<(), Error> {
        if self.link_lent(entry, parent, name, path)? {
            return Ok(());
        }
        // A sparse file is read again, for its digest.
        let access = if entry.extents.is_some() { OFlag::O_RDWR } else { OFlag::O_WRONLY };
        let flags = access | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mode = Mode::from_bits_truncate(entry.mode & !SPECIAL_BITS);
        let file = self
            .replacing(parent, name, path, "create file", |dir| openat(dir, name, flags, mode))?;
        let Some(extents) = entry.extents.take() else {
            return self.hand_over(archive, entry, file, path);
        };
        write_extents(archive, &file, &extents, entry.size, path)?;
        let content = self.hash_sparse(&file, path)?;
        let attributes = Attributes::of(entry, self.entries);
        let notes = self.notes.as_ref();
        self.dropped_xattrs += settle(&file, &attributes, content, notes, self.created, path)?;
        Ok(())
    }

    /// Leaves the present entry's data, where it was decompressed to, and all else to the writer.
    fn hand_over(
        &mut self,
        archive: &mut Archive<'_, ChunkReader>,
        entry: &mut Entry,
        file: OwnedFd,
        path: &[u8],
    ) -> Result<(), Error> {
        let stopped = |_: Stopped| Error::Stopped;
        self.writer.open(file, path).map_err(stopped)?;
        loop {
            let length = archive.data()?.len();
            let Some(slice) = archive.reader().slice(length).filter(|_| length > 0) else { break };
            archive.consume(length);
            self.writer.data(slice).map_err(stopped)?;
        }
        self.writer.close(Attributes::of(entry, self.entries)).map_err(stopped)
    }

    /// Links the file from another tree that has it; `false` if there is none, or none that is as it was.
    fn link_lent(
        &mut self,
        entry: &Entry,
        parent: NodeId,
        name: &[u8],
        path: &[u8],
    ) -> Result<bool, Error> {
        let Some(mut links) = self.links.take() else { return Ok(false) };
        let lent = links.find(self.entries);
        // Whatever stands in the way, such as a donor that is being removed: then the file is written.
        let linked = match lent.map(|lent| links.link(lent, &self.tree, parent, name)) {
            Some(Err(Errno::EEXIST)) => {
                self.clear(parent, name, path)?;
                lent.is_some_and(|lent| links.link(lent, &self.tree, parent, name).is_ok())
            }
            Some(result) => result.is_ok(),
            None => false,
        };
        self.links = Some(links);
        let Some(lent) = lent.filter(|_| linked) else { return Ok(false) };
        let dir = self.fd(parent, path)?;
        let stat = fstatat(&*dir, name, AtFlags::AT_SYMLINK_NOFOLLOW);
        let stat = stat.map_err(|errno| Error::entry("look at", path, errno))?;
        if !lent.is(entry, &stat) {
            self.clear(parent, name, path)?;
            return Ok(false);
        }
        if let Some(notes) = &self.notes {
            notes.made(&stat, self.entries, lent.content(), &entry.xattrs);
        }
        Ok(true)
    }

    fn hash_sparse(&mut self, file: &OwnedFd, path: &[u8]) -> Result<Content, Error> {
        let Some(notes) = &mut self.notes else { return Ok(Content::None) };
        let read = |source| Error::Entry { action: "read", path: shown(path), source };
        let mut file = File::from(file.try_clone().map_err(read)?);
        Ok(Content::Sparse(notes.hasher.file(&mut file, true).map_err(read)?))
    }

    pub(super) fn symlink(
        &mut self,
        entry: &Entry,
        parent: NodeId,
        name: &[u8],
        path: &[u8],
    ) -> Result<(), Error> {
        let target = entry.link.as_slice();
        self.replacing(parent, name, path, "create symbolic link", |dir| {
            symlinkat(target, dir, name)
        })?;
        self.finish_unopened(entry, parent, name, path)
    }

    pub(super) fn special(
        &mut self,
        entry: &Entry,
        parent: NodeId,
        name: &[u8],
        path: &[u8],
    ) -> Result<(), Error> {
        let (kind, major, minor) = match entry.kind {
            Kind::Block(major, minor) => (SFlag::S_IFBLK, major, minor),
            Kind::Character(major, minor) => (SFlag::S_IFCHR, major, minor),
            _ => (SFlag::S_IFIFO, 0, 0),
        };
        let device = makedev(u64::from(major), u64::from(minor));
        let mode = Mode::from_bits_truncate(entry.mode & !SPECIAL_BITS);
        self.replacing(parent, name, path, "create device or FIFO", |dir| {
            mknodat(dir, name, kind, mode, device)
        })?;
        self.finish_unopened(entry, parent, name, path)
    }

    /// Sets the metadata of a file that must not be opened, by its name in the directory that it was just made in.
    fn finish_unopened(
        &mut self,
        entry: &Entry,
        parent: NodeId,
        name: &[u8],
        path: &[u8],
    ) -> Result<(), Error> {
        let failed = |action| move |errno| Error::entry(action, path, errno);
        let dir = self.fd(parent, path)?;
        if self.must_chown(entry) {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            fchownat(&*dir, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
                .map_err(failed("change owner of"))?;
        }
        let chmod = !self.created.exact_modes || entry.mode & SPECIAL_BITS != 0;
        if chmod && entry.kind != Kind::Symlink {
            let changed = match fchmodat2(dir.as_fd(), name, entry.mode) {
                // It was made a moment ago, is no link, and nobody else has access to where it is.
                Err(Errno::ENOSYS) => {
                    let mode = Mode::from_bits_truncate(entry.mode);
                    fchmodat(&*dir, name, mode, FchmodatFlags::FollowSymlink)
                }
                other => other,
            };
            changed.map_err(failed("change mode of"))?;
        }
        for (xattr, value) in &entry.xattrs {
            let own_directory = self.created.exact_modes;
            self.dropped_xattrs += set_xattr(xattr, path, |xattr| {
                if !own_directory {
                    return lsetxattrat(dir.as_fd(), name, xattr, value);
                }
                // There is no /proc behind the walls.
                fchdir(&*dir)?;
                lsetxattr(name, xattr, value)
            })?;
        }
        let time = time_spec(entry.mtime);
        utimensat(&*dir, name, &time, &time, UtimensatFlags::NoFollowSymlink)
            .map_err(failed("set times of"))?;
        if let Some(notes) = &self.notes {
            let stat = fstatat(&*dir, name, AtFlags::AT_SYMLINK_NOFOLLOW);
            let stat = stat.map_err(failed("look at"))?;
            notes.made(&stat, self.entries, Content::None, &entry.xattrs);
        }
        Ok(())
    }

    fn must_chown(&self, entry: &Entry) -> bool {
        self.created.own != Some((entry.uid, entry.gid))
    }

    /// Keeps a directory's extended attributes for the end, in place of those of an earlier entry.
    pub(super) fn note_xattrs(
        &mut self,
        node: NodeId,
        mut xattrs: Vec<Xattr>,
    ) -> Result<(), Error> {
        let size = |xattrs: &[Xattr]| -> u64 {
            xattrs.iter().map(|(name, value)| (name.len() + value.len()) as u64).sum()
        };
        xattrs.retain(|(name, _)| is_kept(name));
        if !self.directory_xattrs.is_empty()
            && let Some(old) = self.directory_xattrs.remove(&node)
        {
            self.directory_xattr_bytes -= size(&old);
        }
        if xattrs.is_empty() {
            return Ok(());
        }
        self.directory_xattr_bytes += size(&xattrs);
        let maximum = self.limits.directory_xattrs;
        if self.directory_xattr_bytes > maximum {
            let what = "bytes of extended attributes of directories";
            return Err(Error::Limit { what, maximum });
        }
        self.directory_xattrs.insert(node, xattrs);
        Ok(())
    }

    /// Gives all directories their metadata, now that nothing is created in them any more. Children come before their
    /// parents, which they might not be reachable through afterwards.
    pub(super) fn finish(&mut self) -> Result<(), Error> {
        for node in self.tree.live().into_iter().rev() {
            if self.tree.state(node) != State::Ghost {
                let path = self.tree.path(node);
                let dir = self.fd(self.tree.parent(node), &path)?;
                let fd = open_beneath(dir.as_fd(), self.tree.name(node), READ_DIRECTORY)
                    .map_err(|errno| Error::entry("open directory", &path, errno))?;
                self.finish_directory(node, fd.as_fd(), &path)?;
            }
        }
        Ok(())
    }

    fn finish_directory(
        &mut self,
        node: NodeId,
        fd: BorrowedFd<'_>,
        path: &[u8],
    ) -> Result<(), Error> {
        let failed = |action| move |errno| Error::entry(action, path, errno);
        let metadata = self.tree.metadata(node);
        if self.created.own != Some((metadata.uid, metadata.gid)) {
            let (uid, gid) = (Uid::from_raw(metadata.uid), Gid::from_raw(metadata.gid));
            fchown(fd, Some(uid), Some(gid)).map_err(failed("change owner of"))?;
        }
        let mode = Mode::from_bits_truncate(metadata.mode);
        fchmod(fd, mode).map_err(failed("change mode of"))?;
        for (name, value) in self.directory_xattrs.remove(&node).unwrap_or_default() {
            self.dropped_xattrs += set_xattr(&name, path, |name| fsetxattr(fd, name, &value))?;
        }
        let time = time_spec(metadata.mtime);
        futimens(fd, &time, &time).map_err(failed("set times of"))
    }
}

/// Sets an extended attribute, if it is one to keep; returns how many were left out, because the file system cannot hold
/// them.
pub(super) fn set_xattr(
    name: &[u8],
    path: &[u8],
    set: impl FnOnce(&[u8]) -> nix::Result<()>,
) -> Result<u64, Error> {
    if !is_kept(name) {
        return Ok(0);
    }
    match set(name) {
        Err(Errno::EOPNOTSUPP) if name != b"security.capability" => Ok(1),
        other => other
            .map(|()| 0)
            .map_err(|errno| Error::entry("set extended attribute of", path, errno)),
    }
}

/// Writes the data of a sparse file where it belongs, leaving holes between.
pub(super) fn write_extents<R: BufRead>(
    archive: &mut Archive<'_, R>,
    file: &OwnedFd,
    extents: &[Extent],
    size: u64,
    path: &[u8],
) -> Result<(), Error> {
    let failed = |errno| Error::entry("write file", path, errno);
    let signed = |offset: u64| i64::try_from(offset).map_err(|_| failed(Errno::EFBIG));
    for extent in extents {
        let (mut offset, mut length) = (extent.offset, extent.length);
        while length > 0 {
            let data = archive.data()?;
            let most = data.len().min(usize::try_from(length).unwrap_or(usize::MAX));
            match pwrite(file, &data[..most], signed(offset)?) {
                Ok(count) => {
                    archive.consume(count);
                    offset += count as u64;
                    length -= count as u64;
                }
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
    }
    ftruncate(file, signed(size)?).map_err(failed)
}
