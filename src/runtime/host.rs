//! What this machine can do.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nix::sys::utsname;

use super::cgroup;

/// How control groups are mounted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CgroupVersion {
    /// Only version 2.
    V2,
    /// Version 1, with or without an empty version 2 beside it.
    V1,
    /// Not at all.
    None,
}

/// What this machine can do, as far as it is cheap to find out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Host {
    /// The kernel's release: `6.18.44`.
    pub kernel: String,
    /// How control groups are mounted.
    pub cgroup: CgroupVersion,
    /// The controllers that can be used.
    pub controllers: Vec<String>,
    /// This process's hard limit of open files, above which only `CAP_SYS_RESOURCE` can go.
    pub nofile: u64,
    /// Whether user namespaces can be made.
    pub user_namespaces: bool,
    /// Whether overlayfs takes idmapped layers: since Linux 5.19.
    pub idmapped_overlay: bool,
    /// Whether system call filters can be set.
    pub seccomp: bool,
    /// Whether AppArmor is on.
    pub apparmor: bool,
    /// Whether SELinux is on.
    pub selinux: bool,
}

/// Looks at this machine. What cannot be found out counts as not there.
pub fn probe() -> Host {
    let kernel = kernel();
    let cgroup = cgroup_version();
    let number =
        |path: &str| fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
    // Debian's own switch is only there on older kernels of its own.
    let forbidden = number("/proc/sys/kernel/unprivileged_userns_clone") == Some(0);
    let possible = number("/proc/sys/user/max_user_namespaces").is_some_and(|most| most > 0);
    Host {
        idmapped_overlay: release(&kernel) >= (5, 19),
        controllers: controllers(cgroup),
        nofile: getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(_, hard)| hard),
        cgroup,
        user_namespaces: possible && (!forbidden || nix::unistd::geteuid().is_root()),
        seccomp: Path::new("/proc/sys/kernel/seccomp").exists(),
        apparmor: has_apparmor(),
        selinux: has_selinux(),
        kernel,
    }
}

/// Whether AppArmor is on.
pub(super) fn has_apparmor() -> bool {
    fs::read("/sys/module/apparmor/parameters/enabled")
        .is_ok_and(|enabled| enabled.starts_with(b"Y"))
}

/// Whether SELinux is on.
pub(super) fn has_selinux() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

/// How control groups are mounted.
pub(super) fn cgroup_version() -> CgroupVersion {
    match statfs(cgroup::MOUNT_POINT) {
        Ok(found) if found.filesystem_type() == CGROUP2_SUPER_MAGIC => CgroupVersion::V2,
        Ok(_) if v1_controllers().next().is_some() => CgroupVersion::V1,
        _ => CgroupVersion::None,
    }
}

fn controllers(version: CgroupVersion) -> Vec<String> {
    let root = PathBuf::from(cgroup::MOUNT_POINT);
    match version {
        CgroupVersion::V2 => fs::read_to_string(root.join("cgroup.controllers"))
            .map(|text| text.split_whitespace().map(str::to_owned).collect())
            .unwrap_or_default(),
        CgroupVersion::V1 => v1_controllers().map(str::to_owned).collect(),
        CgroupVersion::None => Vec::new(),
    }
}

fn v1_controllers() -> impl Iterator<Item = &'static str> {
    let root = Path::new(cgroup::MOUNT_POINT);
    cgroup::V1_CONTROLLERS.into_iter().filter(|name| root.join(name).join("cgroup.procs").exists())
}

/// The kernel's release.
pub(super) fn kernel() -> String {
    let name = utsname::uname();
    name.map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default()
}

/// The first two numbers of a kernel's release.
pub(super) fn release(kernel: &str) -> (u32, u32) {
    let mut numbers = kernel.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_numbers() {
        assert_eq!(release("6.1.0-38-cloud-amd64"), (6, 1));
        assert_eq!(release("5.19"), (5, 19));
        assert!(release("6.1") > (5, 19));
    }
}
