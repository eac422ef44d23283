//! What parent and child say to each other over a pair of `SOCK_SEQPACKET` sockets: one message a packet.
//!
//! ```text
//! parent                                 child
//! MAPPED    ids are mapped           →   becomes root of its user namespace, begins to mount
//! JOIN (descriptors) version 1 groups →  joins them, makes its cgroup namespace
//! FILTER    the seccomp program      →
//!           ←  HOOKS                     only if there are createRuntime hooks; then parent → CONTINUE
//!           ←  CONSOLE (descriptor)      the terminal's master
//!           ←  READY                     everything is set up
//! START     run the program          →   executes: the socket closes, which is success
//!           ←  FAILED (step, object, errno)   at any time, and the child ends
//!           ←  EXPLAINED (cause)         behind a program that could not be executed, if its file says why
//! ```
//! The parent never waits before FILTER, so a fast start needs no more switches than that.
//!
//! A container that is made now and started later by another process has a listening socket instead: it says READY, and
//! START comes from whoever connects first and says it; what follows goes back there. The socket lies in a folder that is
//! closed to everybody but the container's owner, and its descriptor is closed by the kernel when the program begins.
//!
//! A further process of a container gets FILTER and START alone.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socketpair,
};

use super::error::{Error, Step};
use super::explain::{Cause, MAX_TEXT};
use crate::sys::seccomp::{Instruction, MAX_INSTRUCTIONS};
use crate::sys::socket;

/// From the parent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(super) enum Command {
    Mapped = 1,
    Join = 2,
    Filter = 3,
    Start = 4,
    Continue = 5,
}

/// What failed in the child: the step, the number of the object in the plan, the error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Failure {
    pub step: Step,
    pub object: u32,
    pub errno: Errno,
}

impl Failure {
    /// In words, with the object's name, and the cause if the child has found it out.
    pub(super) fn into_error(self, object: String, cause: Option<Cause>) -> Error {
        let source = self.errno;
        let program = || object.trim_matches('`').to_owned();
        match (self.step, source) {
            (Step::Execute, Errno::ENOENT | Errno::ENOTDIR) => {
                Error::NotFound { program: program(), cause, source }
            }
            (Step::Execute, _) => Error::NotExecutable { program: program(), cause, source },
            (step, _) => Error::Setup { step, object, source },
        }
    }
}

/// From the child.
#[derive(Debug)]
pub(super) enum Report {
    Console(OwnedFd),
    Explained(Cause),
    Failed(Failure),
    Hooks,
    Ready,
    /// The child executed its program, or ended.
    Closed,
}

const CONSOLE: u8 = 1;
const FAILED: u8 = 2;
const READY: u8 = 3;
const HOOKS: u8 = 4;
const EXPLAINED: u8 = 5;
/// Kind, step, two bytes of nothing, object, errno. Of EXPLAINED: kind, cause, two bytes of nothing, number, four bytes of
/// nothing, and a text.
const REPORT: usize = 12;
/// With the longest text.
const MAX_REPORT: usize = REPORT + MAX_TEXT;
/// The command, the flags, and a program of the greatest length.
const MAX_COMMAND: usize = 5 + MAX_INSTRUCTIONS * 8;

/// The parent's end.
#[derive(Debug)]
pub(super) struct ParentEnd(OwnedFd);

/// The child's end.
#[derive(Debug)]
pub(super) struct ChildEnd(OwnedFd);

/// A connected pair.
pub(super) fn pair() -> Result<(ParentEnd, ChildEnd), Errno> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let (parent, child) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
    Ok((ParentEnd(parent), ChildEnd(child)))
}

/// A listening socket at `path`, which must be short (`sun_path` of unix(7)) and new.
pub(super) fn listen_at(path: &Path) -> Result<OwnedFd, Errno> {
    let socket = new_socket()?;
    bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    listen(&socket, Backlog::new(1)?)?;
    Ok(socket)
}

fn new_socket() -> Result<OwnedFd, Errno> {
    let flags = SockFlag::SOCK_CLOEXEC;
    nix::sys::socket::socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)
}

impl ParentEnd {
    /// Connects to the child that listens at `path`.
    pub(super) fn connect(path: &Path) -> Result<Self, Errno> {
        let socket = new_socket()?;
        connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
        Ok(Self(socket))
    }

    pub(super) fn send(&self, command: Command) -> Result<(), Errno> {
        socket::send(&self.0, &[command as u8], &[])
    }

    /// What the child has found out about a program that could not be executed, once it has said that it could not.
    pub(super) fn receive_cause(&self) -> Option<Cause> {
        match self.receive() {
            Ok(Report::Explained(cause)) => Some(cause),
            _ => None,
        }
    }

    /// Sends JOIN, with the `tasks` files of the groups to join.
    pub(super) fn send_join(&self, groups: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        socket::send(&self.0, &[Command::Join as u8], groups)
    }

    /// Sends FILTER; an empty program is none.
    pub(super) fn send_filter(&self, program: &[Instruction], flags: u32) -> Result<(), Errno> {
        let mut message = Vec::with_capacity(5 + program.len() * 8);
        message.push(Command::Filter as u8);
        message.extend_from_slice(&flags.to_ne_bytes());
        for instruction in program {
            message.extend_from_slice(&instruction.code.to_ne_bytes());
            message.extend_from_slice(&[instruction.jt, instruction.jf]);
            message.extend_from_slice(&instruction.k.to_ne_bytes());
        }
        socket::send(&self.0, &message, &[])
    }

    pub(super) fn receive(&self) -> Result<Report, Errno> {
        let mut buffer = [0; MAX_REPORT];
        let (length, descriptors) = match socket::receive(&self.0, &mut buffer) {
            // The child is gone with messages of ours unread. That is said once; its own last words come behind.
            Err(Errno::ECONNRESET) => socket::receive(&self.0, &mut buffer)?,
            received => received?,
        };
        if length == 0 {
            return Ok(Report::Closed);
        }
        let word = |at: usize| {
            let bytes = buffer.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            u32::from_ne_bytes(bytes.unwrap_or_default())
        };
        match (buffer[0], descriptors.into_iter().next()) {
            (CONSOLE, Some(master)) => Ok(Report::Console(master)),
            (FAILED, _) => Ok(Report::Failed(Failure {
                step: Step::from_number(buffer[1]).ok_or(Errno::EPROTO)?,
                object: word(4),
                errno: Errno::from_raw(word(8).cast_signed()),
            })),
            (EXPLAINED, _) => {
                let text = buffer.get(REPORT..length).unwrap_or_default();
                let cause = Cause::decode(buffer[1], word(4), text);
                cause.map(Report::Explained).ok_or(Errno::EPROTO)
            }
            (READY, _) => Ok(Report::Ready),
            (HOOKS, _) => Ok(Report::Hooks),
            _ => Err(Errno::EPROTO),
        }
    }
}

impl ChildEnd {
    /// Waits for somebody who connects and says START.
    pub(super) fn accept_start(listener: &OwnedFd) -> Result<Self, Errno> {
        loop {
            let end = Self(socket::accept(listener)?);
            match end.expect(Command::Start) {
                // Who wanted to start it is gone without having done so.
                Err(Errno::EPIPE | Errno::ECONNRESET) => {}
                result => return result.map(|()| end),
            }
        }
    }

    /// Waits for `command`, and nothing else.
    pub(super) fn expect(&self, command: Command) -> Result<(), Errno> {
        let mut buffer = [0; 1];
        match socket::receive(&self.0, &mut buffer)? {
            (1, _) if buffer[0] == command as u8 => Ok(()),
            (0, _) => Err(Errno::EPIPE),
            _ => Err(Errno::EPROTO),
        }
    }

    /// Waits for JOIN: the groups to join.
    pub(super) fn expect_join(&self) -> Result<Vec<OwnedFd>, Errno> {
        let mut buffer = [0; 1];
        match socket::receive(&self.0, &mut buffer)? {
            (1, groups) if buffer[0] == Command::Join as u8 => Ok(groups),
            (0, _) => Err(Errno::EPIPE),
            _ => Err(Errno::EPROTO),
        }
    }

    /// Waits for FILTER: the program and its flags.
    pub(super) fn expect_filter(&self) -> Result<(Vec<Instruction>, u32), Errno> {
        let length = socket::next_length(&self.0)?;
        if length > MAX_COMMAND {
            return Err(Errno::EMSGSIZE);
        }
        let mut buffer = vec![0; length];
        let (length, _) = socket::receive(&self.0, &mut buffer)?;
        let message = buffer.get(..length).unwrap_or_default();
        match message.split_first_chunk::<5>() {
            Some(([kind, a, b, c, d], program)) if *kind == Command::Filter as u8 => {
                let flags = u32::from_ne_bytes([*a, *b, *c, *d]);
                Ok((program.chunks_exact(8).map(instruction).collect(), flags))
            }
            None if message.is_empty() => Err(Errno::EPIPE),
            _ => Err(Errno::EPROTO),
        }
    }

    pub(super) fn ready(&self) -> Result<(), Errno> {
        self.report(READY, 0, 0, 0, &[])
    }

    pub(super) fn hooks(&self) -> Result<(), Errno> {
        self.report(HOOKS, 0, 0, 0, &[])
    }

    pub(super) fn console(&self, master: BorrowedFd<'_>) -> Result<(), Errno> {
        self.report(CONSOLE, 0, 0, 0, &[master])
    }

    /// Says EXPLAINED.
    pub(super) fn explained(&self, cause: &Cause) -> Result<(), Errno> {
        let (kind, number, text) = cause.encode();
        let mut message = vec![0; REPORT];
        message[..2].copy_from_slice(&[EXPLAINED, kind]);
        message[4..8].copy_from_slice(&number.to_ne_bytes());
        message.extend(text.bytes().take(MAX_TEXT));
        socket::send(&self.0, &message, &[])
    }

    pub(super) fn failed(&self, failure: Failure) -> Result<(), Errno> {
        let errno = failure.errno as i32;
        self.report(FAILED, failure.step as u8, failure.object, errno, &[])
    }

    fn report(
        &self,
        kind: u8,
        step: u8,
        object: u32,
        errno: i32,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), Errno> {
        let mut message = [0; REPORT];
        message[0] = kind;
        message[1] = step;
        message[4..8].copy_from_slice(&object.to_ne_bytes());
        message[8..12].copy_from_slice(&errno.to_ne_bytes());
        socket::send(&self.0, &message, descriptors)
    }
}

impl AsFd for ChildEnd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn instruction(bytes: &[u8]) -> Instruction {
    let byte = |at: usize| bytes.get(at).copied().unwrap_or_default();
    Instruction {
        code: u16::from_ne_bytes([byte(0), byte(1)]),
        jt: byte(2),
        jf: byte(3),
        k: u32::from_ne_bytes([byte(4), byte(5), byte(6), byte(7)]),
    }
}
