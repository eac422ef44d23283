//! System call filters: the policy of a spec as a classic BPF program, and the default policy.

mod profile;
mod program;
mod tables;

use super::error::{Error, Warning};
use crate::oci::runtime_spec::seccomp::{Action, Condition, Operator, Seccomp, SyscallRule};
use crate::sys::seccomp::{Instruction, MAX_INSTRUCTIONS};
pub use profile::default_seccomp;
use program::{Choice, Test};
use tables::{NUMBERS, Row, SYSCALLS};

/// A policy, ready to be set.
#[derive(Debug, Default)]
pub(super) struct Compiled {
    /// Empty for no filter.
    pub program: Vec<Instruction>,
    /// For `seccomp(2)`.
    pub flags: u32,
    pub warnings: Vec<Warning>,
}

/// A calling convention, with its column in the table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Architecture {
    name: &'static str,
    /// `AUDIT_ARCH_*` of `linux/audit.h`.
    audit: u32,
    column: usize,
}

/// The conventions that processes on this machine can use, the native one first.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURES: [Architecture; 2] = [
    Architecture { name: "SCMP_ARCH_X86_64", audit: 0xc000_003e, column: 0 },
    Architecture { name: "SCMP_ARCH_X86", audit: 0x4000_0003, column: 1 },
];
#[cfg(target_arch = "aarch64")]
const ARCHITECTURES: [Architecture; 1] =
    [Architecture { name: "SCMP_ARCH_AARCH64", audit: 0xc000_00b7, column: 2 }];

/// x32 has numbers of its own on x86_64, with this bit. It is always refused: it is a second way around every rule, and
/// hardly any kernel has it.
const X32_BIT: u32 = 0x4000_0000;

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
/// The rules of one call are tried in this order: those with conditions as they come, then the first without. As in
/// libseccomp's users, a rule that has two conditions on one argument is taken as a rule for each of its conditions.
pub(super) fn compile(policy: &Seccomp) -> Result<Compiled, Error> {
    let default = returned(policy.default_action, policy.default_errno_ret)?;
    let wanted = |architecture: &&Architecture| {
        architecture.name == ARCHITECTURES[0].name
            || policy.architectures.iter().any(|name| name == architecture.name)
    };
    let wanted: Vec<&Architecture> = ARCHITECTURES.iter().filter(wanted).collect();
    let choices = choices(policy, &wanted, default)?;
    let dispatch = |(architecture, choices): (&&Architecture, &Vec<Choice>)| {
        (architecture.audit, program::dispatch(choices, default))
    };
    let filters: Vec<_> = wanted.iter().zip(&choices).map(dispatch).collect();
    let x32 = cfg!(target_arch = "x86_64").then_some(X32_BIT);
    let bad = libc::SECCOMP_RET_KILL_PROCESS;
    let program = program::assemble(&filters, x32, libc::SECCOMP_RET_ERRNO | ENOSYS, bad);
    if program.len() > MAX_INSTRUCTIONS {
        return Err(invalid(&format!("it compiles to {} instructions", program.len())));
    }
    // Filters that allow everything are not worth running at each call.
    let idle = default == libc::SECCOMP_RET_ALLOW && policy.syscalls.is_empty();
    let known = |name: &str| {
        name == "SCMP_ARCH_X32"
            || ARCHITECTURES.iter().any(|architecture| architecture.name == name)
    };
    let foreign = policy.architectures.iter().filter(|name| !known(name));
    Ok(Compiled {
        program: if idle { Vec::new() } else { program },
        flags: flags(policy)?,
        // Docker's profiles list every relative of the machine's architecture; only unknown names are worth a word.
        warnings: foreign
            .filter(|name| !name.starts_with("SCMP_ARCH_"))
            .map(|name| Warning::SeccompArchitecture(name.clone()))
            .collect(),
    })
}

fn invalid(reason: &str) -> Error {
    Error::Invalid { field: "linux.seccomp".to_owned(), reason: reason.to_owned() }
}

fn flags(policy: &Seccomp) -> Result<u32, Error> {
    policy.flags.iter().try_fold(0, |flags, name| match name.as_str() {
        // There is one thread, and so nothing to synchronise.
        "SECCOMP_FILTER_FLAG_TSYNC" => Ok(flags),
        "SECCOMP_FILTER_FLAG_LOG" => Ok(flags | libc::SECCOMP_FILTER_FLAG_LOG as u32),
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => Ok(flags | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32),
        _ => Err(Error::Unsupported { field: format!("linux.seccomp.flags `{name}`") }),
    })
}

/// What a filter returns for an action (`SECCOMP_RET_*`).
fn returned(action: Action, errno: Option<u32>) -> Result<u32, Error> {
    let errno = errno.unwrap_or(EPERM);
    if errno > 4095 {
        return Err(invalid("an error number is above 4095"));
    }
    match action {
        Action::Allow => Ok(libc::SECCOMP_RET_ALLOW),
        Action::Errno => Ok(libc::SECCOMP_RET_ERRNO | errno),
        Action::KillProcess => Ok(libc::SECCOMP_RET_KILL_PROCESS),
        Action::KillThread => Ok(libc::SECCOMP_RET_KILL_THREAD),
        Action::Log => Ok(libc::SECCOMP_RET_LOG),
        Action::Trace => Ok(libc::SECCOMP_RET_TRACE | errno),
        Action::Trap => Ok(libc::SECCOMP_RET_TRAP),
        Action::Notify => {
            Err(Error::Unsupported { field: "linux.seccomp action `SCMP_ACT_NOTIFY`".to_owned() })
        }
    }
}

/// For each architecture, and in it for each number up to the last that a rule speaks of, what happens to the call.
fn choices(
    policy: &Seccomp,
    architectures: &[&Architecture],
    default: u32,
) -> Result<Vec<Vec<Choice>>, Error> {
    let mut all: Vec<Vec<Choice>> = vec![vec![Choice::default(); NUMBERS]; architectures.len()];
    for rule in &policy.syscalls {
        let action = returned(rule.action, rule.errno_ret)?;
        for row in rule.names.iter().filter_map(|name| row(name)) {
            for (architecture, choices) in architectures.iter().zip(&mut all) {
                let number = number(row, **architecture);
                let Some(choice) = number.and_then(|n| choices.get_mut(n)) else { continue };
                if rule.args.is_empty() {
                    choice.otherwise.get_or_insert(action);
                } else {
                    add_tests(rule, int_arguments(row.0), action, choice)?;
                }
            }
        }
    }
    for choice in all.iter_mut().flatten() {
        let otherwise = *choice.otherwise.get_or_insert(default);
        // Tests that change nothing, at the end, need not be made.
        while choice.tests.last().is_some_and(|(_, action)| *action == otherwise) {
            choice.tests.pop();
        }
    }
    Ok(all)
}

fn add_tests(rule: &SyscallRule, ints: u8, action: u32, choice: &mut Choice) -> Result<(), Error> {
    let test = |condition: &Condition| test(condition, ints);
    let tests = rule.args.iter().map(test).collect::<Result<Vec<Test>, Error>>()?;
    let twice = rule.args.iter().enumerate().any(|(at, condition)| {
        rule.args[..at].iter().any(|earlier| earlier.index == condition.index)
    });
    if twice {
        choice.tests.extend(tests.into_iter().map(|test| (vec![test], action)));
    } else {
        choice.tests.push((tests, action));
    }
    Ok(())
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
        value &= u64::from(u32::MAX);
    }
    Ok(Test { argument, mask, value, operator: condition.op })
}

fn row(name: &str) -> Option<&'static Row> {
    let found = SYSCALLS.binary_search_by(|row| row.0.cmp(name)).ok()?;
    SYSCALLS.get(found)
}

fn number(row: &Row, architecture: Architecture) -> Option<usize> {
    usize::try_from([row.1, row.2, row.3].get(architecture.column).copied()?).ok()
}

fn int_arguments(name: &str) -> u8 {
    INT_ARGUMENTS.binary_search_by(|row| row.0.cmp(name)).map_or(0, |at| INT_ARGUMENTS[at].1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_sorted() {
        assert!(SYSCALLS.is_sorted_by(|a, b| a.0 < b.0));
        assert!(INT_ARGUMENTS.is_sorted_by(|a, b| a.0 < b.0));
        assert!(INT_ARGUMENTS.iter().all(|row| self::row(row.0).is_some()));
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn numbers_are_the_kernels() {
        let [x86_64, i386] = ARCHITECTURES;
        for (name, expected) in [
            ("read", libc::SYS_read),
            ("clone3", libc::SYS_clone3),
            ("fchmodat2", libc::SYS_fchmodat2),
            ("mount_setattr", libc::SYS_mount_setattr),
        ] {
            let found = row(name).and_then(|row| number(row, x86_64));
            assert_eq!(found, usize::try_from(expected).ok(), "{name}");
        }
        let socketcall = row("socketcall").unwrap();
        assert_eq!([number(socketcall, x86_64), number(socketcall, i386)], [None, Some(102)]);
        assert!(row("no_such_call").is_none());
        assert!(
            SYSCALLS.iter().all(|row| [row.1, row.2, row.3].iter().all(|n| *n < NUMBERS as i16))
        );
    }
}
