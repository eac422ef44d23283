//! `seccomp(2)`: a filter of system calls, as a classic BPF program.

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
    let len = u16::try_from(filter.len()).map_err(|_| Errno::EINVAL)?;
    let program = Program { len, filter: filter.as_ptr() };
    // SAFETY: the program points to `len` instructions, which the kernel copies before it returns.
    check(unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
    })?;
    Ok(())
}
