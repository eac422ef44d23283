//! Files and directories reached through directory descriptors: openat2(2), getdents64(2).

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::statfs::{FsType, fstatfs};

/// How a directory is opened that will only be passed to `*at` calls.
pub const PATH_DIRECTORY: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);
/// How a directory is opened that will be listed, or whose metadata will be changed.
pub const READ_DIRECTORY: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Opens `path` beneath `dir`, meeting no symbolic link on the way and none at its end.
///
/// An empty path means `dir` itself. With `O_PATH | O_NOFOLLOW` a link at the end is opened itself.
///
/// # Errors
/// openat2(2): `ELOOP` for a symbolic link, `EXDEV` where the path would leave `dir`.
pub fn open_beneath(dir: BorrowedFd<'_>, path: &[u8], flags: OFlag) -> nix::Result<OwnedFd> {
    resolve(dir, path, flags, ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS)
}

/// Like [`open_beneath`], but refuses to enter another mount, with `EXDEV`.
///
/// # Errors
/// openat2(2).
pub fn open_on_mount(dir: BorrowedFd<'_>, path: &[u8], flags: OFlag) -> nix::Result<OwnedFd> {
    let resolve_flags = ResolveFlag::RESOLVE_BENEATH
        | ResolveFlag::RESOLVE_NO_SYMLINKS
        | ResolveFlag::RESOLVE_NO_XDEV;
    resolve(dir, path, flags, resolve_flags)
}

/// Opens `path` beneath `dir`; links are followed as long as they do not lead out of it.
///
/// # Errors
/// openat2(2): `EXDEV` where the path, or a link on the way, would leave `dir`, as every absolute link does.
pub fn open_within(dir: BorrowedFd<'_>, path: &[u8], flags: OFlag) -> nix::Result<OwnedFd> {
    resolve(dir, path, flags, ResolveFlag::RESOLVE_BENEATH)
}

/// Opens `path` as if `root` were the root directory: symbolic links are followed, and neither they nor `..` lead out.
///
/// # Errors
/// openat2(2): `ELOOP` after 40 links.
pub fn open_in_root(root: BorrowedFd<'_>, path: &[u8], flags: OFlag) -> nix::Result<OwnedFd> {
    resolve(root, path, flags, ResolveFlag::RESOLVE_IN_ROOT)
}

/// Opens `path` from `dir` on, following symbolic links to wherever they lead for this process, but for the magic links of
/// proc.
///
/// # Errors
/// openat2(2): `ELOOP` also for a magic link.
pub fn open_following(dir: BorrowedFd<'_>, path: &[u8], flags: OFlag) -> nix::Result<OwnedFd> {
    resolve(dir, path, flags, ResolveFlag::empty())
}

/// Whether a file lies on a file system whose files the kernel makes up: proc, sysfs, control groups and their like.
///
/// # Errors
/// fstatfs(2).
pub fn is_of_the_kernel(file: BorrowedFd<'_>) -> nix::Result<bool> {
    /// From `linux/magic.h`; those of BPF, cgroup v1 and v2, debugfs, devpts, proc, message queues, securityfs, sysfs and
    /// tracefs.
    const MAGIC: [FsType; 10] = [
        FsType(0xcafe_4a11),
        FsType(0x0027_e0eb),
        FsType(0x6367_7270),
        FsType(0x6462_6720),
        FsType(0x0000_1cd1),
        FsType(0x0000_9fa0),
        FsType(0x1980_0202),
        FsType(0x7363_6673),
        FsType(0x6265_6572),
        FsType(0x7472_6163),
    ];
    Ok(MAGIC.contains(&fstatfs(file)?.filesystem_type()))
}

fn resolve(
    dir: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlag,
    resolve: ResolveFlag,
) -> nix::Result<OwnedFd> {
    let path = if path.is_empty() { b"." } else { path };
    let resolve = resolve | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve);
    loop {
        match openat2(dir, path, how) {
            // A rename elsewhere on the system may make the kernel unsure of `..`; openat2(2) says to try again.
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            other => return other,
        }
    }
}

/// Changes the mode of `name` in `dir`; a symbolic link is not followed.
///
/// The C library's fchmodat(3) goes through /proc for that, which is not everywhere.
///
/// # Errors
/// fchmodat2(2): `ENOSYS` before Linux 6.6.
pub fn fchmodat2(dir: BorrowedFd<'_>, name: &[u8], mode: u32) -> nix::Result<()> {
    /// The same on every machine.
    const SYS_FCHMODAT2: libc::c_long = 452;
    let name = std::ffi::CString::new(name).map_err(|_| Errno::EINVAL)?;
    let (fd, name, flags) = (dir.as_raw_fd(), name.as_ptr(), libc::AT_SYMLINK_NOFOLLOW);
    // SAFETY: the name ends in NUL.
    Errno::result(unsafe { libc::syscall(SYS_FCHMODAT2, fd, name, mode, flags) }).map(drop)
}

/// What kind of file a directory entry names, as far as the file system says so without a look at the inode.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// Anything that is surely no directory.
    Other,
    /// The file system does not say.
    Unknown,
}

/// A stream of the entries of a directory, without `.` and `..`.
///
/// Unlike readdir(3) it can be left and come back to, holds a fixed buffer, and hands out names without a copy.
#[derive(Debug)]
pub struct DirReader {
    fd: OwnedFd,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    inode: u64,
}

/// The fixed part of `struct linux_dirent64` (getdents64(2)) before its name.
const DIRENT_NAME: usize = 19;

impl DirReader {
    /// Reads the directory that `fd` has open for reading, from its present offset.
    pub fn new(fd: OwnedFd) -> Self {
        Self { fd, buffer: vec![0; 16 << 10], start: 0, end: 0, inode: 0 }
    }

    /// The directory's descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        use std::os::fd::AsFd;
        self.fd.as_fd()
    }

    /// The directory's descriptor, when all of it has been read.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// The inode number of the last entry, as the directory has it. What stat(2) says may be another number: behind a mount,
    /// or on a file system that makes its own.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// Starts over from the directory's first entry.
    ///
    /// # Errors
    /// lseek(2).
    pub fn rewind(&mut self) -> nix::Result<()> {
        (self.start, self.end) = (0, 0);
        nix::unistd::lseek(&self.fd, 0, nix::unistd::Whence::SeekSet).map(drop)
    }

    /// The next entry; `None` at the end.
    ///
    /// # Errors
    /// getdents64(2); `EIO` if the kernel returns a record that cannot be.
    pub fn next_entry(&mut self) -> nix::Result<Option<(&[u8], EntryKind)>> {
        loop {
            if self.start == self.end {
                self.end = getdents64(&self.fd, &mut self.buffer)?;
                self.start = 0;
                if self.end == 0 {
                    return Ok(None);
                }
            }
            let record = &self.buffer[self.start..self.end];
            let (Some(&[low, high]), Some(&kind)) = (record.get(16..18), record.get(18)) else {
                return Err(Errno::EIO);
            };
            let inode = record.first_chunk().copied().map(u64::from_ne_bytes);
            self.inode = inode.unwrap_or_default();
            let length = usize::from(u16::from_ne_bytes([low, high]));
            let name = record.get(DIRENT_NAME..length).ok_or(Errno::EIO)?;
            let name_end = CStr::from_bytes_until_nul(name).map_err(|_| Errno::EIO)?.count_bytes();
            let name_start = self.start + DIRENT_NAME;
            self.start += length;
            let kind = match kind {
                libc::DT_DIR => EntryKind::Directory,
                libc::DT_UNKNOWN => EntryKind::Unknown,
                _ => EntryKind::Other,
            };
            let range = name_start..name_start + name_end;
            if !matches!(&self.buffer[range.clone()], b"." | b"..") {
                return Ok(Some((&self.buffer[range], kind)));
            }
        }
    }
}

fn getdents64(fd: &OwnedFd, buffer: &mut [u8]) -> nix::Result<usize> {
    // SAFETY: the kernel writes at most `buffer.len()` bytes to `buffer`, which is writable for that long.
    let read = unsafe {
        libc::syscall(libc::SYS_getdents64, fd.as_raw_fd(), buffer.as_mut_ptr(), buffer.len())
    };
    usize::try_from(Errno::result(read)?).map_err(|_| Errno::EIO)
}
