//! What containers and volumes take of the disk.

use std::fs::File;
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
        let mut volumes = Vec::new();
        for volume in self.volumes().list()?.0 {
            let has = |record: &&Record| {
                record.mounts.iter().any(|mount| mount.volume() == Some(&volume.name))
            };
            let containers = records.iter().filter(has).count();
            let bytes = self.volume_bytes(&volume.name)?;
            volumes.push(VolumeUsage { name: volume.name, bytes, containers });
        }
        Ok(volumes)
    }

    /// The bytes on the disk of what is in a volume.
    pub fn volume_bytes(&self, name: &str) -> Result<u64, Error> {
        usage(&self.volumes().mount_point(name))
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
