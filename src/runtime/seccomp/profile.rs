//! The default policy, kept as JSON that people can read and compare with docker's.

use serde::Deserialize;

use crate::oci::capability::CapabilitySet;
use crate::oci::runtime_spec::seccomp::{Action, Condition, Seccomp, SyscallRule};

const DEFAULT: &str = include_str!("default.json");

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: Action,
    default_errno_ret: Option<u32>,
    architectures: std::collections::BTreeMap<String, Vec<String>>,
    syscalls: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    names: Vec<String>,
    action: Action,
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Vec<Condition>,
    #[serde(default)]
    includes: Filter,
    #[serde(default)]
    excludes: Filter,
}

#[derive(Default, Deserialize)]
struct Filter {
    #[serde(default)]
    caps: CapabilitySet,
}

/// The default policy for a container whose bounding set is `capabilities`: what a capability is for is allowed with it.
pub fn default_seccomp(capabilities: &CapabilitySet) -> Seccomp {
    // The text is part of the program, and a test reads it. Without it, nothing would be allowed.
    let profile = serde_json::from_str(DEFAULT).unwrap_or_else(|_| Profile {
        default_action: Action::KillProcess,
        default_errno_ret: None,
        architectures: std::collections::BTreeMap::new(),
        syscalls: Vec::new(),
    });
    let applies = |rule: &Rule| {
        let (has, included, excluded) =
            (capabilities.bits(), rule.includes.caps.bits(), rule.excludes.caps.bits());
        included & has == included && excluded & has == 0
    };
    let rules = profile.syscalls.into_iter().filter(applies).map(|rule| SyscallRule {
        names: rule.names,
        action: rule.action,
        errno_ret: rule.errno_ret,
        args: rule.args,
    });
    let mut architectures = profile.architectures;
    Seccomp {
        default_action: profile.default_action,
        default_errno_ret: profile.default_errno_ret,
        architectures: architectures.remove(std::env::consts::ARCH).unwrap_or_default(),
        flags: Vec::new(),
        syscalls: rules.collect(),
        listener_path: None,
        listener_metadata: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::seccomp::architecture::row;

    #[test]
    fn the_default_is_read_and_has_no_unknown_names() {
        let policy = default_seccomp(&CapabilitySet::all());
        assert_eq!(policy.default_action, Action::Errno);
        assert!(!policy.syscalls.is_empty());
        for name in policy.syscalls.iter().flat_map(|rule| &rule.names) {
            assert!(row(name).is_some(), "{name}");
        }
    }
}
