//! Images of an OCI image layout, in a folder or unpacked from an archive.

use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::{Import, Imported, Vouched, copy, layout_name, layout_path};
use crate::image::supply::Source;
use crate::image::{Error, pull};
use crate::oci::descriptor::Descriptor;
use crate::oci::digest::{Digest, Mismatch, VerifyReader};
use crate::oci::image_config::MAX_CONFIG;
use crate::oci::manifest::{Document, Index, MAX_MANIFEST, Manifest};
use crate::oci::media_type;
use crate::oci::platform::Platform;
use crate::sys::fs::open_beneath;

impl Import<'_> {
    /// Every image that the layout in `folder` names.
    pub(super) fn layout(&self, folder: &OwnedFd) -> Result<Vec<Imported>, Error> {
        let bytes = self.read_small(folder, "index.json", MAX_MANIFEST)?;
        let index: Index = serde_json::from_slice(&bytes)
            .map_err(|e| Error::document(&Digest::sha256(&bytes), e.into()))?;
        let entries: Vec<&Descriptor> = index.manifests.iter().collect();
        let named: Vec<&Descriptor> =
            entries.iter().copied().filter(|entry| layout_name(entry).is_some()).collect();
        let all = self.name.is_some() || named.is_empty() || self.options.images_only;
        let chosen = if all { entries } else { named };
        self.check_count(chosen.len())?;
        let mut done = Vec::new();
        for entry in chosen {
            let (descriptor, manifest, bytes) = self.layout_manifest(folder, entry)?;
            let name = match (self.name, layout_name(entry)) {
                (Some(name), _) => Some(name.clone()),
                (None, Some(name)) => Some(self.own_name(&name, &manifest)?),
                (None, None) => self.made_up_name()?,
            };
            let config_bytes = self.layout_blob(folder, &manifest.config, MAX_CONFIG)?;
            self.check_all_there(folder, &manifest)?;
            for layer in &manifest.layers {
                self.take_blob(folder, layer)?;
            }
            done.extend(self.finish(
                name,
                &manifest,
                &bytes,
                &descriptor.media_type,
                &config_bytes,
                Vouched::Yes(&Layers { import: self, folder }),
            )?);
        }
        Ok(done)
    }

    /// The manifest for this machine that an entry of `index.json` leads to.
    fn layout_manifest(
        &self,
        folder: &OwnedFd,
        entry: &Descriptor,
    ) -> Result<(Descriptor, Manifest, Vec<u8>), Error> {
        let host = Platform::host();
        let mut at = entry.clone();
        for _ in 0..=pull::MAX_INDEX_DEPTH {
            let bytes = self.layout_blob(folder, &at, MAX_MANIFEST)?;
            let parsed = Document::parse(&bytes, Some(&at.media_type));
            match parsed.map_err(|source| Error::document(&at.digest, source))? {
                Document::Manifest(manifest) => return Ok((at, manifest, bytes)),
                Document::Index(index) => {
                    let first = index.candidates(&host).first().copied().cloned();
                    at = first.ok_or_else(|| Error::no_platform(&host, &index))?;
                }
            }
        }
        Err(Error::TooDeep)
    }

    /// Refuses an archive without layers that this store has not got either, as a bundle may turn out to be.
    fn check_all_there(&self, folder: &OwnedFd, manifest: &Manifest) -> Result<(), Error> {
        let is_missing = |layer: &&Descriptor| {
            let name = layout_path(&layer.digest);
            let look = OFlag::O_PATH | OFlag::O_NOFOLLOW;
            !self.store.has_blob(layer)
                && !self.staging.blob_path(&layer.digest).exists()
                && matches!(open_beneath(folder.as_fd(), name.as_bytes(), look), Err(Errno::ENOENT))
        };
        let missing: Vec<String> =
            manifest.layers.iter().filter(is_missing).map(|l| l.digest.to_string()).collect();
        match missing.is_empty() {
            true => Ok(()),
            false => Err(Error::Missing { path: self.input.shown(), layers: missing.join(", ") }),
        }
    }

    fn layout_blob(
        &self,
        folder: &OwnedFd,
        wanted: &Descriptor,
        limit: u64,
    ) -> Result<Vec<u8>, Error> {
        let name = layout_path(&wanted.digest);
        let what = "blob";
        if wanted.size > limit {
            let source = Mismatch::TooLong { expected: limit };
            return Err(Error::Blob { what, digest: wanted.digest.clone(), source });
        }
        let file = self.open_inside(folder, &name)?;
        let mut bytes = Vec::new();
        let mut reader = VerifyReader::new(file, wanted.digest.clone(), wanted.size);
        reader.read_to_end(&mut bytes).map_err(|error| self.blob_error(&wanted.digest, error))?;
        Ok(bytes)
    }

    /// Brings a layer of the layout into the staging folder, unless the store or the folder has it.
    fn take_blob(&self, folder: &OwnedFd, layer: &Descriptor) -> Result<(), Error> {
        if self.store.has_blob(layer) || self.staging.blob_path(&layer.digest).exists() {
            return Ok(());
        }
        if media_type::layer_compression(&layer.media_type).is_none() {
            return Err(Error::LayerType(layer.media_type.chars().take(128).collect()));
        }
        let file = self.open_inside(folder, &layout_path(&layer.digest))?;
        let mut reader = VerifyReader::new(file, layer.digest.clone(), layer.size);
        let mut out = self.staging.create_blob(&layer.digest)?;
        copy(&mut reader, &mut out).map_err(|error| self.blob_error(&layer.digest, error))
    }

    fn blob_error(&self, digest: &Digest, error: io::Error) -> Error {
        match Mismatch::of(&error) {
            Some(mismatch) => {
                Error::Blob { what: "blob", digest: digest.clone(), source: mismatch.clone() }
            }
            None => self.io("read", error),
        }
    }
}

/// The layers of a layout, for when those that the store has turn out to be damaged.
struct Layers<'a> {
    import: &'a Import<'a>,
    folder: &'a OwnedFd,
}

impl Source for Layers<'_> {
    fn open(&self, layer: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send + '_>, Error> {
        let mut file = self.import.open_inside(self.folder, &layout_path(&layer.digest))?;
        file.seek(SeekFrom::Start(offset)).map_err(|error| self.import.io("seek", error))?;
        Ok(Box::new(file))
    }

    fn has(&self, layer: &Descriptor) -> bool {
        self.import.open_inside(self.folder, &layout_path(&layer.digest)).is_ok()
    }
}
