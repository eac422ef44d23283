//! Making, starting, watching and removing a container.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::unistd::Pid;

use super::cgroup::Cgroup;
use super::error::{Error, Step, Warning};
use super::hooks;
pub(super) use super::options::{Bundle, Options, Root, Stdio};
use super::plan::{ExecPlan, Idmap, Plan, PlannedProcess, RootSource, Source};
use super::protocol::{Command, ParentEnd, Report};
use super::resctrl::{self, Class};
use super::seal;
use super::seccomp;
use super::spawn;
use super::systemd::Unit;
use super::tune;
use crate::oci::runtime_spec::seccomp::Seccomp;
use crate::oci::runtime_spec::{Hook, Spec};
use crate::sys::mount;
use crate::sys::pidfd::{Ended, pidfd_send_signal, pidfd_wait};
use crate::sys::process::prlimit;

/// How the program ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ExitStatus {
    /// By itself, with this status.
    Exited(u8),
    /// By this signal.
    Signaled(i32),
}

impl ExitStatus {
    /// The status as a shell shows it: 128 and the signal's number for one that was killed.
    pub fn code(self) -> u8 {
        match self {
            Self::Exited(code) => code,
            Self::Signaled(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
        }
    }
}

/// What a child follows, by which its parent names what failed.
#[derive(Debug)]
enum Planned {
    Container(Box<Plan>),
    Exec(Box<ExecPlan>),
}

impl Planned {
    fn object(&self, step: Step, object: u32) -> String {
        match self {
            Self::Container(plan) => plan.object(step, object),
            Self::Exec(plan) => plan.object(step, object),
        }
    }
}

/// A container's first process, or a further one.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    pidfd: OwnedFd,
    socket: Option<ParentEnd>,
    console: Option<OwnedFd>,
    cgroup: Option<Cgroup>,
    class: Option<Class>,
    warnings: Vec<Warning>,
    /// Kept until the program is executed, to name what failed.
    plan: Option<Planned>,
    poststart: Vec<Hook>,
    poststop: Vec<Hook>,
    /// For the hooks: the states `running` and `stopped`.
    states: [String; 2],
}

/// Makes a container: its process has everything but its program, and waits for [`Process::start`].
///
/// # Errors
/// Nothing is left behind when it fails.
pub fn create(bundle: &Bundle, spec: &Spec, options: Options) -> Result<Process, Error> {
    let mut process = clone_and_set_up(bundle, spec, options, false)?;
    match process.until_ready() {
        Ok(()) => Ok(process),
        Err(error) => Err(process.abandon(error)),
    }
}

/// Makes a container and starts its program at once, which saves some switching between the two processes.
///
/// # Errors
/// Nothing is left behind when it fails.
pub fn run(bundle: &Bundle, spec: &Spec, options: Options) -> Result<Process, Error> {
    let mut process = clone_and_set_up(bundle, spec, options, true)?;
    let started = process.until_ready().and_then(|()| process.until_executed());
    match started {
        Ok(()) => Ok(process),
        Err(error) => Err(process.abandon(error)),
    }
}

fn clone_and_set_up(
    bundle: &Bundle,
    spec: &Spec,
    mut options: Options,
    start: bool,
) -> Result<Process, Error> {
    let mut plan = Box::new(Plan::new(bundle, spec, &mut options)?);
    if seal::is_needed(plan.ids.as_ref()) && !seal::is_sealed() {
        return Err(Error::Unsealed);
    }
    let rdt = spec.linux.as_ref().and_then(|linux| linux.intel_rdt.as_ref());
    let class = rdt.map(|rdt| resctrl::Planned::new(rdt, &bundle.id)).transpose()?;
    let named = rdt.is_some_and(|rdt| rdt.clos_id.is_some());
    let mut cgroup = Cgroup::plan(bundle, spec, &options, plan.ids.is_some())?;
    cgroup.delegate_to(spec, plan.ids.as_ref());
    cgroup.make_room_for(plan.process.scheduler);
    (plan.cgroup, plan.cgroup_path) = (cgroup.view(), cgroup.path().to_owned());
    let cloned = cgroup.make_v2().and_then(|()| spawn::clone_child(&plan, cgroup.v2_directory()));
    let (pid, pidfd, socket) = match cloned {
        Ok(cloned) => cloned,
        Err(error) => {
            // What was made of the group is of no use; why it came to that matters more than whether it went away.
            let _ = cgroup.delete();
            return Err(error);
        }
    };
    let hooks = spec.hooks.clone().unwrap_or_default();
    let state = |status| hooks::state(bundle, spec, status, &pid.to_string());
    let mut process = Process {
        pid,
        pidfd,
        socket: Some(socket),
        console: None,
        warnings: plan.warnings.clone(),
        cgroup: Some(cgroup),
        class: None,
        plan: Some(Planned::Container(plan)),
        poststart: hooks.poststart.clone(),
        poststop: hooks.poststop.clone(),
        states: [state("running"), state("stopped")],
    };
    let joined = class.map(|class| class.join(pid, named)).transpose();
    match joined.and_then(|class| {
        process.class = class;
        process.set_up(spec, start)
    }) {
        Ok(()) => Ok(process),
        // The child knows better why it is gone.
        Err(Error::Talk { source }) => {
            let error = process.until_ready().err().unwrap_or(Error::Talk { source });
            Err(process.abandon(error))
        }
        Err(error) => Err(process.abandon(error)),
    }
}

impl Process {
    /// A further process of a container, which has been cloned and is told the rest.
    pub(super) fn join(
        (pid, pidfd, socket): (Pid, OwnedFd, ParentEnd),
        plan: Box<ExecPlan>,
        policy: Option<&Seccomp>,
        class: Option<&Class>,
    ) -> Result<Self, Error> {
        let mut process = Self {
            pid,
            pidfd,
            socket: Some(socket),
            console: None,
            cgroup: None,
            class: None,
            warnings: plan.warnings(),
            plan: None,
            poststart: Vec::new(),
            poststop: Vec::new(),
            states: [String::new(), String::new()],
        };
        let told = class.map_or(Ok(()), |class| class.add(process.pid));
        let told = told.and_then(|()| process.limit(&plan.process));
        let told = told.and_then(|()| process.filter(policy));
        let told = told.and_then(|()| process.send(Command::Start));
        process.plan = Some(Planned::Exec(plan));
        let begun = match told {
            // The child knows better why it is gone.
            Ok(()) | Err(Error::Talk { .. }) => process.until_ready(),
            Err(error) => Err(error),
        };
        match begun.and_then(|()| process.until_executed()) {
            Ok(()) => Ok(process),
            Err(error) => Err(process.abandon(error)),
        }
    }

    /// The parent's part of the setting up, in the order in which the child waits for it.
    fn set_up(&mut self, spec: &Spec, start: bool) -> Result<(), Error> {
        let Some(Planned::Container(plan)) = self.plan.take() else { return Ok(()) };
        let result = self.follow(&plan, spec, start);
        self.plan = Some(Planned::Container(plan));
        result
    }

    fn follow(&mut self, plan: &Plan, spec: &Spec, start: bool) -> Result<(), Error> {
        if let Some(cgroup) = &mut self.cgroup {
            // As long as the process is its maker's: a user's systemd may move none of other users.
            cgroup.start_unit(self.pid)?;
        }
        if let Some(ids) = &plan.ids {
            ids.write(self.pid)?;
            self.idmap(plan)?;
        }
        self.send(Command::Mapped)?;
        let mut groups = Vec::new();
        if let Some(cgroup) = &mut self.cgroup {
            cgroup.make_v1()?;
            groups = cgroup.open_v1()?;
            if cgroup.is_missing() {
                self.warnings.push(Warning::NoCgroup);
            }
        }
        self.limit(&plan.process)?;
        tune::move_devices(&plan.net_devices, self.pid)?;
        if let Some(socket) = &self.socket {
            let groups: Vec<BorrowedFd<'_>> = groups.iter().map(AsFd::as_fd).collect();
            socket.send_join(&groups).map_err(|source| Error::Talk { source })?;
        }
        self.filter(spec.linux.as_ref().and_then(|linux| linux.seccomp.as_ref()))?;
        if plan.create_runtime {
            self.create_runtime_hooks(spec)?;
        }
        if start {
            self.send(Command::Start)?;
        }
        Ok(())
    }

    /// Maps the owners of what is mounted: only detached mounts can be, and only now is there a namespace to do it by.
    fn idmap(&mut self, plan: &Plan) -> Result<(), Error> {
        let root = match &plan.root.source {
            RootSource::Bind(tree) => vec![tree],
            RootSource::Overlay { lower, layer, .. } => vec![lower, layer],
        };
        let root = root.into_iter().map(|tree| (tree, &plan.root.path, plan.root.idmap));
        let mounts = plan.mounts.iter().filter_map(|planned| match &planned.source {
            Source::Detached { mount, path, .. } => Some((mount, path, planned.idmap)),
            _ => None,
        });
        let mut user_namespace = None;
        for (tree, path, idmap) in root.chain(mounts) {
            let Some(Idmap { recursive, optional }) = idmap else { continue };
            if user_namespace.is_none() {
                let name = format!("/proc/{}/ns/user", self.pid);
                let file = std::fs::File::open(&name).map_err(|error| Error::Path {
                    action: "open",
                    path: name.into(),
                    source: Errno::from_raw(error.raw_os_error().unwrap_or_default()),
                })?;
                user_namespace = Some(file);
            }
            let Some(namespace) = &user_namespace else { continue };
            match mount::idmap(tree.as_fd(), namespace.as_fd(), recursive) {
                Ok(()) => {}
                Err(_) if optional => {
                    let warning = Warning::NotIdmapped(path.clone());
                    if !self.warnings.contains(&warning) {
                        self.warnings.push(warning);
                    }
                }
                Err(source) => return Err(Error::Idmap { path: path.clone(), source }),
            }
        }
        Ok(())
    }

    /// Compiles the system call filter while the child is busy, and sends it.
    fn filter(&mut self, policy: Option<&Seccomp>) -> Result<(), Error> {
        let compiled = policy.map(seccomp::compile).transpose()?.unwrap_or_default();
        if let Some(socket) = &self.socket {
            let sent = socket.send_filter(&compiled.program, compiled.flags);
            sent.map_err(|source| Error::Talk { source })?;
        }
        self.warnings.extend(compiled.warnings);
        Ok(())
    }

    /// What only the parent has the privilege for.
    fn limit(&self, process: &PlannedProcess) -> Result<(), Error> {
        tune::schedule(process, self.pid)?;
        let pid = self.pid.as_raw();
        if let Some(score) = process.oom_score_adj {
            let path = format!("/proc/{pid}/oom_score_adj");
            std::fs::write(&path, score.to_string()).map_err(|error| Error::Path {
                action: "write",
                path: path.into(),
                source: Errno::from_raw(error.raw_os_error().unwrap_or_default()),
            })?;
        }
        for (resource, soft, hard, name) in &process.rlimits {
            prlimit(self.pid, *resource, *soft, *hard).map_err(|source| Error::Path {
                action: "set the resource limit",
                path: name.into(),
                source,
            })?;
        }
        Ok(())
    }

    fn create_runtime_hooks(&mut self, spec: &Spec) -> Result<(), Error> {
        let state = self.states[0].replacen("\"running\"", "\"creating\"", 1);
        loop {
            match self.receive()? {
                Report::Console(master) => self.console = Some(master),
                Report::Hooks => break,
                report => return Err(self.unexpected(report)),
            }
        }
        let hooks = spec.hooks.iter();
        // The older kind is from before there was `creating`, and is told what it was told then.
        let created = state.replacen("\"creating\"", "\"created\"", 1);
        for hooks in hooks {
            hooks::run("prestart", &hooks.prestart, &created)?;
            hooks::run("createRuntime", &hooks.create_runtime, &state)?;
        }
        self.send(Command::Continue)
    }

    fn send(&self, command: Command) -> Result<(), Error> {
        let socket = self.socket.as_ref();
        let sent = socket.map(|socket| socket.send(command)).transpose();
        sent.map(drop).map_err(|source| Error::Talk { source })
    }

    fn receive(&self) -> Result<Report, Error> {
        match &self.socket {
            Some(socket) => socket.receive().map_err(|source| Error::Talk { source }),
            None => Ok(Report::Closed),
        }
    }

    fn until_ready(&mut self) -> Result<(), Error> {
        loop {
            match self.receive()? {
                Report::Console(master) => self.console = Some(master),
                Report::Ready => return Ok(()),
                report => return Err(self.unexpected(report)),
            }
        }
    }

    fn until_executed(&mut self) -> Result<(), Error> {
        match self.receive()? {
            // The socket closes on execution, and also when the child is killed; then there is no program that could
            // have been executed, but what is seen of it from outside is the same.
            Report::Closed => {
                self.socket = None;
                self.plan = None;
                hooks::run("poststart", &self.poststart, &self.states[0])
            }
            report => Err(self.unexpected(report)),
        }
    }

    fn unexpected(&self, report: Report) -> Error {
        match report {
            Report::Failed(failure) => {
                let plan = self.plan.as_ref();
                let object = plan.map(|plan| plan.object(failure.step, failure.object));
                let socket = self.socket.as_ref().filter(|_| failure.step == Step::Execute);
                let cause = socket.and_then(ParentEnd::receive_cause);
                failure.into_error(object.unwrap_or_default(), cause)
            }
            Report::Closed => Error::ChildEnded,
            _ => Error::Talk { source: Errno::EPROTO },
        }
    }

    /// Kills what there is and removes it, and gives `error` back.
    pub(super) fn abandon(mut self, error: Error) -> Error {
        let _ = self.kill(libc::SIGKILL);
        let _ = self.wait();
        let _ = self.delete();
        error
    }

    /// Lets the program begin.
    ///
    /// # Errors
    /// When it cannot be executed: [`Error::NotFound`] or [`Error::NotExecutable`]; the process has ended then.
    pub fn start(&mut self) -> Result<(), Error> {
        self.send(Command::Start)?;
        self.until_executed()
    }

    /// The process's number outside of the container.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// The process, as a descriptor that becomes readable when it ends.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// The terminal's outer end, once, if the spec asks for a terminal.
    pub fn take_console(&mut self) -> Option<OwnedFd> {
        self.console.take()
    }

    /// What was weaker than asked.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// The directories of the container's control group, one a hierarchy.
    pub fn cgroup_directories(&self) -> Vec<PathBuf> {
        self.cgroup.as_ref().map(Cgroup::directories).unwrap_or_default()
    }

    /// The class of service that it is in.
    pub(super) fn class(&self) -> Option<Class> {
        self.class.clone()
    }

    /// The unit of systemd's that its control group belongs to.
    pub(super) fn unit(&self) -> Option<Unit> {
        self.cgroup.as_ref().and_then(Cgroup::unit).cloned()
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

    /// Waits until the program has ended.
    ///
    /// # Errors
    /// `ECHILD` if somebody else has waited for it already.
    pub fn wait(&mut self) -> Result<ExitStatus, Error> {
        let (pid, action) = (self.pid.as_raw(), "wait for");
        match pidfd_wait(&self.pidfd) {
            Ok(Ended::Exited(status)) => Ok(ExitStatus::Exited(status)),
            Ok(Ended::Signaled(signal)) => Ok(ExitStatus::Signaled(signal)),
            Err(source) => Err(Error::Process { action, pid, source }),
        }
    }

    /// Removes what is left of a container that has ended: its control group.
    ///
    /// # Errors
    /// When the group does not go away, or a `poststop` hook fails; every one of them is run.
    pub fn delete(&mut self) -> Result<(), Error> {
        let mut result = self.cgroup.as_mut().map_or(Ok(()), Cgroup::delete);
        result = result.and(self.class.take().map_or(Ok(()), |class| class.remove()));
        for hook in &self.poststop {
            let run = hooks::run("poststop", std::slice::from_ref(hook), &self.states[1]);
            result = result.and(run);
        }
        result
    }
}
