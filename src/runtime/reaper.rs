//! The init process of a container: it passes signals on to the program, and takes notice of every process that ends.
//!
//! Without one, a program that is the first process of its PID namespace gets only those signals that it has a handler for, and
//! is left the processes that others have orphaned (`pid_namespaces(7)`).

use nix::errno::Errno;
use nix::sys::prctl::{set_child_subreaper, set_name};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::SignalFd;
use nix::unistd::{Pid, getpid};

use crate::sys::process::{kill, wait_any};

/// The name by which the program knows that it is to be a container's init process.
pub const INIT_NAME: &str = "mydocker-init";

/// What this process does itself to have come by, and is not meant for the program.
const OWN: [i32; 9] = [
    libc::SIGBUS,
    libc::SIGCHLD,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGSEGV,
    libc::SIGSYS,
    libc::SIGTRAP,
    libc::SIGTTIN,
    libc::SIGTTOU,
];

/// Stays until `program` has ended, which is a child of this process, and says its exit code: 128 and the signal's number if
/// it was killed.
///
/// # Errors
/// When signals cannot be waited for.
pub fn reap(program: Pid) -> Result<u8, Errno> {
    // What a list of processes shows.
    let _ = set_name(c"init");
    if getpid().as_raw() != 1 {
        // In a PID namespace of others, orphans would not come here by themselves.
        set_child_subreaper(true)?;
    }
    let all = SigSet::all();
    all.thread_block()?;
    let signals = SignalFd::new(&all)?;
    loop {
        if let Some(code) = bury(program)? {
            return Ok(code);
        }
        match signals.read_signal() {
            Ok(Some(info)) => {
                let signal = i32::try_from(info.ssi_signo).unwrap_or(0);
                if !OWN.contains(&signal) {
                    // It may have ended this instant, or have become another user; tini does no more.
                    let _ = kill(program, signal);
                }
            }
            Ok(None) | Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Takes notice of all children that have ended, and says the exit code if `program` is one of them.
fn bury(program: Pid) -> Result<Option<u8>, Errno> {
    let mut code = None;
    loop {
        match wait_any() {
            Ok(Some((pid, status))) if pid == program => {
                let signal = libc::WTERMSIG(status);
                let number = if signal == 0 { libc::WEXITSTATUS(status) } else { 128 + signal };
                code = Some(u8::try_from(number).unwrap_or(u8::MAX));
            }
            Ok(Some(_)) | Err(Errno::EINTR) => {}
            Ok(None) | Err(Errno::ECHILD) => return Ok(code),
            Err(errno) => return Err(errno),
        }
    }
}
