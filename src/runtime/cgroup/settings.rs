//! What is written into which file of a control group: pure.
//!
//! Sources: the kernel's `admin-guide/cgroup-v2.rst` and `admin-guide/cgroup-v1/`. A spec speaks of version 1; where version
//! 2 has another scale, values are converted as all runtimes do.

use crate::oci::runtime_spec::linux::{
    BlockIo, Cpu, InterfacePriority, Memory, Network, Resources, ThrottleDevice,
};
use crate::runtime::error::Error;

/// One value for one file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::runtime) struct Setting {
    pub controller: &'static str,
    pub file: String,
    pub value: String,
    /// Whether the file may be missing: then the value is what the kernel does anyway.
    pub optional: bool,
    /// The file and the value that do the same where the file is missing.
    pub instead: Option<(String, String)>,
    /// A file that tells how much is used, which must not be above the value.
    pub usage: Option<&'static str>,
}

impl Setting {
    pub(in crate::runtime) fn new(
        controller: &'static str,
        file: impl Into<String>,
        value: String,
    ) -> Self {
        Self { controller, file: file.into(), value, optional: false, instead: None, usage: None }
    }
}

/// The controllers of version 2 by the first part of their files' names.
const V2_CONTROLLERS: [&str; 10] =
    ["cpu", "cpuset", "dmem", "hugetlb", "io", "memory", "misc", "perf_event", "pids", "rdma"];

/// Files that every group has, and that are limits of it.
const V2_OF_EVERY_GROUP: [&str; 3] =
    ["cgroup.max.depth", "cgroup.max.descendants", "cgroup.pressure"];

fn invalid(field: &str, reason: &str) -> Error {
    let field = format!("linux.resources.{field}");
    Error::Invalid { field, reason: reason.to_owned() }
}

/// The settings for a version 2 group.
pub(in crate::runtime) fn v2(resources: &Resources) -> Result<Vec<Setting>, Error> {
    let mut list = Vec::new();
    if let Some(memory) = &resources.memory {
        v2_memory(memory, &mut list)?;
    }
    if let Some(cpu) = &resources.cpu {
        v2_cpu(cpu, &mut list)?;
    }
    if let Some(limit) = resources.pids.and_then(|pids| pids.limit) {
        list.push(Setting::new("pids", "pids.max", pids(limit)));
    }
    if let Some(io) = &resources.block_io {
        v2_io(io, &mut list)?;
    }
    only_v1(resources.network.is_some(), "network")?;
    for limit in &resources.hugepage_limits {
        let (size, value) = (page_size(&limit.page_size)?, limit.limit.to_string());
        // Reservations as well, where the kernel counts them: since Linux 5.7.
        let file = format!("hugetlb.{size}.rsvd.max");
        let reserved = Setting::new("hugetlb", file, value.clone());
        list.push(Setting::new("hugetlb", format!("hugetlb.{size}.max"), value));
        list.push(Setting { optional: true, ..reserved });
    }
    rdma(resources, &mut list)?;
    for (file, value) in &resources.unified {
        if V2_OF_EVERY_GROUP.contains(&file.as_str()) {
            list.push(Setting::new("", file, value.clone()));
            continue;
        }
        if file.contains('/') || file.starts_with("cgroup.") {
            return Err(invalid(&format!("unified `{file}`"), "it is not a controller's file"));
        }
        let name = file.split('.').next().unwrap_or_default();
        let Some(controller) = V2_CONTROLLERS.iter().find(|known| **known == name) else {
            return Err(invalid(&format!("unified `{file}`"), "there is no such controller"));
        };
        list.push(Setting::new(controller, file, value.clone()));
    }
    Ok(list)
}

fn v2_memory(memory: &Memory, list: &mut Vec<Setting>) -> Result<(), Error> {
    only_v1(memory.swappiness.is_some(), "memory.swappiness")?;
    only_v1(memory.disable_oom_killer == Some(true), "memory.disableOOMKiller")?;
    only_v1(memory.kernel_tcp.is_some_and(|limit| limit > 0), "memory.kernelTCP")?;
    let max = |limit: i64| if limit < 0 { "max".to_owned() } else { limit.to_string() };
    // Docker and Kubernetes write 0 for "not set".
    let set = |value: Option<i64>| value.filter(|value| *value != 0);
    if let Some(swap) = set(memory.swap) {
        let swap = match (swap, set(memory.limit)) {
            (-1, _) => -1,
            (_, None | Some(-1)) => {
                return Err(invalid("memory.swap", "it includes memory, which is not limited"));
            }
            (swap, Some(limit)) if swap < limit => {
                return Err(invalid("memory.swap", "it includes memory and is below its limit"));
            }
            (swap, Some(limit)) => swap - limit,
        };
        // A kernel without swap accounting has no swap to give, or gives all of it: only the first is what was asked.
        let optional = swap == 0 || swap == -1 || swap == set(memory.limit).unwrap_or_default();
        let setting = Setting::new("memory", "memory.swap.max", max(swap));
        list.push(Setting { optional, ..setting });
    }
    if let Some(limit) = set(memory.limit) {
        // Version 1's kernel refuses by itself; here it would kill.
        let check = memory.check_before_update == Some(true) && limit > 0;
        let usage = check.then_some("memory.current");
        list.push(Setting { usage, ..Setting::new("memory", "memory.max", max(limit)) });
    }
    if let Some(reservation) = set(memory.reservation) {
        list.push(Setting::new("memory", "memory.low", max(reservation)));
    }
    Ok(())
}

fn v2_cpu(cpu: &Cpu, list: &mut Vec<Setting>) -> Result<(), Error> {
    only_v1(cpu.realtime_runtime.is_some_and(|v| v != 0), "cpu.realtimeRuntime")?;
    only_v1(cpu.realtime_period.is_some_and(|v| v != 0), "cpu.realtimePeriod")?;
    if let Some(shares) = cpu.shares.filter(|shares| *shares != 0) {
        list.push(Setting::new("cpu", "cpu.weight", weight_of_shares(shares).to_string()));
    }
    let quota = cpu.quota.filter(|quota| *quota != 0);
    let period = cpu.period.filter(|period| *period != 0);
    if quota.is_some() || period.is_some() {
        let quota = quota.filter(|quota| *quota > 0);
        let quota = quota.map_or_else(|| "max".to_owned(), |quota| quota.to_string());
        let value = match period {
            Some(period) => format!("{quota} {period}"),
            None => quota,
        };
        list.push(Setting::new("cpu", "cpu.max", value));
    }
    if let Some(burst) = cpu.burst {
        list.push(Setting::new("cpu", "cpu.max.burst", burst.to_string()));
    }
    if let Some(idle) = cpu.idle {
        list.push(Setting::new("cpu", "cpu.idle", idle.to_string()));
    }
    cpuset(cpu, list);
    Ok(())
}

fn cpuset(cpu: &Cpu, list: &mut Vec<Setting>) {
    let files = [("cpuset.cpus", &cpu.cpus), ("cpuset.mems", &cpu.mems)];
    for (file, value) in files {
        if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
            list.push(Setting::new("cpuset", file, value.clone()));
        }
    }
}

/// Version 1's shares (2 to 262144, 1024 usual) as version 2's weight (1 to 10000, 100 usual): a quadratic in the exponent
/// that meets all three points, which runc and crun have agreed on since 2025.
fn weight_of_shares(shares: u64) -> u64 {
    let logarithm = (shares.clamp(2, 262_144) as f64).log2();
    let exponent = (logarithm * logarithm + 125.0 * logarithm) / 612.0 - 7.0 / 34.0;
    (10f64.powf(exponent).ceil() as u64).clamp(1, 10_000)
}

fn v2_io(io: &BlockIo, list: &mut Vec<Setting>) -> Result<(), Error> {
    only_v1(io.leaf_weight.is_some_and(|weight| weight != 0), "blockIO.leafWeight")?;
    // The weight of BFQ, whose scale is the spec's own, if that scheduler is there; else that of the cost model.
    let weight = |weight: u16| 1 + (u64::from(weight.clamp(10, 1000)) - 10) * 9999 / 990;
    let push = |list: &mut Vec<Setting>, device: &str, value: u16| {
        let setting = Setting::new("io", "io.bfq.weight", format!("{device}{value}"));
        let instead = ("io.weight".to_owned(), format!("{device}{}", weight(value)));
        list.push(Setting { instead: Some(instead), ..setting });
    };
    if let Some(value) = io.weight.filter(|weight| *weight != 0) {
        push(list, "", value);
    }
    for device in &io.weight_device {
        only_v1(device.leaf_weight.is_some(), "blockIO.weightDevice.leafWeight")?;
        if let Some(value) = device.weight {
            push(list, &format!("{}:{} ", device.major, device.minor), value);
        }
    }
    let throttles = [
        ("rbps", &io.throttle_read_bps_device),
        ("wbps", &io.throttle_write_bps_device),
        ("riops", &io.throttle_read_iops_device),
        ("wiops", &io.throttle_write_iops_device),
    ];
    for (name, devices) in throttles {
        for ThrottleDevice { major, minor, rate } in devices {
            list.push(Setting::new("io", "io.max", format!("{major}:{minor} {name}={rate}")));
        }
    }
    Ok(())
}

/// The same file in both versions.
fn rdma(resources: &Resources, list: &mut Vec<Setting>) -> Result<(), Error> {
    for (device, limits) in &resources.rdma {
        let field = format!("rdma `{device}`");
        if device.is_empty() || device.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(invalid(&field, "it is no name of a device"));
        }
        let limits = [("hca_handle", limits.hca_handles), ("hca_object", limits.hca_objects)];
        let limits = limits.iter().filter_map(|(name, limit)| limit.map(|n| format!("{name}={n}")));
        let limits: Vec<String> = limits.collect();
        if limits.is_empty() {
            return Err(invalid(&field, "it limits nothing"));
        }
        list.push(Setting::new("rdma", "rdma.max", format!("{device} {}", limits.join(" "))));
    }
    Ok(())
}

/// The settings for version 1 groups. `unified` is about version 2 alone.
pub(in crate::runtime) fn v1(resources: &Resources) -> Result<Vec<Setting>, Error> {
    if let Some(file) = resources.unified.keys().next() {
        return Err(invalid(&format!("unified `{file}`"), "it needs cgroup version 2"));
    }
    let mut list = Vec::new();
    if let Some(memory) = &resources.memory {
        v1_memory(memory, &mut list);
    }
    if let Some(cpu) = &resources.cpu {
        v1_cpu(cpu, &mut list);
    }
    if let Some(limit) = resources.pids.and_then(|pids| pids.limit) {
        list.push(Setting::new("pids", "pids.max", pids(limit)));
    }
    if let Some(io) = &resources.block_io {
        v1_io(io, &mut list);
    }
    for limit in &resources.hugepage_limits {
        let (size, value) = (page_size(&limit.page_size)?, limit.limit.to_string());
        let file = format!("hugetlb.{size}.rsvd.limit_in_bytes");
        let reserved = Setting::new("hugetlb", file, value.clone());
        list.push(Setting::new("hugetlb", format!("hugetlb.{size}.limit_in_bytes"), value));
        list.push(Setting { optional: true, ..reserved });
    }
    rdma(resources, &mut list)?;
    if let Some(network) = &resources.network {
        v1_network(network, &mut list)?;
    }
    Ok(list)
}

fn v1_network(network: &Network, list: &mut Vec<Setting>) -> Result<(), Error> {
    if let Some(class) = network.class_id {
        list.push(Setting::new("net_cls", "net_cls.classid", class.to_string()));
    }
    for InterfacePriority { name, priority } in &network.priorities {
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(invalid("network.priorities", "a name is none of an interface"));
        }
        list.push(Setting::new("net_prio", "net_prio.ifpriomap", format!("{name} {priority}")));
    }
    Ok(())
}

fn v1_memory(memory: &Memory, list: &mut Vec<Setting>) {
    let mut push = |file: &str, value: Option<i64>, optional: bool| {
        if let Some(value) = value.filter(|value| *value != 0) {
            let setting = Setting::new("memory", file, value.to_string());
            list.push(Setting { optional, ..setting });
        }
    };
    // In this order: memory alone may never be more than memory and swap.
    push("memory.limit_in_bytes", memory.limit, false);
    // Without swap accounting there is no file, and docker's default of as much swap again is given up, as docker does.
    let default = memory.limit.is_some_and(|limit| memory.swap == Some(limit.saturating_mul(2)));
    push("memory.memsw.limit_in_bytes", memory.swap, default || memory.swap == Some(-1));
    push("memory.soft_limit_in_bytes", memory.reservation, false);
    push("memory.kmem.tcp.limit_in_bytes", memory.kernel_tcp, memory.kernel_tcp == Some(-1));
    if let Some(swappiness) = memory.swappiness {
        list.push(Setting::new("memory", "memory.swappiness", swappiness.to_string()));
    }
    if memory.disable_oom_killer == Some(true) {
        list.push(Setting::new("memory", "memory.oom_control", "1".to_owned()));
    }
}

fn v1_cpu(cpu: &Cpu, list: &mut Vec<Setting>) {
    let unsigned = |value: Option<u64>| value.filter(|v| *v != 0).map(|v| v.to_string());
    let signed = |value: Option<i64>| value.filter(|v| *v != 0).map(|v| v.to_string());
    // Periods before what is spent in them, which may not be more.
    let files = [
        ("cpu.shares", unsigned(cpu.shares)),
        ("cpu.cfs_period_us", unsigned(cpu.period)),
        ("cpu.cfs_quota_us", signed(cpu.quota)),
        ("cpu.cfs_burst_us", cpu.burst.map(|burst| burst.to_string())),
        ("cpu.rt_period_us", unsigned(cpu.realtime_period)),
        ("cpu.rt_runtime_us", signed(cpu.realtime_runtime)),
        ("cpu.idle", cpu.idle.map(|idle| idle.to_string())),
    ];
    for (file, value) in files {
        list.extend(value.map(|value| Setting::new("cpu", file, value)));
    }
    cpuset(cpu, list);
}

fn v1_io(io: &BlockIo, list: &mut Vec<Setting>) {
    // BFQ's file, or that of CFQ, which kernels before 5.0 have.
    let push = |list: &mut Vec<Setting>, suffix: &str, value: String| {
        let setting = Setting::new("blkio", format!("blkio.bfq.weight{suffix}"), value.clone());
        let instead = Some((format!("blkio.weight{suffix}"), value));
        list.push(Setting { instead, ..setting });
    };
    if let Some(weight) = io.weight.filter(|weight| *weight != 0) {
        push(list, "", weight.to_string());
    }
    if let Some(weight) = io.leaf_weight.filter(|weight| *weight != 0) {
        list.push(Setting::new("blkio", "blkio.leaf_weight", weight.to_string()));
    }
    for device in &io.weight_device {
        let value = |weight: u16| format!("{}:{} {weight}", device.major, device.minor);
        if let Some(weight) = device.weight {
            push(list, "_device", value(weight));
        }
        if let Some(weight) = device.leaf_weight {
            list.push(Setting::new("blkio", "blkio.leaf_weight_device", value(weight)));
        }
    }
    let throttles = [
        ("blkio.throttle.read_bps_device", &io.throttle_read_bps_device),
        ("blkio.throttle.write_bps_device", &io.throttle_write_bps_device),
        ("blkio.throttle.read_iops_device", &io.throttle_read_iops_device),
        ("blkio.throttle.write_iops_device", &io.throttle_write_iops_device),
    ];
    for (file, devices) in throttles {
        for ThrottleDevice { major, minor, rate } in devices {
            list.push(Setting::new("blkio", file, format!("{major}:{minor} {rate}")));
        }
    }
}

fn pids(limit: i64) -> String {
    if limit > 0 { limit.to_string() } else { "max".to_owned() }
}

fn page_size(size: &str) -> Result<&str, Error> {
    let unit = size.trim_start_matches(|c: char| c.is_ascii_digit());
    if unit.len() < size.len() && matches!(unit, "KB" | "MB" | "GB") {
        Ok(size)
    } else {
        Err(invalid("hugepageLimits", &format!("`{size}` is not a page size such as `2MB`")))
    }
}

fn only_v1(set: bool, field: &str) -> Result<(), Error> {
    if set { Err(invalid(field, "it needs cgroup version 1")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(json: &str) -> Resources {
        serde_json::from_str(json).unwrap()
    }

    fn lines(settings: Result<Vec<Setting>, Error>) -> Vec<String> {
        settings.unwrap().iter().map(|s| format!("{} {}", s.file, s.value)).collect()
    }

    #[test]
    fn version_2_converts_what_version_1_means() {
        let all = resources(
            r#"{"memory":{"limit":100,"swap":300,"reservation":50},"pids":{"limit":-1},
                "cpu":{"shares":1024,"quota":50000,"period":100000,"cpus":"0"},
                "blockIO":{"weight":500,"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":9}]},
                "hugepageLimits":[{"pageSize":"2MB","limit":4}],"unified":{"memory.high":"90"},
                "rdma":{"mlx5":{"hcaObjects":7}}}"#,
        );
        assert_eq!(
            lines(v2(&all)),
            [
                "memory.swap.max 200",
                "memory.max 100",
                "memory.low 50",
                "cpu.weight 100",
                "cpu.max 50000 100000",
                "cpuset.cpus 0",
                "pids.max max",
                "io.bfq.weight 500",
                "io.max 8:0 rbps=9",
                "hugetlb.2MB.max 4",
                "hugetlb.2MB.rsvd.max 4",
                "rdma.max mlx5 hca_object=7",
                "memory.high 90",
            ]
        );
        assert_eq!([2, 1024, 262_144].map(weight_of_shares), [1, 100, 10_000]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for bad in [
            r#"{"memory":{"swap":300}}"#,
            r#"{"memory":{"limit":100,"swap":50}}"#,
            r#"{"memory":{"swappiness":1}}"#,
            r#"{"unified":{"../x":"1"}}"#,
            r#"{"network":{"classID":1}}"#,
            r#"{"rdma":{"mlx5":{}}}"#,
            r#"{"blockIO":{"leafWeight":100}}"#,
            r#"{"cpu":{"realtimeRuntime":1000}}"#,
            r#"{"unified":{"cgroup.procs":"1"}}"#,
            r#"{"unified":{"teleport.max":"1"}}"#,
            r#"{"hugepageLimits":[{"pageSize":"../2MB","limit":4}]}"#,
        ] {
            assert!(v2(&resources(bad)).is_err(), "{bad}");
        }
        assert!(v1(&resources(r#"{"unified":{"memory.high":"1"}}"#)).is_err());
    }

    #[test]
    fn version_1_takes_values_as_they_are() {
        let all = resources(
            r#"{"memory":{"limit":100,"swap":200,"kernel":7},"pids":{"limit":7},"cpu":{"quota":-1,"shares":0},
                "network":{"classID":9,"priorities":[{"name":"eth0","priority":3}]}}"#,
        );
        assert_eq!(
            lines(v1(&all)),
            [
                "memory.limit_in_bytes 100",
                "memory.memsw.limit_in_bytes 200",
                "cpu.cfs_quota_us -1",
                "pids.max 7",
                "net_cls.classid 9",
                "net_prio.ifpriomap eth0 3",
            ]
        );
    }
}
