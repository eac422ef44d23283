//! The command line: the only place that prints.
//!
//! One verb a file. What a verb does is done by [`crate::image`] and [`crate::container`]; here are its options, its
//! output and its exit code. Standard output is data; everything else goes to standard error.

mod adjust_options;
mod attach;
mod attach_options;
mod boot;
mod bridge_options;
mod bundle;
mod commit;
mod container;
mod container_filter;
mod container_options;
mod copy;
mod cp;
mod create;
mod device_options;
mod df;
mod diff;
mod disable;
mod enable;
mod events;
mod exec;
mod export;
mod failure;
mod health_options;
mod healthcheck;
mod history;
mod hold;
mod image;
mod image_source;
mod images;
mod import;
mod info;
mod init;
mod inspect;
mod inspect_container;
mod inspect_mounts;
mod inventory;
mod kill;
mod load;
mod logger;
mod login;
mod logout;
mod logs;
mod look;
mod map_ids;
mod moment;
mod monitor;
mod mount_options;
mod namespace_options;
mod oci;
mod output;
mod pause;
mod port;
mod progress;
mod prompt;
mod prune;
mod ps;
mod pull;
mod push;
mod remote;
mod rename;
mod repair;
mod restart;
mod rm;
mod rmi;
mod run;
mod save;
mod search;
mod security_options;
mod start;
mod stats;
mod stop;
mod stop_options;
mod system;
mod tag;
mod tags;
mod template;
mod top;
mod tuning_options;
mod update;
mod variable_options;
mod verify;
mod version;
mod volume;
mod volume_filter;
mod wait;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::container::{Containers, Journal, joined_by, neighbours};
use crate::registry;
use crate::runtime::{self, rootless};
use crate::store::{Durability, Store};
use failure::{Failure, While as _};

/// The store of root, and of an ordinary user below the user's data folder.
const SYSTEM_ROOT: &str = "/var/lib/mydocker";
/// What a reboot forgets, for root.
const SYSTEM_RUN: &str = "/run/mydocker";

/// Pulls container images and runs them: one program, no daemon, no Docker
#[derive(Debug, Parser)]
#[command(name = "mydocker", version, disable_help_subcommand = true, args_override_self = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// Options that every verb has.
#[derive(Debug, clap::Args)]
struct Global {
    /// Folder of the store [default: /var/lib/mydocker, $XDG_DATA_HOME/mydocker for ordinary users]
    #[arg(long, global = true, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Say on standard error what is decided and why
    #[arg(long, global = true)]
    debug: bool,
    /// Return before what was written is safe from a power cut
    #[arg(long, global = true)]
    no_sync: bool,
    #[arg(skip)]
    run: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Pull(pull::Args),
    Push(push::Args),
    Copy(copy::Args),
    Login(login::Args),
    Logout(logout::Args),
    Search(search::Args),
    Tags(tags::Args),
    Import(import::Args),
    Run(Box<run::Args>),
    Create(Box<create::Args>),
    Start(start::Args),
    Stop(stop::Args),
    Restart(restart::Args),
    Kill(kill::Args),
    Wait(wait::Args),
    Logs(logs::Args),
    Attach(attach::Args),
    Exec(exec::Args),
    Events(events::Args),
    Healthcheck(healthcheck::Args),
    Cp(cp::Args),
    Top(top::Args),
    Stats(stats::Args),
    Update(update::Args),
    Pause(pause::Args),
    Unpause(pause::UnpauseArgs),
    Rename(rename::Args),
    Port(port::Args),
    Container(container::Args),
    Image(image::Args),
    System(system::Args),
    Images(images::Args),
    Inspect(inspect::Args),
    History(history::Args),
    Save(save::Args),
    Load(load::Args),
    Rmi(rmi::Args),
    Tag(tag::Args),
    Ps(ps::Args),
    Rm(rm::Args),
    Diff(diff::Args),
    Export(export::Args),
    Commit(commit::Args),
    Df(df::Args),
    Prune(prune::Args),
    Bundle(bundle::Args),
    Inventory(inventory::Args),
    Verify(verify::Args),
    Repair(repair::Args),
    Volume(volume::Args),
    Enable(enable::Args),
    Disable(disable::Args),
    Version(version::Args),
    Info(info::Args),
    #[command(skip)]
    PruneContainers(container::PruneArgs),
    #[command(hide = true)]
    Boot(boot::Args),
    #[command(name = rootless::MAP_IDS_VERB, hide = true)]
    MapIds(map_ids::Args),
    #[command(name = crate::container::HOLD_VERB, hide = true)]
    Hold(hold::Args),
}

impl Verb {
    /// Starts the program again from a copy that cannot be written to, if the verb may run a container whose root owns
    /// this program's file; it must happen before anything that starting again would undo.
    fn seal(&self) -> Result<(), Failure> {
        match self {
            Self::Run(args) if args.needs_seal() || !nix::unistd::geteuid().is_root() => {
                runtime::seal().doing("run")
            }
            _ => Ok(()),
        }
    }

    /// The containers, by name, whose namespaces a container that it starts is going to join.
    fn joined(&self, containers: &Containers) -> Vec<String> {
        let by =
            |names: &[String]| names.iter().flat_map(|name| joined_by(containers, name)).collect();
        match self {
            Self::Run(args) => args.joined(),
            Self::Start(args) => by(args.names()),
            Self::Restart(args) => by(args.names()),
            _ => Vec::new(),
        }
    }

    /// Whether it makes, reads or removes files with owners of their own, and so needs to be root of some kind.
    fn needs_ids(&self) -> bool {
        matches!(
            self,
            Self::Pull(_)
                | Self::Import(_)
                | Self::Load(_)
                | Self::Run(_)
                | Self::Create(_)
                | Self::Start(_)
                | Self::Restart(_)
                | Self::Boot(_)
                | Self::PruneContainers(_)
                | Self::Rmi(_)
                | Self::Rm(_)
                | Self::Diff(_)
                | Self::Export(_)
                | Self::Commit(_)
                | Self::Df(_)
                | Self::Verify(_)
                | Self::Repair(_)
                | Self::Image(_)
                | Self::Prune(_)
                | Self::System(_)
                | Self::Tag(_)
                | Self::Volume(_)
        )
    }
}

/// Runs the program with `args`, the first of which is its own name, and says with which code it exits.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    if let Some(args) = oci::is_meant(&args) {
        return oci::main(args);
    }
    if let Some(args) = monitor::is_meant(&args) {
        return monitor::main(args);
    }
    if let Some(program) = init::is_meant(&args) {
        return init::main(program);
    }
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return failure::usage(&error),
    };
    logger::init(cli.global.debug);
    let global = cli.global.settle();
    let verb = match cli.verb {
        Verb::Container(args) => args.plain(),
        verb => verb,
    };
    if let Err(failure) = verb.seal() {
        return failure.report();
    }
    registry::caller();
    if !nix::unistd::geteuid().is_root()
        && verb.needs_ids()
        && let Err(failure) = enter_user_namespace(&global, |containers| verb.joined(containers))
    {
        return failure.report();
    }
    match run_verb(&global, verb) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => failure.report(),
    }
}

fn run_verb(global: &Global, verb: Verb) -> Outcome {
    match verb {
        Verb::Pull(args) => pull::run(global, args),
        Verb::Copy(args) => copy::run(&args),
        Verb::Push(args) => push::run(global, &args),
        Verb::Login(args) => login::run(args),
        Verb::Logout(args) => logout::run(&args),
        Verb::Search(args) => search::run(&args),
        Verb::Tags(args) => tags::run(&args),
        Verb::Import(args) => import::run(global, args),
        Verb::Run(args) => run::run(global, *args),
        Verb::Create(args) => create::run(global, *args),
        Verb::Start(args) => start::run(global, &args),
        Verb::Stop(args) => stop::run(global, &args),
        Verb::Restart(args) => restart::run(global, &args),
        Verb::Kill(args) => kill::run(global, &args),
        Verb::Wait(args) => wait::run(global, &args),
        Verb::Logs(args) => logs::run(global, &args),
        Verb::Attach(args) => attach::run(global, &args),
        Verb::Exec(args) => exec::run(global, args),
        Verb::Events(args) => events::run(global, &args),
        Verb::Healthcheck(args) => healthcheck::run(global, &args),
        Verb::Cp(args) => cp::run(global, &args),
        Verb::Top(args) => top::run(global, &args),
        Verb::Stats(args) => stats::run(global, &args),
        Verb::Update(args) => update::run(global, &args),
        Verb::Container(args) => run_verb(global, args.plain()),
        Verb::PruneContainers(args) => container::prune(global, &args),
        Verb::Image(args) => image::run(global, args),
        Verb::System(args) => system::run(global, &args),
        Verb::Pause(args) => pause::run(global, &args),
        Verb::Unpause(args) => pause::unpause(global, &args),
        Verb::Rename(args) => rename::run(global, &args),
        Verb::Port(args) => port::run(global, &args),
        Verb::Images(args) => images::run(global, &args),
        Verb::Inspect(args) => inspect::run(global, &args),
        Verb::History(args) => history::run(global, &args),
        Verb::Save(args) => save::run(global, args),
        Verb::Load(args) => load::run(global, args),
        Verb::Rmi(args) => rmi::run(global, &args),
        Verb::Tag(args) => tag::run(global, &args),
        Verb::Ps(args) => ps::run(global, &args),
        Verb::Rm(args) => rm::run(global, &args),
        Verb::Diff(args) => diff::run(global, &args),
        Verb::Export(args) => export::run(global, args),
        Verb::Commit(args) => commit::run(global, args),
        Verb::Df(args) => df::run(global, &args),
        Verb::Prune(args) => prune::run(global, &args),
        Verb::Bundle(args) => bundle::run(global, args),
        Verb::Inventory(args) => inventory::run(global, args),
        Verb::Verify(args) => verify::run(global, &args),
        Verb::Repair(args) => repair::run(global, &args),
        Verb::Volume(args) => volume::run(global, &args),
        Verb::Enable(args) => enable::run(global, &args),
        Verb::Disable(args) => disable::run(global, &args),
        Verb::Boot(args) => boot::run(global, &args),
        Verb::Version(args) => version::run(&args),
        Verb::Info(args) => info::run(global, &args),
        Verb::MapIds(args) => map_ids::run(&args),
        Verb::Hold(args) => hold::run(global, &args),
    }
}

/// Becomes root of a user namespace, if it may be in that of a container that runs, then first of those that `joined` names.
fn enter_user_namespace(
    global: &Global,
    joined: impl Fn(&Containers) -> Vec<String>,
) -> Result<(), Failure> {
    // Where nothing was ever started, nothing is made to look there.
    let containers = global.run().is_dir().then(|| global.containers().ok()).flatten();
    let joined = containers.as_ref().map(joined).unwrap_or_default();
    let others = containers.iter().flat_map(|containers| neighbours(containers, &joined));
    if rootless::enter(others).doing("start")? == rootless::Ids::Single {
        output::warning(
            "no ids for this user in /etc/subuid and /etc/subgid, or no newuidmap: \
             images with files of other users than root cannot be unpacked",
        );
    }
    Ok(())
}

impl Global {
    /// The same with the folders decided, which must happen before this process becomes root in a user namespace.
    fn settle(self) -> Self {
        let (root, run) = (Some(self.root()), Some(self.run()));
        Self { root, run, ..self }
    }

    /// Where the store is: `--root`, `MYDOCKER_ROOT`, or the usual place for this user.
    fn root(&self) -> PathBuf {
        let given =
            self.root.clone().or_else(|| std::env::var_os("MYDOCKER_ROOT").map(PathBuf::from));
        given.unwrap_or_else(|| {
            if nix::unistd::geteuid().is_root() {
                return PathBuf::from(SYSTEM_ROOT);
            }
            let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
            let data = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
            data.unwrap_or_else(|| home().join(".local/share")).join("mydocker")
        })
    }

    /// Where running containers are written down: `MYDOCKER_RUN`, or beside the store unless it is the usual one.
    fn run(&self) -> PathBuf {
        let given =
            self.run.clone().or_else(|| std::env::var_os("MYDOCKER_RUN").map(PathBuf::from));
        if let Some(given) = given {
            return given;
        }
        let root = self.root();
        if root == *SYSTEM_ROOT { PathBuf::from(SYSTEM_RUN) } else { root.join("run") }
    }

    fn store(&self) -> Result<Store, crate::store::Error> {
        let durability = if self.no_sync { Durability::Unflushed } else { Durability::Flushed };
        Store::open(&self.root(), durability)
    }

    /// Writes down what has just happened to an image.
    fn tell_image(&self, action: &str, id: &str, name: &str) {
        let name = if name.is_empty() { id } else { name };
        Journal::new(&self.root()).tell("image", action, id, &[("name", name)]);
    }

    /// Writes down what has just been done with a container, if it is still there.
    fn tell_container(&self, name: &str, action: &str, more: &[(&str, &str)]) {
        if let Ok(containers) = self.containers()
            && let Ok(record) = containers.find(name)
        {
            containers.tell(&record, action, more);
        }
    }

    fn containers(&self) -> Result<Containers, crate::container::Error> {
        Containers::open(&self.root(), &self.run())
    }
}

/// Does something with each of the objects named, prints the names of those with which it went well, and says the exit
/// code: one that fails does not keep the others.
fn each(names: &[String], mut one: impl FnMut(&str) -> Result<(), Failure>) -> Outcome {
    let mut code = 0;
    for name in names {
        match one(name) {
            Ok(()) => output::data(&format!("{name}\n")),
            Err(failure) => {
                failure.report();
                code |= u8::from(!failure.is_tolerated());
            }
        }
    }
    Ok(code)
}

/// What a verb returns: the exit code, or what went wrong.
type Outcome = Result<u8, Failure>;
