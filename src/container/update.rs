//! `update`: other limits and another restart policy for a container, whether it runs or not.

use nix::fcntl::FlockArg;

use super::record::{replace, to_json};
use super::settings::RestartPolicy;
use super::{Containers, Error, Record, spec};
use crate::oci::runtime_spec::linux::{Cpu, Memory, Pids, Resources};

/// What is to be different; what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change {
    /// The weight of processor time against others.
    pub cpu_shares: Option<u64>,
    /// The limit of processor time, in processors.
    pub cpus: Option<f64>,
    /// Which processors, as `0-2,7`.
    pub cpuset_cpus: Option<String>,
    /// Which memory nodes, as `0-2,7`.
    pub cpuset_mems: Option<String>,
    /// The limit of memory, in bytes.
    pub memory: Option<u64>,
    /// The limit of memory and swap together, in bytes.
    pub memory_swap: Option<u64>,
    /// The limit of processes; none where it is not positive.
    pub pids_limit: Option<i64>,
    /// Whether it is started again.
    pub restart: Option<RestartPolicy>,
}

/// Changes a container. Limits of one that runs hold at once; those of one that does not, from its next start on.
///
/// # Errors
/// What the kernel refuses; then nothing is written down.
pub fn update(containers: &Containers, record: &Record, change: &Change) -> Result<(), Error> {
    let resources = change.resources();
    if resources != Resources::default() {
        let _lock = containers.lock(&record.id, FlockArg::LockExclusive)?;
        if let Some(running) = containers.status(record).running().filter(|r| r.process.pid != 0) {
            running.groups.update(&resources)?;
        }
        let mut spec = containers.spec(&record.id)?;
        let linux = spec.linux.get_or_insert_default();
        merge(linux.resources.get_or_insert_default(), resources);
        let path = containers.folder(&record.id).join("config.json");
        replace(&path, &to_json(&spec, &path)?)?;
    }
    if let Some(restart) = change.restart {
        containers.modify(&record.id, |record| record.settings.restart = restart)?;
    }
    containers.tell(record, "update", &[]);
    Ok(())
}

impl Change {
    fn resources(&self) -> Resources {
        let bytes = |bytes: Option<u64>| bytes.and_then(|bytes| i64::try_from(bytes).ok());
        let memory = (self.memory.is_some() || self.memory_swap.is_some()).then(|| {
            let limited = bytes(self.memory).map(Memory::limited).unwrap_or_default();
            Memory { swap: bytes(self.memory_swap).or(limited.swap), ..limited }
        });
        let quota = self.cpus.map(spec::quota);
        let cpu = Cpu {
            shares: self.cpu_shares,
            quota: quota.map(|(quota, _)| quota),
            period: quota.map(|(_, period)| period),
            cpus: self.cpuset_cpus.clone(),
            mems: self.cpuset_mems.clone(),
            ..Cpu::default()
        };
        let limit = |limit: i64| Pids { limit: Some(if limit > 0 { limit } else { -1 }) };
        Resources {
            memory,
            cpu: (cpu != Cpu::default()).then_some(cpu),
            pids: self.pids_limit.map(limit),
            ..Resources::default()
        }
    }
}

fn merge(holds: &mut Resources, change: Resources) {
    if let Some(new) = change.memory {
        let memory = holds.memory.get_or_insert_default();
        memory.limit = new.limit.or(memory.limit);
        memory.swap = new.swap.or(memory.swap);
    }
    if let Some(new) = change.cpu {
        let cpu = holds.cpu.get_or_insert_default();
        cpu.shares = new.shares.or(cpu.shares);
        cpu.quota = new.quota.or(cpu.quota);
        cpu.period = new.period.or(cpu.period);
        cpu.cpus = new.cpus.or_else(|| cpu.cpus.take());
        cpu.mems = new.mems.or_else(|| cpu.mems.take());
    }
    holds.pids = change.pids.or(holds.pids);
}
