//! The container's control group: made, filled with limits, joined, removed; version 2 and version 1.
//!
//! A version 2 group is there before the process, which is cloned into it. Version 1 groups are joined while the child is
//! busy mounting; only those controllers are used that a limit needs, as each costs a group to make, join and remove. Where
//! systemd makes the groups ([`systemd`]), that is done meanwhile, of either version.

mod devices;
mod files;
mod settings;

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{Pid, Uid};

use super::defaults;
use super::error::Error;
use super::host::{CgroupVersion, cgroup_version};
use super::idmap::IdMap;
use super::process::{Bundle, Options};
use super::rootless;
use super::systemd::{self, Unit};
use crate::oci::runtime_spec::linux::{DeviceRule, Linux, NamespaceKind, Resources};
use crate::oci::runtime_spec::{Mount, Spec};
use crate::sys::schedule::SchedAttr;
use files::{above, delegate, enable_all, failed, inherit_cpuset, make, move_processes};
pub(super) use files::{apply, members, remove, write};
pub(super) use settings::{Setting, v1, v2};

/// Where control groups are mounted (`file-hierarchy(7)`).
pub(super) const MOUNT_POINT: &str = "/sys/fs/cgroup";
/// The version 1 controllers that are used.
pub(super) const V1_CONTROLLERS: [&str; 11] = [
    "blkio", "cpu", "cpuset", "devices", "freezer", "hugetlb", "memory", "net_cls", "net_prio",
    "pids", "rdma",
];
/// The group that all containers' groups are made in.
const PARENT: &str = "mydocker";

/// What a container is shown of its groups.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) enum View {
    #[default]
    None,
    V1(Vec<CString>),
    V2,
}

/// A container's groups.
#[derive(Debug)]
pub(super) struct Cgroup {
    version: CgroupVersion,
    /// Relative to a hierarchy.
    path: PathBuf,
    settings: Vec<Setting>,
    devices: Vec<DeviceRule>,
    /// Whose the version 2 group becomes.
    delegate: Option<Uid>,
    /// Whether the container writes to its version 2 group, and may want every controller there is.
    manages: bool,
    /// The version 2 group.
    directory: Option<OwnedFd>,
    /// What has been made.
    made: Vec<PathBuf>,
    /// Whether there is to be a group in every version 1 hierarchy, whether or not a limit needs it.
    every_controller: bool,
    /// Whether the program is scheduled in real time, for which a new version 1 group has no budget.
    real_time: bool,
    /// What systemd is to make.
    planned: Option<systemd::Planned>,
    /// What systemd has made.
    unit: Option<Unit>,
}

impl Cgroup {
    /// Works out what is to be made, and makes nothing.
    pub(super) fn plan(
        bundle: &Bundle,
        spec: &Spec,
        options: &Options,
        user_namespace: bool,
    ) -> Result<Self, Error> {
        let linux = spec.linux.as_ref();
        let empty = Resources::default();
        let resources = linux.and_then(|linux| linux.resources.as_ref()).unwrap_or(&empty);
        let version = cgroup_version();
        let settings = match version {
            CgroupVersion::V2 => settings::v2(resources)?,
            CgroupVersion::V1 => settings::v1(resources)?,
            // Any of the two: what is set cannot be.
            CgroupVersion::None => settings::v2(resources)?,
        };
        // Nothing that a user namespace's root mounts has working device nodes, and it can make none: only the nodes that
        // it is handed on purpose are worth rules.
        let handed = linux.is_some_and(|linux| !linux.devices.is_empty());
        // To a caller who is root in a user namespace only, the same goes, and the kernel lets it set none.
        let unused = user_namespace && !handed || !rootless::has_all_ids();
        let devices = if unused { &[][..] } else { &resources.devices };
        let mut devices = devices.to_vec();
        if !devices.is_empty() {
            // What the specification says that every container has can be used, whatever an engine forgot to allow.
            devices.extend(defaults::allowed_devices());
        }
        let mut planned = None;
        if options.systemd_cgroup {
            let mut plan = systemd::Planned::new(&bundle.id, spec, &settings)?;
            if version == CgroupVersion::V1 && !devices.is_empty() {
                plan.allow_devices(devices::systemd_list(&devices)?);
            }
            planned = Some(plan);
        }
        let cgroup = Self {
            version,
            path: match &planned {
                Some(plan) => plan.path().to_owned(),
                None => path(bundle, linux, options)?,
            },
            settings,
            devices,
            delegate: None,
            manages: false,
            directory: None,
            made: Vec::new(),
            every_controller: options.every_controller,
            real_time: false,
            planned,
            unit: None,
        };
        match (version, cgroup.settings.first()) {
            (CgroupVersion::None, Some(setting)) => Err(missing(setting)),
            _ => Ok(cgroup),
        }
    }

    /// Hands the version 2 group on to the container's user once it is made, if that one is to write to it: the user may
    /// then make groups below it, and change none of its limits (runtime-spec, `config-linux.md#cgroup-ownership`).
    pub(super) fn delegate_to(&mut self, spec: &Spec, ids: Option<&IdMap>) {
        // Who watches, pauses or changes it later may want them, too.
        self.manages = self.every_controller;
        let writable = |mount: &Mount| {
            let is_cgroup = |text: &Option<String>| {
                text.as_deref().is_some_and(|text| matches!(text, "cgroup" | "cgroup2"))
            };
            (is_cgroup(&mount.source) || is_cgroup(&mount.kind))
                && mount.destination.trim_end_matches('/') == MOUNT_POINT
                && !mount.options.iter().any(|option| option == "ro")
        };
        let new = spec.linux.as_ref().and_then(|linux| linux.namespace(NamespaceKind::Cgroup));
        if new.is_some_and(|namespace| namespace.path.is_none()) && spec.mounts.iter().any(writable)
        {
            self.manages = true;
            let uid = spec.process.as_ref().map_or(0, |process| process.user.uid);
            let uid = ids.map_or(Some(uid), |ids| ids.host_uid(uid));
            self.delegate = uid.filter(|uid| *uid != 0).map(Uid::from_raw);
        }
    }

    /// Leaves a program with this scheduler out of a group that would not take it, if no limit needs the group.
    pub(super) fn make_room_for(&mut self, scheduler: Option<SchedAttr>) {
        let policies = [libc::SCHED_FIFO, libc::SCHED_RR].map(i32::unsigned_abs);
        self.real_time = scheduler.is_some_and(|attr| policies.contains(&attr.policy));
    }

    /// What the container is to be shown.
    pub(super) fn view(&self) -> View {
        match self.version {
            CgroupVersion::V2 => View::V2,
            CgroupVersion::V1 => {
                let names = self.controllers().into_iter();
                View::V1(names.filter_map(|name| CString::new(name).ok()).collect())
            }
            CgroupVersion::None => View::None,
        }
    }

    /// Where in each hierarchy the groups are.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is no group although the machine has groups.
    pub(super) fn is_missing(&self) -> bool {
        self.version == CgroupVersion::V2 && self.directory.is_none()
    }

    /// The version 2 group, to clone into.
    pub(super) fn v2_directory(&self) -> Option<BorrowedFd<'_>> {
        self.directory.as_ref().map(AsFd::as_fd)
    }

    /// The directories that have been made, and of version 1 those by which systemd knows what belongs to a unit: what
    /// `exec` starts is to be in them, too, unless it is an ordinary user's, who may move nothing there.
    pub(super) fn directories(&self) -> Vec<PathBuf> {
        let mut all = self.made.clone();
        let tracked = self.version == CgroupVersion::V1 && self.unit.is_some();
        if tracked && !rootless::is_ordinary() {
            let own = ["systemd", "unified"].map(|name| Path::new(MOUNT_POINT).join(name));
            let own = own.iter().map(|hierarchy| hierarchy.join(&self.path));
            all.extend(own.filter(|directory| directory.exists()));
        }
        all
    }

    fn controllers(&self) -> BTreeSet<&'static str> {
        let mut names: BTreeSet<_> =
            self.settings.iter().map(|setting| setting.controller).collect();
        if !self.devices.is_empty() {
            names.insert("devices");
        }
        if self.every_controller {
            let mounted = mounted_v1_controllers().into_iter();
            names.extend(mounted.filter(|name| !(self.real_time && *name == "cpu")));
        }
        names
    }

    /// The unit of systemd's that they belong to.
    pub(super) fn unit(&self) -> Option<&Unit> {
        self.unit.as_ref()
    }

    /// Has systemd make the groups with this process in them, if that is who makes them.
    pub(super) fn start_unit(&mut self, pid: Pid) -> Result<(), Error> {
        let Some(planned) = self.planned.take() else { return Ok(()) };
        let unit = planned.unit().clone();
        planned.start(pid)?;
        self.unit = Some(unit);
        if self.version != CgroupVersion::V2 {
            return Ok(());
        }
        let directory = Path::new(MOUNT_POINT).join(&self.path);
        self.made.push(directory.clone());
        self.fill_v2(&directory)
    }

    /// Makes the version 2 group, with its limits.
    pub(super) fn make_v2(&mut self) -> Result<(), Error> {
        if self.version != CgroupVersion::V2 || self.planned.is_some() {
            return Ok(());
        }
        let directory = Path::new(MOUNT_POINT).join(&self.path);
        match make(&directory) {
            Ok(()) => self.made.push(directory.clone()),
            // Nothing asks for a group: without one, the container is where its caller is.
            Err(Error::Cgroup { source: Errno::EROFS | Errno::EACCES | Errno::EPERM, .. })
                if self.settings.is_empty() && self.devices.is_empty() =>
            {
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        if self.manages {
            enable_all(&directory);
        }
        self.fill_v2(&directory)
    }

    fn fill_v2(&mut self, directory: &Path) -> Result<(), Error> {
        let mut enabled = false;
        for setting in &self.settings {
            let mut written = apply(directory, setting);
            if matches!(written, Err(Error::Cgroup { source: Errno::ENOENT, .. })) && !enabled {
                // The usual case is that the controllers have been enabled by the first container.
                self.enable(directory)?;
                enabled = true;
                written = apply(directory, setting);
            }
            match written {
                Err(Error::Cgroup { source: Errno::ENOENT, .. }) if setting.optional => {}
                Err(Error::Cgroup { source: Errno::ENOENT, .. }) => return Err(missing(setting)),
                written => written?,
            }
        }
        let opened = fs::File::open(directory).map_err(|error| failed("open", directory, &error));
        let opened = opened?;
        devices::attach(&opened, directory, &self.devices)?;
        if let Some(uid) = self.delegate {
            delegate(directory, uid)?;
        }
        self.directory = Some(opened.into());
        Ok(())
    }

    /// Enables the controllers in every group above `directory`.
    fn enable(&self, directory: &Path) -> Result<(), Error> {
        let above = above(directory);
        for controller in self.settings.iter().map(|setting| setting.controller) {
            if controller.is_empty() {
                continue;
            }
            for group in &above {
                let file = group.join("cgroup.subtree_control");
                let value = format!("+{controller}");
                let mut written = write(&file, &value);
                let busy = matches!(written, Err(Error::Cgroup { source: Errno::EBUSY, .. }));
                // Where systemd manages the groups, it is not for others to move processes.
                if busy && self.unit.is_none() {
                    // A group that is not the first of all cannot both have processes and hand controllers on: inside of
                    // another container, the processes of the mount's root move aside.
                    move_processes(group)?;
                    written = write(&file, &value);
                }
                match written {
                    // The controller is not there; which setting needs it is said by who writes it.
                    Err(Error::Cgroup { source: Errno::ENOENT | Errno::EINVAL, .. }) => break,
                    // It is not for this process to hand it down, as with an ordinary user.
                    Err(Error::Cgroup {
                        source: Errno::EACCES | Errno::EPERM | Errno::EBUSY,
                        ..
                    }) if self.unit.is_some() => break,
                    written => written?,
                }
            }
        }
        Ok(())
    }

    /// Makes the version 1 groups, with their limits.
    pub(super) fn make_v1(&mut self) -> Result<(), Error> {
        if self.version != CgroupVersion::V1 {
            return Ok(());
        }
        for controller in self.controllers() {
            let hierarchy = Path::new(MOUNT_POINT).join(controller);
            let settings = || self.settings.iter().filter(|s| s.controller == controller);
            if !hierarchy.exists() {
                let rules = Setting::new("devices", "devices.allow", String::new());
                return Err(missing(settings().next().unwrap_or(&rules)));
            }
            let directory = hierarchy.join(&self.path);
            // systemd has made some of them, for the controllers that it knows.
            let there = self.unit.is_some() && directory.exists();
            match if there { Ok(()) } else { make(&directory) } {
                // Nothing asks for this group: without it, the container is where its caller is.
                Err(Error::Cgroup {
                    source: Errno::EROFS | Errno::EACCES | Errno::EPERM, ..
                }) if settings().next().is_none()
                    && (controller != "devices" || self.devices.is_empty()) =>
                {
                    continue;
                }
                made => made?,
            }
            self.made.push(directory.clone());
            if controller == "cpuset" {
                inherit_cpuset(&hierarchy, &directory)?;
            }
            for setting in settings() {
                match apply(&directory, setting) {
                    Err(Error::Cgroup { source: Errno::ENOENT, .. }) if setting.optional => {}
                    Err(Error::Cgroup { source: Errno::ENOENT, .. }) => {
                        return Err(missing(setting));
                    }
                    written => written?,
                }
            }
            if controller == "devices" && !self.devices.is_empty() {
                for (file, value) in devices::v1_lines(&self.devices)? {
                    write(&directory.join(file), &value)?;
                }
            }
        }
        Ok(())
    }

    /// Opens the version 1 groups for the child to join.
    ///
    /// A thread that writes `0` moves itself, for which the kernel need not hold every other thread of the machine from
    /// forking and ending (`cgroup_threadgroup_rwsem`): waiting until it may do that takes milliseconds, longer than all
    /// the rest. The privilege that counts is that of who opened the file.
    pub(super) fn open_v1(&self) -> Result<Vec<OwnedFd>, Error> {
        if self.version != CgroupVersion::V1 {
            return Ok(Vec::new());
        }
        let open = |directory: &PathBuf| {
            let path = members(directory);
            let file = fs::OpenOptions::new().write(true).open(&path);
            file.map(OwnedFd::from).map_err(|error| failed("open", &path, &error))
        };
        self.made.iter().map(open).collect()
    }

    /// Removes the groups. The kernel refuses while tasks are in them, so what a container without a PID namespace of its own
    /// has left running is killed.
    pub(super) fn delete(&mut self) -> Result<(), Error> {
        self.directory = None;
        let mut result = self.unit.take().map_or(Ok(()), |unit| unit.stop());
        for directory in std::mem::take(&mut self.made) {
            result = result.and(remove(&directory));
        }
        result
    }
}

/// The version 1 controllers that are mounted, one a hierarchy.
fn mounted_v1_controllers() -> Vec<&'static str> {
    let mut hierarchies = BTreeSet::new();
    let mounted = |name: &&str| {
        let hierarchy = Path::new(MOUNT_POINT).join(name);
        // Controllers can share a hierarchy, as `cpu,cpuacct` often do, by links to the same directory.
        hierarchy.join("tasks").exists()
            && hierarchy.canonicalize().is_ok_and(|real| hierarchies.insert(real))
    };
    V1_CONTROLLERS.into_iter().chain(["cpuacct"]).filter(mounted).collect()
}

fn path(bundle: &Bundle, linux: Option<&Linux>, options: &Options) -> Result<PathBuf, Error> {
    let invalid = |reason: &str| Error::Invalid {
        field: "linux.cgroupsPath".to_owned(),
        reason: reason.to_owned(),
    };
    let parent = options.cgroup_parent.clone().unwrap_or_else(|| PathBuf::from(PARENT));
    let path = match linux.and_then(|linux| linux.cgroups_path.as_deref()) {
        None | Some("") => parent.join(&bundle.id),
        Some(path) if path.contains(':') => {
            return Err(invalid(
                "it is systemd's `slice:prefix:name`, which needs --systemd-cgroup",
            ));
        }
        Some(path) if path.starts_with('/') => PathBuf::from(path),
        Some(path) => parent.join(path),
    };
    let mut relative = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::Normal(name) => relative.push(name),
            std::path::Component::RootDir | std::path::Component::CurDir => {}
            _ => return Err(invalid("it has `..`")),
        }
    }
    if relative.as_os_str().is_empty() {
        return Err(invalid("it is the root of the hierarchy"));
    }
    Ok(relative)
}

pub(super) fn missing(setting: &Setting) -> Error {
    let hint = match setting.controller {
        "memory" => " (some boards need `cgroup_enable=memory` on the kernel's command line)",
        _ => "",
    };
    Error::Controller {
        controller: setting.controller.to_owned(),
        setting: setting.file.clone(),
        hint,
    }
}
