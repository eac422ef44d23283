//! `mydocker wait`.

use super::failure::{Failure, While as _};
use super::{Global, Outcome, output};
use crate::container;

/// Wait until containers have ended, and print their exit codes
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Names, ids or first digits of ids
    #[arg(required = true)]
    container: Vec<String>,
}

pub(super) fn run(global: &Global, args: &Args) -> Outcome {
    let mut code = 0;
    for name in &args.container {
        match wait(global, name) {
            Ok(ended) => output::data(&format!("{ended}\n")),
            Err(failure) => {
                failure.report();
                code = 1;
            }
        }
    }
    Ok(code)
}

fn wait(global: &Global, name: &str) -> Result<u8, Failure> {
    let what = format!("wait {name}");
    let containers = global.containers().doing(&what)?;
    let record = containers.find(name).doing(&what)?;
    container::wait(&containers, &record).doing(&what)
}
