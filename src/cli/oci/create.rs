//! `create` and `run`: a bundle becomes a container.

use std::path::PathBuf;

use clap::Args;

use super::log::Log;
use super::{Global, OciError, Outcome, bundle};
use crate::container::{self, Signals};
use crate::oci::runtime_spec::Spec;
use crate::runtime::{self, Bundle, Container, Options, Process, Root, States, rootless};

#[derive(Args, Debug)]
struct Common {
    /// The bundle's directory
    #[arg(short, long, default_value = ".", value_name = "DIR")]
    bundle: PathBuf,
    /// Socket that is sent the terminal's outer end
    #[arg(long, value_name = "FILE")]
    console_socket: Option<PathBuf>,
    /// File to write the first process's number to
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Enter the root by chroot(2), where pivot_root(2) cannot work: on an initial ramdisk
    #[arg(long)]
    no_pivot: bool,
    /// Keep the caller's session keyring
    #[arg(long)]
    no_new_keyring: bool,
    /// Descriptors from 3 on that the program inherits
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    preserve_fds: u32,
    /// The container's name
    #[arg(value_name = "CONTAINER")]
    id: String,
}

#[derive(Args, Debug)]
pub(super) struct CreateArgs {
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
pub(super) struct RunArgs {
    #[command(flatten)]
    common: Common,
    /// Return as soon as the program has begun
    #[arg(short, long)]
    detach: bool,
    /// Keep the container when its program has ended
    #[arg(long)]
    keep: bool,
    /// Accepted, as other runtimes have it: no process is adopted here
    #[arg(long)]
    no_subreaper: bool,
    /// An image's tree to lay the container's own layer over, in place of the spec's root
    #[arg(long, requires = "layer", value_name = "DIR")]
    lower: Option<PathBuf>,
    /// A directory with `upper` and `work` for what the container writes
    #[arg(long, requires = "lower", value_name = "DIR")]
    layer: Option<PathBuf>,
    /// The layer is thrown away with the container, and need not be flushed to disk
    #[arg(long)]
    volatile: bool,
    /// Shows the owners of bind mounts as they are on disk
    #[arg(long)]
    idmap: bool,
}

/// Reads the bundle, and makes sure that the container cannot overwrite this program.
fn prepare(log: &Log, args: &Common, detach: bool) -> Result<(PathBuf, Spec, u32), OciError> {
    let (directory, mut spec) = bundle::open(&args.bundle)?;
    let preserve_fds = bundle::preserved(args.preserve_fds, spec.process.as_mut())?;
    let terminal = spec.process.as_ref().is_some_and(|process| process.terminal);
    bundle::check_terminal(terminal, detach, args.console_socket.as_deref())?;
    runtime::seal_for(&spec)?;
    for warning in runtime::pass_over_labels(&mut spec) {
        log.warning(&warning.to_string());
    }
    if !nix::unistd::geteuid().is_root() {
        rootless::enter_as_self()?;
    }
    Ok((directory, spec, preserve_fds))
}

fn options(global: &Global, args: &Common, preserve_fds: u32) -> Options {
    Options {
        every_controller: true,
        mounts_in_order: true,
        no_new_keyring: args.no_new_keyring,
        no_pivot: args.no_pivot,
        preserve_fds,
        systemd_cgroup: global.systemd_cgroup,
        ..Options::default()
    }
}

/// Makes a container that waits for `start`.
pub(super) fn create(global: &Global, log: &Log, states: &States, args: &CreateArgs) -> Outcome {
    let args = &args.common;
    let (directory, spec, preserve_fds) = prepare(log, args, true)?;
    let bundle = Bundle { id: args.id.clone(), directory, root: Root::Directory };
    let options = options(global, args, preserve_fds);
    let made = Container::create(states, &bundle, &spec, options)?;
    leave(log, args, made)
}

/// Hands a container on to whoever asked for it, or removes it again.
fn leave(log: &Log, args: &Common, (container, mut process): (Container, Process)) -> Outcome {
    warn(log, &process);
    let console = process.take_console();
    let socket = args.console_socket.as_deref();
    let handed = bundle::hand_on(&process, console.as_ref(), socket, args.pid_file.as_deref());
    if let Err(error) = handed {
        // Why it could not be handed on is what counts.
        let _ = container.delete(true);
        return Err(error);
    }
    Ok(0)
}

fn warn(log: &Log, process: &Process) {
    for warning in process.warnings() {
        log.warning(&warning.to_string());
    }
}

/// Makes a container, and runs its program.
pub(super) fn run(global: &Global, log: &Log, states: &States, args: &RunArgs) -> Outcome {
    let common = &args.common;
    let (directory, spec, preserve_fds) = prepare(log, common, args.detach)?;
    let root = match (&args.lower, &args.layer) {
        (Some(lower), Some(layer)) => {
            Root::Overlay { lower: lower.clone(), layer: layer.clone(), volatile: args.volatile }
        }
        _ => Root::Directory,
    };
    let bundle = Bundle { id: common.id.clone(), directory, root };
    let options = Options { idmap_binds: args.idmap, ..options(global, common, preserve_fds) };
    let signals = if args.detach { None } else { Some(Signals::new()?) };
    let made = Container::run(states, &bundle, &spec, options)?;
    let Some(signals) = signals else { return leave(log, common, made) };
    let (container, mut process) = made;
    warn(log, &process);
    // From here on, others may do with it what they like.
    drop(container);
    bundle::hand_on(&process, None, None, common.pid_file.as_deref())?;
    let console = process.take_console();
    let status = container::attach(&mut process, &signals, console, Vec::new(), true)?;
    if !args.keep {
        match Container::open_locked(states, &common.id) {
            // Somebody else has removed it.
            Err(runtime::Error::NoContainer { .. }) => {}
            container => {
                for error in container?.delete(true)? {
                    log.warning(&crate::cli::failure::chain(&error));
                }
            }
        }
    }
    Ok(status.code())
}
