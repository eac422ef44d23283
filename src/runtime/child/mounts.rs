//! What is mounted on the root, and what of it is hidden.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{self, Mode};
use nix::sys::statfs::{PROC_SUPER_MAGIC, SYSFS_MAGIC, fstatfs};

use super::place::{self, Kind};
use super::{At, Child, Done, Failure, copy_up, root};
use crate::runtime::cgroup::View;
use crate::runtime::error::Step;
use crate::runtime::plan::{PlannedMount, Source, configure};
use crate::sys::mount::{self, Attributes, Change, FsContext};

impl Child<'_> {
    /// Mounts everything, in the order of the spec.
    pub(super) fn mount_all(&mut self, root: &OwnedFd) -> Done {
        let plan = self.plan;
        plan.mounts
            .iter()
            .enumerate()
            .try_for_each(|(index, planned)| self.mount(root.as_fd(), index, planned))
    }

    fn mount(&mut self, root: BorrowedFd<'_>, index: usize, planned: &PlannedMount) -> Done {
        match &planned.source {
            Source::Cgroup { attributes } => self.mount_cgroup(root, index, planned, *attributes),
            Source::Detached { mount, directory, .. } => {
                let kind = if *directory { Kind::Directory } else { Kind::File };
                let renewed = if self.plan.mounts_in_order {
                    Some(renew(mount.as_fd(), kind).at(Step::Mount, index)?)
                } else {
                    None
                };
                let mount = renewed.as_ref().unwrap_or(mount);
                attach(root, index, planned, mount.as_fd(), kind)?;
                if planned.destination.as_c_str() == c"proc" {
                    // The host's, whose sysctls are those of whoever opens them.
                    self.proc = mount.try_clone().ok();
                }
                Ok(())
            }
            Source::Remount(change) => {
                let place = place::open(root, &planned.destination).at(Step::Mount, index)?;
                change.apply(place.as_fd()).at(Step::Mount, index)?;
                planned.propagation.iter().try_for_each(|(propagation, recursive)| {
                    let (propagation, recursive) = (*propagation, *recursive);
                    let change = Change { propagation, recursive, ..Change::default() };
                    change.apply(place.as_fd()).at(Step::Mount, index)
                })
            }
            Source::Filesystem { kind, options, attributes } => {
                // What is copied into it first, a read-only filesystem would not take.
                let later = if planned.copy_up { *attributes & mount::RDONLY } else { 0 };
                let mounted = FsContext::open(kind).and_then(|context| {
                    configure(&context, options)?;
                    context.mount(*attributes & !later)
                });
                let mounted = mounted.at(Step::Mount, index)?;
                if planned.copy_up {
                    let copied = copy_up::copy_up(root, &planned.destination, mounted.as_fd());
                    copied.at(Step::CopyUp, index)?;
                    let change = Change { set: later, ..Change::default() };
                    change.apply(mounted.as_fd()).at(Step::Mount, index)?;
                }
                attach(root, index, planned, mounted.as_fd(), Kind::Directory)?;
                match kind.to_bytes() {
                    b"proc" if self.proc.is_none() => self.proc = Some(mounted),
                    b"devpts" if self.devpts.is_none() => self.devpts = Some(mounted),
                    _ => {}
                }
                Ok(())
            }
        }
    }

    /// Shows the container the groups that it is in: one filesystem of version 2, or one of version 1 for each controller
    /// that it uses, in a directory as everybody expects them.
    fn mount_cgroup(
        &mut self,
        root: BorrowedFd<'_>,
        index: usize,
        planned: &PlannedMount,
        attributes: Attributes,
    ) -> Done {
        self.finish_joining()?;
        let controllers = match &self.plan.cgroup {
            View::None => return Ok(()),
            View::V2 => {
                let mounted = if self.plan.cgroup_namespace {
                    FsContext::open(c"cgroup2").and_then(|fs| fs.mount(attributes))
                } else {
                    match self.own_group(c"", attributes) {
                        // An ordinary user may have no group.
                        Err(Errno::ENOENT) => return Ok(()),
                        mounted => mounted,
                    }
                };
                let mounted = mounted.at(Step::Mount, index)?;
                return attach(root, index, planned, mounted.as_fd(), Kind::Directory);
            }
            View::V1(controllers) => controllers,
        };
        let directory = FsContext::open(c"tmpfs").and_then(|fs| {
            fs.set_string(c"mode", c"755")?;
            fs.mount(mount::NOSUID | mount::NODEV | mount::NOEXEC)
        });
        let directory = directory.at(Step::Mount, index)?;
        attach(root, index, planned, directory.as_fd(), Kind::Directory)?;
        for controller in controllers {
            let mounted = if self.plan.cgroup_namespace {
                FsContext::open(c"cgroup").and_then(|fs| {
                    fs.set_flag(controller)?;
                    fs.mount(attributes)
                })
            } else {
                match self.own_group(controller, attributes) {
                    // An ordinary user may have no group there.
                    Err(Errno::ENOENT) => continue,
                    mounted => mounted,
                }
            };
            let target = place::find_or_make(directory.as_fd(), controller, Kind::Directory, true);
            let moved = mounted.and_then(|fs| mount::move_mount(fs.as_fd(), target?.as_fd()));
            moved.at(Step::Mount, index)?;
        }
        let change = Change { set: attributes & mount::RDONLY, ..Change::default() };
        change.apply(directory.as_fd()).at(Step::Mount, index)
    }

    /// The container's own group of a hierarchy, of which without a cgroup namespace it would see the rest as well.
    fn own_group(&self, hierarchy: &CStr, attributes: Attributes) -> Result<OwnedFd, Errno> {
        let hierarchies = self.hierarchies.as_ref().ok_or(Errno::ENOENT)?;
        let path = Path::new(OsStr::from_bytes(hierarchy.to_bytes())).join(&self.plan.cgroup_path);
        let path = CString::new(path.into_os_string().into_vec()).map_err(|_| Errno::EINVAL)?;
        let group = mount::open_tree_clone(hierarchies.as_fd(), &path, false)?;
        let change = Change { set: attributes, propagation: mount::PRIVATE, ..Change::default() };
        change.apply(group.as_fd())?;
        Ok(group)
    }

    /// Hides paths behind empty files and directories of our own making, which nobody can exchange: the container's
    /// `/dev/null` may be anything (CVE-2025-31133).
    pub(super) fn mask(&mut self, root: &OwnedFd) -> Done {
        if self.plan.masked.is_empty() {
            return Ok(());
        }
        let empty = empty_things().during(Step::MaskSource)?;
        for (index, path) in self.plan.masked.iter().enumerate() {
            let Some(target) = find(root.as_fd(), path).at(Step::Mask, index)? else { continue };
            let mode = stat::fstat(&target).at(Step::Mask, index)?.st_mode;
            let name = if mode & libc::S_IFMT == libc::S_IFDIR { c"directory" } else { c"file" };
            let mask = mount::open_tree_clone(empty.as_fd(), name, false).at(Step::Mask, index)?;
            mount::move_mount(mask.as_fd(), target.as_fd()).at(Step::Mask, index)?;
        }
        Ok(())
    }

    /// Lays read-only mounts of themselves over paths.
    pub(super) fn make_readonly(&mut self, root: &OwnedFd) -> Done {
        for (index, path) in self.plan.readonly.iter().enumerate() {
            let Some(target) = find(root.as_fd(), path).at(Step::ReadonlyPath, index)? else {
                continue;
            };
            let clone = mount::open_tree_clone(target.as_fd(), c"", true);
            let clone = clone.at(Step::ReadonlyPath, index)?;
            let change = Change { set: mount::RDONLY, recursive: true, ..Change::default() };
            change.apply(clone.as_fd()).at(Step::ReadonlyPath, index)?;
            mount::move_mount(clone.as_fd(), target.as_fd()).at(Step::ReadonlyPath, index)?;
        }
        Ok(())
    }
}

/// Puts `mounted` into its place, which is made if it is missing.
fn attach(
    root: BorrowedFd<'_>,
    index: usize,
    planned: &PlannedMount,
    mounted: BorrowedFd<'_>,
    kind: Kind,
) -> Result<(), Failure> {
    let target = place::find_or_make(root, &planned.destination, kind, planned.strict);
    let target = target.at(Step::MountPoint, index)?;
    if !planned.strict && !planned.on_pseudo {
        // An image's link may have led here; the text of the destination has been looked at already.
        let found = fstatfs(&target).at(Step::MountPoint, index)?.filesystem_type();
        if found == PROC_SUPER_MAGIC || found == SYSFS_MAGIC {
            return Err(Errno::EXDEV).at(Step::MountRefused, index);
        }
    }
    let moved = mount::move_mount(mounted, target.as_fd());
    moved.map_err(|errno| explain(errno, kind, &target)).at(Step::Mount, index)?;
    for (propagation, recursive) in &planned.propagation {
        let change =
            Change { propagation: *propagation, recursive: *recursive, ..Change::default() };
        change.apply(mounted).at(Step::Mount, index)?;
    }
    Ok(())
}

/// The kernel has one error number for much that can be wrong; what users do is to mount a directory on a file.
fn explain(errno: Errno, kind: Kind, target: &OwnedFd) -> Errno {
    let directory = stat::fstat(target).map(|found| found.st_mode & libc::S_IFMT == libc::S_IFDIR);
    match (errno, kind, directory) {
        (Errno::EINVAL, Kind::Directory, Ok(false)) => Errno::ENOTDIR,
        (Errno::EINVAL, Kind::File, Ok(true)) => Errno::EISDIR,
        _ => errno,
    }
}

/// The same mount once more, younger than all before it: since Linux 6.8, `/proc/self/mountinfo` lists mounts by age, and
/// what the parent has made would come first.
fn renew(mount: BorrowedFd<'_>, kind: Kind) -> Result<OwnedFd, Errno> {
    // Only what is attached in this namespace can be copied.
    match kind {
        Kind::Directory => root::park(mount)?,
        Kind::File => root::park_file(mount)?,
    }
    mount::open_tree_clone(mount, c"", true)
}

/// A path to hide or protect; what the kernel does not have needs neither.
fn find(root: BorrowedFd<'_>, path: &CStr) -> Result<Option<OwnedFd>, Errno> {
    match place::open(root, path) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        found => found.map(Some),
    }
}

/// A read-only filesystem with an empty file and an empty directory.
fn empty_things() -> Result<OwnedFd, Errno> {
    let context = FsContext::open(c"tmpfs")?;
    context.set_string(c"mode", c"555")?;
    context.set_string(c"size", c"4k")?;
    let mounted = context.mount(mount::NOSUID | mount::NODEV | mount::NOEXEC)?;
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    openat(&mounted, c"file", flags, Mode::from_bits_truncate(0o444))?;
    stat::mkdirat(&mounted, c"directory", Mode::from_bits_truncate(0o555))?;
    Change { set: mount::RDONLY, ..Change::default() }.apply(mounted.as_fd())?;
    // Before Linux 6.15, only what is attached can be copied.
    root::park(mounted.as_fd())?;
    Ok(mounted)
}
