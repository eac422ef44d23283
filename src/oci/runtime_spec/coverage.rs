//! Every field of the runtime-spec 1.3 that can stand in a configuration, and what becomes of it.
//!
//! `mydocker oci features` and `docs/spec-coverage.md` are made from this one table. A value that cannot be honoured is
//! refused by what would have to honour it, with the field's name.

use Support::{Honoured, Ignored};

/// What becomes of a field.
#[derive(Clone, Copy, Debug)]
pub enum Support {
    /// It does what the specification says.
    Honoured,
    /// It is passed over, as the specification says or allows.
    Ignored,
}

/// A field.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its JSON path; `[]` stands for every item of a list, `*` for every name of an object.
    pub path: &'static str,
    /// What becomes of it.
    pub support: Support,
    /// What a reader should know.
    pub remark: &'static str,
}

const fn honoured(path: &'static str) -> Field {
    Field { path, support: Honoured, remark: "" }
}

const fn with(path: &'static str, remark: &'static str) -> Field {
    Field { path, support: Honoured, remark }
}

const fn ignored(path: &'static str, remark: &'static str) -> Field {
    Field { path, support: Ignored, remark }
}

const V1: &str = "cgroup version 1 only; refused on version 2, which has nothing like it";
const V2: &str = "cgroup version 2 only; refused on version 1";
const OTHER: &str = "for another platform";
const RDT: &str = "where `resctrl` is mounted on `/sys/fs/resctrl`, else refused; never tried on a machine that has it";

/// The fields, in the order of the specification.
pub const FIELDS: &[Field] = &[
    honoured("ociVersion"),
    honoured("root.path"),
    honoured("root.readonly"),
    with(
        "mounts[].destination",
        "resolved inside the root; not on `/proc` or `/sys` but for a few names",
    ),
    honoured("mounts[].type"),
    honoured("mounts[].source"),
    with("mounts[].options", "the options are listed below"),
    with("mounts[].uidMappings", "bind mounts only"),
    with("mounts[].gidMappings", "bind mounts only"),
    honoured("hostname"),
    honoured("domainname"),
    with(
        "annotations",
        "kept in the state; with `--systemd-cgroup`, some `org.systemd.property.*` are properties of the unit; else they steer nothing",
    ),
    honoured("process.terminal"),
    honoured("process.consoleSize.height"),
    honoured("process.consoleSize.width"),
    honoured("process.cwd"),
    honoured("process.env"),
    with(
        "process.args",
        "`create` takes a configuration without `process`; `start` reports that, and the container ends",
    ),
    ignored("process.commandLine", OTHER),
    honoured("process.user.uid"),
    honoured("process.user.gid"),
    honoured("process.user.umask"),
    honoured("process.user.additionalGids"),
    ignored("process.user.username", OTHER),
    with("process.rlimits[].type", "a name that Linux does not have is refused"),
    honoured("process.rlimits[].soft"),
    honoured("process.rlimits[].hard"),
    with(
        "process.apparmorProfile",
        "passed over with a warning where AppArmor is off; `exec --apparmor` is refused there",
    ),
    with("process.capabilities.bounding", "unknown names are warned of and not granted"),
    honoured("process.capabilities.effective"),
    honoured("process.capabilities.inheritable"),
    honoured("process.capabilities.permitted"),
    honoured("process.capabilities.ambient"),
    honoured("process.noNewPrivileges"),
    honoured("process.oomScoreAdj"),
    with("process.scheduler.policy", "`SCHED_ISO` is in no kernel, which says so"),
    honoured("process.scheduler.nice"),
    honoured("process.scheduler.priority"),
    honoured("process.scheduler.flags"),
    honoured("process.scheduler.runtime"),
    honoured("process.scheduler.deadline"),
    honoured("process.scheduler.period"),
    with(
        "process.selinuxLabel",
        "passed over with a warning where SELinux is off; `exec --process-label` is refused there",
    ),
    honoured("process.ioPriority.class"),
    honoured("process.ioPriority.priority"),
    with("process.execCPUAffinity.initial", "of programs that `exec` starts"),
    with("process.execCPUAffinity.final", "of programs that `exec` starts"),
    honoured("hooks.prestart[].path"),
    honoured("hooks.prestart[].args"),
    honoured("hooks.prestart[].env"),
    honoured("hooks.prestart[].timeout"),
    honoured("hooks.createRuntime[]"),
    honoured("hooks.createContainer[]"),
    honoured("hooks.startContainer[]"),
    honoured("hooks.poststart[]"),
    honoured("hooks.poststop[]"),
    with(
        "linux.namespaces[].type",
        "all kinds; without a mount namespace, nothing is mounted on the host all the same",
    ),
    with("linux.namespaces[].path", "of every kind"),
    with("linux.uidMappings[]", "passed over when a user namespace is joined"),
    with("linux.gidMappings[]", "passed over when a user namespace is joined"),
    honoured("linux.timeOffsets.*.secs"),
    honoured("linux.timeOffsets.*.nanosecs"),
    honoured("linux.devices[].type"),
    with("linux.devices[].path", "below `/dev`"),
    honoured("linux.devices[].major"),
    honoured("linux.devices[].minor"),
    honoured("linux.devices[].fileMode"),
    honoured("linux.devices[].uid"),
    honoured("linux.devices[].gid"),
    honoured("linux.netDevices.*.name"),
    with("linux.cgroupsPath", "a path, or with `--systemd-cgroup`, `slice:prefix:name`"),
    with("linux.resources.devices[].allow", "a version 2 group gets a BPF program"),
    honoured("linux.resources.devices[].type"),
    honoured("linux.resources.devices[].major"),
    honoured("linux.resources.devices[].minor"),
    honoured("linux.resources.devices[].access"),
    honoured("linux.resources.memory.limit"),
    with("linux.resources.memory.reservation", "`memory.low` in version 2"),
    with("linux.resources.memory.swap", "memory and swap together; version 2 gets the difference"),
    ignored("linux.resources.memory.kernel", "kernels since Linux 5.16 have no such limit"),
    with("linux.resources.memory.kernelTCP", V1),
    with("linux.resources.memory.swappiness", V1),
    with("linux.resources.memory.disableOOMKiller", V1),
    ignored("linux.resources.memory.useHierarchy", "every kernel since Linux 5.11 counts children"),
    honoured("linux.resources.memory.checkBeforeUpdate"),
    with("linux.resources.cpu.shares", "version 2 gets a weight"),
    honoured("linux.resources.cpu.quota"),
    honoured("linux.resources.cpu.burst"),
    honoured("linux.resources.cpu.period"),
    with("linux.resources.cpu.realtimeRuntime", V1),
    with("linux.resources.cpu.realtimePeriod", V1),
    honoured("linux.resources.cpu.cpus"),
    honoured("linux.resources.cpu.mems"),
    honoured("linux.resources.cpu.idle"),
    honoured("linux.resources.pids.limit"),
    with(
        "linux.resources.blockIO.weight",
        "BFQ's file if there is one, else the cost model's or CFQ's",
    ),
    with("linux.resources.blockIO.leafWeight", "version 1 with CFQ only, which Linux 5.0 took out"),
    honoured("linux.resources.blockIO.weightDevice[].major"),
    honoured("linux.resources.blockIO.weightDevice[].minor"),
    honoured("linux.resources.blockIO.weightDevice[].weight"),
    with("linux.resources.blockIO.weightDevice[].leafWeight", "as `leafWeight`"),
    honoured("linux.resources.blockIO.throttleReadBpsDevice[].major"),
    honoured("linux.resources.blockIO.throttleReadBpsDevice[].minor"),
    honoured("linux.resources.blockIO.throttleReadBpsDevice[].rate"),
    honoured("linux.resources.blockIO.throttleWriteBpsDevice[]"),
    honoured("linux.resources.blockIO.throttleReadIOPSDevice[]"),
    honoured("linux.resources.blockIO.throttleWriteIOPSDevice[]"),
    with(
        "linux.resources.hugepageLimits[].pageSize",
        "limits reservations too, where the kernel can",
    ),
    honoured("linux.resources.hugepageLimits[].limit"),
    with("linux.resources.network.classID", V1),
    with("linux.resources.network.priorities[].name", V1),
    with("linux.resources.network.priorities[].priority", V1),
    honoured("linux.resources.rdma.*.hcaHandles"),
    honoured("linux.resources.rdma.*.hcaObjects"),
    with("linux.resources.unified.*", V2),
    honoured("linux.rootfsPropagation"),
    honoured("linux.seccomp.defaultAction"),
    honoured("linux.seccomp.defaultErrnoRet"),
    with(
        "linux.seccomp.architectures",
        "calls of an architecture that is not listed end the process",
    ),
    honoured("linux.seccomp.flags"),
    honoured("linux.seccomp.listenerPath"),
    honoured("linux.seccomp.listenerMetadata"),
    with("linux.seccomp.syscalls[].names", "names that no kernel has are passed over"),
    honoured("linux.seccomp.syscalls[].action"),
    honoured("linux.seccomp.syscalls[].errnoRet"),
    honoured("linux.seccomp.syscalls[].args[].index"),
    with(
        "linux.seccomp.syscalls[].args[].value",
        "arguments that the kernel takes as 32 bits are compared as 32 bits",
    ),
    honoured("linux.seccomp.syscalls[].args[].valueTwo"),
    honoured("linux.seccomp.syscalls[].args[].op"),
    with("linux.sysctl.*", "those of a namespace that the container does not share with the host"),
    honoured("linux.maskedPaths"),
    honoured("linux.readonlyPaths"),
    with(
        "linux.mountLabel",
        "of new filesystems but `mqueue`, `proc` and `sysfs`; passed over with a warning where SELinux is off",
    ),
    with("linux.intelRdt.closID", RDT),
    honoured("linux.intelRdt.l3CacheSchema"),
    honoured("linux.intelRdt.memBwSchema"),
    honoured("linux.intelRdt.schemata"),
    honoured("linux.intelRdt.enableMonitoring"),
    honoured("linux.memoryPolicy.mode"),
    honoured("linux.memoryPolicy.nodes"),
    honoured("linux.memoryPolicy.flags"),
    honoured("linux.personality.domain"),
    with("linux.personality.flags", "the specification has none, and so each is refused"),
    ignored("solaris", OTHER),
    ignored("windows", OTHER),
    ignored("vm", OTHER),
    ignored("zos", OTHER),
    ignored("freebsd", OTHER),
];

/// Whether the field at `path`, or every field below it, is honoured.
pub fn is_honoured(path: &str) -> bool {
    let below = |field: &&Field| {
        let rest = field.path.strip_prefix(path);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    let mut fields = FIELDS.iter().filter(below).peekable();
    fields.peek().is_some() && fields.all(|field| matches!(field.support, Honoured))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use super::*;
    use crate::oci::runtime_spec::Spec;

    /// A configuration that has every field.
    fn everything() -> Value {
        let hook = json!([{"path": "/h", "args": ["h"], "env": ["A=b"], "timeout": 1}]);
        let device = json!([{"major": 8, "minor": 0, "rate": 1}]);
        let map = json!([{"containerID": 0, "hostID": 1, "size": 1}]);
        json!({
            "ociVersion": "1.3.0", "hostname": "h", "domainname": "d", "annotations": {"a": "b"},
            "root": {"path": "r", "readonly": true},
            "mounts": [{"destination": "/m", "type": "tmpfs", "source": "s", "options": ["ro"],
                "uidMappings": map, "gidMappings": map}],
            "process": {
                "terminal": true, "consoleSize": {"height": 1, "width": 2}, "cwd": "/", "env": ["A=b"], "args": ["a"],
                "user": {"uid": 1, "gid": 2, "umask": 3, "additionalGids": [4]},
                "rlimits": [{"type": "RLIMIT_CORE", "soft": 1, "hard": 2}], "apparmorProfile": "a",
                "capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "inheritable": ["CAP_KILL"],
                    "permitted": ["CAP_KILL"], "ambient": ["CAP_KILL"]},
                "noNewPrivileges": true, "oomScoreAdj": 1, "selinuxLabel": "s",
                "scheduler": {"policy": "SCHED_OTHER", "nice": 1, "priority": 2, "flags": ["SCHED_FLAG_RECLAIM"],
                    "runtime": 3, "deadline": 4, "period": 5},
                "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 1},
                "execCPUAffinity": {"initial": "0", "final": "1"}},
            "hooks": {"prestart": hook, "createRuntime": hook, "createContainer": hook, "startContainer": hook,
                "poststart": hook, "poststop": hook},
            "linux": {
                "namespaces": [{"type": "time", "path": "/p"}], "uidMappings": map, "gidMappings": map,
                "timeOffsets": {"monotonic": {"secs": 1, "nanosecs": 2}},
                "devices": [{"type": "c", "path": "/dev/d", "major": 1, "minor": 2, "fileMode": 3, "uid": 4, "gid": 5}],
                "netDevices": {"eth0": {"name": "eth1"}}, "cgroupsPath": "/c", "rootfsPropagation": "slave",
                "resources": {
                    "devices": [{"allow": true, "type": "c", "major": 1, "minor": 2, "access": "rw"}],
                    "memory": {"limit": 1, "reservation": 2, "swap": 3, "kernel": 4, "kernelTCP": 5, "swappiness": 6,
                        "disableOOMKiller": true, "useHierarchy": true, "checkBeforeUpdate": true},
                    "cpu": {"shares": 1, "quota": 2, "burst": 3, "period": 4, "realtimeRuntime": 5, "realtimePeriod": 6,
                        "cpus": "0", "mems": "0", "idle": 1},
                    "pids": {"limit": 1},
                    "blockIO": {"weight": 1, "leafWeight": 2,
                        "weightDevice": [{"major": 1, "minor": 2, "weight": 3, "leafWeight": 4}],
                        "throttleReadBpsDevice": device, "throttleWriteBpsDevice": device,
                        "throttleReadIOPSDevice": device, "throttleWriteIOPSDevice": device},
                    "hugepageLimits": [{"pageSize": "2MB", "limit": 1}],
                    "network": {"classID": 1, "priorities": [{"name": "lo", "priority": 1}]},
                    "rdma": {"m": {"hcaHandles": 1, "hcaObjects": 2}}, "unified": {"memory.high": "1"}},
                "seccomp": {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "architectures": ["SCMP_ARCH_X86"],
                    "flags": ["SECCOMP_FILTER_FLAG_LOG"], "listenerPath": "/l", "listenerMetadata": "m",
                    "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1,
                        "args": [{"index": 1, "value": 2, "valueTwo": 3, "op": "SCMP_CMP_EQ"}]}]},
                "sysctl": {"a": "b"}, "maskedPaths": ["/m"], "readonlyPaths": ["/r"], "mountLabel": "l",
                "intelRdt": {"closID": "c", "l3CacheSchema": "L3:0=1", "memBwSchema": "MB:0=1", "schemata": ["L2:0=1"],
                    "enableMonitoring": true},
                "memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]},
                "personality": {"domain": "LINUX32", "flags": ["f"]}}
        })
    }

    /// The paths of all values, as the table writes them: names that the user chooses are `*`.
    fn paths(value: &Value, path: &str, found: &mut BTreeSet<String>) {
        const MAPS: [&str; 6] =
            ["netDevices", "rdma", "unified", "sysctl", "timeOffsets", "annotations"];
        match value {
            Value::Object(object) => {
                let any = MAPS.iter().any(|map| path.rsplit('.').next() == Some(map));
                for (name, value) in object {
                    let name = if any { "*" } else { name };
                    let dot = if path.is_empty() { "" } else { "." };
                    paths(value, &format!("{path}{dot}{name}"), found);
                }
            }
            Value::Array(list) if list.iter().any(Value::is_object) => {
                list.iter().for_each(|value| paths(value, &format!("{path}[]"), found));
            }
            _ => drop(found.insert(path.to_owned())),
        }
    }

    #[test]
    fn every_field_that_is_read_is_in_the_table_and_the_other_way_round() {
        let spec: Spec = serde_json::from_value(everything()).unwrap();
        // What is read and not dropped comes back.
        assert_eq!(serde_json::to_value(&spec).unwrap(), everything());
        let mut found = BTreeSet::new();
        paths(&everything(), "", &mut found);
        let covers = |field: &Field, path: &str| {
            let rest = path.strip_prefix(field.path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        for path in &found {
            assert!(FIELDS.iter().any(|field| covers(field, path)), "{path} is not in the table");
        }
        for field in FIELDS.iter().filter(|field| matches!(field.support, Honoured)) {
            assert!(found.iter().any(|path| covers(field, path)), "{} is not read", field.path);
        }
    }

    #[test]
    fn unknown_fields_are_passed_over() {
        let text = r#"{"ociVersion":"1.3.0","x-vendor":1,"windows":{},"hooks":null,"linux":{"mountLabel":""}}"#;
        assert!(serde_json::from_str::<Spec>(text).is_ok());
        assert!(is_honoured("linux.netDevices") && is_honoured("linux.intelRdt"));
        assert!(!is_honoured("linux.nothing") && !is_honoured("windows"));
    }
}
