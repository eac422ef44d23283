//! Where in the container things may be mounted, and how paths of the container are written.

use std::ffi::{CStr, CString};

use nix::errno::Errno;
use nix::sys::statfs::{FsType, PROC_SUPER_MAGIC, SYSFS_MAGIC, fstatfs};

use super::c_string;
use super::mounts::Source;
use crate::runtime::error::{Error, Step};

/// What `/proc` has that may be mounted over: the files that LXCFS makes for a container, and two that tools fake.
const ON_PROC: [&str; 10] = [
    "proc/cpuinfo",
    "proc/diskstats",
    "proc/loadavg",
    "proc/meminfo",
    "proc/slabinfo",
    "proc/stat",
    "proc/swaps",
    "proc/uptime",
    "proc/sys/crypto/fips_enabled",
    "proc/sys/kernel/ns_last_pid",
];

/// What `/sys` has that other filesystems are usually mounted on, or below.
const ON_SYS: [&str; 8] = [
    "sys/devices",
    "sys/firmware/efi/efivars",
    "sys/fs/bpf",
    "sys/fs/cgroup",
    "sys/fs/fuse/connections",
    "sys/kernel/debug",
    "sys/kernel/security",
    "sys/kernel/tracing",
];

/// Whether a mount must be reached without symbolic links, and whether it may be on proc or sysfs.
pub(super) fn guard(
    destination: &CStr,
    kind: &str,
    source: &Source,
) -> Result<(bool, bool), Error> {
    let path = destination.to_str().unwrap_or_default();
    let is = |magic: FsType| match source {
        Source::Detached { mount, .. } => {
            fstatfs(mount).is_ok_and(|found| found.filesystem_type() == magic)
        }
        _ => false,
    };
    let below = |known: &str| {
        path.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let refused = || Error::Setup {
        step: Step::MountRefused,
        object: format!("`/{path}`"),
        source: Errno::EINVAL,
    };
    if matches!(source, Source::Remount(_)) {
        // Nothing comes to lie on anything.
        return Ok((false, true));
    }
    match path.split('/').next() {
        Some("proc") if path == "proc" => match kind == "proc" || is(PROC_SUPER_MAGIC) {
            true => Ok((true, false)),
            false => Err(refused()),
        },
        Some("proc") if ON_PROC.contains(&path) => Ok((false, true)),
        Some("sys") if path == "sys" => match kind == "sysfs" || is(SYSFS_MAGIC) {
            true => Ok((true, false)),
            false => Err(refused()),
        },
        Some("sys") if ON_SYS.iter().any(|known| below(known)) => Ok((false, true)),
        Some("proc" | "sys") => Err(refused()),
        _ => Ok((path == "dev", false)),
    }
}

/// An absolute path inside, as one that is relative to the root and has neither `.` nor `..` nor empty parts.
pub(super) fn relative(field: &str, path: &str) -> Result<CString, Error> {
    let invalid =
        |reason: &str| Error::Invalid { field: field.to_owned(), reason: reason.to_owned() };
    let Some(path) = path.strip_prefix('/') else {
        return Err(invalid("it is not an absolute path"));
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    if parts.is_empty() {
        return Err(invalid("it is the root"));
    }
    c_string(field, &parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_relative_to_the_root() {
        let clean = |path| relative("x", path).map(|path| path.to_str().unwrap().to_owned());
        assert_eq!(clean("/a//b/./c/").unwrap(), "a/b/c");
        assert_eq!(clean("/a/../../etc").unwrap(), "etc");
        for bad in ["", "a", "/", "/..", "//.", "/a\0b"] {
            assert!(clean(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn proc_and_sys_are_not_for_mounting_over() {
        let source = Source::Cgroup { attributes: 0 };
        for bad in
            [c"proc", c"proc/self/attr", c"proc/sys", c"sys", c"sys/kernel", c"sys/fs/cgroupx"]
        {
            assert!(guard(bad, "tmpfs", &source).is_err(), "{bad:?}");
        }
        assert_eq!(guard(c"proc", "proc", &source).unwrap(), (true, false));
        assert_eq!(guard(c"proc/cpuinfo", "bind", &source).unwrap(), (false, true));
        assert_eq!(guard(c"sys/fs/cgroup", "cgroup", &source).unwrap(), (false, true));
        assert_eq!(guard(c"procfs", "bind", &source).unwrap(), (false, false));
    }
}
