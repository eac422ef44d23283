//! From one place to another: an image, or all images of an index, byte for byte and without the store.
//!
//! Parts come before what names them: layers and configurations, then their manifest, then the index. So the name at
//! the target stands for something whole at every moment.

use std::collections::HashSet;
use std::io::{self, Read};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::pull::{self, MAX_INDEX_DEPTH};
use super::{Error, Event, Observer, Silent};
use crate::oci::descriptor::Descriptor;
use crate::oci::digest::{Digest, Mismatch, VerifyReader};
use crate::oci::image_config::MAX_CONFIG;
use crate::oci::manifest::{Document, MAX_DESCRIPTORS, Manifest};
use crate::oci::media_type;
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;
use crate::registry::{self, Client, Content, Pushed, RawManifest};

/// Where an image comes from.
pub(super) trait Origin: Sync {
    /// A manifest or index, verified.
    fn manifest(&self, descriptor: &Descriptor) -> Result<RawManifest, Error>;

    /// The bytes of a blob from `offset` on. Whoever reads them verifies them.
    fn open(&self, blob: &Descriptor, offset: u64) -> io::Result<Box<dyn Read + Send + '_>>;

    /// Drops whatever the wrong bytes of the blob came from; says whether asking again may go better.
    fn distrust(&self, _blob: &Digest, _why: &Mismatch) -> bool {
        false
    }

    /// What an error really means that came up while the blob was sent.
    fn explain(&self, _blob: &Descriptor, error: Error) -> Error {
        error
    }

    /// The repository of `registry` that has the blob, if one is known.
    fn repository(&self, _registry: &str, _blob: &Digest) -> Option<String> {
        None
    }
}

/// Where an image goes.
pub(super) trait Target: Sync {
    /// Takes a blob, and verifies it.
    fn blob(
        &self,
        blob: &Descriptor,
        origin: &dyn Origin,
        observer: &dyn Observer,
    ) -> Result<(), Error>;

    /// Takes a manifest or index, all of whose parts it has; the last one is what the image's name stands for.
    fn manifest(&self, raw: &RawManifest, is_last: bool) -> Result<(), Error>;
}

/// A way from an origin to a target.
pub(super) struct Transfer<'a> {
    pub(super) origin: &'a dyn Origin,
    pub(super) target: &'a dyn Target,
    pub(super) observer: &'a dyn Observer,
    /// How many blobs are on their way at a time.
    pub(super) parallel: usize,
}

impl Transfer<'_> {
    /// Brings `top` and all that belongs to it to the target.
    pub(super) fn run(&self, top: &RawManifest) -> Result<(), Error> {
        self.document(top, 0, &mut HashSet::new(), &mut HashSet::new())
    }

    fn document(
        &self,
        raw: &RawManifest,
        depth: usize,
        documents: &mut HashSet<Digest>,
        blobs: &mut HashSet<Digest>,
    ) -> Result<(), Error> {
        if depth > MAX_INDEX_DEPTH || documents.len() >= MAX_DESCRIPTORS {
            return Err(Error::TooDeep);
        }
        match parse(raw)? {
            Document::Index(index) => {
                for entry in &index.manifests {
                    if documents.insert(entry.digest.clone()) {
                        let inner = self.origin.manifest(entry)?;
                        self.document(&inner, depth + 1, documents, blobs)?;
                    }
                }
            }
            Document::Manifest(manifest) => self.parts(&manifest, blobs)?,
        }
        self.target.manifest(raw, depth == 0)
    }

    fn parts(&self, manifest: &Manifest, seen: &mut HashSet<Digest>) -> Result<(), Error> {
        let parts = manifest.layers.iter().chain([&manifest.config]);
        // The bytes of foreign layers are not for a registry to hand on; whoever needs them knows where they are.
        let own = parts.filter(|part| !media_type::is_foreign_layer(&part.media_type));
        let wanted: Vec<&Descriptor> =
            own.filter(|part| seen.insert(part.digest.clone())).collect();
        self.observer.event(Event::Layers(&manifest.layers));
        let next = AtomicUsize::new(0);
        let failure = Mutex::new(None);
        let worker = || {
            while let Some(part) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                // A configuration is no layer, and too small to watch.
                let is_config = part.digest == manifest.config.digest;
                let observer = if is_config { &Silent } else { self.observer };
                let mut sent = self.target.blob(part, self.origin, observer);
                while let Err(error) = &sent
                    && mismatch(error).is_some_and(|why| self.origin.distrust(&part.digest, &why))
                {
                    sent = self.target.blob(part, self.origin, observer);
                }
                if let Err(error) = sent {
                    // The others finish the blob at hand and find nothing more to do.
                    next.store(wanted.len(), Ordering::Relaxed);
                    let error = self.origin.explain(part, error);
                    lock(&failure).get_or_insert(error);
                }
            }
        };
        thread::scope(|scope| {
            for _ in 1..self.parallel.min(wanted.len()) {
                // There is at least this one.
                let _ = thread::Builder::new().spawn_scoped(scope, worker);
            }
            worker();
        });
        failure.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()).map_or(Ok(()), Err)
    }
}

/// How a blob is not what its descriptor says, if that is what is wrong.
fn mismatch(error: &Error) -> Option<Mismatch> {
    match error {
        Error::Blob { source, .. } => Some(source.clone()),
        Error::Registry(registry::Error::DigestMismatch { expected, actual }) => {
            let (expected, actual) = (expected.clone(), actual.clone());
            Some(Mismatch::Digest { expected, actual })
        }
        _ => None,
    }
}

/// Finds the manifest for `platform` below `top`, which is one itself unless it is an index.
pub(super) fn select(
    origin: &dyn Origin,
    top: &RawManifest,
    platform: &Platform,
) -> Result<RawManifest, Error> {
    let index = match parse(top)? {
        Document::Manifest(_) => return Ok(top.clone()),
        Document::Index(index) => index,
    };
    let candidates = |index: &crate::oci::manifest::Index, depth: usize| -> Vec<_> {
        index.candidates(platform).into_iter().rev().map(|entry| (depth, entry.clone())).collect()
    };
    let mut visited = HashSet::new();
    let mut pending = candidates(&index, 1);
    while let Some((depth, entry)) = pending.pop() {
        if !visited.insert(entry.digest.clone()) {
            continue;
        }
        if depth > MAX_INDEX_DEPTH || visited.len() > pull::MAX_MANIFESTS {
            return Err(Error::TooDeep);
        }
        let raw = origin.manifest(&entry)?;
        match parse(&raw)? {
            Document::Index(nested) => pending.extend(candidates(&nested, depth + 1)),
            Document::Manifest(_) if entry.platform.is_some() => return Ok(raw),
            // An entry that does not say what it is for: its configuration does.
            Document::Manifest(manifest) => {
                let bytes = read_config(origin, &manifest)?;
                let config = pull::parse_config(&manifest, &bytes)?;
                if platform.rank(&config.platform).is_some() {
                    return Ok(raw);
                }
            }
        }
    }
    Err(Error::no_platform(platform, &index))
}

/// The configuration of an image, verified.
pub(super) fn read_config(origin: &dyn Origin, manifest: &Manifest) -> Result<Vec<u8>, Error> {
    let blob = &manifest.config;
    if blob.size > MAX_CONFIG {
        let (what, source) = ("config", Mismatch::TooLong { expected: MAX_CONFIG });
        return Err(Error::Blob { what, digest: blob.digest.clone(), source });
    }
    let failed = |error| read_error(blob, error);
    let mut bytes = Vec::new();
    let reader = origin.open(blob, 0).map_err(failed)?;
    let mut reader = VerifyReader::new(reader, blob.digest.clone(), blob.size);
    reader.read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// What an error means that came up while a blob was read.
pub(super) fn read_error(blob: &Descriptor, error: io::Error) -> Error {
    match Mismatch::of(&error) {
        Some(mismatch) => {
            let source = mismatch.clone();
            Error::Blob { what: "blob", digest: blob.digest.clone(), source }
        }
        None => registry::Error::from_read(error, &blob.digest).into(),
    }
}

pub(super) fn parse(raw: &RawManifest) -> Result<Document, Error> {
    let parsed = Document::parse(&raw.bytes, Some(&raw.media_type));
    parsed.map_err(|source| Error::document(&raw.digest, source))
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// An image in a registry, as an origin or a target.
pub(super) struct Remote<'a> {
    pub(super) client: &'a Client,
    pub(super) reference: &'a Reference,
}

impl Origin for Remote<'_> {
    fn manifest(&self, descriptor: &Descriptor) -> Result<RawManifest, Error> {
        Ok(self.client.manifest_by_digest(self.reference, descriptor)?)
    }

    fn open(&self, blob: &Descriptor, offset: u64) -> io::Result<Box<dyn Read + Send + '_>> {
        let blob = self.client.blob(self.reference, blob, offset).map_err(io::Error::other)?;
        Ok(Box::new(blob))
    }

    fn distrust(&self, blob: &Digest, why: &Mismatch) -> bool {
        self.client.distrust(blob, why)
    }

    fn repository(&self, registry: &str, _: &Digest) -> Option<String> {
        (registry == self.reference.registry()).then(|| self.reference.repository().to_owned())
    }
}

/// A blob of an origin, as what a registry is given.
struct Part<'a> {
    origin: &'a dyn Origin,
    blob: &'a Descriptor,
}

impl Content for Part<'_> {
    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send + '_>> {
        self.origin.open(self.blob, offset)
    }
}

impl Target for Remote<'_> {
    fn blob(
        &self,
        blob: &Descriptor,
        origin: &dyn Origin,
        observer: &dyn Observer,
    ) -> Result<(), Error> {
        let digest = &blob.digest;
        let repository = origin.repository(self.reference.registry(), digest);
        let from = repository.as_deref().filter(|from| *from != self.reference.repository());
        let sent = |bytes| observer.event(Event::Sending(digest, bytes));
        let content = Part { origin, blob };
        let pushed = self.client.push_blob(self.reference, blob, from, &content, &sent)?;
        observer.event(match pushed {
            Pushed::Existed => Event::There(digest),
            Pushed::Mounted => Event::Mounted(digest, from.unwrap_or_default()),
            Pushed::Sent => Event::Sent(digest),
        });
        Ok(())
    }

    fn manifest(&self, raw: &RawManifest, is_last: bool) -> Result<(), Error> {
        let (registry, repository) = (self.reference.registry(), self.reference.repository());
        let by_digest = format!("{registry}/{repository}@{}", raw.digest).parse();
        match is_last {
            true => Ok(self.client.push_manifest(self.reference, raw)?),
            false => Ok(self.client.push_manifest(&by_digest?, raw)?),
        }
    }
}
