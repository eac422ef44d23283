//! The agent that decides on system calls (`SCMP_ACT_NOTIFY`): it is sent the filter's descriptor.
//!
//! Behind its filter, this thread may make no call that the agent would have to decide on before it has the descriptor, and
//! any call can be one. A second thread, which the filter does not hold for, sends the descriptor; executing the program
//! ends that thread.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::sys::socket::{Shutdown, shutdown};

use crate::runtime::plan::Agent;
use crate::sys::seccomp::{Instruction, set_mode_filter_listening};
use crate::sys::socket;

/// The descriptor, or that there is no filter. It closes when the program is executed.
static LISTENER: OnceLock<Option<OwnedFd>> = OnceLock::new();
/// How the sending went.
static SENT: OnceLock<Result<(), Errno>> = OnceLock::new();

/// Who is told of the filter, and of what.
pub(super) struct Listener<'a> {
    pub agent: &'a Agent,
    /// This process's number outside.
    pub pid: &'a str,
    /// The container's state.
    pub state: &'a str,
}

/// Sets the filter, and hands its descriptor to the agent.
pub(super) fn set_filter(
    filter: &[Instruction],
    flags: u32,
    agent: &Listener<'_>,
) -> Result<(), Errno> {
    let message = agent.agent.message(agent.pid, agent.state);
    let socket = agent.agent.socket.try_clone().map_err(|_| Errno::EMFILE)?;
    let thread = std::thread::Builder::new().spawn(move || {
        let listener = wait(&LISTENER, std::thread::yield_now);
        let sent = listener.as_ref().map_or(Ok(()), |listener| {
            socket::send(&socket, message.as_bytes(), &[listener.as_fd()])?;
            // One message, and no more: the agent sees the end.
            shutdown(socket.as_raw_fd(), Shutdown::Both)
        });
        let _ = SENT.set(sent);
    });
    // To let go of it would be a call as well.
    std::mem::forget(thread.map_err(|_| Errno::EAGAIN)?);
    let (listener, set) = match set_mode_filter_listening(filter, flags) {
        Ok(listener) => (Some(listener), Ok(())),
        Err(errno) => (None, Err(errno)),
    };
    let _ = LISTENER.set(listener);
    // Without a call, not even one to wait.
    let sent = *wait(&SENT, std::hint::spin_loop);
    set.and(sent)
}

fn wait<T>(value: &OnceLock<T>, pause: impl Fn()) -> &T {
    loop {
        match value.get() {
            Some(value) => return value,
            None => pause(),
        }
    }
}
