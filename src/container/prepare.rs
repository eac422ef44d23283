//! From a user's options to a container that can be started: its folder, its record, its specification.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::Path;

use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::Pid;

use super::ids::{self, IdRange};
use super::namespaces::{Joins, Opened};
use super::options::{Network, RootSource, RunOptions, UserNamespace};
use super::record::{Containers, Record, boot_id, new_id, now_with_nanos};
use super::spec::{self, CallerEnvironment, Request, TTY_GROUP};
use super::user::UserDatabase;
use super::{Error, attach, files, health, keep_groups, namespaces, settings, volume};
use crate::oci::digest::ImageId;
use crate::oci::image_config::ContainerConfig;
use crate::oci::runtime_spec::linux::NamespaceKind;
use crate::oci::runtime_spec::{ConsoleSize, Rlimit, Spec};
use crate::runtime::defaults;
use crate::runtime::rootless::has_group;
use crate::runtime::{self, Bundle};
use crate::store::Store;
use crate::sys::caps::capget_permitted;

/// Makes a container that waits to be started.
pub fn create(
    containers: &Containers,
    store: &Store,
    options: &RunOptions,
) -> Result<Record, Error> {
    let (record, _) = prepare(containers, store, options, false)?;
    ids::release(containers.run_folder(), &record.id, record.ids);
    containers.modify(&record.id, |record| record.ids = None)
}

/// Makes a container, and claims its ids; `started` if it is about to be started by this very process.
pub(super) fn prepare(
    containers: &Containers,
    store: &Store,
    options: &RunOptions,
    started: bool,
) -> Result<(Record, Spec), Error> {
    let id = new_id()?;
    let name = containers.create(&id, options.name.as_deref())?;
    let (created, created_nanos) = now_with_nanos();
    let mut record = Record {
        id,
        name,
        image: image_name(options),
        image_id: image_id(options),
        command: Vec::new(),
        created,
        created_nanos,
        boot: boot_id().to_owned(),
        ids: None,
        joins: Vec::new(),
        started: started.then_some(created),
        finished: None,
        labels: options.labels.clone(),
        mounts: Vec::new(),
        settings: options.settings.clone(),
        restarts: 0,
        stopped: false,
        shut_down: false,
        again: false,
        restarting: false,
        error: None,
    };
    let prepared = image_config(options, &mut record)
        .and_then(|()| Preparation { containers, store, options, record: &mut record }.specify());
    match prepared {
        Ok(spec) => {
            containers.tell(&record, "create", &[]);
            Ok((record, spec))
        }
        Err(error) => {
            // A container that never was leaves nothing behind; that is worth less than the error itself.
            let _ = containers.remove_with_volumes(&record);
            Err(match &options.root {
                // Whatever in it was missed first; or it has come back meanwhile.
                RootSource::Image { name, tree, .. }
                    if !tree.is_dir()
                        || matches!(&error, Error::Io { path, .. } if path == tree) =>
                {
                    Error::ImageRemoved(name.clone())
                }
                _ => error,
            })
        }
    }
}

fn image_name(options: &RunOptions) -> String {
    match &options.root {
        RootSource::Folder(folder) => folder.display().to_string(),
        RootSource::Image { name, .. } => name.clone(),
    }
}

fn image_id(options: &RunOptions) -> Option<ImageId> {
    match &options.root {
        RootSource::Folder(_) => None,
        RootSource::Image { id, .. } => Some(id.clone()),
    }
}

fn config(options: &RunOptions) -> Option<&ContainerConfig> {
    match &options.root {
        RootSource::Folder(_) => None,
        RootSource::Image { config, .. } => Some(config),
    }
}

/// What the image says about its containers' records, where the user does not.
fn image_config(options: &RunOptions, record: &mut Record) -> Result<(), Error> {
    let Some(config) = config(options) else { return Ok(()) };
    for (name, value) in &config.labels {
        record.labels.entry(name.clone()).or_insert_with(|| value.clone());
    }
    if record.settings.stop_signal.is_none() {
        let signal = config.stop_signal.as_deref().filter(|signal| !signal.is_empty());
        record.settings.stop_signal = signal.map(settings::parse_signal).transpose()?;
    }
    let user = record.settings.health.take();
    record.settings.health = health::merge(user, config.healthcheck.as_ref());
    Ok(())
}

struct Preparation<'a> {
    containers: &'a Containers,
    store: &'a Store,
    options: &'a RunOptions,
    record: &'a mut Record,
}

impl Preparation<'_> {
    fn specify(&mut self) -> Result<Spec, Error> {
        let folder = self.containers.folder(&self.record.id);
        let options = self.options;
        let joins = Joins::find(self.containers, options);
        let joins = joins.map_err(|error| Error::Join(error.into()))?;
        self.record.joins = joins.list.iter().chain(&joins.users).cloned().collect();
        let hostname = spec::hostname(options, &joins, &self.record.id);
        match &joins.network {
            Some(other) => files::share(&self.containers.folder(&other.id), &folder)?,
            None => {
                let host = options.network == Network::Host;
                files::write(&folder, &hostname, host, &options.adjust)?;
            }
        }
        options.tuning.write(&folder)?;
        if let RootSource::Image { tree, .. } = &self.options.root {
            self.containers.create_layer(&self.record.id, tree)?;
        }
        // Until the record tells who has them, volumes are held.
        let _holds = self.mount()?;
        let spec = self.build(&folder, &joins)?;
        if let Some(path) = &self.options.cidfile {
            write_id(path, &self.record.id)?;
        }
        self.write_down(&folder, &spec)?;
        Ok(spec)
    }

    /// Finds or makes what is to be mounted.
    fn mount(&mut self) -> Result<volume::Holds, Error> {
        let options = self.options;
        let (tree, image_volumes) = match &options.root {
            RootSource::Folder(_) => (None, Vec::new()),
            RootSource::Image { config, tree, .. } => {
                (Some(tree.as_path()), config.volumes.keys().map(String::as_str).collect())
            }
        };
        let taken = options.adjust.tmpfs.iter().map(|tmpfs| tmpfs.destination().to_owned());
        let resolution = volume::Resolution {
            containers: self.containers,
            requests: &options.mounts,
            image_volumes,
            taken: taken.collect(),
            tree,
            flush: self.store.syncs(),
        };
        volume::resolve(&resolution, &mut self.record.mounts)
    }

    fn build(&mut self, folder: &Path, joins: &Joins) -> Result<Spec, Error> {
        let options = self.options;
        let image = config(options).map_or("", |config| config.user.as_str());
        let wanted = options.user.as_deref().unwrap_or(image);
        let path = self.root_folder();
        let root = File::open(path).map_err(|source| Error::Io {
            verb: "open",
            path: path.to_owned(),
            source,
        })?;
        let database = UserDatabase::read(root.as_fd())?;
        let mut user = database.resolve(wanted)?;
        self.record.settings.keep_groups = keep_groups::asked_for(&options.adjust.group_add)?;
        if !self.record.settings.keep_groups {
            for group in &options.adjust.group_add {
                user.additional_gids.push(database.group(group)?);
            }
        }
        let joins_users = joins.of(NamespaceKind::User);
        self.record.ids = if joins_users { None } else { self.claim_ids()? };
        let has_ids = self.record.ids.is_some() || joins_users;
        if !has_ids {
            // Groups that an ordinary user has not got.
            user.additional_gids.retain(|gid| has_group(*gid));
        }
        let devices = options.devices.open(options.security.privileged)?;
        let identities = volume::Identities {
            uid: user.uid,
            gid: user.gid,
            ids: self.record.ids,
            machine_root: runtime::rootless::has_all_ids(),
        };
        let mounts = self.record.mounts.iter().map(|mount| mount.mount(&identities));
        let mounts = mounts.collect::<Result<Vec<_>, _>>()?;
        let spec = spec::build(&Request {
            options,
            id: &self.record.id,
            folder,
            user: &user,
            devices: &devices,
            ids: self.record.ids,
            joins,
            mounts: &mounts,
            caller: &Environment,
            window: attach::user_window()
                .filter(|_| options.terminal)
                .map(|(height, width)| ConsoleSize { height, width }),
            rlimits: rlimits(),
            own_capabilities: capget_permitted().unwrap_or_default(),
            machine_root: runtime::rootless::has_all_ids(),
            has_tty_group: has_ids || has_group(TTY_GROUP),
        })?;
        volume::check_images(&self.record.mounts, &spec)?;
        if let Some(process) = &spec.process {
            self.record.command.clone_from(&process.args);
        }
        Ok(spec)
    }

    fn root_folder(&self) -> &Path {
        match &self.options.root {
            RootSource::Folder(folder) => folder,
            RootSource::Image { tree, .. } => tree,
        }
    }

    /// A range of ids, unless the user wants none or this process is itself in a user namespace without any to give.
    fn claim_ids(&mut self) -> Result<Option<IdRange>, Error> {
        if self.options.user_namespace == UserNamespace::Host {
            return Ok(None);
        }
        if !runtime::rootless::has_all_ids() {
            log::debug!("in a user namespace already, with no ids to give: making no other one");
            return Ok(None);
        }
        ids::claim(self.containers.run_folder(), &self.record.id).map(Some)
    }

    /// Writes down the container, and that it stands on its image, at a moment when nobody removes images.
    fn write_down(&self, folder: &Path, spec: &Spec) -> Result<(), Error> {
        let path = folder.join("config.json");
        let bytes = serde_json::to_vec(spec)
            .map_err(|source| Error::Record { path: path.clone(), source })?;
        std::fs::write(&path, bytes).map_err(|source| Error::Io { verb: "write", path, source })?;
        let _lock = self.store.lock_shared()?;
        self.containers.write(self.record)?;
        check_root(spec)
    }
}

/// Writes the id to a file of the user's; one that is there may be that of a container that still runs.
fn write_id(path: &Path, id: &str) -> Result<(), Error> {
    let written = File::create_new(path).and_then(|mut file| file.write_all(id.as_bytes()));
    written.map_err(|source| Error::Io { verb: "create", path: path.to_owned(), source })
}

/// Writes the number of the container's first process to the file that the user has named, if any.
pub(super) fn write_pid(record: &Record, pid: Pid) -> Result<(), Error> {
    let Some(path) = &record.settings.pid_file else { return Ok(()) };
    let written = std::fs::write(path, pid.to_string());
    written.map_err(|source| Error::Io { verb: "write", path: path.clone(), source })
}

/// Whether a container has a user namespace, and so users of its own.
pub(super) fn has_own_users(spec: &Spec) -> bool {
    spec.linux.as_ref().is_some_and(|linux| linux.namespace(NamespaceKind::User).is_some())
}

/// Whether the root filesystem is there, which images can lose.
pub(super) fn check_root(spec: &Spec) -> Result<(), Error> {
    let root = spec.root.as_ref().map(|root| Path::new(&root.path)).unwrap_or(Path::new(""));
    if root.is_dir() {
        return Ok(());
    }
    let source = std::io::Error::from_raw_os_error(libc::ENOENT);
    Err(Error::Io { verb: "open", path: root.to_owned(), source })
}

/// Opens the namespaces that a container joins, and says so in its specification and its record.
pub(super) fn join(
    containers: &Containers,
    record: &mut Record,
    spec: &mut Spec,
) -> Result<Opened, Error> {
    let opened = namespaces::open(containers, &record.joins);
    let opened = opened.map_err(|error| Error::Join(error.into()))?;
    opened.apply(spec);
    if opened.ids.is_some() {
        *record = containers.modify(&record.id, |record| record.ids = opened.ids)?;
    }
    Ok(opened)
}

/// What the runtime makes the container from.
pub(super) fn bundle(containers: &Containers, record: &Record, spec: &Spec) -> Bundle {
    let folder = containers.folder(&record.id);
    let root = spec.root.as_ref().filter(|root| record.image_id.is_some() && !root.readonly);
    let root = match root {
        None => runtime::Root::Directory,
        Some(root) => runtime::Root::Overlay {
            lower: root.path.clone().into(),
            layer: folder.clone(),
            volatile: false,
        },
    };
    Bundle { id: record.id.clone(), directory: folder, root }
}

/// The environment of the `mydocker` process.
#[derive(Debug)]
pub(super) struct Environment;

impl CallerEnvironment for Environment {
    fn value(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

/// The default limits, as far as this process may go.
fn rlimits() -> Vec<Rlimit> {
    let most = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(_, hard)| hard);
    defaults::rlimits(most)
}
