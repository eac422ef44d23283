//! Who holds how much of the disk: every blob and every file of every tree, and the images that need it.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::stat::{FileStat, SFlag};

use super::Store;
use super::error::{At as _, Error};
use crate::oci::digest::{Digest, ImageId};
use crate::sys::disk_usage::{bytes, for_each_file};

/// An image's number in the accounts.
pub type Holder = usize;

/// What takes room in the store, and which images need it.
#[derive(Debug, Default)]
pub struct Accounts {
    /// What only one image can ever need: its directories, and files with a single name.
    own: Vec<u64>,
    blobs: HashMap<Digest, Part>,
    files: HashMap<(u64, u64), Part>,
}

/// Something that several images may need.
#[derive(Debug, Default)]
struct Part {
    bytes: u64,
    holders: BTreeSet<Holder>,
    /// How many names of it were seen, and how many it has.
    names: (u64, u64),
}

impl Part {
    /// Whether it goes when these images go.
    fn goes_with(&self, gone: &BTreeSet<Holder>) -> bool {
        self.names.0 >= self.names.1 && self.holders.is_subset(gone)
    }
}

impl Accounts {
    /// Adds an image that consists of these blobs and of its tree.
    pub fn add(&mut self, store: &Store, blobs: &[Digest], id: &ImageId) -> Result<Holder, Error> {
        let holder = self.own.len();
        self.own.push(0);
        for digest in blobs {
            let Ok(found) = fs::symlink_metadata(store.blob_path(digest)) else { continue };
            let part = self.blobs.entry(digest.clone()).or_default();
            part.bytes = found.blocks().saturating_mul(512);
            part.holders.insert(holder);
        }
        for folder in [store.tree_path(id), store.lists_path(id)] {
            self.add_folder(&folder, holder)?;
        }
        Ok(holder)
    }

    fn add_folder(&mut self, folder: &Path, holder: Holder) -> Result<(), Error> {
        let root = match File::open(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened.at("open", folder)?,
        };
        let mut see = |stat: &FileStat| {
            let is_directory = stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits();
            if is_directory || stat.st_nlink <= 1 {
                self.own[holder] = self.own[holder].saturating_add(bytes(stat));
                return;
            }
            let part = self.files.entry((stat.st_dev, stat.st_ino)).or_default();
            part.bytes = bytes(stat);
            part.holders.insert(holder);
            #[allow(clippy::useless_conversion, reason = "its width differs between machines")]
            let links = u64::from(stat.st_nlink);
            part.names = (part.names.0 + 1, links);
        };
        for_each_file(root.as_fd(), &mut see).map_err(io::Error::from).at("look through", folder)
    }

    fn parts(&self) -> impl Iterator<Item = &Part> {
        self.blobs.values().chain(self.files.values())
    }

    /// The bytes on the disk of all images together, each counted once.
    pub fn total(&self) -> u64 {
        self.own.iter().sum::<u64>() + self.parts().map(|part| part.bytes).sum::<u64>()
    }

    /// The bytes that would be free if these images were removed.
    pub fn freed(&self, gone: &BTreeSet<Holder>) -> u64 {
        let own: u64 = gone.iter().filter_map(|holder| self.own.get(*holder)).sum();
        let parts = self.parts().filter(|part| part.goes_with(gone));
        own + parts.map(|part| part.bytes).sum::<u64>()
    }

    /// The bytes of an image that stay as long as others need them.
    pub fn shared(&self, holder: Holder) -> u64 {
        let alone = BTreeSet::from([holder]);
        let held = self.parts().filter(|part| part.holders.contains(&holder));
        held.filter(|part| !part.goes_with(&alone)).map(|part| part.bytes).sum()
    }
}

impl Store {
    /// The bytes on the disk of blobs and trees that none of these images needs.
    pub fn unneeded_bytes(
        &self,
        blobs: &BTreeSet<Digest>,
        trees: &BTreeSet<ImageId>,
    ) -> Result<u64, Error> {
        let mut rest = Accounts::default();
        let (unneeded_blobs, unneeded_trees) = self.unneeded(blobs, trees)?;
        let mut all = BTreeSet::from([rest.add_blobs(self, &unneeded_blobs)]);
        for id in unneeded_trees {
            all.insert(rest.add(self, &[], &id)?);
        }
        Ok(rest.freed(&all))
    }
}

impl Accounts {
    fn add_blobs(&mut self, store: &Store, digests: &[Digest]) -> Holder {
        let found = digests.iter().filter_map(|d| fs::symlink_metadata(store.blob_path(d)).ok());
        self.own.push(found.map(|found| found.blocks().saturating_mul(512)).sum());
        self.own.len() - 1
    }
}
