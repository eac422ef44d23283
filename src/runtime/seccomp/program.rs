//! Filters as classic BPF: a binary search for the number, and comparisons of arguments behind it.
//!
//! The kernel runs the program once for every number when it is set, to find out which calls it always allows, and at each
//! of the other calls: a search keeps both short.

use crate::oci::runtime_spec::seccomp::Operator;
use crate::sys::seccomp::Instruction;

/// A comparison of an argument.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Test {
    /// 0 to 5.
    pub argument: u8,
    /// The bits that count.
    pub mask: u64,
    pub value: u64,
    pub operator: Operator,
}

/// What happens to one call: the last action if there is one, else that of the first list of tests that all hold. Once it
/// is settled there always is one, for when no list holds.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Choice {
    pub tests: Vec<(Vec<Test>, u32)>,
    pub otherwise: Option<u32>,
}

/// A call's number, and what happens to it and to all further ones up to the next of these.
pub(super) type Range = (u32, Choice);

impl Choice {
    /// The same for every argument.
    pub(super) fn always(action: u32) -> Self {
        Self { tests: Vec::new(), otherwise: Some(action) }
    }

    /// Adds a rule; one without tests always holds, and is the only one from then on.
    pub(super) fn add(&mut self, tests: &[Vec<Test>], action: u32) {
        if self.otherwise.is_some() {
            return;
        }
        if tests.is_empty() {
            *self = Self::always(action);
        } else {
            self.tests.extend(tests.iter().map(|tests| (tests.clone(), action)));
        }
    }

    /// Nothing more is added: where no tests hold, the default does.
    pub(super) fn settle(&mut self, default: u32) {
        self.otherwise.get_or_insert(default);
    }
}

/// `offsetof(struct seccomp_data, …)`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// `BPF_LD | BPF_W | BPF_ABS`
const LOAD: u16 = 0x20;
/// `BPF_ALU | BPF_AND | BPF_K`
const AND: u16 = 0x54;
/// `BPF_JMP | BPF_JA`
const JUMP: u16 = 0x05;
/// `BPF_JMP | BPF_JEQ | BPF_K`
const EQUAL: u16 = 0x15;
/// `BPF_JMP | BPF_JGT | BPF_K`
const GREATER: u16 = 0x25;
/// `BPF_JMP | BPF_JGE | BPF_K`
const GREATER_EQUAL: u16 = 0x35;
/// `BPF_RET | BPF_K`
const RETURN: u16 = 0x06;

fn plain(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}

/// Puts the filters of several architectures, by their `AUDIT_ARCH_*`, behind one another; other ones get `bad`.
pub(super) fn assemble(filters: &[(u32, Vec<Range>)], bad: u32) -> Vec<Instruction> {
    let mut program = vec![plain(LOAD, ARCHITECTURE)];
    for (architecture, ranges) in filters {
        let mut block = vec![plain(LOAD, NUMBER)];
        block.extend(dispatch(ranges));
        program.push(Instruction { code: EQUAL, jt: 1, jf: 0, k: *architecture });
        program.push(plain(JUMP, distance(&block)));
        program.extend(block);
    }
    program.push(plain(RETURN, bad));
    program
}

/// The filter of one architecture, with the number loaded already.
fn dispatch(ranges: &[Range]) -> Vec<Instruction> {
    // Ranges with the same end are one.
    let mut merged: Vec<(u32, Vec<Instruction>)> = Vec::new();
    let mut last: Option<&Choice> = None;
    for (first, choice) in ranges {
        if last != Some(choice) {
            merged.push((*first, body(choice)));
            last = Some(choice);
        }
    }
    search(&merged)
}

fn search(ranges: &[(u32, Vec<Instruction>)]) -> Vec<Instruction> {
    match ranges {
        [] => Vec::new(),
        [(_, body)] => body.clone(),
        _ => {
            let (low, high) = ranges.split_at(ranges.len() / 2);
            let first = high.first().map_or(0, |(first, _)| *first);
            let low = search(low);
            let mut code = match u8::try_from(low.len()) {
                Ok(skip) => vec![Instruction { code: GREATER_EQUAL, jt: skip, jf: 0, k: first }],
                Err(_) => vec![
                    Instruction { code: GREATER_EQUAL, jt: 0, jf: 1, k: first },
                    plain(JUMP, distance(&low)),
                ],
            };
            code.extend(low);
            code.extend(search(high));
            code
        }
    }
}

fn distance(code: &[Instruction]) -> u32 {
    u32::try_from(code.len()).unwrap_or(u32::MAX)
}

fn body(choice: &Choice) -> Vec<Instruction> {
    let mut code = Vec::new();
    for (tests, action) in &choice.tests {
        let mut rule = vec![plain(RETURN, *action)];
        // Backwards, so that the distance to the next rule, behind this one's end, is known.
        for test in tests.iter().rev() {
            let mut front = comparison(*test, rule.len());
            front.append(&mut rule);
            rule = front;
        }
        code.extend(rule);
    }
    code.push(plain(RETURN, choice.otherwise.unwrap_or(libc::SECCOMP_RET_KILL_PROCESS)));
    code
}

/// Where a jump of a comparison leads, before the distance is known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum To {
    /// To the next instruction.
    Next,
    /// Behind the comparison, as it holds.
    Pass,
    /// Over the rest of the rule, as it does not.
    Fail,
}

/// A comparison: falls through if it holds, else jumps over `rest` further instructions.
fn comparison(test: Test, rest: usize) -> Vec<Instruction> {
    let (high_mask, low_mask) = ((test.mask >> 32) as u32, test.mask as u32);
    let (high, low) = ((test.value >> 32) as u32, test.value as u32);
    let offset = ARGUMENTS + 8 * u32::from(test.argument);
    let big = cfg!(target_endian = "big");
    let (high_at, low_at) = if big { (offset, offset + 4) } else { (offset + 4, offset) };
    let mut code: Vec<(Instruction, To, To)> = Vec::new();
    let load = |code: &mut Vec<_>, at: u32, mask: u32| {
        code.push((plain(LOAD, at), To::Next, To::Next));
        if mask != u32::MAX {
            code.push((plain(AND, mask), To::Next, To::Next));
        }
    };
    // A whole number whose high half does not count is compared by its low half alone.
    let wide = high_mask != 0 || high != 0;
    let (equal, unequal) = match test.operator {
        Operator::NotEqual => (To::Fail, To::Pass),
        _ => (To::Pass, To::Fail),
    };
    match test.operator {
        Operator::Equal | Operator::MaskedEqual | Operator::NotEqual => {
            if wide {
                load(&mut code, high_at, high_mask);
                code.push((plain(EQUAL, high), To::Next, unequal));
            }
            load(&mut code, low_at, low_mask);
            code.push((plain(EQUAL, low), equal, unequal));
        }
        Operator::Greater | Operator::GreaterEqual | Operator::Less | Operator::LessEqual => {
            let (over, under, last) = match test.operator {
                Operator::Greater => (To::Pass, To::Fail, (GREATER, To::Pass, To::Fail)),
                Operator::GreaterEqual => (To::Pass, To::Fail, (GREATER_EQUAL, To::Pass, To::Fail)),
                Operator::Less => (To::Fail, To::Pass, (GREATER_EQUAL, To::Fail, To::Pass)),
                _ => (To::Fail, To::Pass, (GREATER, To::Fail, To::Pass)),
            };
            if wide {
                load(&mut code, high_at, high_mask);
                code.push((plain(GREATER, high), over, To::Next));
                code.push((plain(EQUAL, high), To::Next, under));
            }
            load(&mut code, low_at, low_mask);
            code.push((plain(last.0, low), last.1, last.2));
        }
    }
    let length = code.len();
    let resolve = |(at, (mut instruction, yes, no)): (usize, (Instruction, To, To))| {
        let distance = |to: To| match to {
            To::Next => 0,
            To::Pass => length - at - 1,
            To::Fail => length - at - 1 + rest,
        };
        // A rule has at most six tests of six instructions: this always fits.
        instruction.jt = u8::try_from(distance(yes)).unwrap_or(u8::MAX);
        instruction.jf = u8::try_from(distance(no)).unwrap_or(u8::MAX);
        instruction
    };
    code.into_iter().enumerate().map(resolve).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::runtime_spec::seccomp::Seccomp;

    /// A system call as a filter sees it.
    struct Call {
        architecture: u32,
        number: u32,
        arguments: [u64; 6],
    }

    /// Runs a program as the kernel does.
    fn run(program: &[Instruction], call: &Call) -> u32 {
        let mut at = 0;
        let mut accumulator = 0;
        loop {
            let Instruction { code, jt, jf, k } = program[at];
            at += 1;
            let condition = match code {
                LOAD => {
                    accumulator = match k {
                        NUMBER => call.number,
                        ARCHITECTURE => call.architecture,
                        _ => {
                            let argument = call.arguments[usize::try_from((k - 16) / 8).unwrap()];
                            if k % 8 == 0 { argument as u32 } else { (argument >> 32) as u32 }
                        }
                    };
                    continue;
                }
                AND => {
                    accumulator &= k;
                    continue;
                }
                JUMP => {
                    at += usize::try_from(k).unwrap();
                    continue;
                }
                RETURN => return k,
                EQUAL => accumulator == k,
                GREATER => accumulator > k,
                GREATER_EQUAL => accumulator >= k,
                code => panic!("code {code:x}"),
            };
            at += usize::from(if condition { jt } else { jf });
        }
    }

    fn holds(operator: Operator, argument: u64, test: &Test) -> bool {
        let argument = argument & test.mask;
        match operator {
            Operator::NotEqual => argument != test.value,
            Operator::Less => argument < test.value,
            Operator::LessEqual => argument <= test.value,
            Operator::Equal | Operator::MaskedEqual => argument == test.value,
            Operator::GreaterEqual => argument >= test.value,
            Operator::Greater => argument > test.value,
        }
    }

    #[test]
    fn comparisons_are_those_of_64_bits() {
        let operators = [
            Operator::NotEqual,
            Operator::Less,
            Operator::LessEqual,
            Operator::Equal,
            Operator::GreaterEqual,
            Operator::Greater,
            Operator::MaskedEqual,
        ];
        let values = [
            0,
            1,
            2,
            0xffff_ffff,
            0x1_0000_0000,
            0x1_0000_0001,
            0x2_0000_0000,
            u64::MAX - 1,
            u64::MAX,
        ];
        for operator in operators {
            for value in values {
                for mask in [u64::MAX, 0xffff_ffff, 0x00ff_0000_00ff] {
                    if mask != u64::MAX && (value & mask != value) {
                        continue;
                    }
                    let test = Test { argument: 3, mask, value, operator };
                    let also =
                        Test { argument: 0, mask: u64::MAX, value: 7, operator: Operator::Equal };
                    let choice = Choice { tests: vec![(vec![test, also], 1)], otherwise: Some(2) };
                    let program = body(&choice);
                    for argument in values {
                        for first in [7, 8] {
                            let arguments = [first, 0, 0, argument, 0, 0];
                            let call = Call { architecture: 0, number: 0, arguments };
                            let expected = first == 7 && holds(operator, argument, &test);
                            let found = run(&program, &call) == 1;
                            assert_eq!(found, expected, "{test:x?} {argument:x}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn every_number_finds_its_end() {
        // A pattern without order, long enough for jumps that do not fit into eight bits.
        let action = |number: u32| number.wrapping_mul(2_654_435_761) >> 30;
        let mut ranges: Vec<Range> = (0..900).map(|n| (n, Choice::always(action(n)))).collect();
        ranges.push((900, Choice::always(0)));
        let program = assemble(&[(9, ranges)], 6);
        for number in 0..1000 {
            let call = Call { architecture: 9, number, arguments: [0; 6] };
            let expected = if number < 900 { action(number) } else { 0 };
            assert_eq!(run(&program, &call), expected, "{number}");
        }
        let call = Call { architecture: 8, number: 1, arguments: [0; 6] };
        assert_eq!(run(&program, &call), 6);
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_default_policy() {
        use crate::oci::capability::{Capability, CapabilitySet};
        use crate::runtime::defaults;
        use crate::runtime::seccomp::{compile, default_seccomp};
        let run_default = |capabilities: &CapabilitySet, number: i64, arguments: [u64; 6]| {
            let policy: Seccomp = default_seccomp(capabilities);
            let program = compile(&policy).unwrap().program;
            let number = u32::try_from(number).unwrap();
            run(&program, &Call { architecture: 0xc000_003e, number, arguments })
        };
        let (allow, errno) = (libc::SECCOMP_RET_ALLOW, libc::SECCOMP_RET_ERRNO);
        let usual = defaults::capabilities();
        let mut admin = usual.clone();
        admin.insert(Capability::SYS_ADMIN);
        let first = |argument| [argument, 0, 0, 0, 0, 0];
        for (number, arguments, expected) in [
            (libc::SYS_read, first(0), allow),
            (libc::SYS_socket, first(1), allow),
            (libc::SYS_socket, first(0xdead_0000_0002), allow),
            (libc::SYS_socket, first(17), errno | 97),
            (libc::SYS_socket, first(38), errno | 97),
            (libc::SYS_socket, first(0x1_0000_0026), errno | 97),
            (libc::SYS_ioctl, [0, 0x5412, 0, 0, 0, 0], errno | 1),
            (libc::SYS_ioctl, [0, 0xff_0000_5412, 0, 0, 0, 0], errno | 1),
            (libc::SYS_ioctl, [0, 0x5413, 0, 0, 0, 0], allow),
            (libc::SYS_clone, first(0x11), allow),
            (libc::SYS_clone, first(0x1000_0011), errno | 1),
            (libc::SYS_clone3, first(0), errno | 38),
            (libc::SYS_unshare, first(0), errno | 1),
            (libc::SYS_io_uring_setup, first(0), errno | 1),
            (libc::SYS_personality, first(0xffff_ffff), allow),
            (libc::SYS_personality, first(0x40000), errno | 1),
            (0x4000_0000, first(0), errno | 38),
            (500, first(0), errno | 38),
        ] {
            assert_eq!(run_default(&usual, number, arguments), expected, "{number} {arguments:x?}");
        }
        assert_eq!(run_default(&admin, libc::SYS_unshare, first(0)), allow);
        assert_eq!(run_default(&admin, libc::SYS_clone, first(0x1000_0011)), allow);
        assert_eq!(run_default(&admin, libc::SYS_clone3, first(0)), allow);
        assert_eq!(run_default(&admin, libc::SYS_keyctl, first(0)), errno | 1);
    }
}
