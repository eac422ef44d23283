//! Layers into a tree: fetched or read from the store, verified, unpacked side by side, merged in order.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::arrival::{self, Arrival};
use super::{Error, Event, Image, Observer, Silent};
use crate::oci::descriptor::Descriptor;
use crate::oci::digest::{DiffId, Digest, ImageId, Mismatch, VerifyReader};
use crate::oci::media_type::{LayerCompression, layer_compression};
use crate::store::{Staging, Store};
use crate::unpack::{self, Compression, Layer, Limits};

/// The name of the tree in a staging folder.
const TREE: &str = "tree";

/// Where the bytes of layers that the store lacks come from.
pub(super) trait Source: Sync {
    /// A reader of the layer's bytes from `offset` on, not verified.
    fn open(&self, layer: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send + '_>, Error>;

    /// Hears that the layer's bytes were not the right ones; says whether others may come when it is opened again.
    fn distrust(&self, _layer: &Descriptor, _why: &Mismatch) -> bool {
        false
    }
}

/// A tree that a build made or found.
pub(super) struct Tree {
    /// The name of its folder in the staging folder; `None` where the store has the tree.
    pub(super) name: Option<&'static str>,
    /// The bytes of all its files.
    pub(super) size: u64,
}

/// An image's layers on their way into a tree.
pub(super) struct Build<'a> {
    pub(super) store: &'a Store,
    pub(super) staging: &'a Staging,
    pub(super) layers: &'a [Descriptor],
    pub(super) diff_ids: &'a [DiffId],
    pub(super) source: &'a dyn Source,
    pub(super) observer: &'a dyn Observer,
    /// How many layers are worked on at a time.
    pub(super) parallel: usize,
    /// Whether the DiffIDs come from elsewhere. Those that were computed from the bytes at hand cannot tell that an
    /// archive was cut off, so its end marker has to.
    pub(super) vouched: bool,
    /// Layers of which an earlier process had left something.
    pub(super) resumed: Mutex<HashSet<Digest>>,
    /// Set when a layer has failed: what comes of the others is of no use now.
    pub(super) stopped: AtomicBool,
}

/// A layer in its own folder.
struct Unpacked {
    folder: OwnedFd,
    layer: Layer,
}

impl Build<'_> {
    /// The tree of the image `id`: made in the staging folder, or found in the store. Either way every layer that the
    /// store lacks is in the staging folder afterwards, and verified.
    pub(super) fn tree_of(&self, id: &ImageId) -> Result<Tree, Error> {
        let (images, _) = super::list(self.store)?;
        let known = images.into_iter().find(|image| image.id == *id);
        match known.filter(|_| self.store.has_tree(id)) {
            Some(image) => {
                self.fetch_only()?;
                Ok(Tree { name: None, size: image.size() })
            }
            None => self.tree(),
        }
    }

    /// Removes the folders of the layers, which are empty once they are merged.
    pub(super) fn clear(&self) -> Result<(), Error> {
        for at in 0..self.layers.len() {
            self.staging.remove(&format!("layer-{at}"))?;
        }
        Ok(())
    }

    fn tree(&self) -> Result<Tree, Error> {
        let slots: Vec<Mutex<Option<Unpacked>>> =
            self.layers.iter().map(|_| Mutex::default()).collect();
        let (repeated, first): (Vec<usize>, Vec<usize>) =
            (0..self.layers.len()).partition(|at| self.is_repeated(*at));
        self.side_by_side(&first, |at| {
            let unpacked = self.unpack(at)?;
            *lock(&slots[at]) = Some(unpacked);
            Ok(())
        })?;
        // The same bytes once more: by now they are staged.
        for at in repeated {
            *lock(&slots[at]) = Some(self.unpack(at)?);
        }
        let tree = self.staging.create_folder(TREE)?;
        let mut size = 0;
        for (at, slot) in slots.into_iter().enumerate() {
            let Some(Unpacked { folder, layer }) =
                slot.into_inner().unwrap_or_else(|p| p.into_inner())
            else {
                continue;
            };
            size += layer.bytes();
            let merged = unpack::merge(tree.as_fd(), folder.as_fd(), &layer);
            merged.map_err(|source| self.error(at, source))?;
        }
        Ok(Tree { name: Some(TREE), size })
    }

    /// Fetches what the store lacks and checks it, without making a tree.
    fn fetch_only(&self) -> Result<(), Error> {
        let missing: Vec<usize> = (0..self.layers.len())
            .filter(|at| !self.is_repeated(*at) && !self.store.has_blob(&self.layers[*at]))
            .collect();
        self.side_by_side(&missing, |at| {
            let layer = &self.layers[at];
            let actual = loop {
                match self.diff_id(at) {
                    Err(error) if self.may_come_right(layer, &error) => {}
                    result => break result?,
                }
            };
            let expected = self.diff_ids[at].clone();
            if actual != expected {
                return Err(self.error(at, unpack::Error::DiffId { expected, actual }));
            }
            self.observer.event(Event::Unpacked(&layer.digest));
            Ok(())
        })
    }

    fn diff_id(&self, at: usize) -> Result<DiffId, Error> {
        let layer = &self.layers[at];
        let compression = compression(layer)?;
        let mut reader = self.reader(layer)?;
        let actual = unpack::diff_id(&mut reader, compression);
        actual.map_err(|source| self.verdict(at, source, &mut reader))
    }

    fn is_repeated(&self, at: usize) -> bool {
        self.layers[..at].iter().any(|earlier| earlier.digest == self.layers[at].digest)
    }

    /// Runs `work` for each index on a few threads, and stops at the first error.
    fn side_by_side(
        &self,
        indexes: &[usize],
        work: impl Fn(usize) -> Result<(), Error> + Sync,
    ) -> Result<(), Error> {
        let next = AtomicUsize::new(0);
        let failure = Mutex::new(None);
        let worker = || {
            while let Some(at) = indexes.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(error) = work(*at) {
                    // The others are told to stop, and then have errors of that.
                    lock(&failure).get_or_insert(error);
                    next.store(indexes.len(), Ordering::Relaxed);
                    self.stopped.store(true, Ordering::Release);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..self.parallel.min(indexes.len()) {
                scope.spawn(worker);
            }
            worker();
        });
        failure.into_inner().unwrap_or_else(|p| p.into_inner()).map_or(Ok(()), Err)
    }

    fn unpack(&self, at: usize) -> Result<Unpacked, Error> {
        loop {
            match self.try_unpack(at) {
                Err(error) if self.may_come_right(&self.layers[at], &error) => {
                    self.staging.remove(&format!("layer-{at}"))?;
                }
                result => return result,
            }
        }
    }

    fn try_unpack(&self, at: usize) -> Result<Unpacked, Error> {
        let layer = &self.layers[at];
        let folder = self.staging.create_folder(&format!("layer-{at}"))?;
        let compression = compression(layer)?;
        let mut reader = self.reader(layer)?;
        let expected = self.vouched.then(|| &self.diff_ids[at]);
        let limits = Limits::default();
        let done =
            unpack::unpack_layer(&mut reader, compression, expected, folder.as_fd(), &limits);
        let (unpacked, _) = done.map_err(|source| self.verdict(at, source, &mut reader))?;
        if unpacked.dropped_xattrs() > 0 {
            self.observer.event(Event::DroppedAttributes(unpacked.dropped_xattrs()));
        }
        self.observer.event(Event::Unpacked(&layer.digest));
        Ok(Unpacked { folder, layer: unpacked })
    }

    /// The layer's verified bytes: from the store, from the staging folder, or from the source into the staging folder.
    fn reader(&self, layer: &Descriptor) -> Result<Box<dyn Read + Send + '_>, Error> {
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
    fn may_come_right(&self, layer: &Descriptor, error: &Error) -> bool {
        let Error::Blob { source, .. } = error else { return false };
        let resumed = lock(&self.resumed).remove(&layer.digest);
        self.source.distrust(layer, source) || resumed
    }

    /// What an error of the unpacker really means: a layer that makes no sense may only have come wrong, which its digest
    /// tells.
    fn verdict(&self, at: usize, source: unpack::Error, rest: &mut impl Read) -> Error {
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
    fn error(&self, at: usize, source: unpack::Error) -> Error {
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

/// Makes the tree of an image anew from the layers in the store.
pub(super) fn restore_tree(store: &Store, image: &Image) -> Result<(), Error> {
    let staging = store.stage()?;
    let build = Build {
        store,
        staging: &staging,
        layers: &image.manifest.layers,
        diff_ids: &image.config.rootfs.diff_ids,
        source: &Nowhere,
        observer: &Silent,
        parallel: 1,
        vouched: true,
        resumed: Mutex::default(),
        stopped: AtomicBool::default(),
    };
    let tree = build.tree()?;
    Ok(store.publish_tree(&staging, &image.id, tree.name.unwrap_or(TREE))?)
}

/// The source of layers that must be in the store.
struct Nowhere;

impl Source for Nowhere {
    fn open(&self, layer: &Descriptor, _: u64) -> Result<Box<dyn Read + Send + '_>, Error> {
        Err(crate::store::Error::Vanished(layer.digest.clone()).into())
    }
}

/// Layers of one digest under another type are the same bytes; the type alone says how to read them.
fn compression(layer: &Descriptor) -> Result<Compression, Error> {
    match layer_compression(&layer.media_type) {
        Some(LayerCompression::Gzip) => Ok(Compression::Gzip),
        Some(LayerCompression::None) => Ok(Compression::None),
        Some(LayerCompression::Zstd) => Ok(Compression::Zstd),
        None => Err(Error::LayerType(layer.media_type.chars().take(128).collect())),
    }
}

/// Refuses layers that cannot be unpacked, before anything is fetched.
pub(super) fn check_types(layers: &[Descriptor]) -> Result<(), Error> {
    let mut sizes = BTreeMap::new();
    for layer in layers {
        compression(layer)?;
        let size = *sizes.entry(&layer.digest).or_insert(layer.size);
        if size != layer.size {
            let source = Mismatch::TooLong { expected: size.min(layer.size) };
            return Err(Error::Blob { what: "layer", digest: layer.digest.clone(), source });
        }
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
