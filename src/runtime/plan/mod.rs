//! Everything that is known before the process is cloned: checked, opened, and in the form that system calls take.
//!
//! The child only walks through a [`Plan`]; it parses nothing, and what it allocates is little.

mod agent;
mod destination;
mod devices;
mod exec;
mod mounts;
mod process;
mod root;
mod schedule;

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::fstat;

use super::cgroup::View;
use super::error::{Error, Warning};
use super::idmap::IdMap;
use super::process::{Bundle, Options, Stdio};
use crate::oci::runtime_spec::linux::{self, Linux, NamespaceKind};
use crate::oci::runtime_spec::{ConsoleSize, Hook, Spec, VERSION};
use crate::sys::clone::{self, Namespaces};
use crate::sys::mount::{self, Propagation};

pub(super) use agent::{Agent, plan as plan_agent};
pub(super) use devices::{DeviceBind, LINKS};
pub(super) use exec::ExecPlan;
pub(super) use mounts::{PlannedMount, Source, configure};
pub(super) use process::PlannedProcess;
pub(super) use root::{PlannedRoot, RootSource};
pub(super) use schedule::processors;

/// A mount whose owners are to be mapped once the user namespace is there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Idmap {
    pub recursive: bool,
    /// Whether to go without it where the filesystem cannot, with a warning.
    pub optional: bool,
}

/// A namespace to join.
#[derive(Debug)]
pub(super) struct Join {
    pub kind: Namespaces,
    pub path: String,
    pub file: File,
}

/// A network interface that moves into the container.
#[derive(Debug)]
pub(super) struct NetDevice {
    /// Its name on the host.
    pub outside: String,
    /// Its name in the container.
    pub inside: String,
}

/// What to do, in the order in which the child does it.
#[derive(Debug)]
pub(super) struct Plan {
    /// For `clone3`; a cgroup namespace comes later, as it is rooted at where the process is when it is made.
    pub namespaces: Namespaces,
    pub cgroup_namespace: bool,
    /// What the clocks of a new time namespace are set to: lines of `timens_offsets`.
    pub time_offsets: Option<String>,
    /// Network interfaces that move into the container.
    pub net_devices: Vec<NetDevice>,
    /// What the container is shown of its control groups.
    pub cgroup: View,
    /// Where in each hierarchy they are.
    pub cgroup_path: PathBuf,
    /// The mount namespace to return to at the end, where the container shares its caller's.
    pub shared_mounts: Option<File>,
    pub ids: Option<IdMap>,
    pub joins: Vec<Join>,
    pub hostname: Option<String>,
    pub domainname: Option<String>,
    /// How the copies of the host's mounts are tied to the originals while the child sets up.
    pub host_propagation: Propagation,
    /// What the new root gets at the end, if it is not private; true for all below it as well.
    pub root_propagation: Option<(Propagation, bool)>,
    pub root: PlannedRoot,
    pub mounts: Vec<PlannedMount>,
    /// Whether `/dev` is this program's to fill.
    pub own_dev: bool,
    /// Devices that could not be made as nodes, and so are bind-mounted.
    pub device_binds: Vec<DeviceBind>,
    /// Name, path below `/proc/sys`, value.
    pub sysctls: Vec<(String, CString, String)>,
    /// Paths relative to the root.
    pub masked: Vec<CString>,
    /// Paths relative to the root.
    pub readonly: Vec<CString>,
    pub terminal: Option<Option<ConsoleSize>>,
    pub stdio: Option<[OwnedFd; 3]>,
    pub process: PlannedProcess,
    /// Who decides on the system calls that the filter leaves open.
    pub agent: Option<Agent>,
    pub create_runtime: bool,
    pub create_container: Vec<Hook>,
    pub start_container: Vec<Hook>,
    /// What hooks in the child get on their standard input, with `{pid}` for its number.
    pub hook_state: String,
    pub die_with_parent: bool,
    /// This program, to be executed as the init process.
    pub init: Option<OwnedFd>,
    /// Where somebody says when to start, if not who made the container.
    pub start: Option<OwnedFd>,
    pub preserve_fds: u32,
    pub no_new_keyring: bool,
    pub no_pivot: bool,
    pub mounts_in_order: bool,
    pub warnings: Vec<Warning>,
}

impl Plan {
    /// Plans `spec`, opening what it names on the host.
    pub(super) fn new(bundle: &Bundle, spec: &Spec, options: &mut Options) -> Result<Self, Error> {
        check_version(&spec.oci_version)?;
        let empty = Linux::default();
        let linux = spec.linux.as_ref().unwrap_or(&empty);
        let (mut namespaces, joins) = namespaces(linux)?;
        let shared_mounts = shared_mounts(namespaces, &joins)?;
        if shared_mounts.is_some() {
            // Nothing is mounted where the host would see it: see `child::root::share`.
            namespaces |= clone::NEWNS;
        }
        let user_namespace = joins.iter().find(|join| join.kind == clone::NEWUSER);
        let ids = match user_namespace {
            Some(join) => Some(IdMap::of_namespace(&join.file, &join.path)?),
            None if namespaces & clone::NEWUSER != 0 => Some(IdMap::of(linux)?),
            None => None,
        };
        let time_offsets = schedule::time_offsets(linux, namespaces & clone::NEWTIME != 0)?;
        // A time namespace with offsets is not made by the clone.
        let timed = if time_offsets.is_some() { clone::NEWTIME } else { 0 };
        let mut process = match (&spec.process, &options.start) {
            (None, Some(_)) => PlannedProcess::nothing(linux)?,
            _ => PlannedProcess::new(spec)?,
        }
        .keeping_groups(options.keep_groups);
        let warnings = process.warnings();
        let mut mounts =
            mounts::plan(bundle, spec, owned(namespaces, &joins), ids.as_ref(), options)?;
        let devices = devices::plan(linux, ids.as_ref(), &mut mounts)?;
        let root = root::plan(bundle, spec, ids.as_ref(), options, &mounts)?;
        let hooks = spec.hooks.clone().unwrap_or_default();
        let propagation = propagation(linux)?;
        let relative = |field: &str, paths: &[String]| -> Result<Vec<CString>, Error> {
            paths.iter().map(|path| destination::relative(field, path)).collect()
        };
        Ok(Self {
            cgroup: View::None,
            cgroup_path: PathBuf::new(),
            cgroup_namespace: namespaces & clone::NEWCGROUP != 0,
            namespaces: namespaces & !clone::NEWCGROUP & !timed,
            time_offsets,
            shared_mounts,
            net_devices: net_devices(linux, namespaces, &joins)?,
            host_propagation: match propagation {
                Some((mount::SHARED | mount::SLAVE, _)) => mount::SLAVE,
                _ => mount::PRIVATE,
            },
            root_propagation: propagation.filter(|(kind, _)| *kind != mount::PRIVATE),
            hostname: name(
                spec.hostname.as_ref(),
                "hostname",
                &[clone::NEWUTS],
                namespaces,
                &joins,
            )?,
            domainname: name(
                spec.domainname.as_ref(),
                "domainname",
                &[clone::NEWUTS],
                namespaces,
                &joins,
            )?,
            sysctls: process::sysctls(linux, |kind| {
                namespaces & kind != 0 || joins.iter().any(|join| join.kind == kind)
            })?,
            masked: relative("linux.maskedPaths", &linux.masked_paths)?,
            readonly: relative("linux.readonlyPaths", &linux.readonly_paths)?,
            terminal: process.terminal.take(),
            stdio: match std::mem::take(&mut options.stdio) {
                Stdio::Inherit => None,
                Stdio::Descriptors(descriptors) => Some(descriptors),
            },
            create_runtime: !(hooks.prestart.is_empty() && hooks.create_runtime.is_empty()),
            create_container: hooks.create_container,
            start_container: hooks.start_container,
            hook_state: super::hooks::state(bundle, spec, "creating", "{pid}"),
            agent: agent::plan(linux.seccomp.as_ref(), ids.as_ref())?,
            die_with_parent: options.die_with_parent,
            init: if options.init { Some(open(Path::new("/proc/self/exe"))?.into()) } else { None },
            start: options.start.take(),
            preserve_fds: options.preserve_fds,
            no_new_keyring: options.no_new_keyring,
            no_pivot: options.no_pivot,
            mounts_in_order: options.mounts_in_order,
            own_dev: devices.own_dev,
            device_binds: devices.binds,
            ids,
            joins,
            root,
            mounts,
            process,
            warnings,
        })
    }

    /// What the object of a failed step is called.
    pub(super) fn object(&self, step: super::Step, object: u32) -> String {
        use super::Step;
        let at = usize::try_from(object).unwrap_or(usize::MAX);
        let quoted = |text: Option<String>| text.map(|t| format!("`{t}`")).unwrap_or_default();
        let path =
            |paths: &[CString]| paths.get(at).map(|path| format!("/{}", path.to_string_lossy()));
        match step {
            Step::ApparmorProfile => quoted(self.process.apparmor.clone()),
            Step::ChangeDirectory | Step::Directory | Step::UnsafeDirectory => {
                quoted(Some(format!("/{}", self.process.cwd.to_string_lossy())))
            }
            Step::Device => quoted(self.device_binds.get(at).map(|bind| bind.path.clone())),
            Step::DeviceLink => {
                quoted(LINKS.get(at).map(|(name, _)| format!("/dev/{}", name.to_string_lossy())))
            }
            Step::Execute => quoted(Some(self.process.program())),
            Step::Hook => {
                let hooks = self.create_container.iter().chain(&self.start_container);
                quoted(hooks.map(|hook| hook.path.clone()).nth(at))
            }
            Step::Hostname => quoted(self.hostname.clone()),
            Step::Domainname => quoted(self.domainname.clone()),
            Step::JoinCgroup => match &self.cgroup {
                View::V1(names) => quoted(names.get(at).map(|n| n.to_string_lossy().into_owned())),
                _ => String::new(),
            },
            Step::Mask => quoted(path(&self.masked)),
            Step::CopyUp | Step::Mount => {
                self.mounts.get(at).map(|m| m.to_string()).unwrap_or_default()
            }
            Step::MountPoint | Step::MountRefused => {
                quoted(self.mounts.get(at).map(|mount| mount.destination()))
            }
            Step::AttachRoot | Step::Overlay | Step::PivotRoot | Step::AttachLayer => {
                quoted(Some(self.root.path.display().to_string()))
            }
            Step::Propagation => quoted(Some("/".to_owned())),
            Step::ReadonlyPath => quoted(path(&self.readonly)),
            Step::SelinuxLabel => quoted(self.process.selinux.clone()),
            Step::Sysctl => quoted(self.sysctls.get(at).map(|(name, ..)| name.clone())),
            _ => String::new(),
        }
    }
}

/// Refuses what is no version, and versions that may mean something else by the same names: a greater major number.
fn check_version(version: &str) -> Result<(), Error> {
    let plain = version.split(['-', '+']).next().unwrap_or_default();
    let numbers: Vec<Option<u32>> = plain.split('.').map(|part| part.parse().ok()).collect();
    let reason = match numbers.as_slice() {
        [Some(0 | 1), Some(_), Some(_)] => return Ok(()),
        [Some(_), Some(_), Some(_)] => format!("`{version}` is newer than {VERSION}"),
        _ => format!("`{version}` is not a version such as {VERSION}"),
    };
    Err(Error::Invalid { field: "ociVersion".to_owned(), reason })
}

fn flag(kind: NamespaceKind) -> Namespaces {
    match kind {
        NamespaceKind::Cgroup => clone::NEWCGROUP,
        NamespaceKind::Ipc => clone::NEWIPC,
        NamespaceKind::Mount => clone::NEWNS,
        NamespaceKind::Network => clone::NEWNET,
        NamespaceKind::Pid => clone::NEWPID,
        NamespaceKind::Time => clone::NEWTIME,
        NamespaceKind::User => clone::NEWUSER,
        NamespaceKind::Uts => clone::NEWUTS,
    }
}

fn namespaces(linux: &Linux) -> Result<(Namespaces, Vec<Join>), Error> {
    let (mut new, mut joins) = (0, Vec::new());
    for namespace in &linux.namespaces {
        let kind = flag(namespace.kind);
        if new & kind != 0 || joins.iter().any(|join: &Join| join.kind == kind) {
            let reason = format!("{:?} occurs twice", namespace.kind);
            return Err(Error::Invalid { field: "linux.namespaces".to_owned(), reason });
        }
        match &namespace.path {
            None => new |= kind,
            Some(path) => {
                if !path.starts_with('/') {
                    let reason = format!("`{path}` is not an absolute path");
                    return Err(Error::Invalid { field: "linux.namespaces".to_owned(), reason });
                }
                let file = open(Path::new(path))?;
                let own = || open(Path::new("/proc/self/ns/mnt"));
                if kind == clone::NEWNS && identity(file.as_fd()) == identity(own()?.as_fd()) {
                    // To be set up there would be to change the host.
                    continue;
                }
                joins.push(Join { kind, path: path.clone(), file });
            }
        }
    }
    Ok((new, joins))
}

/// This process's mount namespace, if the container is to be in it.
fn shared_mounts(new: Namespaces, joins: &[Join]) -> Result<Option<File>, Error> {
    let has = |kind| new & kind != 0 || joins.iter().any(|join| join.kind == kind);
    if has(clone::NEWNS) {
        return Ok(None);
    }
    if has(clone::NEWUSER) {
        // Whose root has no power over it.
        let reason = "a user namespace needs a mount namespace".to_owned();
        return Err(Error::Invalid { field: "linux.namespaces".to_owned(), reason });
    }
    open(Path::new("/proc/self/ns/mnt")).map(Some)
}

/// Which namespace a descriptor means.
fn identity(fd: BorrowedFd<'_>) -> Option<(u64, u64)> {
    fstat(fd).map(|found| (found.st_dev, found.st_ino)).ok()
}

/// The kinds of namespaces that the container's root has power over: the new ones, and those joined ones that belong to the
/// user namespace that is joined with them.
fn owned(new: Namespaces, joins: &[Join]) -> Namespaces {
    let user = joins.iter().find(|join| join.kind == clone::NEWUSER);
    let user = user.and_then(|join| identity(join.file.as_fd()));
    let is_owned = |join: &&Join| {
        let owner = clone::owner(join.file.as_fd()).ok();
        user.is_some() && owner.and_then(|owner| identity(owner.as_fd())) == user
    };
    joins.iter().filter(is_owned).fold(new, |kinds, join| kinds | join.kind)
}

/// The interfaces to move, which must not stay on the host under another name.
fn net_devices(linux: &Linux, new: Namespaces, joins: &[Join]) -> Result<Vec<NetDevice>, Error> {
    const IFNAMSIZ: usize = 16;
    let own = new & clone::NEWNET != 0 || joins.iter().any(|join| join.kind == clone::NEWNET);
    let device = |(outside, device): (&String, &linux::NetDevice)| {
        let invalid = |reason: &str| {
            let field = format!("linux.netDevices `{outside}`");
            Err(Error::Invalid { field, reason: reason.to_owned() })
        };
        let inside = device.name.as_ref().filter(|name| !name.is_empty()).unwrap_or(outside);
        let odd = |c: char| c.is_whitespace() || c.is_control() || "/:".contains(c);
        if [outside, inside].iter().any(|name| {
            name.len() >= IFNAMSIZ || name.contains(odd) || matches!(name.as_str(), "" | "." | "..")
        }) {
            return invalid("it is no name of an interface");
        }
        if !own {
            return invalid("it needs a network namespace");
        }
        Ok(NetDevice { outside: outside.clone(), inside: inside.clone() })
    };
    linux.net_devices.iter().map(device).collect()
}

fn open(path: &Path) -> Result<File, Error> {
    File::open(path).map_err(|error| {
        let source = Errno::from_raw(error.raw_os_error().unwrap_or_default());
        Error::Path { action: "open", path: path.to_owned(), source }
    })
}

/// A name that is set in a namespace, which must not be the host's.
fn name(
    value: Option<&String>,
    field: &str,
    kinds: &[Namespaces],
    new: Namespaces,
    joins: &[Join],
) -> Result<Option<String>, Error> {
    let Some(value) = value.filter(|value| !value.is_empty()) else { return Ok(None) };
    let invalid =
        |reason: &str| Err(Error::Invalid { field: field.to_owned(), reason: reason.to_owned() });
    if !kinds.iter().any(|kind| new & kind != 0 || joins.iter().any(|join| join.kind == *kind)) {
        return invalid("it needs a UTS namespace");
    }
    if value.len() > 64 || value.contains(|c: char| c.is_control() || c.is_whitespace()) {
        return invalid("it is longer than 64 bytes or has white space");
    }
    Ok(Some(value.clone()))
}

fn propagation(linux: &Linux) -> Result<Option<(Propagation, bool)>, Error> {
    let Some(name) = linux.rootfs_propagation.as_deref().filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    // The specification has only the forms for the root alone; engines know the others from mount(8).
    let (plain, recursive) = name.strip_prefix('r').map_or((name, false), |plain| (plain, true));
    match plain {
        "private" => Ok(Some((mount::PRIVATE, recursive))),
        "shared" => Ok(Some((mount::SHARED, recursive))),
        "slave" => Ok(Some((mount::SLAVE, recursive))),
        "unbindable" => Ok(Some((mount::UNBINDABLE, recursive))),
        _ => Err(Error::Invalid {
            field: "linux.rootfsPropagation".to_owned(),
            reason: format!("unknown type `{name}`"),
        }),
    }
}

fn c_string(field: &str, text: &str) -> Result<CString, Error> {
    CString::new(text).map_err(|_| Error::Invalid {
        field: field.to_owned(),
        reason: "it has a zero byte".to_owned(),
    })
}
