//! `mydocker update`.

use super::container_options::{parse, parse_bytes, parse_cpus};
use super::failure::{Failure, While as _};
use super::{Global, Outcome, each};
use crate::container::{self, Change, RestartPolicy};

/// Change the limits and the restart policy of containers
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Weight of processor time against others; 1024 is usual
    #[arg(short, long, value_name = "NUMBER")]
    cpu_shares: Option<u64>,
    /// Processors that it may use, as in 1.5
    #[arg(long, value_name = "N", value_parser = parse_cpus)]
    cpus: Option<f64>,
    /// Which processors, as in 0-2,7
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Which memory nodes, as in 0-2,7
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Memory that it may use, as in 512m or 2g
    #[arg(short, long, value_name = "BYTES", value_parser = parse_bytes)]
    memory: Option<u64>,
    /// Memory and swap together
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    memory_swap: Option<u64>,
    /// Processes that it may have at a time; -1 for any number
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    /// Start it again when it has ended: no, on-failure[:N], always, unless-stopped
    #[arg(long, value_name = "POLICY", value_parser = parse::<RestartPolicy>)]
    restart: Option<RestartPolicy>,
    /// Names, ids or first digits of ids
    #[arg(required = true)]
    container: Vec<String>,
}

pub(super) fn run(global: &Global, args: &Args) -> Outcome {
    let change = Change {
        cpu_shares: args.cpu_shares,
        cpus: args.cpus,
        cpuset_cpus: args.cpuset_cpus.clone(),
        cpuset_mems: args.cpuset_mems.clone(),
        memory: args.memory,
        memory_swap: args.memory_swap,
        pids_limit: args.pids_limit,
        restart: args.restart,
    };
    if change == Change::default() {
        let hint = "`mydocker update --help` lists what can be changed";
        return Err(Failure::new("update", "nothing to change was given", hint));
    }
    each(&args.container, |name| {
        let what = format!("update {name}");
        let containers = global.containers().doing(&what)?;
        let record = containers.find(name).doing(&what)?;
        container::update(&containers, &record, &change).doing(&what)
    })
}
