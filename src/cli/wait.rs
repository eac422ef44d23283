//! `mydocker wait`.

use std::time::Duration;

use super::container_options::parse;
use super::failure::{Failure, While as _};
use super::{Global, Outcome, moment, output};
use crate::container::{self, Condition};

/// Wait until containers have ended, and print their exit codes
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Wait until they are so instead: created, running, paused, exited, stopped, healthy, unhealthy, removing; -1 is printed
    /// for what is no end
    #[arg(long, value_name = "STATE", value_delimiter = ',', value_parser = parse::<Condition>)]
    condition: Vec<Condition>,
    /// Print -1 for a container that does not exist
    #[arg(long)]
    ignore: bool,
    /// Time between two looks for a condition
    #[arg(short, long, value_name = "TIME", default_value = "250ms", value_parser = parse_interval)]
    interval: Duration,
    /// Names, ids or first digits of ids
    #[arg(required = true)]
    container: Vec<String>,
}

pub(super) fn run(global: &Global, args: &Args) -> Outcome {
    let mut code = 0;
    for name in &args.container {
        match wait(global, args, name) {
            Ok(Some(ended)) => output::data(&format!("{ended}\n")),
            Ok(None) => output::data("-1\n"),
            Err(failure) => {
                failure.report();
                code = 1;
            }
        }
    }
    Ok(code)
}

fn wait(global: &Global, args: &Args, name: &str) -> Result<Option<u8>, Failure> {
    let what = format!("wait {name}");
    let containers = global.containers().doing(&what)?;
    let waited = containers.find(name).and_then(|record| {
        container::wait_until(&containers, &record, &args.condition, args.interval)
    });
    match waited {
        Err(container::Error::NoSuchContainer(_)) if args.ignore => Ok(None),
        waited => waited.doing(&what),
    }
}

/// A time as in 1s, or milliseconds, as podman takes both.
fn parse_interval(text: &str) -> Result<Duration, String> {
    let millis = || text.parse::<u64>().ok().map(Duration::from_millis);
    let time = || moment::duration(text).and_then(|nanos| u64::try_from(nanos).ok());
    let found = millis().or_else(|| time().map(Duration::from_nanos));
    let found = found.filter(|found| *found >= Duration::from_millis(1));
    found.ok_or_else(|| "expected a time of at least 1ms, as in 250ms or 1s".to_owned())
}
