//! Volumes that are held, so that nobody removes them, and made if they are not there.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, Flock, FlockArg, RenameFlags, renameat2};

use super::super::Error;
use super::super::record::{new_id, now, to_json};
use super::error::VolumeError;
use super::{ANONYMOUS, DATA, RECORD, Volume, Volumes};

/// A volume that stays for as long as this is kept.
#[derive(Debug)]
pub(super) struct Held {
    name: String,
    path: PathBuf,
    folder: Flock<File>,
}

impl Held {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The volume's folder.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }
}

impl Volumes {
    /// Holds the volume `name`, if there is one, as `how` says.
    pub(super) fn hold(&self, name: &str, how: FlockArg) -> Result<Option<Held>, VolumeError> {
        let path = self.path(name);
        let failed = |verb| {
            let path = path.clone();
            move |source| VolumeError::Io { verb, path, source }
        };
        loop {
            let opened = match File::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                opened => opened.map_err(failed("open"))?,
            };
            let found = opened.metadata().map_err(failed("open"))?;
            let folder =
                Flock::lock(opened, how).map_err(|(_, errno)| failed("lock")(errno.into()))?;
            // Its remover may have had the lock before, and another one of this name may be there now.
            let same = |now: &fs::Metadata| (now.dev(), now.ino()) == (found.dev(), found.ino());
            match fs::metadata(&path) {
                Ok(now) if same(&now) => {
                    return Ok(Some(Held { name: name.to_owned(), path, folder }));
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(failed("open")(error)),
            }
        }
    }

    /// Holds the volume `name`, which is made if it is not there.
    pub(super) fn open(
        &self,
        name: &str,
        labels: BTreeMap<String, String>,
        options: BTreeMap<String, String>,
    ) -> Result<Held, Error> {
        let volume = Volume {
            name: name.to_owned(),
            driver: "local".to_owned(),
            labels,
            options,
            created: now(),
            anonymous: false,
        };
        loop {
            if let Some(held) = self.hold(name, FlockArg::LockShared)? {
                return Ok(held);
            }
            if let Some(held) = self.make(&volume)? {
                return Ok(held);
            }
        }
    }

    /// Makes and holds a volume that nobody has named.
    pub(super) fn open_new(
        &self,
        mut labels: BTreeMap<String, String>,
        options: BTreeMap<String, String>,
    ) -> Result<Held, Error> {
        labels.insert(ANONYMOUS.to_owned(), String::new());
        loop {
            let volume = Volume {
                name: new_id()?,
                driver: "local".to_owned(),
                labels: labels.clone(),
                options: options.clone(),
                created: now(),
                anonymous: true,
            };
            if let Some(held) = self.make(&volume)? {
                return Ok(held);
            }
        }
    }

    /// Makes a volume unseen, and then gives it its name in one step; `None` if somebody else was faster.
    fn make(&self, volume: &Volume) -> Result<Option<Held>, Error> {
        let at = |verb: &'static str, path: &Path| {
            let path = path.to_owned();
            move |source| VolumeError::Io { verb, path, source }
        };
        let mut private = fs::DirBuilder::new();
        private.mode(0o700).recursive(true);
        private.create(&self.folder).map_err(at("create", &self.folder))?;
        let id = new_id()?;
        let staged = self.folder.join(format!(".new-{}", id.get(..16).unwrap_or(&id)));
        private.create(&staged).map_err(at("create", &staged))?;
        let opened = File::open(&staged).map_err(at("open", &staged))?;
        let folder = Flock::lock(opened, FlockArg::LockShared)
            .map_err(|(_, errno)| at("lock", &staged)(errno.into()))?;
        let data = staged.join(DATA);
        fs::create_dir(&data).map_err(at("create", &data))?;
        // Whatever this process's file mode mask is.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&data, open).map_err(at("set the mode of", &data))?;
        let record = staged.join(RECORD);
        fs::write(&record, to_json(volume, &record)?).map_err(at("write", &record))?;
        let path = self.path(&volume.name);
        let flags = RenameFlags::RENAME_NOREPLACE;
        match renameat2(AT_FDCWD, &staged, AT_FDCWD, &path, flags) {
            Ok(()) => {
                self.tell(&volume.name, "create");
                Ok(Some(Held { name: volume.name.clone(), path, folder }))
            }
            Err(Errno::EEXIST) => {
                let removed = fs::remove_dir_all(&staged);
                removed.map_err(at("remove", &staged))?;
                Ok(None)
            }
            Err(errno) => Err(at("create", &path)(errno.into()).into()),
        }
    }
}
