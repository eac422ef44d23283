//! What this runtime can do, for engines that ask (runtime-spec, `features.md`) and for people (`docs/spec-coverage.md`).
//!
//! Both are made from the table of the specification's fields, [`coverage::FIELDS`], and from the lists that the runtime
//! itself works by. None of it depends on the machine.

use serde_json::{Value, json};

use super::mount_options::OPTIONS;
use super::seccomp::{ARCHITECTURE_NAMES, FLAG_NAMES};
use super::systemd::ANNOTATIONS;
use crate::oci::capability::{Capability, CapabilitySet};
use crate::oci::runtime_spec::coverage::{self, Support, is_honoured};
use crate::oci::runtime_spec::{VERSION, hooks};

/// The oldest version of the specification that is understood.
const OLDEST: &str = "1.0.0";
const NAMESPACES: [&str; 8] = ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"];
const ACTIONS: [&str; 9] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];
const OPERATORS: [&str; 7] = [
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_LE",
    "SCMP_CMP_LT",
    "SCMP_CMP_MASKED_EQ",
    "SCMP_CMP_NE",
];
const MEMORY_MODES: [&str; 7] = [
    "MPOL_BIND",
    "MPOL_DEFAULT",
    "MPOL_INTERLEAVE",
    "MPOL_LOCAL",
    "MPOL_PREFERRED",
    "MPOL_PREFERRED_MANY",
    "MPOL_WEIGHTED_INTERLEAVE",
];
const MEMORY_FLAGS: [&str; 3] =
    ["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"];

/// The features as the specification's JSON.
pub fn features() -> Value {
    let enabled = |path: &str| json!({ "enabled": is_honoured(path) });
    let capabilities: Vec<String> = CapabilitySet::all().iter().map(|c| c.to_string()).collect();
    debug_assert_eq!(capabilities.len(), usize::from(Capability::COUNT));
    json!({
        "ociVersionMin": OLDEST,
        "ociVersionMax": VERSION,
        "hooks": hooks::NAMES,
        "mountOptions": OPTIONS.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        "linux": {
            "namespaces": NAMESPACES,
            "capabilities": capabilities,
            "cgroup": {
                "v1": true,
                "v2": true,
                "systemd": true,
                "systemdUser": true,
                "rdma": is_honoured("linux.resources.rdma"),
            },
            "seccomp": {
                "enabled": is_honoured("linux.seccomp"),
                "actions": ACTIONS,
                "operators": OPERATORS,
                "archs": ARCHITECTURE_NAMES,
                "knownFlags": FLAG_NAMES,
                "supportedFlags": FLAG_NAMES,
            },
            // Whether this program knows the modules, whatever the machine has (`features.md`): where one is off, its
            // labels are passed over.
            "apparmor": enabled("process.apparmorProfile"),
            "selinux": { "enabled": is_honoured("process.selinuxLabel") && is_honoured("linux.mountLabel") },
            "intelRdt": {
                "enabled": is_honoured("linux.intelRdt"),
                "schemata": is_honoured("linux.intelRdt.schemata"),
                "monitoring": is_honoured("linux.intelRdt.enableMonitoring"),
            },
            "memoryPolicy": { "modes": MEMORY_MODES, "flags": MEMORY_FLAGS },
            "mountExtensions": { "idmap": enabled("mounts[].uidMappings") },
            "netDevices": enabled("linux.netDevices"),
        },
        "annotations": {
            "org.mydocker.version": env!("CARGO_PKG_VERSION"),
        },
        // Others steer nothing (CVE-2026-94603), and these only where systemd makes the groups.
        "potentiallyUnsafeConfigAnnotations": [ANNOTATIONS],
    })
}

/// The table of the specification's fields, and that of mount options, as Markdown.
pub fn coverage_page() -> String {
    let mut page = format!(
        "# The runtime-spec, field by field\n\n\
         What becomes of each field of the runtime-spec {VERSION} that can stand in a `config.json`. This page is made from \
         the\ntable that `mydocker oci features` is made from, too (`src/oci/runtime_spec/coverage.rs`); a test compares \
         them.\n\nA value that cannot be honoured stops the container before its program begins, by the field's name: \
         ``unsupported\n`mounts[].options` ``. A property that the specification does not know is passed over, as it \
         demands. `[]` stands for\nevery item of a list, `*` for every name in an object.\n\n\
         What the validation programs of runtime-tools say of all this, and why each of those fails that does, is in\n\
         [runtime-tools.md](runtime-tools.md).\n\n\
         | field | what becomes of it | |\n|---|---|---|\n"
    );
    for field in coverage::FIELDS {
        let support = match field.support {
            Support::Honoured => "honoured",
            Support::Ignored => "passed over",
        };
        page.push_str(&format!("| `{}` | {support} | {} |\n", field.path, field.remark));
    }
    page.push_str(
        "\n## Mount options\n\nOthers are handed to the filesystem.\n\n| option | |\n|---|---|\n",
    );
    for (name, remark) in OPTIONS {
        page.push_str(&format!("| `{name}` | {remark} |\n"));
    }
    page
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_page_is_that_of_the_table() {
        if std::env::var_os("MYDOCKER_WRITE_DOCS").is_some() {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/spec-coverage.md");
            fs::write(path, coverage_page()).unwrap();
            return;
        }
        let page = include_str!("../../docs/spec-coverage.md");
        assert!(page == coverage_page(), "with MYDOCKER_WRITE_DOCS=1, this test writes it again");
    }

    #[test]
    fn features_are_what_holds() {
        let features = features();
        let at = |pointer: &str| features.pointer(pointer).unwrap();
        assert_eq!(at("/linux/intelRdt/enabled"), &json!(true));
        assert_eq!(at("/linux/netDevices/enabled"), &json!(true));
        // Neither is on everywhere.
        assert_eq!(at("/linux/apparmor/enabled"), &json!(true));
        assert_eq!(at("/linux/selinux/enabled"), &json!(true));
        assert_eq!(at("/linux/seccomp/enabled"), &json!(true));
        assert_eq!(at("/linux/mountExtensions/idmap/enabled"), &json!(true));
        assert_eq!(at("/ociVersionMax"), &json!(VERSION));
        let options = at("/mountOptions").as_array().unwrap();
        assert!(options.contains(&json!("rro")) && options.contains(&json!("tmpcopyup")));
        assert_eq!(at("/linux/capabilities").as_array().unwrap().len(), 41);
    }
}
