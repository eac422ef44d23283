//! The terminal between a user and a container: raw mode, bytes both ways, the window's size.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{self, SetArg, Termios};
use nix::unistd;

use super::Error;
use super::streams::Relay;
use crate::runtime::{ExitStatus, Process};
use crate::sys::tty::{set_window_size, window_size};

/// The signals that are not passed on to the container's first process: those that cannot be caught, those about this
/// process itself, and those by which a shell stops it.
const OWN: [Signal; 11] = [
    Signal::SIGBUS,
    Signal::SIGCHLD,
    Signal::SIGFPE,
    Signal::SIGILL,
    Signal::SIGKILL,
    Signal::SIGPIPE,
    Signal::SIGSEGV,
    Signal::SIGSTOP,
    Signal::SIGTSTP,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
];

/// A user's terminal in raw mode; it gets its old mode back when this is dropped, however that comes about.
pub(super) struct RawMode<'a> {
    terminal: BorrowedFd<'a>,
    before: Termios,
}

impl<'a> RawMode<'a> {
    pub(super) fn enter(terminal: BorrowedFd<'a>) -> Result<Self, Error> {
        let failed = |errno: Errno| Error::Terminal { verb: "set up", source: errno.into() };
        let before = termios::tcgetattr(terminal).map_err(failed)?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(terminal, SetArg::TCSADRAIN, &raw).map_err(failed)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for RawMode<'_> {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(self.terminal, SetArg::TCSADRAIN, &self.before);
    }
}

/// Signals as something to wait for. Made before the container is, so that none is lost.
#[derive(Debug)]
pub struct Signals {
    descriptor: SignalFd,
}

impl Signals {
    /// Holds signals back from now on, for [`attach`].
    pub fn new() -> Result<Self, Error> {
        let failed =
            |errno: Errno| Error::Terminal { verb: "watch signals of", source: errno.into() };
        let mut set = SigSet::all();
        OWN.into_iter().for_each(|signal| set.remove(signal));
        set.thread_block().map_err(failed)?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let descriptor = SignalFd::with_flags(&set, flags).map_err(failed)?;
        Ok(Self { descriptor })
    }

    /// The next signal that has come; those without a name in `nix` are passed over.
    pub(super) fn next(&self) -> Option<Signal> {
        while let Ok(Some(info)) = self.descriptor.read_signal() {
            let number = i32::try_from(info.ssi_signo).ok();
            if let Some(signal) = number.and_then(|number| Signal::try_from(number).ok()) {
                return Some(signal);
            }
        }
        None
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Stays with the container until it ends: passes signals on, and with a `console` also bytes and window sizes.
pub fn attach(
    process: &mut Process,
    signals: &Signals,
    console: Option<OwnedFd>,
    relays: Vec<Relay>,
    interactive: bool,
) -> Result<ExitStatus, Error> {
    let (stdin, stdout) = (io::stdin(), io::stdout());
    let from_terminal = termios::tcgetattr(stdin.as_fd()).is_ok();
    let raw = match &console {
        Some(console) => {
            copy_window_size(console.as_fd());
            (interactive && from_terminal).then(|| RawMode::enter(stdin.as_fd())).transpose()?
        }
        None => None,
    };
    let mut session = Session {
        process,
        signals,
        console: console.as_ref().map(AsFd::as_fd),
        stdin: (interactive && console.is_some()).then_some(stdin.as_fd()),
        stdout: stdout.as_fd(),
        relays,
        pending: Vec::new(),
    };
    let status = session.run();
    drop(raw);
    status
}

struct Session<'a> {
    process: &'a mut Process,
    signals: &'a Signals,
    console: Option<BorrowedFd<'a>>,
    stdin: Option<BorrowedFd<'a>>,
    stdout: BorrowedFd<'a>,
    /// Streams that are copied out; each leaves when it has ended.
    relays: Vec<Relay>,
    /// Bytes from the user that the container's terminal had no room for yet.
    pending: Vec<u8>,
}

impl Session<'_> {
    fn run(&mut self) -> Result<ExitStatus, Error> {
        let failed = |errno: Errno| Error::Terminal { verb: "wait for", source: errno.into() };
        loop {
            let wanted = if self.pending.is_empty() {
                PollFlags::POLLIN
            } else {
                PollFlags::POLLIN | PollFlags::POLLOUT
            };
            let process = &*self.process;
            let mut fds = vec![
                PollFd::new(process.pidfd(), PollFlags::POLLIN),
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            ];
            let console = self.console.map(|console| push(&mut fds, console, wanted));
            // A user who types faster than the program reads waits, as on any terminal.
            let reading = self.stdin.filter(|_| self.pending.is_empty());
            let stdin = reading.map(|stdin| push(&mut fds, stdin, PollFlags::POLLIN));
            let first_relay = fds.len();
            fds.extend(
                self.relays.iter().map(|relay| PollFd::new(relay.from.as_fd(), PollFlags::POLLIN)),
            );
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                result => result.map_err(failed)?,
            };
            let ready = |at: Option<usize>| {
                at.and_then(|at| fds[at].revents()).unwrap_or(PollFlags::empty())
            };
            let (ended, signalled) = (ready(Some(0)), ready(Some(1)));
            let (console, stdin) = (ready(console), ready(stdin));
            let relays: Vec<bool> =
                (first_relay..fds.len()).map(|at| !ready(Some(at)).is_empty()).collect();
            if !signalled.is_empty() {
                self.forward_signals();
            }
            if console.contains(PollFlags::POLLOUT) {
                self.write_pending();
            }
            if console.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR) {
                self.copy_out();
            }
            if !stdin.is_empty() {
                self.copy_in();
            }
            let mut ready = relays.into_iter();
            self.relays.retain(|relay| {
                !ready.next().unwrap_or(false) || copy(relay.from.as_fd(), relay.to.as_fd())
            });
            if !ended.is_empty() {
                // What the program wrote last is still on its way through the terminal.
                while self.console.is_some_and(has_input) {
                    self.copy_out();
                }
                // With the first process the kernel has ended all others, so that each stream has an end.
                for relay in &self.relays {
                    while copy(relay.from.as_fd(), relay.to.as_fd()) {}
                }
                return Ok(self.process.wait()?);
            }
        }
    }

    fn forward_signals(&self) {
        while let Some(signal) = self.signals.next() {
            match (signal, self.console) {
                (Signal::SIGWINCH, Some(console)) => copy_window_size(console),
                (Signal::SIGWINCH, None) => {}
                // The process may have ended this instant; then there is nobody left to tell.
                (signal, _) => drop(self.process.kill(signal as i32)),
            }
        }
    }

    fn copy_out(&mut self) {
        if let Some(console) = self.console
            && !copy(console, self.stdout)
        {
            self.console = None;
        }
    }

    fn copy_in(&mut self) {
        /// End of file as a terminal's line discipline knows it, `VEOF`.
        const END_OF_FILE: u8 = 4;
        let Some(stdin) = self.stdin else { return };
        let mut buffer = [0; 4096];
        match unistd::read(stdin, &mut buffer) {
            Ok(0) => {
                // A pipe that ends means what Ctrl-D means.
                self.pending.push(END_OF_FILE);
                self.stdin = None;
            }
            Ok(n) => self.pending.extend_from_slice(&buffer[..n]),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(_) => self.stdin = None,
        }
        self.write_pending();
    }

    fn write_pending(&mut self) {
        let Some(console) = self.console else {
            self.pending.clear();
            return;
        };
        let mut fds = [PollFd::new(console, PollFlags::POLLOUT)];
        let room = poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0);
        if room
            && !self.pending.is_empty()
            && let Ok(written) = unistd::write(console, &self.pending)
        {
            self.pending.drain(..written);
        }
    }
}

/// Copies what has come, and says whether more may come.
fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> bool {
    let mut buffer = [0; 65536];
    let bytes = match unistd::read(from, &mut buffer) {
        // EIO: every process that had the terminal open has closed it.
        Ok(0) | Err(Errno::EIO) => return false,
        Ok(n) => &buffer[..n],
        Err(Errno::EINTR | Errno::EAGAIN) => return true,
        Err(_) => return false,
    };
    // Where nobody reads any more, the program runs on.
    write_all(to, bytes);
    true
}

/// Writes all of `bytes`, and says whether there is still somebody who reads.
pub fn write_all(to: BorrowedFd<'_>, bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while !rest.is_empty() {
        match unistd::write(to, rest) {
            Ok(written) => rest = &rest[written..],
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                let mut fds = [PollFd::new(to, PollFlags::POLLOUT)];
                let _ = poll(&mut fds, PollTimeout::NONE);
            }
            Err(_) => return false,
        }
    }
    true
}

fn push<'fd>(fds: &mut Vec<PollFd<'fd>>, fd: BorrowedFd<'fd>, flags: PollFlags) -> usize {
    fds.push(PollFd::new(fd, flags));
    fds.len() - 1
}

fn has_input(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
    let ready = poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0);
    ready && fds[0].revents().is_some_and(|found| found.contains(PollFlags::POLLIN))
}

/// The rows and columns of the user's window, if one of the three standard descriptors is a terminal.
pub(super) fn user_window() -> Option<(u16, u16)> {
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()].into_iter().find_map(|fd| window_size(fd).ok())
}

fn copy_window_size(console: BorrowedFd<'_>) {
    if let Some((rows, columns)) = user_window() {
        let _ = set_window_size(console, rows, columns);
    }
}
