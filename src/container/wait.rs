//! Waiting until a container is as somebody wants it: podman's conditions.

use std::str::FromStr;
use std::thread;
use std::time::Duration;

use super::health::HealthStatus;
use super::lifecycle::wait;
use super::status::Status;
use super::{Containers, Error, Record};

/// What a container can be waited for to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Condition {
    /// Made, and never started.
    Created,
    /// Ended.
    Exited,
    /// Well, as its probes say.
    Healthy,
    /// Held.
    Paused,
    /// Gone.
    Removing,
    /// Running.
    Running,
    /// Not well.
    Unhealthy,
}

impl FromStr for Condition {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Ok(match text {
            "created" => Self::Created,
            "exited" | "stopped" => Self::Exited,
            "healthy" => Self::Healthy,
            "paused" => Self::Paused,
            "removing" => Self::Removing,
            "running" => Self::Running,
            "unhealthy" => Self::Unhealthy,
            _ => {
                return Err(Error::Value {
                    what: "condition",
                    value: text.to_owned(),
                    why: "there are created, exited, healthy, paused, removing, running, stopped, unhealthy",
                });
            }
        })
    }
}

/// Waits until a container meets one of the conditions, which is looked at so often, and says its exit code; `None` if that
/// is not what it was waited for.
///
/// # Errors
/// [`Error::NoSuchContainer`] when it is removed meanwhile, and nobody waits for that.
pub fn wait_until(
    containers: &Containers,
    record: &Record,
    conditions: &[Condition],
    interval: Duration,
) -> Result<Option<u8>, Error> {
    if conditions.iter().all(|condition| *condition == Condition::Exited) {
        return wait(containers, record).map(Some);
    }
    loop {
        let Some(record) = containers.read(&record.id)? else {
            let wanted = conditions.contains(&Condition::Removing);
            let missing = Err(Error::NoSuchContainer(record.id.clone()));
            return if wanted { Ok(None) } else { missing };
        };
        let status = containers.status(&record);
        if conditions.iter().any(|condition| meets(containers, &record, &status, *condition)) {
            return Ok(match status {
                Status::Exited(finished) if conditions.contains(&Condition::Exited) => {
                    Some(finished.code)
                }
                _ => None,
            });
        }
        thread::sleep(interval);
    }
}

fn meets(containers: &Containers, record: &Record, status: &Status, condition: Condition) -> bool {
    let is = |wanted| {
        let health = containers.health(record).map(|health| health.status);
        matches!(status, Status::Running(_)) && health == Some(wanted)
    };
    match condition {
        Condition::Created => *status == Status::Created,
        Condition::Exited => matches!(status, Status::Exited(_)),
        Condition::Healthy => is(HealthStatus::Healthy),
        Condition::Paused => matches!(status, Status::Paused(_)),
        Condition::Removing => false,
        Condition::Running => matches!(status, Status::Running(_)),
        Condition::Unhealthy => is(HealthStatus::Unhealthy),
    }
}
