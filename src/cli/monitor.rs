//! The hidden verb by which this program watches a detached container.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use super::failure::{self, While as _, chain};
use super::{Global, Outcome, logger};
use crate::container::Error;
use crate::container::monitor::{Failed, MONITOR_VERB, Monitor};

/// Watch a container
///
/// These are words of its own: to parse those of all verbs takes memory, which would not be given back as long as the
/// container runs.
#[derive(Debug, Parser)]
#[command(name = MONITOR_VERB)]
struct Cli {
    #[command(flatten)]
    global: Global,
    /// Its id
    id: String,
}

/// Whether the program was called as a monitor. What remains are the monitor's own words.
pub(super) fn is_meant(args: &[OsString]) -> Option<&[OsString]> {
    args.get(1..).filter(|rest| rest.first().is_some_and(|word| word == MONITOR_VERB))
}

/// Watches a container, as `args` say, the first of which is the verb.
pub(super) fn main(args: &[OsString]) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return failure::usage(&error),
    };
    logger::init(cli.global.debug);
    match run(&cli.global.settle(), &cli.id) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => failure.report(),
    }
}

fn run(global: &Global, id: &str) -> Outcome {
    let what = format!("monitor {id}");
    let containers = global.containers().doing(&what)?;
    let mut monitor = Monitor::new(containers, chain).doing(&what)?;
    match monitor.run(id) {
        Ok(()) => Ok(0),
        Err(error) => {
            let (hint, code) = (error.hint(), error.exit_code());
            let busy = matches!(error, Error::Running(_));
            monitor.fail(Failed { cause: chain(&error), hint, code, busy });
            Ok(code)
        }
    }
}
