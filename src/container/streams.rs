//! The standard streams of a container without a terminal.
//!
//! Programs open `/dev/stdout` and `/dev/stderr` by name, as web servers do for their logs, and the kernel then asks who
//! owns what is behind them. A pipe is given to the container's user, as runc does. Anything else of the caller's, a file or
//! a terminal, keeps its owner: the container gets a pipe, and what comes out of it is copied.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag, fchmod, fstat, major, minor};
use nix::sys::statfs::{FsType, fstatfs};
use nix::unistd::{Uid, fchown, pipe2};

use super::Error;

/// The file system of anonymous pipes (`linux/magic.h`).
const PIPEFS_MAGIC: FsType = FsType(0x5049_5045);

/// The streams for the container, and what is left to copy.
#[derive(Debug)]
pub(super) struct Streams {
    /// Input, output and error, for the container.
    pub(super) inner: [OwnedFd; 3],
    /// Outer ends of pipes, each with the stream of the caller's that it goes to.
    pub(super) relays: Vec<Relay>,
}

/// One stream that is copied.
#[derive(Debug)]
pub struct Relay {
    /// Where it comes from.
    pub from: OwnedFd,
    /// Where it goes.
    pub to: OwnedFd,
}

/// The streams for a program whose user is `owner` on the host; without `interactive` it has no input.
pub(super) fn open(owner: Uid, interactive: bool) -> Result<Streams, Error> {
    let failed = |source| Error::Io { verb: "open", path: "/dev/std{in,out,err}".into(), source };
    let mut relays = Vec::new();
    let mut output = |stream: BorrowedFd<'_>| -> io::Result<OwnedFd> {
        let copy = stream.try_clone_to_owned()?;
        if is_open_to(stream, owner)? {
            return Ok(copy);
        }
        let (from, inner) = pipe2(OFlag::O_CLOEXEC)?;
        give(&inner, owner)?;
        relays.push(Relay { from, to: copy });
        Ok(inner)
    };
    let stdout = output(io::stdout().as_fd()).map_err(failed)?;
    let stderr = output(io::stderr().as_fd()).map_err(failed)?;
    let stdin = if interactive {
        let stdin = io::stdin();
        is_open_to(stdin.as_fd(), owner).map_err(failed)?;
        stdin.as_fd().try_clone_to_owned().map_err(failed)?
    } else {
        let path = Path::new("/dev/null");
        let null = File::open(path);
        null.map_err(|source| Error::Io { verb: "open", path: path.into(), source })?.into()
    };
    Ok(Streams { inner: [stdin, stdout, stderr], relays })
}

/// Has `owner` able to open the pipe once more. An ordinary user can give nothing away; who else could get at it is whoever
/// may look into the program anyway.
fn give(pipe: &OwnedFd, owner: Uid) -> io::Result<()> {
    match fchown(pipe, Some(owner), None) {
        Err(Errno::EPERM) => Ok(fchmod(pipe, Mode::from_bits_truncate(0o666))?),
        given => Ok(given?),
    }
}

/// Whether `owner` can open what is behind the stream once more, after it is given the stream if that is a pipe.
fn is_open_to(stream: BorrowedFd<'_>, owner: Uid) -> io::Result<bool> {
    let found = fstat(stream)?;
    if found.st_uid == owner.as_raw() {
        return Ok(true);
    }
    let kind = SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits());
    let number = (major(found.st_rdev), minor(found.st_rdev));
    match kind {
        SFlag::S_IFIFO if fstatfs(stream)?.filesystem_type() == PIPEFS_MAGIC => {
            Ok(fchown(stream, Some(owner), None).is_ok())
        }
        // `/dev/null` is everybody's.
        SFlag::S_IFCHR => Ok(number == (1, 3)),
        // A socket cannot be opened by name at all.
        SFlag::S_IFSOCK => Ok(true),
        _ => Ok(false),
    }
}
