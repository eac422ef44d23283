//! What is in `/dev`.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::sys::stat::{self, Mode, SFlag};
use nix::unistd::{Gid, Uid};

use super::destination::relative;
use super::mounts::{PlannedMount, Source};
use crate::oci::runtime_spec::linux::{Device, Linux};
use crate::runtime::defaults;
use crate::runtime::error::Error;
use crate::runtime::idmap::IdMap;
use crate::sys::mount;

/// The symbolic links of `/dev`, and where they lead (runtime-spec, `runtime-linux.md`).
pub(in crate::runtime) const LINKS: [(&CStr, &CStr); 6] = [
    (c"core", c"/proc/kcore"),
    (c"fd", c"/proc/self/fd"),
    (c"ptmx", c"pts/ptmx"),
    (c"stderr", c"/proc/self/fd/2"),
    (c"stdin", c"/proc/self/fd/0"),
    (c"stdout", c"/proc/self/fd/1"),
];

/// A device of the host, to be mounted on an empty file.
#[derive(Debug)]
pub(in crate::runtime) struct DeviceBind {
    /// For messages.
    pub path: String,
    /// Relative to the root.
    pub destination: CString,
    pub mount: OwnedFd,
}

pub(super) struct Devices {
    pub own_dev: bool,
    pub binds: Vec<DeviceBind>,
}

/// Makes the device nodes on the filesystem that is to be `/dev`, or where that is not allowed, opens the host's.
pub(super) fn plan(
    linux: &Linux,
    ids: Option<&IdMap>,
    mounts: &mut [PlannedMount],
) -> Result<Devices, Error> {
    let dev = mounts.iter().find(|mount| mount.destination.as_c_str() == c"dev");
    let Some(Source::Detached { mount: dev, path, .. }) = dev.map(|dev| &dev.source) else {
        return Ok(Devices { own_dev: false, binds: Vec::new() });
    };
    if path.as_os_str() != "/dev" {
        // Somebody's own directory: it has the devices that it has.
        return Ok(Devices { own_dev: false, binds: Vec::new() });
    }
    // What the spec says of a default device replaces the default.
    let named = |path: &str| linux.devices.iter().any(|device| device.path == path);
    let defaults = defaults::devices().into_iter().filter(|device| !named(&device.path));
    let mut binds = Vec::new();
    let mut may_mknod = true;
    // The mode is given in full, and a mask of the caller's has no say in it.
    let umask = stat::umask(Mode::empty());
    let result = defaults.chain(linux.devices.iter().cloned()).try_for_each(|device| {
        let field = format!("linux.devices `{}`", device.path);
        let destination = relative(&field, &device.path)?;
        let Some(name) = destination.to_bytes().strip_prefix(b"dev/") else {
            return Err(Error::Unsupported { field: format!("{field} outside of `/dev`") });
        };
        let name = CString::new(name).map_err(|_| invalid(&device, "it has a zero byte"))?;
        if may_mknod {
            match make(dev.as_fd(), &name, &device, ids) {
                // In a user namespace that is not the first, not even root may make devices.
                Err(Error::Path { source: Errno::EPERM, .. }) => may_mknod = false,
                other => return other,
            }
        }
        binds.push(bind(device, destination)?);
        Ok(())
    });
    stat::umask(umask);
    result?;
    Ok(Devices { own_dev: true, binds })
}

fn invalid(device: &Device, reason: &str) -> Error {
    Error::Invalid { field: format!("linux.devices `{}`", device.path), reason: reason.to_owned() }
}

fn kind(device: &Device) -> Result<SFlag, Error> {
    match device.kind.as_str() {
        "c" | "u" => Ok(SFlag::S_IFCHR),
        "b" => Ok(SFlag::S_IFBLK),
        "p" => Ok(SFlag::S_IFIFO),
        _ => Err(invalid(device, "its type is not c, u, b or p")),
    }
}

/// Makes a node on the new filesystem, which nobody else has a hand on.
fn make(
    dev: BorrowedFd<'_>,
    name: &CStr,
    device: &Device,
    ids: Option<&IdMap>,
) -> Result<(), Error> {
    let path = || PathBuf::from(&device.path);
    let error = |source| Error::Path { action: "make device", path: path(), source };
    for (at, byte) in name.to_bytes().iter().enumerate() {
        if *byte == b'/' {
            let parent = CString::new(&name.to_bytes()[..at]).unwrap_or_default();
            match stat::mkdirat(dev, parent.as_c_str(), Mode::from_bits_truncate(0o755)) {
                Ok(()) => chown(dev, &parent, device, ids, (0, 0)).map_err(error)?,
                Err(Errno::EEXIST) => {}
                Err(source) => return Err(error(source)),
            }
        }
    }
    let mode = Mode::from_bits_truncate(device.file_mode.unwrap_or(0o666) & 0o7777);
    let number = stat::makedev(device.major.into(), device.minor.into());
    stat::mknodat(dev, name, kind(device)?, mode, number).map_err(error)?;
    let owner = (device.uid.unwrap_or(0), device.gid.unwrap_or(0));
    chown(dev, name, device, ids, owner).map_err(error)
}

fn chown(
    dev: BorrowedFd<'_>,
    name: &CStr,
    _device: &Device,
    ids: Option<&IdMap>,
    (uid, gid): (u32, u32),
) -> Result<(), Errno> {
    let (uid, gid) = match ids {
        // A group such as that of the host's video devices need not exist inside: then root's it is.
        Some(ids) => (
            ids.host_uid(uid).or_else(|| ids.host_uid(0)),
            ids.host_gid(gid).or_else(|| ids.host_gid(0)),
        ),
        None if (uid, gid) == (0, 0) => return Ok(()),
        None => (Some(uid), Some(gid)),
    };
    let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
    nix::unistd::fchownat(dev, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)
}

/// Opens the host's node, and makes sure that it is the device it is called.
fn bind(device: Device, destination: CString) -> Result<DeviceBind, Error> {
    let error =
        |source| Error::Path { action: "open device", path: PathBuf::from(&device.path), source };
    let name = CString::new(device.path.as_str()).map_err(|_| error(Errno::EINVAL))?;
    let mount = mount::open_tree_clone(AT_FDCWD, &name, false).map_err(error)?;
    let status = stat::fstat(&mount).map_err(error)?;
    let number = stat::makedev(device.major.into(), device.minor.into());
    if status.st_mode & libc::S_IFMT != kind(&device)?.bits() || status.st_rdev != number {
        return Err(invalid(&device, "the host has something else under this name"));
    }
    Ok(DeviceBind { path: device.path, destination, mount })
}
