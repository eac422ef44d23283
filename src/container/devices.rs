//! Devices of the host that a container is handed, and how much it may use of them.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use nix::sys::stat::{major, minor};

use super::Error;
use super::cdi::{self, Edits};
use crate::oci::runtime_spec::linux::{
    BlockIo, Device, DeviceRule, Resources, ThrottleDevice, WeightDevice,
};
use crate::runtime::defaults;

/// Folders of `/dev` that are no devices of the host's, or that every container has of its own.
const OWN_FOLDERS: [&str; 7] = [".lxc", ".lxd-mounts", ".udev", "fd", "mqueue", "pts", "shm"];
/// Files of `/dev` that every container has of its own.
const OWN_FILES: [&str; 8] =
    ["console", "full", "null", "ptmx", "random", "tty", "urandom", "zero"];
/// How deep folders are looked into, so that no loop of mounts is followed for ever.
const MAX_DEPTH: usize = 16;

/// What a container is handed, as its user says it.
#[derive(Clone, Debug, Default)]
pub struct Devices {
    /// Nodes, folders of nodes, and names that CDI specifications have.
    pub devices: Vec<DeviceRequest>,
    /// Further rules.
    pub rules: Vec<DeviceCgroupRule>,
    /// How much of block devices may be used.
    pub throttles: Throttles,
}

/// Limits of block devices.
#[derive(Clone, Debug, Default)]
pub struct Throttles {
    /// The weight against others, 10 to 1000.
    pub weight: Option<u16>,
    /// Weights for single devices.
    pub weight_device: Vec<Throttle>,
    /// Bytes a second that can be read.
    pub read_bps: Vec<Throttle>,
    /// Bytes a second that can be written.
    pub write_bps: Vec<Throttle>,
    /// Operations a second that can read.
    pub read_iops: Vec<Throttle>,
    /// Operations a second that can write.
    pub write_iops: Vec<Throttle>,
}

/// One block device and a number.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Throttle {
    /// Its path on the host.
    pub path: PathBuf,
    /// The rate, or the weight.
    pub value: u64,
}

/// A device, given as `HOST[:CONTAINER][:rwm]` or by its name in a CDI specification.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DeviceRequest {
    /// A node, or a folder of nodes.
    Path {
        /// On the host.
        host: PathBuf,
        /// Inside.
        inside: String,
        /// What may be done with it: some of `r`, `w` and `m`.
        access: String,
    },
    /// `vendor.com/class=name`.
    Cdi(String),
}

/// A rule given as `TYPE MAJOR:MINOR ACCESS`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DeviceCgroupRule(DeviceRule);

impl FromStr for DeviceRequest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse = |why| Error::Value { what: "device", value: text.to_owned(), why };
        if cdi::is_name(text) {
            return Ok(Self::Cdi(text.to_owned()));
        }
        let parts: Vec<&str> = text.split(':').collect();
        let (host, inside, access) = match parts[..] {
            [host] => (host, host, "rwm"),
            [host, access] if is_access(access) => (host, host, access),
            [host, inside] => (host, inside, "rwm"),
            [host, inside, access] if is_access(access) => (host, inside, access),
            _ => return Err(refuse("expected HOST[:CONTAINER][:rwm] or VENDOR/CLASS=NAME")),
        };
        if !host.starts_with('/') || text.contains('\0') {
            return Err(refuse("expected an absolute path, or VENDOR/CLASS=NAME"));
        }
        if !inside.starts_with("/dev/") || inside.split('/').any(|part| part == "..") {
            return Err(refuse("its place inside must be below /dev"));
        }
        let (inside, access) = (inside.to_owned(), access.to_owned());
        Ok(Self::Path { host: host.into(), inside, access })
    }
}

fn is_access(text: &str) -> bool {
    let known = |c: char| "rwm".contains(c);
    !text.is_empty() && text.chars().all(known) && text.len() <= 3
}

impl FromStr for DeviceCgroupRule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let why = "expected TYPE MAJOR:MINOR ACCESS, as in c 1:3 rwm";
        let refuse = || Error::Value { what: "device rule", value: text.to_owned(), why };
        let words: Vec<&str> = text.split(' ').collect();
        let [kind @ ("a" | "b" | "c"), numbers, access] = words[..] else { return Err(refuse()) };
        let number = |text: &str| match text {
            "*" => Some(None),
            digits => digits.parse::<u32>().ok().map(|number| Some(i64::from(number))),
        };
        let (major, minor) = numbers.split_once(':').ok_or_else(refuse)?;
        let (major, minor) = number(major).zip(number(minor)).ok_or_else(refuse)?;
        if !is_access(access) {
            return Err(refuse());
        }
        Ok(Self(rule(kind, major, minor, access)))
    }
}

fn rule(kind: &str, major: Option<i64>, minor: Option<i64>, access: &str) -> DeviceRule {
    let (kind, access) = (Some(kind.to_owned()), Some(access.to_owned()));
    DeviceRule { allow: true, kind, major, minor, access }
}

/// What a container is handed, as this machine has it.
#[derive(Debug, Default)]
pub(super) struct Handed {
    pub(super) nodes: Vec<Device>,
    rules: Vec<DeviceRule>,
    block_io: Option<BlockIo>,
    pub(super) edits: Edits,
    everything: bool,
}

impl Devices {
    /// Looks at the devices of this machine; with `everything`, at all of them.
    pub(super) fn open(&self, everything: bool) -> Result<Handed, Error> {
        let mut handed =
            Handed { everything, block_io: self.throttles.block_io()?, ..Handed::default() };
        if everything {
            handed.add_all(Path::new("/dev"), "/dev", 0);
        }
        let mut names = Vec::new();
        for device in &self.devices {
            match device {
                DeviceRequest::Cdi(name) => names.push(name.as_str()),
                DeviceRequest::Path { host, inside, access } => handed.add(host, inside, access)?,
            }
        }
        if !names.is_empty() {
            let edits = cdi::edits(&names)?;
            for node in &edits.nodes {
                handed.push(cdi_device(node)?, node.permissions.as_deref().unwrap_or("rwm"));
            }
            handed.edits = edits;
        }
        handed.rules.extend(self.rules.iter().map(|DeviceCgroupRule(rule)| rule.clone()));
        Ok(handed)
    }
}

impl Handed {
    fn push(&mut self, device: Device, access: &str) {
        let numbers = (Some(device.major.into()), Some(device.minor.into()));
        if device.kind != "p" {
            self.rules.push(rule(&device.kind, numbers.0, numbers.1, access));
        }
        // The last one that is given this place has it.
        self.nodes.retain(|known| known.path != device.path);
        self.nodes.push(device);
    }

    /// A node, or every node of a folder and of those below it.
    fn add(&mut self, host: &Path, inside: &str, access: &str) -> Result<(), Error> {
        let failed = |source| Error::Io { verb: "open device", path: host.to_owned(), source };
        let found = fs::metadata(host).map_err(failed)?;
        if found.is_dir() {
            let before = self.nodes.len();
            self.add_folder(host, inside, access, 0).map_err(failed)?;
            return if self.nodes.len() > before { Ok(()) } else { Err(no_device(host)) };
        }
        let device = device(&found, inside).ok_or_else(|| no_device(host))?;
        self.push(device, access);
        Ok(())
    }

    fn add_folder(
        &mut self,
        host: &Path,
        inside: &str,
        access: &str,
        depth: usize,
    ) -> std::io::Result<()> {
        let mut entries = fs::read_dir(host)?.collect::<Result<Vec<_>, _>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let inside = format!("{}/{name}", inside.trim_end_matches('/'));
            // Links are not followed: what they lead to is found by its own name, or is not in the folder.
            let Ok(found) = fs::symlink_metadata(entry.path()) else { continue };
            if found.is_dir() && depth < MAX_DEPTH {
                self.add_folder(&entry.path(), &inside, access, depth + 1)?;
            } else if let Some(device) = device(&found, &inside) {
                self.push(device, access);
            }
        }
        Ok(())
    }

    /// Every device of the host's `/dev`. What cannot be read is not there for this user.
    fn add_all(&mut self, host: &Path, inside: &str, depth: usize) {
        let entries = fs::read_dir(host).into_iter().flatten().flatten();
        for entry in entries {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let path = format!("{inside}/{name}");
            let Ok(found) = fs::symlink_metadata(entry.path()) else { continue };
            if found.is_dir() && depth < MAX_DEPTH && !OWN_FOLDERS.contains(&name) {
                self.add_all(&entry.path(), &path, depth + 1);
            } else if let Some(device) = device(&found, &path)
                && !(depth == 0 && OWN_FILES.contains(&name))
            {
                self.nodes.push(device);
            }
        }
    }

    /// Which devices may be used, if that is to be said: always, unless a user namespace keeps all of them away.
    pub(super) fn rules(&self, in_the_open: bool) -> Vec<DeviceRule> {
        if self.everything {
            return vec![rule("a", None, None, "rwm")];
        }
        if !in_the_open && self.nodes.is_empty() {
            return Vec::new();
        }
        defaults::device_rules().into_iter().chain(self.rules.iter().cloned()).collect()
    }

    /// Sets the limits of block devices.
    pub(super) fn limit(&self, resources: &mut Resources) {
        if self.block_io.is_some() {
            resources.block_io.clone_from(&self.block_io);
        }
    }
}

fn no_device(path: &Path) -> Error {
    Error::Value {
        what: "device",
        value: path.display().to_string(),
        why: "it is neither a device nor a folder with devices in it",
    }
}

/// The node as the container gets it: with the owner and the mode that it has on the host.
fn device(found: &fs::Metadata, inside: &str) -> Option<Device> {
    let kind = match found.file_type() {
        kind if kind.is_char_device() => "c",
        kind if kind.is_block_device() => "b",
        _ => return None,
    };
    Some(Device {
        path: inside.to_owned(),
        kind: kind.to_owned(),
        major: u32::try_from(major(found.rdev())).ok()?,
        minor: u32::try_from(minor(found.rdev())).ok()?,
        file_mode: Some(found.mode() & 0o777),
        uid: Some(found.uid()),
        gid: Some(found.gid()),
    })
}

/// A node of a CDI specification, completed by what the host has.
fn cdi_device(node: &cdi::DeviceNode) -> Result<Device, Error> {
    let host = PathBuf::from(node.host_path.as_deref().unwrap_or(&node.path));
    let device = match fs::metadata(&host) {
        Ok(found) => device(&found, &node.path),
        // The specification can say all of it, of a device that is made when it is opened first.
        Err(_) if node.kind.is_some() && node.major.is_some() => Some(Device {
            path: node.path.clone(),
            kind: String::new(),
            major: 0,
            minor: 0,
            file_mode: None,
            uid: None,
            gid: None,
        }),
        Err(source) => return Err(Error::Io { verb: "open device", path: host, source }),
    };
    let mut device = device.ok_or_else(|| no_device(&host))?;
    if let Some(kind) = &node.kind {
        device.kind.clone_from(kind);
    }
    device.major = node.major.unwrap_or(device.major);
    device.minor = node.minor.unwrap_or(device.minor);
    device.file_mode = node.file_mode.or(device.file_mode);
    device.uid = node.uid.or(device.uid);
    device.gid = node.gid.or(device.gid);
    Ok(device)
}

impl Throttles {
    fn block_io(&self) -> Result<Option<BlockIo>, Error> {
        let rates = |throttles: &[Throttle]| -> Result<Vec<ThrottleDevice>, Error> {
            let rate = |throttle: &Throttle| {
                let (major, minor) = block_device(&throttle.path)?;
                Ok(ThrottleDevice { major, minor, rate: throttle.value })
            };
            throttles.iter().map(rate).collect()
        };
        let weight = |throttle: &Throttle| {
            let (major, minor) = block_device(&throttle.path)?;
            let weight = u16::try_from(throttle.value).ok();
            Ok(WeightDevice { major, minor, weight, leaf_weight: None })
        };
        let io = BlockIo {
            weight: self.weight.filter(|weight| *weight != 0),
            leaf_weight: None,
            weight_device: self.weight_device.iter().map(weight).collect::<Result<_, Error>>()?,
            throttle_read_bps_device: rates(&self.read_bps)?,
            throttle_write_bps_device: rates(&self.write_bps)?,
            throttle_read_iops_device: rates(&self.read_iops)?,
            throttle_write_iops_device: rates(&self.write_iops)?,
        };
        Ok((io != BlockIo::default()).then_some(io))
    }
}

fn block_device(path: &Path) -> Result<(u32, u32), Error> {
    let failed = |source| Error::Io { verb: "open device", path: path.to_owned(), source };
    let found = fs::metadata(path).map_err(failed)?;
    let numbers = || {
        let number = found.rdev();
        Some((u32::try_from(major(number)).ok()?, u32::try_from(minor(number)).ok()?))
    };
    let numbers = found.file_type().is_block_device().then(numbers).flatten();
    numbers.ok_or_else(|| Error::Value {
        what: "device",
        value: path.display().to_string(),
        why: "it is no block device",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices() {
        let parse = |text: &str| match text.parse::<DeviceRequest>().unwrap() {
            DeviceRequest::Path { host, inside, access } => {
                format!("{} {inside} {access}", host.display())
            }
            DeviceRequest::Cdi(name) => name,
        };
        assert_eq!(parse("/dev/kvm"), "/dev/kvm /dev/kvm rwm");
        assert_eq!(parse("/dev/kvm:r"), "/dev/kvm /dev/kvm r");
        assert_eq!(parse("/dev/a:/dev/b"), "/dev/a /dev/b rwm");
        assert_eq!(parse("/dev/a:/dev/b:rw"), "/dev/a /dev/b rw");
        assert_eq!(parse("nvidia.com/gpu=all"), "nvidia.com/gpu=all");
        for bad in [
            "",
            "kvm",
            "/dev/a:/b",
            "/dev/a:x",
            "/dev/a:/dev/../b",
            "/dev/a:/dev/b:rwx",
            "a/b=",
            "/a:/dev/b:r:w",
        ] {
            assert!(bad.parse::<DeviceRequest>().is_err(), "{bad}");
        }
    }

    #[test]
    fn rules() {
        let parse = |text: &str| text.parse::<DeviceCgroupRule>();
        assert_eq!(parse("c 1:3 rw").unwrap().0, rule("c", Some(1), Some(3), "rw"));
        assert_eq!(parse("b *:* m").unwrap().0, rule("b", None, None, "m"));
        for bad in ["", "c", "c 1 r", "x 1:1 r", "c 1:1 x", "c 1:1", "c -1:1 r", "c 1:1 r w"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
