//! When and where the program runs, in the numbers that system calls take.

use nix::sched::CpuSet;

use crate::oci::runtime_spec::linux::{Domain, Linux};
use crate::oci::runtime_spec::scheduling::{
    IoPriority, IoPriorityClass, MemoryPolicy, Scheduler, parse_list,
};
use crate::runtime::error::Error;
use crate::sys::schedule::SchedAttr;

fn invalid(field: &str, reason: &str) -> Error {
    Error::Invalid { field: field.to_owned(), reason: reason.to_owned() }
}

/// What `sched_setattr(2)` takes. Whether a policy takes a value is the kernel's to say.
pub(super) fn scheduler(scheduler: &Scheduler) -> Result<SchedAttr, Error> {
    let priority = u32::try_from(scheduler.priority);
    let priority =
        priority.map_err(|_| invalid("process.scheduler.priority", "it is below zero"))?;
    if !(-20..=19).contains(&scheduler.nice) {
        return Err(invalid("process.scheduler.nice", "it is not between -20 and 19"));
    }
    Ok(SchedAttr {
        policy: scheduler.policy as u32,
        flags: scheduler.flags.iter().fold(0, |flags, flag| flags | *flag as u64),
        nice: scheduler.nice,
        priority,
        runtime: scheduler.runtime,
        deadline: scheduler.deadline,
        period: scheduler.period,
        ..SchedAttr::default()
    })
}

/// The class and the level that `ioprio_set(2)` takes.
pub(super) fn io_priority(priority: IoPriority) -> Result<(u32, u32), Error> {
    let level = u32::try_from(priority.priority).ok().filter(|level| *level <= 7);
    let level =
        level.ok_or_else(|| invalid("process.ioPriority.priority", "it is not between 0 and 7"))?;
    // The idle class has no levels, and newer kernels refuse one.
    let level = if priority.class == IoPriorityClass::Idle { 0 } else { level };
    Ok((priority.class as u32, level))
}

/// The processors of `process.execCPUAffinity.<name>`; `None` if it names none, and so changes nothing.
pub(in crate::runtime) fn processors(
    name: &str,
    text: Option<&str>,
) -> Result<Option<CpuSet>, Error> {
    let field = format!("process.execCPUAffinity.{name}");
    let list = parse_list(text.unwrap_or_default());
    let list = list.ok_or_else(|| invalid(&field, "it is not a list such as `0-3,7`"))?;
    let mut set = CpuSet::new();
    for number in &list {
        let set = set.set(usize::from(*number));
        set.map_err(|_| invalid(&field, "it has a number above 1023"))?;
    }
    Ok((!list.is_empty()).then_some(set))
}

/// The mode and the mask of nodes that `set_mempolicy(2)` takes.
pub(super) fn memory_policy(policy: &MemoryPolicy) -> Result<(u32, Vec<u64>), Error> {
    let nodes = parse_list(policy.nodes.as_deref().unwrap_or_default());
    let nodes = nodes
        .ok_or_else(|| invalid("linux.memoryPolicy.nodes", "it is not a list such as `0-3,7`"))?;
    let mut mask = vec![0u64; nodes.last().map_or(0, |last| usize::from(*last) / 64 + 1)];
    for node in nodes {
        if let Some(word) = mask.get_mut(usize::from(node) / 64) {
            *word |= 1 << (node % 64);
        }
    }
    let mode = policy.flags.iter().fold(policy.mode as u32, |mode, flag| mode | *flag as u32);
    Ok((mode, mask))
}

/// What `personality(2)` takes.
pub(super) fn personality(linux: &Linux) -> Result<Option<u32>, Error> {
    let Some(personality) = &linux.personality else { return Ok(None) };
    if let Some(flag) = personality.flags.first() {
        let field = format!("linux.personality.flags `{flag}`");
        return Err(Error::Unsupported { field });
    }
    Ok(Some(match personality.domain {
        Domain::Linux => 0,
        Domain::Linux32 => 8,
    }))
}

/// What is written to `/proc/<pid>/timens_offsets`.
pub(super) fn time_offsets(linux: &Linux, new: bool) -> Result<Option<String>, Error> {
    let field = |name: &str| format!("linux.timeOffsets.{name}");
    let mut lines = String::new();
    for (clock, offset) in &linux.time_offsets {
        if !["boottime", "monotonic"].contains(&clock.as_str()) {
            return Err(invalid(&field(clock), "no time namespace has such a clock"));
        }
        if offset.nanosecs > 999_999_999 {
            return Err(invalid(&format!("{}.nanosecs", field(clock)), "it is a second or more"));
        }
        lines.push_str(&format!("{clock} {} {}\n", offset.secs, offset.nanosecs));
    }
    match (lines.is_empty(), new) {
        (true, _) => Ok(None),
        (false, true) => Ok(Some(lines)),
        (false, false) => Err(invalid("linux.timeOffsets", "it needs a new time namespace")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_become_numbers() {
        let text = r#"{"policy":"SCHED_BATCH","nice":-5,"flags":["SCHED_FLAG_RESET_ON_FORK","SCHED_FLAG_RECLAIM"]}"#;
        let attr = scheduler(&serde_json::from_str(text).unwrap()).unwrap();
        assert_eq!((attr.policy, attr.nice, attr.flags), (3, -5, 3));
        let priority = |text| io_priority(serde_json::from_str(text).unwrap()).ok();
        assert_eq!(priority(r#"{"class":"IOPRIO_CLASS_BE","priority":7}"#), Some((2, 7)));
        assert_eq!(priority(r#"{"class":"IOPRIO_CLASS_IDLE","priority":7}"#), Some((3, 0)));
        assert_eq!(priority(r#"{"class":"IOPRIO_CLASS_RT","priority":8}"#), None);
        let policy = |text| memory_policy(&serde_json::from_str(text).unwrap()).ok();
        let text = r#"{"mode":"MPOL_BIND","nodes":"0,64-65","flags":["MPOL_F_STATIC_NODES"]}"#;
        assert_eq!(policy(text), Some((2 | 1 << 15, vec![1, 3])));
        assert_eq!(policy(r#"{"mode":"MPOL_LOCAL"}"#), Some((4, Vec::new())));
        assert_eq!(policy(r#"{"mode":"MPOL_BIND","nodes":"x"}"#), None);
        let set = processors("final", Some("0-1,3")).unwrap().unwrap();
        let has: Vec<bool> = (0..5).map(|number| set.is_set(number).unwrap()).collect();
        assert_eq!(has, [true, true, false, true, false]);
        assert_eq!(processors("final", Some("")).unwrap(), None);
        assert!(
            processors("final", Some("x")).is_err() && processors("final", Some("1024")).is_err()
        );
    }
}
