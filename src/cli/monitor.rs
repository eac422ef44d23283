//! The hidden verb by which this program watches a detached container.

use super::failure::{While as _, chain};
use super::{Global, Outcome};
use crate::container::Error;
use crate::container::monitor::{Failed, Monitor};

/// Watch a container
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Its id
    id: String,
}

pub(super) fn run(global: &Global, args: &Args) -> Outcome {
    let what = format!("monitor {}", args.id);
    let containers = global.containers().doing(&what)?;
    let mut monitor = Monitor::new(containers, chain).doing(&what)?;
    match monitor.run(&args.id) {
        Ok(()) => Ok(0),
        Err(error) => {
            let (hint, code) = (error.hint(), error.exit_code());
            let busy = matches!(error, Error::Running(_));
            monitor.fail(Failed { cause: chain(&error), hint, code, busy });
            Ok(code)
        }
    }
}
