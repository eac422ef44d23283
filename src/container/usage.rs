//! What containers and volumes take of the disk.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use super::Error;
use super::record::{Containers, Record};
use crate::sys::disk_usage::disk_usage;

/// A volume in the store.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VolumeUsage {
    /// Its name.
    pub name: String,
    /// The bytes that it takes on the disk.
    pub bytes: u64,
    /// How many containers have it mounted, running or not.
    pub containers: usize,
}

impl Containers {
    /// The bytes on the disk of all that a container wrote and of its record.
    pub fn disk_usage(&self, record: &Record) -> Result<u64, Error> {
        usage(&self.folder(&record.id))
    }

    /// The volumes of the store, by name.
    pub fn volume_usage(&self, records: &[Record]) -> Result<Vec<VolumeUsage>, Error> {
        let folder = self.root().join("volumes");
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            read => {
                read.map_err(|source| Error::Io { verb: "read", path: folder.clone(), source })?
            }
        };
        let mounted: Vec<BTreeSet<String>> =
            records.iter().map(|record| self.mounted(record)).collect();
        let mut volumes = Vec::new();
        for entry in entries {
            let entry =
                entry.map_err(|source| Error::Io { verb: "read", path: folder.clone(), source })?;
            if !entry.path().is_dir() {
                continue;
            }
            let name = entry.file_name().to_string_lossy().into_owned();
            let containers = mounted.iter().filter(|names| names.contains(&name)).count();
            volumes.push(VolumeUsage { bytes: usage(&entry.path())?, containers, name });
        }
        volumes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(volumes)
    }

    /// The names of the volumes that a container has.
    fn mounted(&self, record: &Record) -> BTreeSet<String> {
        let Ok(spec) = self.spec(&record.id) else {
            return BTreeSet::new();
        };
        let volumes = self.root().join("volumes");
        let sources = spec.mounts.iter().filter_map(|mount| mount.source.as_deref());
        let below = sources.filter_map(|source| Path::new(source).strip_prefix(&volumes).ok());
        let names = below.filter_map(|path| path.components().next());
        names.map(|name| name.as_os_str().to_string_lossy().into_owned()).collect()
    }
}

fn usage(folder: &Path) -> Result<u64, Error> {
    let failed = |source| Error::Io { verb: "look through", path: folder.to_owned(), source };
    match File::open(folder) {
        // Removed meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        opened => {
            let root = opened.map_err(failed)?;
            disk_usage(root.as_fd()).map_err(io::Error::from).map_err(failed)
        }
    }
}
