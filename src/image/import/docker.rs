//! Images of an archive as `docker save` writes it.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;

use serde::Deserialize;

use super::{Import, Imported, Vouched, to_json};
use crate::image::Error;
use crate::image::supply::Nowhere;
use crate::oci::descriptor::Descriptor;
use crate::oci::digest::Digest;
use crate::oci::image_config::MAX_CONFIG;
use crate::oci::manifest::{MAX_MANIFEST, Manifest};
use crate::oci::media_type::{OCI_CONFIG, OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, OCI_MANIFEST};
use crate::unpack::Compression;

impl Import<'_> {
    /// Every image of an archive as `docker save` writes it, whose `manifest.json` is `manifest`.
    pub(super) fn docker_archive(
        &self,
        folder: &OwnedFd,
        manifest: File,
    ) -> Result<Vec<Imported>, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Saved {
            config: String,
            #[serde(default)]
            repo_tags: Option<Vec<String>>,
            layers: Vec<String>,
        }
        let mut bytes = Vec::new();
        let limited = manifest.take(MAX_MANIFEST).read_to_end(&mut bytes);
        limited.map_err(|e| self.io("read", e))?;
        let saved: Vec<Saved> = serde_json::from_slice(&bytes)
            .map_err(|e| Error::document(&Digest::sha256(&bytes), e.into()))?;
        self.check_count(saved.len())?;
        let mut done = Vec::new();
        for image in &saved {
            let config_bytes = self.read_small(folder, &image.config, MAX_CONFIG)?;
            let mut stored = Vec::new();
            for layer in &image.layers {
                stored.push(self.docker_layer(folder, layer)?);
            }
            let manifest = Manifest {
                schema_version: 2,
                media_type: Some(OCI_MANIFEST.to_owned()),
                config: Descriptor::of(OCI_CONFIG, &config_bytes),
                layers: stored,
            };
            let tags = image.repo_tags.as_deref().unwrap_or_default();
            let names = match (self.name, tags) {
                (Some(name), _) => vec![Some(name.clone())],
                (None, []) => vec![self.made_up_name()?],
                (None, tags) => tags
                    .iter()
                    .map(|tag| self.own_name(tag, &manifest).map(Some))
                    .collect::<Result<_, _>>()?,
            };
            let bytes = to_json(&manifest)?;
            for name in names {
                done.extend(self.finish(
                    name,
                    &manifest,
                    &bytes,
                    OCI_MANIFEST,
                    &config_bytes,
                    Vouched::Yes(&Nowhere),
                )?);
            }
        }
        Ok(done)
    }

    fn docker_layer(&self, folder: &OwnedFd, name: &str) -> Result<Descriptor, Error> {
        let mut file = self.open_inside(folder, name)?;
        let kind = match self.sniff(&mut file)? {
            Compression::None => OCI_LAYER,
            Compression::Gzip => OCI_LAYER_GZIP,
            Compression::Zstd => OCI_LAYER_ZSTD,
            _ => return Err(Error::LayerType(name.to_owned())),
        };
        self.stage_blob(&mut file, kind)
    }
}
