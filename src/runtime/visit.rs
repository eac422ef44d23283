//! A process of this program among a container's files: in the container's mount and user namespaces, and in nothing else
//! of it.
//!
//! It sees what the container sees, as root there, and so can do to files what the container's own root could, and no
//! more. It is not in the container's PID namespace, and cannot be looked into where it is seen all the same; it keeps no
//! descriptor of the caller's but those that it is given, and executes nothing (CVE-2019-14271).

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::unistd::Pid;

use super::error::Error;
use super::init::Init;
use super::process::ExitStatus;
use crate::oci::capability::Capability;
use crate::sys::caps::{capget_permitted, capset};
use crate::sys::clone::{self, Clone};
use crate::sys::fs::PATH_DIRECTORY;
use crate::sys::pidfd::{Ended, pidfd_wait};
use crate::sys::process::{
    close_all_but, set_dumpable, set_no_new_privs, set_pdeathsig, setgroups, setresgid, setresuid,
};

/// What it takes to read and write any file, and nothing more.
const CAPABILITIES: [Capability; 7] = [
    Capability::CHOWN,
    Capability::DAC_OVERRIDE,
    Capability::DAC_READ_SEARCH,
    Capability::FOWNER,
    Capability::FSETID,
    Capability::MKNOD,
    Capability::SETFCAP,
];

/// A process that visits a container.
#[derive(Debug)]
pub struct Visitor {
    pid: Pid,
    pidfd: OwnedFd,
}

/// Has a process of its own do `work` among the files of the container whose first process is `init`. It is told the
/// container's root directory, or why it could not get there; what it returns is its exit status. Of this process's
/// descriptors it has the standard streams and those in `kept`, which here are closed.
///
/// # Errors
/// When there is no such process to be had.
pub fn visit<const N: usize>(
    init: &Init,
    kept: [OwnedFd; N],
    work: impl FnOnce([OwnedFd; N], Result<OwnedFd, Error>) -> u8,
) -> Result<Visitor, Error> {
    let namespaces = init.namespaces()? & (CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUSER);
    match clone::clone3(0, None).map_err(|source| Error::Clone { source })? {
        Clone::Parent(pid, pidfd) => Ok(Visitor { pid, pidfd }),
        Clone::Child => {
            let entered = enter(init, namespaces, &kept);
            let status = work(kept, entered);
            clone::exit(status.into())
        }
    }
}

impl Visitor {
    /// Waits for its end.
    ///
    /// # Errors
    /// `ECHILD` if somebody else has waited for it already.
    pub fn wait(&self) -> Result<ExitStatus, Error> {
        match pidfd_wait(&self.pidfd) {
            Ok(Ended::Exited(status)) => Ok(ExitStatus::Exited(status)),
            Ok(Ended::Signaled(signal)) => Ok(ExitStatus::Signaled(signal)),
            Err(source) => {
                Err(Error::Process { action: "wait for", pid: self.pid.as_raw(), source })
            }
        }
    }
}

fn enter(init: &Init, namespaces: CloneFlags, kept: &[OwnedFd]) -> Result<OwnedFd, Error> {
    let failed = |action| move |source| Error::Process { action, pid: init.pid().as_raw(), source };
    set_pdeathsig(libc::SIGKILL).map_err(failed("visit"))?;
    set_dumpable(false).map_err(failed("hide from"))?;
    match setns(init.pidfd(), namespaces) {
        Err(Errno::EINVAL) if namespaces.is_empty() => Ok(()),
        joined => joined,
    }
    .map_err(failed("join the namespaces of"))?;
    if namespaces.contains(CloneFlags::CLONE_NEWUSER) {
        match setgroups(&[]) {
            // An ordinary user's user namespace may not (user_namespaces(7)).
            Err(Errno::EPERM) => Ok(()),
            set => set,
        }
        .and_then(|()| setresgid(0))
        .and_then(|()| setresuid(0))
        .map_err(failed("become root beside"))?;
        // A change of user clears the one and may set the other.
        set_pdeathsig(libc::SIGKILL).map_err(failed("visit"))?;
        set_dumpable(false).map_err(failed("hide from"))?;
    }
    let root = nix::fcntl::open(c"/", PATH_DIRECTORY, nix::sys::stat::Mode::empty())
        .map_err(failed("open the root directory of"))?;
    close_all_but(3, kept.iter().chain([&root]).map(AsRawFd::as_raw_fd))
        .map_err(failed("close descriptors beside"))?;
    let wanted = CAPABILITIES.iter().fold(0, |bits, known| bits | 1 << known.number());
    let capabilities = capget_permitted().map_err(failed("visit"))? & wanted;
    capset(capabilities, capabilities, 0).map_err(failed("limit the capabilities beside"))?;
    set_no_new_privs().map_err(failed("visit"))?;
    Ok(root)
}
