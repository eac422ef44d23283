//! Processes by descriptor, which cannot come to mean another process: `pidfd_open(2)`, `pidfd_send_signal(2)`.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use nix::errno::Errno;
use nix::unistd::Pid;

use super::check;

/// A descriptor for the process that has this number now.
///
/// # Errors
/// What `pidfd_open(2)` reports: `ESRCH` if there is none.
pub fn pidfd_open(pid: Pid) -> Result<OwnedFd, Errno> {
    // SAFETY: no memory is passed.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })?;
    // SAFETY: the call succeeded, and the new descriptor has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Sends the signal with this number; real-time signals have no name in `nix`.
///
/// # Errors
/// What `pidfd_send_signal(2)` reports: `ESRCH` if the process has ended.
pub fn pidfd_send_signal(pidfd: impl AsFd, signal: i32) -> Result<(), Errno> {
    let fd = pidfd.as_fd().as_raw_fd();
    let info = ptr::null::<libc::siginfo_t>();
    // SAFETY: a null `info` is allowed and means that of kill(2).
    check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, info, 0) })?;
    Ok(())
}

/// How a process ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ended {
    /// By itself, with this status.
    Exited(u8),
    /// By the signal with this number.
    Signaled(i32),
}

/// Waits until a child has ended, and takes its status: `waitid(2)` with `P_PIDFD` (since Linux 5.4).
///
/// # Errors
/// What `waitid(2)` reports: `ECHILD` if it is no child or somebody has waited for it already.
pub fn pidfd_wait(pidfd: impl AsFd) -> Result<Ended, Errno> {
    let fd = pidfd.as_fd().as_raw_fd().unsigned_abs();
    loop {
        // SAFETY: all zeros is a siginfo.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: `info` outlives the call.
        let returned = unsafe { libc::waitid(libc::P_PIDFD, fd, &raw mut info, libc::WEXITED) };
        match Errno::result(returned) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
            Ok(_) => {
                // SAFETY: waitid has filled in the members for a child that ended.
                let status = unsafe { info.si_status() };
                return Ok(match info.si_code {
                    // Only eight bits are kept of what was passed to exit.
                    libc::CLD_EXITED => Ended::Exited((status & 0xff) as u8),
                    _ => Ended::Signaled(status),
                });
            }
        }
    }
}
