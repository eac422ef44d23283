//! `seccomp(2)`: a filter of system calls, as a classic BPF program.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

use super::check;

/// One instruction: `struct sock_filter`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[allow(missing_docs)]
pub struct Instruction {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

#[repr(C)]
struct Program {
    len: u16,
    filter: *const Instruction,
}

/// The most instructions a filter can have (`BPF_MAXINSNS`).
pub const MAX_INSTRUCTIONS: usize = 4096;

/// Lays `filter` on this thread, for good.
///
/// # Errors
/// What `seccomp(2)` reports: `EACCES` without `CAP_SYS_ADMIN` and `no_new_privs`, `EINVAL` for a program that the kernel
/// does not take.
pub fn set_mode_filter(filter: &[Instruction], flags: u32) -> Result<(), Errno> {
    seccomp(filter, flags).map(drop)
}

/// As [`set_mode_filter`], with a descriptor that tells of the calls that the filter leaves to an agent
/// (`SECCOMP_FILTER_FLAG_NEW_LISTENER`, since Linux 5.0). From then on
/// this thread waits in such calls until the agent has decided.
///
/// # Errors
/// As for [`set_mode_filter`]; `EBUSY` if a filter before this one has an agent already.
pub fn set_mode_filter_listening(filter: &[Instruction], flags: u32) -> Result<OwnedFd, Errno> {
    let listener = seccomp(filter, flags | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32)?;
    // SAFETY: the call has just made this descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(listener as RawFd) })
}

fn seccomp(filter: &[Instruction], flags: u32) -> Result<libc::c_long, Errno> {
    let len = u16::try_from(filter.len()).map_err(|_| Errno::EINVAL)?;
    let program = Program { len, filter: filter.as_ptr() };
    // SAFETY: the program points to `len` instructions, which the kernel copies before it returns.
    check(unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
    })
}
