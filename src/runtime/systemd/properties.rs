//! Limits as properties of a unit (`systemd.resource-control(5)`, `org.freedesktop.systemd1(5)`): pure.
//!
//! systemd writes a group's files again when it likes, after a reload for instance, and so has to know what is meant to be
//! in them. All of them are written by this runtime as well: systemd has no property for some, and rounds others.

use super::message::{Property, Value};
use crate::runtime::cgroup::Setting;
use crate::runtime::error::Error;

/// The largest number of a processor or a memory node that is believed.
const MAX_NUMBER: usize = 1 << 16;
/// The unit of processor time that systemd rounds to: a percent of a processor, in microseconds of a second.
const PERCENT: u64 = 10_000;
const SECOND: u64 = 1_000_000;

/// The properties that say the same as `settings`, of either version, as far as systemd has them. Of two that are about the
/// same, the last one counts, as with the files.
pub(super) fn properties(settings: &[Setting]) -> Result<Vec<Property>, Error> {
    let mut list: Vec<Property> = Vec::new();
    let mut set = |name: &str, value: Value| {
        list.retain(|(there, _)| there != name);
        list.push((name.to_owned(), value));
    };
    let (mut quota, mut period) = (None, None);
    for Setting { file, value, instead, .. } in settings {
        let number = || number(file, value);
        match file.as_str() {
            "memory.max" | "memory.limit_in_bytes" => set("MemoryMax", number()?),
            "memory.high" => set("MemoryHigh", number()?),
            "memory.low" => set("MemoryLow", number()?),
            "memory.min" => set("MemoryMin", number()?),
            "memory.swap.max" => set("MemorySwapMax", number()?),
            "memory.zswap.max" => set("MemoryZSwapMax", number()?),
            "pids.max" => set("TasksMax", number()?),
            "cpu.weight" => set("CPUWeight", number()?),
            "cpu.shares" => set("CPUShares", number()?),
            "blkio.bfq.weight" => set("BlockIOWeight", number()?),
            "io.bfq.weight" => {
                // Of one device, it would be named by a path.
                let of_all = instead.as_ref().filter(|(_, value)| !value.contains(' '));
                if let Some((file, value)) = of_all {
                    set("IOWeight", self::number(file, value)?);
                }
            }
            "cpuset.cpus" => set("AllowedCPUs", Value::Bytes(bits("cpu.cpus", value)?)),
            "cpuset.mems" => set("AllowedMemoryNodes", Value::Bytes(bits("cpu.mems", value)?)),
            "cpu.cfs_quota_us" => quota = value.parse().ok(),
            "cpu.cfs_period_us" => period = value.parse().ok(),
            "cpu.max" => {
                let mut words = value.split_whitespace();
                quota = words.next().map(|word| word.parse().unwrap_or(-1));
                period = words.next().and_then(|word| word.parse().ok()).or(period);
            }
            _ => {}
        }
    }
    if let Some(quota) = quota {
        set("CPUQuotaPerSecUSec", Value::U64(per_second(quota, period)));
    }
    if let Some(period) = period.filter(|period| *period > 0) {
        set("CPUQuotaPeriodUSec", Value::U64(period));
    }
    Ok(list)
}

/// A number, or all ones for none.
fn number(file: &str, value: &str) -> Result<Value, Error> {
    let parsed = match value {
        "max" | "-1" => Ok(u64::MAX),
        value => value.parse(),
    };
    parsed.map(Value::U64).map_err(|_| Error::Invalid {
        field: format!("linux.resources.unified `{file}`"),
        reason: format!("`{value}` is no number"),
    })
}

/// Processor time in a period, as that in a second: no less, and without a period, in that which is usual.
fn per_second(quota: i64, period: Option<u64>) -> u64 {
    const USUAL: u64 = 100_000;
    let period = period.filter(|period| *period > 0).unwrap_or(USUAL);
    match u64::try_from(quota) {
        Ok(quota) if quota > 0 => {
            let exact = u128::from(quota) * u128::from(SECOND) / u128::from(period);
            let exact = u64::try_from(exact).unwrap_or(u64::MAX - PERCENT);
            exact.next_multiple_of(PERCENT)
        }
        _ => u64::MAX,
    }
}

/// A list such as `0-2,7` as bits, the lowest first.
fn bits(field: &str, list: &str) -> Result<Vec<u8>, Error> {
    let invalid = || Error::Invalid {
        field: format!("linux.resources.{field}"),
        reason: format!("`{list}` is not a list such as `0-2,7`"),
    };
    let number = |text: &str| {
        let number = text.trim().parse::<usize>().ok();
        number.filter(|number| *number < MAX_NUMBER).ok_or_else(invalid)
    };
    let mut bytes = Vec::new();
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        for bit in number(first)?..=number(last)? {
            if bytes.len() <= bit / 8 {
                bytes.resize(bit / 8 + 1, 0);
            }
            if let Some(byte) = bytes.get_mut(bit / 8) {
                *byte |= 1 << (bit % 8);
            }
        }
    }
    if bytes.is_empty() { Err(invalid()) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::cgroup::{v1, v2};

    fn named(settings: Result<Vec<Setting>, Error>) -> Vec<(String, Value)> {
        properties(&settings.unwrap()).unwrap()
    }

    fn is(list: &[(&str, Value)]) -> Vec<(String, Value)> {
        list.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }

    #[test]
    fn limits_of_version_2() {
        let all = serde_json::from_str(
            r#"{"memory":{"limit":100,"swap":300,"reservation":50},"pids":{"limit":-1},
                "cpu":{"shares":1024,"quota":33333,"period":100000,"cpus":"0-2,9","mems":"0"},
                "blockIO":{"weight":10},"unified":{"memory.high":"90","memory.max":"max","rdma.max":"x hca_object=1"}}"#,
        )
        .unwrap();
        assert_eq!(
            named(v2(&all)),
            is(&[
                ("MemorySwapMax", Value::U64(200)),
                ("MemoryLow", Value::U64(50)),
                ("CPUWeight", Value::U64(100)),
                ("AllowedCPUs", Value::Bytes(vec![0b111, 0b10])),
                ("AllowedMemoryNodes", Value::Bytes(vec![1])),
                ("TasksMax", Value::U64(u64::MAX)),
                ("IOWeight", Value::U64(1)),
                ("MemoryHigh", Value::U64(90)),
                ("MemoryMax", Value::U64(u64::MAX)),
                ("CPUQuotaPerSecUSec", Value::U64(340_000)),
                ("CPUQuotaPeriodUSec", Value::U64(100_000)),
            ])
        );
    }

    #[test]
    fn limits_of_version_1() {
        let all = serde_json::from_str(
            r#"{"memory":{"limit":100},"pids":{"limit":7},"cpu":{"shares":10,"quota":-1},"blockIO":{"weight":500}}"#,
        )
        .unwrap();
        assert_eq!(
            named(v1(&all)),
            is(&[
                ("MemoryMax", Value::U64(100)),
                ("CPUShares", Value::U64(10)),
                ("TasksMax", Value::U64(7)),
                ("BlockIOWeight", Value::U64(500)),
                ("CPUQuotaPerSecUSec", Value::U64(u64::MAX)),
            ])
        );
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for bad in ["", "x", "0-", "1,,2", "0-99999999", "3-1"] {
            assert!(bits("cpu.cpus", bad).is_err(), "{bad}");
        }
        assert!(number("memory.max", "12k").is_err());
        assert_eq!(per_second(i64::MAX, Some(1)) % PERCENT, 0);
    }
}
