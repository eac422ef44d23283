//! A container's first process, found again by another process than the one that made it.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use nix::sys::stat::{Mode, stat};
use nix::unistd::Pid;

use super::error::Error;
use super::idmap::IdMap;
use crate::sys::clone;
use crate::sys::pidfd::{pidfd_open, pidfd_send_signal};

/// Every kind of namespace, by its name in `/proc/<pid>/ns`.
const NAMESPACES: [(&str, CloneFlags); 8] = [
    ("cgroup", CloneFlags::CLONE_NEWCGROUP),
    ("ipc", CloneFlags::CLONE_NEWIPC),
    ("mnt", CloneFlags::CLONE_NEWNS),
    ("net", CloneFlags::CLONE_NEWNET),
    ("pid", CloneFlags::CLONE_NEWPID),
    ("time", CloneFlags::from_bits_retain(clone::NEWTIME as i32)),
    ("user", CloneFlags::CLONE_NEWUSER),
    ("uts", CloneFlags::CLONE_NEWUTS),
];

/// When a process began, in clock ticks since the machine did: with its number, that is its identity. `None` if it has
/// ended, even if nobody has taken notice of it.
pub fn start_time(pid: Pid) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name that the process chooses: parentheses, blanks and all (proc_pid_stat(5)).
    let mut fields = text.get(text.rfind(')')? + 1..)?.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X" | "x") { None } else { fields.nth(18)?.parse().ok() }
}

/// A container's first process, held by a descriptor, so that it cannot come to mean another one.
#[derive(Debug)]
pub struct Init {
    pid: Pid,
    pidfd: OwnedFd,
}

impl Init {
    /// The process with this number, if it is still the one that began at `start_time`.
    pub fn find(pid: Pid, start_time: u64) -> Option<Self> {
        // The descriptor first: what is compared then is what it means, or nothing any more.
        let pidfd = pidfd_open(pid).ok()?;
        (self::start_time(pid) == Some(start_time)).then_some(Self { pid, pidfd })
    }

    /// Its number.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Its descriptor, which becomes readable when it ends.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Sends a signal, by number.
    ///
    /// # Errors
    /// `ESRCH` if the process has ended.
    pub fn kill(&self, signal: i32) -> Result<(), Error> {
        pidfd_send_signal(&self.pidfd, signal).map_err(|source| Error::Process {
            action: "signal",
            pid: self.pid.as_raw(),
            source,
        })
    }

    /// Waits until it has ended, and says whether it has within `limit`.
    pub fn wait(&self, limit: Duration) -> bool {
        let limit = u16::try_from(limit.as_millis()).unwrap_or(u16::MAX);
        let mut fds = [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
        loop {
            match poll(&mut fds, PollTimeout::from(limit)) {
                Err(Errno::EINTR) => {}
                ready => return ready.is_ok_and(|ready| ready > 0),
            }
        }
    }

    /// Whether it is in the same user namespace as this process.
    pub fn shares_users(&self) -> bool {
        self.namespaces().is_ok_and(|others| !others.contains(CloneFlags::CLONE_NEWUSER))
    }

    /// Which of its namespaces are not those of this process.
    pub(super) fn namespaces(&self) -> Result<CloneFlags, Error> {
        let mut found = CloneFlags::empty();
        for (name, kind) in NAMESPACES {
            let theirs = PathBuf::from(format!("/proc/{}/ns/{name}", self.pid));
            let identity = |path: &PathBuf| stat(path).map(|file| (file.st_dev, file.st_ino));
            match (identity(&theirs), identity(&PathBuf::from(format!("/proc/self/ns/{name}")))) {
                // A kernel without this kind.
                (Err(Errno::ENOENT), Err(Errno::ENOENT)) => {}
                (Err(source), _) => {
                    return Err(Error::Path { action: "look at", path: theirs, source });
                }
                (Ok(theirs), Ok(own)) if theirs == own => {}
                _ => found |= kind,
            }
        }
        self.check_alive()?;
        Ok(found)
    }

    /// Which user of this process's user namespace its user `uid` is; none if it is nobody there.
    pub fn host_uid(&self, uid: u32) -> Option<u32> {
        self.ids().ok()?.host_uid(uid)
    }

    /// Which users of this process's user namespace its users are.
    pub(super) fn ids(&self) -> Result<IdMap, Error> {
        let path = PathBuf::from(format!("/proc/{}/uid_map", self.pid));
        let text = fs::read_to_string(&path).map_err(|error| Error::Path {
            action: "read",
            path,
            source: Errno::from_raw(error.raw_os_error().unwrap_or_default()),
        })?;
        self.check_alive()?;
        Ok(IdMap::of_users(&text))
    }

    /// Its root directory.
    pub(super) fn root(&self) -> Result<OwnedFd, Error> {
        let path = PathBuf::from(format!("/proc/{}/root", self.pid));
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = open(&path, flags, Mode::empty());
        let root = root.map_err(|source| Error::Path { action: "open", path, source })?;
        self.check_alive()?;
        Ok(root)
    }

    /// Whether its user namespace has more than one user.
    pub fn has_many_users(&self) -> bool {
        self.ids().is_ok_and(|ids| ids.has_many_users())
    }

    /// The version 2 group that it is in, relative to the hierarchy.
    pub(super) fn unified_group(&self) -> Option<PathBuf> {
        let text = fs::read_to_string(format!("/proc/{}/cgroup", self.pid)).ok()?;
        self.check_alive().ok()?;
        let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
        Some(PathBuf::from(path))
    }

    /// What has been read in `/proc` by its number was about it, and no other process, if it is alive behind that.
    fn check_alive(&self) -> Result<(), Error> {
        self.kill(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_start() {
        let own = nix::unistd::getpid();
        let begun = start_time(own).unwrap();
        assert!(Init::find(own, begun).is_some());
        assert!(Init::find(own, begun + 1).is_none());
        // The second field may have anything in it.
        let mut child = std::process::Command::new("sh")
            .args(["-c", "printf ') R 1 2 3' >/proc/$$/comm; sleep 60"])
            .spawn()
            .unwrap();
        let pid = Pid::from_raw(child.id().cast_signed());
        assert!(start_time(pid).unwrap() >= begun);
        child.kill().unwrap();
        let ended = Init { pid, pidfd: pidfd_open(pid).unwrap() };
        assert!(ended.wait(Duration::from_secs(10)));
        // Nobody has waited for it yet.
        assert_eq!(start_time(pid), None);
        child.wait().unwrap();
    }
}
