//! `exec`: a further program in a container.

use std::path::PathBuf;

use clap::Args;

use super::log::Log;
use super::{OciError, Outcome, bundle};
use crate::container::{self, Signals};
use crate::oci::capability::Capability;
use crate::oci::runtime_spec::{Process, Spec};
use crate::runtime::{self, Container, ExecOptions, Process as Running, States};

#[derive(Args, Debug)]
pub(super) struct ExecArgs {
    /// Socket that is sent the terminal's outer end
    #[arg(long, value_name = "FILE")]
    console_socket: Option<PathBuf>,
    /// Directory to start in
    #[arg(long, value_name = "DIR")]
    cwd: Option<String>,
    /// Variables, beside those of the container's own program
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Give the program a terminal
    #[arg(short, long)]
    tty: bool,
    /// Who runs it: numbers
    #[arg(short, long, value_name = "UID[:GID]")]
    user: Option<String>,
    /// Further groups: numbers
    #[arg(short = 'g', long, value_name = "GID")]
    additional_gids: Vec<u32>,
    /// A process of the specification as JSON, in place of all these
    #[arg(short, long, value_name = "FILE")]
    process: Option<PathBuf>,
    /// Return as soon as the program has begun
    #[arg(short, long)]
    detach: bool,
    /// File to write the process's number to
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// SELinux label
    #[arg(long, value_name = "LABEL")]
    process_label: Option<String>,
    /// AppArmor profile
    #[arg(long, value_name = "PROFILE")]
    apparmor: Option<String>,
    /// No program may gain privileges by being executed
    #[arg(long)]
    no_new_privs: bool,
    /// Capabilities, beside those of the container's own program
    #[arg(short, long, value_name = "CAPABILITY")]
    cap: Vec<String>,
    /// Descriptors from 3 on that the program inherits
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    preserve_fds: u32,
    /// Group below the container's to join: of version 1, those of the controllers that are named
    #[arg(long, value_name = "[CONTROLLER,…:]PATH")]
    cgroup: Vec<String>,
    /// Also if the container is paused: the program begins once it is resumed
    #[arg(long)]
    ignore_paused: bool,
    /// Accepted, as other runtimes have it: no process is adopted here
    #[arg(long)]
    no_subreaper: bool,
    /// The container's name
    #[arg(value_name = "CONTAINER")]
    id: String,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    args: Vec<String>,
}

pub(super) fn run(log: &Log, states: &States, args: &ExecArgs) -> Outcome {
    let container = Container::open(states, &args.id)?;
    let spec = container.spec()?;
    let mut process = match &args.process {
        Some(path) => bundle::read(path)?,
        None => process(args, &spec)?,
    };
    let preserve_fds = bundle::preserved(args.preserve_fds, Some(&mut process))?;
    bundle::check_terminal(process.terminal, args.detach, args.console_socket.as_deref())?;
    let signals = if args.detach { None } else { Some(Signals::new()?) };
    let groups = args.cgroup.iter().map(|text| group(text)).collect();
    let options = ExecOptions { preserve_fds, groups, ..ExecOptions::default() };
    let mut running = match container.exec(&process, &spec, options, args.ignore_paused) {
        // The same again, from a copy of this program that the container cannot overwrite.
        Err(runtime::Error::Unsealed) => {
            return Err(runtime::seal().err().unwrap_or(runtime::Error::Unsealed).into());
        }
        running => running?,
    };
    for warning in running.warnings() {
        log.warning(&warning.to_string());
    }
    let console = running.take_console();
    let socket = args.console_socket.as_deref();
    let handed = bundle::hand_on(&running, console.as_ref(), socket, args.pid_file.as_deref());
    if let Err(error) = handed {
        return Err(end(running, error));
    }
    let Some(signals) = signals else { return Ok(0) };
    Ok(container::attach(&mut running, &signals, console, Vec::new(), true)?.code())
}

/// What could not be handed on is not left running.
fn end(mut process: Running, error: OciError) -> OciError {
    // It may have ended by itself.
    let _ = process.kill(libc::SIGKILL);
    let _ = process.wait();
    error
}

/// The container's own process, but for what the options say.
fn process(args: &ExecArgs, spec: &Spec) -> Result<Process, OciError> {
    if args.args.is_empty() {
        return Err(OciError::Usage("exec needs a program, or --process".to_owned()));
    }
    let bare = || Process { cwd: "/".to_owned(), ..Process::default() };
    let mut process = spec.process.clone().unwrap_or_else(bare);
    process.args.clone_from(&args.args);
    process.terminal = args.tty;
    process.console_size = None;
    process.env.extend(args.env.iter().cloned());
    if let Some(cwd) = &args.cwd {
        process.cwd.clone_from(cwd);
    }
    if let Some(user) = &args.user {
        let number = |text: &str| {
            let error = || OciError::Usage(format!("--user: `{text}` is no number"));
            text.parse().map_err(|_| error())
        };
        let (uid, gid) = user.split_once(':').unwrap_or((user, "0"));
        (process.user.uid, process.user.gid) = (number(uid)?, number(gid)?);
    }
    process.user.additional_gids.extend(&args.additional_gids);
    process.no_new_privileges |= args.no_new_privs;
    let set = |field: &mut Option<String>, given: &Option<String>| {
        if given.is_some() {
            field.clone_from(given);
        }
    };
    set(&mut process.apparmor_profile, &args.apparmor);
    set(&mut process.selinux_label, &args.process_label);
    let sets = process.capabilities.get_or_insert_default();
    for name in &args.cap {
        let error = |_| OciError::Usage(format!("--cap: there is no capability `{name}`"));
        let capability: Capability = name.to_uppercase().parse().map_err(error)?;
        for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
            set.insert(capability);
        }
    }
    Ok(process)
}

/// `cpu,memory:/sub` or `/sub`.
fn group(text: &str) -> (Vec<String>, PathBuf) {
    match text.split_once(':') {
        Some((names, path)) => (names.split(',').map(str::to_owned).collect(), path.into()),
        None => (Vec::new(), text.into()),
    }
}
