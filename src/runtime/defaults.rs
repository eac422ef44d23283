//! What a container has unless its user says otherwise: pure data, for whoever builds a spec.

use crate::oci::capability::{Capability, CapabilitySet};
use crate::oci::runtime_spec::linux::{Device, DeviceRule, Namespace, NamespaceKind};
use crate::oci::runtime_spec::{Mount, Rlimit};

/// The most tasks in a container.
pub const PIDS_LIMIT: i64 = 2048;
/// The size of `/dev/shm`, in bytes.
pub const SHM_SIZE: u64 = 64 << 20;

/// Where a program without a slash is looked for.
pub const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Podman's capabilities: docker's without `MKNOD`, `NET_RAW` and `AUDIT_WRITE`, which ordinary images do not miss.
pub fn capabilities() -> CapabilitySet {
    [
        Capability::CHOWN,
        Capability::DAC_OVERRIDE,
        Capability::FOWNER,
        Capability::FSETID,
        Capability::KILL,
        Capability::NET_BIND_SERVICE,
        Capability::SETFCAP,
        Capability::SETGID,
        Capability::SETPCAP,
        Capability::SETUID,
        Capability::SYS_CHROOT,
    ]
    .into_iter()
    .collect()
}

/// A namespace of each kind but time, all new.
pub fn namespaces() -> Vec<Namespace> {
    use NamespaceKind::{Cgroup, Ipc, Mount, Network, Pid, User, Uts};
    let kinds = [Cgroup, Ipc, Mount, Network, Pid, User, Uts];
    kinds.map(|kind| Namespace { kind, path: None }).to_vec()
}

/// The filesystems that every container has, and that a clean mount table shows.
pub fn mounts() -> Vec<Mount> {
    let shm = format!("size={SHM_SIZE}");
    let quiet = ["nosuid", "noexec", "nodev"];
    let with = |more: &[&str]| -> Vec<String> {
        quiet.iter().chain(more).map(|option| (*option).to_owned()).collect()
    };
    let mount = |kind: &str, destination: &str, options: Vec<String>| Mount {
        options,
        ..Mount::of(kind, destination, &[])
    };
    let mut shared = mount("tmpfs", "/dev/shm", with(&["mode=1777", &shm]));
    shared.source = Some("shm".to_owned());
    let pts = ["newinstance", "ptmxmode=0666", "mode=0620", "gid=5"];
    let pts = ["nosuid", "noexec"].iter().chain(&pts).map(|option| (*option).to_owned()).collect();
    vec![
        mount("proc", "/proc", with(&[])),
        Mount::of("tmpfs", "/dev", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("devpts", "/dev/pts", pts),
        shared,
        mount("mqueue", "/dev/mqueue", with(&[])),
        mount("sysfs", "/sys", with(&["ro"])),
        mount("cgroup", "/sys/fs/cgroup", with(&["relatime", "ro"])),
    ]
}

/// Docker's and podman's masked paths together.
pub fn masked_paths() -> Vec<String> {
    [
        "/proc/acpi",
        "/proc/asound",
        "/proc/interrupts",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/sched_debug",
        "/proc/scsi",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/sys/devices/virtual/powercap",
        "/sys/firmware",
        "/sys/fs/selinux",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// Docker's read-only paths.
pub fn readonly_paths() -> Vec<String> {
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        .map(str::to_owned)
        .to_vec()
}

/// The devices that every container has (runtime-spec, `config-linux.md#default-devices`).
pub fn devices() -> Vec<Device> {
    let device = |name: &str, major, minor| Device {
        path: format!("/dev/{name}"),
        kind: "c".to_owned(),
        major,
        minor,
        file_mode: Some(0o666),
        uid: None,
        gid: None,
    };
    vec![
        device("null", 1, 3),
        device("zero", 1, 5),
        device("full", 1, 7),
        device("random", 1, 8),
        device("urandom", 1, 9),
        device("tty", 5, 0),
    ]
}

fn rule(
    allow: bool,
    kind: &str,
    major: Option<i64>,
    minor: Option<i64>,
    access: &str,
) -> DeviceRule {
    let (kind, access) = (Some(kind.to_owned()), Some(access.to_owned()));
    DeviceRule { allow, kind, major, minor, access }
}

/// Which devices may be used: the default ones, terminals, and the making of nodes that cannot be opened.
pub fn device_rules() -> Vec<DeviceRule> {
    let first = [
        rule(false, "a", None, None, "rwm"),
        rule(true, "c", None, None, "m"),
        rule(true, "b", None, None, "m"),
    ];
    first.into_iter().chain(allowed_devices()).collect()
}

/// The devices that every container may use, whatever its rules: the default ones, and terminals.
pub fn allowed_devices() -> Vec<DeviceRule> {
    let defaults = devices()
        .into_iter()
        .map(|device| rule(true, "c", Some(device.major.into()), Some(device.minor.into()), "rwm"));
    let terminals = [
        rule(true, "c", Some(5), Some(1), "rwm"),
        rule(true, "c", Some(5), Some(2), "rwm"),
        rule(true, "c", Some(136), None, "rwm"),
    ];
    defaults.chain(terminals).collect()
}

/// Limits of the process, for a caller whose own hard limit of open files is `nofile`. Some programs close every
/// descriptor that they may have: a small soft limit keeps them quick.
pub fn rlimits(nofile: u64) -> Vec<Rlimit> {
    let limit = |kind: &str, soft, hard| Rlimit { kind: kind.to_owned(), soft, hard };
    let hard = nofile.min(524_288);
    vec![limit("RLIMIT_NOFILE", hard.min(1024), hard)]
}

/// Kernel parameters that make `NET_BIND_SERVICE` and `NET_RAW` superfluous in a network namespace of one's own.
pub fn sysctls() -> Vec<(String, String)> {
    vec![("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned())]
}
