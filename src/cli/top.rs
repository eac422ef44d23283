//! `mydocker top`.

use super::failure::While as _;
use super::{Global, Outcome, output};
use crate::container::{self, Columns};

/// List the processes of a container, with the numbers that they have on the host
///
/// Takes options of ps: -ef, aux, -o or -eo with a list of columns; or podman's names of columns, which are pid, hpid,
/// user, huser, comm, args, state, tty, time, etime, stime, pcpu, rss, vsz, nice.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name, id or first digits of an id
    container: String,
    /// Options of ps
    #[arg(value_name = "PS OPTIONS", trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

pub(super) fn run(global: &Global, args: &Args) -> Outcome {
    let what = format!("top {}", args.container);
    let columns = Columns::new(&args.options).doing(&what)?;
    let containers = global.containers().doing(&what)?;
    let record = containers.find(&args.container).doing(&what)?;
    let rows = container::top(&containers, &record, &columns).doing(&what)?;
    containers.tell(&record, "top", &[]);
    let lines: Vec<String> = rows.into_iter().map(|row| row.join("\t")).collect();
    output::tabs(&columns.header().join("\t"), &lines);
    Ok(0)
}
