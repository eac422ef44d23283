//! The socket on which a monitor is reached, `RUN/<id>.sock`.
//!
//! A socket's address holds at most 108 bytes (`unix(7)`), and the run folder may lie deep: it is named by a descriptor.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket,
};

use super::super::Error;
use super::message::Client;
use crate::sys::socket::accept;

/// A socket that listens; it is removed when dropped.
#[derive(Debug)]
pub(super) struct Listener {
    socket: OwnedFd,
    path: PathBuf,
}

fn path(run: &Path, id: &str) -> PathBuf {
    run.join(format!("{id}.sock"))
}

fn new_socket(flags: SockFlag) -> Result<OwnedFd, Errno> {
    socket(AddressFamily::Unix, SockType::SeqPacket, flags | SockFlag::SOCK_CLOEXEC, None)
}

/// The address of a socket in `folder`, and the descriptor that it is valid with.
fn address(path: &Path) -> io::Result<(File, UnixAddr)> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let folder = File::options().read(true).custom_flags(libc::O_PATH).open(folder)?;
    let name = path.file_name().unwrap_or_default();
    let short = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
    Ok((folder, UnixAddr::new(&short)?))
}

impl Listener {
    pub(super) fn open(run: &Path, id: &str) -> Result<Self, Error> {
        let path = path(run, id);
        let failed = |source| Error::Io { verb: "listen on", path: path.clone(), source };
        // Left by a monitor that was killed; this one has the lock.
        let _ = std::fs::remove_file(&path);
        let opened = || -> io::Result<OwnedFd> {
            let socket = new_socket(SockFlag::empty())?;
            let (_folder, address) = address(&path)?;
            bind(socket.as_raw_fd(), &address)?;
            listen(&socket, Backlog::new(64)?)?;
            nix::fcntl::fcntl(
                &socket,
                nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK),
            )?;
            Ok(socket)
        };
        let socket = opened().map_err(failed)?;
        Ok(Self { socket, path })
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The next client that has come, if there is one.
    pub(super) fn accept(&self) -> Option<Client> {
        accept(&self.socket).and_then(Client::new).ok()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Removes the socket that a monitor which was killed has left, if there is one.
pub(in super::super) fn remove_socket(run: &Path, id: &str) {
    // What stays is of no use to anybody, and gone with the next boot.
    let _ = std::fs::remove_file(path(run, id));
}

/// Connects to the monitor of the container `id`. With `SOCK_NONBLOCK`, one that has no time for clients is not waited for.
pub(super) fn dial(run: &Path, id: &str, flags: SockFlag) -> Result<OwnedFd, Error> {
    let path = path(run, id);
    let dialled = || -> io::Result<OwnedFd> {
        let socket = new_socket(flags)?;
        let (_folder, address) = address(&path)?;
        connect(socket.as_raw_fd(), &address)?;
        Ok(socket)
    };
    dialled().map_err(|source| Error::Io { verb: "connect to", path, source })
}
