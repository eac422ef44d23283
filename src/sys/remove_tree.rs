//! Removing a directory tree that its owner may be changing at the same time.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, RenameFlags, renameat2};
use nix::sys::stat::{FchmodatFlags, Mode, fchmod, fchmodat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::fs::{DirReader, EntryKind, READ_DIRECTORY, open_on_mount};

/// How many directories are held open at once; what lies deeper is moved up to the top first.
const MAX_OPEN: usize = 32;
/// How often a directory that does not become empty is read again before the removal gives up.
const MAX_PASSES: u64 = 100;

/// What could not be removed, and why.
#[derive(Debug, thiserror::Error)]
#[error("remove `{}`", path.escape_ascii())]
pub struct RemoveError {
    /// The file or directory, from the removed tree's own name on.
    pub path: Vec<u8>,
    /// The failed call's error: `EXDEV` for a directory on which something is mounted.
    #[source]
    pub source: io::Error,
}

struct Level {
    name: Vec<u8>,
    reader: DirReader,
    passes: u64,
}

/// Removes the file or the directory tree `name` in `parent`; that there is none is no error.
///
/// It never follows a symbolic link and never enters another mount, however the tree changes meanwhile: each directory
/// is opened from its parent's descriptor with `RESOLVE_NO_SYMLINKS` and `RESOLVE_NO_XDEV`, so a directory that is
/// swapped for a link is an error, not a way out (CVE-2022-21658). It holds a fixed number of descriptors and uses no
/// recursion, whatever the tree's depth.
///
/// # Errors
/// The first file that does not go away. What was removed before it stays removed.
pub fn remove_tree(parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), RemoveError> {
    let failed = |errno: Errno| RemoveError { path: name.to_vec(), source: errno.into() };
    match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(()),
        Err(Errno::EISDIR) => {}
        Err(errno) => return Err(failed(errno)),
    }
    let mut stack = match Level::open(parent, name) {
        Ok(top) => vec![top],
        // Another process was faster: whoever removes the same tree at the same time does the same work.
        Err(Errno::ENOENT) => return Ok(()),
        Err(errno) => return Err(failed(errno)),
    };
    let mut moved = 0_u64;
    loop {
        let here = stack.len();
        let Some(level) = stack.last_mut() else { return Ok(()) };
        let step = level.step();
        let result = match step {
            Ok(Step::Removed) => Ok(()),
            Ok(Step::Enter(child)) if here < MAX_OPEN => {
                match Level::open(level.reader.fd(), &child) {
                    Err(Errno::ENOENT) => Ok(()),
                    opened => opened.map(|child| stack.push(child)),
                }
            }
            Ok(Step::Enter(child)) => move_to_top(&stack, &child, &mut moved),
            Ok(Step::End) => leave(&mut stack, parent, moved),
            Err(errno) => Err(errno),
        };
        result.map_err(|errno| describe(&stack, errno))?;
    }
}

enum Step {
    Removed,
    Enter(Vec<u8>),
    End,
}

impl Level {
    fn open(parent: BorrowedFd<'_>, name: &[u8]) -> nix::Result<Self> {
        let fd = match open_on_mount(parent, name, READ_DIRECTORY) {
            Err(Errno::EACCES) => {
                make_readable(parent, name)?;
                open_on_mount(parent, name, READ_DIRECTORY)
            }
            other => other,
        }?;
        Ok(Self { name: name.to_vec(), reader: DirReader::new(fd), passes: 0 })
    }

    /// Removes the next entry if it is no directory.
    fn step(&mut self) -> nix::Result<Step> {
        let (name, kind) = match self.reader.next_entry() {
            Ok(Some(entry)) => entry,
            // A directory that another process has removed meanwhile cannot be read any more.
            Ok(None) | Err(Errno::ENOENT) => return Ok(Step::End),
            Err(errno) => return Err(errno),
        };
        let name = name.to_vec();
        if kind == EntryKind::Directory {
            return Ok(Step::Enter(name));
        }
        let fd = self.reader.fd();
        match unlinkat(fd, name.as_slice(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(Step::Removed),
            Err(Errno::EISDIR) => Ok(Step::Enter(name)),
            // Without write permission in the directory an ordinary owner gives it to himself.
            Err(Errno::EACCES) => {
                fchmod(fd, Mode::S_IRWXU)?;
                unlinkat(fd, name.as_slice(), UnlinkatFlags::NoRemoveDir).map(|()| Step::Removed)
            }
            Err(errno) => Err(errno),
        }
    }
}

/// Removes the innermost directory, which its reader found empty, and goes back to its parent.
fn leave(stack: &mut Vec<Level>, parent: BorrowedFd<'_>, moved: u64) -> nix::Result<()> {
    let Some(level) = stack.last() else { return Ok(()) };
    let above = match stack.len() {
        1 => parent,
        n => stack[n - 2].reader.fd(),
    };
    let mut result = unlinkat(above, level.name.as_slice(), UnlinkatFlags::RemoveDir);
    if result == Err(Errno::EACCES) && stack.len() > 1 {
        fchmod(above, Mode::S_IRWXU)?;
        result = unlinkat(above, level.name.as_slice(), UnlinkatFlags::RemoveDir);
    }
    match result {
        Ok(()) | Err(Errno::ENOENT) => {
            stack.pop();
            Ok(())
        }
        // Entries were added, here by what was moved up, or skipped by a file system whose offsets move when entries go.
        Err(Errno::ENOTEMPTY | Errno::EEXIST) => {
            let Some(level) = stack.last_mut() else { return Ok(()) };
            level.passes += 1;
            if level.passes > MAX_PASSES + moved {
                return Err(Errno::ENOTEMPTY);
            }
            level.reader.rewind()
        }
        Err(errno) => Err(errno),
    }
}

/// Moves the directory `child` of the innermost level into the outermost one, where a later pass finds it.
fn move_to_top(stack: &[Level], child: &[u8], moved: &mut u64) -> nix::Result<()> {
    let (Some(top), Some(deep)) = (stack.first(), stack.last()) else { return Ok(()) };
    let mut readable = false;
    loop {
        *moved += 1;
        let name = format!(".deep-{moved}");
        let flags = RenameFlags::RENAME_NOREPLACE;
        match renameat2(deep.reader.fd(), child, top.reader.fd(), name.as_bytes(), flags) {
            Err(Errno::EEXIST) => {}
            // A directory that moves to another parent must be writable itself, because its `..` changes.
            Err(Errno::EACCES) if !readable => {
                make_readable(deep.reader.fd(), child)?;
                readable = true;
            }
            Err(Errno::ENOENT) => return Ok(()),
            other => return other,
        }
    }
}

/// Gives an ordinary user's own directory the permissions that reading it takes.
fn make_readable(parent: BorrowedFd<'_>, name: &[u8]) -> nix::Result<()> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
    let fd = open_on_mount(parent, name, flags)?;
    let stat = fstatat(fd.as_fd(), "", AtFlags::AT_EMPTY_PATH)?;
    let mode = Mode::from_bits_truncate(stat.st_mode) | Mode::S_IRWXU;
    // fchmodat2(2) came with Linux 6.6; before it only /proc leads from an `O_PATH` descriptor to fchmod.
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    fchmodat(parent, path.as_str(), mode, FchmodatFlags::FollowSymlink)
}

fn describe(stack: &[Level], errno: Errno) -> RemoveError {
    let names: Vec<&[u8]> = stack.iter().map(|level| level.name.as_slice()).collect();
    RemoveError { path: names.join(&b'/'), source: errno.into() }
}
