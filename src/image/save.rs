//! `save` and `bundle`: images from the store into one archive.
//!
//! The archive is streamed, and it is the same for the same images. A docker archive holds its layers unpacked; their
//! sizes, which the archive has to tell first, are learnt by unpacking them once more.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufWriter, Read};

use serde_json::json;

use super::archive::Archive;
use super::import::{ANNOTATION_CONTAINERD_NAME, layout_path, to_json};
use super::layers::compression;
use super::output::{Output, Sink};
use super::supply::damage;
use super::{Error, Image, list};
use crate::oci::descriptor::{ANNOTATION_REF_NAME, Descriptor};
use crate::oci::digest::{DiffId, Digest, Mismatch, VerifyReader};
use crate::oci::manifest::Index;
use crate::oci::media_type::OCI_INDEX;
use crate::oci::reference::Reference;
use crate::store::Store;
use crate::unpack::{self, Compression, Encoder};

/// The form of an archive of images.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ArchiveFormat {
    /// What `docker save` writes and everything loads.
    Docker,
    /// An OCI image layout in a tar archive: manifests and layers byte for byte, so that all digests stay.
    Oci,
}

/// How an archive is packed as a whole.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Packing {
    /// With gzip.
    Gzip,
    /// Not at all.
    #[default]
    None,
    /// With zstd.
    Zstd,
}

impl From<Packing> for Compression {
    fn from(packing: Packing) -> Self {
        match packing {
            Packing::Gzip => Self::Gzip,
            Packing::None => Self::None,
            Packing::Zstd => Self::Zstd,
        }
    }
}

/// An image, and the names that it is saved under.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// The image.
    pub image: Image,
    /// Its names; none if it was chosen by its id.
    pub names: Vec<Reference>,
}

/// The images that the user means, each once.
///
/// A repository without a tag means all images in it, as with docker.
pub fn choose(store: &Store, texts: &[String]) -> Result<Vec<Chosen>, Error> {
    let mut chosen: Vec<Chosen> = Vec::new();
    let mut add = |image: Image, name: Option<Reference>| {
        let at = chosen.iter().position(|other| other.image.id == image.id);
        let at = at.unwrap_or_else(|| {
            chosen.push(Chosen { image, names: Vec::new() });
            chosen.len() - 1
        });
        let names = &mut chosen[at].names;
        names.extend(name.filter(|name| !names.contains(name)));
    };
    for text in texts {
        let parsed: Option<Reference> = text.parse().ok();
        let bare = parsed.as_ref().filter(|name| is_bare(name, text));
        let (images, _) = if bare.is_some() { list(store)? } else { Default::default() };
        let repository = bare.map(Reference::familiar_repository);
        let mut found = false;
        for image in images {
            let name = image.reference();
            if name.as_ref().map(Reference::familiar_repository) == repository {
                found = true;
                add(image, name);
            }
        }
        if !found {
            let image = super::find(store, text)?;
            let named = parsed.filter(|name| image.name() == Some(&name.familiar()));
            add(image, named);
        }
    }
    for Chosen { names, .. } in &mut chosen {
        names.sort();
    }
    Ok(chosen)
}

/// Whether neither a tag nor a digest was given.
fn is_bare(name: &Reference, text: &str) -> bool {
    let tagged = text.rsplit('/').next().is_some_and(|last| last.contains(':'));
    name.digest().is_none() && !tagged
}

/// Writes `images` into one archive.
pub fn save(
    store: &Store,
    images: &[Chosen],
    format: ArchiveFormat,
    packing: Packing,
    output: &Output,
) -> Result<(), Error> {
    let nothing = BTreeSet::new();
    let save = Save { store, images, have: &nothing };
    match format {
        ArchiveFormat::Docker => {
            let layers = save.measured_layers()?;
            save.write(packing, output, |archive| save.docker(&layers, archive))
        }
        ArchiveFormat::Oci => save.write(packing, output, |archive| save.oci(archive)),
    }
}

/// Writes `images` into an OCI archive without the layers that the other side has. Says how many bytes of layers
/// stayed out.
pub fn bundle(
    store: &Store,
    images: &[Chosen],
    have: &BTreeSet<Digest>,
    output: &Output,
) -> Result<u64, Error> {
    let save = Save { store, images, have };
    save.write(Packing::None, output, |archive| save.oci(archive))?;
    let left_out = images.iter().flat_map(|chosen| &chosen.image.manifest.layers);
    let left_out: BTreeMap<&Digest, u64> = left_out
        .filter(|layer| have.contains(&layer.digest))
        .map(|layer| (&layer.digest, layer.size))
        .collect();
    Ok(left_out.values().sum())
}

type Out = Archive<Encoder<BufWriter<Sink>>>;

/// A layer of a docker archive.
struct Measured<'a> {
    layer: &'a Descriptor,
    compression: Compression,
    /// Of the unpacked archive, in bytes.
    size: u64,
}

struct Save<'a> {
    store: &'a Store,
    images: &'a [Chosen],
    /// Layers that stay out.
    have: &'a BTreeSet<Digest>,
}

impl Save<'_> {
    fn write(
        &self,
        packing: Packing,
        output: &Output,
        content: impl FnOnce(&mut Out) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let sink = output.open()?;
        let shown = sink.shown().to_owned();
        let failed = Sink::failed(&shown);
        let buffered = BufWriter::with_capacity(1 << 20, sink);
        let encoder = Encoder::new(packing.into(), buffered).map_err(&failed)?;
        let mut archive = Archive::new(encoder);
        content(&mut archive).map_err(|error| match error {
            // Here only the output is known by no name.
            Error::Io { verb: "write", path, source } if path.as_os_str().is_empty() => {
                failed(source)
            }
            other => other,
        })?;
        let encoder = archive.finish().map_err(&failed)?;
        let buffered = encoder.finish().map_err(&failed)?;
        buffered.into_inner().map_err(|error| failed(error.into_error()))?.finish()
    }

    /// Every layer once, by its DiffID, which is compared on the way.
    fn measured_layers(&self) -> Result<BTreeMap<&DiffId, Measured<'_>>, Error> {
        let mut measured = BTreeMap::new();
        for Chosen { image, .. } in self.images {
            for (layer, diff_id) in image.manifest.layers.iter().zip(&image.config.rootfs.diff_ids)
            {
                if measured.contains_key(diff_id) {
                    continue;
                }
                let compression = compression(layer)?;
                let reader = self.store.open_blob(layer)?;
                let algorithm = diff_id.digest().algorithm();
                let looked = unpack::measure(reader, compression, algorithm);
                let (actual, size) =
                    looked.map_err(|source| unreadable(self.store, layer, source))?;
                if actual != *diff_id {
                    let (layer, expected) = (layer.digest.clone(), diff_id.clone());
                    return Err(Error::DiffId { layer, expected, actual });
                }
                measured.insert(diff_id, Measured { layer, compression, size });
            }
        }
        Ok(measured)
    }

    /// `manifest.json`, a configuration an image, and its layers.
    fn docker(
        &self,
        layers: &BTreeMap<&DiffId, Measured<'_>>,
        archive: &mut Out,
    ) -> Result<(), Error> {
        let layer_name = |diff_id: &DiffId| format!("{}.tar", diff_id.digest().encoded());
        let config_name = |image: &Image| format!("{}.json", image.id.digest().encoded());
        let configs: BTreeMap<String, &Image> =
            self.images.iter().map(|chosen| (config_name(&chosen.image), &chosen.image)).collect();
        for (name, image) in configs {
            let bytes = &image.config_bytes[..];
            archive.file(&name, bytes.len() as u64, bytes).map_err(unwritten)?;
        }
        for (diff_id, measured) in layers {
            let blob = self.store.open_blob(measured.layer)?;
            let tar = unpack::decoder(measured.compression, blob).map_err(unwritten)?;
            let tar = VerifyReader::new(tar, diff_id.digest().clone(), measured.size);
            let written = archive.file(&layer_name(diff_id), measured.size, tar);
            written.map_err(|error| from_read(&measured.layer.digest, error))?;
        }
        let manifest: Vec<_> = self
            .images
            .iter()
            .map(|Chosen { image, names }| {
                let diff_ids = &image.config.rootfs.diff_ids;
                let tags: Vec<String> = names.iter().filter_map(docker_tag).collect();
                json!({
                    "Config": config_name(image),
                    "RepoTags": if tags.is_empty() { None } else { Some(tags) },
                    "Layers": diff_ids.iter().map(layer_name).collect::<Vec<_>>(),
                })
            })
            .collect();
        let manifest = serde_json::Value::from(manifest).to_string();
        archive.file("manifest.json", manifest.len() as u64, manifest.as_bytes()).map_err(unwritten)
    }

    /// `blobs/`, `index.json` and `oci-layout`.
    fn oci(&self, archive: &mut Out) -> Result<(), Error> {
        let mut blobs = BTreeMap::new();
        for Chosen { image, .. } in self.images {
            let manifest = &image.manifest;
            for part in [&image.manifest_descriptor, &manifest.config] {
                blobs.insert(layout_path(&part.digest), part);
            }
            for layer in manifest.layers.iter().filter(|l| !self.have.contains(&l.digest)) {
                blobs.insert(layout_path(&layer.digest), layer);
            }
        }
        archive.folder("blobs/").map_err(unwritten)?;
        let mut folder = String::new();
        for (path, blob) in blobs {
            let parent = format!("blobs/{}/", blob.digest.algorithm().name());
            if parent != folder {
                archive.folder(&parent).map_err(unwritten)?;
                folder = parent;
            }
            let reader = self.store.open_blob(blob)?;
            let written = archive.file(&path, blob.size, reader);
            written.map_err(|error| from_read(&blob.digest, error))?;
        }
        let index = Index {
            schema_version: 2,
            media_type: Some(OCI_INDEX.to_owned()),
            manifests: self.images.iter().flat_map(index_entries).collect(),
        };
        let index = to_json(&index)?;
        archive.file("index.json", index.len() as u64, &index[..]).map_err(unwritten)?;
        let layout = crate::store::OCI_LAYOUT.as_bytes();
        archive.file("oci-layout", layout.len() as u64, layout).map_err(unwritten)
    }
}

/// One entry a name. Podman looks for it in the one annotation, docker and containerd in the other.
fn index_entries(chosen: &Chosen) -> Vec<Descriptor> {
    let image = &chosen.image;
    let found = &image.manifest_descriptor;
    let mut entry = Descriptor::new(&found.media_type, found.digest.clone(), found.size);
    entry.platform = Some(image.config.platform.clone());
    if chosen.names.is_empty() {
        return vec![entry];
    }
    let named = chosen.names.iter().map(|name| {
        let mut entry = entry.clone();
        for annotation in [ANNOTATION_REF_NAME, ANNOTATION_CONTAINERD_NAME] {
            entry.annotations.insert(annotation.to_owned(), name.to_string());
        }
        entry
    });
    named.collect()
}

/// `busybox:latest`. A name with nothing but a digest is no tag.
fn docker_tag(name: &Reference) -> Option<String> {
    Some(format!("{}:{}", name.familiar_repository(), name.tag()?))
}

/// The archive could not be written; to where is known further up.
fn unwritten(source: io::Error) -> Error {
    Error::Io { verb: "write", path: std::path::PathBuf::new(), source }
}

/// Copying a blob failed: the blob is at fault if its digest says so, else the archive.
fn from_read(digest: &Digest, error: io::Error) -> Error {
    match Mismatch::of(&error) {
        Some(mismatch) => Error::Damaged { digest: digest.clone(), source: mismatch.clone() },
        None => unwritten(error),
    }
}

/// A layer in the store could not be read: it is damaged, or was made so.
pub(super) fn unreadable(store: &Store, layer: &Descriptor, source: unpack::Error) -> Error {
    let made_so = || Error::Layer { layer: layer.digest.to_string(), source };
    damage(store, layer).unwrap_or_else(made_so)
}

/// Reads the digests that the other side has, one a line, as [`super::inventory`] writes them.
pub fn read_inventory(
    mut from: impl Read,
    shown: &std::path::Path,
) -> Result<BTreeSet<Digest>, Error> {
    /// The longest list that is read, in bytes: some two million digests.
    const LONGEST: u64 = 128 << 20;
    let failed = |source| Error::Io { verb: "read", path: shown.to_owned(), source };
    let mut text = String::new();
    from.by_ref().take(LONGEST).read_to_string(&mut text).map_err(failed)?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let parsed = lines.map(|line| {
        line.parse().map_err(|source| Error::Inventory { path: shown.to_owned(), source })
    });
    parsed.collect()
}
