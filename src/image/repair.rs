//! `repair`: makes right what `verify` finds wrong, and touches nothing else.
//!
//! Blobs come from the registry that the image came from, by digest, so that it does not matter whom else they might come
//! from. Trees are unpacked again from good layers, alone: a file that other trees share with a broken one may be the
//! broken part.

use std::fs;
use std::io;

use super::layers::{Build, Sharing};
use super::supply::Nowhere;
use super::verify::{blob_fault, select, shown, stray_fault, tree};
use super::{Error, Image};
use crate::oci::descriptor::{ANNOTATION_REF_NAME, Descriptor};
use crate::oci::digest::{Digest, ImageId, Mismatch, VerifyReader};
use crate::oci::image_config::MAX_CONFIG;
use crate::oci::manifest::{Document, MAX_MANIFEST, Manifest};
use crate::oci::media_type::{OCI_MANIFEST, is_manifest};
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;
use crate::registry::{self, Client};
use crate::store::{self, ANNOTATION_SIZE, ANNOTATION_SOURCE, Store};
use crate::unpack::Limits;
use crate::unpack::list::{ListReader, RecordKind};

/// What a repair did, or could not do.
#[derive(Debug)]
pub enum Repaired {
    /// Something was broken and is right again: what, and how.
    Mended(String, String),
    /// Something is still broken: what, and why.
    Broken(String, Error),
}

/// Who helps with a repair.
pub struct Helpers<'a> {
    /// Containers that run, and the images that they stand on, whose trees cannot be exchanged.
    pub running: &'a [(String, ImageId)],
    /// Makes the client for registries, which is only done when something has to be fetched.
    pub connect: &'a dyn Fn() -> Result<Client, registry::Error>,
    /// Is told what was done.
    pub report: &'a mut dyn FnMut(Repaired),
}

impl std::fmt::Debug for Helpers<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Helpers").field("running", &self.running).finish_non_exhaustive()
    }
}

/// Repairs the images that `texts` mean, or all of the store.
pub fn repair(store: &Store, texts: &[String], helpers: Helpers<'_>) -> Result<(), Error> {
    let mut repair = Repair { store, helpers, client: None };
    if !store.has_layout() {
        store.mend_layout()?;
        repair.mended("oci-layout", "written again");
    }
    let entries = match store.images() {
        Ok(entries) => entries,
        Err(error) if is_lost(&error) => repair.index()?,
        Err(error) => return Err(error.into()),
    };
    for entry in select(store, &entries, texts)? {
        repair.image(&entry, &entries);
    }
    if texts.is_empty() {
        repair.strays(&entries)?;
    }
    Ok(())
}

/// Whether `index.json` is missing or makes no sense. One that could not be opened just now is none to be made anew: where
/// images came from stands nowhere else.
fn is_lost(error: &store::Error) -> bool {
    let lost = [libc::ENOENT, libc::EISDIR, libc::ELOOP, libc::ENXIO, libc::EIO];
    error.errno().is_none_or(|errno| lost.contains(&errno))
}

struct Repair<'s, 'h> {
    store: &'s Store,
    helpers: Helpers<'h>,
    client: Option<Client>,
}

impl Repair<'_, '_> {
    fn mended(&mut self, what: impl Into<String>, how: impl Into<String>) {
        (self.helpers.report)(Repaired::Mended(what.into(), how.into()));
    }

    fn broken(&mut self, what: impl Into<String>, error: impl Into<Error>) {
        (self.helpers.report)(Repaired::Broken(what.into(), error.into()));
    }

    fn image(&mut self, entry: &Descriptor, entries: &[Descriptor]) {
        let name = shown(entry);
        let sources = self.sources(entry, entries);
        let Some(manifest) = self.manifest(entry, &name, &sources) else { return };
        let mut whole = self.blob("config", &manifest.config, &name, &sources);
        for layer in &manifest.layers {
            whole &= self.blob("layer", layer, &name, &sources);
        }
        if !whole {
            return;
        }
        match Image::load(self.store, entry) {
            Ok(image) => {
                self.tree(&image, &name);
                self.link(&image, &name);
            }
            Err(error) => self.broken(name, error),
        }
    }

    /// Where parts of an image may be had: where it came from, and where images came from that share parts with it.
    fn sources(&self, entry: &Descriptor, entries: &[Descriptor]) -> Vec<Reference> {
        let source = |entry: &Descriptor| -> Option<Reference> {
            entry.annotations.get(ANNOTATION_SOURCE)?.parse().ok()
        };
        let layers = |entry: &Descriptor| -> Vec<Digest> {
            let bytes = self.store.read_blob(entry, MAX_MANIFEST).unwrap_or_default();
            match Document::parse(&bytes, Some(&entry.media_type)) {
                Ok(Document::Manifest(manifest)) => {
                    manifest.layers.into_iter().map(|layer| layer.digest).collect()
                }
                _ => Vec::new(),
            }
        };
        let own = layers(entry);
        let related = entries.iter().filter(|other| {
            other.digest == entry.digest || layers(other).iter().any(|layer| own.contains(layer))
        });
        let mut sources: Vec<Reference> = source(entry).into_iter().collect();
        for found in related.filter_map(source) {
            if !sources.contains(&found) {
                sources.push(found);
            }
        }
        sources
    }

    /// The manifest for this machine that an entry leads to, fetched again where it is broken.
    fn manifest(
        &mut self,
        entry: &Descriptor,
        name: &str,
        sources: &[Reference],
    ) -> Option<Manifest> {
        let mut at = entry.clone();
        for _ in 0..=super::pull::MAX_INDEX_DEPTH {
            if !self.blob("manifest", &at, name, sources) {
                return None;
            }
            let read = self.store.read_blob(&at, MAX_MANIFEST).map_err(Error::from);
            let parsed = read.and_then(|bytes| {
                let parsed = Document::parse(&bytes, Some(&at.media_type));
                parsed.map_err(|source| Error::document(&at.digest, source))
            });
            match parsed {
                Ok(Document::Manifest(manifest)) => return Some(manifest),
                Ok(Document::Index(index)) => {
                    let host = Platform::host();
                    let candidates = index.candidates(&host);
                    let found = candidates.iter().find(|c| self.store.has_blob(c));
                    match found.or_else(|| candidates.first()) {
                        Some(next) => at = (*next).clone(),
                        None => {
                            self.broken(name, Error::no_platform(&host, &index));
                            return None;
                        }
                    }
                }
                Err(error) => {
                    self.broken(name, error);
                    return None;
                }
            }
        }
        self.broken(name, Error::TooDeep);
        None
    }

    /// Whether a blob is right in the end.
    fn blob(
        &mut self,
        what: &'static str,
        descriptor: &Descriptor,
        name: &str,
        sources: &[Reference],
    ) -> bool {
        if blob_fault(self.store, descriptor).is_none() {
            return true;
        }
        let object = format!("{name}: {what} {}", descriptor.digest);
        let mut error = Error::NoSource(descriptor.digest.clone());
        for source in sources {
            match self.fetch(what, descriptor, source) {
                Ok(()) => {
                    self.mended(object, format!("fetched again from {source}"));
                    return true;
                }
                Err(failed) => error = failed,
            }
        }
        self.broken(object, error);
        false
    }

    fn fetch(
        &mut self,
        what: &'static str,
        descriptor: &Descriptor,
        source: &Reference,
    ) -> Result<(), Error> {
        let client = match self.client.take() {
            Some(client) => client,
            None => (self.helpers.connect)()?,
        };
        let client = self.client.insert(client);
        let staging = self.store.stage()?;
        let digest = &descriptor.digest;
        if what == "manifest" {
            let raw = client.manifest_by_digest(source, descriptor)?;
            staging.write_blob(&raw.bytes)?;
        } else {
            let blob = client.blob(source, descriptor, 0)?;
            let mut reader = VerifyReader::new(blob, digest.clone(), descriptor.size);
            let mut file = staging.create_blob(digest)?;
            io::copy(&mut reader, &mut file).map_err(|error| match Mismatch::of(&error) {
                Some(mismatch) => {
                    Error::Blob { what, digest: digest.clone(), source: mismatch.clone() }
                }
                None => registry::Error::from_read(error, digest).into(),
            })?;
        }
        Ok(self.store.replace_blob(&staging, digest)?)
    }

    fn tree(&mut self, image: &Image, name: &str) {
        let object = format!("{name}: tree");
        let mut faults = 0_u64;
        let diff_ids = &image.config.rootfs.diff_ids;
        let compared = tree(self.store, &image.id, diff_ids, true, &mut |_, _| faults += 1);
        match compared {
            Err(error) => return self.broken(object, error),
            Ok(()) if faults == 0 => return,
            Ok(()) => {}
        }
        let user = self.helpers.running.iter().find(|(_, id)| *id == image.id);
        if let Some((container, _)) = user.filter(|_| self.store.has_tree(&image.id)) {
            let error = Error::Running(container.clone());
            return self.broken(object, error);
        }
        match self.unpack(image) {
            Ok(()) => self.mended(object, "unpacked again from its layers"),
            Err(error) => self.broken(object, error),
        }
    }

    fn unpack(&self, image: &Image) -> Result<(), Error> {
        let staging = self.store.stage()?;
        let (store, limits) = (self.store, Limits::default());
        let (layers, diff_ids) = (&image.manifest.layers, &image.config.rootfs.diff_ids);
        let build = Build {
            parallel: 2,
            sharing: Sharing::None,
            ..Build::new(store, &staging, layers, diff_ids, &Nowhere, &limits)
        };
        let tree = build.new_tree()?;
        Ok(self.store.replace_tree(&staging, &image.id, tree)?)
    }

    fn link(&mut self, image: &Image, name: &str) {
        let Some(reference) = image.reference() else { return };
        if self.store.wrong_link(&reference, &image.id).is_none() {
            return;
        }
        let object = format!("{name}: rootfs/{}", reference.file_name());
        match self.store.mend_link(&reference, &image.id) {
            Ok(()) => self.mended(object, "leads to its tree again"),
            Err(error) => self.broken(object, error),
        }
    }

    /// Removes broken blobs that no image needs.
    fn strays(&mut self, entries: &[Descriptor]) -> Result<(), Error> {
        let mut needed: Vec<Digest> = Vec::new();
        for entry in entries {
            // Of an image that cannot be read nobody knows what it needs.
            let Ok(image) = Image::load(self.store, entry) else { return Ok(()) };
            needed.extend(super::df::parts(&image));
        }
        for digest in self.store.blobs()? {
            if !needed.contains(&digest) && stray_fault(self.store, &digest).is_some() {
                self.store.remove_blob(&digest)?;
                self.mended(format!("blob {digest}"), "removed; no image needs it");
            }
        }
        Ok(())
    }

    /// Makes `index.json` again: the manifests are among the blobs, and their names in `rootfs/`.
    fn index(&mut self) -> Result<Vec<Descriptor>, Error> {
        let found = self.manifests()?;
        let mut entries = Vec::new();
        for (file_name, id) in self.store.links()? {
            let reference = file_name.replace('+', "/").parse::<Reference>();
            let Ok(reference) = reference else { continue };
            for (_, descriptor) in found.iter().filter(|(of, _)| *of == id).take(1) {
                let mut entry = descriptor.clone();
                entry.annotations.insert(ANNOTATION_REF_NAME.to_owned(), reference.familiar());
                entries.push(entry);
            }
        }
        for (id, descriptor) in &found {
            let listed = entries.iter().any(|entry| entry.digest == descriptor.digest);
            if !listed && self.store.has_tree(id) {
                entries.push(descriptor.clone());
            }
        }
        self.store.rewrite_index(entries.clone())?;
        let how = format!(
            "made anew, with {} entries; the broken one is kept as index.json.broken",
            entries.len()
        );
        self.mended("index.json", how);
        Ok(entries)
    }

    /// All manifests among the blobs, with the ids of their images.
    fn manifests(&self) -> Result<Vec<(ImageId, Descriptor)>, Error> {
        let mut found = Vec::new();
        for digest in self.store.blobs()? {
            let path = self.store.blob_path(&digest);
            let size = match fs::symlink_metadata(&path) {
                Ok(metadata) if metadata.is_file() && metadata.len() <= MAX_MANIFEST => {
                    metadata.len()
                }
                _ => continue,
            };
            let mut descriptor = Descriptor::new(OCI_MANIFEST, digest, size);
            let Ok(bytes) = self.store.read_blob(&descriptor, MAX_MANIFEST) else { continue };
            let Ok(Document::Manifest(manifest)) = Document::parse(&bytes, None) else { continue };
            let Ok(config) = self.store.read_blob(&manifest.config, MAX_CONFIG) else { continue };
            let Ok(config) = super::pull::parse_config(&manifest, &config) else { continue };
            if let Some(kind) = manifest.media_type.filter(|kind| is_manifest(kind)) {
                descriptor.media_type = kind;
            }
            descriptor.platform = Some(config.platform);
            let id = ImageId::new(manifest.config.digest);
            if let Some(size) = self.unpacked_size(&id) {
                descriptor.annotations.insert(ANNOTATION_SIZE.to_owned(), size.to_string());
            }
            found.push((id, descriptor));
        }
        Ok(found)
    }

    /// The bytes of all files in a tree, according to its list.
    fn unpacked_size(&self, id: &ImageId) -> Option<u64> {
        let mut list = ListReader::new(self.store.open_list(id).ok()??).ok()?;
        let mut sum = 0_u64;
        while let Some(record) = list.next_record().ok()? {
            if let RecordKind::File { size, .. } = record.kind
                && !record.linked
            {
                sum = sum.saturating_add(size);
            }
        }
        Some(sum)
    }
}
