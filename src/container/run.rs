//! `run`: a container from its creation to its end, watched by the process that made it.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::Path;

use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::Uid;

use super::attach::{self, Signals};
use super::ids::{self, IdRange};
use super::options::{Network, RootSource, RunOptions, UserNamespace};
use super::record::{Containers, Record, boot_id, new_id, now};
use super::spec::{self, CallerEnvironment, Request, TTY_GROUP};
use super::user::UserDatabase;
use super::{Error, files, streams};
use crate::oci::runtime_spec::{ConsoleSize, Rlimit, Spec};
use crate::runtime::defaults;
use crate::runtime::rootless::has_group;
use crate::runtime::{self, Bundle, ExitStatus, Stdio};
use crate::store::Store;

/// Runs a container in the foreground until it ends, and says its exit code.
///
/// `warn` is told what is weaker than it should be because the machine cannot do better.
pub fn run(
    containers: &Containers,
    store: &Store,
    options: &RunOptions,
    warn: &mut dyn FnMut(&str),
) -> Result<u8, Error> {
    let id = new_id()?;
    let name = containers.create(&id, options.name.as_deref())?;
    let mut record = Record {
        id,
        name,
        image: image_name(options),
        image_id: image_id(options),
        command: Vec::new(),
        created: now(),
        boot: boot_id(),
        ids: None,
        finished: None,
    };
    let mut run = Run { containers, store, options, record: &mut record, warn };
    let ended = run.start_and_wait();
    match ended {
        Ok(status) => {
            let code = status.code();
            finish(containers, &mut record, options.remove, code)?;
            Ok(code)
        }
        Err(error) => {
            // A container that never ran leaves nothing behind; that is worth less than the error itself.
            let _ = containers.remove(&record);
            Err(error)
        }
    }
}

fn image_name(options: &RunOptions) -> String {
    match &options.root {
        RootSource::Folder(folder) => folder.display().to_string(),
        RootSource::Image { name, .. } => name.clone(),
    }
}

fn image_id(options: &RunOptions) -> Option<crate::oci::digest::ImageId> {
    match &options.root {
        RootSource::Folder(_) => None,
        RootSource::Image { id, .. } => Some(id.clone()),
    }
}

fn finish(
    containers: &Containers,
    record: &mut Record,
    remove: bool,
    code: u8,
) -> Result<(), Error> {
    ids::release(containers.run_folder(), &record.id, record.ids.take());
    let done =
        if remove { containers.remove(record) } else { containers.set_finished(record, code) };
    match done {
        // `rm -f` was faster.
        Err(_) if !containers.folder(&record.id).exists() => Ok(()),
        done => done,
    }
}

struct Run<'a> {
    containers: &'a Containers,
    store: &'a Store,
    options: &'a RunOptions,
    record: &'a mut Record,
    warn: &'a mut dyn FnMut(&str),
}

impl Run<'_> {
    fn start_and_wait(&mut self) -> Result<ExitStatus, Error> {
        let folder = self.containers.folder(&self.record.id);
        let hostname = spec::hostname(self.options, &self.record.id);
        files::write(&folder, &hostname, self.options.network == Network::Host)?;
        if let RootSource::Image { tree, .. } = &self.options.root {
            self.containers.create_layer(&self.record.id, tree)?;
        }
        let spec = self.specify(&folder)?;
        self.write_down(&folder, &spec)?;
        let signals = Signals::new()?;
        let (stdio, relays) = if self.options.terminal {
            (Stdio::Inherit, Vec::new())
        } else {
            let streams = streams::open(self.owner(&spec), self.options.interactive)?;
            (Stdio::Descriptors(streams.inner), streams.relays)
        };
        // The program ends with this process, which is the only one that would know how it ended.
        let options = runtime::Options {
            stdio,
            idmap_binds: true,
            die_with_parent: true,
            ..runtime::Options::default()
        };
        let mut process = runtime::run(&self.bundle(&folder), &spec, options)?;
        for warning in process.warnings() {
            (self.warn)(&warning.to_string());
        }
        self.containers.set_running(&self.record.id, process.pid().as_raw())?;
        let console = process.take_console();
        let interactive = self.options.interactive;
        let status = attach::attach(&mut process, &signals, console, relays, interactive);
        process.delete()?;
        status
    }

    /// The user of the program as the host sees it.
    fn owner(&self, spec: &Spec) -> Uid {
        let uid = spec.process.as_ref().map_or(0, |process| process.user.uid);
        let first = self.record.ids.map_or(0, |ids| ids.first);
        Uid::from_raw(first.saturating_add(uid))
    }

    fn specify(&mut self, folder: &Path) -> Result<Spec, Error> {
        let options = self.options;
        let wanted = match (&options.user, &options.root) {
            (Some(user), _) => user.as_str(),
            (None, RootSource::Image { config, .. }) => config.user.as_str(),
            (None, RootSource::Folder(_)) => "",
        };
        let path = self.root_folder();
        let root = File::open(path).map_err(|source| Error::Io {
            verb: "open",
            path: path.to_owned(),
            source,
        })?;
        let mut user = UserDatabase::read(root.as_fd())?.resolve(wanted)?;
        self.record.ids = self.claim_ids()?;
        if self.record.ids.is_none() {
            // Groups that an ordinary user has not got.
            user.additional_gids.retain(|gid| has_group(*gid));
        }
        let spec = spec::build(&Request {
            options,
            id: &self.record.id,
            folder,
            user: &user,
            ids: self.record.ids,
            caller: &Environment,
            window: attach::user_window()
                .filter(|_| options.terminal)
                .map(|(height, width)| ConsoleSize { height, width }),
            rlimits: rlimits(),
            machine_root: runtime::rootless::has_all_ids(),
            has_tty_group: self.record.ids.is_some() || has_group(TTY_GROUP),
        })?;
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
        let root = self.root_folder();
        if !root.is_dir() {
            let source = std::io::Error::from_raw_os_error(libc::ENOENT);
            return Err(Error::Io { verb: "open", path: root.to_owned(), source });
        }
        Ok(())
    }

    fn bundle(&self, folder: &Path) -> Bundle {
        let root = match &self.options.root {
            RootSource::Folder(_) => runtime::Root::Directory,
            RootSource::Image { .. } if self.options.read_only => runtime::Root::Directory,
            RootSource::Image { tree, .. } => runtime::Root::Overlay {
                lower: tree.clone(),
                layer: folder.to_owned(),
                volatile: self.options.remove,
            },
        };
        Bundle { id: self.record.id.clone(), directory: folder.to_owned(), root }
    }
}

/// The environment of the `mydocker` process.
#[derive(Debug)]
struct Environment;

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
