//! How much a container uses, in the form in which runc's `events` says it.
//!
//! Sources: the kernel's `admin-guide/cgroup-v1/` and `admin-guide/cgroup-v2.rst`. What a machine does not count is 0.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Serialize;

use super::groups::Groups;
use super::host::CgroupVersion;

/// What a container uses now, and has used.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Processor time.
    pub cpu: Cpu,
    /// Memory.
    pub memory: Memory,
    /// Tasks.
    pub pids: Pids,
    /// Block devices.
    pub blkio: Blkio,
    /// Huge pages, by their size.
    pub hugetlb: BTreeMap<String, Entry>,
}

/// Processor time.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Cpu {
    /// How much was used.
    pub usage: CpuUsage,
    /// How often it was held back.
    pub throttling: Throttling,
}

/// Nanoseconds of processor time.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CpuUsage {
    /// All.
    pub total: u64,
    /// By processor, where that is counted: in version 1.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu: Vec<u64>,
    /// In the kernel.
    pub kernel: u64,
    /// In programs.
    pub user: u64,
}

/// How often a limit of processor time took hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Throttling {
    /// Periods in which there was something to run.
    pub periods: u64,
    /// Periods in which the limit was met.
    pub throttled_periods: u64,
    /// Nanoseconds for which something had to wait.
    pub throttled_time: u64,
}

/// Memory, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Memory {
    /// Of it, what files are cached in.
    pub cache: u64,
    /// Memory.
    pub usage: Entry,
    /// Memory and swap together.
    pub swap: Entry,
    /// The kernel's.
    pub kernel: Entry,
    /// The kernel's for TCP.
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: Entry,
    /// Everything in `memory.stat`.
    pub raw: BTreeMap<String, u64>,
}

/// Something that is limited.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Entry {
    /// The limit.
    pub limit: u64,
    /// How much there is now.
    pub usage: u64,
    /// How much there was at most.
    pub max: u64,
    /// How often the limit was met.
    pub failcnt: u64,
}

/// Tasks.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Pids {
    /// How many there are.
    pub current: u64,
    /// How many there can be; 0 for any number.
    pub limit: u64,
}

/// Block devices.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Blkio {
    /// Bytes.
    pub io_service_bytes_recursive: Vec<BlkioEntry>,
    /// Operations.
    pub io_serviced_recursive: Vec<BlkioEntry>,
}

/// What was done with one device.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct BlkioEntry {
    /// Its major number.
    pub major: u64,
    /// Its minor number.
    pub minor: u64,
    /// What: `Read`, `Write`.
    pub op: String,
    /// How much.
    pub value: u64,
}

impl Stats {
    /// Reads what the kernel has counted.
    pub fn read(groups: &Groups) -> Self {
        match groups.version() {
            CgroupVersion::V1 => read_v1(groups),
            _ => groups.directory("").map(read_v2).unwrap_or_default(),
        }
    }

    /// How often a process was killed for want of memory.
    pub fn oom_kills(groups: &Groups) -> u64 {
        let file = match groups.version() {
            CgroupVersion::V1 => "memory.oom_control",
            _ => "memory.events",
        };
        groups.directory("memory").map_or(0, |group| pair(&pairs(group, file), "oom_kill"))
    }
}

/// A number in a file; `max` is the greatest.
fn number(group: &Path, file: &str) -> u64 {
    let text = fs::read_to_string(group.join(file)).unwrap_or_default();
    match text.trim() {
        "max" => u64::MAX,
        text => text.parse().unwrap_or_default(),
    }
}

/// The lines of a file with a name and a number each.
fn pairs(group: &Path, file: &str) -> BTreeMap<String, u64> {
    let text = fs::read_to_string(group.join(file)).unwrap_or_default();
    let pair = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        Some((name.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

fn pair(pairs: &BTreeMap<String, u64>, name: &str) -> u64 {
    pairs.get(name).copied().unwrap_or_default()
}

fn limit(limit: u64) -> u64 {
    if limit == u64::MAX { 0 } else { limit }
}

fn read_v2(group: &Path) -> Stats {
    const NANOSECONDS: u64 = 1000;
    let cpu = pairs(group, "cpu.stat");
    let memory = pairs(group, "memory.stat");
    let swap = (number(group, "memory.swap.current"), number(group, "memory.swap.max"));
    let usage = Entry {
        limit: number(group, "memory.max"),
        usage: number(group, "memory.current"),
        max: number(group, "memory.peak"),
        failcnt: pair(&pairs(group, "memory.events"), "max"),
    };
    Stats {
        cpu: Cpu {
            usage: CpuUsage {
                total: pair(&cpu, "usage_usec") * NANOSECONDS,
                percpu: Vec::new(),
                kernel: pair(&cpu, "system_usec") * NANOSECONDS,
                user: pair(&cpu, "user_usec") * NANOSECONDS,
            },
            throttling: Throttling {
                periods: pair(&cpu, "nr_periods"),
                throttled_periods: pair(&cpu, "nr_throttled"),
                throttled_time: pair(&cpu, "throttled_usec") * NANOSECONDS,
            },
        },
        memory: Memory {
            cache: pair(&memory, "file"),
            // As in version 1, memory and swap together.
            swap: Entry {
                usage: usage.usage.saturating_add(swap.0),
                limit: usage.limit.saturating_add(swap.1),
                ..Entry::default()
            },
            kernel: Entry { usage: pair(&memory, "kernel"), ..Entry::default() },
            kernel_tcp: Entry { usage: pair(&memory, "sock"), ..Entry::default() },
            usage,
            raw: memory,
        },
        pids: Pids {
            current: number(group, "pids.current"),
            limit: limit(number(group, "pids.max")),
        },
        blkio: blkio_v2(&fs::read_to_string(group.join("io.stat")).unwrap_or_default()),
        hugetlb: hugetlb(group, "current", "max", ""),
    }
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 …`
fn blkio_v2(text: &str) -> Blkio {
    let mut found = Blkio::default();
    for line in text.lines() {
        let Some((device, values)) = line.split_once(' ') else { continue };
        let Some((major, minor)) = device_number(device) else { continue };
        for (name, value) in values.split(' ').filter_map(|value| value.split_once('=')) {
            let (list, op) = match name {
                "rbytes" => (&mut found.io_service_bytes_recursive, "Read"),
                "wbytes" => (&mut found.io_service_bytes_recursive, "Write"),
                "rios" => (&mut found.io_serviced_recursive, "Read"),
                "wios" => (&mut found.io_serviced_recursive, "Write"),
                _ => continue,
            };
            let value = value.parse().unwrap_or_default();
            list.push(BlkioEntry { major, minor, op: op.to_owned(), value });
        }
    }
    found
}

fn device_number(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Of each size of page that the machine has.
fn hugetlb(group: &Path, usage: &str, max: &str, failcnt: &str) -> BTreeMap<String, Entry> {
    let names = fs::read_dir(group).into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let size = |name: String| {
        let (size, file) = name.strip_prefix("hugetlb.")?.split_once('.')?;
        let read = |file: &str| match file {
            "" => 0,
            file => number(group, &format!("hugetlb.{size}.{file}")),
        };
        (file == usage).then(|| {
            let entry = Entry {
                limit: read(max),
                usage: read(usage),
                max: if failcnt.is_empty() { 0 } else { read("max_usage_in_bytes") },
                failcnt: read(failcnt),
            };
            (size.to_owned(), entry)
        })
    };
    names.filter_map(size).collect()
}

fn read_v1(groups: &Groups) -> Stats {
    let group = |controller| groups.directory(controller);
    let entry = |prefix: &str| {
        let read = |file: &str| {
            let file = format!("memory.{prefix}{file}");
            group("memory").map_or(0, |group| number(group, &file))
        };
        Entry {
            limit: read("limit_in_bytes"),
            usage: read("usage_in_bytes"),
            max: read("max_usage_in_bytes"),
            failcnt: read("failcnt"),
        }
    };
    let raw = group("memory").map(|group| pairs(group, "memory.stat")).unwrap_or_default();
    Stats {
        cpu: cpu_v1(groups),
        memory: Memory {
            cache: pair(&raw, "cache"),
            usage: entry(""),
            swap: entry("memsw."),
            kernel: entry("kmem."),
            kernel_tcp: entry("kmem.tcp."),
            raw,
        },
        pids: group("pids").map_or_else(Pids::default, |group| Pids {
            current: number(group, "pids.current"),
            limit: limit(number(group, "pids.max")),
        }),
        blkio: group("blkio").map(blkio_v1).unwrap_or_default(),
        hugetlb: group("hugetlb")
            .map(|group| hugetlb(group, "usage_in_bytes", "limit_in_bytes", "failcnt"))
            .unwrap_or_default(),
    }
}

fn cpu_v1(groups: &Groups) -> Cpu {
    let mut found = Cpu::default();
    if let Some(group) = groups.directory("cpuacct").or(groups.directory("cpu")) {
        let text = fs::read_to_string(group.join("cpuacct.usage_percpu")).unwrap_or_default();
        found.usage = CpuUsage {
            total: number(group, "cpuacct.usage"),
            percpu: text.split_whitespace().filter_map(|number| number.parse().ok()).collect(),
            kernel: number(group, "cpuacct.usage_sys"),
            user: number(group, "cpuacct.usage_user"),
        };
    }
    if let Some(group) = groups.directory("cpu") {
        let stat = pairs(group, "cpu.stat");
        found.throttling = Throttling {
            periods: pair(&stat, "nr_periods"),
            throttled_periods: pair(&stat, "nr_throttled"),
            throttled_time: pair(&stat, "throttled_time"),
        };
    }
    found
}

/// `8:0 Read 1`, and `Total 1` at the end.
fn blkio_v1(group: &Path) -> Blkio {
    let read = |file: &str| {
        let text = fs::read_to_string(group.join(file)).unwrap_or_default();
        let entry = |line: &str| {
            let mut words = line.split(' ');
            let (major, minor) = device_number(words.next()?)?;
            let (op, value) = (words.next()?.to_owned(), words.next()?.parse().ok()?);
            Some(BlkioEntry { major, minor, op, value })
        };
        text.lines().filter_map(entry).collect()
    };
    Blkio {
        io_service_bytes_recursive: read("blkio.throttle.io_service_bytes_recursive"),
        io_serviced_recursive: read("blkio.throttle.io_serviced_recursive"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_version_2_are_read_by_name() {
        let found = blkio_v2("8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n7:1\nbad x=1\n");
        let values = |list: &[BlkioEntry]| list.iter().map(|e| e.value).collect::<Vec<_>>();
        assert_eq!(values(&found.io_service_bytes_recursive), [1, 2]);
        assert_eq!(values(&found.io_serviced_recursive), [3, 4]);
    }
}
