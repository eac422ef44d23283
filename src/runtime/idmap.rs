//! The mapping of ids of a new user namespace: `user_namespaces(7)`.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::unistd::{Pid, geteuid};

use super::error::Error;
use crate::oci::runtime_spec::linux::{IdMapping, Linux};

/// The ids of one new user namespace.
#[derive(Clone, Debug, Default)]
pub(super) struct IdMap {
    uids: Vec<IdMapping>,
    gids: Vec<IdMapping>,
}

impl IdMap {
    /// The mappings of a spec that asks for a new user namespace.
    pub(super) fn of(linux: &Linux) -> Result<Self, Error> {
        let map = Self { uids: linux.uid_mappings.clone(), gids: linux.gid_mappings.clone() };
        check("linux.uidMappings", &map.uids)?;
        check("linux.gidMappings", &map.gids)?;
        Ok(map)
    }

    /// The users of a process, from its `uid_map`.
    pub(super) fn of_users(text: &str) -> Self {
        let mapping = |line: &str| {
            let mut numbers = line.split_whitespace().map_while(|number| number.parse().ok());
            let (container_id, host_id, size) = (numbers.next()?, numbers.next()?, numbers.next()?);
            Some(IdMapping { container_id, host_id, size })
        };
        Self { uids: text.lines().filter_map(mapping).collect(), gids: Vec::new() }
    }

    /// Whether every id is the same inside and outside.
    pub(super) fn is_identity(&self) -> bool {
        let same = |maps: &[IdMapping]| maps.iter().all(|map| map.container_id == map.host_id);
        same(&self.uids) && same(&self.gids)
    }

    /// The user outside that `uid` inside is.
    pub(super) fn host_uid(&self, uid: u32) -> Option<u32> {
        outside(&self.uids, uid)
    }

    /// The group outside that `gid` inside is.
    pub(super) fn host_gid(&self, gid: u32) -> Option<u32> {
        outside(&self.gids, gid)
    }

    /// Whether some user inside is this user outside.
    pub(super) fn maps_host_uid(&self, uid: u32) -> bool {
        self.uids.iter().any(|map| uid.checked_sub(map.host_id).is_some_and(|at| at < map.size))
    }

    /// Writes the mappings for the process, which is in its new user namespace already.
    pub(super) fn write(&self, pid: Pid) -> Result<(), Error> {
        if !geteuid().is_root() {
            // Without privilege, groups can be mapped only once nobody can drop one to gain by it (CVE-2014-8989).
            write(pid, "setgroups", "deny")?;
        }
        write(pid, "uid_map", &lines(&self.uids))?;
        write(pid, "gid_map", &lines(&self.gids))
    }
}

fn outside(maps: &[IdMapping], id: u32) -> Option<u32> {
    maps.iter().find_map(|map| {
        let offset = id.checked_sub(map.container_id).filter(|offset| *offset < map.size)?;
        map.host_id.checked_add(offset)
    })
}

fn lines(maps: &[IdMapping]) -> String {
    let mut lines = String::new();
    for map in maps {
        // Writing to a string does not fail.
        let _ = writeln!(lines, "{} {} {}", map.container_id, map.host_id, map.size);
    }
    lines
}

fn write(pid: Pid, name: &str, content: &str) -> Result<(), Error> {
    let path = PathBuf::from(format!("/proc/{pid}/{name}"));
    fs::write(&path, content).map_err(|error| {
        let source = Errno::from_raw(error.raw_os_error().unwrap_or_default());
        Error::Path { action: "write", path, source }
    })
}

fn check(field: &str, maps: &[IdMapping]) -> Result<(), Error> {
    let invalid =
        |reason: &str| Err(Error::Invalid { field: field.to_owned(), reason: reason.to_owned() });
    if maps.is_empty() {
        return invalid("a new user namespace needs at least one mapping");
    }
    let whole = |first: u32, size: u32| first.checked_add(size).is_some();
    if maps
        .iter()
        .any(|m| m.size == 0 || !whole(m.container_id, m.size) || !whole(m.host_id, m.size))
    {
        return invalid("a range is empty or does not fit into 32 bits");
    }
    if outside(maps, 0).is_none() {
        return invalid("id 0 is not mapped, and the container is set up by it");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_in_their_range() {
        let map = |container_id, host_id, size| IdMapping { container_id, host_id, size };
        let maps = vec![map(0, 100_000, 10), map(10, 5, 1)];
        let users = IdMap::of_users("         0     100000         10\n 10 5 1\n");
        assert_eq!(users.uids, maps);
        let ids = IdMap { uids: maps.clone(), gids: maps };
        assert_eq!(ids.host_uid(9), Some(100_009));
        assert_eq!(ids.host_gid(10), Some(5));
        assert_eq!(ids.host_uid(11), None);
        assert!(ids.maps_host_uid(5) && !ids.maps_host_uid(0));
        assert!(!ids.is_identity());
        assert!(check("x", &[map(0, u32::MAX, 2)]).is_err());
        assert!(check("x", &[map(1, 1, 2)]).is_err());
    }
}
