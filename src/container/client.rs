//! A user's terminal or pipes at a detached container, by way of its monitor.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::termios;
use nix::unistd;

use super::attach::{RawMode, Signals, user_window, write_all};
use super::detach::{DetachKeys, Typed};
use super::monitor::{Connection, Event, Request};
use super::{Containers, Ending, Error, Record};

/// How a user is attached to a container.
#[derive(Debug, Default)]
pub struct Attachment {
    /// Whether standard input is passed on.
    pub interactive: bool,
    /// Whether its standard output is shown.
    pub output: bool,
    /// Whether its standard error is shown.
    pub error: bool,
    /// Whether the program has a terminal.
    pub terminal: bool,
    /// Whether signals are passed on.
    pub sig_proxy: bool,
    /// What leaves the container alone.
    pub detach_keys: DetachKeys,
}

impl Attachment {
    /// Whether anything is shown of what the program writes.
    pub fn shows(&self) -> bool {
        self.output || self.error
    }
}

/// How it ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Left {
    /// With the program, which had this exit code, and was ended by this, if that is known.
    Ended(u8, Option<Ending>),
    /// By the user's keys; the program runs on.
    Detached,
    /// With the input, where nothing is shown of the program, which runs on.
    InputEnded,
    /// The monitor is gone, and nobody knows of the program's end.
    Lost,
}

struct Session<'a> {
    containers: &'a Containers,
    record: &'a Record,
    connection: &'a Connection,
    attachment: Attachment,
    signals: Option<Signals>,
    input: bool,
}

/// Stays with a container, to whose monitor `connection` leads, until it ends or the user leaves it.
pub fn attach_to(
    containers: &Containers,
    record: &Record,
    connection: &Connection,
    attachment: Attachment,
) -> Result<Left, Error> {
    containers.tell(record, "attach", &[]);
    let stdin = io::stdin();
    let raw =
        attachment.interactive && attachment.terminal && termios::tcgetattr(stdin.as_fd()).is_ok();
    let raw = raw.then(|| RawMode::enter(stdin.as_fd())).transpose()?;
    let signals = (attachment.sig_proxy || raw.is_some()).then(Signals::new).transpose()?;
    let input = attachment.interactive;
    let mut session = Session { containers, record, connection, attachment, signals, input };
    session.send_window();
    let left = session.run(stdin.as_fd());
    drop(raw);
    if matches!(left, Ok(Left::Detached)) {
        containers.tell(record, "detach", &[]);
    }
    left
}

impl Session<'_> {
    fn run(&mut self, stdin: BorrowedFd<'_>) -> Result<Left, Error> {
        let failed = |errno: Errno| Error::Terminal { verb: "wait for", source: errno.into() };
        loop {
            if !self.input && !self.attachment.shows() {
                return Ok(Left::InputEnded);
            }
            let mut fds = vec![PollFd::new(self.connection.as_fd(), PollFlags::POLLIN)];
            fds.extend(self.input.then(|| PollFd::new(stdin, PollFlags::POLLIN)));
            let signals = self.signals.as_ref();
            fds.extend(signals.map(|signals| PollFd::new(signals.as_fd(), PollFlags::POLLIN)));
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                result => result.map_err(failed)?,
            };
            let ready: Vec<bool> =
                fds.iter().map(|fd| fd.revents().is_some_and(|found| !found.is_empty())).collect();
            let ready = |at: usize| ready.get(at).copied().unwrap_or(false);
            let first_signal = 1 + usize::from(self.input);
            if self.signals.is_some() && ready(first_signal) {
                self.forward_signals();
            }
            if ready(0)
                && let Some(left) = self.hear().map_err(failed)?
            {
                return Ok(left);
            }
            if self.input && ready(1) && self.copy_in(stdin) {
                return Ok(Left::Detached);
            }
        }
    }

    fn hear(&self) -> Result<Option<Left>, Errno> {
        match self.connection.receive()? {
            Some(Event::Output(bytes)) if self.attachment.output => {
                write_all(io::stdout().as_fd(), &bytes);
            }
            Some(Event::Error(bytes)) if self.attachment.error => {
                write_all(io::stderr().as_fd(), &bytes);
            }
            Some(Event::Ended(code, ending)) => return Ok(Some(Left::Ended(code, ending))),
            Some(_) => {}
            None => return Ok(Some(Left::Lost)),
        }
        Ok(None)
    }

    /// Passes input on, and says whether the user leaves.
    fn copy_in(&mut self, stdin: BorrowedFd<'_>) -> bool {
        let mut buffer = [0; 4096];
        let bytes = match unistd::read(stdin, &mut buffer) {
            Ok(0) => {
                self.input = false;
                // A monitor that is gone says so by the connection's end.
                let _ = self.connection.send(&Request::EndOfInput);
                return false;
            }
            Ok(count) => buffer.get(..count).unwrap_or_default(),
            Err(Errno::EINTR | Errno::EAGAIN) => return false,
            Err(_) => {
                self.input = false;
                return false;
            }
        };
        let Typed { bytes, leaves } = if self.attachment.terminal {
            self.attachment.detach_keys.filter(bytes)
        } else {
            Typed { bytes: bytes.to_vec(), leaves: false }
        };
        if !bytes.is_empty() {
            let _ = self.connection.send(&Request::Input(bytes));
        }
        leaves
    }

    fn forward_signals(&self) {
        let Some(signals) = &self.signals else { return };
        while let Some(signal) = signals.next() {
            match signal {
                Signal::SIGWINCH => self.send_window(),
                signal if self.attachment.sig_proxy => {
                    // The program may have ended this instant; then there is nobody left to tell.
                    let status = self.containers.status(self.record);
                    let process = status.running().and_then(|running| running.process.find());
                    let _ = process.map(|process| process.kill(signal as i32));
                }
                _ => {}
            }
        }
    }

    fn send_window(&self) {
        if self.attachment.terminal
            && let Some((rows, columns)) = user_window()
        {
            let _ = self.connection.send(&Request::Window(rows, columns));
            let (height, width) = (rows.to_string(), columns.to_string());
            let size = [("height", height.as_str()), ("width", &width)];
            self.containers.tell(self.record, "resize", &size);
        }
    }
}
