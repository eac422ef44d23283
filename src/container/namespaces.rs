//! Whose namespaces a container is in: its own, the host's, or another container's.
//!
//! Namespaces belong to the user namespace that they were made in, and only who is in that has power over them: a container
//! that joins another's is therefore one of its users, too. They are joined by the first process of the other container, which
//! is looked up anew at each start.

use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Error;
use super::ids::IdRange;
use super::options::{Network, RunOptions, UserNamespace};
use super::record::{Containers, Record};
use crate::oci::runtime_spec::Spec;
use crate::oci::runtime_spec::linux::{Namespace, NamespaceKind};
use crate::runtime::{self, Init};

/// Where POSIX shared memory and semaphores live, which belong to an IPC namespace as users see it.
pub(super) const SHM: &str = "/dev/shm";

/// Whose namespace of one kind a container is in.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Share {
    /// Its own.
    #[default]
    Private,
    /// The host's.
    Host,
    /// That of another container.
    Container(String),
}

/// Whose IPC namespace a container is in.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Ipc {
    /// Its own, which others can join.
    #[default]
    Private,
    /// Its own, without `/dev/shm`.
    None,
    /// The host's, with its `/dev/shm`.
    Host,
    /// That of another container, with its `/dev/shm`.
    Container(String),
}

/// The namespaces beside those of users and of the network.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Namespaces {
    /// Control groups: its own or the host's.
    pub cgroup: Share,
    /// System V IPC and POSIX message queues.
    pub ipc: Ipc,
    /// Processes.
    pub pid: Share,
    /// Host and domain names.
    pub uts: Share,
}

impl FromStr for Share {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let why = "there are private, host and container:NAME";
        match text {
            "" | "private" => Ok(Self::Private),
            "host" => Ok(Self::Host),
            other => container(other).map(Self::Container).ok_or_else(|| refuse(text, why)),
        }
    }
}

impl FromStr for Ipc {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let why = "there are private, shareable, none, host and container:NAME";
        match text {
            "" | "private" | "shareable" => Ok(Self::Private),
            "none" => Ok(Self::None),
            "host" => Ok(Self::Host),
            other => container(other).map(Self::Container).ok_or_else(|| refuse(text, why)),
        }
    }
}

/// The container that `container:NAME` names.
pub(super) fn container(text: &str) -> Option<String> {
    let name = text.strip_prefix("container:").filter(|name| !name.is_empty())?;
    Some(name.to_owned())
}

fn refuse(value: &str, why: &'static str) -> Error {
    Error::Value { what: "namespace", value: value.chars().take(256).collect(), why }
}

/// A namespace of another container's.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Join {
    /// What kind it is.
    pub kind: NamespaceKind,
    /// The container's id.
    pub container: String,
}

/// The other containers that a new one joins, and what of the new one follows from that.
#[derive(Debug, Default)]
pub(super) struct Joins {
    pub(super) list: Vec<Join>,
    /// Whose user namespace it shares by being started in there, as containers of an ordinary user are.
    pub(super) users: Option<Join>,
    /// Whose network it shares.
    pub(super) network: Option<Record>,
    /// The host name there, if it shares those.
    pub(super) hostname: Option<String>,
}

impl Joins {
    /// Looks the containers up that `options` name.
    pub(super) fn find(containers: &Containers, options: &RunOptions) -> Result<Self, Error> {
        let mut joins = Self::default();
        let mut owners = Vec::new();
        let mut join = |kind, name: &str| -> Result<Record, Error> {
            let record = containers.find(name)?;
            owners.push((record.id.clone(), owner(containers, &record)?));
            joins.list.push(Join { kind, container: record.id.clone() });
            Ok(record)
        };
        let namespaces = &options.namespaces;
        if let Share::Container(name) = &namespaces.pid {
            join(NamespaceKind::Pid, name)?;
        }
        if let Ipc::Container(name) = &namespaces.ipc {
            join(NamespaceKind::Ipc, name)?;
        }
        let mut hostname = None;
        if let Share::Container(name) = &namespaces.uts {
            let record = join(NamespaceKind::Uts, name)?;
            hostname = containers.spec(&record.id)?.hostname;
        }
        let mut network = None;
        if let Network::Container(name) = &options.network {
            let record = join(NamespaceKind::Network, name)?;
            // Docker's containers on one network have one name.
            hostname = hostname.or(containers.spec(&record.id)?.hostname);
            network = Some(record);
        }
        if let UserNamespace::Container(name) = &options.user_namespace {
            let record = containers.find(name)?;
            let has_own = owner(containers, &record)?.is_some();
            let join = Join { kind: NamespaceKind::User, container: record.id };
            match has_own {
                true => joins.list.push(join),
                false if !runtime::rootless::has_all_ids() => joins.users = Some(join),
                false => {
                    let why = "it has no user namespace of its own: use --userns host";
                    return Err(refuse(name, why));
                }
            }
            owners.clear();
        }
        joins.list.extend(user(options, &owners)?);
        Ok(Self { network, hostname, ..joins })
    }

    pub(super) fn of(&self, kind: NamespaceKind) -> bool {
        self.list.iter().any(|join| join.kind == kind)
    }
}

/// The user namespace that the owners of what is joined have in common.
fn user(options: &RunOptions, owners: &[(String, Option<String>)]) -> Result<Option<Join>, Error> {
    let Some((container, first)) = owners.first() else { return Ok(None) };
    match options.user_namespace {
        UserNamespace::Host | UserNamespace::Container(_) => Ok(None),
        UserNamespace::Private => Err(refuse(
            container,
            "it belongs to the users of that container: leave out --userns private",
        )),
        UserNamespace::Usual if owners.iter().any(|(_, other)| other != first) => {
            Err(refuse(container, "containers with different users are joined: use --userns host"))
        }
        // Both are in the one that an ordinary user's command is in.
        UserNamespace::Usual if first.is_none() && !runtime::rootless::has_all_ids() => Ok(None),
        UserNamespace::Usual if first.is_none() => Err(refuse(
            container,
            "that container is in the host's user namespace: use --userns host as well",
        )),
        UserNamespace::Usual => {
            Ok(Some(Join { kind: NamespaceKind::User, container: container.clone() }))
        }
    }
}

/// The container that has made the user namespace that this one is in, if it is not the host's.
fn owner(containers: &Containers, record: &Record) -> Result<Option<String>, Error> {
    if let Some(join) = record.joins.iter().find(|join| join.kind == NamespaceKind::User) {
        return match containers.read(&join.container)? {
            Some(next) if next.id != record.id => owner(containers, &next),
            _ => Ok(Some(join.container.clone())),
        };
    }
    let spec = containers.spec(&record.id)?;
    let own = spec.linux.as_ref().and_then(|linux| linux.namespace(NamespaceKind::User));
    Ok(own.map(|_| record.id.clone()))
}

/// The namespaces that a container has, where those of others have no path yet.
pub(super) fn list(options: &RunOptions, joins: &Joins, own_users: bool) -> Vec<Namespace> {
    use NamespaceKind::{Cgroup, Ipc as IpcKind, Mount, Network as Net, Pid, User, Uts};
    let wanted = &options.namespaces;
    let private = |share: &Share| *share == Share::Private;
    let new = [
        (Pid, private(&wanted.pid)),
        (IpcKind, matches!(wanted.ipc, Ipc::Private | Ipc::None)),
        (Uts, private(&wanted.uts)),
        (Mount, true),
        (Cgroup, private(&wanted.cgroup)),
        (Net, options.network == Network::None),
        (User, own_users),
    ];
    let new = new.into_iter().filter(|(_, new)| *new);
    let new = new.map(|(kind, _)| Namespace { kind, path: None });
    // A path that leads nowhere until a start puts the real one in its place.
    let joined = joins.list.iter().map(|join| Namespace {
        kind: join.kind,
        path: Some(format!("/nonexistent/{}", join.container)),
    });
    new.chain(joined).collect()
}

/// The namespaces of other containers, held open.
#[derive(Debug, Default)]
pub(super) struct Opened {
    files: Vec<(NamespaceKind, File)>,
    /// The ids of the users that are joined.
    pub(super) ids: Option<IdRange>,
    /// Mounts that come along, by where they go.
    mounts: Vec<(String, OwnedFd)>,
}

/// Opens the namespaces that a container joins.
pub(super) fn open(containers: &Containers, joins: &[Join]) -> Result<Opened, Error> {
    let mut opened = Opened::default();
    for join in joins {
        let missing = || Error::NoSuchContainer(join.container.clone());
        let record = containers.read(&join.container)?.ok_or_else(missing)?;
        let status = containers.status(&record);
        let init = status.running().and_then(|running| running.process.find());
        let init = init.ok_or_else(|| Error::NotRunning(record.name.clone()))?;
        if !runtime::rootless::has_all_ids()
            && owner(containers, &record)?.is_none()
            && !init.shares_users()
        {
            let why = "it is in another user namespace: stop it, and start it again";
            return Err(refuse(&record.name, why));
        }
        let path = PathBuf::from(format!("/proc/{}/ns/{}", init.pid(), file_name(join.kind)));
        let file = File::open(&path).map_err(|source| Error::Io { verb: "open", path, source })?;
        // What has been opened by its number is its own, and no other process's, if it lives behind that.
        init.kill(0)?;
        opened.files.push((join.kind, file));
        match join.kind {
            NamespaceKind::User => opened.ids = record.ids,
            NamespaceKind::Ipc => opened.mounts.extend(shared_memory(containers, &record, &init)?),
            _ => {}
        }
    }
    Ok(opened)
}

/// The other container's `/dev/shm`, if it has one.
fn shared_memory(
    containers: &Containers,
    record: &Record,
    init: &Init,
) -> Result<Option<(String, OwnedFd)>, Error> {
    let spec = containers.spec(&record.id)?;
    if !spec.mounts.iter().any(|mount| mount.destination == SHM) {
        return Ok(None);
    }
    Ok(Some((SHM.to_owned(), runtime::open_mount(init, c"dev/shm")?)))
}

fn file_name(kind: NamespaceKind) -> &'static str {
    match kind {
        NamespaceKind::Cgroup => "cgroup",
        NamespaceKind::Ipc => "ipc",
        NamespaceKind::Mount => "mnt",
        NamespaceKind::Network => "net",
        NamespaceKind::Pid => "pid",
        NamespaceKind::Time => "time",
        NamespaceKind::User => "user",
        NamespaceKind::Uts => "uts",
    }
}

impl Opened {
    /// Puts them into the specification, for as long as this is there; what is left are the mounts.
    pub(super) fn apply(&self, spec: &mut Spec) {
        let Some(linux) = &mut spec.linux else { return };
        for namespace in linux.namespaces.iter_mut().filter(|namespace| namespace.path.is_some()) {
            let file = self.files.iter().find(|(kind, _)| *kind == namespace.kind);
            if let Some((_, file)) = file {
                namespace.path = Some(format!("/proc/self/fd/{}", file.as_fd().as_raw_fd()));
            }
        }
    }

    /// The mounts that come along.
    pub(super) fn take_mounts(&mut self) -> Vec<(String, OwnedFd)> {
        std::mem::take(&mut self.mounts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_namespaces() {
        let web = || "web".to_owned();
        assert_eq!("container:web".parse::<Share>().unwrap(), Share::Container(web()));
        assert_eq!("host".parse::<Share>().unwrap(), Share::Host);
        assert_eq!("container:web".parse::<Ipc>().unwrap(), Ipc::Container(web()));
        assert_eq!("shareable".parse::<Ipc>().unwrap(), Ipc::Private);
        for bad in ["container:", "none", "pod", "ns:/proc/1/ns/pid"] {
            assert!(bad.parse::<Share>().is_err(), "{bad}");
        }
        assert!("container:".parse::<Ipc>().is_err());
    }
}
