//! What a monitor and its clients tell each other: one kind byte and a content in each message of a `SOCK_SEQPACKET`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use serde::{Deserialize, Serialize};

use super::super::Ending;
use crate::sys::socket;

/// The most content that a message has.
pub(super) const MAX_CONTENT: usize = 32 << 10;

/// A message to a monitor.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Request {
    /// From now on, send what the program writes; and in any case how it ends.
    Attach,
    /// From now on, send how the program ends.
    Wait,
    /// Bytes for the program's standard input.
    Input(Vec<u8>),
    /// There is no more input.
    EndOfInput,
    /// The client's window has so many rows and columns.
    Window(u16, u16),
    /// The record has changed: look at it again.
    Look,
}

/// A message from a monitor.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// Bytes of the program's standard output.
    Output(Vec<u8>),
    /// Bytes of its standard error.
    Error(Vec<u8>),
    /// Something is weaker than it should be.
    Warning(String),
    /// The program has been executed.
    Started,
    /// It has not, and why.
    Failed(Failed),
    /// It has ended with this exit code, and that is written down; and what has ended it, if that is known.
    Ended(u8, Option<Ending>),
}

/// Why a container was not started, in the words of the process that tried.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Failed {
    /// The causes, joined.
    pub cause: String,
    /// What the user can do about it.
    pub hint: Option<String>,
    /// Docker's exit code for it.
    pub code: u8,
    /// Whether that is because another monitor starts it already.
    pub busy: bool,
}

impl Request {
    fn encode(&self) -> Vec<u8> {
        let (kind, content) = match self {
            Self::Attach => (b'a', Vec::new()),
            Self::Wait => (b'w', Vec::new()),
            Self::Input(bytes) => (b'i', bytes.clone()),
            Self::EndOfInput => (b'e', Vec::new()),
            Self::Window(rows, columns) => {
                (b's', [rows.to_ne_bytes(), columns.to_ne_bytes()].concat())
            }
            Self::Look => (b'l', Vec::new()),
        };
        [vec![kind], content].concat()
    }

    fn decode(message: &[u8]) -> Option<Self> {
        let (kind, content) = message.split_first()?;
        Some(match kind {
            b'a' => Self::Attach,
            b'w' => Self::Wait,
            b'i' => Self::Input(content.to_vec()),
            b'e' => Self::EndOfInput,
            b's' => match *content {
                [a, b, c, d] => {
                    Self::Window(u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d]))
                }
                _ => return None,
            },
            b'l' => Self::Look,
            _ => return None,
        })
    }
}

impl Event {
    fn encode(&self) -> Vec<u8> {
        let (kind, content) = match self {
            Self::Output(bytes) => (b'o', bytes.clone()),
            Self::Error(bytes) => (b'e', bytes.clone()),
            Self::Warning(text) => (b'w', text.clone().into_bytes()),
            Self::Started => (b's', Vec::new()),
            // A structure of strings and numbers can always be written as JSON.
            Self::Failed(failed) => (b'f', serde_json::to_vec(failed).unwrap_or_default()),
            Self::Ended(code, ending) => {
                (b'x', std::iter::once(*code).chain(ending.map(Ending::number)).collect())
            }
        };
        let content = content.get(..MAX_CONTENT).unwrap_or(&content);
        [&[kind], content].concat()
    }

    fn decode(message: &[u8]) -> Option<Self> {
        let (kind, content) = message.split_first()?;
        let text = || String::from_utf8_lossy(content).into_owned();
        Some(match kind {
            b'o' => Self::Output(content.to_vec()),
            b'e' => Self::Error(content.to_vec()),
            b'w' => Self::Warning(text()),
            b's' => Self::Started,
            b'f' => Self::Failed(serde_json::from_slice(content).ok()?),
            b'x' => {
                let ending = content.get(1).copied().and_then(Ending::from_number);
                Self::Ended(*content.first()?, ending)
            }
            _ => return None,
        })
    }
}

/// A client's end of a connection to a monitor.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
}

impl Connection {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// Sends a request, and waits until there is room for it.
    ///
    /// # Errors
    /// `EPIPE` when the monitor is gone.
    pub fn send(&self, request: &Request) -> Result<(), Errno> {
        socket::send(&self.socket, &request.encode(), &[])
    }

    /// Waits for the next event; `None` when the monitor is gone.
    ///
    /// # Errors
    /// What `recvmsg(2)` reports.
    pub fn receive(&self) -> Result<Option<Event>, Errno> {
        receive(&self.socket).map(|message| message.and_then(|message| Event::decode(&message)))
    }

    /// The connection, to wait for events.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn receive(socket: &OwnedFd) -> Result<Option<Vec<u8>>, Errno> {
    let mut message = vec![0; MAX_CONTENT + 1];
    loop {
        match socket::receive(socket, &mut message) {
            // The other end is gone without having read everything. What it had sent before is still there behind this.
            Err(Errno::ECONNRESET) => {}
            Ok((0, _)) => return Ok(None),
            Ok((length, _)) => {
                message.truncate(length);
                return Ok(Some(message));
            }
            Err(errno) => return Err(errno),
        }
    }
}

/// What a client wants to be told.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Wants {
    pub(super) output: bool,
    pub(super) end: bool,
}

impl Wants {
    /// Adds what `request` asks for.
    pub(super) fn add(&mut self, request: &Request) {
        self.output |= *request == Request::Attach;
        self.end |= matches!(request, Request::Attach | Request::Wait);
    }
}

/// A monitor's end of a connection. It never waits for the client: what there is no room for is kept, and nothing more is
/// read from the container until it has gone.
#[derive(Debug)]
pub(super) struct Client {
    socket: OwnedFd,
    pub(super) wants: Wants,
    pending: Vec<Vec<u8>>,
}

impl Client {
    pub(super) fn new(socket: OwnedFd) -> Result<Self, Errno> {
        fcntl(&socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Self { socket, wants: Wants::default(), pending: Vec::new() })
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(super) fn lags(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Sends an event, or keeps it. Says whether the client is still there.
    pub(super) fn tell(&mut self, event: &Event) -> bool {
        self.pending.push(event.encode());
        self.flush()
    }

    /// Sends what was kept.
    pub(super) fn flush(&mut self) -> bool {
        while let Some(message) = self.pending.first() {
            match socket::send(&self.socket, message, &[]) {
                Ok(()) => drop(self.pending.remove(0)),
                Err(Errno::EAGAIN | Errno::EINTR) => return true,
                Err(_) => return false,
            }
        }
        true
    }

    /// Takes what the client wants to be told, and passes over what is for a program. Says whether it is still there.
    pub(super) fn hear_wishes(&mut self) -> bool {
        loop {
            match self.next() {
                Ok(Some(request)) => self.wants.add(&request),
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }

    /// The next request; `Err` when the client is gone or talks nonsense.
    pub(super) fn next(&mut self) -> Result<Option<Request>, Errno> {
        match receive(&self.socket) {
            Ok(Some(message)) => Request::decode(&message).map(Some).ok_or(Errno::EPROTO),
            Ok(None) => Err(Errno::EPIPE),
            Err(Errno::EAGAIN) => Ok(None),
            Err(errno) => Err(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_as_they_went() {
        let requests = [
            Request::Attach,
            Request::Wait,
            Request::Input(b"\0\xff".to_vec()),
            Request::EndOfInput,
            Request::Window(24, 80),
            Request::Look,
        ];
        for request in requests {
            assert_eq!(Request::decode(&request.encode()), Some(request));
        }
        let failed = Failed { cause: "a".to_owned(), code: 127, ..Failed::default() };
        let events = [
            Event::Output(vec![]),
            Event::Error(b"x".to_vec()),
            Event::Warning("w".to_owned()),
            Event::Started,
            Event::Failed(failed),
            Event::Ended(137, None),
            Event::Ended(137, Some(Ending::OutOfMemory)),
            Event::Ended(159, Some(Ending::SystemCall)),
        ];
        for event in events {
            assert_eq!(Event::decode(&event.encode()), Some(event));
        }
        for nonsense in [&b""[..], b"?", b"s1", b"x"] {
            assert_eq!(Request::decode(nonsense), None);
        }
    }
}
