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

use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown, symlink};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Error;
use super::ids::{self, IdRange};
use super::names;
use crate::oci::digest::ImageId;
use crate::sys::random::getrandom;
use crate::sys::remove_tree::remove_tree;

/// The exit code of a container whose end nobody saw, as with docker after a crash.
const UNSEEN_EXIT: u8 = 255;

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
    /// The boot it was created in (`random(4)`, `boot_id`).
    pub boot: String,
    /// The ids on the host that it has while it runs; none without a user namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<IdRange>,
    /// When and how it ended, if it did.
    pub finished: Option<Finished>,
}

/// The end of a container.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finished {
    /// The exit code; 128 and the signal's number for one that was killed.
    pub code: u8,
    /// When, in seconds since 1970.
    pub at: i64,
}

/// The process of a running container.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Running {
    /// Its id on the host.
    pub pid: i32,
    /// When it started, in clock ticks since boot (`proc_pid_stat(5)`, field 22).
    pub start_time: u64,
    /// When it started, in seconds since 1970.
    pub since: i64,
}

/// What state a container is in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Status {
    /// Never started.
    Created,
    /// Ended.
    Exited(Finished),
    /// Its first process lives.
    Running(Running),
}

impl Containers {
    /// The containers of the store in `root`, with their processes written down in `run`.
    pub fn open(root: &Path, run: &Path) -> Result<Self, Error> {
        let containers = Self { folder: root.join("containers"), run: run.to_owned() };
        for folder in [containers.folder.join(".names"), containers.run.clone()] {
            if !folder.is_dir() {
                let mut private = fs::DirBuilder::new();
                let made = private.mode(0o700).recursive(true).create(&folder);
                made.map_err(|source| Error::Io { verb: "create", path: folder, source })?;
            }
        }
        Ok(containers)
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
        let path = self.folder.join(".names").join(name);
        match symlink(id, &path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let holder = fs::read_link(&path).unwrap_or_default().display().to_string();
                // A claim whose container is gone was left by a process that was killed between two steps.
                if !holder.is_empty() && !self.folder(&holder).exists() && !self.is_new(&path) {
                    let _ = fs::remove_file(&path);
                    return self.claim(id, name);
                }
                let id = holder.chars().take(12).collect();
                Err(Error::NameTaken { name: name.to_owned(), id })
            }
            made => made.map_err(|source| Error::Io { verb: "create", path, source }),
        }
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

    /// Writes down which process the container is.
    pub fn set_running(&self, id: &str, pid: i32) -> Result<(), Error> {
        let path = self.run.join(id);
        let start_time = start_time(pid).unwrap_or_default();
        let running = Running { pid, start_time, since: now() };
        let bytes = to_json(&running, &path)?;
        fs::write(&path, bytes).map_err(|source| Error::Io { verb: "write", path, source })
    }

    /// Writes down how the container ended.
    pub fn set_finished(&self, record: &mut Record, code: u8) -> Result<(), Error> {
        record.finished = Some(Finished { code, at: now() });
        self.write(record)?;
        self.forget_process(&record.id)
    }

    /// Forgets which process the container was.
    pub fn forget_process(&self, id: &str) -> Result<(), Error> {
        let path = self.run.join(id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.map_err(|source| Error::Io { verb: "remove", path, source }),
        }
    }

    /// All containers, newest first, and those whose records cannot be read: one broken container does not hide the
    /// others.
    pub fn list(&self) -> Result<(Vec<Record>, Vec<Error>), Error> {
        let at = |source| Error::Io { verb: "read", path: self.folder.clone(), source };
        let (mut records, mut broken) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(&self.folder).map_err(at)? {
            let name = entry.map_err(at)?.file_name();
            let Some(id) = name.to_str().filter(|name| is_id(name)) else { continue };
            match self.read(id) {
                Ok(Some(record)) => records.push(record),
                // Created this instant, or removed meanwhile.
                Ok(None) => {}
                Err(error) => broken.push(error),
            }
        }
        records.sort_by_key(|record| std::cmp::Reverse(record.created));
        Ok((records, broken))
    }

    /// The ids of all containers, with a record or without.
    pub fn ids(&self) -> Result<Vec<String>, Error> {
        let at = |source| Error::Io { verb: "read", path: self.folder.clone(), source };
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(at)? {
            let name = entry.map_err(at)?.file_name();
            ids.extend(name.to_str().filter(|name| is_id(name)).map(str::to_owned));
        }
        Ok(ids)
    }

    fn read(&self, id: &str) -> Result<Option<Record>, Error> {
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

    /// What state the container is in, now.
    pub fn status(&self, record: &Record) -> Status {
        if let Some(finished) = record.finished {
            return Status::Exited(finished);
        }
        let unseen = Status::Exited(Finished { code: UNSEEN_EXIT, at: record.created });
        if record.boot != boot_id() {
            return unseen;
        }
        let Ok(bytes) = fs::read(self.run.join(&record.id)) else { return Status::Created };
        match serde_json::from_slice::<Running>(&bytes) {
            Ok(running) if start_time(running.pid) == Some(running.start_time) => {
                Status::Running(running)
            }
            _ => unseen,
        }
    }

    /// Deletes the container's folder. It is first moved to `tmp/`, in one step: of two that remove a container one does,
    /// and one that is killed half-way leaves nothing that looks like a container.
    fn delete_folder(&self, id: &str) -> Result<(), Error> {
        let (folder, rubbish) = (self.folder(id), self.folder.with_file_name("tmp"));
        match fs::rename(&folder, rubbish.join(id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
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
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(|source| Error::Remove { path: folder, source }),
        }
    }

    /// Forgets the container: its process, its folder and its name, in this order.
    pub fn remove(&self, record: &Record) -> Result<(), Error> {
        self.forget_process(&record.id)?;
        ids::release(&self.run, &record.id, record.ids);
        self.delete_folder(&record.id)?;
        let name = self.folder.join(".names").join(&record.name);
        if fs::read_link(&name).is_ok_and(|id| id.as_os_str() == record.id.as_str()) {
            fs::remove_file(&name).map_err(|source| Error::Io {
                verb: "remove",
                path: name,
                source,
            })?;
        }
        Ok(())
    }
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
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX))
}

/// What tells this boot of the machine from every other.
pub(super) fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim_end().to_owned()
}

/// When a process started, in clock ticks since boot; `None` if there is none, or only a zombie.
fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in the second field may hold anything, parentheses and spaces too; the last one closes it.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

fn make_private(folder: PathBuf) -> Result<(), Error> {
    let made = fs::DirBuilder::new().mode(0o700).create(&folder);
    made.map_err(|source| Error::Io { verb: "create", path: folder, source })
}

fn to_json(value: &impl Serialize, path: &Path) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value).map_err(|source| Error::Record { path: path.to_owned(), source })
}

fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let temporary = path.with_extension("new");
    let failed = |source| Error::Io { verb: "write", path: path.to_owned(), source };
    fs::write(&temporary, bytes).map_err(failed)?;
    fs::rename(&temporary, path).map_err(failed)
}
