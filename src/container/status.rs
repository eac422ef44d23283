//! What state a container is in, which is worked out and never believed: from the processes that there are.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::Error;
use super::record::{Containers, Record, boot_id, now};
use crate::runtime::{Groups, Init, start_time};

/// The exit code of a container whose end nobody saw, as with docker after a crash.
const UNSEEN_EXIT: u8 = 255;

/// The end of a container.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finished {
    /// The exit code; 128 and the signal's number for one that was killed.
    pub code: u8,
    /// When, in seconds since 1970.
    pub at: i64,
    /// Whether a process of it was killed because it had used up its memory.
    #[serde(default)]
    pub oom_killed: bool,
}

/// A process that cannot be taken for another one: numbers are used again, starts are not.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// Its number on the host.
    pub pid: i32,
    /// When it started, in clock ticks since boot (`proc_pid_stat(5)`, field 22).
    pub start_time: u64,
}

impl Identity {
    /// The process that has this number now.
    pub fn of(pid: Pid) -> Self {
        Self { pid: pid.as_raw(), start_time: start_time(pid).unwrap_or_default() }
    }

    /// The process, held, if it lives.
    pub fn find(self) -> Option<Init> {
        (self.pid > 0).then(|| Init::find(Pid::from_raw(self.pid), self.start_time)).flatten()
    }

    /// Whether it lives.
    pub fn lives(self) -> bool {
        self.pid > 0 && start_time(Pid::from_raw(self.pid)) == Some(self.start_time)
    }
}

/// The processes of a running container.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Running {
    /// Its first process; the number is 0 while the container waits to be started again.
    #[serde(flatten)]
    pub process: Identity,
    /// When it started, in seconds since 1970.
    pub since: i64,
    /// The process that watches it, of a detached container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitor: Option<Identity>,
    /// Its control groups.
    #[serde(default)]
    pub groups: Groups,
}

impl Running {
    /// Waits until the process that watches it has ended, or where there is none, the container itself.
    pub fn wait(&self, limit: Duration) -> bool {
        match self.monitor.unwrap_or(self.process).find() {
            Some(process) => process.wait(limit),
            None => true,
        }
    }
}

/// What state a container is in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Status {
    /// Never started.
    Created,
    /// Ended.
    Exited(Finished),
    /// Its processes are held where they are.
    Paused(Running),
    /// Ended, and about to be started again.
    Restarting(Finished, Running),
    /// Its first process lives, or how it ended is about to be written down.
    Running(Running),
}

impl Status {
    /// Docker's name for it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Exited(_) => "exited",
            Self::Paused(_) => "paused",
            Self::Restarting(..) => "restarting",
            Self::Running(_) => "running",
        }
    }

    /// The processes, if there are any.
    pub fn running(&self) -> Option<&Running> {
        match self {
            Self::Created | Self::Exited(_) => None,
            Self::Paused(running) | Self::Restarting(_, running) | Self::Running(running) => {
                Some(running)
            }
        }
    }
}

impl Containers {
    /// What state the container is in, now.
    pub fn status(&self, record: &Record) -> Status {
        let unseen = || {
            // It may have been written down after `record` was read, and the process forgotten since.
            let now = self.read(&record.id).ok().flatten().and_then(|record| record.finished);
            now.unwrap_or(Finished { code: UNSEEN_EXIT, at: record.since(), oom_killed: false })
        };
        let running = (record.boot == boot_id()).then(|| self.read_running(&record.id)).flatten();
        match (running, record.finished) {
            (Some(running), finished) => {
                let watched = running.monitor.is_some_and(Identity::lives);
                match finished {
                    _ if running.process.lives() && running.groups.is_frozen() => {
                        Status::Paused(running)
                    }
                    _ if running.process.lives() => Status::Running(running),
                    Some(finished) if watched && record.restarting => {
                        Status::Restarting(finished, running)
                    }
                    None if watched => Status::Running(running),
                    finished => Status::Exited(finished.unwrap_or_else(unseen)),
                }
            }
            (None, Some(finished)) => Status::Exited(finished),
            (None, None) if record.started.is_none() => Status::Created,
            (None, None) => Status::Exited(unseen()),
        }
    }

    pub(super) fn read_running(&self, id: &str) -> Option<Running> {
        serde_json::from_slice(&fs::read(self.run_folder().join(id)).ok()?).ok()
    }

    /// Writes down which process the container is, and which watches it.
    pub fn set_running(
        &self,
        id: &str,
        process: Identity,
        monitor: Option<Identity>,
        groups: Vec<PathBuf>,
    ) -> Result<(), Error> {
        let path = self.run_folder().join(id);
        let running = Running { process, since: now(), monitor, groups: Groups::new(groups) };
        let bytes = super::record::to_json(&running, &path)?;
        if monitor.is_some() {
            // It may be read this instant, and tells of the process that ended before.
            return super::record::replace(&path, &bytes);
        }
        fs::write(&path, bytes).map_err(|source| Error::Io { verb: "write", path, source })
    }

    /// Forgets which process the container was.
    pub fn forget_process(&self, id: &str) -> Result<(), Error> {
        let path = self.run_folder().join(id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.map_err(|source| Error::Io { verb: "remove", path, source }),
        }
    }
}
