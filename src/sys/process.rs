//! What a process sets for itself: `prctl(2)`, `close_range(2)`, ids, limits, keyring, signals, `execve(2)`.

use std::ffi::{CStr, CString, c_int};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::ptr;

use nix::errno::Errno;
use nix::unistd::Pid;

use super::check;

/// Closes every descriptor from `first` to `last`, both included.
///
/// # Errors
/// What `close_range(2)` reports (since Linux 5.9).
pub fn close_range(first: u32, last: u32) -> Result<(), Errno> {
    // SAFETY: no memory is passed. Only a process about to become another program calls this, and it uses nothing that it
    // has closed.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })?;
    Ok(())
}

/// Closes every descriptor from `first` on but those in `kept`.
///
/// # Errors
/// As [`close_range`].
pub fn close_all_but(first: u32, kept: impl IntoIterator<Item = RawFd>) -> Result<(), Errno> {
    let mut kept: Vec<u32> = kept.into_iter().map(RawFd::unsigned_abs).collect();
    kept.sort_unstable();
    let mut first = first;
    for fd in kept {
        if fd > first {
            close_range(first, fd - 1)?;
        }
        first = first.max(fd.saturating_add(1));
    }
    close_range(first, u32::MAX)
}

/// Makes every descriptor from `first` on close when a program is executed.
///
/// # Errors
/// What `close_range(2)` reports (since Linux 5.11).
pub fn close_range_on_exec(first: u32) -> Result<(), Errno> {
    const CLOSE_RANGE_CLOEXEC: u32 = 4;
    // SAFETY: no memory is passed, and nothing is closed.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, CLOSE_RANGE_CLOEXEC) })?;
    Ok(())
}

fn prctl(option: c_int, first: libc::c_ulong, second: libc::c_ulong) -> Result<c_int, Errno> {
    // SAFETY: the options used here take numbers, not memory.
    Errno::result(unsafe { libc::prctl(option, first, second, 0, 0) })
}

/// `PR_SET_DUMPABLE`: whether processes of the same user may trace this one and look through its `/proc/<pid>`.
///
/// # Errors
/// What `prctl(2)` reports.
pub fn set_dumpable(dumpable: bool) -> Result<(), Errno> {
    prctl(libc::PR_SET_DUMPABLE, dumpable.into(), 0).map(drop)
}

/// `PR_SET_KEEPCAPS`: permitted capabilities survive leaving user id 0, until the next `execve(2)`.
///
/// # Errors
/// What `prctl(2)` reports.
pub fn set_keepcaps(keep: bool) -> Result<(), Errno> {
    prctl(libc::PR_SET_KEEPCAPS, keep.into(), 0).map(drop)
}

/// `PR_SET_NO_NEW_PRIVS`: from here on, no program gains privileges by being executed.
///
/// # Errors
/// What `prctl(2)` reports.
pub fn set_no_new_privs() -> Result<(), Errno> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).map(drop)
}

/// `PR_SET_PDEATHSIG`: the signal that this process gets when its parent ends.
///
/// # Errors
/// What `prctl(2)` reports.
pub fn set_pdeathsig(signal: i32) -> Result<(), Errno> {
    prctl(libc::PR_SET_PDEATHSIG, signal.unsigned_abs().into(), 0).map(drop)
}

/// `PR_CAPBSET_DROP`: takes a capability out of the bounding set.
///
/// # Errors
/// What `prctl(2)` reports: `EINVAL` if the kernel has no capability with this number.
pub fn capbset_drop(capability: u8) -> Result<(), Errno> {
    prctl(libc::PR_CAPBSET_DROP, capability.into(), 0).map(drop)
}

/// `PR_CAP_AMBIENT_CLEAR_ALL`: empties the ambient set.
///
/// # Errors
/// What `prctl(2)` reports.
pub fn ambient_clear() -> Result<(), Errno> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong, 0).map(drop)
}

/// `PR_CAP_AMBIENT_RAISE`: puts a capability into the ambient set.
///
/// # Errors
/// What `prctl(2)` reports.
pub fn ambient_raise(capability: u8) -> Result<(), Errno> {
    let raise = libc::PR_CAP_AMBIENT_RAISE as libc::c_ulong;
    prctl(libc::PR_CAP_AMBIENT, raise, capability.into()).map(drop)
}

/// The supplementary groups, of this thread alone.
///
/// # Errors
/// What `setgroups(2)` reports.
pub fn setgroups(groups: &[u32]) -> Result<(), Errno> {
    // SAFETY: the pointer and the length are those of one slice.
    check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })?;
    Ok(())
}

/// Real, effective and saved group id, of this thread alone.
///
/// # Errors
/// What `setresgid(2)` reports: `EINVAL` for an id that the user namespace does not map.
pub fn setresgid(gid: u32) -> Result<(), Errno> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    Ok(())
}

/// Real, effective and saved user id, of this thread alone.
///
/// # Errors
/// What `setresuid(2)` reports: `EINVAL` for an id that the user namespace does not map.
pub fn setresuid(uid: u32) -> Result<(), Errno> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) })?;
    Ok(())
}

/// A resource limit of another process.
///
/// # Errors
/// What `prlimit(2)` reports: `EPERM` when a hard limit is raised without `CAP_SYS_RESOURCE`.
pub fn prlimit(pid: Pid, resource: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    let old = ptr::null_mut::<libc::rlimit64>();
    // SAFETY: `limit` outlives the call, and a null `old` asks for nothing.
    check(unsafe {
        libc::syscall(libc::SYS_prlimit64, pid.as_raw(), resource, &raw const limit, old)
    })?;
    Ok(())
}

/// A new session keyring, so that the caller's keys are out of reach.
///
/// # Errors
/// What `keyctl(2)` reports: `ENOSYS` from kernels without keys, `EDQUOT` if the user has too many.
pub fn join_session_keyring() -> Result<(), Errno> {
    let name = ptr::null::<libc::c_char>();
    // SAFETY: a null name asks for an anonymous keyring.
    check(unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, name) })?;
    Ok(())
}

/// Every signal back to its default action, and none blocked.
///
/// # Errors
/// What `sigprocmask(2)` reports.
pub fn reset_signals() -> Result<(), Errno> {
    /// `struct sigaction` of the kernel, not of the C library: handler, flags, restorer, mask.
    const DEFAULT: [u64; 4] = [0; 4];
    const SIGNALS: libc::c_int = 64;
    let old = ptr::null_mut::<u64>();
    for signal in 1..=SIGNALS {
        let (new, size) = (DEFAULT.as_ptr(), size_of::<u64>());
        // Not through the C library, which keeps two signals to itself.
        // SAFETY: the default action runs no code of this process. The two that cannot be set refuse, which is as well.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, new, old, size) };
    }
    nix::sys::signal::SigSet::empty().thread_set_mask()
}

/// Sends a signal, by number.
///
/// # Errors
/// What `kill(2)` reports.
pub fn kill(pid: Pid, signal: i32) -> Result<(), Errno> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::kill(pid.as_raw(), signal) }.into())?;
    Ok(())
}

/// Takes notice of a child that has ended, whichever it is, and says its status as `wait(2)` does; `None` if all live.
///
/// # Errors
/// What `waitpid(2)` reports: `ECHILD` if there are no children.
pub fn wait_any() -> Result<Option<(Pid, i32)>, Errno> {
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    let pid = check(unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) }.into())?;
    Ok((pid != 0).then(|| (Pid::from_raw(pid as i32), status)))
}

/// A list of strings as `execve(2)` takes it, made before the process is cloned.
#[derive(Debug)]
pub struct StringArray {
    /// Owns what `pointers` point to; a `CString`'s bytes do not move with it.
    strings: Vec<CString>,
    pointers: Vec<*const libc::c_char>,
}

impl StringArray {
    /// Takes the strings over.
    pub fn new(strings: Vec<CString>) -> Self {
        let pointers = strings.iter().map(|string| string.as_ptr());
        let pointers = pointers.chain([ptr::null()]).collect();
        Self { strings, pointers }
    }

    /// The strings.
    pub fn strings(&self) -> &[CString] {
        &self.strings
    }
}

/// Becomes the program at `path`, and returns only if that fails.
pub fn execve(path: &CStr, arguments: &StringArray, environment: &StringArray) -> Errno {
    let (argv, envp) = (arguments.pointers.as_ptr(), environment.pointers.as_ptr());
    // SAFETY: both arrays end with a null pointer, and what they point to lives as long as they do.
    unsafe { libc::execve(path.as_ptr(), argv, envp) };
    Errno::last()
}

/// Becomes the program open as `file`, and returns only if that fails.
pub fn fexecve(file: impl AsFd, arguments: &StringArray, environment: &StringArray) -> Errno {
    let (argv, envp) = (arguments.pointers.as_ptr(), environment.pointers.as_ptr());
    let fd = file.as_fd().as_raw_fd();
    // SAFETY: as for `execve`; the path is an empty C string.
    unsafe {
        libc::syscall(libc::SYS_execveat, fd, c"".as_ptr(), argv, envp, libc::AT_EMPTY_PATH);
    }
    Errno::last()
}

/// The NIS domain name of this UTS namespace.
///
/// # Errors
/// What `setdomainname(2)` reports.
pub fn setdomainname(name: &str) -> Result<(), Errno> {
    // SAFETY: the pointer and the length are those of one string.
    Errno::result(unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) })?;
    Ok(())
}
