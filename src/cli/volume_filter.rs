//! `--filter` of lists of volumes, as docker understands it.

use crate::container::{self, Volume};

/// The conditions.
#[derive(Debug, Default)]
pub(super) struct VolumeFilters {
    dangling: Option<bool>,
    drivers: Vec<String>,
    names: Vec<String>,
    /// Labels that must be there, and those that must not.
    labels: Vec<(String, bool)>,
    all: bool,
}

impl VolumeFilters {
    /// Parses the filters of `volume ls`.
    pub(super) fn parse(filters: &[String]) -> Result<Self, container::Error> {
        let mut parsed = Self::default();
        for filter in filters {
            let (name, value) = split(filter)?;
            match name {
                "dangling" => parsed.dangling = Some(boolean(filter, value)?),
                "driver" => parsed.drivers.push(value.to_owned()),
                "name" => parsed.names.push(value.to_owned()),
                "label" => parsed.labels.push((value.to_owned(), true)),
                _ => return Err(refuse(filter, "there are dangling, driver, label and name")),
            }
        }
        Ok(parsed)
    }

    /// Parses the filters of `volume prune`.
    pub(super) fn parse_prune(filters: &[String], all: bool) -> Result<Self, container::Error> {
        let mut parsed = Self { all, ..Self::default() };
        for filter in filters {
            let (name, value) = split(filter)?;
            match name {
                "all" => parsed.all |= boolean(filter, value)?,
                "label" => parsed.labels.push((value.to_owned(), true)),
                "label!" => parsed.labels.push((value.to_owned(), false)),
                _ => return Err(refuse(filter, "there are all, label and label!")),
            }
        }
        Ok(parsed)
    }

    /// Whether volumes go that somebody has named.
    pub(super) fn all(&self) -> bool {
        self.all
    }

    /// Whether a volume, which containers have or not, meets them: every label, and one of each other kind.
    pub(super) fn accept(&self, volume: &Volume, used: bool) -> bool {
        let has = |label: &str| match label.split_once('=') {
            Some((name, value)) => volume.labels.get(name).is_some_and(|found| found == value),
            None => volume.labels.contains_key(label),
        };
        let any = |values: &[String], meets: &dyn Fn(&String) -> bool| {
            values.is_empty() || values.iter().any(meets)
        };
        self.dangling.is_none_or(|dangling| dangling != used)
            && any(&self.drivers, &|driver| *driver == volume.driver)
            && any(&self.names, &|name| volume.name.contains(name.as_str()))
            && self.labels.iter().all(|(label, wanted)| has(label) == *wanted)
    }
}

fn refuse(filter: &str, why: &'static str) -> container::Error {
    container::Error::Value { what: "filter", value: filter.to_owned(), why }
}

fn split(filter: &str) -> Result<(&str, &str), container::Error> {
    filter.split_once('=').ok_or_else(|| refuse(filter, "expected NAME=VALUE"))
}

fn boolean(filter: &str, value: &str) -> Result<bool, container::Error> {
    match value {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(refuse(filter, "expected true or false")),
    }
}
