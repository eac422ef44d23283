//! Policies in the format of docker's profiles: what they mean on this machine, for a container with certain capabilities.
//!
//! The default policy is one, kept as JSON that people can read and compare with docker's.

use serde::Deserialize;

use super::architecture::ARCHITECTURES;
use crate::oci::capability::CapabilitySet;
use crate::oci::descriptor::null_is_empty;
use crate::oci::platform::Platform;
use crate::oci::runtime_spec::seccomp::{Action, Condition, Seccomp, SyscallRule};
use crate::runtime::host;

/// The default policy as users can read and change it.
pub const DEFAULT_PROFILE: &str = include_str!("default.json");

/// A policy as docker's and podman's `--security-opt seccomp=FILE` takes it: some rules hold only with some capabilities,
/// on some architectures or from some kernel on. The runtime-spec's own format is one that has no such rules.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    default_action: Action,
    default_errno_ret: Option<u32>,
    #[serde(default, deserialize_with = "null_is_empty")]
    architectures: Vec<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    arch_map: Vec<ArchitectureGroup>,
    #[serde(default, deserialize_with = "null_is_empty")]
    flags: Vec<String>,
    listener_path: Option<String>,
    listener_metadata: Option<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    syscalls: Vec<Rule>,
}

/// An architecture, and those whose programs also run on it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchitectureGroup {
    architecture: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    sub_architectures: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    /// The older form of `names`.
    name: Option<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    names: Vec<String>,
    action: Action,
    errno_ret: Option<u32>,
    #[serde(default, deserialize_with = "null_is_empty")]
    args: Vec<Condition>,
    #[serde(default, deserialize_with = "null_is_empty")]
    includes: Filter,
    #[serde(default, deserialize_with = "null_is_empty")]
    excludes: Filter,
}

/// When a rule holds, or does not.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Filter {
    #[serde(default)]
    caps: CapabilitySet,
    /// As images name architectures.
    #[serde(default, deserialize_with = "null_is_empty")]
    arches: Vec<String>,
    min_kernel: Option<String>,
}

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// It is not JSON of the expected form.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// Docker takes either.
    #[error("it has both `architectures` and `archMap`")]
    Architectures,
    /// Docker takes either.
    #[error("a rule has both `name` and `names`")]
    Names,
    /// `minKernel` is no release.
    #[error("`minKernel` is `{0}`, and not two numbers such as 4.8")]
    Kernel(String),
}

/// What the rules of a profile are chosen by.
struct Machine<'a> {
    capabilities: u64,
    architecture: &'a str,
    kernel: (u32, u32),
}

impl Profile {
    /// Reads a profile.
    ///
    /// # Errors
    /// See [`ProfileError`].
    pub fn parse(text: &str) -> Result<Self, ProfileError> {
        let profile: Self = serde_json::from_str(text)?;
        if !profile.architectures.is_empty() && !profile.arch_map.is_empty() {
            return Err(ProfileError::Architectures);
        }
        for rule in &profile.syscalls {
            if rule.name.is_some() && !rule.names.is_empty() {
                return Err(ProfileError::Names);
            }
            for kernel in rule.includes.min_kernel.iter().chain(&rule.excludes.min_kernel) {
                parse_kernel(kernel).ok_or_else(|| ProfileError::Kernel(kernel.clone()))?;
            }
        }
        Ok(profile)
    }

    /// The policy on this machine for a container whose bounding set is `capabilities`.
    pub fn policy(&self, capabilities: &CapabilitySet) -> Seccomp {
        let platform = Platform::host();
        let kernel = host::kernel();
        let machine = Machine {
            capabilities: capabilities.bits(),
            architecture: &platform.architecture,
            kernel: host::release(&kernel),
        };
        let rules = self.syscalls.iter().filter(|rule| rule.holds(&machine));
        Seccomp {
            default_action: self.default_action,
            default_errno_ret: self.default_errno_ret,
            architectures: self.architectures(),
            flags: self.flags.clone(),
            syscalls: rules.map(Rule::plain).collect(),
            listener_path: self.listener_path.clone(),
            listener_metadata: self.listener_metadata.clone(),
        }
    }

    fn architectures(&self) -> Vec<String> {
        let native = ARCHITECTURES[0].name;
        let groups = self.arch_map.iter().filter(|group| group.architecture == native);
        let mapped = groups.flat_map(|group| {
            std::iter::once(&group.architecture).chain(&group.sub_architectures).cloned()
        });
        self.architectures.iter().cloned().chain(mapped).collect()
    }
}

impl Rule {
    /// As docker decides it: every condition of `includes`, and none of `excludes`.
    fn holds(&self, machine: &Machine<'_>) -> bool {
        let new_enough =
            |wanted: &String| parse_kernel(wanted).is_some_and(|k| machine.kernel >= k);
        let here = |arches: &[String]| arches.iter().any(|name| name == machine.architecture);
        let (includes, excludes) = (&self.includes, &self.excludes);
        let included = includes.caps.bits() & !machine.capabilities == 0
            && includes.caps.unknown().is_empty()
            && (includes.arches.is_empty() || here(&includes.arches))
            && includes.min_kernel.as_ref().is_none_or(new_enough);
        let excluded = excludes.caps.bits() & machine.capabilities != 0
            || here(&excludes.arches)
            || excludes.min_kernel.as_ref().is_some_and(new_enough);
        included && !excluded
    }

    fn plain(&self) -> SyscallRule {
        SyscallRule {
            names: self.name.iter().chain(&self.names).cloned().collect(),
            action: self.action,
            errno_ret: self.errno_ret,
            args: self.args.clone(),
        }
    }
}

fn parse_kernel(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    let minor = minor.split('.').next().unwrap_or_default();
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The default policy for a container whose bounding set is `capabilities`: what a capability is for is allowed with it.
pub fn default_seccomp(capabilities: &CapabilitySet) -> Seccomp {
    // The text is part of the program, and a test reads it. Without it, nothing would be allowed.
    match Profile::parse(DEFAULT_PROFILE) {
        Ok(profile) => profile.policy(capabilities),
        Err(_) => Seccomp {
            default_action: Action::KillProcess,
            default_errno_ret: None,
            architectures: Vec::new(),
            flags: Vec::new(),
            syscalls: Vec::new(),
            listener_path: None,
            listener_metadata: None,
        },
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

    #[test]
    fn rules_hold_where_they_are_meant_to() {
        let names = |conditions: &str, machine: &Machine<'_>| {
            let text = format!(
                r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
                    {{"names":["read"],"action":"SCMP_ACT_ALLOW","args":null,{conditions}}}]}}"#
            );
            Profile::parse(&text).unwrap().syscalls[0].holds(machine)
        };
        let machine = Machine { capabilities: 1 << 21, architecture: "amd64", kernel: (6, 1) };
        for (conditions, holds) in [
            (r#""includes":{},"excludes":null"#, true),
            (r#""includes":{"caps":["CAP_SYS_ADMIN"]}"#, true),
            (r#""includes":{"caps":["CAP_SYS_ADMIN","CAP_BPF"]}"#, false),
            (r#""includes":{"caps":["CAP_TELEPORT"]}"#, false),
            (r#""excludes":{"caps":["CAP_BPF","CAP_SYS_ADMIN"]}"#, false),
            (r#""excludes":{"caps":["CAP_BPF"]}"#, true),
            (r#""includes":{"arches":["s390","amd64"]}"#, true),
            (r#""includes":{"arches":["s390"]}"#, false),
            (r#""excludes":{"arches":["amd64"]}"#, false),
            (r#""includes":{"minKernel":"4.8"}"#, true),
            (r#""includes":{"minKernel":"6.10"}"#, false),
            (r#""excludes":{"minKernel":"4.8"}"#, false),
        ] {
            assert_eq!(names(conditions, &machine), holds, "{conditions}");
        }
    }

    #[test]
    fn profiles_that_make_no_sense() {
        for bad in [
            "",
            "{}",
            r#"{"defaultAction":"SCMP_ACT_SMILE"}"#,
            r#"{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86"],"archMap":[{"architecture":"SCMP_ARCH_X86"}]}"#,
            r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"name":"read","names":["write"],"action":"SCMP_ACT_ALLOW"}]}"#,
            r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"new"}}]}"#,
        ] {
            assert!(Profile::parse(bad).is_err(), "{bad}");
        }
    }
}
