//! `mydocker container`: what is done to all containers.

use std::io::IsTerminal as _;

use super::container_filter::Filters;
use super::failure::{Failure, While as _, chain};
use super::{Global, Outcome, output};
use crate::container::{self, Containers, Record, layer_size};

/// Manage containers
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Prune(PruneArgs),
}

/// Remove all containers that do not run
#[derive(Debug, clap::Args)]
struct PruneArgs {
    /// Only containers that are so: until=, label=, name=, status=, …
    #[arg(long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

pub(super) fn run(global: &Global, args: &Args) -> Outcome {
    match &args.verb {
        Verb::Prune(args) => prune(global, args),
    }
}

fn prune(global: &Global, args: &PruneArgs) -> Outcome {
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
