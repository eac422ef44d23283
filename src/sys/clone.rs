//! `clone3(2)`: a child in namespaces and a control group of its own.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::stat;
use nix::unistd::{ForkResult, Pid};

use super::check;

/// The new namespaces, as `CLONE_NEW*` bits. `CLONE_NEWTIME` shares its bit with the exit signal of the old `clone(2)`, so
/// it exists here alone.
pub type Namespaces = u64;

#[allow(missing_docs)]
pub const NEWCGROUP: Namespaces = libc::CLONE_NEWCGROUP as u64;
#[allow(missing_docs)]
pub const NEWIPC: Namespaces = libc::CLONE_NEWIPC as u64;
#[allow(missing_docs)]
pub const NEWNET: Namespaces = libc::CLONE_NEWNET as u64;
#[allow(missing_docs)]
pub const NEWNS: Namespaces = libc::CLONE_NEWNS as u64;
#[allow(missing_docs)]
pub const NEWPID: Namespaces = libc::CLONE_NEWPID as u64;
#[allow(missing_docs)]
pub const NEWTIME: Namespaces = 0x80;
#[allow(missing_docs)]
pub const NEWUSER: Namespaces = libc::CLONE_NEWUSER as u64;
#[allow(missing_docs)]
pub const NEWUTS: Namespaces = libc::CLONE_NEWUTS as u64;

/// The bits above, for `setns(2)` and `unshare(2)`.
pub fn flags(namespaces: Namespaces) -> CloneFlags {
    CloneFlags::from_bits_retain(namespaces as i32)
}

/// The user namespace that a namespace belongs to: whose root has power over it (`NS_GET_USERNS`, since Linux 4.9).
///
/// # Errors
/// What `ioctl_nsfs(2)` reports: `EPERM` if that is none of this process's user namespace or below it.
pub fn owner(namespace: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    const NS_GET_USERNS: libc::Ioctl = 0xb701;
    // SAFETY: no memory is passed.
    let fd = check(unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_USERNS) }.into())?;
    // SAFETY: the call has just made this descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Make the child in a version 2 control group (since Linux 5.7).
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// How long threads that have done their work may take to be gone.
const THREADS_END: Duration = Duration::from_secs(1);

/// `struct clone_args` up to `cgroup` (`CLONE_ARGS_SIZE_VER2`).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// On which side of the call one is.
#[derive(Debug)]
pub enum Clone {
    /// In the new process.
    Child,
    /// In the old one, with the new one's number and a descriptor for it.
    Parent(Pid, OwnedFd),
}

/// Makes a copy of this process, as `fork(2)` does, in new `namespaces` and, if given, the version 2 control group open
/// as `cgroup`.
///
/// # Errors
/// `EDEADLK` if this process has more than one thread, and keeps them for a second: locks that another one holds would stay
/// locked in the copy for ever, and so the copy could not even allocate. Else what `clone3(2)` reports.
pub fn clone3(namespaces: Namespaces, cgroup: Option<BorrowedFd<'_>>) -> Result<Clone, Errno> {
    wait_for_ended_threads()?;
    clone(namespaces, libc::SIGCHLD as u64, cgroup)
}

/// A thread that was joined may be on its way out still: a scope ends with the closures of its threads, and the kernel lets
/// `pthread_join(3)` return before it takes the thread off its list.
fn wait_for_ended_threads() -> Result<(), Errno> {
    let end = Instant::now() + THREADS_END;
    // A directory has two links and one more for each directory in it: one a thread.
    while stat::stat(c"/proc/self/task")?.st_nlink > 3 {
        if Instant::now() >= end {
            return Err(Errno::EDEADLK);
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    Ok(())
}

/// As [`clone3`], and the child is one of this process's parent, which waits for it as for its own (`CLONE_PARENT`). Only a
/// process that was itself made by [`clone3`] may call it, as that has one thread.
///
/// # Errors
/// What `clone3(2)` reports.
pub fn clone3_sibling(
    namespaces: Namespaces,
    cgroup: Option<BorrowedFd<'_>>,
) -> Result<Clone, Errno> {
    // The signal at its end is that of this process.
    clone(namespaces | libc::CLONE_PARENT as u64, 0, cgroup)
}

fn clone(flags: u64, exit_signal: u64, cgroup: Option<BorrowedFd<'_>>) -> Result<Clone, Errno> {
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: flags | libc::CLONE_PIDFD as u64,
        pidfd: std::ptr::from_mut(&mut pidfd).addr() as u64,
        exit_signal,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::try_from(cgroup.as_raw_fd()).unwrap_or(u64::MAX);
    }
    // SAFETY: without CLONE_VM this is fork: the child has a copy of everything, its only thread goes on here, and no
    // other thread held a lock. `pidfd` outlives the call.
    let pid =
        check(unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) })?;
    if pid == 0 {
        return Ok(Clone::Child);
    }
    // SAFETY: the call succeeded in the parent, so the kernel has stored a descriptor that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Clone::Parent(Pid::from_raw(pid as i32), pidfd))
}

/// `fork(2)`, for a process that was itself made by [`clone3`], as that has one thread, and may be kept from `clone3` by a
/// system call filter.
///
/// # Errors
/// What `fork(2)` reports.
pub fn fork() -> Result<ForkResult, Errno> {
    // SAFETY: no other thread holds a lock that would stay locked in the child.
    unsafe { nix::unistd::fork() }
}

/// Ends this process at once, without running what the parent may have registered for its own end.
pub fn exit(status: i32) -> ! {
    // SAFETY: `_exit` takes any value and does not return.
    unsafe { libc::_exit(status) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_a_process_with_threads() {
        // The test harness runs this in a thread of its own.
        assert!(matches!(clone3(0, None), Err(Errno::EDEADLK)));
    }
}
