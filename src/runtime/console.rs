//! Handing a terminal on to whoever asked for the container.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::sys::socket;

/// Sends the outer end of a terminal to who listens at `path`, as engines expect it of a runtime's `--console-socket`.
///
/// # Errors
/// When nobody listens there.
pub fn send_console(path: &Path, console: &OwnedFd) -> io::Result<()> {
    let stream = UnixStream::connect(path)?;
    // The text is what the receiver calls it.
    socket::send(&stream, b"/dev/ptmx", &[console.as_fd()])?;
    Ok(())
}
