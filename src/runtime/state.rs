//! What is written down of containers that outlive the command that made them: a folder each, and a lock.
//!
//! ```text
//! <root>/<id>/        0700; locked by whoever changes something
//!   state.json        who the first process is, where its groups are
//!   config.json       the spec as it was when the container was made, whatever became of the bundle
//!   init              the socket on which the first process waits to be started; gone once it has been
//! ```

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::error::Error;
use super::groups::Groups;
use super::init::Init;
use super::protocol::{self, ParentEnd};
use super::resctrl::Class;
use super::systemd::Unit;
use crate::oci::runtime_spec::{Hooks, MAX_SPEC, Spec};

const RECORD: &str = "state.json";
const CONFIG: &str = "config.json";
const SOCKET: &str = "init";
/// The longest id: a file's name (`NAME_MAX`).
const MAX_ID: usize = 255;

/// Where a container is in its life (runtime-spec, `runtime.md#state`), and `paused`, which runc adds.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// `state.json`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The version of the specification that the spec names.
    pub oci_version: String,
    /// The container's name.
    pub id: String,
    /// The first process's number.
    pub pid: i32,
    /// When it began, in clock ticks since the machine did.
    pub start_time: u64,
    /// The bundle's directory.
    pub bundle: PathBuf,
    /// The root filesystem.
    pub rootfs: PathBuf,
    /// When the container was made, as RFC 3339 writes it.
    pub created: String,
    /// The spec's annotations.
    pub annotations: BTreeMap<String, String>,
    /// Its control groups.
    pub groups: Groups,
    /// The unit of systemd's that they belong to, if systemd has made them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<Unit>,
    /// The class of service that it is in, if it is in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<Class>,
    /// Whether its PID namespace is not its own, so that its processes do not end with the first one.
    pub shares_pids: bool,
    /// The hooks that are yet to be run.
    pub hooks: Hooks,
}

impl Record {
    /// The first process, if it has not ended.
    pub fn init(&self) -> Option<Init> {
        Init::find(Pid::from_raw(self.pid), self.start_time)
    }
}

/// The folder of all containers.
#[derive(Clone, Debug)]
pub struct States {
    root: PathBuf,
}

impl States {
    /// The folder `root`, which need not be there yet.
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Makes the folder of a new container, and locks it.
    ///
    /// # Errors
    /// [`Error::Exists`] if there is one of this id.
    pub fn create(&self, id: &str) -> Result<Entry, Error> {
        check_id(id)?;
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.root);
        made.map_err(failed("make", &self.root))?;
        let path = self.root.join(id);
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(Error::Exists { id: id.to_owned() });
            }
            made => made.map_err(failed("make", &path))?,
        }
        let directory = File::open(&path).map_err(failed("open", &path))?;
        let entry = Entry { id: id.to_owned(), path, directory };
        entry.lock()?;
        Ok(entry)
    }

    /// The folder of a container.
    ///
    /// # Errors
    /// [`Error::NoContainer`] if there is none of this id.
    pub fn open(&self, id: &str) -> Result<Entry, Error> {
        check_id(id)?;
        let path = self.root.join(id);
        match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(Error::NoContainer { id: id.to_owned() })
            }
            opened => {
                let directory = opened.map_err(failed("open", &path))?;
                Ok(Entry { id: id.to_owned(), path, directory })
            }
        }
    }

    /// The ids of all containers, in order.
    ///
    /// # Errors
    /// When the folder cannot be read; one that is not there has no containers.
    pub fn ids(&self) -> Result<Vec<String>, Error> {
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            read => read.map_err(failed("read", &self.root))?,
        };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut ids: Vec<String> = names.filter(|name| check_id(name).is_ok()).collect();
        ids.sort();
        Ok(ids)
    }
}

/// What a container's folder can be called: letters, digits and `_+-.`, as with runc.
fn check_id(id: &str) -> Result<(), Error> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
    let name = !matches!(id, "" | "." | "..") && id.len() <= MAX_ID;
    if name && id.chars().all(plain) {
        return Ok(());
    }
    let reason = "it is not made of letters, digits and `_+-.`".to_owned();
    Err(Error::Invalid { field: "container id".to_owned(), reason })
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { action, path, source }
}

/// One container's folder.
#[derive(Debug)]
pub struct Entry {
    id: String,
    path: PathBuf,
    directory: File,
}

impl Entry {
    /// The container's name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Waits until nobody else changes the container, and keeps everybody else from doing so as long as this is held.
    ///
    /// # Errors
    /// [`Error::NoContainer`] if it was removed meanwhile.
    pub fn lock(&self) -> Result<(), Error> {
        self.directory.lock().map_err(failed("lock", &self.path))?;
        let links = self.directory.metadata().map_err(failed("look at", &self.path))?.nlink();
        if links == 0 { Err(Error::NoContainer { id: self.id.clone() }) } else { Ok(()) }
    }

    /// As [`Self::lock`], but says at once that somebody else has it.
    ///
    /// # Errors
    /// [`Error::Status`] if somebody has; as for [`Self::lock`].
    pub fn try_lock(&self, action: &'static str) -> Result<(), Error> {
        match self.directory.try_lock() {
            Err(TryLockError::WouldBlock) => {
                let reason = "another command is at work on it";
                Err(Error::Status { action, id: self.id.clone(), reason })
            }
            Err(TryLockError::Error(source)) => Err(failed("lock", &self.path)(source)),
            Ok(()) => self.lock(),
        }
    }

    /// Lets others change the container.
    pub(super) fn unlock(&self) {
        // It ends with this process in any case.
        let _ = self.directory.unlock();
    }

    /// The user who has made the container.
    pub fn owner(&self) -> u32 {
        self.directory.metadata().map_or(0, |found| found.uid())
    }

    /// What is written down; `None` while the container is being made, or was left half made.
    ///
    /// # Errors
    /// When it cannot be read or understood.
    pub fn read(&self) -> Result<Option<Record>, Error> {
        let path = self.path.join(RECORD);
        let text = match read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(failed("read", &path))?,
        };
        serde_json::from_slice(&text).map(Some).map_err(|source| Error::Parse { path, source })
    }

    /// Writes it down, all at once.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, record: &Record) -> Result<(), Error> {
        let path = self.path.join(RECORD);
        let text = serde_json::to_vec(record);
        let text = text.map_err(|source| Error::Parse { path: path.clone(), source })?;
        replace(&path, &text).map_err(failed("write", &path))
    }

    /// The spec as it was when the container was made, but for limits that were changed since.
    ///
    /// # Errors
    /// When it cannot be read or understood.
    pub fn spec(&self) -> Result<Spec, Error> {
        let path = self.path.join(CONFIG);
        let text = read(&path).map_err(failed("read", &path))?;
        serde_json::from_slice(&text).map_err(|source| Error::Parse { path, source })
    }

    /// Keeps the spec.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_spec(&self, spec: &Spec) -> Result<(), Error> {
        let path = self.path.join(CONFIG);
        let text = serde_json::to_vec(spec);
        let text = text.map_err(|source| Error::Parse { path: path.clone(), source })?;
        replace(&path, &text).map_err(failed("write", &path))
    }

    /// The socket on which the first process is to wait, for [`super::Options::start`].
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn listen(&self) -> Result<OwnedFd, Error> {
        protocol::listen_at(&self.socket()).map_err(|source| self.socket_error("listen on", source))
    }

    /// Whether the first process waits to be started.
    pub fn is_waiting(&self) -> bool {
        self.path.join(SOCKET).symlink_metadata().is_ok()
    }

    /// Reaches the first process, which nobody else can from now on.
    pub(super) fn connect(&self) -> Result<ParentEnd, Error> {
        let connected = ParentEnd::connect(&self.socket());
        let end = connected.map_err(|source| self.socket_error("connect to", source))?;
        let path = self.path.join(SOCKET);
        fs::remove_file(&path).map_err(failed("remove", &path))?;
        Ok(end)
    }

    /// By descriptor, as the path of a socket must be short.
    fn socket(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", self.directory.as_raw_fd()))
    }

    fn socket_error(&self, action: &'static str, source: Errno) -> Error {
        Error::Path { action, path: self.path.join(SOCKET), source }
    }

    /// Removes the folder.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self) -> Result<(), Error> {
        // What makes it a container goes first, and with it all that could be done to half of one.
        let _ = fs::remove_file(self.path.join(RECORD));
        fs::remove_dir_all(&self.path).map_err(failed("remove", &self.path))
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(MAX_SPEC).read_to_end(&mut text)?;
    Ok(text)
}

/// Nothing here outlives the machine, so nothing is flushed.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, text)?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_names_of_one_folder() {
        for good in ["a", "test_busybox", "libpod-1f.2+3", &"x".repeat(255)] {
            assert!(check_id(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "/a", "a\0", "a b", "ä", "a\n", &"x".repeat(256)] {
            assert!(check_id(bad).is_err(), "{bad}");
        }
    }
}
