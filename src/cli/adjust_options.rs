//! The options of `run` and `create` that only change a container's specification.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::container_options::{parse, parse_size};
use super::failure::Failure;
use crate::container::{Adjustments, Host, Limits, Tmpfs, Ulimit};

/// What is beyond the basics.
#[derive(Debug, clap::Args)]
pub(super) struct AdjustArgs {
    /// Further line of /etc/hosts
    #[arg(long, value_name = "NAME:ADDRESS", value_parser = parse::<Host>)]
    add_host: Vec<Host>,
    /// Remark in its specification
    #[arg(long, value_name = "NAME=VALUE")]
    annotation: Vec<String>,
    /// Capability beside the usual ones, or ALL
    #[arg(long, value_name = "CAPABILITY")]
    cap_add: Vec<String>,
    /// Capability to go without, or ALL
    #[arg(long, value_name = "CAPABILITY")]
    cap_drop: Vec<String>,
    /// Weight of processor time against others; 1024 is usual
    #[arg(short, long, value_name = "NUMBER")]
    cpu_shares: Option<u64>,
    /// Which processors it may use, as in 0-2,7
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Which memory nodes it may use, as in 0-2,7
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Name server
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<IpAddr>,
    /// Option of the resolver
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION")]
    dns_option: Vec<String>,
    /// Domain that names are looked up in
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// NIS domain name inside
    #[arg(long, value_name = "NAME")]
    domainname: Option<String>,
    /// Further group of its user; keep-groups for those of the ordinary user who calls
    #[arg(long, value_name = "GROUP")]
    group_add: Vec<String>,
    /// Memory that is left to it when memory is short
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    memory_reservation: Option<u64>,
    /// Memory and swap together
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    memory_swap: Option<u64>,
    /// How willingly it is killed when memory is short, -1000 to 1000
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true, value_parser = clap::value_parser!(i32).range(-1000..=1000))]
    oom_score_adj: Option<i32>,
    /// Size of /dev/shm, as in 64m
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    shm_size: Option<u64>,
    /// Kernel parameter of its namespaces
    #[arg(long, value_name = "NAME=VALUE")]
    sysctl: Vec<String>,
    /// File system in memory, as in /tmp:size=64m
    #[arg(long, value_name = "PATH[:OPTIONS]", value_parser = parse::<Tmpfs>)]
    tmpfs: Vec<Tmpfs>,
    /// Limit of its processes, as in nofile=1024:2048
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = parse::<Ulimit>)]
    ulimit: Vec<Ulimit>,
}

impl AdjustArgs {
    pub(super) fn adjustments(&self, what: &str) -> Result<Adjustments, Failure> {
        Ok(Adjustments {
            cap_add: self.cap_add.clone(),
            cap_drop: self.cap_drop.clone(),
            annotations: pairs("--annotation", &self.annotation, what)?,
            hosts: self.add_host.clone(),
            dns: self.dns.clone(),
            dns_option: self.dns_option.clone(),
            dns_search: self.dns_search.clone(),
            domainname: self.domainname.clone(),
            group_add: self.group_add.clone(),
            oom_score_adj: self.oom_score_adj,
            resources: Limits {
                cpu_shares: self.cpu_shares,
                cpuset_cpus: self.cpuset_cpus.clone(),
                cpuset_mems: self.cpuset_mems.clone(),
                memory_reservation: self.memory_reservation,
                memory_swap: self.memory_swap,
            },
            shm_size: self.shm_size,
            sysctl: pairs("--sysctl", &self.sysctl, what)?,
            tmpfs: self.tmpfs.clone(),
            ulimit: self.ulimit.clone(),
        })
    }
}

pub(super) fn pairs(
    option: &str,
    given: &[String],
    what: &str,
) -> Result<BTreeMap<String, String>, Failure> {
    let pair = |text: &String| match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => {
            let cause = format!("{option} `{text}`: expected NAME=VALUE");
            Err(Failure::new(what, cause, "the name comes first, then `=` and the value"))
        }
    };
    given.iter().map(pair).collect()
}
