//! What a user sets of a container beyond the basics, and how it changes its specification.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::str::FromStr;

use super::Error;
use super::volume::tmpfs;
use crate::oci::capability::{Capability, CapabilitySet};
use crate::oci::runtime_spec::linux::Resources;
use crate::oci::runtime_spec::{Mount, Rlimit, Spec};

/// The longest host or domain name (`HOST_NAME_MAX`).
const MAX_HOST_NAME: usize = 64;

/// Changes of a specification; what is empty or `None` changes nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Adjustments {
    /// Capabilities beside the usual ones, as [`Capability`] parses them, or `ALL`.
    pub cap_add: Vec<String>,
    /// Capabilities to go without.
    pub cap_drop: Vec<String>,
    /// Remarks for whoever reads the specification.
    pub annotations: BTreeMap<String, String>,
    /// Further lines of `/etc/hosts`.
    pub hosts: Vec<Host>,
    /// Name servers, in the place of those that it would have.
    pub dns: Vec<IpAddr>,
    /// Options of the resolver (`resolv.conf(5)`).
    pub dns_option: Vec<String>,
    /// Domains that names are looked up in.
    pub dns_search: Vec<String>,
    /// The NIS domain name inside.
    pub domainname: Option<String>,
    /// Further groups of its user, by name or number.
    pub group_add: Vec<String>,
    /// How willingly it is killed when memory is short, -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// Limits of memory and processors beside `--memory` and `--cpus`.
    pub resources: Limits,
    /// The size of `/dev/shm`, in bytes.
    pub shm_size: Option<u64>,
    /// Kernel parameters of its namespaces.
    pub sysctl: BTreeMap<String, String>,
    /// File systems in memory.
    pub tmpfs: Vec<Tmpfs>,
    /// Limits of its processes.
    pub ulimit: Vec<Ulimit>,
}

/// Limits by control group.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Limits {
    /// The weight of processor time against others.
    pub cpu_shares: Option<u64>,
    /// Which processors, as `0-2,7`.
    pub cpuset_cpus: Option<String>,
    /// Which memory nodes, as `0-2,7`.
    pub cpuset_mems: Option<String>,
    /// The memory that is left to it when memory is short, in bytes.
    pub memory_reservation: Option<u64>,
    /// Memory and swap together, in bytes.
    pub memory_swap: Option<u64>,
}

/// A name and its address, given as `NAME:ADDRESS`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Host {
    name: String,
    address: IpAddr,
}

/// A file system in memory, given as `PATH[:OPTIONS]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tmpfs {
    destination: String,
    options: Vec<String>,
}

/// A limit of a process, given as `NAME=SOFT[:HARD]`; -1 is none.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ulimit(Rlimit);

impl FromStr for Host {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse = || Error::Value {
            what: "host",
            value: text.to_owned(),
            why: "expected NAME:ADDRESS, as in db:10.0.0.5",
        };
        let (name, address) = text.split_once([':', '=']).ok_or_else(refuse)?;
        let address =
            address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
        let address = address.parse().map_err(|_| refuse())?;
        check_host_name("host", name)?;
        Ok(Self { name: name.to_owned(), address })
    }
}

impl FromStr for Tmpfs {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (destination, options) = text.split_once(':').unwrap_or((text, ""));
        let root = destination.split('/').all(|part| matches!(part, "" | "." | ".."));
        if !destination.starts_with('/') || root || text.contains('\0') {
            let why = "it must be an absolute path, and not the root itself";
            return Err(Error::Value { what: "tmpfs", value: text.to_owned(), why });
        }
        let options: Vec<String> =
            options.split(',').filter(|option| !option.is_empty()).map(str::to_owned).collect();
        if !options.iter().all(|option| tmpfs::is_option(option)) {
            let why = "it has an option that is none of a tmpfs; mount(8) and tmpfs(5) list them";
            return Err(Error::Value { what: "tmpfs", value: text.to_owned(), why });
        }
        Ok(Self { destination: destination.to_owned(), options })
    }
}

impl Tmpfs {
    /// Where it is mounted.
    pub(super) fn destination(&self) -> &str {
        self.destination.trim_end_matches('/')
    }
}

impl FromStr for Ulimit {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        const NAMES: [&str; 15] = [
            "core",
            "cpu",
            "data",
            "fsize",
            "locks",
            "memlock",
            "msgqueue",
            "nice",
            "nofile",
            "nproc",
            "rss",
            "rtprio",
            "rttime",
            "sigpending",
            "stack",
        ];
        let refuse = |why| Error::Value { what: "ulimit", value: text.to_owned(), why };
        let (name, limits) =
            text.split_once('=').ok_or_else(|| refuse("expected NAME=SOFT[:HARD]"))?;
        if !NAMES.contains(&name) {
            return Err(refuse("there is no such limit"));
        }
        let number = |text: &str| match text {
            "-1" | "unlimited" => Ok(u64::MAX),
            number => number.parse().map_err(|_| refuse("expected numbers, or -1 for no limit")),
        };
        let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
        let (soft, hard) = (number(soft)?, number(hard)?);
        if soft > hard {
            return Err(refuse("the soft limit is above the hard one"));
        }
        let kind = format!("RLIMIT_{}", name.to_ascii_uppercase());
        Ok(Self(Rlimit { kind, soft, hard }))
    }
}

/// Refuses what could say more in `/etc/hosts` or to the kernel than a name.
pub(super) fn check_host_name(what: &'static str, name: &str) -> Result<(), Error> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if (1..=MAX_HOST_NAME).contains(&name.len()) && name.bytes().all(good) {
        return Ok(());
    }
    let value = name.chars().take(MAX_HOST_NAME).collect();
    let why = "it must be letters, digits, `-`, `_` and `.`, at most 64";
    Err(Error::Value { what, value, why })
}

impl Adjustments {
    /// Refuses values that would say more in a file than they are meant to.
    pub(super) fn check(&self) -> Result<(), Error> {
        for name in &self.dns_search {
            check_host_name("search domain", name)?;
        }
        for option in &self.dns_option {
            check_host_name("resolver option", &option.replace(':', ""))?;
        }
        self.domainname.iter().try_for_each(|name| check_host_name("domain name", name))
    }

    /// The lines that `/etc/hosts` has besides its own.
    pub(super) fn host_lines(&self) -> String {
        self.hosts.iter().map(|host| format!("{}\t{}\n", host.address, host.name)).collect()
    }

    /// The whole `/etc/resolv.conf`, if anything of it is set.
    pub(super) fn resolv_conf(&self) -> Option<String> {
        if self.dns.is_empty() && self.dns_search.is_empty() && self.dns_option.is_empty() {
            return None;
        }
        let mut text: String = self.dns.iter().map(|dns| format!("nameserver {dns}\n")).collect();
        for (name, values) in [("search", &self.dns_search), ("options", &self.dns_option)] {
            if !values.is_empty() {
                text.push_str(&format!("{name} {}\n", values.join(" ")));
            }
        }
        Some(text)
    }

    /// The capabilities of a container that would usually have `usual`; what is dropped is dropped last, but for `ALL`,
    /// beside which the added ones are what is left, as with docker.
    pub(super) fn capabilities(&self, usual: CapabilitySet) -> Result<CapabilitySet, Error> {
        let is_all = |name: &String| name.eq_ignore_ascii_case("all");
        let parse = |name: &String| {
            name.parse::<Capability>().map_err(|_| Error::Value {
                what: "capability",
                value: name.clone(),
                why: "there is no such capability; capabilities(7) lists them, and there is ALL",
            })
        };
        let mut set = match (self.cap_add.iter().any(is_all), self.cap_drop.iter().any(is_all)) {
            (true, _) => CapabilitySet::all(),
            (false, true) => CapabilitySet::default(),
            (false, false) => usual,
        };
        for name in self.cap_add.iter().filter(|name| !is_all(name)) {
            set.insert(parse(name)?);
        }
        for name in self.cap_drop.iter().filter(|name| !is_all(name)) {
            set.remove(parse(name)?);
        }
        Ok(set)
    }

    /// Changes the specification, but for its capabilities.
    pub(super) fn apply(&self, spec: &mut Spec) {
        spec.annotations.extend(self.annotations.clone());
        spec.domainname.clone_from(&self.domainname);
        if let Some(process) = &mut spec.process {
            process.oom_score_adj = self.oom_score_adj;
            for Ulimit(limit) in &self.ulimit {
                process.rlimits.retain(|known| known.kind != limit.kind);
                process.rlimits.push(limit.clone());
            }
        }
        if let Some(size) = self.shm_size {
            let shm = spec.mounts.iter_mut().filter(|mount| mount.destination == "/dev/shm");
            for mount in shm {
                mount.options.retain(|option| !option.starts_with("size="));
                mount.options.push(format!("size={size}"));
            }
        }
        for tmpfs in &self.tmpfs {
            let mut mount = Mount::of("tmpfs", &tmpfs.destination, &["nosuid", "nodev", "noexec"]);
            mount.options.extend(tmpfs.options.iter().cloned());
            spec.mounts.push(mount);
        }
        let linux = spec.linux.get_or_insert_default();
        linux.sysctl.extend(self.sysctl.clone());
        self.resources.apply(linux.resources.get_or_insert_default());
    }
}

impl Limits {
    fn apply(&self, resources: &mut Resources) {
        let bytes = |bytes: Option<u64>| bytes.and_then(|bytes| i64::try_from(bytes).ok());
        if self.memory_swap.is_some() || self.memory_reservation.is_some() {
            let memory = resources.memory.get_or_insert_default();
            memory.swap = bytes(self.memory_swap).or(memory.swap);
            memory.reservation = bytes(self.memory_reservation);
        }
        if self.cpu_shares.is_some() || self.cpuset_cpus.is_some() || self.cpuset_mems.is_some() {
            let cpu = resources.cpu.get_or_insert_default();
            cpu.shares = self.cpu_shares;
            cpu.cpus.clone_from(&self.cpuset_cpus);
            cpu.mems.clone_from(&self.cpuset_mems);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capabilities(add: &[&str], drop: &[&str]) -> Vec<String> {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let adjust =
            Adjustments { cap_add: names(add), cap_drop: names(drop), ..Adjustments::default() };
        let usual = [Capability::CHOWN, Capability::KILL].into_iter().collect();
        adjust.capabilities(usual).unwrap().iter().map(|c| c.to_string()).collect()
    }

    #[test]
    fn capabilities_are_added_and_dropped() {
        assert_eq!(capabilities(&[], &["kill"]), ["CAP_CHOWN"]);
        assert_eq!(capabilities(&["CAP_KILL"], &["ALL"]), ["CAP_KILL"]);
        assert_eq!(capabilities(&["NET_RAW"], &[]), ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"]);
        let all = capabilities(&["all"], &["SYS_ADMIN"]);
        assert_eq!(all.len(), usize::from(Capability::COUNT) - 1);
    }

    #[test]
    fn hosts_limits_and_tmpfs() {
        let host: Host = "db:10.0.0.5".parse().unwrap();
        assert_eq!(host.address, "10.0.0.5".parse::<IpAddr>().unwrap());
        assert!("db:[::1]".parse::<Host>().is_ok() && "db:::1".parse::<Host>().is_ok());
        for bad in ["db", "db:", ":1.2.3.4", "a b:1.2.3.4", "db\nevil:1.2.3.4", "db:1.2.3.4\n"] {
            assert!(bad.parse::<Host>().is_err(), "{bad:?}");
        }
        let limit =
            |text: &str| text.parse::<Ulimit>().map(|Ulimit(limit)| (limit.soft, limit.hard));
        assert_eq!(limit("nofile=10:20").unwrap(), (10, 20));
        assert_eq!(limit("core=-1").unwrap(), (u64::MAX, u64::MAX));
        for bad in ["nofile", "nosuch=1", "nofile=2:1", "nofile=x"] {
            assert!(limit(bad).is_err(), "{bad}");
        }
        for bad in ["tmp", "/", "/..", "/./:size=1m"] {
            assert!(bad.parse::<Tmpfs>().is_err(), "{bad}");
        }
    }
}
