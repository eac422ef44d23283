//! `--filter` of lists of containers: values of one name are alternatives, names must all be met, as with docker.

use std::collections::BTreeMap;

use crate::container::{self, Containers, Record, Status};

/// The conditions, by name.
#[derive(Debug, Default)]
pub(super) struct Filters {
    conditions: BTreeMap<Condition, Vec<String>>,
    /// Made before the oldest of those named with `before`.
    before: Option<i64>,
    /// Made after the newest of those named with `since`.
    since: Option<i64>,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Condition {
    Ancestor,
    Exited,
    Health,
    Id,
    Label,
    Name,
    Status,
}

impl Filters {
    /// Parses `NAME=VALUE` conditions; `records` are all containers, for those that name one.
    pub(super) fn parse(filters: &[String], records: &[Record]) -> Result<Self, container::Error> {
        let mut parsed = Self::default();
        for filter in filters {
            let refuse =
                |why| container::Error::Value { what: "filter", value: filter.clone(), why };
            let (name, value) =
                filter.split_once('=').ok_or_else(|| refuse("expected NAME=VALUE"))?;
            let created = || {
                let found = records.iter().find(|r| r.name == value || r.id.starts_with(value));
                found
                    .map(|record| record.created)
                    .ok_or_else(|| refuse("there is no such container"))
            };
            let name = match name {
                "before" => {
                    let at = created()?;
                    parsed.before = Some(parsed.before.map_or(at, |known| known.min(at)));
                    continue;
                }
                "since" => {
                    let at = created()?;
                    parsed.since = Some(parsed.since.map_or(at, |known| known.max(at)));
                    continue;
                }
                "ancestor" => Condition::Ancestor,
                "exited" if value.parse::<u8>().is_err() => {
                    return Err(refuse("an exit code is a number from 0 to 255"));
                }
                "exited" => Condition::Exited,
                "health" if HEALTH.contains(&value) => Condition::Health,
                "health" => {
                    return Err(refuse("there are starting, healthy, unhealthy and none"));
                }
                "id" => Condition::Id,
                "label" => Condition::Label,
                "name" => Condition::Name,
                "status" if STATES.contains(&value) => Condition::Status,
                "status" => {
                    return Err(refuse("there are created, restarting, running, paused, exited"));
                }
                _ => {
                    return Err(refuse(
                        "there are status, name, id, label, ancestor, exited, health, before and since",
                    ));
                }
            };
            parsed.conditions.entry(name).or_default().push(value.to_owned());
        }
        Ok(parsed)
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
                if *name == Condition::Label { met.all(|met| met) } else { met.any(|met| met) }
            })
    }
}

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
        Condition::Exited => match status {
            Status::Exited(finished) => value.parse() == Ok(finished.code),
            _ => false,
        },
        Condition::Id => record.id.starts_with(value),
        Condition::Label => match value.split_once('=') {
            Some((name, value)) => record.labels.get(name).is_some_and(|found| found == value),
            None => record.labels.contains_key(value),
        },
        Condition::Name => matches_name(value, &record.name),
        Condition::Status => status.name() == value,
    }
}

/// Part of the name, from its begin with `^` and to its end with `$`.
fn matches_name(pattern: &str, name: &str) -> bool {
    let pattern = pattern.strip_prefix('/').unwrap_or(pattern);
    let (anchored, rest) = match pattern.strip_prefix('^') {
        Some(rest) => (true, rest.strip_prefix('/').unwrap_or(rest)),
        None => (false, pattern),
    };
    match (anchored, rest.strip_suffix('$')) {
        (true, Some(whole)) => name == whole,
        (true, None) => name.starts_with(rest),
        (false, Some(end)) => name.ends_with(end),
        (false, None) => name.contains(rest),
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
