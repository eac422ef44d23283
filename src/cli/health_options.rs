//! The options of `run` and `create` that say how to find out whether the program is well.

use clap::builder::NonEmptyStringValueParser;

use super::failure::Failure;
use super::moment;
use crate::oci::image_config::Healthcheck;

/// How a container is probed, where the user says otherwise than the image.
#[derive(Debug, clap::Args)]
pub(super) struct HealthArgs {
    /// Line for the container's shell that finds out whether it is well
    #[arg(long, value_name = "COMMAND", value_parser = NonEmptyStringValueParser::new())]
    health_cmd: Option<String>,
    /// Time between two health checks, as in 1m30s [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    health_interval: Option<i64>,
    /// Checks that must fail in a row [default: 3]
    #[arg(long, value_name = "NUMBER")]
    health_retries: Option<u32>,
    /// Time between two checks until the first goes well, in the start period [default: 5s]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    health_start_interval: Option<i64>,
    /// Time after the start in which a check may fail [default: 0s]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    health_start_period: Option<i64>,
    /// Time that a check may take [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    health_timeout: Option<i64>,
    /// Do not check the container's health, whatever its image says
    #[arg(long)]
    no_healthcheck: bool,
}

impl HealthArgs {
    /// What they say; `None` where they say nothing.
    pub(super) fn check(&self, what: &str) -> Result<Option<Healthcheck>, Failure> {
        let check = Healthcheck {
            test: self
                .health_cmd
                .iter()
                .flat_map(|c| ["CMD-SHELL".to_owned(), c.clone()])
                .collect(),
            interval: self.health_interval.unwrap_or(0),
            timeout: self.health_timeout.unwrap_or(0),
            start_period: self.health_start_period.unwrap_or(0),
            start_interval: self.health_start_interval.unwrap_or(0),
            retries: self.health_retries.unwrap_or(0).into(),
        };
        let says_something = check != Healthcheck::default();
        if !self.no_healthcheck {
            return Ok(says_something.then_some(check));
        }
        if says_something {
            let hint = "leave one of them out";
            return Err(Failure::new(
                what,
                "conflicting options: --no-healthcheck and --health-*",
                hint,
            ));
        }
        Ok(Some(Healthcheck { test: vec!["NONE".to_owned()], ..check }))
    }
}

/// Nanoseconds, at least a millisecond unless 0, as docker has it.
fn parse_time(text: &str) -> Result<i64, String> {
    const MILLISECOND: i64 = 1_000_000;
    let nanos = if text == "0" { Some(0) } else { moment::duration(text) };
    match nanos.and_then(|nanos| i64::try_from(nanos).ok()) {
        Some(0) => Ok(0),
        Some(nanos @ MILLISECOND..) => Ok(nanos),
        Some(_) => Err("expected at least 1ms".to_owned()),
        None => Err("expected a time as in 30s or 1m30s".to_owned()),
    }
}
