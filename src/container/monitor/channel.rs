//! Starting a monitor, and reaching one.

use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use super::super::{Containers, Error};
use super::MONITOR_VERB;
use super::listener::dial;
use super::message::{Connection, Event, Request};

/// A container that a monitor has started.
#[derive(Debug)]
pub struct Started {
    /// A connection from before the program began, so that nothing of its output is missed.
    pub connection: Connection,
    /// What is weaker than it should be.
    pub warnings: Vec<String>,
}

/// Starts the container `id` of the store in `root` by a monitor of its own, and returns when its program is executed.
///
/// # Errors
/// [`Error::NotStarted`] with what the monitor says if the program is not executed.
pub fn start(
    containers: &Containers,
    root: &Path,
    id: &str,
    attach: bool,
) -> Result<Started, Error> {
    let failed = |source: Errno| Error::Monitor { verb: "start", source: source.into() };
    let flags = SockFlag::SOCK_CLOEXEC;
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).map_err(failed)?;
    let connection = Connection::new(ours);
    connection.send(if attach { &Request::Attach } else { &Request::Look }).map_err(failed)?;
    spawn(containers, root, id, theirs)?;
    let mut warnings = Vec::new();
    loop {
        match connection.receive().map_err(failed)? {
            Some(Event::Warning(text)) => warnings.push(text),
            Some(Event::Started) => return Ok(Started { connection, warnings }),
            Some(Event::Failed(failed)) => return Err(Error::NotStarted(failed)),
            Some(_) => {}
            None => return Err(failed(Errno::EPIPE)),
        }
    }
}

/// Executes this program anew as the monitor, with nothing of this process but its end of the socket, as standard input.
fn spawn(containers: &Containers, root: &Path, id: &str, socket: OwnedFd) -> Result<(), Error> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("mydocker").args([MONITOR_VERB, "--root"]).arg(root).arg(id);
    command.env_clear().env("MYDOCKER_RUN", containers.run_folder()).current_dir("/");
    command.stdin(Stdio::from(socket)).stdout(Stdio::null()).stderr(Stdio::null());
    // It is not waited for: it goes on when this process has ended, and init takes its end.
    command.spawn().map(drop).map_err(|source| Error::Monitor { verb: "start", source })
}

/// Connects to the monitor of a running container.
///
/// # Errors
/// [`Error::Io`] if it has none.
pub fn connect(containers: &Containers, id: &str) -> Result<Connection, Error> {
    dial(containers.run_folder(), id, SockFlag::empty()).map(Connection::new)
}

/// Makes a monitor that waits before another start look at the record again. One that has ended needs not, and one that is
/// busy will.
pub(in super::super) fn poke(containers: &Containers, id: &str) {
    if let Ok(socket) = dial(containers.run_folder(), id, SockFlag::SOCK_NONBLOCK) {
        let _ = Connection::new(socket).send(&Request::Look);
    }
}
