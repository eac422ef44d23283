//! Where the bytes of a layer come from, and who is to blame when they are not the right ones.

use std::fs::File;
use std::io::Read;

use super::arrival::{self, Arrival};
use super::layers::{Build, lock};
use super::{Error, Event};
use crate::oci::descriptor::Descriptor;
use crate::oci::digest::{Mismatch, VerifyReader};
use crate::unpack;

/// Where the bytes of layers that the store lacks come from.
pub(super) trait Source: Sync {
    /// A reader of the layer's bytes from `offset` on, not verified.
    fn open(&self, layer: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send + '_>, Error>;

    /// Hears that the layer's bytes were not the right ones; says whether others may come when it is opened again.
    fn distrust(&self, _layer: &Descriptor, _why: &Mismatch) -> bool {
        false
    }
}

/// The source of layers that must be in the store.
pub(super) struct Nowhere;

impl Source for Nowhere {
    fn open(&self, layer: &Descriptor, _: u64) -> Result<Box<dyn Read + Send + '_>, Error> {
        Err(crate::store::Error::Vanished(layer.digest.clone()).into())
    }
}

impl Build<'_> {
    /// The layer's verified bytes: from the store, from the staging folder, or from the source into the staging folder.
    pub(super) fn reader(&self, layer: &Descriptor) -> Result<Box<dyn Read + Send + '_>, Error> {
        if self.store.has_blob(layer) {
            self.observer.event(Event::Exists(&layer.digest));
            return Ok(Box::new(self.store.open_blob(layer)?));
        }
        let staged = self.staging.blob_path(&layer.digest);
        if let Ok(file) = File::open(&staged) {
            return Ok(Box::new(VerifyReader::new(file, layer.digest.clone(), layer.size)));
        }
        let arrival = Arrival::begin(self, layer)?;
        if arrival.is_resumed() {
            lock(&self.resumed).insert(layer.digest.clone());
        }
        Ok(Box::new(arrival))
    }

    /// Whether a layer whose bytes were wrong may come out right the next time: when they came from a mirror, which is
    /// now dropped, or in part from an earlier process, whose part is now gone.
    pub(super) fn may_come_right(&self, layer: &Descriptor, error: &Error) -> bool {
        let Error::Blob { source, .. } = error else { return false };
        let resumed = lock(&self.resumed).remove(&layer.digest);
        self.source.distrust(layer, source) || resumed
    }

    /// What an error of the unpacker really means: a layer that makes no sense may only have come wrong, which its digest
    /// tells.
    pub(super) fn verdict(&self, at: usize, source: unpack::Error, rest: &mut impl Read) -> Error {
        let layer = &self.layers[at];
        let senseless = match &source {
            unpack::Error::Malformed { .. } => true,
            unpack::Error::Read(error) => error.get_ref().is_none_or(|inner| {
                !inner.is::<Mismatch>() && !inner.is::<crate::registry::Error>()
            }),
            _ => false,
        };
        match senseless.then(|| arrival::verdict(rest)).flatten() {
            Some(source) => Error::Blob { what: "layer", digest: layer.digest.clone(), source },
            None => self.error(at, source),
        }
    }

    /// Puts the layer's name on an error, and the cause in the place of the reader that carried it.
    pub(super) fn error(&self, at: usize, source: unpack::Error) -> Error {
        let digest = &self.layers[at].digest;
        match &source {
            unpack::Error::Read(error) => {
                if let Some(mismatch) = Mismatch::of(error) {
                    let source = mismatch.clone();
                    return Error::Blob { what: "layer", digest: digest.clone(), source };
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
}
