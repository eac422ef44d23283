//! The root filesystem.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat;

use super::mounts::PlannedMount;
use super::{Idmap, c_string};
use crate::oci::capability::Capability;
use crate::oci::runtime_spec::Spec;
use crate::runtime::error::Error;
use crate::runtime::idmap::IdMap;
use crate::runtime::process::{Bundle, Options, Root};
use crate::sys::mount::{self, Attributes, Change};

/// The root filesystem.
#[derive(Debug)]
pub(in crate::runtime) struct PlannedRoot {
    pub source: RootSource,
    /// Where it comes from, for messages.
    pub path: PathBuf,
    pub idmap: Option<Idmap>,
    /// Whether it becomes read-only once everything is mounted on it.
    pub readonly: bool,
}

/// How the root is made.
#[derive(Debug)]
pub(in crate::runtime) enum RootSource {
    Bind(OwnedFd),
    Overlay {
        lower: OwnedFd,
        layer: OwnedFd,
        attributes: Attributes,
        options: Vec<(CString, Option<CString>)>,
    },
}

/// Plans the root, and opens what it is made of.
pub(super) fn plan(
    bundle: &Bundle,
    spec: &Spec,
    ids: Option<&IdMap>,
    options: &Options,
    mounts: &[PlannedMount],
) -> Result<PlannedRoot, Error> {
    let Some(root) = &spec.root else {
        let reason = "it is missing".to_owned();
        return Err(Error::Invalid { field: "root".to_owned(), reason });
    };
    let mapped = ids.is_some_and(|ids| !ids.is_identity());
    let required = mapped.then_some(Idmap { recursive: false, optional: false });
    // Nothing on a root needs to be a device: those are on /dev.
    let attributes = mount::NODEV;
    match &bundle.root {
        Root::Directory => {
            let path = bundle.directory.join(&root.path);
            let clone = clone(&path)?;
            change(&path, &clone, attributes)?;
            let idmap = required.filter(|_| options.idmap_binds);
            Ok(PlannedRoot {
                source: RootSource::Bind(clone),
                path,
                idmap,
                readonly: root.readonly,
            })
        }
        Root::Overlay { lower: path, layer, volatile } => {
            let lower = clone(path)?;
            change(path, &lower, attributes | mount::RDONLY)?;
            let bare = root.readonly && !may_remount(spec) && has_mount_points(&lower, mounts);
            let source = if bare {
                RootSource::Bind(lower)
            } else {
                overlay(lower, layer, *volatile, attributes)?
            };
            Ok(PlannedRoot { source, path: path.clone(), idmap: required, readonly: root.readonly })
        }
    }
}

fn overlay(
    lower: OwnedFd,
    layer: &Path,
    volatile: bool,
    attributes: Attributes,
) -> Result<RootSource, Error> {
    let layer = clone(layer)?;
    // By descriptor: a path may have what separates options, and the child may not be allowed to walk it.
    let (lower_fd, layer_fd) = (lower.as_raw_fd(), layer.as_raw_fd());
    let value = |text: String| c_string("root", &text).map(Some);
    let mut options = vec![
        (c"source".to_owned(), value("overlay".to_owned())?),
        (c"lowerdir".to_owned(), value(format!("/proc/self/fd/{lower_fd}"))?),
        (c"upperdir".to_owned(), value(format!("/proc/self/fd/{layer_fd}/upper"))?),
        (c"workdir".to_owned(), value(format!("/proc/self/fd/{layer_fd}/work"))?),
        // The attributes that overlayfs needs are `user.*`, which root of a user namespace may write (since Linux 5.11).
        (c"userxattr".to_owned(), None),
    ];
    if volatile {
        options.push((c"volatile".to_owned(), None));
    }
    Ok(RootSource::Overlay { lower, layer, attributes, options })
}

/// Whether root in the container could make a read-only mount writable again. An image's tree is then not handed out,
/// not even read-only: it is the lower directory of an overlay, which cannot be written.
fn may_remount(spec: &Spec) -> bool {
    let capabilities = spec.process.as_ref().and_then(|process| process.capabilities.as_ref());
    capabilities.is_some_and(|sets| sets.bounding.contains(Capability::SYS_ADMIN))
}

/// Whether the tree has a place for each mount, so that nothing needs to be made in it. What comes below another mount
/// is of no matter.
fn has_mount_points(tree: &OwnedFd, mounts: &[PlannedMount]) -> bool {
    let below = |inner: &CStr, outer: &CStr| {
        let rest = inner.to_bytes().strip_prefix(outer.to_bytes());
        rest.is_some_and(|rest| rest.starts_with(b"/"))
    };
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    mounts.iter().all(|mount| {
        mounts.iter().any(|other| below(&mount.destination, &other.destination))
            || openat2(tree, mount.destination.as_c_str(), how).is_ok()
    })
}

fn clone(path: &Path) -> Result<OwnedFd, Error> {
    let error = |source| Error::Path { action: "open", path: path.to_owned(), source };
    let name = CString::new(path.as_os_str().as_bytes()).map_err(|_| error(Errno::EINVAL))?;
    let clone = mount::open_tree_clone(AT_FDCWD, &name, false).map_err(error)?;
    let status = stat::fstat(&clone).map_err(error)?;
    if status.st_mode & libc::S_IFMT != libc::S_IFDIR {
        return Err(error(Errno::ENOTDIR));
    }
    Ok(clone)
}

fn change(path: &Path, mount: &OwnedFd, set: Attributes) -> Result<(), Error> {
    let change = Change { set, propagation: mount::PRIVATE, ..Change::default() };
    let error = |source| Error::Path { action: "set options of", path: path.to_owned(), source };
    change.apply(mount.as_fd()).map_err(error)
}
