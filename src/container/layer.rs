//! What a container has written, for those who compare, export or commit it.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::Error;
use super::freeze::Frozen;
use super::record::{Containers, Record};
use super::status::Status;
use super::user::UserDatabase;
use crate::oci::digest::ImageId;
use crate::oci::image_config::ContainerConfig;
use crate::oci::runtime_spec::Spec;

/// The layer of a container, open, and its processes at rest.
#[derive(Debug)]
pub struct Layer {
    /// The container.
    pub record: Record,
    /// The image that it stands on.
    pub image: ImageId,
    /// What it wrote, in overlayfs's own form.
    pub upper: OwnedFd,
    /// Where this program mounted something of its own, without leading slash.
    pub mount_points: BTreeSet<Vec<u8>>,
    spec: Spec,
    _frozen: Option<Frozen>,
}

/// What a container was started with, as far as it is not its image's.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Started {
    /// The program and its arguments.
    pub args: Vec<String>,
    /// `NAME=value` entries.
    pub env: Vec<String>,
    /// The directory to start in.
    pub cwd: String,
    /// The user, unless it is the image's.
    pub user: Option<String>,
}

/// Whether a running container is held still while its layer is open.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Hold {
    /// It is frozen; one that cannot be is refused.
    Frozen,
    /// It runs on, and what it writes meanwhile may be read by half.
    Running,
}

/// Opens the layer of the container that `text` means.
///
/// # Errors
/// [`Error::NoLayer`] for one that runs in a folder of the host; [`Error::CannotFreeze`].
pub fn open_layer(containers: &Containers, text: &str, hold: Hold) -> Result<Layer, Error> {
    let record = containers.find(text)?;
    let Some(image) = record.image_id.clone() else {
        return Err(Error::NoLayer(text.to_owned()));
    };
    let folder = containers.folder(&record.id);
    let spec = containers.spec(&record.id)?;
    let frozen = match (containers.status(&record), hold) {
        (Status::Running(_) | Status::Paused(_), Hold::Frozen) => {
            Some(Frozen::new(containers, &record.id)?)
        }
        _ => None,
    };
    let path = folder.join("upper");
    let opened = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW)
        .open(&path);
    let upper = opened.map_err(|source| Error::Io { verb: "open", path, source })?.into();
    let mount_points = mount_points(&spec, &folder);
    Ok(Layer { record, image, upper, mount_points, spec, _frozen: frozen })
}

/// Where the container has what every container has: `/proc`, `/dev`, its files in `/etc`. A place for a volume is the
/// user's own.
fn mount_points(spec: &Spec, folder: &Path) -> BTreeSet<Vec<u8>> {
    let ours = spec.mounts.iter().filter(|mount| {
        let source = mount.source.as_deref().unwrap_or_default();
        !mount.is_bind() || Path::new(source).parent() == Some(folder)
    });
    ours.map(|mount| mount.destination.trim_matches('/').as_bytes().to_vec()).collect()
}

impl Layer {
    /// What the container was started with, on an image whose configuration is `config` and whose tree is `tree`.
    pub fn started(
        &self,
        config: &ContainerConfig,
        tree: BorrowedFd<'_>,
    ) -> Result<Started, Error> {
        let process = self.spec.process.clone().unwrap_or_default();
        let own = UserDatabase::read(tree)?.resolve(&config.user).ok();
        let same = own
            .as_ref()
            .is_some_and(|own| (own.uid, own.gid) == (process.user.uid, process.user.gid));
        let user = format!("{}:{}", process.user.uid, process.user.gid);
        // Those that every container gets, unless the image or its user wrote them.
        let hostname = self.spec.hostname.clone().unwrap_or_default();
        let home = own.map(|own| own.home).unwrap_or_default();
        let made =
            [format!("HOSTNAME={hostname}"), format!("HOME={home}"), "TERM=xterm".to_owned()];
        let env = process.env.into_iter();
        let env = env.filter(|entry| config.env.contains(entry) || !made.contains(entry));
        Ok(Started {
            env: env.collect(),
            args: process.args,
            cwd: process.cwd,
            user: (!same).then_some(user),
        })
    }

    /// The directory of what the container wrote.
    pub fn upper(&self) -> BorrowedFd<'_> {
        self.upper.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::runtime_spec::Mount;

    #[test]
    fn volumes_are_the_users_own() {
        let folder = Path::new("/store/containers/1");
        let mounts = vec![
            Mount::of("proc", "/proc", &[]),
            Mount::bind("/store/containers/1/hosts", "/etc/hosts", &["bind"]),
            Mount::bind("/srv", "/data/", &["rbind"]),
        ];
        let spec = Spec { mounts, ..Spec::default() };
        let expected = BTreeSet::from([b"proc".to_vec(), b"etc/hosts".to_vec()]);
        assert_eq!(mount_points(&spec, folder), expected);
    }
}
