//! The lock of a container's folder that its monitor holds for life.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::super::{Containers, Error, Record};

/// What keeps a container from having two monitors, and from being removed under one.
pub(in super::super) fn lock(
    containers: &Containers,
    record: &Record,
) -> Result<Flock<File>, Error> {
    let path = containers.folder(&record.id).join("monitor");
    let failed = |source| Error::Io { verb: "open", path: path.clone(), source };
    let mut options = File::options();
    let options = options.write(true).create(true).truncate(false).mode(0o600);
    let file = match options.open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::NoSuchContainer(record.id.clone()));
        }
        opened => opened.map_err(failed)?,
    };
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Err((_, Errno::EWOULDBLOCK)) => Err(Error::Running(record.name.clone())),
        locked => locked.map_err(|(_, errno)| failed(errno.into())),
    }
}
