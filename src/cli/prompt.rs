//! Questions to a person at a terminal.

use std::io::{self, BufRead as _, IsTerminal as _};
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{self, LocalFlags, SetArg, SpecialCharacterIndices, Termios};
use nix::unistd::read;

use super::output;

/// The longest answer, in bytes. A terminal hands out no longer line (termios(3), "Canonical and noncanonical mode").
const MAX_ANSWER: usize = 4096;
/// Signals that end this process, and would leave a terminal behind that shows nothing.
const ENDING: [Signal; 4] = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM];

/// Whether there is somebody to ask.
pub(super) fn is_possible() -> bool {
    io::stdin().is_terminal()
}

/// Warns and asks as docker does before something is removed; only `y` is a yes, also from a pipe.
pub(super) fn is_sure(warning: &str) -> bool {
    output::message(&format!("WARNING! {warning}\nAre you sure you want to continue? [y/N] "));
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}

/// Asks for something that everybody may see.
pub(super) fn ask(question: &str) -> io::Result<String> {
    output::message(question);
    let stdin = io::stdin();
    read_line(stdin.as_fd(), None)
}

/// Asks for something that nobody may see. Whatever ends the question, a signal too, the terminal is as before.
pub(super) fn ask_secret(question: &str) -> io::Result<String> {
    let stdin = io::stdin();
    let terminal = stdin.as_fd();
    let ending: SigSet = ENDING.into_iter().collect();
    let before = ending.thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK)?;
    let answer = (|| {
        let signals =
            SignalFd::with_flags(&ending, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let _silent = NoEcho::enter(terminal)?;
        output::message(question);
        read_line(terminal, Some(&signals))
    })();
    output::message("\n");
    before.thread_set_mask()?;
    if let Err(error) = &answer
        && let Some(Interrupted(signal)) = error.get_ref().and_then(|inner| inner.downcast_ref())
    {
        // Ends this process as it would have been ended.
        raise(*signal)?;
    }
    answer
}

/// The signal that came in the place of an answer.
#[derive(Debug, thiserror::Error)]
#[error("interrupted by {0}")]
struct Interrupted(Signal);

/// A terminal that does not show what is typed, until this is dropped.
struct NoEcho<'a> {
    terminal: BorrowedFd<'a>,
    before: Termios,
}

impl<'a> NoEcho<'a> {
    fn enter(terminal: BorrowedFd<'a>) -> io::Result<Self> {
        let before = termios::tcgetattr(terminal)?;
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO);

        // Stopped by its user, this process would leave the shell a silent terminal.
        silent.control_chars[SpecialCharacterIndices::VSUSP as usize] = libc::_POSIX_VDISABLE;
        termios::tcsetattr(terminal, SetArg::TCSAFLUSH, &silent)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for NoEcho<'_> {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(self.terminal, SetArg::TCSAFLUSH, &self.before);
    }
}

/// The line that is typed next, without its end.
fn read_line(terminal: BorrowedFd<'_>, signals: Option<&SignalFd>) -> io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() < MAX_ANSWER {
        if let Some(signals) = signals {
            wait(terminal, signals)?;
        }
        match read(terminal, &mut byte) {
            Ok(0) if line.is_empty() => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(0) => break,
            Ok(_) if byte == *b"\n" => break,
            Ok(_) => line.push(byte[0]),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    String::from_utf8(line).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Waits for something typed.
///
/// # Errors
/// [`Interrupted`] when a signal comes first.
fn wait(terminal: BorrowedFd<'_>, signals: &SignalFd) -> io::Result<()> {
    let mut fds =
        [PollFd::new(terminal, PollFlags::POLLIN), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let Some(came) = signals.read_signal()? else { return Ok(()) };
    let number = i32::try_from(came.ssi_signo).unwrap_or_default();
    let signal = Signal::try_from(number).unwrap_or(Signal::SIGTERM);
    Err(io::Error::other(Interrupted(signal)))
}
