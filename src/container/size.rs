//! How much a container has written.

use std::os::fd::AsFd as _;

use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, SFlag, fstatat};

use super::{Containers, Record};

/// Folders below this depth are not counted: only a hostile container makes them.
const MAX_DEPTH: u32 = 256;

/// The bytes of all files in a container's own layer; what cannot be read is not counted.
pub fn layer_size(containers: &Containers, record: &Record) -> u64 {
    let path = containers.folder(&record.id).join("upper");
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    // On descriptors, for a running container may put a link where a folder was.
    Dir::open(&path, flags, Mode::empty()).map_or(0, |dir| sum(dir, flags, 0))
}

fn sum(mut dir: Dir, flags: OFlag, depth: u32) -> u64 {
    let entries: Vec<_> = dir.iter().flatten().map(|entry| entry.file_name().to_owned()).collect();
    let mut bytes = 0_u64;
    for name in entries.iter().filter(|name| !matches!(name.to_bytes(), b"." | b"..")) {
        let Ok(found) = fstatat(dir.as_fd(), name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) else {
            continue;
        };
        let kind = SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits());
        if kind == SFlag::S_IFREG {
            bytes = bytes.saturating_add(u64::try_from(found.st_size).unwrap_or(0));
        } else if kind == SFlag::S_IFDIR
            && depth < MAX_DEPTH
            && let Ok(below) = Dir::openat(dir.as_fd(), name.as_c_str(), flags, Mode::empty())
        {
            bytes = bytes.saturating_add(sum(below, flags, depth + 1));
        }
    }
    bytes
}
