//! Volumes, and everything else that a user has mounted into a container.
//!
//! ```text
//! ROOT/volumes/<name>/             locked, shared, by whoever makes a container with it; exclusively by its remover
//! ROOT/volumes/<name>/volume.json  driver, labels, when it was made
//! ROOT/volumes/<name>/_data/       what containers see
//! ROOT/volumes/.new-<digits>/      a volume that is being made; one whose lock is free is rubbish
//! ```
//!
//! A volume is used by the containers whose records name it, whether they run or not. Since a container's maker holds the
//! volume's lock until the record is written, whoever has the lock for himself sees all of them.

mod copy;
mod csv;
mod device;
mod error;
mod files;
mod hold;
mod mount;
mod name;
mod parse;
mod point;
mod propagation;
mod remove;
mod request;
mod resolve;
pub(super) mod tmpfs;
mod told;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::events::Journal;
use super::record::Containers;

pub use device::parse_options;
pub use error::{MountFault, VolumeError};
pub(super) use point::{Identities, arrange, check_images, confined, shift_owners};
pub use point::{MountPoint, MountSource};
pub(super) use remove::remove_anonymous;
pub use remove::{prune_volumes, remove_volume};
pub use request::{
    MountRequest, MountRequests, Ownership, Propagation, Recursion, RequestedSource,
    RequestedVolume, VolumesFrom,
};
pub(super) use resolve::{Holds, Resolution, resolve};

/// The folder of a volume that containers see.
const DATA: &str = "_data";
/// The file that says what a volume is.
const RECORD: &str = "volume.json";
/// The label by which docker tells the volumes that nobody has named.
const ANONYMOUS: &str = "com.docker.volume.anonymous";

/// A volume.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// Its name; 64 hexadecimal digits where nobody has given one.
    pub name: String,
    /// Always `local`.
    pub driver: String,
    /// What its maker calls it by.
    pub labels: BTreeMap<String, String>,
    /// What its driver is told.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// When it was made, in seconds since 1970.
    pub created: i64,
    /// Whether it was made without a name, and so goes with the last container that has it.
    pub anonymous: bool,
}

/// Where volumes are kept.
#[derive(Clone, Debug)]
pub struct Volumes {
    folder: PathBuf,
    /// Where what is removed goes first, in one step.
    rubbish: PathBuf,
    /// Where it is written down what happens to volumes.
    journal: Journal,
}

impl Containers {
    /// The volumes of the store.
    pub fn volumes(&self) -> Volumes {
        Volumes {
            folder: self.root().join("volumes"),
            rubbish: self.root().join("tmp"),
            journal: Journal::new(self.root()),
        }
    }
}

impl Volumes {
    /// The folder of a volume.
    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes down what has just happened to a volume.
    fn tell(&self, name: &str, action: &str) {
        self.journal.tell("volume", action, name, &[("driver", "local")]);
    }

    /// The folder with the content of a volume.
    pub fn mount_point(&self, name: &str) -> PathBuf {
        self.path(name).join(DATA)
    }

    /// Makes a volume, with a name of its own unless one is given, and returns its name. One that is there stays as it is.
    ///
    /// # Errors
    /// [`VolumeError::Name`], [`VolumeError::Io`].
    pub fn create(
        &self,
        name: Option<&str>,
        labels: BTreeMap<String, String>,
        options: BTreeMap<String, String>,
    ) -> Result<String, super::Error> {
        let held = match name {
            Some(name) => {
                name::check(name)?;
                self.open(name, labels, options)?
            }
            None => self.open_new(labels, options)?,
        };
        Ok(held.name().to_owned())
    }

    /// The volume that is called so.
    ///
    /// # Errors
    /// [`VolumeError::NoSuchVolume`], [`VolumeError::Record`].
    pub fn find(&self, name: &str) -> Result<Volume, VolumeError> {
        let missing = || VolumeError::NoSuchVolume(name.chars().take(255).collect());
        name::check(name).map_err(|_| missing())?;
        self.read(name)?.ok_or_else(missing)
    }

    fn read(&self, name: &str) -> Result<Option<Volume>, VolumeError> {
        let path = self.path(name).join(RECORD);
        let bytes = match fs::read(&path) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                return Ok(None);
            }
            read => {
                read.map_err(|source| VolumeError::Io { verb: "read", path: path.clone(), source })?
            }
        };
        let volume = serde_json::from_slice(&bytes);
        volume.map(Some).map_err(|source| VolumeError::Record { path, source })
    }

    /// All volumes, by name, and those whose records cannot be read: one broken volume does not hide the others.
    ///
    /// # Errors
    /// [`VolumeError::Io`].
    pub fn list(&self) -> Result<(Vec<Volume>, Vec<VolumeError>), VolumeError> {
        let (mut volumes, mut broken) = (Vec::new(), Vec::new());
        for name in names(&self.folder)? {
            match self.read(&name) {
                Ok(Some(volume)) => volumes.push(volume),
                // Removed meanwhile.
                Ok(None) => {}
                Err(error) => broken.push(error),
            }
        }
        volumes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok((volumes, broken))
    }
}

/// The names of the volumes in a folder.
fn names(folder: &Path) -> Result<Vec<String>, VolumeError> {
    let failed = |source| VolumeError::Io { verb: "read", path: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.map_err(failed)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        found.extend(name.to_str().filter(|name| name::check(name).is_ok()).map(str::to_owned));
    }
    Ok(found)
}
