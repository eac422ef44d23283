//! Making, starting, watching and removing a container.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::unistd::Pid;

use super::cgroup::Cgroup;
use super::error::{Error, Step, Warning};
use super::hooks;
use super::plan::{Idmap, Plan, RootSource, Source};
use super::protocol::{Command, ParentEnd, Report};
use super::seal;
use super::seccomp;
use super::spawn;
use super::tune;
use crate::oci::runtime_spec::{Hook, Spec};
use crate::sys::mount;
use crate::sys::pidfd::{Ended, pidfd_send_signal, pidfd_wait};
use crate::sys::process::prlimit;

/// Where a container's files are.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// The container's name, which also names its control group.
    pub id: String,
    /// The bundle's directory: relative paths of the spec start here.
    pub directory: PathBuf,
    /// What the root filesystem is made of.
    pub root: Root,
}

/// What the root filesystem is made of.
#[derive(Clone, Debug)]
pub enum Root {
    /// The spec's `root.path`, bind-mounted: what is written stays there.
    Directory,
    /// An overlay: what is written goes into a layer of the container's own.
    Overlay {
        /// An image's tree; it is never written to.
        lower: PathBuf,
        /// A directory with `upper/` and `work/`.
        layer: PathBuf,
        /// Whether the layer is thrown away with the container, and so need not be flushed to disk when it ends. After a
        /// crash of the machine, a volatile layer cannot be mounted again.
        volatile: bool,
    },
}

/// The standard streams of the program.
#[derive(Debug, Default)]
pub enum Stdio {
    /// The caller's own.
    #[default]
    Inherit,
    /// Input, output and error.
    Descriptors([OwnedFd; 3]),
}

/// What the caller decides, and no spec.
#[derive(Debug, Default)]
pub struct Options {
    /// The standard streams, if the program does not get a terminal.
    pub stdio: Stdio,
    /// The control group under which the container's is made, if the spec does not name one; `mydocker` unless given.
    pub cgroup_parent: Option<PathBuf>,
    /// Whether bind mounts and a root directory show the owners on disk as they are to the user namespace's root, where
    /// the spec does not say so mount by mount. Where a filesystem cannot, a bind mount goes without, with a warning.
    pub idmap_binds: bool,
    /// Whether the program is killed when this one ends.
    pub die_with_parent: bool,
}

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

/// A container's first process.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    pidfd: OwnedFd,
    socket: Option<ParentEnd>,
    console: Option<OwnedFd>,
    cgroup: Cgroup,
    warnings: Vec<Warning>,
    /// Kept until the program is executed, to name what failed.
    plan: Option<Box<Plan>>,
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
    let linux = spec.linux.as_ref();
    let mut cgroup = Cgroup::plan(bundle, linux, &options, plan.ids.is_some())?;
    cgroup.delegate_to(spec, plan.ids.as_ref());
    plan.cgroup = cgroup.view();
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
        cgroup,
        plan: Some(plan),
        poststart: hooks.poststart.clone(),
        poststop: hooks.poststop.clone(),
        states: [state("running"), state("stopped")],
    };
    match process.set_up(spec, start) {
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
    /// The parent's part of the setting up, in the order in which the child waits for it.
    fn set_up(&mut self, spec: &Spec, start: bool) -> Result<(), Error> {
        let Some(plan) = self.plan.take() else { return Ok(()) };
        let result = self.follow(&plan, spec, start);
        self.plan = Some(plan);
        result
    }

    fn follow(&mut self, plan: &Plan, spec: &Spec, start: bool) -> Result<(), Error> {
        if let Some(ids) = &plan.ids {
            ids.write(self.pid)?;
            self.idmap(plan)?;
        }
        self.send(Command::Mapped)?;
        self.cgroup.make_v1()?;
        let groups = self.cgroup.open_v1()?;
        if self.cgroup.is_missing() {
            self.warnings.push(Warning::NoCgroup);
        }
        self.limit(plan)?;
        if let Some(socket) = &self.socket {
            let groups: Vec<BorrowedFd<'_>> = groups.iter().map(AsFd::as_fd).collect();
            socket.send_join(&groups).map_err(|source| Error::Talk { source })?;
        }
        let policy = spec.linux.as_ref().and_then(|linux| linux.seccomp.as_ref());
        let compiled = policy.map(seccomp::compile).transpose()?.unwrap_or_default();
        if let Some(socket) = &self.socket {
            let sent = socket.send_filter(&compiled.program, compiled.flags);
            sent.map_err(|source| Error::Talk { source })?;
        }
        self.warnings.extend(compiled.warnings);
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
                Err(_) if optional => self.warnings.push(Warning::NotIdmapped(path.clone())),
                Err(source) => return Err(Error::Idmap { path: path.clone(), source }),
            }
        }
        Ok(())
    }

    /// What only the parent has the privilege for.
    fn limit(&self, plan: &Plan) -> Result<(), Error> {
        tune::apply(plan, self.pid)?;
        let pid = self.pid.as_raw();
        if let Some(score) = plan.process.oom_score_adj {
            let path = format!("/proc/{pid}/oom_score_adj");
            std::fs::write(&path, score.to_string()).map_err(|error| Error::Path {
                action: "write",
                path: path.into(),
                source: Errno::from_raw(error.raw_os_error().unwrap_or_default()),
            })?;
        }
        for (resource, soft, hard, name) in &plan.process.rlimits {
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
        match self.receive()? {
            Report::Hooks => {}
            report => return Err(self.unexpected(report)),
        }
        let hooks = spec.hooks.iter();
        for (stage, list) in hooks.flat_map(|hooks| {
            [("prestart", &hooks.prestart), ("createRuntime", &hooks.create_runtime)]
        }) {
            hooks::run(stage, list, &state)?;
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
                let (object, source) = (object.unwrap_or_default(), failure.errno);
                let program = || object.trim_matches('`').to_owned();
                match (failure.step, source) {
                    (Step::Execute, Errno::ENOENT | Errno::ENOTDIR) => {
                        Error::NotFound { program: program(), source }
                    }
                    (Step::Execute, _) => Error::NotExecutable { program: program(), source },
                    (step, _) => Error::Setup { step, object, source },
                }
            }
            Report::Closed => Error::ChildEnded,
            _ => Error::Talk { source: Errno::EPROTO },
        }
    }

    /// Kills what there is and removes it, and gives `error` back.
    fn abandon(mut self, error: Error) -> Error {
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
        self.cgroup.directories()
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
        let removed = self.cgroup.delete();
        let mut result = removed;
        for hook in &self.poststop {
            let run = hooks::run("poststop", std::slice::from_ref(hook), &self.states[1]);
            result = result.and(run);
        }
        result
    }
}
