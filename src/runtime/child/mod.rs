//! The child: a flat list of small steps between `clone3` and `execve`.
//!
//! It is the only thread of a copy of the parent, so it may allocate, and needs to do so little. Until it has closed the
//! host's descriptors it resolves no name of the container but on the new root's descriptor.

mod agent;
mod copy_up;
mod dev;
mod exec;
mod explain;
mod identity;
mod init;
mod mounts;
pub(super) mod place;
mod root;

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2, readlink, readlinkat};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, stat};
use nix::unistd::{
    AccessFlags, access, dup2_stderr, dup2_stdin, dup2_stdout, fchdir, getcwd, sethostname, setsid,
};

use super::error::{HookOutcome, Step};
use super::hooks;
use super::plan::{Plan, PlannedProcess};
use super::protocol::{ChildEnd, Command, Failure};
use crate::oci::runtime_spec::Hook;
use crate::sys::mount::FsContext;
use crate::sys::process;
use crate::sys::seccomp::Instruction;
use crate::sys::{clone, net, tty};
use agent::Listener;

pub(super) use exec::run as run_exec;

/// A step's end. What failed is known by its step and by the number of its object in the plan.
type Done = Result<(), Failure>;

/// Says in which step, and on which object of the plan, something failed.
trait At<T>: Sized {
    fn at(self, step: Step, object: usize) -> Result<T, Failure>;

    fn during(self, step: Step) -> Result<T, Failure> {
        self.at(step, 0)
    }
}

impl<T> At<T> for Result<T, Errno> {
    fn at(self, step: Step, object: usize) -> Result<T, Failure> {
        let object = u32::try_from(object).unwrap_or(u32::MAX);
        self.map_err(|errno| Failure { step, object, errno })
    }
}

/// What the steps hand on to each other.
struct Child<'a> {
    plan: &'a Plan,
    parent: ChildEnd,
    /// A proc of the container's own, whatever is at its `/proc`.
    proc: Option<OwnedFd>,
    /// The container's devpts, for a terminal.
    devpts: Option<OwnedFd>,
    /// The host's control groups, of which the container is shown its own.
    hierarchies: Option<OwnedFd>,
    /// Whether the control groups are joined.
    joined: bool,
    /// This process's number outside, where somebody is told it.
    pid: String,
    /// The state that hooks get, with this process's number outside.
    hook_state: String,
    /// The system call filter and its flags.
    filter: (Vec<Instruction>, u32),
}

/// Walks through `plan`, and becomes the program or ends.
pub(super) fn run(plan: &Plan, parent: ChildEnd) -> ! {
    let mut child = Child {
        plan,
        parent,
        proc: None,
        devpts: None,
        hierarchies: None,
        joined: false,
        pid: String::new(),
        hook_state: String::new(),
        filter: (Vec::new(), 0),
    };
    let Err(failure) = child.walk();
    say(&child.parent, failure, &plan.process);
    clone::exit(1)
}

/// Tells the parent what has failed, and then, of a program that could not be executed, why: to find that out, calls are
/// made that a filter may punish.
fn say(parent: &ChildEnd, failure: Failure, process: &PlannedProcess) {
    // If the parent is gone, nobody wants to know.
    let _ = parent.failed(failure);
    if failure.step == Step::Execute
        && let Some(cause) = explain::explain(process, failure.errno)
    {
        let _ = parent.explained(&cause);
    }
}

impl Child<'_> {
    fn walk(&mut self) -> Result<Infallible, Failure> {
        self.leave_the_caller()?;
        self.become_root()?;
        self.set_names()?;
        if !self.plan.cgroup_namespace {
            // Before something of the container's is put over the host's name for a while.
            self.hierarchies = place::open_host(c"/sys/fs/cgroup").ok();
        }
        let root = root::make(self.plan)?;
        self.mount_all(&root)?;
        self.open_proc()?;
        self.fill_dev(&root)?;
        self.open_terminal(&root)?;
        self.set_sysctls()?;
        self.mask(&root)?;
        self.make_readonly(&root)?;
        self.finish_joining()?;
        self.filter = self.parent.expect_filter().during(Step::Talk)?;
        self.run_hooks_of_the_host()?;
        root::pivot(self.plan, root.as_fd())?;
        let root = root::share(self.plan, root)?;
        self.set_labels()?;
        self.enter_working_directory(&root)?;
        self.set_streams()?;
        self.close_descriptors(root)?;
        self.wait_for_start()?;
        self.run_hooks(&self.plan.start_container, self.plan.create_container.len())?;
        let plan = self.plan;
        let (pid, state) = (self.pid.as_str(), self.hook_state.as_str());
        let listener = plan.agent.as_ref().map(|agent| Listener { agent, pid, state });
        identity::assume(&plan.process, plan.die_with_parent, &self.filter, listener.as_ref())?;
        if let Some(exe) = &plan.init {
            init::become_init(exe)?;
        }
        execute(&plan.process)
    }

    /// Stands ready until who made it says START; or, if it was left with a socket, until somebody does so there, who is
    /// told from then on what goes wrong.
    fn wait_for_start(&mut self) -> Done {
        let Some(listener) = &self.plan.start else {
            self.parent.ready().during(Step::Talk)?;
            return self.parent.expect(Command::Start).during(Step::Talk);
        };
        if !self.plan.process.candidates.is_empty() {
            look_for_program(&self.plan.process)?;
        }
        self.parent.ready().during(Step::Talk)?;
        self.parent = ChildEnd::accept_start(listener).during(Step::Talk)?;
        Ok(())
    }

    /// A session of one's own: a program that shares the caller's terminal cannot push keys into it (TIOCSTI), as that
    /// needs the controlling terminal. No keys and no signal dispositions of the caller's either.
    fn leave_the_caller(&mut self) -> Done {
        setsid().during(Step::Session)?;
        process::reset_signals().during(Step::Signals)?;
        if self.plan.no_new_keyring { Ok(()) } else { leave_the_keyring() }
    }

    /// Becomes root of the new user namespace, once the parent has mapped the ids.
    fn become_root(&mut self) -> Done {
        self.parent.expect(Command::Mapped).during(Step::Talk)?;
        if self.plan.ids.is_some() {
            identity::set_groups(&self.plan.process, &[])?;
            process::setresgid(0).during(Step::UserId)?;
            process::setresuid(0).during(Step::UserId)?;
        }
        // Nobody in a shared PID namespace may look into this process while it has the host's descriptors
        // (CVE-2016-9962). Executing the program makes it dumpable again.
        process::set_dumpable(false).during(Step::CloseDescriptors)
    }

    fn set_names(&mut self) -> Done {
        if self.plan.namespaces & clone::NEWNET != 0 {
            net::set_loopback_up().during(Step::Loopback)?;
        }
        if let Some(name) = &self.plan.hostname {
            sethostname(name).during(Step::Hostname)?;
        }
        if let Some(name) = &self.plan.domainname {
            process::setdomainname(name).during(Step::Domainname)?;
        }
        Ok(())
    }

    /// Joins the control groups of version 1; that of version 2 it was cloned into. A cgroup namespace is rooted at the
    /// groups that its maker is in, and so comes behind.
    fn finish_joining(&mut self) -> Done {
        if self.joined {
            return Ok(());
        }
        self.joined = true;
        let groups = self.parent.expect_join().during(Step::Talk)?;
        for (index, group) in groups.iter().enumerate() {
            nix::unistd::write(group, b"0").at(Step::JoinCgroup, index)?;
        }
        if self.plan.cgroup_namespace {
            unshare(CloneFlags::CLONE_NEWCGROUP).during(Step::CgroupNamespace)?;
        }
        Ok(())
    }

    fn run_hooks_of_the_host(&mut self) -> Done {
        let plan = self.plan;
        if plan.create_runtime {
            self.parent.hooks().during(Step::Talk)?;
            self.parent.expect(Command::Continue).during(Step::Talk)?;
        }
        let in_child = !(plan.create_container.is_empty() && plan.start_container.is_empty());
        if in_child || plan.agent.is_some() {
            // The host's proc, which is still there, knows this process by its number outside.
            let pid = readlink(c"/proc/self").at(Step::Hook, 0)?;
            self.pid = pid.to_string_lossy().into_owned();
            self.hook_state = plan.hook_state.replace("{pid}", &self.pid);
        }
        self.run_hooks(&plan.create_container, 0)
    }

    fn run_hooks(&self, list: &[Hook], first: usize) -> Done {
        for (index, hook) in list.iter().enumerate() {
            let errno = match hooks::run_one(hook, &self.hook_state) {
                Ok(()) => continue,
                Err(HookOutcome::Spawn(errno)) => errno,
                Err(HookOutcome::TimedOut) => Errno::ETIMEDOUT,
                Err(_) => Errno::ECANCELED,
            };
            return Err(errno).at(Step::Hook, first + index);
        }
        Ok(())
    }

    /// A proc of this program's own for what has to be written there, if the spec mounts none.
    fn open_proc(&mut self) -> Done {
        let process = &self.plan.process;
        let needed = !self.plan.sysctls.is_empty()
            || process.apparmor.is_some()
            || process.selinux.is_some();
        if needed && self.proc.is_none() {
            let mounted = FsContext::open(c"proc").and_then(|proc| proc.mount(0));
            self.proc = Some(mounted.during(Step::PrivateProc)?);
        }
        Ok(())
    }

    /// Kernel parameters, by this container's own proc, on which nothing is mounted (CVE-2025-52881).
    fn set_sysctls(&mut self) -> Done {
        for (index, (_, path, value)) in self.plan.sysctls.iter().enumerate() {
            self.write_proc(&[c"sys", path], value).at(Step::Sysctl, index)?;
        }
        Ok(())
    }

    /// The labels that the program gets when it is executed.
    fn set_labels(&mut self) -> Done {
        if self.plan.process.apparmor.is_none() && self.plan.process.selinux.is_none() {
            return Ok(());
        }
        // Whatever PID namespace that proc is of, it knows the number of who asks.
        let proc = self.proc.as_ref().ok_or(Errno::ENOENT);
        let pid = proc.and_then(|proc| readlinkat(proc, c"self")).during(Step::ApparmorProfile)?;
        let pid = CString::new(pid.as_bytes()).unwrap_or_default();
        if let Some(profile) = &self.plan.process.apparmor {
            let value = format!("exec {profile}");
            let written = self.write_proc(&[&pid, c"attr/apparmor/exec"], &value);
            match written {
                // Before Linux 5.8, AppArmor had no directory of its own.
                Err(Errno::ENOENT) => self.write_proc(&[&pid, c"attr/exec"], &value),
                written => written,
            }
            .during(Step::ApparmorProfile)?;
        }
        if let Some(label) = &self.plan.process.selinux {
            let written = self.write_proc(&[&pid, c"attr/exec"], label);
            written.during(Step::SelinuxLabel)?;
        }
        Ok(())
    }

    fn write_proc(&self, path: &[&CStr], value: &str) -> Result<(), Errno> {
        let proc = self.proc.as_ref().ok_or(Errno::ENOENT)?;
        let parts: Vec<&[u8]> = path.iter().map(|part| part.to_bytes()).collect();
        let path = CString::new(parts.join(&b'/')).map_err(|_| Errno::EINVAL)?;
        let how = OpenHow::new().flags(OFlag::O_WRONLY | OFlag::O_CLOEXEC).resolve(
            ResolveFlag::RESOLVE_BENEATH
                | ResolveFlag::RESOLVE_NO_XDEV
                | ResolveFlag::RESOLVE_NO_SYMLINKS,
        );
        let mut file = File::from(openat2(proc, path.as_c_str(), how)?);
        file.write_all(value.as_bytes())
            .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
    }

    /// The terminal: its outer end goes to the parent, its inner end becomes the standard streams and `/dev/console`.
    fn open_terminal(&mut self, root: &OwnedFd) -> Done {
        let Some(size) = self.plan.terminal else { return Ok(()) };
        let devpts = self.devpts.as_ref().ok_or(Errno::ENOENT).during(Step::Console)?;
        // On the filesystem itself: whatever lies at /dev/pts or /dev/ptmx cannot stand in for it (CVE-2025-52565).
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let master = nix::fcntl::openat(devpts, c"ptmx", flags, Mode::empty());
        let master = master.during(Step::Console)?;
        let terminal = tty::open_peer(&master).during(Step::Console)?;
        if let Some(size) = size {
            tty::set_window_size(&master, size.height, size.width).during(Step::Console)?;
        }
        let owner = nix::unistd::Uid::from_raw(self.plan.process.uid);
        nix::unistd::fchown(&terminal, Some(owner), None).during(Step::Console)?;
        dev::bind_console(root.as_fd(), terminal.as_fd())?;
        self.parent.console(master.as_fd()).during(Step::Talk)?;
        tty::set_controlling(&terminal).during(Step::Console)?;
        set_streams([terminal.as_fd(); 3]).during(Step::Stdio)
    }

    fn set_streams(&mut self) -> Done {
        match (&self.plan.stdio, self.plan.terminal) {
            (Some([input, output, error]), None) => {
                set_streams([input.as_fd(), output.as_fd(), error.as_fd()]).during(Step::Stdio)
            }
            _ => Ok(()),
        }
    }

    /// Enters the working directory, which is made if it is missing. It is looked up without the magic links of proc, which
    /// lead to whatever the host left open (CVE-2024-21626), and it must be inside once entered.
    fn enter_working_directory(&mut self, root: &OwnedFd) -> Done {
        let cwd = &self.plan.process.cwd;
        let directory = if cwd.is_empty() {
            place::open(root.as_fd(), c".").during(Step::ChangeDirectory)?
        } else {
            place::find_or_make(root.as_fd(), cwd, place::Kind::Directory, false)
                .during(Step::Directory)?
        };
        enter(&directory)
    }

    /// Closes everything but the standard streams and the way to the parent, so that nothing of the host is left for
    /// the program's path or its interpreter's to lead to.
    fn close_descriptors(&mut self, root: OwnedFd) -> Done {
        // What has an owner here is closed by it. The plan's owner is never to be dropped: this process does not return.
        drop((root, self.proc.take(), self.devpts.take()));
        let kept = [
            Some(self.parent.as_fd()),
            self.plan.start.as_ref().map(AsFd::as_fd),
            self.plan.init.as_ref().map(AsFd::as_fd),
            self.plan.agent.as_ref().map(|agent| agent.socket.as_fd()),
        ];
        close_all_but(self.plan.preserve_fds, &kept)
    }
}

/// Closes every descriptor but the standard streams, the `preserved` ones behind them, and those that are `kept`, which the
/// kernel closes when the program begins.
fn close_all_but(preserved: u32, kept: &[Option<BorrowedFd<'_>>]) -> Done {
    let kept = kept.iter().flatten().map(AsRawFd::as_raw_fd);
    let closed = process::close_all_but(3_u32.saturating_add(preserved), kept);
    closed.during(Step::CloseDescriptors)
}

/// No key of the caller's session comes along.
fn leave_the_keyring() -> Done {
    match process::join_session_keyring() {
        // Kernels without keys have none to hide.
        Err(Errno::ENOSYS) => Ok(()),
        joined => joined.during(Step::Keyring),
    }
}

/// Makes a directory the working directory, if it is inside of the root.
fn enter(directory: &OwnedFd) -> Done {
    fchdir(directory).during(Step::ChangeDirectory)?;
    let inside = getcwd().is_ok_and(|path| path.as_os_str().as_bytes().starts_with(b"/"));
    if inside { Ok(()) } else { Err(Errno::EXDEV).during(Step::UnsafeDirectory) }
}

fn set_streams([input, output, error]: [BorrowedFd<'_>; 3]) -> Result<(), Errno> {
    dup2_stdin(input)?;
    dup2_stdout(output)?;
    dup2_stderr(error)
}

/// Says now that there is no such program, as those expect who make a container and start it later.
fn look_for_program(process: &PlannedProcess) -> Done {
    let mut found = Errno::ENOENT;
    for path in &process.candidates {
        let executable = access(path.as_c_str(), AccessFlags::X_OK).and_then(|()| {
            let mode = stat(path.as_c_str())?.st_mode;
            if mode & libc::S_IFMT == libc::S_IFREG { Ok(()) } else { Err(Errno::EACCES) }
        });
        match executable {
            Ok(()) => return Ok(()),
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(errno) => found = errno,
        }
    }
    Err(found).during(Step::Execute)
}

/// Executes the first of the candidates that there is, as `execvp(3)` chooses.
fn execute(process: &PlannedProcess) -> Result<Infallible, Failure> {
    let mut found = Errno::ENOENT;
    for path in &process.candidates {
        match process::execve(path, &process.arguments, &process.environment) {
            Errno::ENOENT | Errno::ENOTDIR => {}
            // One that may not be executed does not hide one that may, further on.
            Errno::EACCES => found = Errno::EACCES,
            errno => {
                found = errno;
                break;
            }
        }
    }
    Err(found).during(Step::Execute)
}
