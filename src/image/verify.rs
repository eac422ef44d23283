//! `verify`: looks whether the store still is what was put into it, and changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsFd;

use super::{Error, Image, find};
use crate::oci::descriptor::Descriptor;
use crate::oci::digest::{DiffId, Digest, ImageId, VerifyReader};
use crate::oci::image_config::{ImageConfig, MAX_CONFIG};
use crate::oci::manifest::{Document, MAX_MANIFEST, Manifest};
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;
use crate::store::Store;
use crate::unpack::list::{Depth, Difference, ListReader, compare};

/// Something in the store that is not what it has to be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// The images that suffer from it; none for what belongs to none.
    pub images: BTreeSet<String>,
    /// What it is.
    pub object: String,
    /// What is wrong with it.
    pub fault: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.images.is_empty() {
            let names = Vec::from_iter(self.images.iter().map(String::as_str));
            write!(f, "{}: ", names.join(", "))?;
        }
        write!(f, "{}: {}", self.object, self.fault)
    }
}

/// Verifies the images that `texts` mean, or all of the store, and hands each problem to `report`.
///
/// Documents and layers are compared with their digests, trees with the lists that were made when they were unpacked: by
/// what `lstat(2)` tells, and with `deep` also the contents and extended attributes of all files.
pub fn verify(
    store: &Store,
    texts: &[String],
    deep: bool,
    report: &mut dyn FnMut(&Problem),
) -> Result<u64, Error> {
    let mut count = 0;
    let mut counted = |problem: &Problem| {
        count += 1;
        report(problem);
    };
    if store.is_absent() && texts.is_empty() {
        return Ok(0);
    }
    if !store.has_layout() {
        counted(&Problem::of_store("oci-layout", "is missing or malformed"));
    }
    let entries = match store.images() {
        Ok(entries) => entries,
        Err(error) => {
            counted(&Problem::of_store("index.json", &chain(&error)));
            return Ok(count);
        }
    };
    let chosen = select(store, &entries, texts)?;
    let mut check = Check::new(store, &entries, &mut counted);
    for entry in &chosen {
        check.image(entry, deep)?;
    }
    if texts.is_empty() {
        check.strays()?;
    }
    Ok(count)
}

/// The entries of `index.json` that the user means, readable or not.
pub(super) fn select(
    store: &Store,
    entries: &[Descriptor],
    texts: &[String],
) -> Result<Vec<Descriptor>, Error> {
    if texts.is_empty() {
        return Ok(entries.to_vec());
    }
    let mut chosen: Vec<Descriptor> = Vec::new();
    for text in texts {
        let name = text.parse::<Reference>().ok().map(|name| name.familiar());
        let named = entries.iter().find(|entry| entry.ref_name() == name.as_deref());
        let entry = match named.filter(|_| name.is_some()) {
            Some(entry) => entry.clone(),
            None => find(store, text)?.descriptor,
        };
        if !chosen.contains(&entry) {
            chosen.push(entry);
        }
    }
    Ok(chosen)
}

impl Problem {
    fn of_store(object: &str, fault: &str) -> Self {
        let (object, fault) = (object.to_owned(), fault.to_owned());
        Self { images: BTreeSet::new(), object, fault }
    }
}

/// What users call an entry.
pub(super) fn shown(entry: &Descriptor) -> String {
    let name = entry.ref_name().map(|name| name.chars().filter(|c| !c.is_control()).collect());
    name.unwrap_or_else(|| format!("<none>@{}", entry.digest))
}

struct Check<'a> {
    store: &'a Store,
    report: &'a mut dyn FnMut(&Problem),
    /// Which images need a blob, as far as they can be read.
    users: BTreeMap<Digest, BTreeSet<String>>,
    /// What has been looked at: a blob that several images share is told of once.
    blobs: BTreeSet<Digest>,
    trees: BTreeSet<ImageId>,
}

impl<'a> Check<'a> {
    fn new(store: &'a Store, entries: &[Descriptor], report: &'a mut dyn FnMut(&Problem)) -> Self {
        let mut users: BTreeMap<Digest, BTreeSet<String>> = BTreeMap::new();
        for entry in entries {
            users.entry(entry.digest.clone()).or_default().insert(shown(entry));
            let image = Image::load(store, entry);
            for digest in image.iter().flat_map(super::df::parts) {
                users.entry(digest).or_default().insert(shown(entry));
            }
        }
        Self { store, report, users, blobs: BTreeSet::new(), trees: BTreeSet::new() }
    }

    fn image(&mut self, entry: &Descriptor, deep: bool) -> Result<(), Error> {
        let name = shown(entry);
        let Some(manifest) = self.manifest(entry, &name) else { return Ok(()) };
        let config = self.config(&manifest, &name);
        for layer in &manifest.layers {
            self.blob("layer", layer, &name);
        }
        let Some(config) = config else { return Ok(()) };
        let id = ImageId::new(manifest.config.digest.clone());
        if self.trees.insert(id.clone()) {
            let (store, images) = (self.store, BTreeSet::from([name.clone()]));
            tree(store, &id, &config.rootfs.diff_ids, deep, &mut |path, fault| {
                let object = match path {
                    Some(path) => format!("tree: /{}", escaped(path)),
                    None => "tree".to_owned(),
                };
                let images = images.clone();
                (self.report)(&Problem { images, object, fault });
            })?;
        }
        let name = entry.ref_name().and_then(|name| name.parse::<Reference>().ok());
        if let Some(name) = name
            && let Some(fault) = self.store.wrong_link(&name, &id)
        {
            let object = format!("rootfs/{}", name.file_name());
            self.tell(&name.familiar(), object, fault);
        }
        Ok(())
    }

    /// The manifest for this machine that an entry leads to, if all on the way is right.
    fn manifest(&mut self, entry: &Descriptor, name: &str) -> Option<Manifest> {
        let mut at = entry.clone();
        for _ in 0..=super::pull::MAX_INDEX_DEPTH {
            if !self.blob("manifest", &at, name) {
                return None;
            }
            let bytes = self.store.read_blob(&at, MAX_MANIFEST);
            let parsed = bytes.map_err(|error| chain(&error)).and_then(|bytes| {
                Document::parse(&bytes, Some(&at.media_type)).map_err(|error| chain(&error))
            });
            match parsed {
                Ok(Document::Manifest(manifest)) => return Some(manifest),
                Ok(Document::Index(index)) => {
                    let host = Platform::host();
                    let candidates = index.candidates(&host);
                    let found = candidates.iter().find(|c| self.store.has_blob(c));
                    let Some(next) = found.or_else(|| candidates.first()) else {
                        let fault = chain(&Error::no_platform(&host, &index));
                        self.tell(name, format!("manifest {}", at.digest), fault);
                        return None;
                    };
                    at = (*next).clone();
                }
                Err(fault) => {
                    self.tell(name, format!("manifest {}", at.digest), fault);
                    return None;
                }
            }
        }
        self.tell(name, "manifest".to_owned(), Error::TooDeep.to_string());
        None
    }

    fn config(&mut self, manifest: &Manifest, name: &str) -> Option<ImageConfig> {
        if !self.blob("config", &manifest.config, name) {
            return None;
        }
        let read = self.store.read_blob(&manifest.config, MAX_CONFIG).map_err(Error::from);
        match read.and_then(|bytes| super::pull::parse_config(manifest, &bytes)) {
            Ok(config) => Some(config),
            Err(error) => {
                let object = format!("config {}", manifest.config.digest);
                self.tell(name, object, chain(&error));
                None
            }
        }
    }

    /// Whether a blob is right; if not, and nobody has heard of it yet, it is told.
    fn blob(&mut self, what: &str, descriptor: &Descriptor, name: &str) -> bool {
        let Some(fault) = blob_fault(self.store, descriptor) else {
            self.blobs.insert(descriptor.digest.clone());
            return true;
        };
        if self.blobs.insert(descriptor.digest.clone()) {
            let mut images = self.users.get(&descriptor.digest).cloned().unwrap_or_default();
            images.insert(name.to_owned());
            let object = format!("{what} {}", descriptor.digest);
            (self.report)(&Problem { images, object, fault });
        }
        false
    }

    /// Blobs that no image needs: one that is broken would stand in the way of an image that comes to need it.
    fn strays(&mut self) -> Result<(), Error> {
        for digest in self.store.blobs()? {
            if self.blobs.contains(&digest) || self.users.contains_key(&digest) {
                continue;
            }
            if let Some(fault) = stray_fault(self.store, &digest) {
                (self.report)(&Problem::of_store(&format!("blob {digest}"), &fault));
            }
        }
        Ok(())
    }

    fn tell(&mut self, image: &str, object: String, fault: String) {
        (self.report)(&Problem { images: BTreeSet::from([image.to_owned()]), object, fault });
    }
}

/// What is wrong with a blob.
pub(super) fn blob_fault(store: &Store, descriptor: &Descriptor) -> Option<String> {
    let path = store.blob_path(&descriptor.digest);
    let read = || -> io::Result<()> {
        // Not opened before it is known to be a file: a FIFO would be waited for.
        if !fs::symlink_metadata(&path)?.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        let file = File::open(&path)?;
        let mut reader = VerifyReader::new(file, descriptor.digest.clone(), descriptor.size);
        let mut buffer = vec![0; 256 << 10];
        while reader.read(&mut buffer)? > 0 {}
        Ok(())
    };
    match read() {
        Ok(()) => None,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some("is missing".to_owned()),
        Err(error) => Some(error.to_string()),
    }
}

/// What is wrong with a blob of which only the digest is known.
pub(super) fn stray_fault(store: &Store, digest: &Digest) -> Option<String> {
    let size = fs::symlink_metadata(store.blob_path(digest)).map_or(0, |found| found.len());
    blob_fault(store, &Descriptor::new("", digest.clone(), size))
}

/// Compares the tree of an image with its list. `report` gets the path of a file and what is wrong with it, or `None`
/// and what is wrong with tree or list as a whole.
pub(super) fn tree(
    store: &Store,
    id: &ImageId,
    diff_ids: &[DiffId],
    deep: bool,
    report: &mut dyn FnMut(Option<&[u8]>, String),
) -> Result<(), Error> {
    if !store.has_tree(id) {
        report(None, "is missing".to_owned());
        return Ok(());
    }
    let list = match store.open_list(id) {
        Ok(Some(file)) => ListReader::new(file).map_err(|error| chain(&error)),
        Ok(None) => Err("has no list to compare it with".to_owned()),
        Err(error) => Err(chain(&error)),
    };
    let list = match list {
        Ok(list) if list.layers().iter().map(|layer| &layer.diff_id).eq(diff_ids) => list,
        Ok(_) => {
            report(None, "has the list of another image".to_owned());
            return Ok(());
        }
        Err(fault) => {
            report(None, fault);
            return Ok(());
        }
    };
    let path = store.tree_path(id);
    let root = match File::open(&path) {
        // Another command has taken it away since.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            report(None, "is missing".to_owned());
            return Ok(());
        }
        root => root.map_err(|source| Error::Io { verb: "open", path, source })?,
    };
    let depth = if deep { Depth::Contents } else { Depth::Metadata };
    let compared = compare(root.as_fd(), list, depth, |Difference { path, change }| {
        report(Some(&path), change.to_string());
    });
    if let Err(error) = compared {
        report(None, chain(&error));
    }
    Ok(())
}

/// An error and its causes on one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

/// A path without anything that would steer a terminal or make a second line.
fn escaped(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    let plain = text.chars().flat_map(|c| match c.is_control() {
        true => c.escape_default().collect::<Vec<_>>(),
        false => vec![c],
    });
    plain.collect()
}
