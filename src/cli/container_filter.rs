//! `--filter` of lists of containers: values of one name are alternatives, names must all be met, as with docker.

use std::collections::BTreeMap;
use std::path::Path;

use super::inspect_container::network;
use super::moment;
use crate::container::{self, Containers, MountPoint, MountSource, Record, Status};

/// The conditions, by name.
#[derive(Debug, Default)]
pub(super) struct Filters {
    conditions: BTreeMap<Condition, Vec<String>>,
    /// Made before the oldest of those named with `before`, and before the earliest moment of `until`.
    before: Option<i64>,
    /// Made after the newest of those named with `since`.
    since: Option<i64>,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Condition {
    Ancestor,
    Command,
    Exited,
    Health,
    Id,
    Label,
    Name,
    Network,
    NoLabel,
    Port,
    RestartPolicy,
    Status,
    Task,
    Volume,
}

impl Condition {
    /// The condition that docker, or podman, calls so.
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "ancestor" => Self::Ancestor,
            "command" => Self::Command,
            "exited" => Self::Exited,
            "expose" | "publish" => Self::Port,
            "health" => Self::Health,
            "id" => Self::Id,
            "is-task" => Self::Task,
            "label" => Self::Label,
            "label!" => Self::NoLabel,
            "name" => Self::Name,
            "network" => Self::Network,
            "restart-policy" => Self::RestartPolicy,
            "status" => Self::Status,
            "volume" => Self::Volume,
            _ => return None,
        })
    }

    /// What is wrong with a value, if it can be none of this condition.
    fn fault(self, value: &str) -> Option<&'static str> {
        let (good, why) = match self {
            Self::Exited => (value.parse::<u8>().is_ok(), "an exit code is a number from 0 to 255"),
            Self::Health => {
                (HEALTH.contains(&value), "there are starting, healthy, unhealthy and none")
            }
            Self::Port => {
                (is_port(value), "a port is NUMBER[/tcp|/udp|/sctp], or two with - between")
            }
            Self::RestartPolicy => {
                (POLICIES.contains(&value), "there are no, on-failure, always and unless-stopped")
            }
            Self::Status => {
                (STATES.contains(&value), "there are created, restarting, running, paused, exited")
            }
            Self::Task => (matches!(value, "true" | "false" | "1" | "0"), "it is true or false"),
            _ => (true, ""),
        };
        (!good).then_some(why)
    }
}

impl Filters {
    /// Parses `NAME=VALUE` conditions; `records` are all containers, for those that name one.
    pub(super) fn parse(filters: &[String], records: &[Record]) -> Result<Self, container::Error> {
        let mut parsed = Self::default();
        for filter in filters {
            let refuse =
                |why| container::Error::Value { what: "filter", value: filter.clone(), why };
            let no_label = filter.strip_prefix("label!=").map(|value| ("label!", value));
            let pair = no_label.or_else(|| filter.split_once('='));
            let (name, value) = pair.ok_or_else(|| refuse("expected NAME=VALUE"))?;
            let created = || {
                let found = records.iter().find(|r| r.name == value || r.id.starts_with(value));
                let created = found.map(|record| record.created);
                created.ok_or_else(|| refuse("there is no such container"))
            };
            match name {
                "before" => parsed.set_before(created()?),
                "since" => {
                    let at = created()?;
                    parsed.since = Some(parsed.since.map_or(at, |known| known.max(at)));
                }
                "until" => {
                    let why = "expected a time, or how long ago, as in 24h";
                    parsed.set_before(moment::seconds_at(value).ok_or_else(|| refuse(why))?);
                }
                name => {
                    let condition = Condition::of(name).ok_or_else(|| refuse(NAMES))?;
                    if let Some(why) = condition.fault(value) {
                        return Err(refuse(why));
                    }
                    parsed.conditions.entry(condition).or_default().push(value.to_owned());
                }
            }
        }
        Ok(parsed)
    }

    fn set_before(&mut self, at: i64) {
        self.before = Some(self.before.map_or(at, |known| known.min(at)));
    }

    /// Whether they ask for containers that do not run, so that those are shown without being asked for otherwise.
    pub(super) fn mention_state(&self) -> bool {
        self.conditions.contains_key(&Condition::Status)
            || self.conditions.contains_key(&Condition::Exited)
    }

    /// Whether a container meets them.
    pub(super) fn accept(&self, containers: &Containers, record: &Record, status: &Status) -> bool {
        self.before.is_none_or(|at| record.created < at)
            && self.since.is_none_or(|at| record.created > at)
            && self.conditions.iter().all(|(name, values)| {
                // Labels must all be there; of other conditions, one of a kind suffices.
                let mut met =
                    values.iter().map(|value| meets(*name, value, containers, record, status));
                match name {
                    Condition::Label | Condition::NoLabel => met.all(|met| met),
                    _ => met.any(|met| met),
                }
            })
    }
}

const NAMES: &str = "there are ancestor, before, command, exited, expose, health, id, is-task, label, label!, name, \
     network, publish, restart-policy, since, status, until and volume";
const POLICIES: [&str; 4] = ["no", "on-failure", "always", "unless-stopped"];
const HEALTH: [&str; 4] = ["starting", "healthy", "unhealthy", "none"];
const STATES: [&str; 7] =
    ["created", "restarting", "running", "paused", "exited", "removing", "dead"];

fn meets(
    name: Condition,
    value: &str,
    containers: &Containers,
    record: &Record,
    status: &Status,
) -> bool {
    match name {
        Condition::Health => {
            let health = containers.health(record);
            health.map_or("none", |health| health.status.name()) == value
        }
        Condition::Ancestor => is_ancestor(value, record),
        Condition::Command => {
            record.command.first().is_some_and(|program| matches_part(value, program))
        }
        Condition::Exited => match status {
            Status::Exited(finished) => value.parse() == Ok(finished.code),
            _ => false,
        },
        Condition::Id => record.id.starts_with(value),
        Condition::Label => has_label(value, record),
        Condition::NoLabel => !has_label(value, record),
        Condition::Name => matches_name(value, &record.name),
        Condition::Network => {
            let network = containers.spec(&record.id).map(|spec| network(record, &spec));
            network.is_ok_and(|network| network == value)
        }
        // None has any, and none belongs to a swarm.
        Condition::Port => false,
        Condition::Task => matches!(value, "false" | "0"),
        Condition::RestartPolicy => record.settings.restart.name() == value,
        Condition::Status => status.name() == value,
        Condition::Volume => record.mounts.iter().any(|mount| has_volume(value, mount)),
    }
}

fn has_label(label: &str, record: &Record) -> bool {
    match label.split_once('=') {
        Some((name, value)) => record.labels.get(name).is_some_and(|found| found == value),
        None => record.labels.contains_key(label),
    }
}

/// A volume by its name, a file or folder of the host by its path, or either by where it is mounted.
fn has_volume(value: &str, mount: &MountPoint) -> bool {
    let source = match &mount.source {
        MountSource::Volume { name, .. } => name == value,
        MountSource::Bind { path } => path == Path::new(value),
        MountSource::Image { .. } | MountSource::Tmpfs { .. } => false,
    };
    source || mount.destination == value
}

/// One port or a range, with its protocol or without.
fn is_port(text: &str) -> bool {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let range = first.parse::<u16>().ok().zip(last.parse::<u16>().ok());
    range.is_some_and(|(first, last)| first > 0 && first <= last)
        && matches!(protocol, "tcp" | "udp" | "sctp")
}

/// Part of the name, from its begin with `^` and to its end with `$`.
fn matches_name(pattern: &str, name: &str) -> bool {
    let pattern = pattern.strip_prefix('/').unwrap_or(pattern);
    match pattern.strip_prefix("^/") {
        Some(rest) => matches_part(&format!("^{rest}"), name),
        None => matches_part(pattern, name),
    }
}

fn matches_part(pattern: &str, text: &str) -> bool {
    let rest = pattern.strip_prefix('^').unwrap_or(pattern);
    match (rest.len() < pattern.len(), rest.strip_suffix('$')) {
        (true, Some(whole)) => text == whole,
        (true, None) => text.starts_with(rest),
        (false, Some(end)) => text.ends_with(end),
        (false, None) => text.contains(rest),
    }
}

fn is_ancestor(value: &str, record: &Record) -> bool {
    let id = record.image_id.as_ref().map(ToString::to_string).unwrap_or_default();
    let digits = id.split_once(':').map_or("", |(_, digits)| digits);
    let short = value.strip_prefix("sha256:").unwrap_or(value);
    let by_id = short.len() >= 4 && !digits.is_empty() && digits.starts_with(short);
    by_id
        || record.image == value
        || record.image == format!("{value}:latest")
        || format!("{}:latest", record.image) == value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_names() {
        assert!(
            matches_name("e", "web") && matches_name("^we", "web") && matches_name("b$", "web")
        );
        assert!(matches_name("^/web$", "web") && !matches_name("^eb", "web"));
        assert!(!matches_name("^we$", "web") && !matches_name("x", "web"));
    }
}
