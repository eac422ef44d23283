//! `exec`: a further program in a running container.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use nix::unistd::{Uid, getuid};

use super::attach::{self, Signals, user_window};
use super::prepare::Environment;
use super::record::new_id;
use super::spec::CallerEnvironment as _;
use super::status::{Running, Status};
use super::user::UserDatabase;
use super::{Containers, Ending, Error, Record, keep_groups, streams};
use crate::oci::capability::CapabilitySet;
use crate::oci::runtime_spec::{Capabilities, ConsoleSize, Process, Spec, User};
use crate::runtime::{self, ExecOptions, Init, Stats, Stdio};

/// What to run in a container.
#[derive(Clone, Debug, Default)]
pub struct ExecRequest {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Whether it is left to itself.
    pub detach: bool,
    /// `NAME=value`, or `NAME` to copy the caller's, beside the container's own.
    pub env: Vec<String>,
    /// Whether standard input is passed on.
    pub interactive: bool,
    /// Whether it has every capability that the container's user namespace gives.
    pub privileged: bool,
    /// Whether it gets a terminal.
    pub terminal: bool,
    /// Who runs it, as `run --user` takes it; the container's own user where `None`.
    pub user: Option<String>,
    /// The folder to start in; the container's own where `None`.
    pub workdir: Option<String>,
}

/// Runs a program in a container until it ends, and says its exit code; 0 at once if it is left to itself.
///
/// # Errors
/// [`Error::NotRunning`], [`Error::Paused`], and what keeps the program from being executed.
pub fn exec(
    containers: &Containers,
    record: &Record,
    request: &ExecRequest,
    warn: &mut dyn FnMut(&str),
) -> Result<u8, Error> {
    let running = running(containers, record)?;
    let init = running.process.find().ok_or_else(|| Error::NotRunning(record.name.clone()))?;
    let spec = containers.spec(&record.id)?;
    let process = process(&init, &spec, request)?;
    let owner = init.host_uid(process.user.uid).map_or_else(getuid, Uid::from_raw);
    let signals = if request.detach { None } else { Some(Signals::new()?) };
    let (stdio, relays) = match (request.terminal, request.detach) {
        (true, _) => (Stdio::Inherit, Vec::new()),
        (false, true) => (nowhere()?, Vec::new()),
        (false, false) => {
            let streams = streams::open(owner, request.interactive)?;
            (Stdio::Descriptors(streams.inner), streams.relays)
        }
    };
    let told = Told::new(containers, record, &request.command);
    let policy = spec.linux.as_ref().and_then(|linux| linux.seccomp.as_ref());
    let keep_groups = keep_groups::are_kept(record);
    let options = ExecOptions { stdio, keep_groups, ..ExecOptions::default() };
    let groups = running.groups.clone();
    let killed = Stats::oom_kills(&groups);
    let mut running = match runtime::exec(&init, &running.groups, &process, policy, options) {
        // The same again, from a copy of this program that the container cannot overwrite.
        Err(runtime::Error::Unsealed) => {
            return Err(runtime::seal().err().unwrap_or(runtime::Error::Unsealed).into());
        }
        running => running.map_err(|error| or_ended(error, &init, record))?,
    };
    running.warnings().iter().for_each(|warning| warn(&warning.to_string()));
    told.tell("exec_start", None);
    let console = running.take_console();
    let Some(signals) = signals else { return Ok(0) };
    let status = attach::attach(&mut running, &signals, console, relays, request.interactive)?;
    told.tell("exec_die", Some(status.code()));
    let oom_killed = Stats::oom_kills(&groups) > killed;
    if let Some(ending) = Ending::of(status, oom_killed) {
        warn(&ending.to_string());
    }
    Ok(status.code())
}

/// Why a program could not be started in a container: if that has ended meanwhile, what the kernel says of it makes no sense
/// to anybody.
pub(super) fn or_ended(error: runtime::Error, init: &Init, record: &Record) -> Error {
    // While its processes end, none can be added, and the first is the last to have ended.
    const LAST_MOMENT: Duration = Duration::from_secs(2);
    match error {
        runtime::Error::NotFound { .. }
        | runtime::Error::NotExecutable { .. }
        | runtime::Error::Unsealed => Error::Runtime(error),
        _ if init.wait(LAST_MOMENT) => Error::NotRunning(record.name.clone()),
        error => Error::Runtime(error),
    }
}

/// What is told of one program.
struct Told<'a> {
    containers: &'a Containers,
    record: &'a Record,
    command: String,
    id: String,
}

impl<'a> Told<'a> {
    fn new(containers: &'a Containers, record: &'a Record, command: &[String]) -> Self {
        let (id, command) = (new_id().unwrap_or_default(), command.join(" "));
        let told = Self { containers, record, command, id };
        told.tell("exec_create", None);
        told
    }

    fn tell(&self, action: &str, code: Option<u8>) {
        let code = code.map(|code| code.to_string());
        let mut more = vec![("execID", self.id.as_str())];
        more.extend(code.as_deref().map(|code| ("exitCode", code)));
        match action {
            "exec_die" => self.containers.tell(self.record, action, &more),
            _ => self.containers.tell(self.record, &format!("{action}: {}", self.command), &more),
        }
    }
}

pub(super) fn running(containers: &Containers, record: &Record) -> Result<Running, Error> {
    match containers.status(record) {
        Status::Running(running) => Ok(running),
        Status::Paused(_) => Err(Error::Paused(record.name.clone())),
        _ => Err(Error::NotRunning(record.name.clone())),
    }
}

/// Streams that lead nowhere.
fn nowhere() -> Result<Stdio, Error> {
    let path = PathBuf::from("/dev/null");
    let open = || -> Result<OwnedFd, Error> {
        let file = File::options().read(true).write(true).open(&path);
        file.map(OwnedFd::from).map_err(|source| Error::Io {
            verb: "open",
            path: path.clone(),
            source,
        })
    };
    Ok(Stdio::Descriptors([open()?, open()?, open()?]))
}

/// The container's own process, but for what the user says otherwise.
pub(super) fn process(init: &Init, spec: &Spec, request: &ExecRequest) -> Result<Process, Error> {
    let mut process = spec.process.clone().unwrap_or_default();
    process.args.clone_from(&request.command);
    process.terminal = request.terminal;
    process.console_size = user_window()
        .filter(|_| request.terminal)
        .map(|(height, width)| ConsoleSize { height, width });
    if let Some(user) = &request.user {
        let home = set_user(init, &mut process, user)?;
        set(&mut process.env, "HOME", &home);
    }
    if request.terminal {
        set(&mut process.env, "TERM", "xterm");
    }
    for entry in &request.env {
        match entry.split_once('=') {
            Some((name, value)) => set(&mut process.env, name, value),
            None => {
                if let Some(value) = Environment.value(entry) {
                    set(&mut process.env, entry, &value);
                }
            }
        }
    }
    if let Some(folder) = request.workdir.as_ref().filter(|folder| !folder.is_empty()) {
        process.cwd.clone_from(folder);
    }
    if request.privileged {
        process.capabilities = Some(Capabilities::bounded(CapabilitySet::all()));
    }
    Ok(process)
}

/// Looks the user up in the running container, and says where their home is.
fn set_user(init: &Init, process: &mut Process, user: &str) -> Result<String, Error> {
    let path = PathBuf::from(format!("/proc/{}/root", init.pid()));
    let root = File::open(&path).map_err(|source| Error::Io { verb: "open", path, source })?;
    // It is the container's root, and no other process's, if the process is alive behind that.
    init.kill(0)?;
    let found = UserDatabase::read(root.as_fd())?.resolve(user)?;
    process.user = User {
        uid: found.uid,
        gid: found.gid,
        umask: None,
        additional_gids: found.additional_gids,
    };
    Ok(found.home)
}

fn set(env: &mut Vec<String>, name: &str, value: &str) {
    let named = |entry: &String| entry.split_once('=').is_some_and(|(known, _)| known == name);
    let entry = format!("{name}={value}");
    match env.iter_mut().find(|known| named(known)) {
        Some(known) => *known = entry,
        None => env.push(entry),
    }
}
