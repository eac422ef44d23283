//! `mydocker rm`.

use super::failure::{Failure, While as _};
use super::{Global, Outcome, output};
use crate::container;

/// Remove containers
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Kill a container that runs
    #[arg(short, long)]
    force: bool,
    /// Names, ids or first digits of ids
    #[arg(required = true)]
    container: Vec<String>,
}

pub(super) fn run(global: &Global, args: &Args) -> Outcome {
    let mut code = 0;
    for name in &args.container {
        // One that cannot be removed does not keep the others.
        match remove(global, name, args.force) {
            Ok(()) => output::data(&format!("{name}\n")),
            Err(failure) => {
                failure.report();
                code = 1;
            }
        }
    }
    Ok(code)
}

fn remove(global: &Global, name: &str, force: bool) -> Result<(), Failure> {
    let what = format!("rm {name}");
    let containers = global.containers().doing(&what)?;
    container::remove(&containers, name, force).doing(&what)
}
