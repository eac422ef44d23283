//! A further process in a container that runs.
//!
//! ```text
//! parent                                    child
//! opens the groups, borrows the PID
//! namespace, clones into the v2 group   →   joins the v1 groups, then all namespaces at once
//! limits it; FILTER, START              →   terminal, labels, working directory, streams
//!                    ←  CONSOLE, READY      user, capabilities, filter, execve: the socket closes
//! ```

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::sched::{CloneFlags, CpuSet, sched_getaffinity, sched_setaffinity, setns};
use nix::unistd::{Pid, geteuid};

use super::cgroup::{MOUNT_POINT, members};
use super::child;
use super::error::Error;
use super::groups::Groups;
use super::host::CgroupVersion;
use super::init::Init;
use super::options::Stdio;
use super::plan::{ExecPlan, PlannedProcess, plan_agent, processors};
use super::process::Process;
use super::protocol::{self, ParentEnd};
use super::resctrl::Class;
use super::rootless;
use super::seal;
use crate::oci::runtime_spec::seccomp::Seccomp;
use crate::oci::runtime_spec::{self, Spec};
use crate::sys::clone::{self, Clone};
use crate::sys::process::set_dumpable;

/// What the caller of [`exec`] decides, and no spec.
#[derive(Debug, Default)]
pub struct ExecOptions {
    /// The standard streams, if the program does not get a terminal.
    pub stdio: Stdio,
    /// How many descriptors from 3 on the program inherits from the caller, all of which must be open.
    pub preserve_fds: u32,
    /// Whether the program keeps the caller's supplementary groups, and gets none of its own.
    pub keep_groups: bool,
    /// Whether the program keeps the caller's session keyring.
    pub no_new_keyring: bool,
    /// The container's state as hooks are told it, for an agent that decides on system calls.
    pub state: String,
    /// The class of service that the container is in.
    pub class: Option<Class>,
    /// Groups below the container's to join, each with the version 1 controllers that it is for; none of those are all.
    pub groups: Vec<(Vec<String>, PathBuf)>,
}

/// Starts `process` in the container whose first process is `init` and whose control groups are `groups`, behind the same
/// system call filter.
///
/// # Errors
/// [`Error::NotFound`] and [`Error::NotExecutable`] if there is no such program; [`Error::Unsealed`] if this program must
/// first call [`super::seal`], since the container could overwrite it.
pub fn exec(
    init: &Init,
    groups: &Groups,
    process: &runtime_spec::Process,
    policy: Option<&Seccomp>,
    options: ExecOptions,
) -> Result<Process, Error> {
    let ids = init.ids()?;
    if seal::is_needed(Some(&ids)) && !seal::is_sealed() {
        return Err(Error::Unsealed);
    }
    let affinity = process.exec_cpu_affinity.clone().unwrap_or_default();
    let initial = processors("initial", affinity.initial.as_deref())?;
    let spec = Spec { process: Some(process.clone()), ..Spec::default() };
    let planned = PlannedProcess::new(&spec)?.keeping_groups(options.keep_groups);
    let namespaces = init.namespaces()?;
    let pid = init.pid().as_raw();
    let pidfd = init.pidfd().try_clone_to_owned();
    let pidfd = pidfd.map_err(|_| Error::Process { action: "hold", pid, source: Errno::EMFILE })?;
    let (joined, unified) = open_groups(init, groups, &options.groups)?;
    let mut plan = Box::new(ExecPlan {
        groups: joined,
        init: pidfd,
        namespaces: namespaces - CloneFlags::CLONE_NEWPID,
        root: match namespaces.contains(CloneFlags::CLONE_NEWNS) {
            true => None,
            false => Some(init.root()?),
        },
        outside: false,
        become_root: namespaces.contains(CloneFlags::CLONE_NEWUSER),
        stdio: match options.stdio {
            Stdio::Inherit => None,
            Stdio::Descriptors(descriptors) => Some(descriptors),
        },
        preserve_fds: options.preserve_fds,
        no_new_keyring: options.no_new_keyring,
        processors: processors("final", affinity.last.as_deref())?,
        agent: plan_agent(policy, Some(&ids))?.map(|agent| (agent, options.state)),
        process: planned,
    });
    let own = initial.map(|initial| move_to(init, &initial)).transpose()?;
    let cloned = clone_child(init, namespaces, &mut plan, &unified);
    if let Some(own) = own {
        move_to(init, &own)?;
    }
    Process::join(cloned?, plan, policy, options.class.as_ref())
}

/// Has this process, and so its next child, run on these processors, and says on which it did.
fn move_to(init: &Init, processors: &CpuSet) -> Result<CpuSet, Error> {
    let (own, action) = (Pid::from_raw(0), "set `process.execCPUAffinity` for a program in");
    let moved = sched_getaffinity(own).and_then(|before| {
        sched_setaffinity(own, processors)?;
        Ok(before)
    });
    moved.map_err(|source| Error::Process { action, pid: init.pid().as_raw(), source })
}

/// Opens the version 1 groups to join, and the version 2 groups to be cloned into: the first that takes a process.
fn open_groups(
    init: &Init,
    groups: &Groups,
    below: &[(Vec<String>, PathBuf)],
) -> Result<(Vec<OwnedFd>, Vec<OwnedFd>), Error> {
    let open = |path: &Path, write: bool| {
        let file = fs::OpenOptions::new().read(!write).write(write).open(path);
        file.map(OwnedFd::from).map_err(|error| Error::Cgroup {
            action: "open",
            path: path.to_owned(),
            source: Errno::from_raw(error.raw_os_error().unwrap_or_default()),
        })
    };
    for (_, path) in below {
        if path.components().any(|part| matches!(part, Component::ParentDir)) {
            let field = "--cgroup".to_owned();
            return Err(Error::Invalid { field, reason: "it has `..`".to_owned() });
        }
    }
    let below = |controller: &str| {
        let mut found = below.iter().filter(|(controllers, _)| {
            controllers.is_empty() || controllers.iter().any(|name| name == controller)
        });
        found.next().map(|(_, path)| path.strip_prefix("/").unwrap_or(path))
    };
    let directories = groups.directories();
    match groups.version() {
        CgroupVersion::None => Ok((Vec::new(), Vec::new())),
        CgroupVersion::V1 => {
            let tasks = directories.iter().map(|directory| {
                let below = groups.controller_of(directory).and_then(below);
                let directory =
                    below.map_or_else(|| directory.clone(), |path| directory.join(path));
                open(&members(&directory), true)
            });
            Ok((tasks.collect::<Result<_, _>>()?, Vec::new()))
        }
        CgroupVersion::V2 => {
            let Some(directory) = directories.first() else { return Ok((Vec::new(), Vec::new())) };
            if let Some(below) = below("") {
                return Ok((Vec::new(), vec![open(&directory.join(below), false)?]));
            }
            // Where the first process has gone to below the container's group, as systemd does: that group is to hand
            // controllers on, and takes no process then, or cannot do so because of one.
            let own = init.unified_group().map(|path| Path::new(MOUNT_POINT).join(path));
            let own = own.filter(|path| path != directory && path.starts_with(directory));
            let mut unified = Vec::from_iter(own.and_then(|path| open(&path, false).ok()));
            unified.push(open(directory, false)?);
            Ok((Vec::new(), unified))
        }
    }
}

fn clone_child(
    init: &Init,
    namespaces: CloneFlags,
    plan: &mut ExecPlan,
    unified: &[OwnedFd],
) -> Result<(Pid, OwnedFd, ParentEnd), Error> {
    let error = |action| move |source| Error::Process { action, pid: init.pid().as_raw(), source };
    if !geteuid().is_root() && namespaces.contains(CloneFlags::CLONE_NEWUSER) {
        // An ordinary user has power over nothing of the container but from within its user namespace.
        setns(init.pidfd(), CloneFlags::CLONE_NEWUSER)
            .map_err(error("join the user namespace of"))?;
        plan.namespaces -= CloneFlags::CLONE_NEWUSER;
    }
    let (parent, child) = protocol::pair().map_err(|source| Error::Talk { source })?;
    let pids = namespaces & CloneFlags::CLONE_NEWPID;
    let own = fs::File::open("/proc/self/ns/pid");
    let own = own.map_err(|_| error("find the way back from")(Errno::ENOENT))?;
    if !pids.is_empty() {
        setns(init.pidfd(), pids).map_err(error("join the PID namespace of"))?;
    }
    // The child is in the container's PID namespace from its first moment on: nobody there may look into it.
    set_dumpable(false).map_err(error("hide the child beside"))?;
    let mut cloned = clone::clone3(0, unified.first().map(AsFd::as_fd));
    for group in unified.iter().skip(1) {
        // It may have been removed since.
        if matches!(cloned, Err(Errno::EBUSY | Errno::ENODEV | Errno::ENOENT)) {
            cloned = clone::clone3(0, Some(group.as_fd()));
        }
    }
    if matches!(cloned, Err(Errno::EACCES | Errno::EPERM)) && rootless::is_ordinary() {
        // An ordinary user may move a process below what its own systemd manages, and not from elsewhere into there.
        plan.outside = true;
        cloned = clone::clone3(0, None);
    }
    if matches!(cloned, Ok(Clone::Child)) {
        drop(parent);
        child::run_exec(plan, &child);
    }
    set_dumpable(true).map_err(error("hide the child beside"))?;
    if !pids.is_empty() {
        match setns(&own, pids) {
            // An ordinary user has no power over the host's. It is about further children only, of which there are none.
            Err(Errno::EPERM) => {}
            back => back.map_err(error("return from the PID namespace of"))?,
        }
    }
    match cloned.map_err(|source| Error::Clone { source })? {
        Clone::Parent(pid, pidfd) => Ok((pid, pidfd, parent)),
        Clone::Child => clone::exit(1),
    }
}
