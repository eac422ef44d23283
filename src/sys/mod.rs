//! The only unsafe code: thin wrappers of system calls, named after their man pages, taking and returning owned descriptors.
//!
//! Nothing here knows of images or containers; what `nix` already wraps is called from there directly.

pub mod bpf;
pub mod caps;
pub mod clone;
pub mod disk_usage;
pub mod fs;
pub mod landlock;
pub mod mount;
pub mod net;
pub mod netlink;
pub mod pidfd;
pub mod process;
pub mod random;
pub mod remove_tree;
pub mod schedule;
pub mod seccomp;
pub mod socket;
pub mod tty;
pub mod xattr;

use nix::errno::Errno;

/// What `syscall(2)` returned, or the error number.
fn check(returned: libc::c_long) -> Result<libc::c_long, Errno> {
    if returned < 0 { Err(Errno::last()) } else { Ok(returned) }
}
