//! Where the bytes of a layer come from, and who is to blame when they are not the right ones.

use std::fs::File;
use std::io::{self, Read};

use super::arrival::{self, Arrival};
use super::layers::{Build, lock};
use super::{Error, Event};
use crate::oci::descriptor::Descriptor;
use crate::oci::digest::{Mismatch, VerifyReader};
use crate::store::Store;
use crate::unpack;

/// Where the bytes of layers that the store lacks come from.
pub(super) trait Source: Sync {
    /// A reader of the layer's bytes from `offset` on, not verified.
    fn open(&self, layer: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send + '_>, Error>;

    /// Whether it has the layer, should the store's copy turn out to be damaged.
    fn has(&self, _layer: &Descriptor) -> bool {
        true
    }

    /// Hears that the layer's bytes were not the right ones; says whether others may come when it is opened again.
    fn distrust(&self, _layer: &Descriptor, _why: &Mismatch) -> bool {
        false
    }
}

/// The source of layers that must be in the store.
pub(super) struct Nowhere;

impl Source for Nowhere {
    fn open(&self, layer: &Descriptor, _: u64) -> Result<Box<dyn Read + Send + '_>, Error> {
        Err(Error::Lost(layer.digest.clone()))
    }

    fn has(&self, _: &Descriptor) -> bool {
        false
    }
}

/// What is wrong with the store's copy of a blob that could not be used, if that is the reason: a stream that is damaged
/// makes no sense to a decompressor long before its end is reached, and registries refuse it in many ways.
pub(super) fn damage(store: &Store, blob: &Descriptor) -> Option<Error> {
    let digest = blob.digest.clone();
    if !store.has_blob(blob) {
        return Some(Error::Lost(digest));
    }
    let error = io::copy(&mut store.open_blob(blob).ok()?, &mut io::sink()).err()?;
    Mismatch::of(&error).map(|source| Error::Damaged { digest, source: source.clone() })
}

impl Build<'_> {
    /// The layer's verified bytes: from the staging folder, from the store, or from the source into the staging folder.
    pub(super) fn reader(&self, layer: &Descriptor) -> Result<Box<dyn Read + Send + '_>, Error> {
        let staged = self.staging.blob_path(&layer.digest);
        if let Ok(file) = File::open(&staged) {
            return Ok(Box::new(VerifyReader::new(file, layer.digest.clone(), layer.size)));
        }
        if self.is_stored(layer) {
            match self.store.open_blob(layer) {
                // Another command has removed it this instant.
                Err(_) if !self.store.has_blob(layer) => {}
                opened => {
                    let reader = Box::new(opened?);
                    self.observer.event(Event::Exists(&layer.digest));
                    return Ok(reader);
                }
            }
        }
        let arrival = Arrival::begin(self, layer)?;
        if arrival.is_resumed() {
            lock(&self.resumed).insert(layer.digest.clone());
        }
        Ok(Box::new(arrival))
    }

    /// Whether the store has the layer, as far as is known by now: in its full size, and not found to be damaged.
    fn is_stored(&self, layer: &Descriptor) -> bool {
        self.store.has_blob(layer) && !lock(&self.spoiled).contains(&layer.digest)
    }

    /// Whether a layer whose bytes were wrong may come out right the next time: when they came from the store and the
    /// source has them, too; from a mirror, which is now dropped; or in part from an earlier process, whose part is now
    /// gone.
    pub(super) fn may_come_right(&self, layer: &Descriptor, error: &Error) -> bool {
        match error {
            Error::Damaged { digest, .. } if self.source.has(layer) => {
                lock(&self.spoiled).insert(digest.clone());
                self.observer.event(Event::Damaged(digest));
                true
            }
            Error::Blob { source, .. } => {
                let resumed = lock(&self.resumed).remove(&layer.digest);
                self.source.distrust(layer, source) || resumed
            }
            _ => false,
        }
    }

    /// What an error of the unpacker really means: a layer that makes no sense may only have come wrong, which its digest
    /// tells.
    pub(super) fn verdict(&self, at: usize, source: unpack::Error, rest: &mut impl Read) -> Error {
        let layer = &self.layers[at];
        let senseless = match &source {
            unpack::Error::Malformed { .. } => true,
            // Not where the kernel failed: the copy that is kept could not be written, say, and lacks what was read.
            unpack::Error::Read(error) if error.raw_os_error().is_some() => false,
            unpack::Error::Read(error) => error.get_ref().is_none_or(|inner| {
                !inner.is::<Mismatch>() && !inner.is::<crate::registry::Error>()
            }),
            _ => false,
        };
        match senseless.then(|| arrival::verdict(rest)).flatten() {
            Some(source) => self.wrong_bytes(layer, source),
            None => self.error(at, source),
        }
    }

    /// Puts the layer's name on an error, and the cause in the place of the reader that carried it.
    pub(super) fn error(&self, at: usize, source: unpack::Error) -> Error {
        let layer = &self.layers[at];
        let digest = &layer.digest;
        match &source {
            unpack::Error::Read(error) => {
                if let Some(mismatch) = Mismatch::of(error) {
                    return self.wrong_bytes(layer, mismatch.clone());
                }
            }
            unpack::Error::DiffId { expected, actual } => {
                let (expected, actual) = (expected.clone(), actual.clone());
                return Error::DiffId { layer: digest.clone(), expected, actual };
            }
            _ => {}
        }
        Error::Layer { layer: digest.to_string(), source }
    }

    /// What wrong bytes mean depends on where [`Build::reader`] had them from.
    fn wrong_bytes(&self, layer: &Descriptor, source: Mismatch) -> Error {
        let digest = layer.digest.clone();
        if self.is_stored(layer) && !self.staging.blob_path(&digest).exists() {
            return Error::Damaged { digest, source };
        }
        Error::Blob { what: "layer", digest, source }
    }
}
