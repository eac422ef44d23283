//! `mydocker oci`, or the program called `mydocker-oci`: the runtime alone, on bundles that somebody else has made, with
//! the command line that engines drive (that of runc).

mod bundle;
mod create;
mod events;
mod exec;
mod kill;
mod list;
mod log;
mod ps;
mod spec;
mod update;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::container;
use crate::oci::runtime_spec::VERSION;
use crate::runtime::{self, Container, States, delete_unfinished, rootless};
use log::Log;

/// The name under which the program is the runtime alone.
pub(super) const NAME: &str = "mydocker-oci";
/// Where containers are written down, for root.
const ROOT: &str = "/run/mydocker-oci";

/// Runs containers from bundles, as the OCI runtime specification describes
#[derive(Debug, Parser)]
#[command(name = NAME, bin_name = NAME, disable_help_subcommand = true, disable_version_flag = true)]
#[command(args_override_self = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Args, Debug)]
struct Global {
    /// Folder in which containers are written down [default: /run/mydocker-oci, $XDG_RUNTIME_DIR/mydocker-oci for
    /// ordinary users]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// File to which messages are added, beside standard error
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// How messages are written
    #[arg(long, value_enum, default_value_t = log::Format::Text, value_name = "FORMAT")]
    log_format: log::Format,
    /// Say also what is decided and why
    #[arg(long)]
    debug: bool,
    /// Let systemd make the control groups: `cgroupsPath` is then `slice:prefix:name`
    #[arg(long)]
    systemd_cgroup: bool,
    /// Whether control groups that an ordinary user may not make are left out; found out by itself
    #[arg(long, value_enum, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    rootless: Option<Rootless>,
    /// Show the version
    #[arg(short, long)]
    version: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Rootless {
    Auto,
    False,
    True,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes a container from a bundle; `start` begins its program
    Create(create::CreateArgs),
    /// Removes a container that has ended
    Delete(DeleteArgs),
    /// Shows how much a container uses, and when it runs out of memory
    Events(events::EventsArgs),
    /// Runs a further program in a container
    Exec(Box<exec::ExecArgs>),
    /// Shows what this runtime can do
    Features,
    /// Sends a signal to a container's first process
    Kill(kill::KillArgs),
    /// Lists the containers
    List(list::ListArgs),
    /// Holds all processes of a container
    Pause(IdArgs),
    /// Lists the processes of a container
    Ps(ps::PsArgs),
    /// Lets the processes of a container go on
    Resume(IdArgs),
    /// Makes a container, runs its program, and removes the container
    Run(create::RunArgs),
    /// Writes a default `config.json`
    Spec(spec::SpecArgs),
    /// Begins the program of a container that has been made
    Start(IdArgs),
    /// Shows the state of a container
    State(IdArgs),
    /// Changes the limits of a container
    Update(Box<update::UpdateArgs>),
}

#[derive(Args, Debug)]
struct IdArgs {
    /// The container's name
    #[arg(value_name = "CONTAINER")]
    id: String,
}

#[derive(Args, Debug)]
struct DeleteArgs {
    /// Whatever it does, also if it is not there
    #[arg(short, long)]
    force: bool,
    /// The container's name
    #[arg(value_name = "CONTAINER")]
    id: String,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
enum OciError {
    #[error("{action} `{path}`")]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("parse `{path}`")]
    Parse {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Attach(#[from] container::Error),
    #[error(transparent)]
    Rootless(#[from] rootless::Error),
    #[error(transparent)]
    Runtime(#[from] runtime::Error),
}

impl OciError {
    fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { action, path, source }
    }
}

/// What a command returns: the exit code, or what went wrong.
type Outcome = Result<u8, OciError>;

/// Whether the program was called as the runtime alone: by its name, or by its first word. What remains are the runtime's
/// own words.
pub(super) fn is_meant(args: &[OsString]) -> Option<Vec<OsString>> {
    let name = args.first().map(Path::new).and_then(Path::file_name);
    if name.is_some_and(|name| name == NAME) {
        return Some(args.to_vec());
    }
    let rest = args.get(1..).filter(|rest| rest.first().is_some_and(|word| word == "oci"));
    rest.map(<[OsString]>::to_vec)
}

/// Runs the runtime with `args`, the first of which is its own name.
pub(super) fn main(args: Vec<OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return super::failure::usage(&error),
    };
    if cli.global.version {
        let version = env!("CARGO_PKG_VERSION");
        super::output::data(&format!("{NAME} version {version}\nspec: {VERSION}\n"));
        return ExitCode::SUCCESS;
    }
    let Some(command) = cli.command else {
        super::output::message(&format!("mydocker: a command is missing\nhint: {NAME} --help\n"));
        return ExitCode::FAILURE;
    };
    super::logger::init(cli.global.debug);
    ::log::debug!("--rootless {:?}: it is found out", cli.global.rootless);
    let log = match Log::new(cli.global.log.as_deref(), cli.global.log_format) {
        Ok(log) => log,
        Err(error) => {
            super::output::message(&format!("mydocker: {}\n", super::failure::chain(&error)));
            return ExitCode::FAILURE;
        }
    };
    let code = run(&cli.global, &log, &command).unwrap_or_else(|error| {
        log.error(&error);
        failed(&command, &error)
    });
    ExitCode::from(code)
}

/// The exit code of a command that failed: of `run`, docker's; of `exec`, which passes on the program's own, the last one
/// there is; else 1.
fn failed(command: &Command, error: &OciError) -> u8 {
    match (command, error) {
        (Command::Run(_), OciError::Runtime(error)) => error.exit_code(),
        (Command::Run(_), _) => 125,
        (Command::Exec(_), _) => u8::MAX,
        _ => 1,
    }
}

fn run(global: &Global, log: &Log, command: &Command) -> Outcome {
    let states = global.states();
    let open = |args: &IdArgs| Container::open_locked(&states, &args.id);
    match command {
        Command::Create(args) => return create::create(global, log, &states, args),
        Command::Delete(args) => delete(log, &states, args)?,
        Command::Events(args) => return events::run(&states, args),
        Command::Exec(args) => return exec::run(log, &states, args),
        Command::Features => super::output::json_document(&runtime::features()),
        Command::Kill(args) => kill::run(&states, args)?,
        Command::List(args) => list::run(&states, args)?,
        Command::Pause(args) => open(args)?.pause()?,
        Command::Ps(args) => return ps::run(&states, args),
        Command::Resume(args) => open(args)?.resume()?,
        Command::Run(args) => return create::run(global, log, &states, args),
        Command::Spec(args) => spec::run(args)?,
        Command::Start(args) => start(log, &open(args)?)?,
        Command::State(args) => list::state(&states, &args.id)?,
        Command::Update(args) => update::run(&states, args)?,
    }
    Ok(0)
}

/// Starting what has no `process` is an error (runtime-spec, `runtime.md#start`), and is reported as one; how, the specification
/// leaves open (`runtime.md#errors`). The exit code says that the command did its work: the container has begun and ended, as
/// with crun, and runtime-tools asks for that.
fn start(log: &Log, container: &Container) -> Result<(), OciError> {
    match container.start() {
        Err(error @ runtime::Error::NoProcess { .. }) => {
            log.error(&error.into());
            Ok(())
        }
        started => Ok(started?),
    }
}

fn delete(log: &Log, states: &States, args: &DeleteArgs) -> Result<(), OciError> {
    let removed = match Container::open_locked(states, &args.id) {
        Ok(container) => container.delete(args.force),
        Err(runtime::Error::NoContainer { .. }) => {
            delete_unfinished(states, &args.id).map(|()| Vec::new())
        }
        Err(error) => Err(error),
    };
    match removed {
        // That it is gone is all that was asked.
        Err(runtime::Error::NoContainer { .. }) if args.force => Ok(()),
        removed => {
            for error in removed? {
                log.warning(&super::failure::chain(&error));
            }
            Ok(())
        }
    }
}

impl Global {
    /// Where containers are written down.
    fn states(&self) -> States {
        let usual = || {
            let folder = std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty());
            match folder.filter(|_| rootless::is_ordinary()) {
                Some(folder) => PathBuf::from(folder).join(NAME),
                None => PathBuf::from(ROOT),
            }
        };
        States::new(self.root.clone().unwrap_or_else(usual))
    }
}
