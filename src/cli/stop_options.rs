//! What `stop` and `restart` have in common, and which containers `--all` means.

use super::Global;
use super::container_options::parse_signal;
use super::failure::{Failure, While as _};

/// How containers are asked to end.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct StopArgs {
    /// Signal that asks [default: the container's stop signal]
    #[arg(short, long, value_name = "SIGNAL", value_parser = parse_signal)]
    pub(super) signal: Option<i32>,
    /// Seconds before it is killed; -1 for never [default: the container's, or 10]
    #[arg(
        short,
        long,
        visible_alias = "timeout",
        value_name = "SECONDS",
        allow_hyphen_values = true
    )]
    pub(super) time: Option<i64>,
}

/// The ids of all containers that run, or of all that do not, the oldest first.
pub(super) fn all(global: &Global, verb: &str, running: bool) -> Result<Vec<String>, Failure> {
    let containers = global.containers().doing(verb)?;
    let (mut records, _) = containers.list().doing(verb)?;
    records.reverse();
    records.retain(|record| containers.status(record).running().is_some() == running);
    Ok(records.into_iter().map(|record| record.id).collect())
}
