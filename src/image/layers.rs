//! Layers into a tree: fetched or read from the store, verified, unpacked side by side, merged in order.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::ahead::Ready;
use super::donors::{Donors, Offer};
use super::prefix::Prefix;
use super::supply::{Nowhere, Source};
use super::{Error, Event, Image, Observer, Silent};
use crate::oci::descriptor::Descriptor;
use crate::oci::digest::{DiffId, Digest, ImageId, Mismatch};
use crate::oci::media_type::{LayerCompression, layer_compression};
use crate::store::{Staging, Store};
use crate::unpack::list::{ListedLayer, Origins, write_list};
use crate::unpack::{self, Compression, Destination, Layer, Limits};

/// The name of the tree in a staging folder.
pub(super) const TREE: &str = "tree";

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
    /// Layers of which an earlier process had left something.
    pub(super) resumed: Mutex<HashSet<Digest>>,
    /// Layers whose copies in the store have turned out to be damaged.
    pub(super) spoiled: Mutex<HashSet<Digest>>,
    pub(super) sharing: Sharing,
    /// Set when a layer has failed: what comes of the others is of no use now.
    pub(super) stopped: AtomicBool,
    pub(super) limits: &'a Limits,
    /// The only layer, if it has been unpacked already.
    pub(super) ready: Mutex<Option<Ready>>,
}

/// The layers that have been unpacked, each in its place.
type Slots = Vec<Mutex<Option<Unpacked>>>;

/// What other layers are merged onto: the tree of a prefix, or an empty folder.
struct Base {
    tree: OwnedFd,
    size: u64,
    listed: Vec<ListedLayer>,
}

/// What the layers of a tree have in common while they are unpacked.
struct Shared {
    origins: Origins,
    donors: Donors,
}

/// A layer in its own folder.
pub(super) struct Unpacked {
    pub(super) folder: OwnedFd,
    pub(super) layer: Layer,
}

impl<'a> Build<'a> {
    /// Layers whose DiffIDs come from elsewhere, worked on one at a time, with nobody watching.
    pub(super) fn new(
        store: &'a Store,
        staging: &'a Staging,
        layers: &'a [Descriptor],
        diff_ids: &'a [DiffId],
        source: &'a dyn Source,
        limits: &'a Limits,
    ) -> Self {
        Self {
            store,
            staging,
            layers,
            diff_ids,
            source,
            observer: &Silent,
            parallel: 1,
            vouched: true,
            resumed: Mutex::default(),
            spoiled: Mutex::default(),
            sharing: Sharing::Links,
            stopped: AtomicBool::default(),
            limits,
            ready: Mutex::default(),
        }
    }

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
        self.store.writing_back(|| self.make_tree(images))
    }

    fn make_tree(&self, images: &[Image]) -> Result<Tree, Error> {
        let shares = self.sharing == Sharing::Links && self.vouched;
        let prefix = if shares { Prefix::find(self.store, images, self.diff_ids) } else { None };
        let known = prefix.as_ref().map_or(0, |prefix| prefix.blobs.len());
        let donors = match self.diff_ids.get(known..) {
            Some(others) if shares => Donors::find(self.store, images, others),
            _ => Donors::default(),
        };
        let mut shared = Shared { origins: Origins::new(), donors };
        let slots: Slots = self.layers.iter().map(|_| Mutex::default()).collect();
        if let Some(ready) = lock(&self.ready).take() {
            shared.origins = ready.origins;
            self.say_unpacked(0, &ready.unpacked.layer);
            *lock(&slots[0]) = Some(ready.unpacked);
        } else {
            self.check_free()?;
            self.staging.create_lists(TREE)?;
        }
        let tree = self.staging.create_folder(TREE)?;
        let Base { tree, mut size, mut listed } = self.unpack_all(prefix, tree, &slots, &shared)?;
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
        thread::scope(|scope| {
            // Where that cannot be done, it is done when the staging folder goes.
            let _ = thread::Builder::new().spawn_scoped(scope, || {
                (0..self.layers.len()).for_each(|at| drop(self.staging.remove(&layer_name(at))));
            });
            write_list(tree.as_fd(), &listed, shared.origins, list)
        })?;
        Ok(Tree { name: Some(TREE), size })
    }

    /// Makes the tree that the image begins with, if there is one, in the folder `tree`, and unpacks all other layers into
    /// folders of their own meanwhile.
    fn unpack_all(
        &self,
        prefix: Option<Prefix>,
        tree: OwnedFd,
        slots: &Slots,
        shared: &Shared,
    ) -> Result<Base, Error> {
        let Some(prefix) = prefix else {
            self.unpack_from(0, slots, shared)?;
            return Ok(Base { tree, size: 0, listed: Vec::new() });
        };
        let (blobs, size, listed) = (prefix.blobs.clone(), prefix.size, prefix.listed());
        let linked = thread::scope(|scope| {
            let linking = thread::Builder::new().spawn_scoped(scope, || {
                prefix.adopt_headers(self.store, self.staging, TREE)
                    && prefix.replicate(tree.as_fd(), &shared.origins).is_ok()
            });
            self.unpack_from(blobs.len(), slots, shared)?;
            let join = |linking: thread::ScopedJoinHandle<'_, bool>| {
                linking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            Ok::<_, Error>(linking.is_ok_and(join))
        })?;
        if linked {
            for (at, blob) in blobs.iter().enumerate() {
                self.provide(at, blob)?;
                self.observer.event(Event::Unpacked(&self.layers[at].digest));
            }
            return Ok(Base { tree, size, listed });
        }
        // It is being removed, or is not what it was, or there was no thread: then it is as if it had never been there.
        drop(tree);
        self.staging.remove(TREE)?;
        for at in 0..blobs.len() {
            self.staging.remove_headers(TREE, at)?;
        }
        let tree = self.staging.create_folder(TREE)?;
        self.unpack_from(0, slots, shared)?;
        Ok(Base { tree, size: 0, listed: Vec::new() })
    }

    /// Unpacks the layers from this one on that are not yet unpacked.
    fn unpack_from(&self, start: usize, slots: &Slots, shared: &Shared) -> Result<(), Error> {
        let missing = (start..self.layers.len()).filter(|at| lock(&slots[*at]).is_none());
        let (repeated, first): (Vec<usize>, Vec<usize>) =
            missing.partition(|at| self.is_repeated(*at));
        let work = |at: usize| {
            let unpacked = self.unpack(at, shared)?;
            *lock(&slots[at]) = Some(unpacked);
            Ok(())
        };
        self.side_by_side(&first, work)?;
        // The same bytes once more: by now they are staged.
        repeated.into_iter().try_for_each(work)
    }

    /// Refuses at once what cannot fit: the layers that are still to come, packed as they are.
    fn check_free(&self) -> Result<(), Error> {
        let missing = (0..self.layers.len())
            .filter(|at| !self.is_repeated(*at))
            .map(|at| &self.layers[at])
            .filter(|layer| {
                !self.store.has_blob(layer) && !self.staging.blob_path(&layer.digest).exists()
            });
        let needed = missing.fold(self.limits.free, |sum, layer| sum.saturating_add(layer.size));
        let free = self.staging.free()?;
        if needed > free { Err(Error::NoSpace { needed, free }) } else { Ok(()) }
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
        Ok(())
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
        thread::scope(|scope| {
            for _ in 1..self.parallel.min(indexes.len()) {
                // There is at least this one.
                let _ = thread::Builder::new().spawn_scoped(scope, worker);
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
            self.provide(at, offer.blob)?;
            self.observer.event(Event::Unpacked(&self.layers[at].digest));
            return Ok(unpacked);
        }
        loop {
            match self.extract(at, offer.as_ref(), &shared.origins) {
                Err(error) if self.may_come_right(&self.layers[at], &error) => {
                    self.staging.remove(&layer_name(at))?;
                    self.staging.remove_headers(TREE, at)?;
                }
                result => return result,
            }
        }
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
        let dest = Destination {
            origins: Some((origins, number(at))),
            donor: Some((offer.donor, offer.layer)),
            ..Destination::new(folder.as_fd(), self.limits)
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
    fn provide(&self, at: usize, blob: &Descriptor) -> Result<(), Error> {
        let layer = &self.layers[at];
        if blob.digest != layer.digest {
            return self.check_diff_id(at);
        }
        if self.store.has_blob(layer) {
            self.observer.event(Event::Exists(&layer.digest));
            return Ok(());
        }
        // These very bytes had the right DiffID when the donor was made.
        loop {
            let copied = io::copy(&mut self.reader(layer)?, &mut io::sink());
            match copied.map_err(|source| self.error(at, unpack::Error::Read(source))) {
                Err(error) if self.may_come_right(layer, &error) => {}
                result => return result.map(drop),
            }
        }
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
        let mut reader = self.reader(layer)?;
        let expected = self.vouched.then(|| &self.diff_ids[at]);
        let dest = Destination {
            origins: Some((origins, number(at))),
            donor: offer.map(|offer| (offer.donor, offer.layer)),
            headers: Some(&headers),
            ..Destination::new(folder.as_fd(), self.limits)
        };
        let done = unpack::unpack_layer(&mut reader, compression, expected, &dest);
        let (unpacked, _) = done.map_err(|source| self.verdict(at, source, &mut reader))?;
        self.say_unpacked(at, &unpacked);
        Ok(Unpacked { folder, layer: unpacked })
    }

    fn say_unpacked(&self, at: usize, unpacked: &Layer) {
        if unpacked.dropped_xattrs() > 0 {
            self.observer.event(Event::DroppedAttributes(unpacked.dropped_xattrs()));
        }
        if !unpacked.own_root() && nix::unistd::geteuid().is_root() {
            self.observer.event(Event::Unconfined);
        }
        self.observer.event(Event::Unpacked(&self.layers[at].digest));
    }
}

/// The name of a layer's folder in the staging folder.
pub(super) fn layer_name(at: usize) -> String {
    format!("layer-{at}")
}

/// A layer's number as lists have it.
fn number(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// Makes the tree of an image anew from the layers in the store.
pub(super) fn restore_tree(store: &Store, image: &Image, sharing: Sharing) -> Result<(), Error> {
    let staging = store.stage()?;
    let limits = Limits::default();
    let (layers, diff_ids) = (&image.manifest.layers, &image.config.rootfs.diff_ids);
    let build =
        Build { sharing, ..Build::new(store, &staging, layers, diff_ids, &Nowhere, &limits) };
    let (images, _) = super::list(store)?;
    let tree = build.tree(&images)?;
    Ok(store.publish_tree(&staging, &image.id, tree.name.unwrap_or(TREE))?)
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

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
