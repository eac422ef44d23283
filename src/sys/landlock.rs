//! `landlock(7)`: what a thread may still do to files, whatever its credentials and descriptors.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

use super::check;

/// Rights on files below a directory, `LANDLOCK_ACCESS_FS_*`.
pub type Access = u64;

/// To execute a file.
pub const EXECUTE: Access = 1 << 0;
/// Every right of the first version of the interface, which Linux 5.13 has.
pub const VERSION_1: Access = (1 << 13) - 1;
/// To link or rename a file into another directory (version 2, Linux 5.19).
pub const REFER: Access = 1 << 13;
/// To truncate a file (version 3, Linux 6.2).
pub const TRUNCATE: Access = 1 << 14;
/// To control an open device (version 5, Linux 6.10).
pub const IOCTL_DEV: Access = 1 << 15;

/// `struct landlock_ruleset_attr`.
#[repr(C)]
struct RulesetAttr {
    handled_access_fs: u64,
    handled_access_net: u64,
    scoped: u64,
}

/// `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct PathBeneathAttr {
    allowed_access: u64,
    parent_fd: i32,
}

/// The version of the interface; 0 where there is none, or where it is turned off.
pub fn version() -> u32 {
    const LANDLOCK_CREATE_RULESET_VERSION: u32 = 1;
    let (attr, size, flags) =
        (std::ptr::null::<RulesetAttr>(), 0_usize, LANDLOCK_CREATE_RULESET_VERSION);
    // SAFETY: with this flag no memory is read.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, attr, size, flags) };
    u32::try_from(version).unwrap_or(0)
}

/// A set of rules in the making.
#[derive(Debug)]
pub struct Ruleset(OwnedFd);

impl Ruleset {
    /// A set that forbids what is `handled`, and all of TCP and the reaching of other processes as far as the kernel's
    /// `version` of the interface can.
    ///
    /// # Errors
    /// landlock_create_ruleset(2).
    pub fn new(handled: Access, version: u32) -> Result<Self, Errno> {
        /// `LANDLOCK_ACCESS_NET_BIND_TCP | LANDLOCK_ACCESS_NET_CONNECT_TCP` (version 4, Linux 6.7).
        const NET: u64 = 3;
        /// `LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | LANDLOCK_SCOPE_SIGNAL` (version 6, Linux 6.12).
        const SCOPED: u64 = 3;
        let from = |first, bits| if version >= first { bits } else { 0 };
        let attr = RulesetAttr {
            handled_access_fs: handled,
            handled_access_net: from(4, NET),
            scoped: from(6, SCOPED),
        };
        // An older kernel takes more fields as long as they are zero.
        let size = size_of::<RulesetAttr>();
        // SAFETY: `attr` has the size that is passed.
        let fd = unsafe {
            libc::syscall(libc::SYS_landlock_create_ruleset, &raw const attr, size, 0_u32)
        };
        let fd = check(fd)?;
        // SAFETY: the call succeeded, and the new descriptor has no other owner.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd as RawFd) }))
    }

    /// Allows `access` to everything below `directory`.
    ///
    /// # Errors
    /// landlock_add_rule(2).
    pub fn allow(&self, directory: BorrowedFd<'_>, access: Access) -> Result<(), Errno> {
        const LANDLOCK_RULE_PATH_BENEATH: u32 = 1;
        let attr = PathBeneathAttr { allowed_access: access, parent_fd: directory.as_raw_fd() };
        let (fd, kind) = (self.0.as_raw_fd(), LANDLOCK_RULE_PATH_BENEATH);
        // SAFETY: `attr` is what this kind of rule is made of.
        check(unsafe {
            libc::syscall(libc::SYS_landlock_add_rule, fd, kind, &raw const attr, 0_u32)
        })?;
        Ok(())
    }

    /// Lays the rules on this thread, for good.
    ///
    /// # Errors
    /// landlock_restrict_self(2): `EPERM` without `no_new_privs`.
    pub fn restrict_self(self) -> Result<(), Errno> {
        let fd = self.0.as_raw_fd();
        // SAFETY: no memory is passed.
        check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, fd, 0_u32) })?;
        Ok(())
    }
}
