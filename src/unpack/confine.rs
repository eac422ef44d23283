//! The walls around a thread that extracts: whatever a layer made of it, it could reach nothing but the layer's folder.
//!
//! The extractor does not need them, since it walks on descriptors and follows no link outside. They stand for the day
//! when it has a bug, also when root pulls:
//!
//! 1. a mount namespace whose only mount is the folder, and that as the root (`pivot_root(2)`); it follows no symbolic
//!    link and knows no devices, programs or set-user-ID bits,
//! 2. no descriptor but those that the work needs,
//! 3. only those capabilities that a layer's owners, modes, devices and file capabilities need,
//! 4. Landlock: descriptors that were let in lead no further than below themselves,
//! 5. seccomp: no execve(2), no socket, no mount, nothing but work on files.
//!
//! A second thread writes what the files hold, to descriptors that the first one hands to it. It is in the same mount
//! namespace, and has no call to open anything.
//!
//! The first wall needs privileges. An ordinary user's thread has the others, and can do no more than its user anyway.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use nix::unistd::{chroot, fchdir, pivot_root};

use super::syscalls::{filter, writer_filter};
use crate::sys::caps::{capget_permitted, capset};
use crate::sys::fs::{PATH_DIRECTORY, READ_DIRECTORY, open_beneath};
use crate::sys::mount::{Change, NODEV, NOEXEC, NOSUID, NOSYMFOLLOW, move_mount, open_tree_clone};
use crate::sys::process::{close_all_but, set_no_new_privs};
use crate::sys::seccomp::Instruction;
use crate::sys::{landlock, seccomp};

/// What a thread keeps of its capabilities: `CAP_CHOWN`, `CAP_DAC_OVERRIDE`, `CAP_DAC_READ_SEARCH`, `CAP_FOWNER`,
/// `CAP_FSETID`, `CAP_MKNOD` and `CAP_SETFCAP` (capabilities(7)).
const CAPABILITIES: u64 = 0b1_1111 | 1 << 27 | 1 << 31;
/// What a thread that writes keeps of those: all but `CAP_DAC_READ_SEARCH` and `CAP_MKNOD`.
const WRITER_CAPABILITIES: u64 = 0b1_1011 | 1 << 31;

/// How far a thread has been shut in.
#[derive(Debug)]
pub struct Confined {
    /// The folder, opened inside the walls.
    pub root: OwnedFd,
    /// Whether the thread has a working directory, a root and a umask of its own.
    pub own_fs: bool,
    /// Whether the folder is its root directory, and all that there is.
    pub own_root: bool,
    /// Whether Landlock holds it.
    pub landlock: bool,
}

/// Shuts this thread in with `folder`, for good. Of its descriptors it keeps those in `keep`; those in `reach` are
/// directories that it may also use.
///
/// What the machine or its user may not do is left out, and the result says what that is.
///
/// # Errors
/// Those walls that need no privilege and still could not be put up.
pub fn confine(
    folder: BorrowedFd<'_>,
    reach: &[BorrowedFd<'_>],
    keep: &[BorrowedFd<'_>],
) -> nix::Result<Confined> {
    enter(folder, reach, keep)?.restrict(reach)
}

/// The first half of [`confine`]: what a thread that this one starts has in common with it.
pub(super) fn enter(
    folder: BorrowedFd<'_>,
    reach: &[BorrowedFd<'_>],
    keep: &[BorrowedFd<'_>],
) -> nix::Result<Confined> {
    // First of all, so that descriptors from here on are this thread's alone, and go with it.
    let own_fs = unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_FILES).is_ok();
    let (root, own_root) = match own_root(folder) {
        Ok(root) if own_fs => (root, true),
        _ => (open_beneath(folder, b"", READ_DIRECTORY)?, false),
    };
    if own_fs {
        let kept = reach.iter().chain(keep).map(AsRawFd::as_raw_fd);
        // Of this thread's own table. Standard output and error stay for the last words of a panic.
        close_all_but(3, kept.chain([root.as_raw_fd()]))?;
    }
    Ok(Confined { root, own_fs, own_root, landlock: false })
}

impl Confined {
    /// The second half: what each thread puts up for itself.
    pub(super) fn restrict(mut self, reach: &[BorrowedFd<'_>]) -> nix::Result<Self> {
        let directories: Vec<_> = reach.iter().copied().chain([self.root.as_fd()]).collect();
        self.landlock = restrict_thread(CAPABILITIES, &directories, &filter())?;
        Ok(self)
    }
}

/// Shuts in a thread that only writes to files that another has opened: it reaches nothing by name at all.
///
/// # Errors
/// Those walls that could not be put up; none of them needs a privilege.
pub fn confine_writer() -> nix::Result<()> {
    restrict_thread(WRITER_CAPABILITIES, &[], &writer_filter()).map(drop)
}

fn restrict_thread(
    capabilities: u64,
    directories: &[BorrowedFd<'_>],
    filter: &[Instruction],
) -> nix::Result<bool> {
    let permitted = capget_permitted()? & capabilities;
    capset(permitted, permitted, 0)?;
    set_no_new_privs()?;
    let landlock = restrict_files(directories)?;
    restrict_calls(filter)?;
    Ok(landlock)
}

/// The last of the walls alone, for a thread that may gain no privileges any more (`no_new_privs`).
///
/// # Errors
/// seccomp(2).
pub fn only_files() -> nix::Result<()> {
    restrict_calls(&filter())
}

fn restrict_calls(filter: &[Instruction]) -> nix::Result<()> {
    match seccomp::set_mode_filter(filter, 0) {
        // A kernel without seccomp.
        Err(Errno::ENOSYS | Errno::EINVAL) => Ok(()),
        set => set,
    }
}

/// Opens `folder` without any walls, for tests of the extractor.
pub(super) fn unconfined(folder: BorrowedFd<'_>) -> nix::Result<Confined> {
    let own_fs = unshare(CloneFlags::CLONE_FS).is_ok();
    let root = open_beneath(folder, b"", READ_DIRECTORY)?;
    Ok(Confined { root, own_fs, own_root: false, landlock: false })
}

/// Makes `folder` the root of a mount namespace of its own, in which there is nothing else.
fn own_root(folder: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    // Before the namespace changes, as only what is mounted in the present one can be copied.
    let copy = open_tree_clone(folder, c"", false)?;
    let attributes = |set| Change { set, ..Change::default() };
    match attributes(NOSUID | NODEV | NOEXEC | NOSYMFOLLOW).apply(copy.as_fd()) {
        // NOSYMFOLLOW came with Linux 5.14.
        Err(Errno::EINVAL) => attributes(NOSUID | NODEV | NOEXEC).apply(copy.as_fd())?,
        result => result?,
    }
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let slash = open("/", PATH_DIRECTORY, Mode::empty())?;
    move_mount(copy.as_fd(), slash.as_fd())?;
    fchdir(&copy)?;
    match pivot_root(".", ".") {
        Ok(()) => umount2(".", MntFlags::MNT_DETACH)?,
        // The root of an initramfs cannot be exchanged. There it lies below, out of sight.
        Err(Errno::EINVAL) => chroot(".")?,
        Err(errno) => return Err(errno),
    }
    nix::unistd::chdir("/")?;
    open("/", READ_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
}

/// Lets files be reached below these directories alone; `false` where the kernel cannot do that.
fn restrict_files(directories: &[BorrowedFd<'_>]) -> nix::Result<bool> {
    let version = landlock::version();
    // The first version forbids every link and rename between directories.
    if version < 2 {
        return Ok(false);
    }
    let from = |first, access| if version >= first { access } else { 0 };
    let handled = landlock::VERSION_1
        | landlock::REFER
        | from(3, landlock::TRUNCATE)
        | from(5, landlock::IOCTL_DEV);
    let rules = landlock::Ruleset::new(handled, version)?;
    let allowed = handled & !(landlock::EXECUTE | landlock::IOCTL_DEV);
    for directory in directories {
        // The same rights for all: a file may only be linked to where no more is allowed (landlock(7), "REFER").
        rules.allow(*directory, allowed)?;
    }
    rules.restrict_self()?;
    Ok(true)
}
