//! What is written down about a container, where, and how it is found again.
//!
//! ```text
//! ROOT/containers/<id>/        record.json, config.json (runtime-spec), upper/ work/ of its overlay, its /etc files
//! ROOT/containers/.names/NAME  a symlink whose target is the id: making it claims the name, in one system call
//! RUN/<id>                     the process of a running container; a reboot forgets it
//! ```
//!
//! Whether a container runs is never believed from a file alone: its first process must exist and have started at the
//! time that was written down, for process ids are used again.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::Error;
use super::ids::{self, IdRange};
use super::names;
use super::namespaces::Join;
use super::settings::Settings;
use super::status::Finished;
use super::volume::{MountPoint, MountSource};
use crate::oci::digest::ImageId;
use crate::oci::runtime_spec::{MAX_SPEC, Spec};
use crate::sys::random::getrandom;
use crate::sys::remove_tree::remove_tree;

/// Where containers are kept.
#[derive(Clone, Debug)]
pub struct Containers {
    folder: PathBuf,
    run: PathBuf,
}

/// What is written down about a container when it is created, and once more when it ends.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// 64 hexadecimal digits.
    pub id: String,
    /// What users call it.
    pub name: String,
    /// The image's name when the container was created, or the folder given with `--rootfs`.
    pub image: String,
    /// The image's id; absent with `--rootfs`.
    pub image_id: Option<ImageId>,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// When it was created, in seconds since 1970.
    pub created: i64,
    /// The nanoseconds beyond that, which tell containers of one second apart.
    #[serde(default)]
    pub created_nanos: u32,
    /// The boot it was created in (`random(4)`, `boot_id`).
    pub boot: String,
    /// The ids on the host that it has while it runs; none without a user namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<IdRange>,
    /// The containers whose namespaces it is in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub joins: Vec<Join>,
    /// When it was started last, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<i64>,
    /// When and how it ended, if it did.
    pub finished: Option<Finished>,
    /// What the user and the image call it by, for people and for filters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// What the user and the image have had mounted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<MountPoint>,
    /// How it is logged, stopped and started again.
    #[serde(default)]
    pub settings: Settings,
    /// How often it was started again by its policy.
    #[serde(default)]
    pub restarts: u32,
    /// Whether somebody has stopped it, so that its policy does not start it again.
    #[serde(default)]
    pub stopped: bool,
    /// Whether that was the machine, before it was shut down.
    #[serde(default)]
    pub shut_down: bool,
    /// Whether it is to be started again at once when it ends, once.
    #[serde(default)]
    pub again: bool,
    /// Whether it has ended and is about to be started again.
    #[serde(default)]
    pub restarting: bool,
    /// Why it could not be started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Record {
    /// When it was last started, or made, in seconds since 1970.
    pub fn since(&self) -> i64 {
        self.started.unwrap_or(self.created)
    }

    /// The images that it stands on or has mounted.
    pub fn images(&self) -> impl Iterator<Item = &ImageId> {
        let mounted = self.mounts.iter().filter_map(|mount| match &mount.source {
            MountSource::Image { id, .. } => Some(id),
            _ => None,
        });
        self.image_id.iter().chain(mounted)
    }
}

impl Containers {
    /// The containers of the store in `root`, with their processes written down in `run`.
    pub fn open(root: &Path, run: &Path) -> Result<Self, Error> {
        // Those of the store are made with the first container: who only looks may look at a disk that is read-only or full.
        make_all(run)?;
        Ok(Self { folder: root.join("containers"), run: run.to_owned() })
    }

    /// The folder of what a reboot forgets.
    pub fn run_folder(&self) -> &Path {
        &self.run
    }

    /// The store that the containers belong to.
    pub fn root(&self) -> &Path {
        self.folder.parent().unwrap_or(&self.folder)
    }

    /// The folder of one container.
    pub fn folder(&self, id: &str) -> PathBuf {
        self.folder.join(id)
    }

    /// Claims a name, made up if none is given, and makes the container's folder.
    pub fn create(&self, id: &str, name: Option<&str>) -> Result<String, Error> {
        make_all(&self.folder.join(".names"))?;
        let name = match name {
            Some(name) => {
                self.claim(id, name)?;
                name.to_owned()
            }
            None => self.claim_any(id)?,
        };
        make_private(self.folder(id))?;
        Ok(name)
    }

    /// Makes the folders of an overlay on `tree` in the container's folder.
    ///
    /// What the container sees as its root directory is the upper one, so it gets the mode and the owner of the tree's.
    pub fn create_layer(&self, id: &str, tree: &Path) -> Result<(), Error> {
        let failed = |verb, path: &Path, source| Error::Io { verb, path: path.to_owned(), source };
        let root = fs::metadata(tree).map_err(|source| failed("open", tree, source))?;
        let folder = self.folder(id);
        make_private(folder.join("work"))?;
        let upper = folder.join("upper");
        make_private(upper.clone())?;
        if (root.uid(), root.gid()) != (0, 0) {
            let changed = chown(&upper, Some(root.uid()), Some(root.gid()));
            changed.map_err(|source| failed("give away", &upper, source))?;
        }
        let changed = fs::set_permissions(&upper, root.permissions());
        changed.map_err(|source| failed("set the mode of", &upper, source))
    }

    fn claim_any(&self, id: &str) -> Result<String, Error> {
        for attempt in 0.. {
            let name = names::generate(id, attempt);
            match self.claim(id, &name) {
                Err(Error::NameTaken { .. }) => {}
                result => return result.map(|()| name),
            }
        }
        Err(Error::NoSuchContainer(id.to_owned()))
    }

    fn claim(&self, id: &str, name: &str) -> Result<(), Error> {
        names::check(name)?;
        let _lock = self.lock_names()?;
        let path = self.folder.join(".names").join(name);
        let mut made = symlink(id, &path);
        if made.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AlreadyExists) {
            let holder = fs::read_link(&path).unwrap_or_default().display().to_string();
            // A claim whose container is gone was left by a process that was killed between two steps.
            if holder.is_empty() || self.folder(&holder).exists() || self.is_new(&path) {
                let id = holder.chars().take(12).collect();
                return Err(Error::NameTaken { name: name.to_owned(), id });
            }
            made = fs::remove_file(&path).and_then(|()| symlink(id, &path));
        }
        made.map_err(|source| Error::Io { verb: "create", path, source })
    }

    /// Keeps others from claiming and releasing names until the lock is dropped: whose a name is must not change between a
    /// look at it and its removal.
    fn lock_names(&self) -> Result<Flock<fs::File>, Error> {
        lock_folder(&self.folder.join(".names"), FlockArg::LockExclusive)
    }

    fn is_new(&self, path: &Path) -> bool {
        let made = fs::symlink_metadata(path).and_then(|found| found.modified());
        made.is_ok_and(|made| made.elapsed().is_ok_and(|age| age.as_secs() < 10))
    }

    /// Writes the record, as a whole.
    pub fn write(&self, record: &Record) -> Result<(), Error> {
        let path = self.folder(&record.id).join("record.json");
        let bytes = to_json(record, &path)?;
        replace(&path, &bytes)
    }

    /// Changes the record while nobody else does, and returns it.
    pub fn modify(&self, id: &str, change: impl FnOnce(&mut Record)) -> Result<Record, Error> {
        let _lock = self.lock(id, FlockArg::LockExclusive)?;
        let missing = || Error::NoSuchContainer(id.to_owned());
        let mut record = self.read(id)?.ok_or_else(missing)?;
        change(&mut record);
        self.write(&record).map_err(|error| self.or_gone(id, error))?;
        Ok(record)
    }

    /// Why something of a container's could not be done: if it was removed meanwhile, that.
    pub(super) fn or_gone(&self, id: &str, error: Error) -> Error {
        if self.folder(id).exists() { error } else { Error::NoSuchContainer(id.to_owned()) }
    }

    /// Locks the container's folder until the lock is dropped: for changes of its record and its log.
    pub(super) fn lock(&self, id: &str, how: FlockArg) -> Result<Flock<fs::File>, Error> {
        match lock_folder(&self.folder(id), how) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Err(Error::NoSuchContainer(id.to_owned()))
            }
            locked => locked,
        }
    }

    /// Gives the container another name.
    pub fn rename(&self, record: &Record, name: &str) -> Result<(), Error> {
        if record.name == name {
            let value = name.to_owned();
            return Err(Error::Value { what: "new name", value, why: "it is the old one" });
        }
        self.claim(&record.id, name)?;
        let mut old = String::new();
        let renamed = self.modify(&record.id, |record| {
            old = std::mem::replace(&mut record.name, name.to_owned());
        });
        self.release_name(&record.id, if renamed.is_ok() { &old } else { name })?;
        let renamed = renamed?;
        self.tell(&renamed, "rename", &[("oldName", &format!("/{old}"))]);
        Ok(())
    }

    fn release_name(&self, id: &str, name: &str) -> Result<(), Error> {
        let _lock = self.lock_names()?;
        let path = self.folder.join(".names").join(name);
        if fs::read_link(&path).is_ok_and(|holder| holder.as_os_str() == id) {
            fs::remove_file(&path).map_err(|source| Error::Io { verb: "remove", path, source })?;
        }
        Ok(())
    }

    /// Writes down how the container ended.
    pub fn set_finished(&self, id: &str, code: u8, oom_killed: bool) -> Result<(), Error> {
        self.modify(id, |record| {
            record.ids = None;
            record.finished = Some(Finished { code, at: now(), oom_killed });
        })?;
        self.forget_process(id)
    }

    /// All containers, newest first, and those whose records cannot be read: one broken container does not hide the
    /// others.
    pub fn list(&self) -> Result<(Vec<Record>, Vec<Error>), Error> {
        let (mut records, mut broken) = (Vec::new(), Vec::new());
        for id in self.ids()? {
            match self.read(&id) {
                Ok(Some(record)) => records.push(record),
                // Created this instant, or removed meanwhile.
                Ok(None) => {}
                Err(error) => broken.push(error),
            }
        }
        records.sort_by_key(|record| std::cmp::Reverse((record.created, record.created_nanos)));
        Ok((records, broken))
    }

    /// The ids of all containers, with a record or without.
    pub fn ids(&self) -> Result<Vec<String>, Error> {
        let at = |source| Error::Io { verb: "read", path: self.folder.clone(), source };
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(at)?,
        };
        let mut ids = Vec::new();
        for entry in entries {
            let name = entry.map_err(at)?.file_name();
            ids.extend(name.to_str().filter(|name| is_id(name)).map(str::to_owned));
        }
        Ok(ids)
    }

    /// The specification of a container, as it was when it was made.
    pub fn spec(&self, id: &str) -> Result<Spec, Error> {
        let path = self.folder(id).join("config.json");
        let failed = |source| Error::Io { verb: "read", path: path.clone(), source };
        let mut bytes = Vec::new();
        let opened = fs::File::open(&path).map_err(failed);
        let file = opened.map_err(|error| self.or_gone(id, error))?;
        file.take(MAX_SPEC).read_to_end(&mut bytes).map_err(failed)?;
        serde_json::from_slice(&bytes).map_err(|source| Error::Record { path, source })
    }

    /// Whether its program has a terminal.
    pub fn has_terminal(&self, record: &Record) -> Result<bool, Error> {
        Ok(self.spec(&record.id)?.process.is_some_and(|process| process.terminal))
    }

    pub(super) fn read(&self, id: &str) -> Result<Option<Record>, Error> {
        let path = self.folder(id).join("record.json");
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => {
                read.map_err(|source| Error::Io { verb: "read", path: path.clone(), source })?
            }
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|source| Error::Record { path, source })
    }

    /// The container that a user means: a name, an id, or the first digits of one.
    pub fn find(&self, text: &str) -> Result<Record, Error> {
        let missing = || Error::NoSuchContainer(text.chars().take(128).collect());
        if names::check(text).is_err() {
            return Err(missing());
        }
        if let Ok(id) = fs::read_link(self.folder.join(".names").join(text))
            && let Some(id) = id.to_str().filter(|id| is_id(id))
        {
            return self.read(id)?.ok_or_else(missing);
        }
        let mut found = self.ids()?.into_iter().filter(|id| id.starts_with(text));
        match (found.next(), found.next()) {
            (Some(id), None) => self.read(&id)?.ok_or_else(missing),
            (Some(_), Some(_)) => Err(Error::AmbiguousId(text.to_owned())),
            _ => Err(missing()),
        }
    }

    /// Deletes the container's folder. It is first moved to `tmp/`, in one step: of two that remove a container one does,
    /// and one that is killed half-way leaves nothing that looks like a container. Says whether it was this one.
    fn delete_folder(&self, id: &str) -> Result<bool, Error> {
        let (folder, rubbish) = (self.folder(id), self.folder.with_file_name("tmp"));
        match fs::rename(&folder, rubbish.join(id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            moved => moved.map_err(|source| Error::Io {
                verb: "remove",
                path: folder.clone(),
                source,
            })?,
        }
        let parent = fs::File::open(&rubbish).map_err(|source| Error::Io {
            verb: "open",
            path: rubbish,
            source,
        })?;
        match remove_tree(parent.as_fd(), id.as_bytes()) {
            // Whoever sweeps `tmp/` was quicker.
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(true),
            removed => {
                removed.map(|()| true).map_err(|source| Error::Remove { path: folder, source })
            }
        }
    }

    /// Forgets the container: its process, its folder and its name, in this order.
    pub fn remove(&self, record: &Record) -> Result<(), Error> {
        self.forget(record).map(drop)
    }

    /// Forgets a container that others have heard of.
    pub(super) fn destroy(&self, record: &Record) -> Result<(), Error> {
        if self.forget(record)? {
            self.tell(record, "destroy", &[]);
        }
        Ok(())
    }

    fn forget(&self, record: &Record) -> Result<bool, Error> {
        self.forget_process(&record.id)?;
        ids::release(&self.run, &record.id, record.ids);
        let deleted = self.delete_folder(&record.id)?;
        self.release_name(&record.id, &record.name).map(|()| deleted)
    }
}

fn lock_folder(path: &Path, how: FlockArg) -> Result<Flock<fs::File>, Error> {
    let failed = |verb, source| Error::Io { verb, path: path.to_owned(), source };
    let folder = fs::File::open(path).map_err(|source| failed("open", source))?;
    Flock::lock(folder, how).map_err(|(_, errno)| failed("lock", errno.into()))
}

/// A new id: 64 hexadecimal digits, of which any twelve tell containers apart.
pub(super) fn new_id() -> Result<String, Error> {
    let mut bytes = [0_u8; 32];
    getrandom(&mut bytes).map_err(Error::Random)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn is_id(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Seconds since 1970.
pub fn now() -> i64 {
    now_with_nanos().0
}

/// Seconds since 1970, and the nanoseconds beyond that.
pub(super) fn now_with_nanos() -> (i64, u32) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seconds = |now: &Duration| i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    now.map_or((0, 0), |now| (seconds(&now), now.subsec_nanos()))
}

/// What tells this boot of the machine from every other.
pub(super) fn boot_id() -> &'static str {
    static ID: OnceLock<String> = OnceLock::new();
    ID.get_or_init(|| {
        let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        id.trim_end().to_owned()
    })
}

fn make_all(folder: &Path) -> Result<(), Error> {
    let made = fs::DirBuilder::new().mode(0o700).recursive(true).create(folder);
    made.map_err(|source| Error::Io { verb: "create", path: folder.to_owned(), source })
}

fn make_private(folder: PathBuf) -> Result<(), Error> {
    let made = fs::DirBuilder::new().mode(0o700).create(&folder);
    made.map_err(|source| Error::Io { verb: "create", path: folder, source })
}

pub(super) fn to_json(value: &impl Serialize, path: &Path) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|source| Error::Record { path: path.to_owned(), source })
}

pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let temporary = path.with_extension("new");
    let failed = |source| Error::Io { verb: "write", path: path.to_owned(), source };
    fs::write(&temporary, bytes).map_err(failed)?;
    fs::rename(&temporary, path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_removed_before_its_specification_is_read_is_no_container() {
        let root = std::env::temp_dir().join(format!("mydocker-record-{}", std::process::id()));
        let containers = Containers::open(&root, &root.join("run")).unwrap();
        let id = "0123456789abcdef".repeat(4);
        assert!(matches!(containers.spec(&id), Err(Error::NoSuchContainer(_))));
        // One that is there and lacks it is damaged.
        fs::create_dir_all(containers.folder(&id)).unwrap();
        assert!(matches!(containers.spec(&id), Err(Error::Io { .. })));
        fs::remove_dir_all(&root).unwrap();
    }
}
