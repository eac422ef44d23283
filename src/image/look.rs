//! `inspect --remote`: what a registry says about an image, without its layers.

use super::transfer::{Remote, parse, read_config, select};
use super::{Error, pull};
use crate::oci::descriptor::Descriptor;
use crate::oci::image_config::ImageConfig;
use crate::oci::manifest::{Document, Manifest};
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;
use crate::registry::{Client, RawManifest};

/// What a reference stands for at its registry.
#[derive(Debug)]
pub struct Look {
    /// The manifest or index.
    pub top: RawManifest,
    /// The entries of the index, if it is one.
    pub entries: Vec<Descriptor>,
    /// The image for the platform asked for; `None` where nobody asked, and there is none for this machine.
    pub image: Option<RemoteImage>,
}

/// One image at a registry.
#[derive(Debug)]
pub struct RemoteImage {
    /// Its manifest, as it came.
    pub raw: RawManifest,
    /// Its manifest.
    pub manifest: Manifest,
    /// Its configuration.
    pub config: ImageConfig,
    /// The configuration's bytes, for fields that this program does not know.
    pub config_bytes: Vec<u8>,
}

/// Looks at what `reference` stands for, and at its image for `platform`, or else for this machine.
pub fn look(
    client: &Client,
    reference: &Reference,
    platform: Option<&Platform>,
) -> Result<Look, Error> {
    let origin = Remote { client, reference };
    let top = client.manifest(reference)?;
    let entries = match parse(&top)? {
        Document::Index(index) => index.manifests,
        Document::Manifest(_) => Vec::new(),
    };
    let host = Platform::host();
    let raw = match select(&origin, &top, platform.unwrap_or(&host)) {
        Err(Error::NoSuchPlatform { .. }) if platform.is_none() => {
            return Ok(Look { top, entries, image: None });
        }
        raw => raw?,
    };
    let Document::Manifest(manifest) = parse(&raw)? else { return Err(Error::TooDeep) };
    let config_bytes = read_config(&origin, &manifest)?;
    let config = pull::parse_config(&manifest, &config_bytes)?;
    if let Some(wanted) = platform.filter(|wanted| wanted.rank(&config.platform).is_none()) {
        let (wanted, offered) = (wanted.to_string(), config.platform.to_string());
        return Err(Error::NoSuchPlatform { wanted, offered });
    }
    Ok(Look { top, entries, image: Some(RemoteImage { raw, manifest, config, config_bytes }) })
}
