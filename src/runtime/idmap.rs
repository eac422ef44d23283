//! The mapping of ids of a new user namespace: `user_namespaces(7)`.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns};
use nix::unistd::{Pid, geteuid, pipe2};

use super::error::Error;
use crate::oci::runtime_spec::linux::{IdMapping, Linux};
use crate::sys::clone::{self, Clone, Namespaces};
use crate::sys::pidfd::{pidfd_send_signal, pidfd_wait};

/// The ids of one new user namespace.
#[derive(Clone, Debug, Default)]
pub(super) struct IdMap {
    uids: Vec<IdMapping>,
    gids: Vec<IdMapping>,
    /// Whether the namespace is there already.
    joined: bool,
}

impl IdMap {
    /// The mappings of a spec that asks for a new user namespace.
    pub(super) fn of(linux: &Linux) -> Result<Self, Error> {
        let (uids, gids) = (linux.uid_mappings.clone(), linux.gid_mappings.clone());
        check("linux.uidMappings", &uids)?;
        check("linux.gidMappings", &gids)?;
        root_is_mapped("linux.uidMappings", &uids)?;
        root_is_mapped("linux.gidMappings", &gids)?;
        Ok(Self { uids, gids, joined: false })
    }

    /// The mappings of an existing user namespace. The kernel tells them of a process, and so one joins it for a moment.
    pub(super) fn of_namespace(namespace: &File, path: &str) -> Result<Self, Error> {
        let error = |source| Error::Path { action: "join namespace", path: path.into(), source };
        let inside = Bystander::new(0, || setns(namespace, CloneFlags::CLONE_NEWUSER));
        let inside = inside.map_err(error)?;
        let ids =
            |name: &str| parse(&inside.read(name).map_err(error)?).ok_or(error(Errno::EPROTO));
        let (uids, gids) = (ids("uid_map")?, ids("gid_map")?);
        root_is_mapped("linux.namespaces", &uids)?;
        root_is_mapped("linux.namespaces", &gids)?;
        Ok(Self { uids, gids, joined: true })
    }

    /// The users of a process, from its `uid_map`.
    pub(super) fn of_users(text: &str) -> Self {
        Self { uids: parse(text).unwrap_or_default(), gids: Vec::new(), joined: true }
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

    /// Whether there is more than one user inside.
    pub(super) fn has_many_users(&self) -> bool {
        self.uids.iter().map(|map| u64::from(map.size)).sum::<u64>() > 1
    }

    /// Whether some user inside is this user outside.
    pub(super) fn maps_host_uid(&self, uid: u32) -> bool {
        self.uids.iter().any(|map| uid.checked_sub(map.host_id).is_some_and(|at| at < map.size))
    }

    /// Writes the mappings for the process, which is in its new user namespace already.
    pub(super) fn write(&self, pid: Pid) -> Result<(), Error> {
        if self.joined {
            return Ok(());
        }
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
    fs::write(&path, content).map_err(|error| Error::Path {
        action: "write",
        path,
        source: errno(&error),
    })
}

fn check(field: &str, maps: &[IdMapping]) -> Result<(), Error> {
    let invalid =
        |reason: &str| Err(Error::Invalid { field: field.to_owned(), reason: reason.to_owned() });
    if maps.is_empty() {
        return invalid("a user namespace needs at least one mapping");
    }
    let whole = |first: u32, size: u32| first.checked_add(size).is_some();
    if maps
        .iter()
        .any(|m| m.size == 0 || !whole(m.container_id, m.size) || !whole(m.host_id, m.size))
    {
        return invalid("a range is empty or does not fit into 32 bits");
    }
    Ok(())
}

fn root_is_mapped(field: &str, maps: &[IdMapping]) -> Result<(), Error> {
    let reason = "id 0 is not mapped, and the container is set up by it".to_owned();
    match outside(maps, 0) {
        Some(_) => Ok(()),
        None => Err(Error::Invalid { field: field.to_owned(), reason }),
    }
}

/// What `uid_map` and `gid_map` have in them.
fn parse(text: &str) -> Option<Vec<IdMapping>> {
    let line = |line: &str| {
        let mut numbers = line.split_whitespace().map(str::parse);
        let mut next = || numbers.next()?.ok();
        Some(IdMapping { container_id: next()?, host_id: next()?, size: next()? })
    };
    text.lines().map(line).collect()
}

/// A user namespace for nothing but to map the owners of a mount by: `uids` and `gids` are those of the mount.
pub(super) fn mount_namespace(
    field: &str,
    uids: &[IdMapping],
    gids: &[IdMapping],
) -> Result<File, Error> {
    check(&format!("{field}.uidMappings"), uids)?;
    check(&format!("{field}.gidMappings"), gids)?;
    let error = |source| Error::Clone { source };
    let inside = Bystander::new(clone::NEWUSER, || Ok(())).map_err(error)?;
    write(inside.pid, "uid_map", &lines(uids))?;
    write(inside.pid, "gid_map", &lines(gids))?;
    File::open(format!("/proc/{}/ns/user", inside.pid)).map_err(|source| error(errno(&source)))
}

/// A process that does nothing but be in a user namespace.
struct Bystander {
    pid: Pid,
    pidfd: OwnedFd,
}

impl Bystander {
    /// Makes one in new namespaces, and lets it do `enter`.
    fn new(namespaces: Namespaces, enter: impl Fn() -> Result<(), Errno>) -> Result<Self, Errno> {
        let (here, there) = pipe2(OFlag::O_CLOEXEC)?;
        match clone::clone3(namespaces, None)? {
            Clone::Child => {
                let errno = enter().err().map_or(0, |errno| errno as i32);
                let _ = nix::unistd::write(&there, &errno.to_ne_bytes());
                loop {
                    nix::unistd::pause();
                }
            }
            Clone::Parent(pid, pidfd) => {
                let entered = Self { pid, pidfd };
                let mut answer = [0; 4];
                nix::unistd::read(&here, &mut answer)?;
                match i32::from_ne_bytes(answer) {
                    0 => Ok(entered),
                    errno => Err(Errno::from_raw(errno)),
                }
            }
        }
    }

    fn read(&self, name: &str) -> Result<String, Errno> {
        fs::read_to_string(format!("/proc/{}/{name}", self.pid)).map_err(|error| errno(&error))
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        // It is there, and waits to be killed.
        let _ = pidfd_send_signal(&self.pidfd, libc::SIGKILL);
        let _ = pidfd_wait(&self.pidfd);
    }
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
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
        let ids = IdMap { uids: maps.clone(), gids: maps, joined: false };
        assert_eq!(ids.host_uid(9), Some(100_009));
        assert_eq!(ids.host_gid(10), Some(5));
        assert_eq!(ids.host_uid(11), None);
        assert!(ids.maps_host_uid(5) && !ids.maps_host_uid(0));
        assert!(!ids.is_identity());
        assert!(check("x", &[map(0, u32::MAX, 2)]).is_err());
        assert!(root_is_mapped("x", &[map(1, 1, 2)]).is_err());
        assert_eq!(parse(&lines(&ids.uids)).unwrap(), ids.uids);
    }
}
