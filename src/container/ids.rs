//! Ranges of ids on the host, one for each container with a user namespace.
//!
//! They come from the range that systemd reserves for containers (its `UIDS-GIDS.md`: 524288 to 1879048191), where no
//! account may be, and two running containers never share one: a process that breaks out of one is a stranger to the
//! other.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Error;

/// The first id that systemd gives to containers.
const FIRST: u32 = 0x0008_0000;
/// The ids that a container gets: all that classic Unix has.
const SIZE: u32 = 0x1_0000;
/// How many ranges there are.
const RANGES: u32 = (0x7000_0000 - FIRST) / SIZE;

/// Consecutive ids on the host.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct IdRange {
    /// The one that stands for root inside.
    pub first: u32,
    /// How many there are.
    pub size: u32,
}

/// Claims a range for the container `id` in the folder `run`: the one that its id points at, or the next free one.
pub(super) fn claim(run: &Path, id: &str) -> Result<IdRange, Error> {
    let folder = folder(run);
    let start = u32::from_str_radix(id.get(..8).unwrap_or("0"), 16).unwrap_or_default() % RANGES;
    for step in 0..RANGES {
        let slot = (start + step) % RANGES;
        let path = folder.join(slot.to_string());
        match symlink(id, &path) {
            Ok(()) => return Ok(IdRange { first: FIRST + slot * SIZE, size: SIZE }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make(&folder).map_err(|source| Error::Io {
                    verb: "create",
                    path: folder,
                    source,
                })?;
                return claim(run, id);
            }
            Err(source) => return Err(Error::Io { verb: "create", path, source }),
        }
    }
    let source = io::Error::from_raw_os_error(libc::EAGAIN);
    Err(Error::Io { verb: "find a free id range in", path: folder, source })
}

fn make(folder: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).recursive(true).create(folder) {
        // It was there, and who gave back the last range has removed it since.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let found = fs::symlink_metadata(folder);
            if found.is_ok_and(|found| !found.is_dir()) { Err(error) } else { Ok(()) }
        }
        made => made,
    }
}

/// Gives back the range of the container `id`, if it has one.
pub(super) fn release(run: &Path, id: &str, range: Option<IdRange>) {
    let Some(range) = range else { return };
    let path = folder(run).join(((range.first - FIRST) / SIZE).to_string());
    if fs::read_link(&path).is_ok_and(|holder| holder.as_os_str() == id) {
        // What stays behind costs a range until the next boot, and nothing else.
        let _ = fs::remove_file(&path);
        // Gone with the last one; whoever claims one makes it again.
        let _ = fs::remove_dir(folder(run));
    }
}

fn folder(run: &Path) -> PathBuf {
    run.join(".ids")
}
