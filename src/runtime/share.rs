//! A mount of one container's, for another one.

use std::ffi::CStr;
use std::os::fd::{AsFd as _, OwnedFd};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use super::child::place;
use super::error::Error;
use super::init::Init;
use crate::sys::clone::{self, Clone};
use crate::sys::mount;
use crate::sys::pidfd::pidfd_wait;
use crate::sys::socket;

/// A copy of what is mounted at `path`, relative to the root of the container whose first process is `init`.
///
/// Only who is in the container's mount namespace can copy one, from which there is no way back: a process of its own does.
/// No symbolic link is followed, as they are the container's.
///
/// # Errors
/// When there is nothing at `path`, or the container has ended.
pub fn open_mount(init: &Init, path: &CStr) -> Result<OwnedFd, Error> {
    let error = |source| Error::Path {
        action: "share",
        path: format!("/{}", path.to_string_lossy()).into(),
        source,
    };
    let flags = SockFlag::SOCK_CLOEXEC;
    let pair = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags);
    let (here, there) = pair.map_err(error)?;
    match clone::clone3(0, None).map_err(|source| Error::Clone { source })? {
        Clone::Child => {
            drop(here);
            let opened = enter_and_open(init, path);
            let errno = opened.as_ref().err().map_or(0, |errno| *errno as i32);
            let opened: Vec<_> = opened.iter().map(OwnedFd::as_fd).collect();
            // If the parent is gone, nobody wants to know.
            let _ = socket::send(&there, &errno.to_ne_bytes(), &opened);
            clone::exit(0)
        }
        Clone::Parent(_, helper) => {
            drop(there);
            let mut answer = [0; 4];
            let received = socket::receive(&here, &mut answer);
            // Its end says nothing that it has not said.
            let _ = pidfd_wait(&helper);
            let (_, descriptors) = received.map_err(error)?;
            match i32::from_ne_bytes(answer) {
                0 => descriptors.into_iter().next().ok_or_else(|| error(Errno::EPROTO)),
                errno => Err(error(Errno::from_raw(errno))),
            }
        }
    }
}

fn enter_and_open(init: &Init, path: &CStr) -> Result<OwnedFd, Errno> {
    setns(init.pidfd(), CloneFlags::CLONE_NEWNS)?;
    let root = place::open_host(c"/")?;
    let found = place::open_strict(root.as_fd(), path)?;
    mount::open_tree_clone(found.as_fd(), c"", false)
}
