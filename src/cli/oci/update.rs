//! `update`: other limits for a container that runs.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Args;

use super::{OciError, bundle};
use crate::oci::runtime_spec::MAX_SPEC;
use crate::oci::runtime_spec::linux::{BlockIo, Cpu, Memory, Pids, Resources};
use crate::runtime::{Container, States};

#[derive(Args, Debug)]
pub(super) struct UpdateArgs {
    /// Limits as the specification writes them, in JSON; `-` is standard input. Options are then passed over
    #[arg(short, long, value_name = "FILE")]
    resources: Option<PathBuf>,
    /// Weight of block devices, 10 to 1000
    #[arg(long, value_name = "NUMBER")]
    blkio_weight: Option<u16>,
    /// Length of a period of processor time, in microseconds
    #[arg(long, value_name = "NUMBER")]
    cpu_period: Option<u64>,
    /// Processor time in each period, in microseconds; -1 for any
    #[arg(long, allow_negative_numbers = true, value_name = "NUMBER")]
    cpu_quota: Option<i64>,
    /// Processor time that can be saved up, in microseconds
    #[arg(long, value_name = "NUMBER")]
    cpu_burst: Option<u64>,
    /// Weight of processor time; 1024 is usual
    #[arg(long, value_name = "NUMBER")]
    cpu_share: Option<u64>,
    /// Length of a period of real-time scheduling, in microseconds
    #[arg(long, value_name = "NUMBER")]
    cpu_rt_period: Option<u64>,
    /// Real-time scheduling in each period, in microseconds
    #[arg(long, allow_negative_numbers = true, value_name = "NUMBER")]
    cpu_rt_runtime: Option<i64>,
    /// 1 to run only when nothing else does
    #[arg(long, value_name = "NUMBER")]
    cpu_idle: Option<i64>,
    /// Parts of the caches of level 3, of a container that was made with `linux.intelRdt`: L3:0=7f0;1=1f
    #[arg(long, value_name = "SCHEMA")]
    l3_cache_schema: Option<String>,
    /// Memory bandwidth, of a container that was made with `linux.intelRdt`: MB:0=20;1=70
    #[arg(long, value_name = "SCHEMA")]
    mem_bw_schema: Option<String>,
    /// Processors, as 0-2,7
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory nodes, as 0-2,7
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Accepted and without effect: kernels since 5.16 have no such limit
    #[arg(long, allow_negative_numbers = true, value_parser = bytes, value_name = "BYTES")]
    kernel_memory: Option<i64>,
    /// The kernel's memory for TCP
    #[arg(long, allow_negative_numbers = true, value_parser = bytes, value_name = "BYTES")]
    kernel_memory_tcp: Option<i64>,
    /// Memory; -1 for any
    #[arg(long, allow_negative_numbers = true, value_parser = bytes, value_name = "BYTES")]
    memory: Option<i64>,
    /// Memory that can be kept when it is short
    #[arg(long, allow_negative_numbers = true, value_parser = bytes, value_name = "BYTES")]
    memory_reservation: Option<i64>,
    /// Memory and swap together; -1 for any
    #[arg(long, allow_negative_numbers = true, value_parser = bytes, value_name = "BYTES")]
    memory_swap: Option<i64>,
    /// Tasks; -1 for any number
    #[arg(long, allow_negative_numbers = true, value_name = "NUMBER")]
    pids_limit: Option<i64>,
    /// The container's name
    #[arg(value_name = "CONTAINER")]
    id: String,
}

/// A number of bytes, with a unit of 1024 or none: `64m`.
fn bytes(text: &str) -> Result<i64, String> {
    let lower = text.to_ascii_lowercase();
    let number = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match lower[number.len()..].trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err("its unit is not k, m, g or t".to_owned()),
    };
    let number: i64 = number.parse().map_err(|_| "it is no number".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "it is too much".to_owned())
}

pub(super) fn run(states: &States, args: &UpdateArgs) -> Result<(), OciError> {
    let change = match &args.resources {
        Some(path) if path == Path::new("-") => standard_input()?,
        Some(path) => bundle::read(path)?,
        None => args.resources(),
    };
    let container = Container::open_locked(states, &args.id)?;
    if args.l3_cache_schema.is_some() || args.mem_bw_schema.is_some() {
        container.update_class(|rdt| {
            rdt.l3_cache_schema = args.l3_cache_schema.clone().or(rdt.l3_cache_schema.take());
            rdt.mem_bw_schema = args.mem_bw_schema.clone().or(rdt.mem_bw_schema.take());
        })?;
    }
    Ok(container.update(|resources| merge(resources, change))?)
}

fn standard_input() -> Result<Resources, OciError> {
    let path = Path::new("standard input");
    let mut text = Vec::new();
    let read = std::io::stdin().lock().take(MAX_SPEC).read_to_end(&mut text);
    read.map_err(OciError::file("read", path))?;
    let path = path.to_owned();
    serde_json::from_slice(&text).map_err(|source| OciError::Parse { path, source })
}

impl UpdateArgs {
    fn resources(&self) -> Resources {
        Resources {
            memory: Some(Memory {
                limit: self.memory,
                reservation: self.memory_reservation,
                swap: self.memory_swap,
                kernel_tcp: self.kernel_memory_tcp,
                ..Memory::default()
            }),
            cpu: Some(Cpu {
                shares: self.cpu_share,
                quota: self.cpu_quota,
                burst: self.cpu_burst,
                period: self.cpu_period,
                realtime_runtime: self.cpu_rt_runtime,
                realtime_period: self.cpu_rt_period,
                cpus: self.cpuset_cpus.clone(),
                mems: self.cpuset_mems.clone(),
                idle: self.cpu_idle,
            }),
            pids: self.pids_limit.map(|limit| Pids { limit: Some(limit) }),
            block_io: self
                .blkio_weight
                .map(|weight| BlockIo { weight: Some(weight), ..BlockIo::default() }),
            ..Resources::default()
        }
    }
}

/// Puts what `change` sets over what holds. Zeros and empty lists of processors set nothing: engines write them for what
/// they do not mean.
fn merge(holds: &mut Resources, change: Resources) {
    fn set<T: PartialEq + Default>(holds: &mut Option<T>, change: Option<T>) {
        if change.as_ref().is_some_and(|value| *value != T::default()) {
            *holds = change;
        }
    }
    let memory = holds.memory.get_or_insert_default();
    let new = change.memory.unwrap_or_default();
    if new.limit == Some(-1) && new.swap.is_none_or(|swap| swap == 0) {
        // Where memory has no limit, memory and swap together can have none.
        set(&mut memory.swap, Some(-1));
    }
    set(&mut memory.limit, new.limit);
    set(&mut memory.reservation, new.reservation);
    set(&mut memory.swap, new.swap);
    set(&mut memory.kernel_tcp, new.kernel_tcp);
    set(&mut memory.swappiness, new.swappiness);
    // How this one change is made, and no limit.
    memory.check_before_update = new.check_before_update;
    let cpu = holds.cpu.get_or_insert_default();
    let new = change.cpu.unwrap_or_default();
    set(&mut cpu.shares, new.shares);
    set(&mut cpu.quota, new.quota);
    set(&mut cpu.period, new.period);
    set(&mut cpu.realtime_runtime, new.realtime_runtime);
    set(&mut cpu.realtime_period, new.realtime_period);
    set(&mut cpu.cpus, new.cpus);
    set(&mut cpu.mems, new.mems);
    // Of these two, 0 is a value.
    cpu.burst = new.burst.or(cpu.burst);
    cpu.idle = new.idle.or(cpu.idle);
    let limit = change.pids.and_then(|pids| pids.limit).filter(|limit| *limit != 0);
    if limit.is_some() {
        holds.pids = Some(Pids { limit });
    }
    if let Some(new) = change.block_io {
        let io = holds.block_io.get_or_insert_default();
        set(&mut io.weight, new.weight);
        set(&mut io.leaf_weight, new.leaf_weight);
        if !new.weight_device.is_empty() {
            io.weight_device = new.weight_device;
        }
        let lists = [
            (&mut io.throttle_read_bps_device, new.throttle_read_bps_device),
            (&mut io.throttle_write_bps_device, new.throttle_write_bps_device),
            (&mut io.throttle_read_iops_device, new.throttle_read_iops_device),
            (&mut io.throttle_write_iops_device, new.throttle_write_iops_device),
        ];
        for (list, new) in lists.into_iter().filter(|(_, new)| !new.is_empty()) {
            *list = new;
        }
    }
    if !change.hugepage_limits.is_empty() {
        holds.hugepage_limits = change.hugepage_limits;
    }
    if change.network.is_some() {
        holds.network = change.network;
    }
    holds.rdma.extend(change.rdma);
    holds.unified.extend(change.unified);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_meant_stays() {
        let parse = |text: &str| serde_json::from_str::<Resources>(text).unwrap();
        let mut holds = parse(r#"{"memory":{"limit":100,"swap":200},"cpu":{"cpus":"0"}}"#);
        merge(
            &mut holds,
            parse(
                r#"{"memory":{"limit":50,"swap":0},"cpu":{"cpus":"","quota":5},"pids":{"limit":9}}"#,
            ),
        );
        assert_eq!(
            holds,
            parse(
                r#"{"memory":{"limit":50,"swap":200},"cpu":{"cpus":"0","quota":5},"pids":{"limit":9}}"#
            )
        );
        merge(&mut holds, parse(r#"{"memory":{"limit":-1}}"#));
        assert_eq!(holds.memory.and_then(|memory| memory.swap), Some(-1));
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(bytes("64m"), Ok(64 << 20));
        assert_eq!(bytes("1GiB"), Ok(1 << 30));
        assert_eq!(bytes("-1"), Ok(-1));
        for bad in ["", "m", "1x", "99999999999999t"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }
}
