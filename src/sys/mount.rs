//! Mounts by descriptor: the system calls of Linux 5.2 and `mount_setattr(2)` of 5.12.
//!
//! A mount made here is detached: nobody can see it, change it or race for it until it is moved to its place.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use nix::errno::Errno;

use super::check;

/// Attributes of a mount, `MOUNT_ATTR_*`.
pub type Attributes = u64;

/// Cannot be written.
pub const RDONLY: Attributes = 0x1;
/// Set-user-id bits and file capabilities do not count.
pub const NOSUID: Attributes = 0x2;
/// Device nodes do not work.
pub const NODEV: Attributes = 0x4;
/// Programs cannot be executed.
pub const NOEXEC: Attributes = 0x8;
/// The bits that choose how access times are kept; none of them is `relatime`.
pub const ATIME: Attributes = 0x70;
/// Access times are not kept.
pub const NOATIME: Attributes = 0x10;
/// Access times are kept always.
pub const STRICTATIME: Attributes = 0x20;
/// Access times of directories are not kept.
pub const NODIRATIME: Attributes = 0x80;
/// Owners are shown through the mapping of a user namespace (since Linux 5.12).
const IDMAP: Attributes = 0x10_0000;
/// Symbolic links are not followed (since Linux 5.14).
pub const NOSYMFOLLOW: Attributes = 0x20_0000;

/// How mount events pass: `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`, `MS_UNBINDABLE`.
pub type Propagation = u64;

#[allow(missing_docs)]
pub const PRIVATE: Propagation = libc::MS_PRIVATE;
#[allow(missing_docs)]
pub const SHARED: Propagation = libc::MS_SHARED;
#[allow(missing_docs)]
pub const SLAVE: Propagation = libc::MS_SLAVE;
#[allow(missing_docs)]
pub const UNBINDABLE: Propagation = libc::MS_UNBINDABLE;

/// `struct mount_attr`.
#[repr(C)]
#[derive(Default)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

const OPEN_TREE_CLONE: libc::c_uint = 1;
const AT_RECURSIVE: libc::c_uint = 0x8000;
const CLOEXEC: libc::c_uint = libc::O_CLOEXEC as libc::c_uint;

fn owned(returned: libc::c_long) -> Result<OwnedFd, Errno> {
    let fd = check(returned)?;
    // SAFETY: every caller passes the result of a call that returns a new descriptor, which has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// A filesystem that is being configured.
#[derive(Debug)]
pub struct FsContext(OwnedFd);

impl FsContext {
    /// `fsopen(2)`: a new filesystem of type `name`.
    ///
    /// # Errors
    /// `ENODEV` if the kernel does not have the type, `EPERM` without `CAP_SYS_ADMIN`.
    pub fn open(name: &CStr) -> Result<Self, Errno> {
        const FSOPEN_CLOEXEC: libc::c_uint = 1;
        // SAFETY: the name is a C string.
        let fd = unsafe { libc::syscall(libc::SYS_fsopen, name.as_ptr(), FSOPEN_CLOEXEC) };
        owned(fd).map(Self)
    }

    fn config(&self, command: u32, key: Option<&CStr>, value: Option<&CStr>) -> Result<(), Errno> {
        let key = key.map_or(ptr::null(), CStr::as_ptr);
        let value = value.map_or(ptr::null(), CStr::as_ptr);
        let fd = self.0.as_raw_fd();
        // SAFETY: both strings are null or C strings.
        check(unsafe { libc::syscall(libc::SYS_fsconfig, fd, command, key, value, 0) })?;
        Ok(())
    }

    /// `FSCONFIG_SET_FLAG`: an option without a value.
    ///
    /// # Errors
    /// `EINVAL` if the filesystem does not know it.
    pub fn set_flag(&self, key: &CStr) -> Result<(), Errno> {
        self.config(0, Some(key), None)
    }

    /// `FSCONFIG_SET_STRING`: an option with a value; the key `source` is what is mounted.
    ///
    /// # Errors
    /// `EINVAL` if the filesystem does not know it or does not take the value.
    pub fn set_string(&self, key: &CStr, value: &CStr) -> Result<(), Errno> {
        self.config(1, Some(key), Some(value))
    }

    /// `FSCONFIG_CMD_CREATE` and `fsmount(2)`: the filesystem as a detached mount.
    ///
    /// # Errors
    /// What the filesystem reports.
    pub fn mount(self, attributes: Attributes) -> Result<OwnedFd, Errno> {
        const FSCONFIG_CMD_CREATE: u32 = 6;
        const FSMOUNT_CLOEXEC: libc::c_uint = 1;
        self.config(FSCONFIG_CMD_CREATE, None, None)?;
        let attributes = attributes as libc::c_uint;
        let fd = self.0.as_raw_fd();
        // SAFETY: no memory is passed.
        owned(unsafe { libc::syscall(libc::SYS_fsmount, fd, FSMOUNT_CLOEXEC, attributes) })
    }

    /// What the kernel has to say about a failure, one message, if it has anything: `e overlay: …`.
    pub fn message(&self) -> Option<String> {
        let mut buffer = [0; 512];
        let length = nix::unistd::read(&self.0, &mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).trim_end().to_owned())
    }
}

/// `open_tree(2)` with `OPEN_TREE_CLONE`: a detached copy of the mount at `path`, and of those below it if `recursive`.
/// An empty path means what `directory` is open on.
///
/// # Errors
/// What resolving the path reports; `EINVAL` for what is not in this mount namespace.
pub fn open_tree_clone(
    directory: BorrowedFd<'_>,
    path: &CStr,
    recursive: bool,
) -> Result<OwnedFd, Errno> {
    let mut flags = OPEN_TREE_CLONE | CLOEXEC | libc::AT_EMPTY_PATH as libc::c_uint;
    if recursive {
        flags |= AT_RECURSIVE;
    }
    let directory = directory.as_raw_fd();
    // SAFETY: the path is a C string.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, directory, path.as_ptr(), flags) })
}

/// `move_mount(2)`: puts the detached mount `mount` onto what `target` is open on, whatever its name is now.
///
/// # Errors
/// `ENOTDIR` when one is a directory and the other is not; `EINVAL` for a target of another mount namespace.
pub fn move_mount(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
    const F_EMPTY_PATH: libc::c_uint = 0x4;
    const T_EMPTY_PATH: libc::c_uint = 0x40;
    let (mount, target, empty) = (mount.as_raw_fd(), target.as_raw_fd(), c"".as_ptr());
    let flags = F_EMPTY_PATH | T_EMPTY_PATH;
    // SAFETY: both paths are empty C strings.
    check(unsafe { libc::syscall(libc::SYS_move_mount, mount, empty, target, empty, flags) })?;
    Ok(())
}

/// A change of a mount, by `mount_setattr(2)`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Change {
    /// The attributes to set.
    pub set: Attributes,
    /// The attributes to clear; to choose a kind of access time, [`ATIME`] must be here.
    pub clear: Attributes,
    /// The propagation to set; 0 leaves it.
    pub propagation: Propagation,
    /// Whether the mounts below change too.
    pub recursive: bool,
}

impl Change {
    /// Changes the mount that `mount` is open on, which must be its root.
    ///
    /// # Errors
    /// `EPERM` for what is locked, `EINVAL` for what the kernel does not know.
    pub fn apply(&self, mount: BorrowedFd<'_>) -> Result<(), Errno> {
        let attr = MountAttr {
            attr_set: self.set,
            attr_clr: self.clear,
            propagation: self.propagation,
            userns_fd: 0,
        };
        mount_setattr(mount, self.recursive, &attr)
    }
}

/// Shows the owners of a detached mount through the mapping of `user_namespace`: what is 0 on disk is 0 inside.
///
/// # Errors
/// `EINVAL` if the filesystem cannot (`fs_allow_idmap`), `EPERM` without `CAP_SYS_ADMIN` where it was mounted.
pub fn idmap(
    mount: BorrowedFd<'_>,
    user_namespace: BorrowedFd<'_>,
    recursive: bool,
) -> Result<(), Errno> {
    let userns_fd = u64::try_from(user_namespace.as_raw_fd()).unwrap_or(u64::MAX);
    let attr = MountAttr { attr_set: IDMAP, userns_fd, ..MountAttr::default() };
    mount_setattr(mount, recursive, &attr)
}

fn mount_setattr(mount: BorrowedFd<'_>, recursive: bool, attr: &MountAttr) -> Result<(), Errno> {
    let mut flags = libc::AT_EMPTY_PATH as libc::c_uint;
    if recursive {
        flags |= AT_RECURSIVE;
    }
    let (fd, path, size) = (mount.as_raw_fd(), c"".as_ptr(), size_of::<MountAttr>());
    let attr = ptr::from_ref(attr);
    // SAFETY: the path is an empty C string, and `attr` has the size that is passed.
    check(unsafe { libc::syscall(libc::SYS_mount_setattr, fd, path, flags, attr, size) })?;
    Ok(())
}
