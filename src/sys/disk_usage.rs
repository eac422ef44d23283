//! Looking at every file of a tree that its owner may be changing at the same time.

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, SFlag, fstat, fstatat};

use super::fs::{DirReader, READ_DIRECTORY, open_on_mount};

/// Calls `see` with what `fstat(2)` says of every file below `root`, and of `root` itself. Links are not followed, other
/// mounts not entered; what goes away meanwhile, or lies deeper than a path can name, is passed over.
///
/// # Errors
/// openat2(2), getdents64(2), fstatat(2), for any other reason.
pub fn for_each_file(root: BorrowedFd<'_>, see: &mut dyn FnMut(&FileStat)) -> nix::Result<()> {
    see(&fstat(root)?);
    let mut pending = vec![Vec::new()];
    while let Some(path) = pending.pop() {
        let mut reader = match open_on_mount(root, &path, READ_DIRECTORY) {
            Ok(dir) => DirReader::new(dir),
            Err(errno) if is_passed_over(errno) => continue,
            Err(errno) => return Err(errno),
        };
        loop {
            let name = match reader.next_entry() {
                Ok(Some((name, _))) => name.to_vec(),
                Ok(None) | Err(Errno::ENOENT) => break,
                Err(errno) => return Err(errno),
            };
            let stat = match fstatat(reader.fd(), &name[..], AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(errno) if is_passed_over(errno) => continue,
                Err(errno) => return Err(errno),
            };
            see(&stat);
            if stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits() {
                let slash: &[u8] = if path.is_empty() { b"" } else { b"/" };
                pending.push([&path[..], slash, &name].concat());
            }
        }
    }
    Ok(())
}

fn is_passed_over(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EXDEV | Errno::ENAMETOOLONG
    )
}

/// The bytes that a file takes on the disk.
pub fn bytes(stat: &FileStat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512)
}

/// The bytes that the tree in `root` takes on the disk, a file with several names once.
///
/// # Errors
/// As [`for_each_file`].
pub fn disk_usage(root: BorrowedFd<'_>) -> nix::Result<u64> {
    let mut seen = std::collections::HashSet::new();
    let mut sum = 0_u64;
    for_each_file(root.as_fd(), &mut |stat| {
        let is_directory = stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits();
        if is_directory || stat.st_nlink <= 1 || seen.insert((stat.st_dev, stat.st_ino)) {
            sum = sum.saturating_add(bytes(stat));
        }
    })?;
    Ok(sum)
}
