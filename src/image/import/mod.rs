//! `import`: images from files and folders, with no registry.
//!
//! What is given tells by itself what it is. An archive is first unpacked into the staging folder, by the same
//! extractor that layers go through, and is then read like a folder.

mod docker;
mod layout;

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use nix::fcntl::OFlag;

use super::ahead::{self, Ready};
use super::layers::{self, Build};
use super::supply::{Nowhere, Source};
use super::{Error, Event, Image, Observer, pull};
use crate::oci::descriptor::Descriptor;
use crate::oci::digest::{Algorithm, DiffId, Digest, Hasher, ImageId, VerifyReader};
use crate::oci::image_config::{ContainerConfig, ImageConfig, RootFs};
use crate::oci::manifest::Manifest;
use crate::oci::media_type::{OCI_CONFIG, OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, OCI_MANIFEST};
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;
use crate::store::{ANNOTATION_PULLED, ANNOTATION_SIZE, Publication, Staging, Store};
use crate::sys::fs::open_beneath;
use crate::unpack::{self, Compression, Destination, Limits};

/// The name under which docker and containerd leave the full reference in an image layout.
pub(in crate::image) const ANNOTATION_CONTAINERD_NAME: &str = "io.containerd.image.name";

/// What is imported.
#[derive(Debug)]
pub enum Input {
    /// A folder: an image layout, or a root filesystem.
    Folder(PathBuf),
    /// A file: an archive, packed or not.
    File(PathBuf),
    /// The standard input.
    Stdin,
}

impl Input {
    fn shown(&self) -> String {
        match self {
            Self::Folder(path) | Self::File(path) => path.display().to_string(),
            Self::Stdin => "-".to_owned(),
        }
    }

    /// `busybox` for `/tmp/busybox.tar.gz`.
    fn stem(&self) -> Option<String> {
        let (Self::Folder(path) | Self::File(path)) = self else { return None };
        let name = path.file_name()?.to_str()?.to_lowercase();
        let endings = [".gz", ".zst", ".xz", ".bz2", ".tgz", ".txz", ".tzst", ".tbz2", ".tar"];
        let mut stem = name.as_str();
        while let Some(rest) = endings.iter().find_map(|ending| stem.strip_suffix(ending)) {
            stem = rest;
        }
        Some(stem.to_owned())
    }
}

/// How an import treats names.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// What to call the image, whatever the input calls it.
    pub name: Option<Reference>,
    /// Whether names that the input brings are taken from other images that have them.
    pub take_names: bool,
    /// Whether only archives and layouts of images are taken, whose images stay without a name if they bring none.
    pub images_only: bool,
    /// What a layer may ask for.
    pub limits: Limits,
}

/// Imports `input` and says which names it gave to which images.
pub fn import(
    store: &Store,
    input: &Input,
    options: &ImportOptions,
    observer: &dyn Observer,
) -> Result<Vec<Imported>, Error> {
    let staging = store.stage()?;
    let name = options.name.as_ref();
    let import = Import { store, staging: &staging, input, name, options, observer };
    match input {
        Input::Folder(path) => {
            let folder = open_folder(path)?;
            if fs::symlink_metadata(path.join("oci-layout")).is_ok() {
                import.layout(&folder)
            } else if options.images_only {
                Err(import.not_an_image("it has no `oci-layout`"))
            } else {
                import.root_folder(path, &folder)
            }
        }
        Input::File(_) | Input::Stdin => import.archive(),
    }
}

/// An image that an import brought, and the name that it gave to it.
pub type Imported = (Option<Reference>, ImageId);

struct Import<'a> {
    store: &'a Store,
    staging: &'a Staging,
    input: &'a Input,
    name: Option<&'a Reference>,
    options: &'a ImportOptions,
    observer: &'a dyn Observer,
}

/// Where the DiffIDs of an image come from.
enum Vouched<'a> {
    /// From its author; here are its layers once more, should the store's turn out to be damaged.
    Yes(&'a dyn Source),
    /// From the bytes at hand, which may have been unpacked on that occasion.
    No(Option<Box<Ready>>),
}

/// What a tar archive holds.
enum Kind {
    Images,
    RootFilesystem,
}

impl Import<'_> {
    fn archive(&self) -> Result<Vec<Imported>, Error> {
        let mut file = self.spooled()?;
        let compression = self.sniff(&mut file)?;
        match self.kind(&mut file, compression)? {
            Kind::RootFilesystem if self.options.images_only => {
                Err(self.not_an_image("it has neither `manifest.json` nor `index.json`"))
            }
            Kind::RootFilesystem => self.root_archive(file, compression),
            Kind::Images => {
                let folder = self.staging.create_folder("archive")?;
                let tar =
                    unpack::decoder(compression, &file).map_err(|e| self.io("decompress", e))?;
                unpack::extract(tar, &Destination::new(folder.as_fd(), &self.options.limits))
                    .map_err(|source| Error::Layer { layer: self.input.shown(), source })?;
                match self.open_inside(&folder, "manifest.json") {
                    Ok(manifest) => self.docker_archive(&folder, manifest),
                    Err(_) => self.layout(&folder),
                }
            }
        }
    }

    /// The input as a file to seek in: a stream is written down first.
    fn spooled(&self) -> Result<File, Error> {
        let mut stream: Box<dyn Read> = match self.input {
            Input::File(path) => {
                let file = open_file(path)?;
                let found = file.metadata().map_err(|e| self.io("open", e))?;
                if found.is_file() {
                    return Ok(file);
                }
                Box::new(file)
            }
            _ => Box::new(io::stdin().lock()),
        };
        let mut file = self.staging.create_file("input")?;
        io::copy(&mut stream, &mut file).map_err(|e| self.io("read", e))?;
        Ok(file)
    }

    fn sniff(&self, file: &mut File) -> Result<Compression, Error> {
        let mut magic = Vec::new();
        self.rewind(file)?;
        Read::by_ref(file).take(16).read_to_end(&mut magic).map_err(|e| self.io("read", e))?;
        self.rewind(file)?;
        if magic.is_empty() {
            return Err(self.not_an_image("it is empty"));
        }
        Ok(Compression::sniff(&magic))
    }

    /// Looks at names until one of them tells. Nearly every root filesystem does so with the first.
    fn kind(&self, file: &mut File, compression: Compression) -> Result<Kind, Error> {
        let tar = unpack::decoder(compression, &*file).map_err(|e| self.io("decompress", e))?;
        let (mut entries, mut says_so, mut is_root) = (0_u64, false, false);
        let looked = unpack::names(tar, &self.options.limits, |path| {
            entries += 1;
            let path = String::from_utf8_lossy(path);
            let path = path.strip_prefix("./").unwrap_or(&path);
            says_so |= matches!(path, "manifest.json" | "oci-layout" | "index.json");
            is_root |= !belongs_to_image_archive(path);
            !is_root
        });
        looked.map_err(|source| Error::Layer { layer: self.input.shown(), source })?;
        let kind = if says_so && !is_root { Kind::Images } else { Kind::RootFilesystem };
        self.rewind(file)?;
        if entries == 0 {
            return Err(self.not_an_image("it has no entries"));
        }
        Ok(kind)
    }

    /// A root filesystem becomes an image of one layer. The packed bytes are the layer where image layers may be
    /// packed so; where not, the unpacked ones are.
    fn root_archive(
        &self,
        mut file: File,
        compression: Compression,
    ) -> Result<Vec<Imported>, Error> {
        let kind = match compression {
            Compression::Gzip => OCI_LAYER_GZIP,
            Compression::Zstd => OCI_LAYER_ZSTD,
            _ => OCI_LAYER,
        };
        let unpacked = match compression {
            Compression::Xz | Compression::Bzip2 => {
                let mut plain = self.staging.create_file("plain")?;
                let mut tar =
                    unpack::decoder(compression, &file).map_err(|e| self.io("decompress", e))?;
                io::copy(&mut tar, &mut plain).map_err(|e| self.io("decompress", e))?;
                drop(tar);
                file = plain;
                Compression::None
            }
            other => other,
        };
        self.rewind(&mut file)?;
        if unpacked == Compression::None {
            return self.plain_layer(&mut file);
        }
        let layer = self.stage_blob(&mut file, kind)?;
        let diff_id = unpack::diff_id(self.staged(&layer)?, unpacked)
            .map_err(|source| Error::Layer { layer: self.input.shown(), source })?;
        self.single_layer(layer, diff_id, None)
    }

    /// An image of one uncompressed layer, which is read only once.
    fn plain_layer(&self, tar: &mut File) -> Result<Vec<Imported>, Error> {
        let shown = self.input.shown();
        let (ready, diff_id, size) =
            ahead::unpack_ahead(self.store, self.staging, tar, &self.options.limits, &shown)?;
        let layer = Descriptor::new(OCI_LAYER, diff_id.digest().clone(), size);
        self.single_layer(layer, diff_id, Some(ready))
    }

    fn root_folder(&self, path: &Path, folder: &OwnedFd) -> Result<Vec<Imported>, Error> {
        let mut out = self.staging.create_file("packed")?;
        unpack::pack(folder.as_fd(), &mut io::BufWriter::with_capacity(1 << 20, &mut out))
            .map_err(|source| Error::Pack { path: path.to_owned(), source })?;
        self.rewind(&mut out)?;
        self.plain_layer(&mut out)
    }

    /// An image of one layer, for this machine, that starts a shell: all that a root filesystem says of itself.
    fn single_layer(
        &self,
        layer: Descriptor,
        diff_id: DiffId,
        ready: Option<Ready>,
    ) -> Result<Vec<Imported>, Error> {
        let name = match self.name {
            Some(name) => name.clone(),
            None => self.input.stem().ok_or(Error::Nameless)?.parse()?,
        };
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let config = ImageConfig {
            created: now(),
            platform: Platform::host(),
            config: ContainerConfig {
                env: vec![path.to_owned()],
                cmd: vec!["/bin/sh".to_owned()],
                ..ContainerConfig::default()
            },
            rootfs: RootFs { kind: "layers".to_owned(), diff_ids: vec![diff_id] },
        };
        let config_bytes = to_json(&config)?;
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(OCI_MANIFEST.to_owned()),
            config: Descriptor::of(OCI_CONFIG, &config_bytes),
            layers: vec![layer],
        };
        let (bytes, vouched) = (to_json(&manifest)?, Vouched::No(ready.map(Box::new)));
        self.finish(Some(name), &manifest, &bytes, OCI_MANIFEST, &config_bytes, vouched)
    }

    /// Builds the tree of an image whose layers are staged or stored, and publishes it as `name`.
    fn finish(
        &self,
        name: Option<Reference>,
        manifest: &Manifest,
        manifest_bytes: &[u8],
        manifest_type: &str,
        config_bytes: &[u8],
        vouched: Vouched<'_>,
    ) -> Result<Vec<Imported>, Error> {
        layers::check_types(&manifest.layers)?;
        let (source, vouched, ready) = match vouched {
            Vouched::Yes(source) => (source, true, None),
            Vouched::No(ready) => (&Nowhere as &dyn Source, false, ready.map(|ready| *ready)),
        };
        let config = pull::parse_config(manifest, config_bytes)?;
        let id = ImageId::new(manifest.config.digest.clone());
        self.observer.event(Event::Layers(&manifest.layers));
        let (layers, diff_ids) = (&manifest.layers, &config.rootfs.diff_ids);
        let (store, staging, limits) = (self.store, self.staging, &self.options.limits);
        let build = Build {
            observer: self.observer,
            parallel: 2,
            vouched,
            ready: Mutex::new(ready),
            ..Build::new(store, staging, layers, diff_ids, source, limits)
        };
        let built = build.tree_of(&id)?;
        let digest = self.staging.write_blob(manifest_bytes)?;
        self.staging.write_blob(config_bytes)?;
        let mut image = Descriptor::new(manifest_type, digest.clone(), manifest_bytes.len() as u64);
        image.platform = Some(config.platform.clone());
        image.annotations.insert(ANNOTATION_PULLED.to_owned(), digest.to_string());
        image.annotations.insert(ANNOTATION_SIZE.to_owned(), built.size.to_string());
        let mut blobs = vec![digest, manifest.config.digest.clone()];
        blobs.extend(manifest.layers.iter().map(|layer| layer.digest.clone()));
        let tree = built.name;
        let new = Publication { name: name.as_ref(), image: &image, id: &id, blobs: &blobs, tree };
        self.store.publish(self.staging, &new)?;
        build.clear()?;
        Ok(vec![(name, id)])
    }

    /// A name that the archive itself brings must not take the place of another image (CVE-2026-50195).
    fn own_name(&self, name: &str, manifest: &Manifest) -> Result<Reference, Error> {
        let name: Reference = name.parse()?;
        if self.options.take_names {
            return Ok(name);
        }
        let Some(entry) = self.store.named(&name.familiar())? else { return Ok(name) };
        match Image::load(self.store, &entry) {
            Ok(image) if image.manifest.config.digest != manifest.config.digest => {
                Err(Error::NameTaken(name.familiar()))
            }
            _ => Ok(name),
        }
    }

    /// The name of an image for which the input has none.
    fn made_up_name(&self) -> Result<Option<Reference>, Error> {
        if self.options.images_only {
            return Ok(None);
        }
        Ok(Some(self.input.stem().ok_or(Error::Nameless)?.parse()?))
    }

    fn check_count(&self, found: usize) -> Result<(), Error> {
        match (found, self.name) {
            (0, _) => Err(self.not_an_image("it names no image")),
            (2.., Some(_)) => Err(Error::ImageCount { path: self.input.shown(), found }),
            _ => Ok(()),
        }
    }

    /// Stages `file` as a blob of the type `kind`.
    fn stage_blob(&self, file: &mut File, kind: &str) -> Result<Descriptor, Error> {
        let mut out = self.staging.create_file("blob")?;
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let (mut size, mut buffer) = (0, vec![0; 1 << 18]);
        loop {
            let n = file.read(&mut buffer).map_err(|e| self.io("read", e))?;
            if n == 0 {
                break;
            }
            hasher.update(&buffer[..n]);
            out.write_all(&buffer[..n]).map_err(|e| self.io("copy", e))?;
            size += n as u64;
        }
        let digest = hasher.finish();
        let (from, to) = (self.staging.path().join("blob"), self.staging.blob_path(&digest));
        fs::rename(&from, &to).map_err(|source| Error::Io { verb: "rename", path: to, source })?;
        Ok(Descriptor::new(kind, digest, size))
    }

    fn staged(&self, layer: &Descriptor) -> Result<VerifyReader<File>, Error> {
        let path = self.staging.blob_path(&layer.digest);
        let file = File::open(&path).map_err(|source| Error::Io { verb: "open", path, source })?;
        Ok(VerifyReader::new(file, layer.digest.clone(), layer.size))
    }

    fn read_small(&self, folder: &OwnedFd, name: &str, limit: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        let file = self.open_inside(folder, name)?;
        let read = file.take(limit + 1).read_to_end(&mut bytes).map_err(|e| self.io("read", e))?;
        if read as u64 > limit {
            return Err(self.not_an_image("a document in it is too large"));
        }
        Ok(bytes)
    }

    /// A regular file inside `folder`, reached over no link and never waited for.
    fn open_inside(&self, folder: &OwnedFd, name: &str) -> Result<File, Error> {
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let opened = open_beneath(folder.as_fd(), name.as_bytes(), flags).map_err(io::Error::from);
        let path = Path::new(&self.input.shown()).join(name);
        let failed = |source| Error::Io { verb: "open", path: path.clone(), source };
        let file = File::from(opened.map_err(failed)?);
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(self.not_an_image("what should be a file in it is none"));
        }
        Ok(file)
    }

    fn rewind(&self, file: &mut File) -> Result<(), Error> {
        file.seek(SeekFrom::Start(0)).map(drop).map_err(|e| self.io("seek", e))
    }

    fn io(&self, verb: &'static str, source: io::Error) -> Error {
        Error::Io { verb, path: self.input.shown().into(), source }
    }

    fn not_an_image(&self, why: &'static str) -> Error {
        Error::NotAnImage { path: self.input.shown(), why }
    }
}

/// Whether a top-level name is one that image archives have: `docker save` (old and new form) and OCI archives.
fn belongs_to_image_archive(path: &str) -> bool {
    let first = path.split('/').next().unwrap_or_default();
    let hex = first.split('.').next().unwrap_or_default();
    let is_hex = hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit());
    is_hex
        || matches!(
            first,
            "" | "." | "blobs" | "index.json" | "manifest.json" | "oci-layout" | "repositories"
        )
}

/// The name that a layout gives to an image, in whichever of the usual ways. A mere `latest` says nothing.
fn layout_name(entry: &Descriptor) -> Option<String> {
    let full = entry.annotations.get(ANNOTATION_CONTAINERD_NAME).cloned();
    full.or_else(|| entry.ref_name().filter(|name| *name != "latest").map(str::to_owned))
}

pub(in crate::image) fn layout_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.encoded())
}

fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 18];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(()),
            n => to.write_all(&buffer[..n])?,
        }
    }
}

pub(super) fn to_json(document: &impl serde::Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(document)
        .map_err(|source| Error::Config { digest: Digest::sha256(b""), source })
}

pub(super) fn now() -> Option<String> {
    time::OffsetDateTime::now_utc().format(&time::format_description::well_known::Rfc3339).ok()
}

fn open_folder(path: &Path) -> Result<OwnedFd, Error> {
    let opened = fs::OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(path);
    opened.map(OwnedFd::from).map_err(|source| Error::Io {
        verb: "open",
        path: path.into(),
        source,
    })
}

fn open_file(path: &Path) -> Result<File, Error> {
    File::open(path).map_err(|source| Error::Io { verb: "open", path: path.into(), source })
}
