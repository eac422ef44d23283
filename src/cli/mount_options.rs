//! The options of `run` and `create` that mount something.

use super::failure::{Failure, While as _, chain};
use super::image_source::find;
use crate::container::{MountRequest, MountRequests, RequestedSource, VolumeError, VolumesFrom};
use crate::image;
use crate::store::Store;

/// What is mounted.
#[derive(Debug, clap::Args)]
pub(super) struct MountArgs {
    /// Mount something: type=bind|volume|tmpfs|image,src=SOURCE,dst=PATH[,readonly][,…]
    #[arg(long, value_name = "KEY=VALUE,…", value_parser = parse_mount)]
    mount: Vec<MountRequest>,
    /// Mount a volume, or a folder or file of the host: options are ro, rw, nocopy, owner=match, rshared, …
    #[arg(short, long, value_name = "[SRC:]DST[:OPTIONS]", value_parser = parse_volume)]
    volume: Vec<MountRequest>,
    /// Driver of the volumes that are made: local
    #[arg(long, value_name = "local", default_value = "local", value_parser = ["local"], hide = true)]
    volume_driver: String,
    /// Mount what another container has mounted
    #[arg(long, value_name = "CONTAINER[:ro|rw]", value_parser = parse_volumes_from)]
    volumes_from: Vec<VolumesFrom>,
}

impl MountArgs {
    /// What the container module is to mount; images are looked up.
    pub(super) fn requests(&self, store: &Store, what: &str) -> Result<MountRequests, Failure> {
        let mut mounts: Vec<MountRequest> =
            self.volume.iter().chain(&self.mount).cloned().collect();
        for request in &mut mounts {
            let RequestedSource::Image { name, found, .. } = &mut request.source else { continue };
            let missing = || image::Error::NoSuchImage(name.clone());
            let image = find(store, name).doing(what)?.ok_or_else(missing).doing(what)?;
            let tree = image.tree(store).doing(what)?;
            *found = Some((image.id, tree));
        }
        Ok(MountRequests { mounts, volumes_from: self.volumes_from.clone() })
    }
}

fn parse_mount(text: &str) -> Result<MountRequest, String> {
    MountRequest::from_mount(text).map_err(|error: VolumeError| chain(&error))
}

fn parse_volume(text: &str) -> Result<MountRequest, String> {
    MountRequest::from_volume(text).map_err(|error: VolumeError| chain(&error))
}

fn parse_volumes_from(text: &str) -> Result<VolumesFrom, String> {
    VolumesFrom::parse(text).map_err(|error: VolumeError| chain(&error))
}
