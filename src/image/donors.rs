//! Which trees in the store have layers that a new image needs.

use std::fs::File;

use super::Image;
use crate::oci::descriptor::Descriptor;
use crate::oci::digest::{DiffId, ImageId};
use crate::store::Store;
use crate::unpack::Donor;
use crate::unpack::list::ListReader;

/// How many trees are asked for files: each one's list is kept in memory.
const MAX_DONORS: usize = 4;

/// The trees that lend files to a new one. They may be removed at any time, and then lend no more.
#[derive(Default)]
pub(super) struct Donors {
    lenders: Vec<Lender>,
}

struct Lender {
    id: ImageId,
    layers: Vec<Descriptor>,
    donor: Donor,
}

/// A layer that a donor has.
pub(super) struct Offer<'a> {
    /// The donor's image.
    pub(super) id: &'a ImageId,
    pub(super) donor: &'a Donor,
    /// The layer's number in the donor's image.
    pub(super) layer: u32,
    /// Whether none of its files is hidden or replaced there.
    pub(super) complete: bool,
    /// The blob that the donor's layer was made from, and that therefore has its DiffID.
    pub(super) blob: &'a Descriptor,
}

impl Donors {
    /// Looks through `images` for layers with these DiffIDs, the images with most of them first. A tree or a list that
    /// cannot be used is passed over.
    pub(super) fn find(store: &Store, images: &[Image], diff_ids: &[DiffId]) -> Self {
        let count = |image: &Image| {
            let theirs = &image.config.rootfs.diff_ids;
            diff_ids.iter().filter(|diff_id| theirs.contains(diff_id)).count()
        };
        let mut candidates: Vec<_> = images
            .iter()
            .map(|image| (count(image), image))
            .filter(|(count, _)| *count > 0)
            .collect();
        candidates.sort_by(|(a, x), (b, y)| b.cmp(a).then_with(|| x.id.cmp(&y.id)));
        // One image may have several names.
        candidates.dedup_by(|(_, a), (_, b)| a.id == b.id);
        let lenders = candidates.into_iter().take(MAX_DONORS);
        let lenders = lenders.filter_map(|(_, image)| Lender::open(store, image, diff_ids));
        Self { lenders: lenders.collect() }
    }

    /// The best donor of a layer.
    pub(super) fn offer(&self, diff_id: &DiffId) -> Option<Offer<'_>> {
        let offers = self.lenders.iter().filter_map(|lender| lender.offer(diff_id));
        offers.max_by_key(|offer| offer.complete)
    }
}

impl Lender {
    fn open(store: &Store, image: &Image, diff_ids: &[DiffId]) -> Option<Self> {
        let list = ListReader::new(store.open_list(&image.id).ok()??).ok()?;
        let listed = list.layers().iter().map(|layer| &layer.diff_id);
        if !listed.eq(&image.config.rootfs.diff_ids) {
            return None;
        }
        let root = File::open(store.tree_path(&image.id)).ok()?;
        let donor = Donor::new(root.into(), list, |diff_id| diff_ids.contains(diff_id)).ok()?;
        Some(Self { id: image.id.clone(), layers: image.manifest.layers.clone(), donor })
    }

    fn offer(&self, diff_id: &DiffId) -> Option<Offer<'_>> {
        let layer = self.donor.layer(diff_id)?;
        let blob = self.layers.get(layer as usize)?;
        let complete = self.donor.is_complete(layer);
        Some(Offer { id: &self.id, donor: &self.donor, layer, complete, blob })
    }
}
