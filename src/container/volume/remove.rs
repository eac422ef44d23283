//! Removing volumes that no container has.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;

use nix::fcntl::FlockArg;

use super::super::Error;
use super::super::record::{Containers, Record, new_id};
use super::error::VolumeError;
use super::point::MountSource;
use super::{Volume, Volumes, name};
use crate::sys::remove_tree::remove_tree;

/// Removes a volume.
///
/// # Errors
/// [`VolumeError::NoSuchVolume`], [`VolumeError::InUse`]; what keeps records of containers from being read, for one of them
/// may have it.
pub fn remove_volume(containers: &Containers, name: &str) -> Result<(), Error> {
    let volumes = containers.volumes();
    let missing = || VolumeError::NoSuchVolume(name.chars().take(255).collect());
    name::check(name).map_err(|_| missing())?;
    let held = volumes.hold(name, FlockArg::LockExclusive)?.ok_or_else(missing)?;
    let (records, broken) = containers.list()?;
    if let Some(error) = broken.into_iter().next() {
        return Err(error);
    }
    let has = |record: &&Record| record.mounts.iter().any(|mount| mount.volume() == Some(name));
    let users: Vec<String> = records.iter().filter(has).map(describe).collect();
    if !users.is_empty() {
        return Err(VolumeError::InUse { name: name.to_owned(), containers: users }.into());
    }
    // In one step, while nobody can begin to use it.
    let gone = volumes.move_away(name)?;
    drop(held);
    volumes.tell(name, "destroy");
    volumes.delete(&gone)
}

fn describe(record: &Record) -> String {
    format!("{} ({})", record.name, record.id.chars().take(12).collect::<String>())
}

/// Removes the volumes that went with a container, unless another one has them too, or may have.
///
/// # Errors
/// What keeps one of them; the others are gone.
pub(in super::super) fn remove_anonymous(
    containers: &Containers,
    record: &Record,
) -> Result<(), Error> {
    let mut done = Ok(());
    for mount in &record.mounts {
        let MountSource::Volume { name, anonymous: true, .. } = &mount.source else { continue };
        match remove_volume(containers, name) {
            Ok(()) => {}
            Err(Error::Volume(VolumeError::InUse { .. } | VolumeError::NoSuchVolume(_))) => {}
            // Somebody may have it whose record cannot be read: it stays until that is known.
            Err(error @ Error::Record { .. }) => log::debug!("volume {name} stays: {error}"),
            Err(error) => done = Err(error),
        }
    }
    done
}

impl Containers {
    /// Forgets the container, and removes the volumes that went with it.
    ///
    /// # Errors
    /// As [`Containers::destroy`] and [`remove_volume`].
    pub(in super::super) fn destroy_with_volumes(&self, record: &Record) -> Result<(), Error> {
        self.destroy(record)?;
        remove_anonymous(self, record)
    }
}

/// Removes every volume that no container has and that is `wanted`, and tells `removed` of each with the bytes that it took.
///
/// # Errors
/// As [`remove_volume`].
pub fn prune_volumes(
    containers: &Containers,
    wanted: &dyn Fn(&Volume) -> bool,
    removed: &mut dyn FnMut(&str, u64),
) -> Result<(), Error> {
    let volumes = containers.volumes();
    volumes.sweep()?;
    let (all, _) = volumes.list()?;
    for volume in all.iter().filter(|volume| wanted(volume)) {
        let bytes = containers.volume_bytes(&volume.name)?;
        match remove_volume(containers, &volume.name) {
            Ok(()) => removed(&volume.name, bytes),
            // Somebody else was faster, one way or the other.
            Err(Error::Volume(VolumeError::InUse { .. } | VolumeError::NoSuchVolume(_))) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Volumes {
    /// Moves a volume to where nobody looks for one, and says what it is called there.
    fn move_away(&self, name: &str) -> Result<String, Error> {
        let id = new_id()?;
        let path = self.path(name);
        let moved = match fs::rename(&path, self.rubbish.join(&id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && path.exists() => {
                let made = fs::DirBuilder::new().mode(0o700).recursive(true).create(&self.rubbish);
                made.and_then(|()| fs::rename(&path, self.rubbish.join(&id)))
            }
            moved => moved,
        };
        moved.map_err(|source| VolumeError::Io { verb: "remove", path, source })?;
        Ok(id)
    }

    fn delete(&self, id: &str) -> Result<(), Error> {
        let path = self.rubbish.join(id);
        let rubbish = fs::File::open(&self.rubbish).map_err(|source| VolumeError::Io {
            verb: "open",
            path: self.rubbish.clone(),
            source,
        })?;
        match remove_tree(rubbish.as_fd(), id.as_bytes()) {
            // Whoever sweeps `tmp/` was quicker.
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(|source| VolumeError::Remove { path, source }.into()),
        }
    }

    /// Removes what was left of volumes whose makers were killed.
    fn sweep(&self) -> Result<(), Error> {
        let Ok(entries) = fs::read_dir(&self.folder) else { return Ok(()) };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| name.starts_with(".new-")) else {
                continue;
            };
            let how = FlockArg::LockExclusiveNonblock;
            // One whose maker lives is locked; one that was made this instant may not be yet.
            let old = |found: fs::Metadata| {
                found.modified().is_ok_and(|at| at.elapsed().is_ok_and(|age| age.as_secs() > 60))
            };
            if !entry.metadata().is_ok_and(old) {
                continue;
            }
            if let Ok(Some(held)) = self.hold(name, how) {
                let gone = self.move_away(name)?;
                drop(held);
                self.delete(&gone)?;
            }
        }
        Ok(())
    }
}
