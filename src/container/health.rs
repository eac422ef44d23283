//! Whether a container is well: what its probes have said.
//!
//! A probe is a program that is executed in the container now and then; [`super::probe`] runs one. What it said is written
//! down by docker's rules in `health.json` in the container's folder, by whichever process has run it.

use std::fs;
use std::time::Duration;

use nix::fcntl::FlockArg;
use serde::{Deserialize, Serialize};

use super::record::{now_with_nanos, replace, to_json};
use super::status::{Identity, Status};
use super::{Containers, Error, Record};
use crate::oci::image_config::Healthcheck;

/// How many probes are remembered: docker's number.
const MAX_LOG: usize = 5;
/// How often a probe may fail before the container is not well, unless somebody says otherwise.
const RETRIES: u32 = 3;
/// Between two probes, how long one may take, and between two while the container starts: docker's.
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
/// The least time between two probes, which are no work of the container's and do not count against its limits.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// What is known of a container's health.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Health {
    /// What follows from the probes.
    pub status: HealthStatus,
    /// How many probes have failed since the last one that went well.
    pub failing_streak: u32,
    /// The last probes, the oldest first.
    pub log: Vec<Probed>,
    /// When the program began, in nanoseconds since 1970.
    #[serde(default)]
    pub(super) begun: i64,
}

/// Docker's words for how well a container is.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// No probe has gone well yet, and not too many have failed.
    #[default]
    Starting,
    /// The last probes that count went well.
    Healthy,
    /// Too many have failed in a row.
    Unhealthy,
}

impl HealthStatus {
    /// Docker's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// What came of one probe.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Probed {
    /// When it began, in RFC 3339.
    pub start: String,
    /// When it ended.
    pub end: String,
    /// Its exit code: 0 if the container is well; -1 if the probe could not be run, or took too long.
    pub exit_code: i32,
    /// What it wrote, as far as that is kept.
    pub output: String,
}

/// How a container is probed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Plan {
    pub(super) command: Vec<String>,
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
    pub(super) start_period: Duration,
    pub(super) start_interval: Duration,
    retries: u32,
}

impl Plan {
    /// What `check` asks for; `None` if it asks for nothing that there is.
    pub(super) fn new(check: &Healthcheck) -> Option<Self> {
        let command = match check.test.split_first() {
            Some((kind, command)) if kind == "CMD" && !command.is_empty() => command.to_vec(),
            Some((kind, [command, ..])) if kind == "CMD-SHELL" => {
                ["/bin/sh", "-c", command].map(str::to_owned).to_vec()
            }
            _ => return None,
        };
        let time = |nanos: i64, usual| match u64::try_from(nanos) {
            Ok(nanos @ 1..) => Duration::from_nanos(nanos),
            _ => usual,
        };
        Some(Self {
            command,
            interval: time(check.interval, INTERVAL).max(MIN_INTERVAL),
            timeout: time(check.timeout, TIMEOUT),
            start_period: time(check.start_period, Duration::ZERO),
            start_interval: time(check.start_interval, START_INTERVAL).max(MIN_INTERVAL),
            retries: u32::try_from(check.retries).ok().filter(|n| *n > 0).unwrap_or(RETRIES),
        })
    }
}

/// What the user says of probes, completed by what the image says: docker's rule.
pub(super) fn merge(user: Option<Healthcheck>, image: Option<&Healthcheck>) -> Option<Healthcheck> {
    let (Some(user), Some(image)) = (&user, image) else { return user.or(image.cloned()) };
    let either = |user: i64, image: i64| if user == 0 { image } else { user };
    Some(Healthcheck {
        test: if user.test.is_empty() { image.test.clone() } else { user.test.clone() },
        interval: either(user.interval, image.interval),
        timeout: either(user.timeout, image.timeout),
        start_period: either(user.start_period, image.start_period),
        start_interval: either(user.start_interval, image.start_interval),
        retries: either(user.retries, image.retries),
    })
}

impl Health {
    fn begun_now() -> Self {
        Self { begun: nanoseconds(), ..Self::default() }
    }

    /// Takes in what a probe has said that began at `start`, in nanoseconds since 1970: docker's rule.
    fn take(&mut self, plan: &Plan, start: i64, probed: Probed) {
        if probed.exit_code == 0 {
            self.failing_streak = 0;
            self.status = HealthStatus::Healthy;
        } else {
            let age = u64::try_from(start.saturating_sub(self.begun)).unwrap_or(0);
            let excused = self.status == HealthStatus::Starting
                && Duration::from_nanos(age) < plan.start_period;
            if !excused {
                self.failing_streak = self.failing_streak.saturating_add(1);
                if self.failing_streak >= plan.retries {
                    self.status = HealthStatus::Unhealthy;
                }
            }
        }
        self.log.push(probed);
        self.log.drain(..self.log.len().saturating_sub(MAX_LOG));
    }
}

/// Nanoseconds since 1970.
pub(super) fn nanoseconds() -> i64 {
    let (seconds, nanos) = now_with_nanos();
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos.into())
}

impl Record {
    /// How it is probed; `None` if it is not.
    pub(super) fn probes(&self) -> Option<Plan> {
        Plan::new(self.settings.health.as_ref()?)
    }
}

impl Containers {
    /// What is known of a container's health; `None` if nobody asks for it.
    pub fn health(&self, record: &Record) -> Option<Health> {
        record.probes()?;
        let path = self.folder(&record.id).join("health.json");
        // One that was not started yet, or whose file is torn, is about to be probed.
        let read = fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok());
        Some(read.unwrap_or_default())
    }

    /// Begins anew, with a program that was just started.
    pub(super) fn begin_health(&self, record: &Record) -> Result<(), Error> {
        if record.probes().is_none() {
            return Ok(());
        }
        let _lock = self.lock(&record.id, FlockArg::LockExclusive)?;
        self.write_health(record, &Health::begun_now())
    }

    /// Writes down what a probe has said of the program `process`; nothing if that is not the one that runs any more.
    pub(super) fn take_probe(
        &self,
        record: &Record,
        process: Identity,
        start: i64,
        probed: Probed,
    ) -> Result<(), Error> {
        let Some(plan) = record.probes() else { return Ok(()) };
        let lock = self.lock(&record.id, FlockArg::LockExclusive)?;
        let now = self.read(&record.id)?.unwrap_or_else(|| record.clone());
        let same = matches!(self.status(&now), Status::Running(found) if found.process == process);
        if !same || !process.lives() {
            return Ok(());
        }
        let mut health = self.health(record).unwrap_or_default();
        let before = health.status;
        health.take(&plan, start, probed);
        self.write_health(record, &health)?;
        drop(lock);
        if health.status != before {
            self.tell(&now, &format!("health_status: {}", health.status.name()), &[]);
        }
        Ok(())
    }

    fn write_health(&self, record: &Record, health: &Health) -> Result<(), Error> {
        let path = self.folder(&record.id).join("health.json");
        replace(&path, &to_json(health, &path)?).map_err(|error| self.or_gone(&record.id, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(test: &[&str]) -> Healthcheck {
        let test = test.iter().map(|word| (*word).to_owned()).collect();
        Healthcheck { test, ..Healthcheck::default() }
    }

    fn probed(exit_code: i32) -> Probed {
        Probed { start: String::new(), end: String::new(), exit_code, output: String::new() }
    }

    #[test]
    fn what_is_probed_and_how_often() {
        let plan = Plan::new(&check(&["CMD-SHELL", "true"])).unwrap();
        assert_eq!(plan.command, ["/bin/sh", "-c", "true"]);
        assert_eq!((plan.interval, plan.timeout, plan.retries), (INTERVAL, TIMEOUT, 3));
        assert_eq!((plan.start_period, plan.start_interval), (Duration::ZERO, START_INTERVAL));
        assert_eq!(Plan::new(&check(&["CMD", "a", "b"])).unwrap().command, ["a", "b"]);
        for none in [&[][..], &["NONE"], &["CMD"], &["CMD-SHELL"], &["NOSUCH", "a"]] {
            assert_eq!(Plan::new(&check(none)), None, "{none:?}");
        }
        let hostile = Healthcheck { interval: 1, retries: -1, timeout: -5, ..check(&["CMD", "a"]) };
        let plan = Plan::new(&hostile).unwrap();
        assert_eq!((plan.interval, plan.timeout, plan.retries), (MIN_INTERVAL, TIMEOUT, 3));
    }

    #[test]
    fn the_users_words_count_before_the_images() {
        let image = Healthcheck { interval: 7, retries: 2, ..check(&["CMD", "image"]) };
        let user = Healthcheck { interval: 9, ..Healthcheck::default() };
        let merged = merge(Some(user), Some(&image)).unwrap();
        assert_eq!((merged.interval, merged.retries), (9, 2));
        assert_eq!(merged.test, ["CMD", "image"]);
        assert_eq!(merge(None, Some(&image)), Some(image.clone()));
        assert_eq!(merge(Some(check(&["NONE"])), Some(&image)).unwrap().test, ["NONE"]);
        assert_eq!(merge(None, None), None);
    }

    #[test]
    fn failures_count_when_they_follow_each_other_and_the_start_is_over() {
        let second = 1_000_000_000;
        let times = Healthcheck { start_period: 10 * second, retries: 2, ..check(&["CMD", "a"]) };
        let plan = Plan::new(&times).unwrap();
        let mut health = Health::default();
        health.take(&plan, 9 * second, probed(1));
        assert_eq!((health.status, health.failing_streak), (HealthStatus::Starting, 0));
        health.take(&plan, 10 * second, probed(1));
        assert_eq!((health.status, health.failing_streak), (HealthStatus::Starting, 1));
        health.take(&plan, 11 * second, probed(0));
        assert_eq!((health.status, health.failing_streak), (HealthStatus::Healthy, 0));
        // Once it was well, the start is over.
        for (streak, status) in [(1, HealthStatus::Healthy), (2, HealthStatus::Unhealthy)] {
            health.take(&plan, second, probed(-1));
            assert_eq!((health.status, health.failing_streak), (status, streak));
        }
        health.take(&plan, second, probed(7));
        assert_eq!(health.log.iter().map(|p| p.exit_code).collect::<Vec<_>>(), [1, 0, -1, -1, 7]);
    }
}
