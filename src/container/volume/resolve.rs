//! From what is asked for to what is there: volumes are found or made, folders looked for.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::fcntl::FlockArg;

use super::super::Error;
use super::super::record::Containers;
use super::device::parse_options;
use super::error::VolumeError;
use super::hold::Held;
use super::point::{MountPoint, MountSource};
use super::request::{
    MountRequest, MountRequests, Ownership, Propagation, Recursion, RequestedSource,
    RequestedVolume, VolumesFrom, clean_destination,
};
use super::{MountFault, Volumes, copy, propagation};

/// More volumes than any image has a use for.
const MAX_IMAGE_VOLUMES: usize = 256;

/// Everything that decides what a container has mounted.
#[derive(Debug)]
pub(in super::super) struct Resolution<'a> {
    pub(in super::super) containers: &'a Containers,
    pub(in super::super) requests: &'a MountRequests,
    /// `VOLUME` of the image: paths inside, which are hostile.
    pub(in super::super) image_volumes: Vec<&'a str>,
    /// Where something else of the user's is mounted.
    pub(in super::super) taken: Vec<String>,
    /// The image's tree, from which volumes are filled.
    pub(in super::super) tree: Option<&'a Path>,
    /// Whether what is copied has to last through a power cut.
    pub(in super::super) flush: bool,
}

/// Volumes that nobody can remove for as long as this is kept.
#[derive(Debug, Default)]
pub(in super::super) struct Holds(Vec<Held>);

/// Finds or makes what is to be mounted, in docker's order: what other containers have, what the user asks for, what the
/// image asks for. `points` is filled on the way, so that it tells what there is also when an error comes up.
pub(in super::super) fn resolve(
    resolution: &Resolution<'_>,
    points: &mut Vec<MountPoint>,
) -> Result<Holds, Error> {
    let mut resolver =
        Resolver { resolution, volumes: resolution.containers.volumes(), holds: Holds::default() };
    for from in &resolution.requests.volumes_from {
        resolver.adopt(from, points)?;
    }
    resolver.requested(points)?;
    resolver.of_the_image(points)?;
    Ok(resolver.holds)
}

struct Resolver<'a> {
    resolution: &'a Resolution<'a>,
    volumes: Volumes,
    holds: Holds,
}

impl Resolver<'_> {
    /// What another container has, but for what it has in memory.
    fn adopt(&mut self, from: &VolumesFrom, points: &mut Vec<MountPoint>) -> Result<(), Error> {
        for mut point in self.resolution.containers.find(&from.container)?.mounts {
            match &point.source {
                MountSource::Tmpfs { .. } => continue,
                MountSource::Volume { name, .. } => {
                    let held = self.volumes.hold(name, FlockArg::LockShared)?;
                    let missing = || VolumeError::NoSuchVolume(name.clone());
                    self.holds.0.push(held.ok_or_else(missing)?);
                }
                MountSource::Bind { .. } | MountSource::Image { .. } => {}
            }
            let fixed = self.is_read_only(&point.source)?;
            point.read_only = fixed || from.read_only.unwrap_or(point.read_only);
            place(points, point);
        }
        Ok(())
    }

    fn requested(&mut self, points: &mut Vec<MountPoint>) -> Result<(), Error> {
        let mut taken = self.resolution.taken.clone();
        for request in &self.resolution.requests.mounts {
            if taken.contains(&request.destination) {
                return Err(VolumeError::Duplicate(request.destination.clone()).into());
            }
            taken.push(request.destination.clone());
        }
        for request in &self.resolution.requests.mounts {
            let source = self.source(request)?;
            let owner = match request.owner {
                Ownership::Keep => None,
                Ownership::Match => owner(&source)?,
            };
            let fixed = self.is_read_only(&source)?;
            let point = MountPoint {
                destination: request.destination.clone(),
                source,
                read_only: request.read_only || fixed,
                mode: request.mode.clone(),
                recursion: request.recursion,
                propagation: request.propagation,
                owner,
            };
            place(points, point);
        }
        Ok(())
    }

    /// A new volume at each place that the image names, unless something is there already.
    fn of_the_image(&mut self, points: &mut Vec<MountPoint>) -> Result<(), Error> {
        let places = &self.resolution.image_volumes;
        if places.len() > MAX_IMAGE_VOLUMES {
            return Err(VolumeError::TooMany(places.len()).into());
        }
        for place in places {
            let refuse = |source| VolumeError::Mount { text: format!("VOLUME {place}"), source };
            let destination = clean_destination(&format!("/{place}")).map_err(refuse)?;
            let taken = self.resolution.taken.contains(&destination);
            if taken || points.iter().any(|point| point.destination == destination) {
                continue;
            }
            let source = self.volume(&destination, &RequestedVolume::default())?;
            points.push(MountPoint {
                destination,
                source,
                read_only: false,
                mode: String::new(),
                recursion: Recursion::Enabled,
                propagation: Propagation::default(),
                owner: None,
            });
        }
        Ok(())
    }

    /// Whether it can only be read, whatever is asked for.
    fn is_read_only(&self, source: &MountSource) -> Result<bool, Error> {
        match source {
            MountSource::Image { .. } => Ok(true),
            MountSource::Volume { name, .. } => Ok(self.volumes.find(name)?.is_read_only()),
            MountSource::Bind { .. } | MountSource::Tmpfs { .. } => Ok(false),
        }
    }

    fn source(&mut self, request: &MountRequest) -> Result<MountSource, Error> {
        match &request.source {
            RequestedSource::Bind { path, create } => {
                find(path, *create)?;
                propagation::check(path, request.propagation)?;
                Ok(MountSource::Bind { path: path.clone() })
            }
            RequestedSource::Volume(volume) => self.volume(&request.destination, volume),
            RequestedSource::Tmpfs(options) => Ok(MountSource::Tmpfs { options: options.clone() }),
            RequestedSource::Image { name, found, subpath } => {
                let missing = || VolumeError::Mount {
                    text: name.clone(),
                    source: MountFault::Missing("the image"),
                };
                let (id, path) = found.clone().ok_or_else(missing)?;
                Ok(MountSource::Image { name: name.clone(), id, path, subpath: subpath.clone() })
            }
        }
    }

    fn volume(
        &mut self,
        destination: &str,
        wanted: &RequestedVolume,
    ) -> Result<MountSource, Error> {
        let refuse = |source| VolumeError::Mount { text: destination.to_owned(), source };
        let labels = wanted.labels.iter().cloned().collect();
        let options = parse_options(&wanted.options).map_err(refuse)?;
        let held = match &wanted.name {
            Some(name) => self.volumes.open(name, labels, options)?,
            None => self.volumes.open_new(labels, options)?,
        };
        let device = self.volumes.find(held.name())?.device().map(Path::to_owned);
        let in_store = device.is_none();
        let source = MountSource::Volume {
            name: held.name().to_owned(),
            path: device.unwrap_or_else(|| self.volumes.mount_point(held.name())),
            anonymous: wanted.name.is_none(),
            subpath: wanted.subpath.clone(),
        };
        let filled = match (&source, self.resolution.tree) {
            // What lies on the host is the host's.
            (MountSource::Volume { path, .. }, _) if !in_store => find(path, false),
            (_, Some(tree)) if !wanted.no_copy && wanted.subpath.is_none() => {
                copy::copy_up(&held, tree, destination, self.resolution.flush)
            }
            _ => Ok(()),
        };
        if let Err(error) = filled {
            drop(held);
            if let MountSource::Volume { name, anonymous: true, .. } = &source {
                // Nobody has it yet; what went wrong before is worth more.
                let _ = super::remove_volume(self.resolution.containers, name);
            }
            return Err(error.into());
        }
        self.holds.0.push(held);
        Ok(source)
    }
}

/// Adds a mount, in the place of what another container has there.
fn place(points: &mut Vec<MountPoint>, point: MountPoint) {
    points.retain(|known| known.destination != point.destination);
    points.push(point);
}

/// Makes the folder where there is nothing, as docker does for `-v`.
fn find(path: &Path, create: bool) -> Result<(), VolumeError> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && create => {
            let made = fs::DirBuilder::new().mode(0o755).recursive(true).create(path);
            made.map_err(|source| VolumeError::Io { verb: "create", path: path.to_owned(), source })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(VolumeError::BindSource(path.to_owned()))
        }
        found => found.map(drop).map_err(|source| VolumeError::Io {
            verb: "open",
            path: path.to_owned(),
            source,
        }),
    }
}

/// User and group of what is mounted, as they are on disk.
fn owner(source: &MountSource) -> Result<Option<(u32, u32)>, VolumeError> {
    let path: PathBuf = match source {
        MountSource::Bind { path } | MountSource::Volume { path, .. } => path.clone(),
        MountSource::Image { .. } | MountSource::Tmpfs { .. } => return Ok(None),
    };
    match fs::metadata(&path) {
        Ok(found) => Ok(Some((found.uid(), found.gid()))),
        Err(source) => Err(VolumeError::Io { verb: "open", path, source }),
    }
}
