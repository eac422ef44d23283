//! The runtime configuration, `config.json`: what a container is, for Linux.
//!
//! Specification: runtime-spec 1.3, `config.md` and `config-linux.md`. [`coverage`] lists every field of it and what becomes
//! of it; what the specification does not know is passed over, as it demands.

pub mod coverage;
mod intel_rdt;
pub mod linux;
mod resources;
pub mod scheduling;
pub mod seccomp;

use std::collections::BTreeMap;

use super::capability::CapabilitySet;
use super::descriptor::null_is_empty;
pub use intel_rdt::IntelRdt;
use linux::IdMapping;
pub use linux::Linux;
use scheduling::{CpuAffinity, IoPriority, Scheduler};
use serde::{Deserialize, Serialize};

/// The version of the specification that written documents name.
pub const VERSION: &str = "1.3.0";
/// The largest `config.json` that is read, in bytes.
pub const MAX_SPEC: u64 = 16 << 20;

/// A container's configuration.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// The version of the specification, as `major.minor.patch`.
    pub oci_version: String,
    /// The program to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// The root filesystem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<Root>,
    /// The host name inside; needs a UTS namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The NIS domain name inside; needs a UTS namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domainname: Option<String>,
    /// What is mounted beside the root, in this order.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Programs of the host to run at points of the life cycle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Hooks>,
    /// Free-form remarks. They steer nothing here (CVE-2026-94603).
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
    /// What only Linux has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linux: Option<Linux>,
}

/// The root filesystem.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Root {
    /// Its directory; a relative one starts at the bundle.
    pub path: String,
    /// Whether it is read-only.
    #[serde(default, skip_serializing_if = "is_false")]
    pub readonly: bool,
}

/// One thing to mount.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Mount {
    /// Where, as an absolute path inside.
    pub destination: String,
    /// The filesystem type, as in `/proc/filesystems`; without meaning where the options have `bind` or `rbind`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// What: a path for a bind mount (a relative one starts at the bundle), else what the type asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Options as `mount(8)` knows them, and the specification's own.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// The users on disk (`container_id`), and those of the host that they are shown as (`host_id`).
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub uid_mappings: Vec<IdMapping>,
    /// The same for groups.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub gid_mappings: Vec<IdMapping>,
}

impl Mount {
    /// Something of filesystem type `kind`, mounted from nothing but its name.
    pub fn of(kind: &str, destination: &str, options: &[&str]) -> Self {
        let owned = |text: &str| Some(text.to_owned());
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let destination = destination.to_owned();
        Self { destination, kind: owned(kind), source: owned(kind), options, ..Self::default() }
    }

    /// A directory or file of the host, at `destination`.
    pub fn bind(source: &str, destination: &str, options: &[&str]) -> Self {
        let mut mount = Self::of("bind", destination, options);
        mount.source = Some(source.to_owned());
        if !mount.is_bind() {
            mount.options.push("rbind".to_owned());
        }
        mount
    }

    /// Whether it shows something that is already mounted elsewhere.
    pub fn is_bind(&self) -> bool {
        self.options.iter().any(|option| option == "bind" || option == "rbind")
    }
}

/// The program to run, and as whom.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// Whether it gets a terminal.
    #[serde(default, skip_serializing_if = "is_false")]
    pub terminal: bool,
    /// The terminal's size at first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub console_size: Option<ConsoleSize>,
    /// Who runs it.
    #[serde(default)]
    pub user: User,
    /// The program and its arguments.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// `NAME=value` entries; the program gets these and no others.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// The directory to start in: absolute.
    pub cwd: String,
    /// Its capabilities; without them it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    /// Its resource limits.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub rlimits: Vec<Rlimit>,
    /// Whether no program may gain privileges by being executed (`no_new_privs`).
    #[serde(default, skip_serializing_if = "is_false")]
    pub no_new_privileges: bool,
    /// The AppArmor profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apparmor_profile: Option<String>,
    /// The SELinux label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selinux_label: Option<String>,
    /// How willingly the kernel kills it when memory runs out: -1000 (never) to 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
    /// When it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<Scheduler>,
    /// When it reads and writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_priority: Option<IoPriority>,
    /// On which processors it starts, if it joins a container.
    #[serde(default, rename = "execCPUAffinity", skip_serializing_if = "Option::is_none")]
    pub exec_cpu_affinity: Option<CpuAffinity>,
}

/// A terminal's size, in characters.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct ConsoleSize {
    /// Rows.
    pub height: u16,
    /// Columns.
    pub width: u16,
}

/// The identity of the program: numbers inside the container's user namespace.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// The user.
    #[serde(default)]
    pub uid: u32,
    /// The primary group.
    #[serde(default)]
    pub gid: u32,
    /// The file mode creation mask; 0022 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub umask: Option<u32>,
    /// The supplementary groups.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub additional_gids: Vec<u32>,
}

/// The five sets of `capabilities(7)`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Capabilities {
    /// What can ever be gained.
    #[serde(default, skip_serializing_if = "CapabilitySet::is_empty")]
    pub bounding: CapabilitySet,
    /// What counts now.
    #[serde(default, skip_serializing_if = "CapabilitySet::is_empty")]
    pub effective: CapabilitySet,
    /// What files may hand on. A set here lets unprivileged users gain it (CVE-2022-24769): none unless asked.
    #[serde(default, skip_serializing_if = "CapabilitySet::is_empty")]
    pub inheritable: CapabilitySet,
    /// What may be made effective.
    #[serde(default, skip_serializing_if = "CapabilitySet::is_empty")]
    pub permitted: CapabilitySet,
    /// What an unprivileged user keeps when executing.
    #[serde(default, skip_serializing_if = "CapabilitySet::is_empty")]
    pub ambient: CapabilitySet,
}

impl Capabilities {
    /// `set` as bounding, effective and permitted, and nothing to inherit.
    pub fn bounded(set: CapabilitySet) -> Self {
        let (bounding, effective) = (set.clone(), set.clone());
        Self { bounding, effective, permitted: set, ..Self::default() }
    }
}

/// A resource limit of `getrlimit(2)`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Rlimit {
    /// Its name: `RLIMIT_NOFILE`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The limit in force; `u64::MAX` for none.
    pub soft: u64,
    /// How far the soft limit may be raised.
    pub hard: u64,
}

/// Programs of the host to run at points of the life cycle.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Hooks {
    /// The deprecated name of `create_runtime`.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub prestart: Vec<Hook>,
    /// With the namespaces made and nothing mounted; run outside.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub create_runtime: Vec<Hook>,
    /// With everything mounted, before `pivot_root`; run in the container's namespaces.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub create_container: Vec<Hook>,
    /// Just before the program; run inside.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub start_container: Vec<Hook>,
    /// Behind the start; run outside.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub poststart: Vec<Hook>,
    /// Behind the end; run outside.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub poststop: Vec<Hook>,
}

/// One program to run with the container's state on its standard input.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Hook {
    /// The program: an absolute path.
    pub path: String,
    /// Its arguments, itself first.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Its whole environment.
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// After how many seconds it is killed, and the operation fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u32>,
}

/// The kinds of hooks.
pub mod hooks {
    /// Their names, in the order in which they run.
    pub const NAMES: [&str; 6] =
        ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(value: &bool) -> bool {
    !value
}
