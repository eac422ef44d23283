//! The mounts beside the root.

use std::ffi::CString;
use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::{self, Mode};

use super::destination::{guard, relative};
use super::{Idmap, c_string};
use crate::oci::runtime_spec::{Mount, Spec};
use crate::runtime::error::Error;
use crate::runtime::host;
use crate::runtime::idmap::{self, IdMap};
use crate::runtime::mount_options::MountOptions;
use crate::runtime::process::{Bundle, Options};
use crate::sys::clone::{self, Namespaces};
use crate::sys::fs::{PATH_DIRECTORY, open_within};
use crate::sys::mount::{self, Attributes, Change, FsContext, Propagation};

/// One mount.
#[derive(Debug)]
pub(in crate::runtime) struct PlannedMount {
    /// Relative to the root.
    pub destination: CString,
    pub source: Source,
    /// What it is called in messages.
    name: String,
    pub propagation: Vec<(Propagation, bool)>,
    pub idmap: Option<Idmap>,
    /// Whether the way there may not lead over symbolic links: for `/proc` and `/sys`, where an image's link could make
    /// every later safeguard be written to a file of its own (CVE-2019-19921).
    pub strict: bool,
    /// Whether it may be on proc or sysfs.
    pub on_pseudo: bool,
    /// Whether it begins with what the directory had before.
    pub copy_up: bool,
}

/// What is mounted.
#[derive(Debug)]
pub(in crate::runtime) enum Source {
    /// The groups that the container is in, of whatever version.
    Cgroup { attributes: Attributes },
    /// Something that the parent has mounted already.
    Detached { mount: OwnedFd, path: PathBuf, directory: bool },
    /// What is there already, with other attributes.
    Remount(Change),
    /// A new filesystem of the container's own.
    Filesystem { kind: CString, options: Vec<(CString, Option<CString>)>, attributes: Attributes },
}

impl PlannedMount {
    pub(in crate::runtime) fn destination(&self) -> String {
        format!("/{}", self.destination.to_string_lossy())
    }
}

impl fmt::Display for PlannedMount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` on `{}`", self.name, self.destination())
    }
}

/// Filesystems whose files have labels of the kernel's own choosing.
const UNLABELLED: [&str; 3] = ["mqueue", "proc", "sysfs"];

/// The label that new filesystems are mounted with.
fn label(spec: &Spec) -> Result<Option<&str>, Error> {
    let label = spec.linux.as_ref().and_then(|linux| linux.mount_label.as_deref());
    match label.filter(|label| !label.is_empty()) {
        Some(_) if !host::has_selinux() => Err(Error::Invalid {
            field: "linux.mountLabel".to_owned(),
            reason: "SELinux is off on this machine".to_owned(),
        }),
        label => Ok(label),
    }
}

/// Plans the mounts, and opens those of the host.
pub(super) fn plan(
    bundle: &Bundle,
    spec: &Spec,
    owned: Namespaces,
    ids: Option<&IdMap>,
    options: &Options,
) -> Result<Vec<PlannedMount>, Error> {
    let label = label(spec)?;
    let root = spec.linux.as_ref().and_then(|linux| linux.rootfs_propagation.as_deref());
    let shared_root = matches!(root, Some("shared" | "rshared"));
    let planner = Planner { bundle, owned, ids, label, options, shared_root };
    let own_dev = Mount::of("tmpfs", "/dev", &["nosuid", "strictatime", "mode=755", "size=65536k"]);
    let mut mounts = Vec::with_capacity(spec.mounts.len() + 1);
    if !spec.mounts.iter().any(|mount| mount.destination.trim_end_matches('/') == "/dev") {
        // Devices never go onto the image's own /dev, which can be anything (CVE-2026-41579).
        mounts.push(planner.mount("/dev", &own_dev)?);
    }
    for (index, mount) in spec.mounts.iter().enumerate() {
        mounts.push(planner.mount(&format!("mounts[{index}]"), mount)?);
    }
    Ok(mounts)
}

struct Planner<'a> {
    bundle: &'a Bundle,
    /// The kinds of namespaces that the container's root has power over.
    owned: Namespaces,
    ids: Option<&'a IdMap>,
    /// The SELinux label of what is in new filesystems.
    label: Option<&'a str>,
    options: &'a Options,
    /// Whether mount events pass between the container's root and the host.
    shared_root: bool,
}

impl Planner<'_> {
    fn mount(&self, field: &str, mount: &Mount) -> Result<PlannedMount, Error> {
        let destination = relative(&format!("{field}.destination"), &mount.destination)?;
        let options = MountOptions::parse(&mount.options)
            .map_err(|option| unsupported(format!("{field}.options `{option}`")))?;
        let kind = mount.kind.as_deref().unwrap_or("none");
        let mut idmap = None;
        if options.copy_up && kind != "tmpfs" {
            return Err(unsupported(format!("{field}.options `tmpcopyup` of `{kind}`")));
        }
        let made = self.options.mounts.iter().find(|(place, _)| *place == mount.destination);
        let source = match (options.bind, self.host_instance(kind)) {
            _ if made.is_some() => self.made(made, &mount.destination)?,
            _ if options.remount => {
                let (set, clear) = (options.set, options.clear);
                Source::Remount(Change { set, clear, ..Change::default() })
            }
            (Some(recursive), _) => {
                let source = mount.source.as_deref().unwrap_or_default();
                let path = self.bundle.directory.join(source);
                let source = self.bind(&path, recursive, &options)?;
                match (&source, self.own_mapping(field, mount)?) {
                    (Source::Detached { mount, .. }, Some(namespace)) => {
                        let all = options.idmap == Some(true);
                        mount::idmap(mount.as_fd(), namespace.as_fd(), all)
                            .map_err(|source| Error::Idmap { path, source })?;
                    }
                    _ => idmap = self.idmap(field, &options, recursive)?,
                }
                source
            }
            _ if !(mount.uid_mappings.is_empty() && mount.gid_mappings.is_empty()) => {
                return Err(unsupported(format!("{field}.uidMappings of a new filesystem")));
            }
            _ if options.idmap.is_some() => {
                return Err(unsupported(format!("{field}.options `idmap` of a new filesystem")));
            }
            (None, Some(path)) => {
                // All of what it has below it is as the top is.
                let all = MountOptions { set_recursive: options.set, ..options.clone() };
                self.bind(Path::new(path), true, &all)?
            }
            (None, None) if matches!(kind, "cgroup" | "cgroup2") => {
                Source::Cgroup { attributes: options.set }
            }
            (None, None) if destination.as_c_str() == c"dev" && kind == "tmpfs" => {
                self.dev(field, mount, &options)?
            }
            (None, None) => Source::Filesystem {
                kind: c_string(field, kind)?,
                options: self.data(field, kind, mount, &options)?,
                attributes: options.set,
            },
        };
        let (strict, on_pseudo) = guard(&destination, kind, &source)?;
        let name = if options.bind.is_some() { mount.source.as_deref() } else { None };
        Ok(PlannedMount {
            name: name.unwrap_or(kind).to_owned(),
            destination,
            source,
            propagation: options.propagation,
            idmap,
            strict,
            on_pseudo,
            copy_up: options.copy_up,
        })
    }

    /// Filesystems that show a namespace can only be mounted by who owns that namespace: of a host's namespace, a
    /// container with a user namespace can only be shown the host's instance.
    fn host_instance(&self, kind: &str) -> Option<&'static str> {
        self.ids?;
        match kind {
            "mqueue" if self.owned & clone::NEWIPC == 0 => Some("/dev/mqueue"),
            "proc" if self.owned & clone::NEWPID == 0 => Some("/proc"),
            "sysfs" if self.owned & clone::NEWNET == 0 => Some("/sys"),
            _ => None,
        }
    }

    /// The user namespace that maps the owners of this mount alone.
    fn own_mapping(&self, field: &str, mount: &Mount) -> Result<Option<File>, Error> {
        let (uids, gids) = (&mount.uid_mappings, &mount.gid_mappings);
        if uids.is_empty() && gids.is_empty() {
            return Ok(None);
        }
        idmap::mount_namespace(field, uids, gids).map(Some)
    }

    /// How the owners are mapped by the container's own user namespace.
    fn idmap(
        &self,
        field: &str,
        options: &MountOptions,
        recursive: bool,
    ) -> Result<Option<Idmap>, Error> {
        match (options.idmap, self.ids) {
            (Some(_), None) => Err(Error::Invalid {
                field: format!("{field}.options"),
                reason: "`idmap` needs mappings, or a user namespace to take them from".to_owned(),
            }),
            (_, None) => Ok(None),
            (_, Some(ids)) if ids.is_identity() => Ok(None),
            (Some(recursive), _) => Ok(Some(Idmap { recursive, optional: false })),
            (None, _) => {
                let optional = Idmap { recursive, optional: true };
                Ok(self.options.idmap_binds.then_some(optional))
            }
        }
    }

    /// What the caller has mounted itself.
    fn made(&self, made: Option<&(String, OwnedFd)>, destination: &str) -> Result<Source, Error> {
        let error =
            |source| Error::Path { action: "hold", path: PathBuf::from(destination), source };
        let copy = made.map(|(_, mount)| mount.try_clone()).transpose();
        let mount = copy.ok().flatten().ok_or_else(|| error(Errno::EMFILE))?;
        Ok(Source::Detached { mount, path: PathBuf::from(destination), directory: true })
    }

    fn bind(&self, path: &Path, recursive: bool, options: &MountOptions) -> Result<Source, Error> {
        let error = |action, source| Error::Path { action, path: path.to_owned(), source };
        let name = path.to_string_lossy();
        let name = CString::new(name.as_bytes()).map_err(|_| error("open", Errno::EINVAL))?;
        let clone = match self.confined(path).map_err(|source| error("open", source))? {
            Some(found) => mount::open_tree_clone(found.as_fd(), c"", recursive),
            None => mount::open_tree_clone(AT_FDCWD, &name, recursive),
        };
        let clone = clone.map_err(|source| error("open", source))?;
        let status = stat::fstat(&clone).map_err(|source| error("open", source))?;
        let (set, clear) = (options.set_recursive, options.clear_recursive);
        let all = Change { set, clear, recursive: true, propagation: self.events(options) };
        let top = Change { set: options.set, clear: options.clear, ..Change::default() };
        for change in [all, top] {
            if change != Change::default() {
                change.apply(clone.as_fd()).map_err(|source| error("set options of", source))?;
            }
        }
        let directory = status.st_mode & libc::S_IFMT == libc::S_IFDIR;
        Ok(Source::Detached { mount: clone, path: path.to_owned(), directory })
    }

    /// What a new filesystem is told, the label of its files included.
    fn data(
        &self,
        field: &str,
        kind: &str,
        mount: &Mount,
        options: &MountOptions,
    ) -> Result<Vec<(CString, Option<CString>)>, Error> {
        let mut data = data(field, mount, options)?;
        let labelled = || data.iter().any(|(key, _)| key.as_c_str() == c"context");
        if let Some(label) = self.label.filter(|_| !UNLABELLED.contains(&kind) && !labelled()) {
            data.push((c"context".to_owned(), Some(c_string("linux.mountLabel", label)?)));
        }
        Ok(data)
    }

    /// What is at `path`, if it is below a folder whose content others may change.
    fn confined(&self, path: &Path) -> Result<Option<OwnedFd>, Errno> {
        let below = |folder: &PathBuf| Some((folder.clone(), path.strip_prefix(folder).ok()?));
        let Some((folder, rest)) = self.options.confined.iter().find_map(below) else {
            return Ok(None);
        };
        if rest.as_os_str().is_empty() {
            return Ok(None);
        }
        let folder = openat(AT_FDCWD, &folder, PATH_DIRECTORY, Mode::empty())?;
        open_within(folder.as_fd(), rest.as_os_str().as_bytes(), OFlag::O_PATH).map(Some)
    }

    /// How a copy of the host's mounts hears of those that come and go there: not at all, unless it is to be a slave, or
    /// shared, which it is with the host only if the whole root is and no user namespace lies between.
    fn events(&self, options: &MountOptions) -> Propagation {
        let last = options.propagation.last().map(|(kind, _)| *kind);
        match last {
            Some(mount::SHARED) if self.shared_root && self.ids.is_none() => 0,
            Some(mount::SHARED | mount::SLAVE) => mount::SLAVE,
            _ => mount::PRIVATE,
        }
    }

    /// The filesystem for `/dev`, made by the parent: device nodes do not work on what a user namespace has mounted, and
    /// one filesystem with nodes is less to make and to tear down than a bind mount for each.
    fn dev(&self, field: &str, mount: &Mount, options: &MountOptions) -> Result<Source, Error> {
        let path = PathBuf::from("/dev");
        let error =
            |source| Error::Path { action: "make a filesystem for", path: path.clone(), source };
        let context = FsContext::open(c"tmpfs").map_err(error)?;
        let mut data = self.data(field, "tmpfs", mount, options)?;
        if let Some(ids) = self.ids {
            for (key, id) in [(c"uid", ids.host_uid(0)), (c"gid", ids.host_gid(0))] {
                let id = id.unwrap_or_default().to_string();
                data.push((key.to_owned(), Some(c_string(field, &id)?)));
            }
        }
        configure(&context, &data).map_err(error)?;
        let mount = context.mount(options.set).map_err(error)?;
        Ok(Source::Detached { mount, path, directory: true })
    }
}

fn unsupported(field: String) -> Error {
    Error::Unsupported { field }
}

/// Tells a filesystem its options.
pub(in crate::runtime) fn configure(
    context: &FsContext,
    options: &[(CString, Option<CString>)],
) -> Result<(), Errno> {
    options.iter().try_for_each(|(key, value)| match value {
        Some(value) => context.set_string(key, value),
        None => context.set_flag(key),
    })
}

fn data(
    field: &str,
    mount: &Mount,
    options: &MountOptions,
) -> Result<Vec<(CString, Option<CString>)>, Error> {
    let mut data = Vec::with_capacity(options.data.len() + 1);
    if let Some(source) = mount.source.as_deref().filter(|source| !source.is_empty()) {
        data.push((c"source".to_owned(), Some(c_string(field, source)?)));
    }
    for option in &options.data {
        data.push(match option.split_once('=') {
            Some((key, value)) => (c_string(field, key)?, Some(c_string(field, value)?)),
            None => (c_string(field, option)?, None),
        });
    }
    Ok(data)
}
