//! System call filters: the policy of a spec as a classic BPF program, and the default policy.

mod architecture;
mod profile;
mod program;
mod tables;

use std::collections::BTreeMap;

use super::error::{Error, Warning};
use crate::oci::runtime_spec::seccomp::{Action, Condition, Operator, Seccomp, SyscallRule};
use crate::sys::seccomp::{Instruction, MAX_INSTRUCTIONS};
use architecture::{ARCHITECTURES, Architecture, X32_BIT, row};
pub use profile::{DEFAULT_PROFILE, Profile, ProfileError, default_seccomp};
use program::{Choice, Range, Test};
use tables::NUMBERS;

/// A policy, ready to be set.
#[derive(Debug, Default)]
pub(super) struct Compiled {
    /// Empty for no filter.
    pub program: Vec<Instruction>,
    /// For `seccomp(2)`.
    pub flags: u32,
    pub warnings: Vec<Warning>,
}

const EPERM: u32 = libc::EPERM as u32;
const ENOSYS: u32 = libc::ENOSYS as u32;

/// Which arguments the kernel takes as 32 bits, a bit each. What a process puts into the rest of the register is ignored
/// there and so must be here: a rule against `socket(38, …)` is otherwise passed by `socket(0x1_0000_0026, …)`
/// (CVE-2026-123876).
const INT_ARGUMENTS: [(&str, u8); 25] = [
    ("accept4", 0b1001),
    ("bpf", 0b101),
    ("chmod", 0b10),
    ("clone", 0b1),
    ("epoll_ctl", 0b111),
    ("fchmod", 0b11),
    ("fchmodat", 0b101),
    ("fcntl", 0b11),
    ("futex", 0b10_0110),
    ("getsockopt", 0b111),
    ("ioctl", 0b11),
    ("keyctl", 0b1),
    ("kill", 0b11),
    ("memfd_create", 0b10),
    ("mknod", 0b110),
    ("mknodat", 0b1101),
    ("open", 0b110),
    ("openat", 0b1101),
    ("personality", 0b1),
    ("prctl", 0b1),
    ("setns", 0b11),
    ("setsockopt", 0b1_0111),
    ("socket", 0b111),
    ("socketpair", 0b111),
    ("unshare", 0b1),
];

/// Compiles `policy`.
///
/// Of the rules for one call, the first without conditions decides if there is one; else the first whose conditions all
/// hold, in their order. A rule for the default action says nothing and is left out; one that has two conditions on one
/// argument is a rule for each of its conditions. All this is as in libseccomp and its users.
pub(super) fn compile(policy: &Seccomp) -> Result<Compiled, Error> {
    let default = returned(policy.default_action, policy.default_errno_ret)?;
    let native = &ARCHITECTURES[0];
    let listed = |architecture: &&Architecture| {
        architecture.name == native.name
            || policy.architectures.iter().any(|name| name == architecture.name)
    };
    let mut filters: Vec<(u32, Vec<Range>)> = Vec::new();
    for architecture in ARCHITECTURES.iter().filter(listed) {
        let ranges = calls(policy, architecture, default)?.into_ranges(architecture.bit, default);
        match filters.iter_mut().find(|(audit, _)| *audit == architecture.audit) {
            Some((_, filter)) => filter.extend(ranges),
            None => filters.push((architecture.audit, ranges)),
        }
    }
    let has_x32 = ARCHITECTURES.iter().filter(listed).any(|a| a.bit == X32_BIT);
    if cfg!(target_arch = "x86_64") && !has_x32 {
        // It would be a second way around every rule, and hardly any kernel has it.
        let unknown = Choice::always(libc::SECCOMP_RET_ERRNO | ENOSYS);
        filters.iter_mut().take(1).for_each(|(_, filter)| filter.push((X32_BIT, unknown.clone())));
    }
    let program = program::assemble(&filters, libc::SECCOMP_RET_KILL_PROCESS);
    if program.len() > MAX_INSTRUCTIONS {
        return Err(invalid(&format!("it compiles to {} instructions", program.len())));
    }
    // Filters that allow everything are not worth running at each call.
    let idle = default == libc::SECCOMP_RET_ALLOW && policy.syscalls.is_empty();
    let foreign =
        policy.architectures.iter().filter(|name| !architecture::NAMES.contains(&name.as_str()));
    Ok(Compiled {
        program: if idle { Vec::new() } else { program },
        flags: flags(policy)?,
        // Docker's profiles list every relative of the machine's architecture; only unknown names are worth a word.
        warnings: foreign.map(|name| Warning::SeccompArchitecture(name.clone())).collect(),
    })
}

/// The filter that a policy becomes, for who wants to look at it: classic BPF, which returns what `seccomp(2)` takes.
///
/// # Errors
/// When the policy makes no sense.
pub fn program(policy: &Seccomp) -> Result<Vec<Instruction>, Error> {
    compile(policy).map(|compiled| compiled.program)
}

/// Whether an agent has to decide on some calls.
pub(super) fn notifies(policy: &Seccomp) -> bool {
    policy.default_action == Action::Notify
        || policy.syscalls.iter().any(|rule| rule.action == Action::Notify)
}

fn invalid(reason: &str) -> Error {
    Error::Invalid { field: "linux.seccomp".to_owned(), reason: reason.to_owned() }
}

/// The flags of `seccomp(2)` by their names.
pub(super) const FLAGS: [(&str, u32); 4] = [
    // There is one thread, and so nothing to synchronise.
    ("SECCOMP_FILTER_FLAG_TSYNC", 0),
    ("SECCOMP_FILTER_FLAG_LOG", libc::SECCOMP_FILTER_FLAG_LOG as u32),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32),
    ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", WAIT_KILLABLE_RECV),
];

/// The flags that are known, by name.
pub(super) const FLAG_NAMES: [&str; 4] = [FLAGS[0].0, FLAGS[1].0, FLAGS[2].0, FLAGS[3].0];

/// The architectures that this machine's processes can be filtered on.
pub(super) const ARCHITECTURE_NAMES: [&str; ARCHITECTURES.len()] = {
    let mut names = [""; ARCHITECTURES.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = ARCHITECTURES[at].name;
        at += 1;
    }
    names
};

/// Since Linux 5.19.
const WAIT_KILLABLE_RECV: u32 = 1 << 5;

fn flags(policy: &Seccomp) -> Result<u32, Error> {
    let mut flags = 0;
    for name in &policy.flags {
        let Some((_, flag)) = FLAGS.iter().find(|(known, _)| known == name) else {
            return Err(Error::Unsupported { field: format!("linux.seccomp.flags `{name}`") });
        };
        flags |= flag;
    }
    // It is about what an agent receives, and no kernel takes it without one.
    match notifies(policy) {
        true => Ok(flags | libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32),
        false => Ok(flags & !WAIT_KILLABLE_RECV),
    }
}

/// What a filter returns for an action (`SECCOMP_RET_*`).
fn returned(action: Action, errno: Option<u32>) -> Result<u32, Error> {
    const MAX_ERRNO: u32 = 4095;
    let most = match action {
        Action::Errno => MAX_ERRNO,
        Action::Trace => u16::MAX.into(),
        _ if errno.is_some() => {
            return Err(invalid(&format!("{action:?} is an action that returns no error number")));
        }
        _ => 0,
    };
    let errno = errno.unwrap_or(EPERM);
    if most > 0 && errno > most {
        return Err(invalid(&format!("an error number is above {most}")));
    }
    Ok(match action {
        Action::Allow => libc::SECCOMP_RET_ALLOW,
        Action::Errno => libc::SECCOMP_RET_ERRNO | errno,
        Action::KillProcess => libc::SECCOMP_RET_KILL_PROCESS,
        Action::KillThread => libc::SECCOMP_RET_KILL_THREAD,
        Action::Log => libc::SECCOMP_RET_LOG,
        Action::Notify => libc::SECCOMP_RET_USER_NOTIF,
        Action::Trace => libc::SECCOMP_RET_TRACE | errno,
        Action::Trap => libc::SECCOMP_RET_TRAP,
    })
}

/// What happens to the calls of one architecture.
struct Calls {
    /// By number.
    usual: Vec<Choice>,
    /// With greater numbers, sorted.
    private: BTreeMap<u32, Choice>,
}

impl Calls {
    fn get(&mut self, number: u32) -> &mut Choice {
        let usual = usize::try_from(number).ok().filter(|number| *number < self.usual.len());
        match usual {
            Some(number) => &mut self.usual[number],
            None => self.private.entry(number).or_default(),
        }
    }

    /// The calls as ranges of numbers, from each to the next.
    fn into_ranges(self, bit: u32, default: u32) -> Vec<Range> {
        let mut ranges: Vec<Range> = (bit..).zip(self.usual).collect();
        ranges.push((bit + NUMBERS as u32, Choice::always(default)));
        for (number, choice) in self.private {
            ranges.push((bit + number, choice));
            ranges.push((bit + number + 1, Choice::always(default)));
        }
        // Of two that begin at one number, the one behind is the call.
        let mut sorted: Vec<Range> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match sorted.last_mut() {
                Some(last) if last.0 == range.0 => *last = range,
                _ => sorted.push(range),
            }
        }
        for (_, choice) in &mut sorted {
            choice.settle(default);
        }
        sorted
    }
}

fn calls(policy: &Seccomp, architecture: &Architecture, default: u32) -> Result<Calls, Error> {
    let usual = vec![Choice::default(); NUMBERS];
    let mut calls = Calls { usual, private: BTreeMap::new() };
    for rule in &policy.syscalls {
        let action = returned(rule.action, rule.errno_ret)?;
        for row in rule.names.iter().filter_map(|name| row(name)) {
            let ints = if architecture.narrow { u8::MAX } else { int_arguments(row.0) };
            // Also what is left out is looked at, for its mistakes.
            let tests = tests(rule, ints)?;
            if action == default {
                continue;
            }
            if let Some(number) = architecture.number(row) {
                calls.get(number).add(&tests, action);
            }
            if let Some((through, selector)) = architecture.multiplexed(row.0)
                && let Some(tests) = multiplexed(&tests, rule.action, selector)
            {
                calls.get(through).add(&tests, action);
            }
        }
    }
    Ok(calls)
}

/// The conditions under which a call is one of those that go through another. What else it is passed lies in memory, out of
/// a filter's sight: so nothing is granted there under a condition, and what is refused under one is refused.
fn multiplexed(tests: &[Vec<Test>], action: Action, selector: u64) -> Option<Vec<Vec<Test>>> {
    let grants = matches!(action, Action::Allow | Action::Log | Action::Notify | Action::Trace);
    if grants && !tests.is_empty() {
        return None;
    }
    let operator = Operator::Equal;
    let this = Test { argument: 0, mask: u32::MAX.into(), value: selector, operator };
    Some(vec![vec![this]])
}

/// The lists of tests, of which one must hold; none if there are no conditions.
fn tests(rule: &SyscallRule, ints: u8) -> Result<Vec<Vec<Test>>, Error> {
    let test = |condition: &Condition| test(condition, ints);
    let tests = rule.args.iter().map(test).collect::<Result<Vec<Test>, Error>>()?;
    let twice = rule.args.iter().enumerate().any(|(at, condition)| {
        rule.args[..at].iter().any(|earlier| earlier.index == condition.index)
    });
    Ok(match (tests.is_empty(), twice) {
        (true, _) => Vec::new(),
        (false, true) => tests.into_iter().map(|test| vec![test]).collect(),
        (false, false) => vec![tests],
    })
}

fn test(condition: &Condition, ints: u8) -> Result<Test, Error> {
    let argument = u8::try_from(condition.index).ok().filter(|index| *index < 6);
    let argument = argument.ok_or_else(|| invalid("an argument's index is above 5"))?;
    let (mut mask, mut value) = match condition.op {
        Operator::MaskedEqual => (condition.value, condition.value_two),
        _ => (u64::MAX, condition.value),
    };
    if ints & 1 << argument != 0 {
        mask &= u64::from(u32::MAX);
    }
    if mask != u64::MAX {
        value &= mask;
    }
    Ok(Test { argument, mask, value, operator: condition.op })
}

fn int_arguments(name: &str) -> u8 {
    INT_ARGUMENTS.binary_search_by(|row| row.0.cmp(name)).map_or(0, |at| INT_ARGUMENTS[at].1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_ints_is_sorted() {
        assert!(INT_ARGUMENTS.is_sorted_by(|a, b| a.0 < b.0));
        assert!(INT_ARGUMENTS.iter().all(|int| row(int.0).is_some()));
    }

    fn compiled(text: &str) -> Result<Compiled, Error> {
        compile(&serde_json::from_str(text).unwrap())
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for bad in [
            r#"{"defaultAction":"SCMP_ACT_ALLOW","defaultErrnoRet":1}"#,
            r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":4096}"#,
            r#"{"defaultAction":"SCMP_ACT_TRACE","defaultErrnoRet":65536}"#,
            r#"{"defaultAction":"SCMP_ACT_ERRNO","flags":["SECCOMP_FILTER_FLAG_TELEPORT"]}"#,
            r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_KILL","errnoRet":1}]}"#,
            r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW",
                "args":[{"index":6,"value":0,"op":"SCMP_CMP_EQ"}]}]}"#,
        ] {
            assert!(compiled(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn flags_are_the_kernels() {
        let flags = |action: &str| {
            let all = FLAGS.map(|(name, _)| format!("{name:?}")).join(",");
            let text = format!(r#"{{"defaultAction":"SCMP_ACT_{action}","flags":[{all}]}}"#);
            compiled(&text).unwrap().flags
        };
        assert_eq!(flags("ERRNO"), 2 | 4);
        assert_eq!(flags("NOTIFY"), 2 | 4 | 8 | 32);
    }
}
