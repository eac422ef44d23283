//! Limits and surroundings of a container's processes that few ask for.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::Error;
use crate::oci::runtime_spec::linux::{Domain, Personality, Resources};
use crate::oci::runtime_spec::{Mount, Spec};

/// Where time zones are, by their names (`tzset(3)`).
const ZONES: &str = "/usr/share/zoneinfo";
/// The machine's own.
const LOCAL: &str = "/etc/localtime";
/// The largest file of a time zone that is read, in bytes; they have a few KB.
const MAX_ZONE: u64 = 1 << 20;
/// What such a file begins with (RFC 9636).
const ZONE_MAGIC: &[u8] = b"TZif";

/// What a user sets; what is `None` or empty changes nothing.
#[derive(Clone, Debug, Default)]
pub struct Tuning {
    /// The control group that the container's is made in, in the place of `mydocker`.
    pub cgroup_parent: Option<String>,
    /// Files of its version 2 group, and what is written there.
    pub cgroup_conf: BTreeMap<String, String>,
    /// The period over which processor time is counted out, in microseconds.
    pub cpu_period: Option<u64>,
    /// The processor time in each period, in microseconds.
    pub cpu_quota: Option<i64>,
    /// The same for real-time scheduling.
    pub cpu_rt_period: Option<u64>,
    /// The same for real-time scheduling.
    pub cpu_rt_runtime: Option<i64>,
    /// How willingly it is swapped out: 0 to 100.
    pub memory_swappiness: Option<u64>,
    /// Whether its processes wait, and are not killed, when memory runs out.
    pub oom_kill_disable: bool,
    /// The time zone: `local` for the host's, or a name.
    pub time_zone: Option<String>,
    /// The file mode creation mask.
    pub umask: Option<u32>,
    /// Whether `uname(2)` tells of a 32-bit machine.
    pub linux32: bool,
    /// The environment that all else is added to.
    pub env: Vec<(String, String)>,
    /// Variables that neither the image nor this program sets.
    pub unset_env: Vec<String>,
    /// Whether the image and this program set none at all.
    pub unset_all: bool,
}

impl Tuning {
    /// Where the control group of the container `id` is in each hierarchy.
    pub(super) fn cgroups_path(&self, id: &str) -> String {
        match self.cgroup_parent.as_deref().map(|parent| parent.trim_matches('/')) {
            None | Some("") => format!("/mydocker/{id}"),
            Some(parent) => format!("/{parent}/{id}"),
        }
    }

    pub(super) fn limit(&self, resources: &mut Resources) {
        let has_cpu = [self.cpu_period, self.cpu_rt_period].iter().any(Option::is_some)
            || [self.cpu_quota, self.cpu_rt_runtime].iter().any(Option::is_some);
        if has_cpu {
            let cpu = resources.cpu.get_or_insert_default();
            cpu.period = self.cpu_period.or(cpu.period);
            cpu.quota = self.cpu_quota.or(cpu.quota);
            cpu.realtime_period = self.cpu_rt_period;
            cpu.realtime_runtime = self.cpu_rt_runtime;
        }
        if self.memory_swappiness.is_some() || self.oom_kill_disable {
            let memory = resources.memory.get_or_insert_default();
            memory.swappiness = self.memory_swappiness;
            memory.disable_oom_killer = self.oom_kill_disable.then_some(true);
        }
        resources.unified.extend(self.cgroup_conf.clone());
    }

    /// Whether the image's or this program's variable of this name is left out.
    pub(super) fn unsets(&self, name: &str) -> bool {
        self.unset_all || self.unset_env.iter().any(|unset| unset == name)
    }

    /// Changes the specification of a container that keeps its files in `folder`.
    pub(super) fn apply(&self, spec: &mut Spec, folder: &Path) {
        if let Some(process) = &mut spec.process {
            process.user.umask = self.umask;
        }
        if self.linux32 {
            let personality = Personality { domain: Domain::Linux32, flags: Vec::new() };
            spec.linux.get_or_insert_default().personality = Some(personality);
        }
        if self.time_zone.is_some() {
            let source = folder.join("localtime").display().to_string();
            let options = ["bind", "rprivate", "nosuid", "nodev", "noexec", "ro"];
            spec.mounts.push(Mount::bind(&source, LOCAL, &options));
        }
    }

    /// Writes the time zone into the container's folder. It is a copy, as the host's own may be replaced at any time.
    pub(super) fn write(&self, folder: &Path) -> Result<(), Error> {
        let Some(name) = &self.time_zone else { return Ok(()) };
        let refuse = |why| Error::Value { what: "time zone", value: name.clone(), why };
        let path = match name.as_str() {
            "local" => PathBuf::from(LOCAL),
            name => {
                let good = |c: char| c.is_ascii_alphanumeric() || "/_+-".contains(c);
                if !name.chars().all(good) || name.starts_with('/') {
                    return Err(refuse("expected local, or a name such as Europe/Vienna"));
                }
                Path::new(ZONES).join(name)
            }
        };
        let failed = |source| Error::Io { verb: "read", path: path.clone(), source };
        let mut zone = Vec::new();
        let file = File::open(&path).map_err(failed)?;
        file.take(MAX_ZONE).read_to_end(&mut zone).map_err(failed)?;
        if !zone.starts_with(ZONE_MAGIC) {
            return Err(refuse("its file on this machine is none of a time zone"));
        }
        let path = folder.join("localtime");
        fs::write(&path, zone).map_err(|source| Error::Io { verb: "write", path, source })
    }
}
