//! What a container has mounted, as its record tells it, and how its specification says so.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::super::ids::IdRange;
use super::error::VolumeError;
use super::request::{Propagation, Recursion};
use crate::oci::capability::Capability;
use crate::oci::digest::ImageId;
use crate::oci::runtime_spec::linux::IdMapping;
use crate::oci::runtime_spec::{Mount, Spec};

/// One thing that a user, or the image, has had mounted into a container.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MountPoint {
    /// Where, as an absolute path inside.
    pub destination: String,
    /// What.
    #[serde(flatten)]
    pub source: MountSource,
    /// Whether it can only be read.
    pub read_only: bool,
    /// The options as they were given.
    #[serde(default)]
    pub mode: String,
    /// What is done with what is mounted below the source.
    #[serde(default)]
    pub recursion: Recursion,
    /// How mount events pass.
    #[serde(default)]
    pub propagation: Propagation,
    /// The owner on disk, user and group, that is shown as the container's user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<(u32, u32)>,
}

/// What is mounted.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum MountSource {
    /// A file or folder of the host.
    Bind {
        /// Its absolute path.
        path: PathBuf,
    },
    /// A volume.
    Volume {
        /// Its name.
        name: String,
        /// The folder with its content.
        path: PathBuf,
        /// Whether it goes with the container.
        anonymous: bool,
        /// The folder in it that is mounted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subpath: Option<String>,
    },
    /// A file system in memory.
    Tmpfs {
        /// What it is told.
        options: Vec<String>,
    },
    /// An image's tree.
    Image {
        /// What the user calls it.
        name: String,
        /// What it is.
        id: ImageId,
        /// The folder of its tree.
        path: PathBuf,
        /// The folder in it that is mounted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subpath: Option<String>,
    },
}

/// The user of a container, and which ids of the host its ids are.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Identities {
    pub(in super::super) uid: u32,
    pub(in super::super) gid: u32,
    /// None without a user namespace.
    pub(in super::super) ids: Option<IdRange>,
    /// Whether this process may map owners as it likes.
    pub(in super::super) machine_root: bool,
}

impl MountPoint {
    /// The volume that is mounted, if it is one.
    pub fn volume(&self) -> Option<&str> {
        match &self.source {
            MountSource::Volume { name, .. } => Some(name),
            _ => None,
        }
    }

    /// The mount as a specification has it.
    pub(in super::super) fn mount(&self, identities: &Identities) -> Result<Mount, VolumeError> {
        let path = match &self.source {
            MountSource::Tmpfs { options } => return Ok(self.tmpfs(options)),
            MountSource::Bind { path } => path.clone(),
            MountSource::Volume { path, subpath, .. }
            | MountSource::Image { path, subpath, .. } => {
                subpath.as_ref().map_or_else(|| path.clone(), |subpath| path.join(subpath))
            }
        };
        let (bind, read_only) = match self.recursion {
            Recursion::Enabled => ("rbind", "rro"),
            Recursion::Writable => ("rbind", "ro"),
            Recursion::Disabled => ("bind", "ro"),
        };
        let mut options = vec![bind, self.propagation.name(), "nosuid", "nodev"];
        options.extend(self.read_only.then_some(read_only));
        let mut mount = Mount::bind(&path.to_string_lossy(), &self.destination, &options);
        if let Some((uid, gid)) =
            self.owner.filter(|owner| *owner != (identities.uid, identities.gid))
        {
            if !identities.machine_root {
                return Err(VolumeError::OwnerMatch { path, uid: identities.uid });
            }
            mount.uid_mappings = exchange(uid, identities.uid, identities.ids);
            mount.gid_mappings = exchange(gid, identities.gid, identities.ids);
            mount.options.push("ridmap".to_owned());
        }
        Ok(mount)
    }

    fn tmpfs(&self, options: &[String]) -> Mount {
        let mut mount = Mount::of("tmpfs", &self.destination, &["nosuid", "nodev", "noexec"]);
        mount.options.extend(options.iter().cloned());
        mount.options.extend(self.read_only.then(|| "ro".to_owned()));
        mount
    }
}

/// The folders whose content others may change, in which sources have to be looked for without being led out of them.
pub(in super::super) fn confined(points: &[MountPoint]) -> Vec<PathBuf> {
    let folder = |point: &MountPoint| match &point.source {
        MountSource::Volume { path, subpath: Some(_), .. }
        | MountSource::Image { path, subpath: Some(_), .. } => Some(path.clone()),
        _ => None,
    };
    points.iter().filter_map(folder).collect()
}

/// Mappings by which each id on disk is the same inside, but that `disk` and `inside` change places.
fn exchange(disk: u32, inside: u32, ids: Option<IdRange>) -> Vec<IdMapping> {
    // The kernel keeps the last number for "no id".
    let IdRange { first, size } = ids.unwrap_or(IdRange { first: 0, size: u32::MAX });
    let mut map = Vec::new();
    let mut add = |disk: u32, inside: u32, size: u32| {
        if size > 0 {
            map.push(IdMapping { container_id: disk, host_id: first + inside, size });
        }
    };
    let mut cuts = vec![disk, inside];
    cuts.retain(|id| *id < size);
    cuts.sort_unstable();
    cuts.dedup();
    let mut next = 0;
    for cut in cuts {
        add(next, next, cut - next);
        next = cut + 1;
    }
    add(next, next, size - next);
    if inside < size {
        add(disk, inside, 1);
        if disk < size && disk != inside {
            add(inside, disk, 1);
        }
    }
    map
}

/// Refuses an image's tree to a container whose root could make the mount writable, for the image is not the container's.
pub(in super::super) fn check_images(
    points: &[MountPoint],
    spec: &Spec,
) -> Result<(), VolumeError> {
    let sets = spec.process.as_ref().and_then(|process| process.capabilities.as_ref());
    if !sets.is_some_and(|sets| sets.bounding.contains(Capability::SYS_ADMIN)) {
        return Ok(());
    }
    points.iter().try_for_each(|point| match &point.source {
        MountSource::Image { name, .. } => Err(VolumeError::ImageWritable(name.clone())),
        _ => Ok(()),
    })
}

/// Moves the mappings of single mounts along when a container gets another range of ids.
pub(in super::super) fn shift_owners(spec: &mut Spec, old: u32, new: u32) {
    for mount in &mut spec.mounts {
        for map in mount.uid_mappings.iter_mut().chain(&mut mount.gid_mappings) {
            map.host_id = map.host_id.wrapping_sub(old).wrapping_add(new);
        }
    }
}

/// Puts mounts into an order in which none hides another, and leaves out what every container has at a place that the user
/// has taken: `own` are the places.
pub(in super::super) fn arrange(mounts: &mut Vec<Mount>, own: &[String]) {
    let clean = |mount: &Mount| mount.destination.trim_end_matches('/').to_owned();
    let mut places: std::collections::VecDeque<String> = mounts.iter().map(clean).collect();
    // The last one of a place is the user's.
    mounts.retain(|_| {
        let place = places.pop_front().unwrap_or_default();
        !(own.contains(&place) && places.contains(&place))
    });
    let depth =
        |mount: &Mount| mount.destination.split('/').filter(|part| !part.is_empty()).count();
    mounts.sort_by_key(depth);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(disk: u32, inside: u32, id: u32) -> Option<u32> {
        let ids = IdRange { first: 100_000, size: 65_536 };
        let map = exchange(disk, inside, Some(ids));
        let mut found = map.iter().filter(|m| m.container_id <= id && id - m.container_id < m.size);
        let map = found.next()?;
        assert!(found.next().is_none(), "{id} is mapped twice");
        Some(map.host_id + (id - map.container_id) - 100_000)
    }

    #[test]
    fn an_owner_and_a_user_change_places() {
        for (disk, inside) in
            [(1000, 0), (0, 1000), (5, 5), (200_000, 0), (200_000, 77), (65_535, 3)]
        {
            assert_eq!(shown(disk, inside, disk), Some(inside), "{disk} {inside}");
            for other in [1, 2, 999, 1001, 65_534] {
                if other != disk && other != inside {
                    assert_eq!(shown(disk, inside, other), Some(other), "{disk} {inside}");
                }
            }
            let back =
                if disk == inside { Some(disk) } else { Some(disk).filter(|id| *id < 65_536) };
            assert_eq!(shown(disk, inside, inside), back, "{disk} {inside}");
        }
        let all: u64 = exchange(1000, 0, None).iter().map(|map| u64::from(map.size)).sum();
        assert_eq!(all, u64::from(u32::MAX));
    }

    #[test]
    fn outer_mounts_come_first_and_the_users_take_places() {
        let at = |source: &str, destination: &str| Mount::bind(source, destination, &["bind"]);
        let mut mounts = vec![
            at("proc", "/proc"),
            at("dev", "/dev"),
            at("shm", "/dev/shm"),
            at("hosts", "/etc/hosts"),
            at("a", "/x/y"),
            at("b", "/x"),
            at("c", "/dev/shm"),
            at("d", "/etc"),
        ];
        arrange(&mut mounts, &["/x/y", "/x", "/dev/shm", "/etc"].map(str::to_owned));
        let order: Vec<&str> = mounts.iter().map(|m| m.source.as_deref().unwrap()).collect();
        assert_eq!(order, ["proc", "dev", "b", "d", "hosts", "a", "c"]);
    }
}
