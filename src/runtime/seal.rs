//! Keeping the program's own file out of a container's reach.
//!
//! A container's entry point can be `#!/proc/self/exe`, and root inside can then reopen the program's file for writing
//! once it has ended (CVE-2019-5736). A container whose users are not the file's owner cannot; for the others the program
//! must run from a place that nobody can write to.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat;
use nix::sys::statvfs::{FsFlags, statvfs};

use super::error::Error;
use super::idmap::IdMap;
use crate::oci::runtime_spec::Spec;
use crate::oci::runtime_spec::linux::NamespaceKind;
use crate::sys::mount::{self, Change};
use crate::sys::process::{StringArray, fexecve};

const EXE: &std::ffi::CStr = c"/proc/self/exe";

/// Whether this program runs from a file that cannot be written: a read-only mount, or a sealed memory file.
pub fn is_sealed() -> bool {
    let readonly = statvfs(EXE).is_ok_and(|found| found.flags().contains(FsFlags::ST_RDONLY));
    // Only a memory file has seals.
    readonly
        || File::open("/proc/self/exe").is_ok_and(|exe| {
            fcntl(&exe, FcntlArg::F_GET_SEALS)
                .is_ok_and(|seals| seals & SEALS.bits() == SEALS.bits())
        })
}

const SEALS: SealFlag = SealFlag::F_SEAL_SEAL
    .union(SealFlag::F_SEAL_SHRINK)
    .union(SealFlag::F_SEAL_GROW)
    .union(SealFlag::F_SEAL_WRITE);

/// Whether a container with these ids has to be started from a sealed program.
pub(super) fn is_needed(ids: Option<&IdMap>) -> bool {
    let Some(ids) = ids else { return true };
    match stat::stat(EXE) {
        Ok(file) => ids.maps_host_uid(file.st_uid) || file.st_mode & 0o022 != 0,
        Err(_) => true,
    }
}

/// As [`seal`], if a container with this spec could overwrite the program.
///
/// # Errors
/// As for [`seal`]; [`Error::Invalid`] for id mappings that make no sense.
pub fn seal_for(spec: &Spec) -> Result<(), Error> {
    let linux = spec.linux.as_ref();
    let user = linux.and_then(|linux| linux.namespace(NamespaceKind::User));
    let ids = match (linux, user) {
        (Some(linux), Some(user)) if user.path.is_none() => Some(IdMap::of(linux)?),
        _ => None,
    };
    if is_needed(ids.as_ref()) { seal() } else { Ok(()) }
}

/// Starts this program again, with the same arguments and environment, from a copy that nobody can write to: a detached
/// read-only mount of its file, or where that is not allowed, a sealed copy in memory. Returns at once if it runs from one.
///
/// # Errors
/// When neither can be made.
pub fn seal() -> Result<(), Error> {
    if is_sealed() {
        return Ok(());
    }
    let path = || EXE.to_string_lossy().into_owned().into();
    let error = |source| Error::Path { action: "seal", path: path(), source };
    let file = read_only_mount().or_else(|_| memory_copy()).map_err(error)?;
    let c_string = |text: OsString| CString::new(text.into_vec()).map_err(|_| error(Errno::EINVAL));
    let arguments = std::env::args_os().map(c_string).collect::<Result<_, _>>()?;
    let variables = std::env::vars_os().map(|(name, value)| {
        let mut variable = name;
        variable.push("=");
        variable.push(value);
        c_string(variable)
    });
    let environment = variables.collect::<Result<_, _>>()?;
    Err(error(fexecve(file, &StringArray::new(arguments), &StringArray::new(environment))))
}

fn read_only_mount() -> Result<OwnedFd, Errno> {
    let clone = mount::open_tree_clone(AT_FDCWD, EXE, false)?;
    Change { set: mount::RDONLY, ..Change::default() }.apply(clone.as_fd())?;
    Ok(clone)
}

fn memory_copy() -> Result<OwnedFd, Errno> {
    let errno = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or_default());
    let mut exe = File::open("/proc/self/exe").map_err(errno)?;
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut copy = File::from(memfd_create(c"mydocker", flags)?);
    std::io::copy(&mut exe, &mut copy).map_err(errno)?;
    fcntl(&copy, FcntlArg::F_ADD_SEALS(SEALS))?;
    Ok(copy.into())
}
