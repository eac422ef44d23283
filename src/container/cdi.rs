//! Devices by the names that their vendors give them: the Container Device Interface.
//!
//! Specification: CDI 1.1, `SPEC.md` of its project. A vendor's tool writes files that say what a container needs to use a
//! device: nodes, libraries to mount, variables, hooks.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Error, yaml};
use crate::oci::runtime_spec::{Hook, Hooks, Mount, Spec, hooks, linux};

/// Where specifications are, the later folder winning over the earlier.
const FOLDERS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];
/// The largest specification that is read, in bytes.
const MAX_SPEC: u64 = 4 << 20;

/// A file of specifications.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Specification {
    cdi_version: String,
    kind: String,
    #[serde(default)]
    devices: Vec<NamedDevice>,
    #[serde(default)]
    container_edits: ContainerEdits,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NamedDevice {
    name: String,
    #[serde(default)]
    container_edits: ContainerEdits,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerEdits {
    env: Vec<String>,
    device_nodes: Vec<DeviceNode>,
    net_devices: Vec<NetDevice>,
    mounts: Vec<CdiMount>,
    hooks: Vec<CdiHook>,
    additional_gids: Vec<u32>,
    intel_rdt: Option<serde_json::Value>,
}

/// A device node.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct DeviceNode {
    pub(super) path: String,
    pub(super) host_path: Option<String>,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) major: Option<u32>,
    pub(super) minor: Option<u32>,
    pub(super) file_mode: Option<u32>,
    pub(super) permissions: Option<String>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NetDevice {
    host_interface_name: String,
    name: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CdiMount {
    host_path: String,
    container_path: String,
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    options: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CdiHook {
    hook_name: String,
    #[serde(flatten)]
    hook: Hook,
}

/// What the devices that were named ask for.
#[derive(Debug, Default)]
pub(super) struct Edits {
    pub(super) nodes: Vec<DeviceNode>,
    env: Vec<String>,
    net_devices: Vec<NetDevice>,
    mounts: Vec<CdiMount>,
    hooks: Vec<CdiHook>,
    additional_gids: Vec<u32>,
}

/// Whether a text is the name of a device, `VENDOR/CLASS=NAME`, and not a path.
pub(super) fn is_name(text: &str) -> bool {
    let word = |text: &str, more: &str| {
        let good = |c: char| c.is_ascii_alphanumeric() || more.contains(c);
        text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(good)
    };
    let Some((kind, name)) = text.split_once('=') else { return false };
    let Some((vendor, class)) = kind.split_once('/') else { return false };
    word(vendor, "_-.") && word(class, "_-") && word(name, "_-.:")
}

/// What these devices ask for, in the specifications of this machine.
pub(super) fn edits(names: &[&str]) -> Result<Edits, Error> {
    edits_from(&FOLDERS.map(PathBuf::from), names)
}

fn edits_from(folders: &[PathBuf], names: &[&str]) -> Result<Edits, Error> {
    let (mut specifications, mut broken) = (Vec::new(), None);
    for folder in folders {
        for path in files(folder) {
            match read(&path) {
                Ok(specification) => specifications.push((folder, specification)),
                // One that cannot be read is of no matter as long as nothing of it is asked for.
                Err(error) => broken = Some(error),
            }
        }
    }
    let mut edits = Edits::default();
    let mut used: Vec<usize> = Vec::new();
    for name in names {
        let mut found = None;
        for (at, (folder, specification)) in specifications.iter().enumerate() {
            let Some(device) = specification.device(name) else { continue };
            match found {
                Some((_, _, other)) if other == *folder => return Err(conflict(name)),
                _ => found = Some((at, device, *folder)),
            }
        }
        let Some((at, device, _)) = found else {
            return Err(broken.unwrap_or_else(|| no_such_device(name)));
        };
        if !used.contains(&at) {
            used.push(at);
            edits.add(&specifications[at].1.container_edits)?;
        }
        edits.add(&device.container_edits)?;
    }
    Ok(edits)
}

fn no_such_device(name: &str) -> Error {
    Error::Value {
        what: "device",
        value: name.to_owned(),
        why: "no CDI specification in /etc/cdi or /var/run/cdi has it",
    }
}

fn conflict(name: &str) -> Error {
    let why = "more than one CDI specification has it";
    Error::Value { what: "device", value: name.to_owned(), why }
}

/// The specifications in a folder, by name; none if there is no such folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == "json" || found == "yaml"));
    paths.sort();
    paths
}

fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_SPEC).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn read(path: &Path) -> Result<Specification, Error> {
    let failed = |source| Error::Io { verb: "read", path: path.to_owned(), source };
    let malformed = |source| Error::Record { path: path.to_owned(), source };
    let bytes = read_bytes(path).map_err(failed)?;
    let read = if path.extension().is_some_and(|found| found == "yaml") {
        let text = String::from_utf8_lossy(&bytes);
        yaml::parse(&text).and_then(serde_json::from_value::<Specification>)
    } else {
        serde_json::from_slice(&bytes)
    };
    let read = read.map_err(malformed)?;
    if !matches!(read.cdi_version.split('.').next(), Some("0" | "1")) {
        let why = "the version of a CDI specification is not known";
        return Err(Error::Value { what: "cdiVersion", value: read.cdi_version, why });
    }
    Ok(read)
}

impl Specification {
    fn device(&self, name: &str) -> Option<&NamedDevice> {
        let (kind, name) = name.split_once('=')?;
        self.devices.iter().filter(|_| kind == self.kind).find(|device| device.name == name)
    }
}

impl Edits {
    fn add(&mut self, more: &ContainerEdits) -> Result<(), Error> {
        let refuse = |value: &str, why| {
            Err(Error::Value { what: "CDI specification", value: value.to_owned(), why })
        };
        if more.intel_rdt.is_some() {
            return refuse("intelRdt", "it is not supported");
        }
        for hook in &more.hooks {
            if !hooks::NAMES.contains(&hook.hook_name.as_str()) {
                return refuse(&hook.hook_name, "there is no such hook");
            }
        }
        self.env.extend(more.env.iter().cloned());
        self.nodes.extend(more.device_nodes.iter().cloned());
        self.net_devices.extend(more.net_devices.iter().cloned());
        self.mounts.extend(more.mounts.iter().cloned());
        self.hooks.extend(more.hooks.iter().cloned());
        self.additional_gids.extend(more.additional_gids.iter().filter(|gid| **gid != 0));
        Ok(())
    }

    /// Changes a specification, but for its devices.
    pub(super) fn apply(&self, spec: &mut Spec) {
        if let Some(process) = &mut spec.process {
            for entry in &self.env {
                let name = entry.split('=').next().unwrap_or_default();
                process.env.retain(|known| known.split('=').next() != Some(name));
                process.env.push(entry.clone());
            }
            for gid in &self.additional_gids {
                if !process.user.additional_gids.contains(gid) {
                    process.user.additional_gids.push(*gid);
                }
            }
        }
        spec.mounts.extend(self.mounts.iter().map(CdiMount::plain));
        if !self.hooks.is_empty() {
            let hooks = spec.hooks.get_or_insert_default();
            for CdiHook { hook_name, hook } in &self.hooks {
                list(hooks, hook_name).push(hook.clone());
            }
        }
        if !self.net_devices.is_empty() {
            let devices = &mut spec.linux.get_or_insert_default().net_devices;
            let moved = self.net_devices.iter().map(|device| {
                let name = device.name.clone();
                (device.host_interface_name.clone(), linux::NetDevice { name })
            });
            devices.extend(moved.collect::<BTreeMap<_, _>>());
        }
    }
}

impl CdiMount {
    fn plain(&self) -> Mount {
        let mut mount = Mount {
            destination: self.container_path.clone(),
            kind: self.kind.clone().or_else(|| Some("bind".to_owned())),
            source: Some(self.host_path.clone()),
            options: self.options.clone(),
            ..Mount::default()
        };
        if !mount.is_bind() && mount.kind.as_deref() == Some("bind") {
            mount.options.push("rbind".to_owned());
        }
        mount
    }
}

fn list<'a>(hooks: &'a mut Hooks, name: &str) -> &'a mut Vec<Hook> {
    match name {
        "prestart" => &mut hooks.prestart,
        "createRuntime" => &mut hooks.create_runtime,
        "createContainer" => &mut hooks.create_container,
        "startContainer" => &mut hooks.start_container,
        "poststart" => &mut hooks.poststart,
        _ => &mut hooks.poststop,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["nvidia.com/gpu=all", "a/b=0", "vendor.com/net-dev=a:1_x.y"] {
            assert!(is_name(good), "{good}");
        }
        for bad in [
            "",
            "/dev/kvm",
            "/a/b=c",
            "vendor.com/gpu",
            "a=b",
            "a/b=",
            "a/b/c=d",
            "a/b=c/d",
            "a/b=-",
        ] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
