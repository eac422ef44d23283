//! The program as the child of an init process.

use std::ffi::CString;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::sys::signal::SigSet;
use nix::unistd::{ForkResult, Pid, getpid, setpgid, tcsetpgrp};

use super::{At, Done};
use crate::runtime::INIT_NAME;
use crate::runtime::error::Step;
use crate::sys::clone::fork;
use crate::sys::process::{self, StringArray, fexecve};

/// Makes a further process, in which alone this returns: it goes on to be the program. This process executes `exe`, which is
/// this program itself, to be the program's init: by executing it, it rids itself of the caller's memory, whose command line
/// and environment everybody in the container could read.
///
/// Both are what the program was to be, with its user, its capabilities and its filter, as nothing in the container may be
/// more than that.
pub(super) fn become_init(exe: &OwnedFd) -> Done {
    // What comes before the init process waits for signals is kept for it.
    SigSet::all().thread_block().during(Step::Init)?;
    match fork().during(Step::Init)? {
        ForkResult::Parent { child } => Err(execute(exe, child)).during(Step::Init),
        ForkResult::Child => {
            // Where it shares the host's processes, it would otherwise outlive an init process that is killed.
            process::set_pdeathsig(libc::SIGKILL).during(Step::ParentDeath)?;
            take_the_terminal().during(Step::Init)?;
            SigSet::all().thread_unblock().during(Step::Init)
        }
    }
}

fn execute(exe: &OwnedFd, child: Pid) -> Errno {
    let arguments = [INIT_NAME.to_owned(), child.to_string()];
    let arguments = arguments.into_iter().filter_map(|argument| CString::new(argument).ok());
    fexecve(exe, &StringArray::new(arguments.collect()), &StringArray::new(Vec::new()))
}

/// A process group of the program's own, in the foreground of the terminal if there is one: its keys send signals to that.
fn take_the_terminal() -> Result<(), Errno> {
    setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
    match tcsetpgrp(std::io::stdin(), getpid()) {
        // It is none, or none of this session's.
        Err(Errno::ENOTTY | Errno::ENXIO | Errno::EBADF | Errno::EINVAL) => Ok(()),
        set => set,
    }
}
