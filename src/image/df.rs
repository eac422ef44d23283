//! `df`: what the images take of the disk.

use std::collections::{BTreeMap, BTreeSet};

use super::{Error, Image, list};
use crate::oci::digest::{Digest, ImageId};
use crate::store::{Accounts, Store};

/// What the images take of the disk, in bytes.
#[derive(Debug)]
pub struct DiskUsage {
    /// Every image, oldest first.
    pub images: Vec<ImageUsage>,
    /// All of them together, with what no image needs any more.
    pub total: u64,
    /// What would be free without the images that no container stands on.
    pub reclaimable: u64,
}

/// What one image takes of the disk, in bytes.
#[derive(Debug)]
pub struct ImageUsage {
    /// The image, once for each of its names.
    pub images: Vec<Image>,
    /// What would be free without it.
    pub own: u64,
    /// What other images need as well.
    pub shared: u64,
    /// How many containers stand on it.
    pub containers: usize,
}

/// Works out what the images take of the disk. `users` are the images that containers stand on, one for each.
pub fn disk_usage(store: &Store, users: &[ImageId]) -> Result<DiskUsage, Error> {
    let survey = Survey::new(store, users)?;
    let unused = survey.unused();
    let mut usage = Vec::new();
    for (holder, group) in survey.groups.iter().enumerate() {
        usage.push(ImageUsage {
            own: survey.accounts.freed(&BTreeSet::from([holder])),
            shared: survey.accounts.shared(holder),
            containers: users.iter().filter(|user| **user == group.id).count(),
            images: group.images.clone(),
        });
    }
    let rest = survey.unneeded_bytes(store)?;
    let total = survey.accounts.total() + rest;
    let free = if survey.is_complete { rest } else { 0 };
    Ok(DiskUsage { images: usage, total, reclaimable: survey.accounts.freed(&unused) + free })
}

/// All images with the room that they take.
pub(super) struct Survey {
    pub(super) groups: Vec<Group>,
    pub(super) accounts: Accounts,
    /// Whether every image can be read, so that what none of these needs is needed by nobody.
    pub(super) is_complete: bool,
    needed: (BTreeSet<Digest>, BTreeSet<ImageId>),
}

/// An image under all its names.
pub(super) struct Group {
    pub(super) id: ImageId,
    pub(super) images: Vec<Image>,
    pub(super) is_used: bool,
}

impl Survey {
    pub(super) fn new(store: &Store, users: &[ImageId]) -> Result<Self, Error> {
        let (images, broken) = list(store)?;
        let mut groups: Vec<Group> = Vec::new();
        let mut at = BTreeMap::new();
        for image in images {
            let index = *at.entry(image.id.clone()).or_insert_with(|| {
                let is_used = users.contains(&image.id);
                groups.push(Group { id: image.id.clone(), images: Vec::new(), is_used });
                groups.len() - 1
            });
            groups[index].images.push(image);
        }
        let mut accounts = Accounts::default();
        let mut needed = (BTreeSet::new(), BTreeSet::from_iter(users.iter().cloned()));
        for group in &groups {
            let blobs: BTreeSet<Digest> = group.images.iter().flat_map(parts).collect();
            needed.0.extend(blobs.iter().cloned());
            needed.1.insert(group.id.clone());
            accounts.add(store, &Vec::from_iter(blobs), &group.id)?;
        }
        Ok(Self { groups, accounts, is_complete: broken.is_empty(), needed })
    }

    /// The images that no container stands on.
    pub(super) fn unused(&self) -> BTreeSet<usize> {
        let groups = self.groups.iter().enumerate();
        groups.filter(|(_, group)| !group.is_used).map(|(holder, _)| holder).collect()
    }

    /// What no image needs, in bytes.
    pub(super) fn unneeded_bytes(&self, store: &Store) -> Result<u64, Error> {
        Ok(store.unneeded_bytes(&self.needed.0, &self.needed.1)?)
    }
}

/// The blobs that an image consists of.
pub(super) fn parts(image: &Image) -> Vec<Digest> {
    let manifest = &image.manifest;
    let mut blobs = vec![
        image.descriptor.digest.clone(),
        image.manifest_descriptor.digest.clone(),
        manifest.config.digest.clone(),
    ];
    blobs.extend(manifest.layers.iter().map(|layer| layer.digest.clone()));
    blobs
}
