//! `pull`: from a reference to an image in the store.

use std::io::{self, Read};
use std::sync::OnceLock;

use super::layers::{self, Build};
use super::supply::Source;
use super::transfer::{self, Origin};
use super::{Error, Event, Image, Observer};
use crate::oci::descriptor::Descriptor;
use crate::oci::digest::{Digest, ImageId, Mismatch, VerifyReader};
use crate::oci::image_config::{ImageConfig, MAX_CONFIG};
use crate::oci::manifest::{Document, MAX_MANIFEST, Manifest};
use crate::oci::media_type;
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;
use crate::registry::{Client, RawManifest, media_type_of};
use crate::store::{
    ANNOTATION_PULLED, ANNOTATION_SIZE, ANNOTATION_SOURCE, Error as StoreError, Publication, Store,
};
use crate::unpack::Limits;

/// How deeply indexes may be nested.
pub(super) const MAX_INDEX_DEPTH: usize = 4;
/// How many manifests are fetched in the search for a platform.
pub(super) const MAX_MANIFESTS: usize = 32;
/// How often a pull starts over because another command removed a blob that it had counted on.
const MAX_RESTARTS: usize = 3;

/// What a pull is told.
#[derive(Clone, Debug)]
pub struct PullOptions {
    /// What to pull.
    pub reference: Reference,
    /// For which platform; this machine's own when `None`.
    pub platform: Option<Platform>,
    /// How many layers are fetched and unpacked at a time.
    pub parallel: usize,
    /// How much each layer may ask for.
    pub limits: Limits,
}

/// What a pull did.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// The digest that the reference stands for at the registry.
    pub digest: Digest,
    /// The image's id.
    pub id: ImageId,
    /// Whether anything was fetched; otherwise the store had it.
    pub fresh: bool,
}

/// Pulls an image: fetches what the store lacks, verifies all of it, unpacks it, and names it last.
pub fn pull(
    store: &Store,
    client: &Client,
    options: &PullOptions,
    observer: &dyn Observer,
) -> Result<Pulled, Error> {
    let mut restarts = 0;
    loop {
        let pull = Pull { store, client, options, observer, resolved: OnceLock::new() };
        match pull.run() {
            Err(Error::Store(StoreError::Vanished(_))) if restarts < MAX_RESTARTS => restarts += 1,
            result => return result,
        }
    }
}

/// Pulls the first of several images that a name may mean which can be had; says which that was.
pub fn pull_first(
    store: &Store,
    client: &Client,
    candidates: &[Reference],
    options: &PullOptions,
    observer: &dyn Observer,
) -> Result<(Reference, Pulled), Error> {
    let (last, others) = match candidates.split_last() {
        Some((last, others)) => (last, others),
        None => (&options.reference, [].as_slice()),
    };
    let try_one = |reference: &Reference| {
        let options = PullOptions { reference: reference.clone(), ..options.clone() };
        pull(store, client, &options, observer).map(|pulled| (reference.clone(), pulled))
    };
    for reference in others {
        match try_one(reference) {
            Err(error @ Error::Registry(_)) => {
                observer.event(Event::PassedOver(reference, &error));
            }
            result => return result,
        }
    }
    try_one(last)
}

struct Pull<'a> {
    store: &'a Store,
    client: &'a Client,
    options: &'a PullOptions,
    observer: &'a dyn Observer,
    /// What the registry has said that the reference stands for.
    resolved: OnceLock<Option<Digest>>,
}

impl Pull<'_> {
    fn run(&self) -> Result<Pulled, Error> {
        let reference = &self.options.reference;
        if let Some(pulled) = self.up_to_date()? {
            return Ok(pulled);
        }
        let top = self.top()?;
        let (raw, manifest) = self.choose(&top)?;
        layers::check_types(&manifest.layers)?;
        let config_bytes = self.config(&manifest)?;
        let config = parse_config(&manifest, &config_bytes)?;
        if self.platform().rank(&config.platform).is_none() {
            return Err(Error::NoSuchPlatform {
                wanted: self.platform().to_string(),
                offered: config.platform.to_string(),
            });
        }
        let id = ImageId::new(manifest.config.digest.clone());
        self.observer.event(Event::Layers(&manifest.layers));
        let staging = self.store.stage()?;
        let source = &Remote { client: self.client, reference };
        let (store, limits, diff_ids) = (self.store, &self.options.limits, &config.rootfs.diff_ids);
        let build = Build {
            observer: self.observer,
            parallel: self.options.parallel,
            ..Build::new(store, &staging, &manifest.layers, diff_ids, source, limits)
        };
        let tree = build.tree_of(&id).inspect_err(|error| {
            if error.is_network() {
                staging.keep_held();
            }
        })?;
        staging.write_blob(&raw.bytes)?;
        staging.write_blob(&config_bytes)?;
        let mut image =
            Descriptor::new(&raw.media_type, raw.digest.clone(), raw.bytes.len() as u64);
        image.platform = Some(config.platform.clone());
        image.annotations.insert(ANNOTATION_PULLED.to_owned(), top.digest.to_string());
        image.annotations.insert(ANNOTATION_SOURCE.to_owned(), reference.to_string());
        image.annotations.insert(ANNOTATION_SIZE.to_owned(), tree.size.to_string());
        let mut blobs = vec![raw.digest.clone(), manifest.config.digest.clone()];
        blobs.extend(manifest.layers.iter().map(|layer| layer.digest.clone()));
        let (name, tree) = (Some(reference), tree.name);
        let new = Publication { name, image: &image, id: &id, blobs: &blobs, tree };
        self.store.publish(&staging, &new)?;
        Ok(Pulled { digest: top.digest, id, fresh: true })
    }

    fn platform(&self) -> Platform {
        self.options.platform.clone().unwrap_or_else(Platform::host)
    }

    /// The image in the store, if the registry says that the reference still stands for it and nothing of it is lost.
    fn up_to_date(&self) -> Result<Option<Pulled>, Error> {
        let reference = &self.options.reference;
        let Some(entry) = self.store.named(&reference.familiar())? else { return Ok(None) };
        let Ok(image) = Image::load(self.store, &entry) else { return Ok(None) };
        let whole = self.store.has_tree(&image.id)
            && image.manifest.layers.iter().all(|layer| self.store.has_blob(layer));
        if !whole || self.platform().rank(&image.config.platform).is_none() {
            return Ok(None);
        }
        match self.resolve()? {
            Some(digest) if digest.to_string() == image.repo_digest() => {
                Ok(Some(Pulled { digest: digest.clone(), id: image.id, fresh: false }))
            }
            _ => Ok(None),
        }
    }

    /// Asks the registry, once, which digest the reference stands for; `None` where it does not tell.
    fn resolve(&self) -> Result<Option<&Digest>, Error> {
        if self.resolved.get().is_none() {
            let digest = self.client.resolve(&self.options.reference)?;
            return Ok(self.resolved.get_or_init(|| digest).as_ref());
        }
        Ok(self.resolved.get().and_then(Option::as_ref))
    }

    /// The document that the reference stands for: from the store, if it is there and the registry says that it is this
    /// one; registries count what is fetched, not what is asked for.
    fn top(&self) -> Result<RawManifest, Error> {
        let reference = &self.options.reference;
        if !self.store.images()?.is_empty()
            && let Some(digest) = self.resolve()?
            && reference.digest().is_none_or(|pinned| pinned == digest)
            && let Some(found) = self.stored(digest, None)
        {
            return Ok(found);
        }
        Ok(self.client.manifest(reference)?)
    }

    /// A document that the store has, verified; under the type that it gives itself unless another is said.
    fn stored(&self, digest: &Digest, kind: Option<&str>) -> Option<RawManifest> {
        let bytes = self.store.read_document(digest, MAX_MANIFEST).ok()?;
        let media_type = kind.map_or_else(|| media_type_of(&bytes), str::to_owned);
        Some(RawManifest { bytes, digest: digest.clone(), media_type })
    }

    /// The manifest for the platform that the top document leads to.
    fn choose(&self, top: &RawManifest) -> Result<(RawManifest, Manifest), Error> {
        let raw = transfer::select(self, top, &self.platform())?;
        match transfer::parse(&raw)? {
            Document::Manifest(manifest) => Ok((raw, manifest)),
            Document::Index(_) => Err(Error::TooDeep),
        }
    }

    fn config(&self, manifest: &Manifest) -> Result<Vec<u8>, Error> {
        let descriptor = &manifest.config;
        if let Ok(bytes) = self.store.read_blob(descriptor, MAX_CONFIG) {
            return Ok(bytes);
        }
        if !media_type::is_config(&descriptor.media_type) {
            return Err(Error::LayerType(descriptor.media_type.chars().take(128).collect()));
        }
        let too_long =
            |source| Error::Blob { what: "config", digest: descriptor.digest.clone(), source };
        if descriptor.size > MAX_CONFIG {
            return Err(too_long(Mismatch::TooLong { expected: MAX_CONFIG }));
        }
        let blob = self.client.blob(&self.options.reference, descriptor, 0)?;
        let mut bytes = Vec::new();
        let mut reader = VerifyReader::new(blob, descriptor.digest.clone(), descriptor.size);
        match reader.read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(error) => Err(match Mismatch::of(&error) {
                Some(mismatch) => too_long(mismatch.clone()),
                None => crate::registry::Error::from_read(error, &descriptor.digest).into(),
            }),
        }
    }
}

/// Documents and configurations that the store has are not fetched.
impl Origin for Pull<'_> {
    fn manifest(&self, entry: &Descriptor) -> Result<RawManifest, Error> {
        match self.stored(&entry.digest, Some(&entry.media_type)) {
            Some(stored) if stored.bytes.len() as u64 == entry.size => Ok(stored),
            _ => Ok(self.client.manifest_by_digest(&self.options.reference, entry)?),
        }
    }

    fn open(&self, blob: &Descriptor, offset: u64) -> io::Result<Box<dyn Read + Send + '_>> {
        // Configurations are all that is read here.
        if offset == 0
            && let Ok(bytes) = self.store.read_blob(blob, MAX_CONFIG)
        {
            return Ok(Box::new(io::Cursor::new(bytes)));
        }
        let blob = self.client.blob(&self.options.reference, blob, offset);
        Ok(Box::new(blob.map_err(io::Error::other)?))
    }
}

/// Parses the configuration that belongs to `manifest`.
pub(super) fn parse_config(manifest: &Manifest, bytes: &[u8]) -> Result<ImageConfig, Error> {
    let digest = &manifest.config.digest;
    let config: ImageConfig = serde_json::from_slice(bytes)
        .map_err(|source| Error::Config { digest: digest.clone(), source })?;
    let (diff_ids, layers) = (config.rootfs.diff_ids.len(), manifest.layers.len());
    if diff_ids != layers {
        return Err(Error::LayerCount { diff_ids, layers });
    }
    Ok(config)
}

/// Layers from a registry.
struct Remote<'a> {
    client: &'a Client,
    reference: &'a Reference,
}

impl Source for Remote<'_> {
    fn open(&self, layer: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send + '_>, Error> {
        Ok(Box::new(self.client.blob(self.reference, layer, offset)?))
    }

    fn distrust(&self, layer: &Descriptor, why: &Mismatch) -> bool {
        self.client.distrust(&layer.digest, why)
    }
}
