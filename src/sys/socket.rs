//! Descriptors over Unix sockets: `SCM_RIGHTS` of `unix(7)`.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, UnixAddr, accept4, recv, recvmsg,
    sendmsg,
};

/// The most descriptors that one message can carry here.
pub const MAX_DESCRIPTORS: usize = 16;

/// Takes the next connection to a listening socket (`accept4(2)`).
///
/// # Errors
/// What `accept4(2)` reports.
pub fn accept(listener: impl AsFd) -> Result<OwnedFd, Errno> {
    let fd = loop {
        match accept4(listener.as_fd().as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
            Err(Errno::EINTR | Errno::ECONNABORTED) => {}
            accepted => break accepted?,
        }
    };
    // SAFETY: the call succeeded, and the new descriptor has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends one message with descriptors.
///
/// # Errors
/// What `sendmsg(2)` reports; a peer that is gone is `EPIPE` and raises no signal.
pub fn send(
    socket: impl AsFd,
    message: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), Errno> {
    let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let control = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &[][..] } else { &control[..] };
    let socket = socket.as_fd().as_raw_fd();
    let message = [IoSlice::new(message)];
    sendmsg::<UnixAddr>(socket, &message, control, MsgFlags::MSG_NOSIGNAL, None).map(drop)
}

/// The length of the next message, which stays where it is; 0 when the peer is gone.
///
/// # Errors
/// What `recv(2)` reports.
pub fn next_length(socket: impl AsFd) -> Result<usize, Errno> {
    let fd = socket.as_fd().as_raw_fd();
    loop {
        match recv(fd, &mut [], MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC) {
            Err(Errno::EINTR) => {}
            length => return length,
        }
    }
}

/// Receives one message into `buffer`: its length, 0 when the peer is gone, and the descriptors that came with it.
///
/// # Errors
/// What `recvmsg(2)` reports; `EMSGSIZE` if the message was longer than `buffer`.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> Result<(usize, Vec<OwnedFd>), Errno> {
    let mut control = nix::cmsg_space!([libc::c_int; MAX_DESCRIPTORS]);
    let mut slices = [IoSliceMut::new(buffer)];
    let fd = socket.as_fd().as_raw_fd();
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let received = loop {
        match recvmsg::<UnixAddr>(fd, &mut slices, Some(&mut control), flags) {
            Err(Errno::EINTR) => {}
            other => break other?,
        }
    };
    let mut descriptors = Vec::new();
    for message in received.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = message {
            for fd in fds {
                // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
                descriptors.push(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
    }
    if received.flags.contains(MsgFlags::MSG_TRUNC) {
        return Err(Errno::EMSGSIZE);
    }
    Ok((received.bytes, descriptors))
}
