//! Use-cases that join registry, store and unpack, from `pull` to `repair`.

mod ahead;
mod archive;
mod arrival;
mod change;
mod commit;
mod copy;
mod df;
mod donors;
mod error;
mod files;
mod history;
mod import;
mod inventory;
mod layers;
mod look;
mod output;
mod prefix;
mod prune;
mod pull;
mod push;
mod remove;
mod repair;
mod save;
mod supply;
mod tag;
mod transfer;
mod verify;

use std::path::PathBuf;
use std::str::FromStr;

use crate::oci::descriptor::Descriptor;
use crate::oci::digest::{Digest, ImageId};
use crate::oci::image_config::{ImageConfig, MAX_CONFIG};
use crate::oci::manifest::{Document, MAX_MANIFEST, Manifest};
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;
use crate::store::{ANNOTATION_PULLED, ANNOTATION_SIZE, Store};

pub use crate::unpack::{Change, ChangeKind, LimitError, Limits, Overlay};
pub use change::{Instruction, InstructionError};
pub use commit::{CommitOptions, Start, commit, diff, export};
pub use copy::{CopyOptions, Place, copy};
pub use df::{DiskUsage, ImageUsage, disk_usage};
pub use error::Error;
pub use files::{Laid, Laying, Owners, lay_from, only_files, pack_to, unpack_to};
pub use history::{Step, history};
pub use import::{ImportOptions, Imported, Input, import};
pub use inventory::inventory;
pub use layers::Sharing;
pub use look::{Look, RemoteImage, look};
pub use output::Output;
pub use prune::{PruneOptions, Pruned, prune};
pub use pull::{PullOptions, Pulled, pull, pull_first};
pub use push::push;
pub use remove::{Untagged, remove};
pub use repair::{Helpers, Repaired, repair};
pub use save::{ArchiveFormat, Chosen, Packing, bundle, choose, read_inventory, save};
pub use tag::tag;
pub use verify::{Problem, verify};

/// What happens to an image's parts while it is pulled, imported, pushed or copied; for whoever shows progress.
pub trait Observer: Sync {
    /// One thing happened.
    fn event(&self, event: Event<'_>);
}

/// One thing that happened.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The layers of the image are known, base first.
    Layers(&'a [Descriptor]),
    /// The store's copy of a layer is damaged, and is replaced.
    Damaged(&'a Digest),
    /// Extended attributes were left out, as many as said, since the store's file system cannot hold them.
    DroppedAttributes(u64),
    /// A layer's bytes are in the store already.
    Exists(&'a Digest),
    /// The registry has taken a blob from this repository of its own.
    Mounted(&'a Digest, &'a str),
    /// A registry that a short name may mean does not have the image, or does not answer; the next one is asked.
    PassedOver(&'a Reference, &'a Error),
    /// More bytes of a layer have come, in all as many as said.
    Received(&'a Digest, u64),
    /// More bytes of a blob have gone to where it is copied or pushed to, in all as many as said.
    Sending(&'a Digest, u64),
    /// All of a blob has gone to where it is copied or pushed to.
    Sent(&'a Digest),
    /// A blob is where it is copied or pushed to already.
    There(&'a Digest),
    /// A layer was extracted by root in view of the whole file system, as this machine does not let root make a mount
    /// namespace.
    Unconfined,
    /// All of a layer has come and been unpacked, and its digests are right.
    Unpacked(&'a Digest),
}

/// Nobody watches.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Observer for Silent {
    fn event(&self, _: Event<'_>) {}
}

/// An image in the store.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its entry in `index.json`.
    pub descriptor: Descriptor,
    /// The digest of its configuration.
    pub id: ImageId,
    /// Where its manifest is: what the entry stands for, or the part of an index that is for this machine.
    pub manifest_descriptor: Descriptor,
    /// Its manifest.
    pub manifest: Manifest,
    /// Its configuration.
    pub config: ImageConfig,
    /// The configuration's bytes, for fields that this program does not know.
    pub config_bytes: Vec<u8>,
}

impl Image {
    /// Reads the image that an entry of `index.json` stands for.
    ///
    /// An entry that another tool wrote may lead to an index; then the image for this machine is meant.
    pub fn load(store: &Store, entry: &Descriptor) -> Result<Self, Error> {
        let mut at = entry.clone();
        for _ in 0..=pull::MAX_INDEX_DEPTH {
            let bytes = store.read_blob(&at, MAX_MANIFEST)?;
            let parsed = Document::parse(&bytes, Some(&at.media_type));
            match parsed.map_err(|source| Error::document(&at.digest, source))? {
                Document::Manifest(manifest) => {
                    let config_bytes = store.read_blob(&manifest.config, MAX_CONFIG)?;
                    let config = pull::parse_config(&manifest, &config_bytes)?;
                    let id = ImageId::new(manifest.config.digest.clone());
                    let descriptor = entry.clone();
                    return Ok(Self {
                        descriptor,
                        id,
                        manifest_descriptor: at,
                        manifest,
                        config,
                        config_bytes,
                    });
                }
                Document::Index(index) => {
                    let host = Platform::host();
                    let found = index.candidates(&host).into_iter().find(|c| store.has_blob(c));
                    at = found.cloned().ok_or_else(|| Error::no_platform(&host, &index))?;
                }
            }
        }
        Err(Error::TooDeep)
    }

    /// The familiar name, if the image has one.
    pub fn name(&self) -> Option<&str> {
        self.descriptor.ref_name()
    }

    /// The name as a reference, where it has the form of one.
    pub fn reference(&self) -> Option<Reference> {
        self.name()?.parse().ok()
    }

    /// The bytes of all files in its tree; of its layers, where the tree was never measured.
    pub fn size(&self) -> u64 {
        let measured = self.descriptor.annotations.get(ANNOTATION_SIZE);
        measured.and_then(|size| size.parse().ok()).unwrap_or_else(|| {
            self.manifest.layers.iter().fold(0_u64, |sum, layer| sum.saturating_add(layer.size))
        })
    }

    /// The digest that a registry knows the image by.
    pub fn repo_digest(&self) -> &str {
        let pulled = self.descriptor.annotations.get(ANNOTATION_PULLED);
        pulled.map_or("", String::as_str)
    }

    /// The folder of its root filesystem, made anew from its layers if it is missing.
    pub fn tree(&self, store: &Store) -> Result<PathBuf, Error> {
        if !store.has_tree(&self.id) {
            let made = layers::restore_tree(store, self, Sharing::Links);
            made.map_err(|error| match self.is_removed(store) {
                true => {
                    Error::NoSuchImage(self.name().unwrap_or(self.id.digest().short()).to_owned())
                }
                false => error,
            })?;
        }
        Ok(store.tree_path(&self.id))
    }

    /// Whether another command has taken it away since it was loaded.
    fn is_removed(&self, store: &Store) -> bool {
        let entries = store.images();
        entries.is_ok_and(|all| all.iter().all(|entry| entry.digest != self.descriptor.digest))
    }
}

/// An entry of `index.json` that cannot be read, and why.
pub type Broken = (Descriptor, Error);

/// All images, and the entries that cannot be read with what is wrong with them: one broken image does not hide the
/// others.
pub fn list(store: &Store) -> Result<(Vec<Image>, Vec<Broken>), Error> {
    let (mut images, mut broken) = (Vec::new(), Vec::new());
    for entry in store.images()? {
        match Image::load(store, &entry) {
            Ok(image) => images.push(image),
            Err(error) => broken.push((entry, error)),
        }
    }
    Ok((images, broken))
}

/// The image that a user means: a name, an id or the first digits of one, or `name@digest`.
///
/// # Errors
/// [`Error::NoSuchImage`], and [`Error::AmbiguousId`] where several ids begin so.
pub fn find(store: &Store, text: &str) -> Result<Image, Error> {
    let parsed = Reference::from_str(text);
    if let Ok(reference) = &parsed {
        let name = reference.familiar();
        let mut named = store.named(&name)?;
        while let Some(entry) = named {
            let loaded = Image::load(store, &entry);
            if loaded.is_ok() {
                return loaded;
            }
            // Another command may have taken it away or given the name to another image meanwhile.
            named = store.named(&name)?;
            if named.as_ref().is_some_and(|now| now.digest == entry.digest) {
                return loaded;
            }
        }
    }
    let (images, _) = list(store)?;
    if let Ok(Some(digest)) = parsed.as_ref().map(Reference::digest) {
        let repository = parsed.as_ref().map(Reference::familiar_repository).unwrap_or_default();
        let found = images.iter().find(|image| {
            let same_place =
                image.reference().is_some_and(|r| r.familiar_repository() == repository);
            same_place
                && (image.descriptor.digest == *digest || image.repo_digest() == digest.to_string())
        });
        if let Some(image) = found {
            return Ok(image.clone());
        }
    }
    let prefix = text.strip_prefix("sha256:").unwrap_or(text);
    let is_id = !prefix.is_empty() && prefix.bytes().all(|b| b.is_ascii_hexdigit());
    let mut matching: Vec<Image> = images
        .into_iter()
        .filter(|image| is_id && image.id.digest().encoded().starts_with(prefix))
        .collect();
    // One image may have several names; it is still one image.
    matching.dedup_by(|a, b| a.id == b.id);
    match matching.len() {
        0 => match parsed {
            Ok(reference) => Err(Error::NoSuchImage(reference.familiar())),
            Err(source) => Err(source.into()),
        },
        1 => Ok(matching.remove(0)),
        _ => Err(Error::AmbiguousId(text.to_owned())),
    }
}
