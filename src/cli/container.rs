//! `mydocker container`: docker's other spelling of verbs about containers, and what is done to all of them.

use std::io::IsTerminal as _;

use super::Verb as Plain;
use super::container_filter::Filters;
use super::failure::{Failure, While as _, chain};
use super::{
    Global, Outcome, attach, commit, cp, create, diff, exec, export, inspect, kill, logs, output,
    pause, port, ps, rename, restart, rm, run, start, stats, stop, top, update, wait,
};
use crate::container::{self, Containers, Record, layer_size};

/// Manage containers: the verbs that there are without `container` too, and `prune`
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Attach(attach::Args),
    Commit(commit::Args),
    Cp(cp::Args),
    Create(Box<create::Args>),
    Diff(diff::Args),
    Exec(exec::Args),
    Export(export::Args),
    Inspect(inspect::Args),
    Kill(kill::Args),
    Logs(logs::Args),
    #[command(visible_aliases = ["list", "ps"])]
    Ls(ps::Args),
    Pause(pause::Args),
    Port(port::Args),
    Prune(PruneArgs),
    Rename(rename::Args),
    Restart(restart::Args),
    #[command(visible_alias = "remove")]
    Rm(rm::Args),
    Run(Box<run::Args>),
    Start(start::Args),
    Stats(stats::Args),
    Stop(stop::Args),
    Top(top::Args),
    Unpause(pause::UnpauseArgs),
    Update(update::Args),
    Wait(wait::Args),
}

impl Args {
    /// The same without `container`, where there is such a verb.
    pub(super) fn plain(self) -> Plain {
        match self.verb {
            Verb::Attach(args) => Plain::Attach(args),
            Verb::Commit(args) => Plain::Commit(args),
            Verb::Cp(args) => Plain::Cp(args),
            Verb::Create(args) => Plain::Create(args),
            Verb::Diff(args) => Plain::Diff(args),
            Verb::Exec(args) => Plain::Exec(args),
            Verb::Export(args) => Plain::Export(args),
            Verb::Inspect(args) => Plain::Inspect(args.of_containers()),
            Verb::Kill(args) => Plain::Kill(args),
            Verb::Logs(args) => Plain::Logs(args),
            Verb::Ls(args) => Plain::Ps(args),
            Verb::Pause(args) => Plain::Pause(args),
            Verb::Port(args) => Plain::Port(args),
            Verb::Prune(args) => Plain::PruneContainers(args),
            Verb::Rename(args) => Plain::Rename(args),
            Verb::Restart(args) => Plain::Restart(args),
            Verb::Rm(args) => Plain::Rm(args),
            Verb::Run(args) => Plain::Run(args),
            Verb::Start(args) => Plain::Start(args),
            Verb::Stats(args) => Plain::Stats(args),
            Verb::Stop(args) => Plain::Stop(args),
            Verb::Top(args) => Plain::Top(args),
            Verb::Unpause(args) => Plain::Unpause(args),
            Verb::Update(args) => Plain::Update(args),
            Verb::Wait(args) => Plain::Wait(args),
        }
    }
}

/// Remove all containers that do not run
#[derive(Debug, clap::Args)]
pub(super) struct PruneArgs {
    /// Only containers that are so: until=, label=, name=, status=, …
    #[arg(long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

pub(super) fn prune(global: &Global, args: &PruneArgs) -> Outcome {
    let what = "container prune";
    if !args.force && !confirmed(what)? {
        return Ok(0);
    }
    let containers = global.containers().doing(what)?;
    let (freed, code) = prune_containers(&containers, &args.filter).doing(what)?;
    output::message(&format!("Total reclaimed space: {}\n", output::size(freed)));
    Ok(code)
}

/// Removes the containers that do not run and meet the filters, names them, and says how many bytes are free now and with
/// which code to exit.
pub(super) fn prune_containers(
    containers: &Containers,
    filters: &[String],
) -> Result<(u64, u8), container::Error> {
    let (records, _) = containers.list()?;
    let filters = Filters::parse(filters, &records)?;
    let (mut freed, mut code) = (0_u64, 0);
    for record in &records {
        let status = containers.status(record);
        if status.running().is_some() || !filters.accept(containers, record, &status) {
            continue;
        }
        match remove(containers, record) {
            Ok(size) => {
                freed = freed.saturating_add(size);
                output::data(&format!("{}\n", record.id));
            }
            // Started this instant, or removed by somebody else.
            Err(container::Error::Running(_) | container::Error::NoSuchContainer(_)) => {}
            Err(error) => {
                output::warning(&chain(&error));
                code = 1;
            }
        }
    }
    containers.tell_prune("container", freed);
    Ok((freed, code))
}

fn remove(containers: &Containers, record: &Record) -> Result<u64, container::Error> {
    let size = layer_size(containers, record);
    container::remove(containers, &record.id, false, false).map(|()| size)
}

fn confirmed(what: &str) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        let hint = "--force does it without asking";
        return Err(Failure::new(what, "there is nobody to ask", hint));
    }
    output::message("This removes all containers that do not run. Are you sure? [y/N] ");
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    Ok(read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes"))
}
