//! The hidden verb that the machine's init system executes when it starts, and with `--stop` before it ends.

use super::failure::{While as _, chain};
use super::{Global, Outcome, output};
use crate::container::{self, Record};

/// Start the containers that their restart policies want to run
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Stop all containers, for as long as the machine is down
    #[arg(long)]
    stop: bool,
}

pub(super) fn run(global: &Global, args: &Args) -> Outcome {
    let what = if args.stop { "boot --stop" } else { "boot" };
    let containers = global.containers().doing(what)?;
    let mut code = 0;
    let mut failed = |record: &Record, error: &container::Error| {
        output::message(&format!("mydocker: {what}: {}: {}\n", record.name, chain(error)));
        code = 1;
    };
    if args.stop {
        container::shut_down(&containers, |record, error| failed(record, &error)).doing(what)?;
        return Ok(code);
    }
    let booted = container::boot(&containers, &global.root(), |record, booted| match booted {
        Ok(warnings) => {
            warnings.iter().for_each(|text| output::warning(&format!("{}: {text}", record.name)));
            output::data(&format!("{}\n", record.name));
        }
        Err(error) => failed(record, &error),
    });
    booted.doing(what)?;
    Ok(code)
}
