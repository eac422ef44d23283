//! Layers into a tree: fetched or read from the store, verified, unpacked side by side, merged in order.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::donors::{Donors, Offer};
use super::{Error, Event, Image, Observer, Silent};
use crate::oci::descriptor::Descriptor;
use crate::oci::digest::{DiffId, Digest, ImageId, Mismatch, VerifyReader};
use crate::oci::media_type::{LayerCompression, layer_compression};
use crate::store::{Staging, Store};
use crate::unpack::list::{ListedLayer, Origins, write_list};
use crate::unpack::{self, Compression, Destination, Layer, Limits};

/// The name of the tree in a staging folder.
const TREE: &str = "tree";

/// Where the bytes of layers that the store lacks come from.
pub(super) trait Source: Sync {
    /// A reader of the layer's bytes, not verified.
    fn open(&self, layer: &Descriptor) -> Result<Box<dyn Read + Send + '_>, Error>;
}

/// A tree that a build made or found.
pub(super) struct Tree {
    /// The name of its folder in the staging folder; `None` where the store has the tree.
    pub(super) name: Option<&'static str>,
    /// The bytes of all its files.
    pub(super) size: u64,
}

/// Whether a tree takes files from others that have them from the same layer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sharing {
    /// As hard links: nothing in a tree is ever written to.
    Links,
    /// It is unpacked from its layers alone; for when other trees may be damaged.
    None,
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
    pub(super) sharing: Sharing,
}

/// What the layers of a tree have in common while they are unpacked.
struct Shared {
    origins: Origins,
    donors: Donors,
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
        let known = images.iter().find(|image| image.id == *id);
        match known.filter(|_| self.store.has_tree(id)) {
            Some(image) => {
                self.fetch_only()?;
                Ok(Tree { name: None, size: image.size() })
            }
            None => self.tree(&images),
        }
    }

    /// Removes the folders of the layers, which are empty once they are merged, and a tree that was not wanted because
    /// the store had got the same meanwhile.
    pub(super) fn clear(&self) -> Result<(), Error> {
        for at in 0..self.layers.len() {
            self.staging.remove(&layer_name(at))?;
        }
        Ok(self.staging.remove_tree(TREE)?)
    }

    /// A new tree in the staging folder, from layers that the store has, whether it has the tree or not; says its name.
    pub(super) fn new_tree(&self) -> Result<&'static str, Error> {
        let (images, _) = super::list(self.store)?;
        Ok(self.tree(&images)?.name.unwrap_or(TREE))
    }

    fn tree(&self, images: &[Image]) -> Result<Tree, Error> {
        let donors = match self.sharing {
            Sharing::Links if self.vouched => Donors::find(self.store, images, self.diff_ids),
            _ => Donors::default(),
        };
        let shared = Shared { origins: Origins::new(), donors };
        self.staging.create_lists(TREE)?;
        let slots: Vec<Mutex<Option<Unpacked>>> =
            self.layers.iter().map(|_| Mutex::default()).collect();
        let (repeated, first): (Vec<usize>, Vec<usize>) =
            (0..self.layers.len()).partition(|at| self.is_repeated(*at));
        self.side_by_side(&first, |at| {
            let unpacked = self.unpack(at, &shared)?;
            *lock(&slots[at]) = Some(unpacked);
            Ok(())
        })?;
        // The same bytes once more: by now they are staged.
        for at in repeated {
            *lock(&slots[at]) = Some(self.unpack(at, &shared)?);
        }
        let tree = self.staging.create_folder(TREE)?;
        let mut size = 0;
        let mut listed = Vec::new();
        for (at, slot) in slots.into_iter().enumerate() {
            let Some(Unpacked { folder, layer }) =
                slot.into_inner().unwrap_or_else(|p| p.into_inner())
            else {
                continue;
            };
            size += layer.bytes();
            let merged = unpack::merge(tree.as_fd(), folder.as_fd(), &layer);
            merged.map_err(|source| self.error(at, source))?;
            listed.push(ListedLayer { diff_id: self.diff_ids[at].clone(), files: layer.files() });
        }
        let list = self.staging.create_list(TREE)?;
        write_list(tree.as_fd(), &listed, shared.origins, list)?;
        Ok(Tree { name: Some(TREE), size })
    }

    /// Fetches what the store lacks and checks it, without making a tree.
    fn fetch_only(&self) -> Result<(), Error> {
        let missing: Vec<usize> = (0..self.layers.len())
            .filter(|at| !self.is_repeated(*at) && !self.store.has_blob(&self.layers[*at]))
            .collect();
        self.side_by_side(&missing, |at| {
            self.check_diff_id(at)?;
            self.observer.event(Event::Unpacked(&self.layers[at].digest));
            Ok(())
        })
    }

    /// Reads a layer to its end, from wherever it is, and compares its DiffID.
    fn check_diff_id(&self, at: usize) -> Result<(), Error> {
        let layer = &self.layers[at];
        let compression = compression(layer)?;
        let actual = unpack::diff_id(self.reader(layer)?, compression);
        let actual = actual.map_err(|source| self.error(at, source))?;
        let expected = self.diff_ids[at].clone();
        if actual != expected {
            return Err(self.error(at, unpack::Error::DiffId { expected, actual }));
        }
        Ok(())
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
                    // The others finish the layer at hand and find nothing more to do.
                    next.store(indexes.len(), Ordering::Relaxed);
                    lock(&failure).get_or_insert(error);
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

    fn unpack(&self, at: usize, shared: &Shared) -> Result<Unpacked, Error> {
        let diff_id = &self.diff_ids[at];
        // Of a layer that comes twice, it would not be certain which of the two a file belongs to.
        let once = self.diff_ids.iter().filter(|other| *other == diff_id).count() == 1;
        let offer = if once { shared.donors.offer(diff_id) } else { None };
        if let Some(offer) = &offer
            && offer.complete
            && let Some(unpacked) = self.replay(at, offer, &shared.origins)?
        {
            self.provide(at, offer)?;
            self.observer.event(Event::Unpacked(&self.layers[at].digest));
            return Ok(unpacked);
        }
        self.extract(at, offer.as_ref(), &shared.origins)
    }

    /// Makes the layer's folder out of another tree's files; `None` if that is not possible after all, because the other
    /// tree is being removed, or is not what it was.
    fn replay(
        &self,
        at: usize,
        offer: &Offer<'_>,
        origins: &Origins,
    ) -> Result<Option<Unpacked>, Error> {
        let Some(headers) = self.staging.adopt_headers(self.store, offer.id, offer.layer, TREE, at)
        else {
            return Ok(None);
        };
        let folder = self.staging.create_folder(&layer_name(at))?;
        let limits = Limits::default();
        let dest = Destination {
            origins: Some((origins, number(at))),
            donor: Some((offer.donor, offer.layer)),
            ..Destination::new(folder.as_fd(), &limits)
        };
        match unpack::replay_layer(headers, &dest) {
            Ok(layer) => Ok(Some(Unpacked { folder, layer })),
            Err(_) => {
                self.staging.remove(&layer_name(at))?;
                self.staging.remove_headers(TREE, at)?;
                Ok(None)
            }
        }
    }

    /// Sees to it that the blob of a layer that was not unpacked is staged or stored, and is what it has to be.
    fn provide(&self, at: usize, offer: &Offer<'_>) -> Result<(), Error> {
        let layer = &self.layers[at];
        if offer.blob.digest != layer.digest {
            return self.check_diff_id(at);
        }
        if self.store.has_blob(layer) {
            self.observer.event(Event::Exists(&layer.digest));
            return Ok(());
        }
        // These very bytes had the right DiffID when the donor was made.
        let copied = io::copy(&mut self.reader(layer)?, &mut io::sink());
        copied.map(drop).map_err(|source| self.error(at, unpack::Error::Read(source)))
    }

    fn extract(
        &self,
        at: usize,
        offer: Option<&Offer<'_>>,
        origins: &Origins,
    ) -> Result<Unpacked, Error> {
        let layer = &self.layers[at];
        let folder = self.staging.create_folder(&layer_name(at))?;
        let headers = self.staging.create_headers(TREE, at)?;
        let compression = compression(layer)?;
        let reader = self.reader(layer)?;
        let expected = self.vouched.then(|| &self.diff_ids[at]);
        let limits = Limits::default();
        let dest = Destination {
            origins: Some((origins, number(at))),
            donor: offer.map(|offer| (offer.donor, offer.layer)),
            headers: Some(&headers),
            ..Destination::new(folder.as_fd(), &limits)
        };
        let done = unpack::unpack_layer(reader, compression, expected, &dest);
        let (unpacked, _) = done.map_err(|source| self.error(at, source))?;
        if unpacked.dropped_xattrs() > 0 {
            self.observer.event(Event::DroppedAttributes(unpacked.dropped_xattrs()));
        }
        if !unpacked.own_root() && nix::unistd::geteuid().is_root() {
            self.observer.event(Event::Unconfined);
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
        let inner = self.source.open(layer)?;
        let inner = VerifyReader::new(inner, layer.digest.clone(), layer.size);
        let file = self.staging.create_blob(&layer.digest)?;
        let observer = self.observer;
        Ok(Box::new(Tee { inner, file, digest: layer.digest.clone(), seen: 0, observer }))
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

/// Keeps a copy of what passes through.
struct Tee<'a, R> {
    inner: R,
    file: File,
    digest: Digest,
    seen: u64,
    observer: &'a dyn Observer,
}

impl<R: Read> Read for Tee<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.file.write_all(&buf[..n])?;
        self.seen += n as u64;
        self.observer.event(Event::Received(&self.digest, self.seen));
        Ok(n)
    }
}

/// The name of a layer's folder in the staging folder.
fn layer_name(at: usize) -> String {
    format!("layer-{at}")
}

/// A layer's number as lists have it.
fn number(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// Makes the tree of an image anew from the layers in the store.
pub(super) fn restore_tree(store: &Store, image: &Image, sharing: Sharing) -> Result<(), Error> {
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
        sharing,
    };
    let (images, _) = super::list(store)?;
    let tree = build.tree(&images)?;
    Ok(store.publish_tree(&staging, &image.id, tree.name.unwrap_or(TREE))?)
}

/// The source of layers that must be in the store.
pub(super) struct Nowhere;

impl Source for Nowhere {
    fn open(&self, layer: &Descriptor) -> Result<Box<dyn Read + Send + '_>, Error> {
        Err(crate::store::Error::Vanished(layer.digest.clone()).into())
    }
}

/// Layers of one digest under another type are the same bytes; the type alone says how to read them.
pub(super) fn compression(layer: &Descriptor) -> Result<Compression, Error> {
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
