//! One probe of a container's health: a program in it that has a limited time, and leaves nothing behind.

use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, fchown, getpid, getuid, pipe2, read};

use super::exec::{self, ExecRequest};
use super::health::{Plan, Probed, nanoseconds};
use super::log::timestamp;
use super::monitor::Explain;
use super::status::Running;
use super::{Containers, Error, Record, keep_groups};
use crate::runtime::{self, ExecOptions, ExitStatus, Groups, Process, Stdio};

/// How much of a probe's output is kept: docker's.
const MAX_OUTPUT: usize = 4096;
/// How long a container may take to have ended when a process of it was killed, which may be the sign of it.
const LAST_MOMENT: Duration = Duration::from_secs(1);
/// Between two looks at a container that is held.
const PAUSE: Duration = Duration::from_millis(50);

/// Probes a container once, writes down what came of it, and says whether it is well.
///
/// # Errors
/// [`Error::NotRunning`], [`Error::Paused`], and [`Error::NoHealthCheck`] if nobody said how to.
pub fn probe(containers: &Containers, record: &Record, explain: Explain) -> Result<bool, Error> {
    let plan = record.probes().ok_or_else(|| Error::NoHealthCheck(record.name.clone()))?;
    let running = exec::running(containers, record)?;
    let (start, shown) = (nanoseconds(), timestamp());
    let (exit_code, output) = match Attempt::new(containers, record, &running, &plan) {
        Ok(attempt) => attempt.until_ended(&plan)?,
        // The same again, from a copy of this program that the container cannot overwrite.
        Err(Error::Runtime(runtime::Error::Unsealed)) => {
            return Err(runtime::seal().err().unwrap_or(runtime::Error::Unsealed).into());
        }
        Err(error @ Error::NotRunning(_)) => return Err(error),
        Err(error) => (-1, explain(&error)),
    };
    let probed = Probed { start: shown, end: timestamp(), exit_code, output };
    containers.take_probe(record, running.process, start, probed)?;
    Ok(exit_code == 0)
}

/// A probe under way.
struct Attempt<'a> {
    running: &'a Running,
    process: Process,
    /// What it and all that it starts are in, below the container's groups.
    group: Option<Groups>,
    output: OwnedFd,
    kept: Vec<u8>,
    cut: bool,
}

impl<'a> Attempt<'a> {
    fn new(
        containers: &Containers,
        record: &Record,
        running: &'a Running,
        plan: &Plan,
    ) -> Result<Self, Error> {
        let ended = || Error::NotRunning(record.name.clone());
        let init = running.process.find().ok_or_else(ended)?;
        let spec = containers.spec(&record.id)?;
        let request = ExecRequest { command: plan.command.clone(), ..ExecRequest::default() };
        let process = exec::process(&init, &spec, &request)?;
        let owner = init.host_uid(process.user.uid).map_or_else(getuid, Uid::from_raw);
        let (output, stdio) = streams(owner)?;
        let below = running.groups.make_below(&format!("health-{}", getpid()))?;
        let (groups, group) = match below {
            Some(below) => (vec![(below.controllers, below.name)], Some(below.groups)),
            None => (Vec::new(), None),
        };
        let policy = spec.linux.as_ref().and_then(|linux| linux.seccomp.as_ref());
        let keep_groups = keep_groups::are_kept(record);
        let options = ExecOptions { stdio, groups, keep_groups, ..ExecOptions::default() };
        let process = runtime::exec(&init, &running.groups, &process, policy, options);
        let process = process.map_err(|error| {
            // Nothing is in it.
            let _ = group.as_ref().map(Groups::delete);
            exec::or_ended(error, &init, record)
        })?;
        Ok(Self { running, process, group, output, kept: Vec::new(), cut: false })
    }

    /// Stays with it until it has ended or its time has, and says its exit code and what it wrote.
    fn until_ended(mut self, plan: &Plan) -> Result<(i32, String), Error> {
        let failed = |errno: Errno| Error::Monitor { verb: "wait in", source: errno.into() };
        let mut deadline = Instant::now() + plan.timeout;
        let mut open = true;
        let code = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                if !self.running.groups.is_frozen() {
                    break None;
                }
                // Nobody can answer who is held; the time begins anew when it is let go.
                while self.running.groups.is_frozen() {
                    thread::sleep(PAUSE);
                }
                deadline = Instant::now() + plan.timeout;
                continue;
            }
            let limit = u16::try_from(left.as_millis().saturating_add(1)).unwrap_or(u16::MAX);
            let mut fds = vec![PollFd::new(self.process.pidfd(), PollFlags::POLLIN)];
            fds.extend(open.then(|| PollFd::new(self.output.as_fd(), PollFlags::POLLIN)));
            match poll(&mut fds, PollTimeout::from(limit)) {
                Err(Errno::EINTR) => continue,
                ready => ready.map_err(failed)?,
            };
            let ended = fds.first().and_then(PollFd::any).unwrap_or(false);
            open = open && self.take_output();
            if ended {
                let status = self.process.wait()?;
                if status == ExitStatus::Signaled(libc::SIGKILL) {
                    self.await_end_of_all();
                }
                break Some(status.code());
            }
        };
        self.end()?;
        if open {
            self.take_output();
        }
        let mut output = String::from_utf8_lossy(&self.kept).into_owned();
        if self.cut {
            output.push_str("...");
        }
        Ok(match code {
            Some(code) => (i32::from(code), output),
            None => {
                let passed = format!("Health check exceeded timeout ({:?})", plan.timeout);
                let said = if output.is_empty() { passed } else { format!("{passed}: {output}") };
                (-1, said)
            }
        })
    }

    /// With a container's first process the kernel kills all others, and only then that process has ended.
    fn await_end_of_all(&self) {
        let _ = self.running.process.find().map(|init| init.wait(LAST_MOMENT));
    }

    /// Takes what there is, and says whether there can be more.
    fn take_output(&mut self) -> bool {
        let mut buffer = [0; MAX_OUTPUT];
        // So much at a time that a program which never stops writing does not keep its time from ending.
        for _ in 0..16 {
            match read(&self.output, &mut buffer) {
                Ok(0) => return false,
                Ok(count) => {
                    let bytes = buffer.get(..count).unwrap_or_default();
                    let room = MAX_OUTPUT.saturating_sub(self.kept.len()).min(count);
                    self.kept.extend_from_slice(bytes.get(..room).unwrap_or_default());
                    self.cut |= room < count;
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return true,
                Err(_) => return false,
            }
        }
        true
    }

    /// Ends the program, if it has not ended, and everything that it has started.
    fn end(&mut self) -> Result<(), Error> {
        match &self.group {
            Some(group) => {
                group.kill(libc::SIGKILL)?;
                group.delete()?;
            }
            // It leads a session of its own, which is all that is known of what it has started.
            None => kill_session(self.process.pid()),
        }
        Ok(())
    }
}

/// Where its output comes out, and its streams: it has no input.
fn streams(owner: Uid) -> Result<(OwnedFd, Stdio), Error> {
    let failed = |errno: Errno| Error::Monitor { verb: "make pipes for", source: errno.into() };
    let (output, inner) = pipe2(OFlag::O_CLOEXEC).map_err(failed)?;
    // Both ends are one file, which programs open by name.
    fchown(&inner, Some(owner), None).map_err(failed)?;
    fcntl(&output, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(failed)?;
    let path = PathBuf::from("/dev/null");
    let null = fs::File::open(&path);
    let null = null.map_err(|source| Error::Io { verb: "open", path, source })?;
    let other = inner.try_clone();
    let other = other.map_err(|source| Error::Monitor { verb: "make pipes for", source })?;
    Ok((output, Stdio::Descriptors([null.into(), inner, other])))
}

/// Kills every process of the session that `leader` leads, and the leader.
fn kill_session(leader: Pid) {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let session = |pid: Pid| -> Option<i32> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is a name that the process chooses (proc_pid_stat(5)).
        let fields = text.get(text.rfind(')')? + 1..)?;
        fields.split_whitespace().nth(3)?.parse().ok()
    };
    let members = pids.map(Pid::from_raw).filter(|pid| session(*pid) == Some(leader.as_raw()));
    for pid in members.chain([leader]) {
        // It may have ended since, which is what is wanted.
        let _ = kill(pid, Signal::SIGKILL);
    }
}
