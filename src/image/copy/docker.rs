//! Archives of `docker save`: one configuration and the layers, unpacked from whatever packs them, for each image.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::archive::TarFile;
use super::files::{Files, failed};
use crate::image::transfer::{Origin, parse, read_config, read_error};
use crate::image::{Error, Event, Observer, pull};
use crate::oci::descriptor::Descriptor;
use crate::oci::digest::{Algorithm, DiffId, Digest, Hasher, VerifyReader};
use crate::oci::image_config::MAX_CONFIG;
use crate::oci::manifest::{Document, MAX_MANIFEST, Manifest};
use crate::oci::media_type::{
    LayerCompression, OCI_CONFIG, OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, OCI_MANIFEST,
    layer_compression,
};
use crate::oci::reference::Reference;
use crate::registry::RawManifest;
use crate::unpack::{self, Compression};

/// The list of images in an archive.
const LIST: &str = "manifest.json";

/// An image in the list.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// One image of an archive, to be copied.
#[derive(Debug)]
pub(super) struct Archived {
    files: Files,
    /// The files that hold its blobs.
    names: HashMap<Digest, String>,
}

/// Opens the image `reference` of an archive, or the only one that it has. An archive has no manifests of the kind that
/// registries have; the image gets one, which names its files as they are.
pub(super) fn open(
    files: Files,
    reference: Option<&Reference>,
) -> Result<(Archived, RawManifest), Error> {
    let bytes = files.read(LIST, MAX_MANIFEST)?;
    let saved: Vec<Saved> = serde_json::from_slice(&bytes)
        .map_err(|error| Error::document(&Digest::sha256(&bytes), error.into()))?;
    let named = |image: &&Saved| {
        let mut tags = image.repo_tags.iter().flatten();
        reference.is_none_or(|wanted| tags.any(|tag| tag.parse().as_ref() == Ok(wanted)))
    };
    let found: Vec<&Saved> = saved.iter().filter(named).collect();
    let path = files.path().display().to_string();
    let image = match (found.as_slice(), reference) {
        ([image], _) => *image,
        ([], Some(reference)) => {
            return Err(Error::NoSuchTag { path, tag: reference.familiar() });
        }
        (found, _) => return Err(Error::ImageCount { path, found: found.len() }),
    };
    let config = files.read(&image.config, MAX_CONFIG)?;
    let mut archived = Archived { files, names: HashMap::new() };
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(OCI_MANIFEST.to_owned()),
        config: Descriptor::of(OCI_CONFIG, &config),
        layers: image.layers.iter().map(|name| archived.layer(name)).collect::<Result<_, _>>()?,
    };
    archived.names.insert(manifest.config.digest.clone(), image.config.clone());
    pull::parse_config(&manifest, &config)?;
    let bytes = to_json(&manifest)?;
    let (digest, media_type) = (Digest::sha256(&bytes), OCI_MANIFEST.to_owned());
    Ok((archived, RawManifest { bytes, digest, media_type }))
}

impl Archived {
    /// What the file `name` is as a layer.
    fn layer(&mut self, name: &str) -> Result<Descriptor, Error> {
        let path = self.files.path().join(name);
        let mut file = self.files.open(name).map_err(failed("open", &path))?;
        let (mut hasher, mut size) = (Hasher::new(Algorithm::Sha256), 0);
        let mut kind = None;
        let mut buffer = vec![0; 1 << 18];
        loop {
            let count = file.read(&mut buffer).map_err(failed("read", &path))?;
            kind.get_or_insert_with(|| Compression::sniff(&buffer[..count]));
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
            size += count as u64;
        }
        let media_type = match kind.unwrap_or(Compression::None) {
            Compression::None => OCI_LAYER,
            Compression::Gzip => OCI_LAYER_GZIP,
            Compression::Zstd => OCI_LAYER_ZSTD,
            _ => return Err(Error::LayerType(name.to_owned())),
        };
        let digest = hasher.finish();
        self.names.insert(digest.clone(), name.to_owned());
        Ok(Descriptor::new(media_type, digest, size))
    }
}

impl Origin for Archived {
    fn manifest(&self, descriptor: &Descriptor) -> Result<RawManifest, Error> {
        let path = self.files.path().display().to_string();
        Err(Error::NoSuchTag { path, tag: descriptor.digest.to_string() })
    }

    fn open(&self, blob: &Descriptor, offset: u64) -> io::Result<Box<dyn Read + Send + '_>> {
        let name = self.names.get(&blob.digest).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(self.files.open(name)?.skip(offset)))
    }
}

/// Writes an archive with one image, called `name`.
pub(super) fn write(
    path: &Path,
    name: Option<&Reference>,
    origin: &dyn Origin,
    raw: &RawManifest,
    observer: &dyn Observer,
) -> Result<(), Error> {
    let Document::Manifest(manifest) = parse(raw)? else { return Err(Error::TooDeep) };
    let bytes = read_config(origin, &manifest)?;
    let config = pull::parse_config(&manifest, &bytes)?;
    observer.event(Event::Layers(&manifest.layers));
    let mut file = TarFile::create(path)?;
    let (mut layers, mut written) = (Vec::new(), HashSet::new());
    for (layer, diff_id) in manifest.layers.iter().zip(&config.rootfs.diff_ids) {
        let member = format!("{}.tar", diff_id.digest().encoded());
        if written.insert(diff_id) {
            file.add(&member, |file| unpack_layer(layer, diff_id, origin, file, observer))?;
        }
        observer.event(Event::Sent(&layer.digest));
        layers.push(member);
    }
    let config = format!("{}.json", manifest.config.digest.encoded());
    file.add_bytes(&config, &bytes)?;
    let tag = |name: &Reference| Some(format!("{}:{}", name.familiar_repository(), name.tag()?));
    let repo_tags = name.and_then(tag).map(|tag| vec![tag]);
    file.add_bytes(LIST, &to_json(&[Saved { config, repo_tags, layers }])?)?;
    file.finish()
}

/// Writes the tar archive that a layer is, and verifies it packed and unpacked.
fn unpack_layer(
    layer: &Descriptor,
    expected: &DiffId,
    origin: &dyn Origin,
    to: &mut dyn Write,
    observer: &dyn Observer,
) -> Result<(), Error> {
    let compression = match layer_compression(&layer.media_type) {
        Some(LayerCompression::Gzip) => Compression::Gzip,
        Some(LayerCompression::None) => Compression::None,
        Some(LayerCompression::Zstd) => Compression::Zstd,
        None => return Err(Error::LayerType(layer.media_type.chars().take(128).collect())),
    };
    let failed_read = |error| read_error(layer, error);
    let packed = origin.open(layer, 0).map_err(failed_read)?;
    let packed = VerifyReader::new(packed, layer.digest.clone(), layer.size);
    let mut tar = unpack::decoder(compression, packed).map_err(failed_read)?;
    let mut hasher = Hasher::new(expected.digest().algorithm());
    let (mut buffer, mut written) = (vec![0; 1 << 18], 0);
    loop {
        let count = tar.read(&mut buffer).map_err(failed_read)?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
        to.write_all(&buffer[..count]).map_err(failed("write", Path::new("layer")))?;
        written += count as u64;
        observer.event(Event::Sending(&layer.digest, written));
    }
    let actual = DiffId::new(hasher.finish());
    match actual == *expected {
        true => Ok(()),
        false => {
            let (layer, expected) = (layer.digest.clone(), expected.clone());
            Err(Error::DiffId { layer, expected, actual })
        }
    }
}

fn to_json(document: &impl Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(document)
        .map_err(|source| Error::Config { digest: Digest::sha256(b""), source })
}
