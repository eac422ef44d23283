//! Which devices a control group may use: lines for version 1, a program for version 2.
//!
//! In both, everything is forbidden to begin with, and the last rule that fits decides.

use std::fs::File;
use std::path::Path;

use crate::oci::runtime_spec::linux::DeviceRule;
use crate::runtime::error::Error;
use crate::sys::bpf::{Instruction, attach_cgroup_device, load_cgroup_device};

/// `BPF_DEVCG_ACC_*` of `linux/bpf.h`.
const MKNOD: i32 = 1;
const READ: i32 = 2;
const WRITE: i32 = 4;
/// `BPF_DEVCG_DEV_*`.
const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;

/// A rule in numbers; `None` stands for all.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Rule {
    allow: bool,
    kind: Option<i32>,
    major: Option<i32>,
    minor: Option<i32>,
    access: i32,
}

fn parse(rule: &DeviceRule) -> Result<Rule, Error> {
    let invalid = |reason: &str| Error::Invalid {
        field: "linux.resources.devices".to_owned(),
        reason: reason.to_owned(),
    };
    let number = |value: Option<i64>| match value {
        None | Some(-1) => Ok(None),
        Some(value) => i32::try_from(value)
            .ok()
            .filter(|value| *value >= 0)
            .map(Some)
            .ok_or_else(|| invalid("a device number is out of range")),
    };
    let kind = match rule.kind.as_deref() {
        None | Some("" | "a") => None,
        Some("b") => Some(BLOCK),
        Some("c" | "u") => Some(CHARACTER),
        Some(_) => return Err(invalid("a type is not `a`, `b` or `c`")),
    };
    let letters = rule.access.as_deref().filter(|access| !access.is_empty()).unwrap_or("rwm");
    let access = letters.chars().try_fold(0, |access, letter| match letter {
        'm' => Ok(access | MKNOD),
        'r' => Ok(access | READ),
        'w' => Ok(access | WRITE),
        _ => Err(invalid("an access is not made of `r`, `w` and `m`")),
    })?;
    let (major, minor) = (number(rule.major)?, number(rule.minor)?);
    Ok(Rule { allow: rule.allow, kind, major, minor, access })
}

/// Files of version 1 and what is written there, in this order.
pub(super) fn v1_lines(rules: &[DeviceRule]) -> Result<Vec<(&'static str, String)>, Error> {
    let mut lines = vec![("devices.deny", "a".to_owned())];
    for rule in rules {
        let parsed = parse(rule)?;
        let file = if parsed.allow { "devices.allow" } else { "devices.deny" };
        let number = |n: Option<i32>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
        let numbers = format!("{}:{}", number(parsed.major), number(parsed.minor));
        let access = rule.access.as_deref().filter(|access| !access.is_empty()).unwrap_or("rwm");
        match parsed.kind {
            None if numbers == "*:*" && access.len() == 3 => lines.push((file, "a".to_owned())),
            None => {
                lines.push((file, format!("b {numbers} {access}")));
                lines.push((file, format!("c {numbers} {access}")));
            }
            Some(BLOCK) => lines.push((file, format!("b {numbers} {access}"))),
            Some(_) => lines.push((file, format!("c {numbers} {access}"))),
        }
    }
    Ok(lines)
}

/// The devices that the rules allow, as systemd's `DeviceAllow` has them; `None` are all.
pub(super) fn systemd_list(rules: &[DeviceRule]) -> Result<Option<Vec<(String, String)>>, Error> {
    let (mut everything, mut list) = (false, Vec::new());
    for rule in rules {
        let Rule { allow, kind, major, minor, access } = parse(rule)?;
        if (kind, major, minor, access) == (None, None, None, MKNOD | READ | WRITE) {
            (everything, list) = (allow, Vec::new());
            continue;
        }
        match (allow, major, minor) {
            (true, ..) if everything => {}
            // Nothing is allowed that it could forbid.
            (false, ..) if !everything && list.is_empty() => {}
            (false, ..) | (true, None, Some(_)) => {
                let field = "linux.resources.devices".to_owned();
                let reason = "systemd can allow devices of a number only, and forbid none";
                return Err(Error::Invalid { field, reason: reason.to_owned() });
            }
            (true, ..) => {
                let kinds = [(BLOCK, "block"), (CHARACTER, "char")].into_iter();
                let kinds = kinds.filter(|(number, _)| kind.is_none_or(|kind| kind == *number));
                let letters = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')].into_iter();
                let letters = letters.filter(|(bit, _)| access & bit != 0);
                let letters: String = letters.map(|(_, letter)| letter).collect();
                list.extend(kinds.map(|(_, word)| {
                    let device = match (major, minor) {
                        (Some(major), Some(minor)) => format!("/dev/{word}/{major}:{minor}"),
                        (Some(major), None) => format!("{word}-{major}"),
                        (None, _) => format!("{word}-*"),
                    };
                    (device, letters.clone())
                }));
            }
        }
    }
    Ok((!everything).then_some(list))
}

/// Attaches a program with these rules to a version 2 group; without rules, everything stays as it is above.
pub(super) fn attach(group: &File, path: &Path, rules: &[DeviceRule]) -> Result<(), Error> {
    if rules.is_empty() {
        return Ok(());
    }
    let rules: Vec<Rule> = rules.iter().map(parse).collect::<Result<_, _>>()?;
    let failed = |action| move |source| Error::Cgroup { action, path: path.to_owned(), source };
    let program =
        load_cgroup_device(&program(&rules)).map_err(failed("load a device program for"))?;
    attach_cgroup_device(group, &program).map_err(failed("attach a device program to"))
}

/// The rules as a program, the last one first, so that the first that fits decides.
///
/// The kernel passes `struct bpf_cgroup_dev_ctx` in r1: the access in the high and the type in the low half of a word, the
/// major number, the minor number. What is returned is whether the access is allowed.
fn program(rules: &[Rule]) -> Vec<Instruction> {
    let mut program = vec![
        // r2 = type, r3 = access, r4 = major, r5 = minor
        load_word(2, 0),
        and(2, 0xffff),
        load_word(3, 0),
        shift_right(3, 16),
        load_word(4, 4),
        load_word(5, 8),
    ];
    for rule in rules.iter().rev() {
        let mut tests = Vec::new();
        if let Some(kind) = rule.kind {
            tests.push(skip_unless_equal(2, kind));
        }
        if rule.allow {
            // Every access that is asked for must be one of the rule's: none is left without them.
            if rule.access != MKNOD | READ | WRITE {
                tests.push(copy(1, 3));
                tests.push(and(1, !rule.access));
                tests.push(skip_unless_equal(1, 0));
            }
        } else if rule.access != MKNOD | READ | WRITE {
            tests.push(copy(1, 3));
            tests.push(and(1, rule.access));
            tests.push(skip_if_equal(1, 0));
        }
        if let Some(major) = rule.major {
            tests.push(skip_unless_equal(4, major));
        }
        if let Some(minor) = rule.minor {
            tests.push(skip_unless_equal(5, minor));
        }
        let everything = tests.is_empty();
        let length = tests.len() + 2;
        for (at, test) in tests.iter_mut().enumerate() {
            if test.code & 0x07 == 0x05 {
                test.offset = i16::try_from(length - at - 1).unwrap_or(i16::MAX);
            }
        }
        program.extend(tests);
        program.extend([set(0, i32::from(rule.allow)), exit()]);
        if everything {
            // What comes behind could never be reached, which the verifier refuses.
            return program;
        }
    }
    program.extend([set(0, 0), exit()]);
    program
}

fn instruction(code: u8, registers: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers, offset, immediate }
}

/// `BPF_LDX | BPF_MEM | BPF_W` from r1.
fn load_word(register: u8, offset: i16) -> Instruction {
    instruction(0x61, register | 1 << 4, offset, 0)
}

/// `BPF_ALU | BPF_AND | BPF_K`
fn and(register: u8, value: i32) -> Instruction {
    instruction(0x54, register, 0, value)
}

/// `BPF_ALU | BPF_RSH | BPF_K`
fn shift_right(register: u8, bits: i32) -> Instruction {
    instruction(0x74, register, 0, bits)
}

/// `BPF_ALU | BPF_MOV | BPF_X`
fn copy(to: u8, from: u8) -> Instruction {
    instruction(0xbc, to | from << 4, 0, 0)
}

/// `BPF_ALU64 | BPF_MOV | BPF_K`
fn set(register: u8, value: i32) -> Instruction {
    instruction(0xb7, register, 0, value)
}

/// `BPF_JMP | BPF_JNE | BPF_K`; where to is filled in later.
fn skip_unless_equal(register: u8, value: i32) -> Instruction {
    instruction(0x55, register, 0, value)
}

/// `BPF_JMP | BPF_JEQ | BPF_K`
fn skip_if_equal(register: u8, value: i32) -> Instruction {
    instruction(0x15, register, 0, value)
}

/// `BPF_JMP | BPF_EXIT`
fn exit() -> Instruction {
    instruction(0x95, 0, 0, 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::defaults;

    /// Runs a program as the kernel would.
    fn allows(program: &[Instruction], kind: i32, access: i32, major: i32, minor: i32) -> bool {
        let context = [access << 16 | kind, major, minor];
        let mut registers = [0i64; 11];
        let mut at = 0;
        loop {
            let i = program[at];
            let (to, from) = (usize::from(i.registers & 15), usize::from(i.registers >> 4));
            at += 1;
            let value = i64::from(i.immediate);
            let low = |value: i64| value & 0xffff_ffff;
            match i.code {
                0x61 => registers[to] = low(context[usize::try_from(i.offset).unwrap() / 4].into()),
                0x54 => registers[to] = low(registers[to] & value),
                0x74 => registers[to] = low(registers[to]) >> value,
                0xbc => registers[to] = low(registers[from]),
                0xb7 => registers[to] = value,
                0x55 if registers[to] != value => at += usize::try_from(i.offset).unwrap(),
                0x15 if registers[to] == value => at += usize::try_from(i.offset).unwrap(),
                0x55 | 0x15 => {}
                0x95 => return registers[0] != 0,
                code => panic!("code {code:x}"),
            }
        }
    }

    #[test]
    fn the_last_rule_that_fits_decides() {
        let rules: Vec<Rule> =
            defaults::device_rules().iter().map(|rule| parse(rule).unwrap()).collect();
        let default = program(&rules);
        assert!(allows(&default, CHARACTER, READ | WRITE, 1, 3));
        assert!(allows(&default, CHARACTER, WRITE, 136, 7));
        assert!(allows(&default, BLOCK, MKNOD, 8, 0));
        assert!(!allows(&default, BLOCK, MKNOD | READ, 8, 0));
        assert!(!allows(&default, BLOCK, READ, 8, 0));
        assert!(!allows(&default, CHARACTER, READ, 1, 1));
        let rule = |allow, access| Rule { allow, kind: None, major: None, minor: None, access };
        let all = program(&[rule(false, 7), rule(true, 7)]);
        assert!(allows(&all, BLOCK, READ | WRITE | MKNOD, 8, 0));
        let no_writing = program(&[rule(true, 7), rule(false, WRITE)]);
        assert!(allows(&no_writing, BLOCK, READ, 8, 0));
        assert!(!allows(&no_writing, BLOCK, READ | WRITE, 8, 0));
    }

    #[test]
    fn what_systemd_is_told() {
        let list = |json: &str| systemd_list(&serde_json::from_str::<Vec<_>>(json).unwrap());
        let some = list(
            r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":1,"minor":3,"access":"rw"},
                {"allow":true,"major":8},{"allow":true,"type":"c","access":"m"}]"#,
        );
        let words = |list: &[(&str, &str)]| {
            let pairs = list.iter().map(|(device, access)| ((*device).into(), (*access).into()));
            Some(pairs.collect::<Vec<(String, String)>>())
        };
        assert_eq!(
            some.unwrap(),
            words(&[
                ("/dev/char/1:3", "rw"),
                ("block-8", "rwm"),
                ("char-8", "rwm"),
                ("char-*", "m")
            ])
        );
        assert_eq!(list(r#"[{"allow":false},{"allow":true}]"#).unwrap(), None);
        assert_eq!(list(r#"[{"allow":true},{"allow":false}]"#).unwrap(), words(&[]));
        assert!(list(r#"[{"allow":true},{"allow":false,"major":8}]"#).is_err());
        assert!(list(r#"[{"allow":true,"minor":8}]"#).is_err());
    }

    #[test]
    fn version_1_lines() {
        let rule = |json: &str| serde_json::from_str::<DeviceRule>(json).unwrap();
        let rules = [
            rule(r#"{"allow":false,"access":"rwm"}"#),
            rule(r#"{"allow":true,"type":"c","major":1,"minor":3,"access":"rw"}"#),
            rule(r#"{"allow":true,"type":"b","major":8}"#),
        ];
        assert_eq!(
            v1_lines(&rules).unwrap(),
            [
                ("devices.deny", "a".to_owned()),
                ("devices.deny", "a".to_owned()),
                ("devices.allow", "c 1:3 rw".to_owned()),
                ("devices.allow", "b 8:* rwm".to_owned()),
            ]
        );
        assert!(v1_lines(&[rule(r#"{"allow":true,"access":"x"}"#)]).is_err());
    }
}
