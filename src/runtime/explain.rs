//! Why a program cannot be executed, as far as its file tells.
//!
//! execve(2) has one number for many causes. The child looks at the file once the call has failed, as the user and behind
//! the filter that the program would have had, so that it sees what the program would have seen. What it reads is the
//! container's and hostile: a few kilobytes, of a regular file, and every number in it is checked.

use std::fmt;

/// The most that is read of a file, in bytes.
pub(super) const HEAD: usize = 4096;
/// The most of a path that goes into a message, in bytes.
pub(super) const MAX_TEXT: usize = 1024;
/// The kernel reads no more of a script's first line (`BINPRM_BUF_SIZE`).
pub(super) const FIRST_LINE: usize = 256;
/// How many program headers are looked at.
const MAX_HEADERS: usize = 64;
/// `PT_INTERP` of elf(5).
const PT_INTERP: u32 = 3;

/// Why a program cannot be executed.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Cause {
    /// It is for another machine, by its number in elf(5).
    Architecture(u16),
    /// It is open for writing.
    Busy,
    /// The first line of a script ends in a carriage return, which becomes part of the interpreter's name.
    CarriageReturn(String),
    /// It is a directory.
    Directory,
    /// There is nothing in it.
    Empty,
    /// The first line of a script is longer than the kernel reads.
    FirstLine,
    /// It is neither a program nor a script with a first line that names an interpreter.
    Format,
    /// The program that is to load or interpret it is not there.
    Interpreter(String),
    /// The program that is to interpret it may not be executed.
    InterpreterPermission(String),
    /// It is a symbolic link to nothing.
    Link(String),
    /// It lies on a mount without programs.
    Noexec,
    /// None of the folders of this `PATH` has it.
    NotInPath(String),
    /// Its mode does not let this user execute it.
    Permission(u32),
    /// It is a device, a pipe or a socket.
    Special,
}

impl Cause {
    /// As a child says it: a kind, a number and a text.
    pub(super) fn encode(&self) -> (u8, u32, &str) {
        match self {
            Self::Architecture(machine) => (1, u32::from(*machine), ""),
            Self::Busy => (2, 0, ""),
            Self::CarriageReturn(path) => (3, 0, path),
            Self::Directory => (4, 0, ""),
            Self::Empty => (5, 0, ""),
            Self::Format => (6, 0, ""),
            Self::Interpreter(path) => (7, 0, path),
            Self::InterpreterPermission(path) => (8, 0, path),
            Self::Link(path) => (9, 0, path),
            Self::Noexec => (10, 0, ""),
            Self::NotInPath(path) => (11, 0, path),
            Self::Permission(mode) => (12, *mode, ""),
            Self::Special => (13, 0, ""),
            Self::FirstLine => (14, 0, ""),
        }
    }

    /// What a child has said.
    pub(super) fn decode(kind: u8, number: u32, text: &[u8]) -> Option<Self> {
        let text = || shown(text);
        Some(match kind {
            1 => Self::Architecture(u16::try_from(number).ok()?),
            2 => Self::Busy,
            3 => Self::CarriageReturn(text()),
            4 => Self::Directory,
            5 => Self::Empty,
            6 => Self::Format,
            7 => Self::Interpreter(text()),
            8 => Self::InterpreterPermission(text()),
            9 => Self::Link(text()),
            10 => Self::Noexec,
            11 => Self::NotInPath(text()),
            12 => Self::Permission(number),
            13 => Self::Special,
            14 => Self::FirstLine,
            _ => return None,
        })
    }

    /// What can be done about it.
    pub(super) fn hint(&self) -> String {
        match self {
            Self::Architecture(_) => {
                "take an image for this machine (`--platform`), or register an emulator (binfmt_misc)".into()
            }
            Self::Busy => "it can be executed once whoever writes it has closed it".into(),
            Self::CarriageReturn(_) => {
                "the file has the line ends of Windows: sed -i 's/\\r$//' takes them away".into()
            }
            Self::Directory => "name a program in it".into(),
            Self::Empty | Self::FirstLine | Self::Format => {
                "a script begins with #! and its interpreter, as in #!/bin/sh".into()
            }
            Self::Interpreter(_) | Self::InterpreterPermission(_) => {
                "the program is there; what is missing is the loader or interpreter that it names: \
                 often a program for another C library, or a script for a shell that the image has not got"
                    .into()
            }
            Self::Link(_) => "the link is there, and what it leads to is not".into(),
            Self::Noexec => "mount it without `noexec`, or copy the program elsewhere".into(),
            Self::NotInPath(path) => format!("it is in no folder of the container's PATH, {path}"),
            Self::Permission(_) => "chmod +x lets it be executed".into(),
            Self::Special => "name a program".into(),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Architecture(number) => {
                let here = machine_name(HOST).unwrap_or(std::env::consts::ARCH);
                match machine_name(*number) {
                    Some(name) => {
                        write!(f, "it is a program for {name}, and this machine is {here}")
                    }
                    None => write!(
                        f,
                        "it is a program for machine {number}, and this machine is {here}"
                    ),
                }
            }
            Self::Busy => f.write_str("it is open for writing"),
            Self::CarriageReturn(path) => write!(
                f,
                "its first line ends in a carriage return, so that its interpreter would be `{path}\\r`"
            ),
            Self::Directory => f.write_str("it is a directory"),
            Self::Empty => f.write_str("the file is empty"),
            Self::FirstLine => f.write_str("its first line is longer than 255 bytes"),
            Self::Format => {
                f.write_str("it is neither a program nor a script whose first line begins with #!")
            }
            Self::Interpreter(path) => {
                write!(f, "its interpreter `{path}` is not in the container")
            }
            Self::InterpreterPermission(path) => {
                write!(f, "its interpreter `{path}` cannot be executed")
            }
            Self::Link(path) => {
                write!(f, "it is a link to `{path}`, which is not in the container")
            }
            Self::Noexec => f.write_str("it lies on a mount with `noexec`"),
            Self::NotInPath(_) => f.write_str("it is not in the PATH"),
            Self::Permission(mode) => {
                write!(f, "it has no permission to be executed by this user (mode {mode:04o})")
            }
            Self::Special => f.write_str("it is a device, a pipe or a socket"),
        }
    }
}

/// What the first bytes of a file say.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Head {
    /// Nothing is there.
    Empty,
    /// A script; the second says whether its line ends in a carriage return.
    Script(Vec<u8>, bool),
    /// A program for the machine of this number, and what is to load it.
    Elf(u16, Option<Vec<u8>>),
    /// Something else.
    Other,
}

/// `e_machine` of this program's own machine.
pub(super) const HOST: u16 = if cfg!(target_arch = "x86_64") { 62 } else { 183 };

/// Tells what a file is by its first bytes.
pub(super) fn look(head: &[u8]) -> Head {
    match head {
        [] => Head::Empty,
        [b'#', b'!', line @ ..] => {
            let line = line.get(..FIRST_LINE - 2).unwrap_or(line);
            let line = line.split(|b| *b == b'\n').next().unwrap_or_default();
            let blank = |b: &u8| matches!(b, b' ' | b'\t');
            let start = line.iter().position(|b| !blank(b)).unwrap_or(line.len());
            let line = line.get(start..).unwrap_or_default();
            let word = line.split(blank).next().unwrap_or_default();
            let plain = word.strip_suffix(b"\r").unwrap_or(word);
            Head::Script(plain.to_vec(), plain.len() < word.len())
        }
        [0x7f, b'E', b'L', b'F', ..] => elf(head).unwrap_or(Head::Other),
        _ => Head::Other,
    }
}

/// The machine and the interpreter of an ELF file (elf(5)).
fn elf(head: &[u8]) -> Option<Head> {
    let is_wide = *head.get(4)? == 2;
    let is_big = *head.get(5)? == 2;
    let number = |at: usize, size: usize| -> Option<u64> {
        let bytes = head.get(at..at.checked_add(size)?)?;
        let join = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        Some(if is_big { bytes.iter().fold(0, join) } else { bytes.iter().rev().fold(0, join) })
    };
    let machine = u16::try_from(number(18, 2)?).ok()?;
    let interpreter = || -> Option<Vec<u8>> {
        let (table, size, count) = if is_wide {
            (number(32, 8)?, number(54, 2)?, number(56, 2)?)
        } else {
            (number(28, 4)?, number(42, 2)?, number(44, 2)?)
        };
        let (table, size) = (usize::try_from(table).ok()?, usize::try_from(size).ok()?);
        for index in 0..usize::try_from(count).ok()?.min(MAX_HEADERS) {
            let at = table.checked_add(size.checked_mul(index)?)?;
            if number(at, 4)? != u64::from(PT_INTERP) {
                continue;
            }
            let (offset, length) = if is_wide {
                (number(at.checked_add(8)?, 8)?, number(at.checked_add(32)?, 8)?)
            } else {
                (number(at.checked_add(4)?, 4)?, number(at.checked_add(16)?, 4)?)
            };
            let (offset, length) = (usize::try_from(offset).ok()?, usize::try_from(length).ok()?);
            let path = head.get(offset..offset.checked_add(length)?)?;
            return Some(path.split(|b| *b == 0).next().unwrap_or_default().to_vec());
        }
        None
    };
    Some(Head::Elf(machine, interpreter()))
}

/// A machine in the words of images and of elf(5)'s `EM_*`.
fn machine_name(number: u16) -> Option<&'static str> {
    Some(match number {
        3 => "386",
        8 => "mips",
        20 => "ppc",
        21 => "ppc64",
        22 => "s390x",
        40 => "arm",
        43 => "sparc64",
        62 => "amd64",
        183 => "arm64",
        243 => "riscv64",
        258 => "loong64",
        _ => return None,
    })
}

/// A hostile text as it may be shown.
pub(super) fn shown(text: &[u8]) -> String {
    let text = text.get(..MAX_TEXT).unwrap_or(text);
    String::from_utf8_lossy(text).chars().flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts() {
        let script = |text: &str| match look(text.as_bytes()) {
            Head::Script(path, carriage) => (String::from_utf8(path).unwrap(), carriage),
            other => panic!("{other:?}"),
        };
        assert_eq!(script("#!/bin/sh\necho"), ("/bin/sh".to_owned(), false));
        assert_eq!(script("#! /usr/bin/env python3\n"), ("/usr/bin/env".to_owned(), false));
        assert_eq!(script("#!/bin/sh\r\necho"), ("/bin/sh".to_owned(), true));
        assert_eq!(script("#!"), (String::new(), false));
        assert_eq!(script(&format!("#!/{}", "x".repeat(5000))).0.len(), 254);
        assert_eq!((look(b""), look(b"echo")), (Head::Empty, Head::Other));
    }

    #[test]
    fn programs() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        let head = &own[..HEAD.min(own.len())];
        assert!(matches!(look(head), Head::Elf(HOST, _)));
        // Whatever is wrong with it, it is looked at without harm.
        for at in 0..64 {
            for value in [0, 1, 0x7f, 0xff] {
                let mut broken = head.to_vec();
                broken[at] = value;
                look(&broken);
            }
            look(&head[..at]);
        }
    }

    #[test]
    fn a_cause_survives_the_way() {
        for cause in [Cause::Architecture(183), Cause::Busy, Cause::Link("a".into())] {
            let (kind, number, text) = cause.encode();
            assert_eq!(Cause::decode(kind, number, text.as_bytes()), Some(cause.clone()));
        }
        assert_eq!(Cause::decode(99, 0, b""), None);
    }
}
