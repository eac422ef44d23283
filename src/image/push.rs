//! `push`: from the store to a registry.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use super::supply::damage;
use super::transfer::{Origin, Remote, Transfer};
use super::{Error, Image, Observer, list};
use crate::oci::descriptor::Descriptor;
use crate::oci::digest::Digest;
use crate::oci::manifest::{Document, MAX_MANIFEST};
use crate::oci::reference::Reference;
use crate::registry::{Client, RawManifest};
use crate::store::{ANNOTATION_SOURCE, Store};

/// Pushes `image` as it lies in the store, byte for byte, and returns its manifest.
///
/// Layers that the registry is known to have in another repository are mounted from there.
pub fn push(
    store: &Store,
    client: &Client,
    image: &Image,
    destination: &Reference,
    parallel: usize,
    observer: &dyn Observer,
) -> Result<RawManifest, Error> {
    if let Some(digest) = destination.digest() {
        return Err(Error::DigestNamed(digest.clone()));
    }
    let raw = manifest(store, image)?;
    let origin = Stored { store, repositories: repositories(store, destination.registry())? };
    let target = Remote { client, reference: destination };
    Transfer { origin: &origin, target: &target, observer, parallel }.run(&raw)?;
    Ok(raw)
}

/// The manifest of `image`, whose entry may lead to it over an index.
fn manifest(store: &Store, image: &Image) -> Result<RawManifest, Error> {
    let mut at = image.descriptor.clone();
    loop {
        let bytes = store.read_blob(&at, MAX_MANIFEST)?;
        let parsed = Document::parse(&bytes, Some(&at.media_type));
        match parsed.map_err(|source| Error::document(&at.digest, source))? {
            Document::Manifest(_) => {
                return Ok(RawManifest { bytes, digest: at.digest, media_type: at.media_type });
            }
            Document::Index(index) => {
                let candidates = index.candidates(&image.config.platform).into_iter();
                let found = candidates.into_iter().find(|entry| store.has_blob(entry)).cloned();
                at = found.ok_or_else(|| Error::no_platform(&image.config.platform, &index))?;
            }
        }
    }
}

/// In which repository of `registry` the blobs of the store are, as far as it is known from where they came.
fn repositories(store: &Store, registry: &str) -> Result<HashMap<Digest, String>, Error> {
    let mut found = HashMap::new();
    for image in list(store)?.0 {
        let source = image.descriptor.annotations.get(ANNOTATION_SOURCE);
        let source = source.and_then(|source| source.parse::<Reference>().ok());
        let Some(source) = source.filter(|source| source.registry() == registry) else { continue };
        for blob in image.manifest.layers.iter().chain([&image.manifest.config]) {
            found.insert(blob.digest.clone(), source.repository().to_owned());
        }
    }
    Ok(found)
}

/// The store as an origin.
struct Stored<'a> {
    store: &'a Store,
    repositories: HashMap<Digest, String>,
}

impl Origin for Stored<'_> {
    fn manifest(&self, descriptor: &Descriptor) -> Result<RawManifest, Error> {
        let bytes = self.store.read_blob(descriptor, MAX_MANIFEST)?;
        let (digest, media_type) = (descriptor.digest.clone(), descriptor.media_type.clone());
        Ok(RawManifest { bytes, digest, media_type })
    }

    fn open(&self, blob: &Descriptor, offset: u64) -> io::Result<Box<dyn Read + Send + '_>> {
        let mut file = File::open(self.store.blob_path(&blob.digest))?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Box::new(file))
    }

    fn explain(&self, blob: &Descriptor, error: Error) -> Error {
        damage(self.store, blob).unwrap_or(error)
    }

    fn repository(&self, _: &str, blob: &Digest) -> Option<String> {
        self.repositories.get(blob).cloned()
    }
}
