//! When a container is probed, and by whom: a process for each probe, this program executed anew.
//!
//! Probing takes memory and waits for what a container does; a monitor does neither.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;

use super::super::health::Plan;
use super::super::{Containers, Error, Record};
use crate::runtime::Groups;
use crate::sys::pidfd::pidfd_open;

/// The verb of the process that probes, which users have as well.
const PROBE: [&str; 2] = ["healthcheck", "run"];
/// The verb of the process that has a container probed which has no monitor.
const WATCH: [&str; 2] = ["healthcheck", "watch"];

/// The probes of a program that runs.
#[derive(Debug)]
pub(super) struct Prober {
    containers: Containers,
    id: String,
    groups: Groups,
    plan: Plan,
    begun: Instant,
    due: Instant,
    /// Whether no probe has gone well yet.
    starting: bool,
    /// The probe under way.
    probe: Option<(Child, OwnedFd)>,
}

impl Prober {
    /// Probes a program that was just started in `groups`; `None` if the container is not to be probed.
    pub(super) fn new(containers: &Containers, record: &Record, groups: Groups) -> Option<Self> {
        let now = Instant::now();
        let mut prober = Self {
            containers: containers.clone(),
            id: record.id.clone(),
            groups,
            plan: record.probes()?,
            begun: now,
            due: now,
            starting: true,
            probe: None,
        };
        prober.due = now + prober.interval();
        Some(prober)
    }

    fn interval(&self) -> Duration {
        let young = self.begun.elapsed() < self.plan.start_period;
        if self.starting && young { self.plan.start_interval } else { self.plan.interval }
    }

    /// What becomes readable when the probe under way has ended.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.probe.as_ref().map(|(_, pidfd)| pidfd.as_fd())
    }

    /// How long it is until there is something to do.
    pub(super) fn timeout(&self) -> PollTimeout {
        if self.probe.is_some() {
            return PollTimeout::NONE;
        }
        let left = self.due.saturating_duration_since(Instant::now()).as_millis();
        // Not a moment too early, and again if it is too long for one call.
        PollTimeout::from(u16::try_from(left.saturating_add(1)).unwrap_or(u16::MAX))
    }

    /// Does what is due: takes the end of a probe, or begins one.
    pub(super) fn go_on(&mut self) {
        if let Some((child, _)) = &mut self.probe {
            match child.try_wait() {
                Ok(None) => return,
                Ok(Some(status)) => self.starting &= !status.success(),
                Err(_) => {}
            }
            self.probe = None;
            self.due = Instant::now() + self.interval();
        } else if Instant::now() >= self.due {
            // What is held cannot answer. A probe that cannot be begun is tried again, as is one whose end cannot be seen.
            self.probe = if self.groups.is_frozen() { None } else { self.begin() };
            self.due = Instant::now() + self.interval();
        }
    }

    fn begin(&self) -> Option<(Child, OwnedFd)> {
        let mut child = command(&self.containers, PROBE, &self.id).spawn().ok()?;
        match pidfd_open(Pid::from_raw(child.id().cast_signed())) {
            Ok(pidfd) => Some((child, pidfd)),
            Err(_) => {
                end(&mut child);
                None
            }
        }
    }
}

/// This program, about to be executed anew with nothing of this process.
fn command(containers: &Containers, verb: [&str; 2], id: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("mydocker").arg("--root").arg(containers.root()).args(verb).arg(id);
    command.env_clear().env("MYDOCKER_RUN", containers.run_folder()).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// A process that has a container probed which runs in the foreground; it ends with the container, or when dropped.
#[derive(Debug)]
pub(in super::super) struct Watcher(Child);

impl Watcher {
    /// Starts it; `None` if the container is not to be probed.
    pub(in super::super) fn start(containers: &Containers, record: &Record) -> Option<Self> {
        record.probes()?;
        // What the user types at a terminal is for the container alone.
        command(containers, WATCH, &record.id).process_group(0).spawn().ok().map(Self)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        end(&mut self.0);
    }
}

/// Has a container probed until it ends: what a [`Watcher`] does.
///
/// # Errors
/// When it cannot be waited for.
pub fn watch(containers: &Containers, record: &Record) -> Result<(), Error> {
    let status = containers.status(record);
    let Some(running) = status.running() else { return Ok(()) };
    let Some(init) = running.process.find() else { return Ok(()) };
    let Some(mut prober) = Prober::new(containers, record, running.groups.clone()) else {
        return Ok(());
    };
    loop {
        let mut fds = vec![PollFd::new(init.pidfd(), PollFlags::POLLIN)];
        fds.extend(prober.descriptor().map(|probe| PollFd::new(probe, PollFlags::POLLIN)));
        match poll(&mut fds, prober.timeout()) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::Monitor { verb: "wait in", source: errno.into() }),
            Ok(_) if fds.first().and_then(PollFd::any).unwrap_or(false) => return Ok(()),
            Ok(_) => {}
        }
        prober.go_on();
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.probe {
            end(child);
        }
    }
}

fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}
