//! `events`: how much a container uses, from time to time, and when it runs out of memory.

use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use super::{OciError, Outcome};
use crate::cli::output;
use crate::runtime::{Container, States, Status};

/// How often it is looked whether the container has ended or run out of memory.
const LOOK: Duration = Duration::from_millis(250);

#[derive(Args, Debug)]
pub(super) struct EventsArgs {
    /// Time between two measurements: `500ms`, `5s`, `1m`
    #[arg(long, default_value = "5s", value_parser = interval, value_name = "TIME")]
    interval: Duration,
    /// Measure once
    #[arg(long)]
    stats: bool,
    /// The container's name
    #[arg(value_name = "CONTAINER")]
    id: String,
}

fn interval(text: &str) -> Result<Duration, String> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number: u64 = text[..text.len() - unit.len()].parse().map_err(|_| "no number")?;
    let interval = match unit {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.saturating_mul(60)),
        "h" => Duration::from_secs(number.saturating_mul(3600)),
        _ => return Err("its unit is not ms, s, m or h".to_owned()),
    };
    if interval.is_zero() { Err("it is no time".to_owned()) } else { Ok(interval) }
}

pub(super) fn run(states: &States, args: &EventsArgs) -> Outcome {
    let container = Container::open(states, &args.id)?;
    measure(&container)?;
    if args.stats {
        return Ok(0);
    }
    let mut kills = container.oom_kills();
    let mut measured = Instant::now();
    while container.status() != Status::Stopped {
        thread::sleep(LOOK.min(args.interval));
        let now = container.oom_kills();
        if now > kills {
            event(&container, "oom", &Value::Null);
        }
        kills = now;
        if measured.elapsed() >= args.interval {
            measured = Instant::now();
            match measure(&container) {
                Err(OciError::Runtime(crate::runtime::Error::Status { .. })) => break,
                measured => measured?,
            }
        }
    }
    Ok(0)
}

fn measure(container: &Container) -> Result<(), OciError> {
    let stats = container.stats()?;
    let mut data = serde_json::to_value(stats).unwrap_or_default();
    // What other runtimes have beside: this one sets up neither.
    data["intel_rdt"] = json!({});
    data["network_interfaces"] = Value::Null;
    event(container, "stats", &data);
    Ok(())
}

fn event(container: &Container, kind: &str, data: &Value) {
    let mut event = json!({"type": kind, "id": container.record().id});
    if !data.is_null() {
        event["data"] = data.clone();
    }
    output::json_line(&event);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_have_units() {
        assert_eq!(interval("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(interval("2m"), Ok(Duration::from_secs(120)));
        for bad in ["", "5", "s", "0s", "5d", "-1s"] {
            assert!(interval(bad).is_err(), "{bad}");
        }
    }
}
