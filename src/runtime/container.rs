//! A container over the lives of several processes: made by one command, started, signalled and removed by others.
//!
//! Specification: runtime-spec, `runtime.md`. What changes a container holds its lock.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::Pid;
use serde::Serialize;

use super::error::{Error, Step};
use super::exec::{ExecOptions, exec};
use super::groups::Groups;
use super::hooks;
use super::init::Init;
use super::process::Process;
use super::protocol::{Command, Failure, Report};
use super::resctrl::Class;
use super::state::{Entry, Record, States, Status};
use super::stats::Stats;
use super::systemd::Unit;
use crate::oci::runtime_spec::linux::Resources;
use crate::oci::runtime_spec::{self, IntelRdt, Spec};

/// How long a process that was killed may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// The state of a container (runtime-spec, `runtime.md#state`), and what runc adds.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The version of the specification.
    pub oci_version: String,
    /// The container's name.
    pub id: String,
    /// The first process's number; 0 once it has ended.
    pub pid: i32,
    /// Where the container is in its life.
    pub status: Status,
    /// The bundle's directory.
    pub bundle: PathBuf,
    /// The root filesystem.
    pub rootfs: PathBuf,
    /// When the container was made, as RFC 3339 writes it.
    pub created: String,
    /// The spec's annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A container that is written down.
#[derive(Debug)]
pub struct Container {
    pub(super) entry: Entry,
    pub(super) record: Record,
}

impl Container {
    /// A container that is there, to be looked at.
    ///
    /// # Errors
    /// [`Error::NoContainer`] if there is none of this id, or it is not finished.
    pub fn open(states: &States, id: &str) -> Result<Self, Error> {
        Self::of(states.open(id)?)
    }

    /// A container that is there, to be changed: nobody else changes it meanwhile.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub fn open_locked(states: &States, id: &str) -> Result<Self, Error> {
        let unlocked = Self::open(states, id)?;
        unlocked.entry.lock()?;
        Self::of(unlocked.entry)
    }

    fn of(entry: Entry) -> Result<Self, Error> {
        match entry.read()? {
            Some(record) => Ok(Self { entry, record }),
            None => Err(Error::NoContainer { id: entry.id().to_owned() }),
        }
    }

    /// What is written down of it.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The user who has made it.
    pub fn owner(&self) -> u32 {
        self.entry.owner()
    }

    /// Its control groups.
    pub fn groups(&self) -> &Groups {
        &self.record.groups
    }

    /// Where it is in its life.
    pub fn status(&self) -> Status {
        self.look().0
    }

    fn look(&self) -> (Status, Option<Init>) {
        match self.record.init() {
            None => (Status::Stopped, None),
            Some(init) if self.entry.is_waiting() => (Status::Created, Some(init)),
            Some(init) if self.groups().is_frozen() => (Status::Paused, Some(init)),
            Some(init) => (Status::Running, Some(init)),
        }
    }

    /// Its state.
    pub fn state(&self) -> State {
        self.state_as(self.status())
    }

    fn state_as(&self, status: Status) -> State {
        let record = &self.record;
        State {
            oci_version: record.oci_version.clone(),
            id: record.id.clone(),
            pid: if status == Status::Stopped { 0 } else { record.pid },
            status,
            bundle: record.bundle.clone(),
            rootfs: record.rootfs.clone(),
            created: record.created.clone(),
            annotations: record.annotations.clone(),
        }
    }

    fn hook_state(&self, status: Status) -> String {
        // Hooks tidy up by the number that the process had, too.
        let state = State { pid: self.record.pid, ..self.state_as(status) };
        serde_json::to_string(&state).unwrap_or_default()
    }

    fn refuse(&self, action: &'static str, reason: &'static str) -> Error {
        Error::Status { action, id: self.record.id.clone(), reason }
    }

    /// The first process of a container that runs, or is held.
    fn running(&self, action: &'static str) -> Result<(Status, Init), Error> {
        match self.look() {
            (status, Some(init)) => Ok((status, init)),
            (_, None) => Err(self.refuse(action, "container not running")),
        }
    }

    /// Lets the program begin.
    ///
    /// # Errors
    /// [`Error::Status`] if it does not wait. When its program cannot be executed: [`Error::NotFound`] or
    /// [`Error::NotExecutable`]; when it has none: [`Error::NoProcess`]; the container has ended then. When a `poststart`
    /// hook fails, the container is stopped.
    pub fn start(&self) -> Result<(), Error> {
        let init = match self.look() {
            (Status::Created, init) => init,
            (Status::Stopped, _) => return Err(self.refuse("start", "it has stopped")),
            _ => return Err(self.refuse("start", "it runs already")),
        };
        if self.entry.spec()?.process.is_none() {
            if let Some(init) = init {
                init.kill(libc::SIGKILL)?;
            }
            return Err(Error::NoProcess { id: self.record.id.clone() });
        }
        let socket = self.entry.connect()?;
        let talk = |source| Error::Talk { source };
        socket.send(Command::Start).map_err(talk)?;
        match socket.receive().map_err(talk)? {
            Report::Closed => {}
            Report::Failed(failure) => {
                let object = self.object(failure);
                let looks = failure.step == Step::Execute;
                let cause = if looks { socket.receive_cause() } else { None };
                return Err(failure.into_error(object, cause));
            }
            _ => return Err(talk(Errno::EPROTO)),
        }
        // What a hook may do to the container needs the lock.
        self.entry.unlock();
        let state = self.hook_state(Status::Running);
        hooks::run("poststart", &self.record.hooks.poststart, &state).inspect_err(|_| {
            // That the hook failed is what is said; the container is to be gone either way.
            let _ = self.record.init().map(|init| init.kill(libc::SIGKILL));
        })
    }

    /// What failed is a step behind READY, of which few have an object.
    fn object(&self, failure: Failure) -> String {
        let Ok(spec) = self.entry.spec() else { return String::new() };
        let name = match failure.step {
            Step::Execute => spec.process.and_then(|process| process.args.into_iter().next()),
            Step::Hook => {
                let hooks = spec.hooks.unwrap_or_default();
                let all = hooks.create_container.into_iter().chain(hooks.start_container);
                let at = usize::try_from(failure.object).unwrap_or(usize::MAX);
                all.map(|hook| hook.path).nth(at)
            }
            _ => None,
        };
        name.map(|name| format!("`{name}`")).unwrap_or_default()
    }

    /// Sends a signal, by number: to the first process, or with `all` to every one, for which that need not live any more.
    ///
    /// # Errors
    /// [`Error::Status`] if it does not run.
    pub fn kill(&self, signal: i32, all: bool) -> Result<(), Error> {
        let found = self.look();
        // With the first process of a PID namespace the kernel ends the others; elsewhere they would be left.
        let shared = self.record.shares_pids && found.1.is_some();
        // Without groups, as an ordinary user may have none, only the first process is known.
        let known = !self.groups().directories().is_empty();
        if known && (all || (signal == libc::SIGKILL && shared)) {
            return self.groups().kill(signal);
        }
        let (status, Some(init)) = found else {
            return Err(self.refuse("signal", "container not running"));
        };
        match init.kill(signal) {
            Err(Error::Process { source: Errno::ESRCH, .. }) => {
                return Err(self.refuse("signal", "container not running"));
            }
            killed => killed?,
        }
        if status == Status::Paused && signal == libc::SIGKILL {
            // Version 1 holds even what has been killed.
            self.groups().thaw()?;
        }
        Ok(())
    }

    /// Holds all its processes.
    ///
    /// # Errors
    /// [`Error::Status`] if it does not run.
    pub fn pause(&self) -> Result<(), Error> {
        match self.running("pause")?.0 {
            Status::Paused => Err(self.refuse("pause", "container not running")),
            _ => self.groups().freeze(),
        }
    }

    /// Lets its processes go on.
    ///
    /// # Errors
    /// [`Error::Status`] if they are not held.
    pub fn resume(&self) -> Result<(), Error> {
        match self.running("resume")?.0 {
            Status::Paused => self.groups().thaw(),
            _ => Err(self.refuse("resume", "container not paused")),
        }
    }

    /// The numbers of all its processes; where it has no group, as with an ordinary user, of the first one.
    ///
    /// # Errors
    /// When the group cannot be read.
    pub fn processes(&self) -> Result<Vec<Pid>, Error> {
        if self.groups().directories().is_empty() {
            return Ok(self.record.init().map(|init| init.pid()).into_iter().collect());
        }
        self.groups().processes()
    }

    /// How much it uses.
    ///
    /// # Errors
    /// [`Error::Status`] if it does not run.
    pub fn stats(&self) -> Result<Stats, Error> {
        self.running("measure")?;
        Ok(Stats::read(self.groups()))
    }

    /// How often one of its processes was killed for want of memory.
    pub fn oom_kills(&self) -> u64 {
        Stats::oom_kills(self.groups())
    }

    /// Changes limits: those that `change` makes in what they are now.
    ///
    /// # Errors
    /// [`Error::Status`] if it does not run; what [`Groups::update`] reports.
    pub fn update(&self, change: impl FnOnce(&mut Resources)) -> Result<(), Error> {
        self.running("update")?;
        let mut spec = self.entry.spec()?;
        let linux = spec.linux.get_or_insert_default();
        let resources = linux.resources.get_or_insert_default();
        change(resources);
        if let Some(unit) = &self.record.unit {
            unit.update(&self.groups().settings(resources)?)?;
        }
        self.groups().update(resources)?;
        self.entry.write_spec(&spec)
    }

    /// Sets other shares of caches and memory bandwidth, which `change` makes of what they are now.
    ///
    /// # Errors
    /// [`Error::Status`] if it does not run; [`Error::Invalid`] if it is in no class of service.
    pub fn update_class(&self, change: impl FnOnce(&mut IntelRdt)) -> Result<(), Error> {
        self.running("update")?;
        let mut spec = self.entry.spec()?;
        let rdt = spec.linux.as_mut().and_then(|linux| linux.intel_rdt.as_mut());
        let (Some(class), Some(rdt)) = (&self.record.class, rdt) else {
            let reason = "the container was made without".to_owned();
            return Err(Error::Invalid { field: "linux.intelRdt".to_owned(), reason });
        };
        change(rdt);
        class.set(rdt)?;
        self.entry.write_spec(&spec)
    }

    /// The spec as it was when the container was made, but for changed limits.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn spec(&self) -> Result<Spec, Error> {
        self.entry.spec()
    }

    /// Starts a further process in it; see [`exec`].
    ///
    /// # Errors
    /// [`Error::Status`] if it does not run, or is held and `ignore_paused` is not set.
    pub fn exec(
        &self,
        process: &runtime_spec::Process,
        spec: &Spec,
        mut options: ExecOptions,
        ignore_paused: bool,
    ) -> Result<Process, Error> {
        let (status, init) = self.running("exec in")?;
        if status == Status::Paused && !ignore_paused {
            return Err(self.refuse("exec in", "it is paused"));
        }
        let policy = spec.linux.as_ref().and_then(|linux| linux.seccomp.as_ref());
        options.state = self.hook_state(status);
        options.class.clone_from(&self.record.class);
        exec(&init, self.groups(), process, policy, options)
    }

    /// Removes a container that has ended, or was never started; with `force`, whatever it does. Returns what went wrong
    /// that does not keep it from being gone: a unit that systemd was not there to end, `poststop` hooks that failed.
    ///
    /// # Errors
    /// [`Error::Status`] if it runs.
    pub fn delete(self, force: bool) -> Result<Vec<Error>, Error> {
        let (status, init) = self.look();
        if let Some(init) = init {
            if status != Status::Created && !force {
                return Err(self.refuse("delete", "it has not stopped"));
            }
            init.kill(libc::SIGKILL).or_else(|error| match error {
                Error::Process { source: Errno::ESRCH, .. } => Ok(()),
                error => Err(error),
            })?;
            if status == Status::Paused {
                self.groups().thaw()?;
            }
            if !init.wait(PATIENCE) {
                return Err(self.refuse("delete", "its first process does not end"));
            }
        }
        let stopped = self.record.unit.as_ref().map_or(Ok(()), Unit::stop);
        self.groups().delete()?;
        self.record.class.as_ref().map_or(Ok(()), Class::remove)?;
        self.entry.remove()?;
        let state = self.hook_state(Status::Stopped);
        let run = |hook| hooks::run("poststop", std::slice::from_ref(hook), &state).err();
        let hooks = self.record.hooks.poststop.iter().filter_map(run);
        Ok(stopped.err().into_iter().chain(hooks).collect())
    }
}

/// Removes what is left of a container of which no more than a folder is there, since its making was cut off.
///
/// # Errors
/// [`Error::NoContainer`] if there is none of this id.
pub fn delete_unfinished(states: &States, id: &str) -> Result<(), Error> {
    let entry = states.open(id)?;
    // It is being made at this moment, if somebody has it.
    entry.try_lock("delete")?;
    match entry.read()? {
        None => entry.remove(),
        Some(_) => Err(Error::NoContainer { id: id.to_owned() }),
    }
}
