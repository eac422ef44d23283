//! The root filesystem: made, attached, and entered.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::Mode;
use nix::unistd::{chroot, fchdir, pivot_root};

use super::{At, Done, Failure, place};
use crate::runtime::error::Step;
use crate::runtime::plan::{Plan, RootSource, configure};
use crate::sys::mount::{self, Attributes, Change, FsContext};

/// A directory that every host has and that the container never needs from it: what must be attached somewhere for a while
/// is put here, and goes away with the old root.
const PARKING: &std::ffi::CStr = c"/sys";

/// The same for files.
const FILE_PARKING: &std::ffi::CStr = c"/proc/filesystems";

/// Makes the root filesystem and attaches it over the old one, which stays reachable by the names that start at `/`, as
/// those do not look what is mounted there.
pub(super) fn make(plan: &Plan) -> Result<OwnedFd, Failure> {
    let top = place::open_host(c"/").during(Step::Propagation)?;
    // Nothing that is mounted from here on is to be seen outside; `pivot_root` demands it, too.
    let change =
        Change { propagation: plan.host_propagation, recursive: true, ..Change::default() };
    change.apply(top.as_fd()).during(Step::Propagation)?;
    if plan.host_propagation != mount::PRIVATE {
        let change = Change { propagation: mount::PRIVATE, ..Change::default() };
        change.apply(top.as_fd()).during(Step::Propagation)?;
    }
    let root = match &plan.root.source {
        RootSource::Bind(tree) => tree.try_clone().map_err(|_| Errno::EMFILE),
        RootSource::Overlay { lower, layer, attributes, options } => {
            // Overlayfs takes layers from the caller's own mount namespace. Detached ones, which it takes since Linux
            // 6.15, still belong to the parent, and so to a user namespace that this process has no power over.
            park(lower.as_fd()).during(Step::AttachLayer)?;
            park(layer.as_fd()).during(Step::AttachLayer)?;
            Ok(overlay(options, *attributes).during(Step::Overlay)?)
        }
    };
    let root = root.during(Step::AttachRoot)?;
    mount::move_mount(root.as_fd(), top.as_fd()).during(Step::AttachRoot)?;
    Ok(root)
}

fn overlay(
    options: &[(CString, Option<CString>)],
    attributes: Attributes,
) -> Result<OwnedFd, Errno> {
    let context = FsContext::open(c"overlay")?;
    configure(&context, options)?;
    context.mount(attributes)
}

/// Attaches a detached mount where it is out of the way.
pub(super) fn park(mount: BorrowedFd<'_>) -> Result<(), Errno> {
    // On top of what was parked before: the name leads to the topmost mount.
    mount::move_mount(mount, place::open_host(PARKING)?.as_fd())
}

/// As [`park`], for a file.
pub(super) fn park_file(mount: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    mount::move_mount(mount, openat(AT_FDCWD, FILE_PARKING, flags, Mode::empty())?.as_fd())
}

/// Swaps the roots, and lets go of the host's.
pub(super) fn pivot(plan: &Plan, root: BorrowedFd<'_>) -> Done {
    if plan.root.readonly {
        let change = Change { set: mount::RDONLY, ..Change::default() };
        change.apply(root).during(Step::ReadonlyRoot)?;
    }
    fchdir(root).during(Step::PivotRoot)?;
    if plan.no_pivot {
        // The new root lies over the old one already: names begin at it from here on.
        chroot(c".").during(Step::PivotRoot)?;
        return propagate(plan, root);
    }
    // The old root ends up on top of the new one, and `.` in `umount2` finds it there: pivot_root(2), "NOTES".
    pivot_root(c".", c".").during(Step::PivotRoot)?;
    umount2(c".", MntFlags::MNT_DETACH).during(Step::UmountOldRoot)?;
    propagate(plan, root)
}

/// Takes a container to the caller's mount namespace that has none of its own. It keeps the root that was made in a namespace
/// of its own, as a copy that is mounted nowhere: no mount of the container's is ever seen on the host, and none is left
/// behind. Above this root there is nothing, wherever a program goes by `..` that leaves it.
pub(super) fn share(plan: &Plan, root: OwnedFd) -> Result<OwnedFd, Failure> {
    let Some(namespace) = &plan.shared_mounts else { return Ok(root) };
    let copy = mount::open_tree_clone(root.as_fd(), c"", true).during(Step::SharedRoot)?;
    setns(namespace, CloneFlags::CLONE_NEWNS).during(Step::SharedRoot)?;
    fchdir(&copy).during(Step::SharedRoot)?;
    chroot(c".").during(Step::SharedRoot)?;
    Ok(copy)
}

fn propagate(plan: &Plan, root: BorrowedFd<'_>) -> Done {
    if let Some((propagation, recursive)) = plan.root_propagation {
        let change = Change { propagation, recursive, ..Change::default() };
        change.apply(root).during(Step::Propagation)?;
    }
    Ok(())
}
