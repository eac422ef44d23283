//! The child of an `exec`: from its parent's namespaces into a container that runs already.
//!
//! It is cloned in the container's PID namespace, and so may be seen from there; but it cannot be looked into, as its
//! parent has made both of them undumpable before (CVE-2016-9962), and it opens nothing by a name of the container's but
//! on the root's descriptor.

use std::convert::Infallible;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2, readlink};
use nix::sched::{CloneFlags, sched_setaffinity, setns};
use nix::sys::stat::Mode;
use nix::sys::statfs::{FsType, PROC_SUPER_MAGIC, fstatfs};
use nix::unistd::{Pid, chroot, fchdir, setsid};

use super::agent::Listener;
use super::{At, Done, Failure, close_all_but, enter, execute, identity, leave_the_keyring, place};
use crate::runtime::error::Step;
use crate::runtime::plan::ExecPlan;
use crate::runtime::protocol::{ChildEnd, Command};
use crate::sys::{clone, process, tty};

/// `DEVPTS_SUPER_MAGIC` of `linux/magic.h`.
const DEVPTS_SUPER_MAGIC: FsType = FsType(0x1cd1);

/// Walks through `plan`, and becomes the program or ends.
pub(in crate::runtime) fn run(plan: &ExecPlan, parent: &ChildEnd) -> ! {
    let Err(failure) = walk(plan, parent);
    super::say(parent, failure, &plan.process);
    clone::exit(1)
}

fn walk(plan: &ExecPlan, parent: &ChildEnd) -> Result<Infallible, Failure> {
    for (index, group) in plan.groups.iter().enumerate() {
        nix::unistd::write(group, b"0").at(Step::JoinCgroup, index)?;
    }
    if let Some(processors) = &plan.processors {
        sched_setaffinity(Pid::from_raw(0), processors).during(Step::Processors)?;
    }
    setsid().during(Step::Session)?;
    process::reset_signals().during(Step::Signals)?;
    if !plan.no_new_keyring {
        leave_the_keyring()?;
    }
    // The host's proc knows this process by its number outside.
    let pid = plan.agent.as_ref().map(|_| readlink(c"/proc/self")).transpose();
    let pid = pid.during(Step::Seccomp)?.unwrap_or_default();
    let labels = open_labels(plan)?;
    join_namespaces(plan)?;
    if let Some(root) = &plan.root {
        fchdir(root).during(Step::ChangeDirectory)?;
        chroot(c".").during(Step::ChangeDirectory)?;
    }
    let root = place::open_host(c"/").during(Step::ChangeDirectory)?;
    open_terminal(plan, parent, &root)?;
    write_labels(plan, labels)?;
    let cwd = if plan.process.cwd.is_empty() { c"." } else { plan.process.cwd.as_c_str() };
    enter(&place::open(root.as_fd(), cwd).during(Step::ChangeDirectory)?)?;
    if let (Some([input, output, error]), None) = (&plan.stdio, plan.process.terminal) {
        let streams = [input.as_fd(), output.as_fd(), error.as_fd()];
        super::set_streams(streams).during(Step::Stdio)?;
    }
    let filter = parent.expect_filter().during(Step::Talk)?;
    drop(root);
    let agent = plan.agent.as_ref().map(|(agent, _)| agent.socket.as_fd());
    close_all_but(plan.preserve_fds, &[Some(parent.as_fd()), agent])?;
    parent.ready().during(Step::Talk)?;
    parent.expect(Command::Start).during(Step::Talk)?;
    let pid = pid.to_string_lossy();
    let listener = plan.agent.as_ref().map(|(agent, state)| Listener { agent, pid: &pid, state });
    identity::assume(&plan.process, false, &filter, listener.as_ref())?;
    execute(&plan.process)
}

/// Joins all namespaces at once, in which the kernel begins with the user namespace. If that has no power over one of the
/// others, which the container has joined by a path, this process's own power has to do for those.
fn join_namespaces(plan: &ExecPlan) -> Done {
    let user = plan.namespaces & CloneFlags::CLONE_NEWUSER;
    let joined = match setns(&plan.init, plan.namespaces) {
        Err(Errno::EPERM) if !user.is_empty() => {
            setns(&plan.init, plan.namespaces - user).and_then(|()| setns(&plan.init, user))
        }
        // Nothing is to be joined.
        Err(Errno::EINVAL) if plan.namespaces.is_empty() => Ok(()),
        joined => joined,
    };
    joined.during(Step::JoinNamespaces)?;
    if plan.become_root {
        identity::set_groups(&plan.process, &[])?;
        process::setresgid(0).during(Step::UserId)?;
        process::setresuid(0).during(Step::UserId)?;
    }
    // A change of user has made this process dumpable, or not, as the kernel thinks right.
    process::set_dumpable(false).during(Step::CloseDescriptors)
}

/// A terminal of the container's own devpts, whatever else is mounted there (CVE-2025-52565).
fn open_terminal(plan: &ExecPlan, parent: &ChildEnd, root: &OwnedFd) -> Done {
    let Some(size) = plan.process.terminal else { return Ok(()) };
    let devpts = place::open_strict(root.as_fd(), c"dev/pts").during(Step::Console)?;
    if fstatfs(&devpts).during(Step::Console)?.filesystem_type() != DEVPTS_SUPER_MAGIC {
        return Err(Errno::ENODEV).during(Step::Console);
    }
    let how = OpenHow::new()
        .flags(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_SYMLINKS);
    let master = openat2(&devpts, c"ptmx", how).during(Step::Console)?;
    let terminal = tty::open_peer(&master).during(Step::Console)?;
    if let Some(size) = size {
        tty::set_window_size(&master, size.height, size.width).during(Step::Console)?;
    }
    let owner = nix::unistd::Uid::from_raw(plan.process.uid);
    nix::unistd::fchown(&terminal, Some(owner), None).during(Step::Console)?;
    parent.console(master.as_fd()).during(Step::Talk)?;
    tty::set_controlling(&terminal).during(Step::Console)?;
    super::set_streams([terminal.as_fd(); 3]).during(Step::Stdio)
}

/// The files by which this process asks for labels: the host's proc has them, and what the container calls `/proc` need
/// not be one.
struct Labels {
    apparmor: Option<OwnedFd>,
    selinux: Option<OwnedFd>,
}

fn open_labels(plan: &ExecPlan) -> Result<Labels, Failure> {
    let open = |path| {
        let file = open(path, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?;
        let found = fstatfs(&file)?.filesystem_type();
        if found == PROC_SUPER_MAGIC { Ok(file) } else { Err(Errno::EXDEV) }
    };
    let apparmor = plan.process.apparmor.as_ref().map(|_| {
        match open(c"/proc/thread-self/attr/apparmor/exec") {
            // Before Linux 5.8, AppArmor had no directory of its own.
            Err(Errno::ENOENT) => open(c"/proc/thread-self/attr/exec"),
            opened => opened,
        }
    });
    let selinux = plan.process.selinux.as_ref().map(|_| open(c"/proc/thread-self/attr/exec"));
    Ok(Labels {
        apparmor: apparmor.transpose().during(Step::ApparmorProfile)?,
        selinux: selinux.transpose().during(Step::SelinuxLabel)?,
    })
}

fn write_labels(plan: &ExecPlan, labels: Labels) -> Done {
    let write = |file: OwnedFd, value: &str| {
        let written = File::from(file).write_all(value.as_bytes());
        written.map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
    };
    if let (Some(profile), Some(file)) = (&plan.process.apparmor, labels.apparmor) {
        write(file, &format!("exec {profile}")).during(Step::ApparmorProfile)?;
    }
    if let (Some(label), Some(file)) = (&plan.process.selinux, labels.selinux) {
        write(file, label).during(Step::SelinuxLabel)?;
    }
    Ok(())
}
