//! OCI image layouts, as folders and in archives (image-spec, `image-layout.md`).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde_json::{Value, json};

use super::files::{Files, failed, unique};
use crate::image::transfer::{Origin, Target, read_error};
use crate::image::{Error, Event, Observer};
use crate::oci::descriptor::{ANNOTATION_REF_NAME, Descriptor};
use crate::oci::digest::{Digest, Mismatch, VerifyReader};
use crate::oci::manifest::{Index, MAX_MANIFEST};
use crate::oci::media_type::OCI_INDEX;
use crate::registry::RawManifest;

/// The content of the `oci-layout` file.
pub(super) const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
/// The name under which docker and containerd leave the full reference.
const ANNOTATION_CONTAINERD_NAME: &str = "io.containerd.image.name";

/// The path of a blob in a layout.
pub(super) fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.encoded())
}

/// A layout to copy from.
#[derive(Debug)]
pub(super) struct Layout {
    files: Files,
}

impl Layout {
    pub(super) fn new(files: Files) -> Self {
        Self { files }
    }

    /// What `tag` stands for; without one, the only entry that there is.
    pub(super) fn top(&self, tag: Option<&str>) -> Result<RawManifest, Error> {
        let bytes = self.files.read("index.json", MAX_MANIFEST)?;
        let index: Index = serde_json::from_slice(&bytes)
            .map_err(|error| Error::document(&Digest::sha256(&bytes), error.into()))?;
        let named = |entry: &&Descriptor| {
            let full = entry.annotations.get(ANNOTATION_CONTAINERD_NAME).map(String::as_str);
            tag.is_none() || entry.ref_name() == tag || full == tag
        };
        let mut found: Vec<&Descriptor> = index.manifests.iter().filter(named).collect();
        // One image under several names is one image.
        found.dedup_by(|a, b| a.digest == b.digest);
        let path = self.files.path().display().to_string();
        match (found.as_slice(), tag) {
            ([entry], _) => self.manifest(entry),
            ([], Some(tag)) => Err(Error::NoSuchTag { path, tag: tag.to_owned() }),
            (found, _) => Err(Error::ImageCount { path, found: found.len() }),
        }
    }
}

impl Origin for Layout {
    fn manifest(&self, descriptor: &Descriptor) -> Result<RawManifest, Error> {
        if descriptor.size > MAX_MANIFEST {
            let (what, source) = ("manifest", Mismatch::TooLong { expected: MAX_MANIFEST });
            return Err(Error::Blob { what, digest: descriptor.digest.clone(), source });
        }
        let name = blob_path(&descriptor.digest);
        let file = self.files.open(&name).map_err(failed("open", &self.files.path().join(name)))?;
        let mut bytes = Vec::new();
        let mut reader = VerifyReader::new(file, descriptor.digest.clone(), descriptor.size);
        reader.read_to_end(&mut bytes).map_err(|error| read_error(descriptor, error))?;
        let (digest, media_type) = (descriptor.digest.clone(), descriptor.media_type.clone());
        Ok(RawManifest { bytes, digest, media_type })
    }

    fn open(&self, blob: &Descriptor, offset: u64) -> io::Result<Box<dyn Read + Send + '_>> {
        Ok(Box::new(self.files.open(&blob_path(&blob.digest))?.skip(offset)))
    }
}

/// A folder to copy to: a layout that is there, or a new one.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    tag: Option<String>,
}

impl Folder {
    pub(super) fn open(path: &Path, tag: Option<&str>) -> Result<Self, Error> {
        fs::create_dir_all(path).map_err(failed("create", path))?;
        let folder = Self { path: path.to_owned(), tag: tag.map(str::to_owned) };
        if path.join("oci-layout").exists() {
            return Ok(folder);
        }
        let mut entries = fs::read_dir(path).map_err(failed("read", path))?;
        if entries.next().is_some() {
            let why = "it holds something else";
            return Err(Error::NotAnImage { path: path.display().to_string(), why });
        }
        folder.replace("oci-layout", OCI_LAYOUT)?;
        Ok(folder)
    }

    /// Writes a file under another name first, so that the name never stands for a part of it.
    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        self.publish(name, |file| file.write_all(bytes).map_err(failed("write", &self.path)))
    }

    fn publish(
        &self,
        name: &str,
        write: impl FnOnce(&mut File) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let path = self.path.join(name);
        let folder = path.parent().unwrap_or(&self.path);
        fs::create_dir_all(folder).map_err(failed("create", folder))?;
        let temporary = unique(&self.path)?;
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o644).open(&temporary);
        let mut file = file.map_err(failed("create", &temporary))?;
        let written = write(&mut file)
            .and_then(|()| fs::rename(&temporary, &path).map_err(failed("rename", &temporary)));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    /// Whether the blob is there, to the last byte.
    fn has(&self, blob: &Descriptor) -> bool {
        let Ok(file) = File::open(self.path.join(blob_path(&blob.digest))) else { return false };
        let mut reader = VerifyReader::new(file, blob.digest.clone(), blob.size);
        io::copy(&mut reader, &mut io::sink()).is_ok()
    }

    /// Enters the image into `index.json`, in the place of what had its tag.
    fn enter(&self, raw: &RawManifest) -> Result<(), Error> {
        let folder = File::open(&self.path).map_err(failed("open", &self.path))?;
        let _lock = Flock::lock(folder, FlockArg::LockExclusive)
            .map_err(|(_, errno)| failed("lock", &self.path)(errno.into()))?;
        let mut index = self.index()?;
        let Some(entries) = index["manifests"].as_array_mut() else {
            let why = "its index.json has no list of manifests";
            return Err(Error::NotAnImage { path: self.path.display().to_string(), why });
        };
        let digest = raw.digest.to_string();
        entries.retain(|entry| {
            let name = entry["annotations"][ANNOTATION_REF_NAME].as_str();
            match &self.tag {
                Some(tag) => name != Some(tag) && (name.is_some() || entry["digest"] != digest),
                None => name.is_some() || entry["digest"] != digest,
            }
        });
        entries.push(entry(raw, self.tag.as_deref()));
        self.replace("index.json", index.to_string().as_bytes())
    }

    /// What `index.json` says, with fields that this program does not know.
    fn index(&self) -> Result<Value, Error> {
        let path = self.path.join("index.json");
        if !path.exists() {
            return Ok(index(Vec::new()));
        }
        let bytes = Files::folder(&self.path)?.read("index.json", MAX_MANIFEST)?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Error::document(&Digest::sha256(&bytes), error.into()))
    }
}

/// An `index.json` with these entries.
pub(super) fn index(entries: Vec<Value>) -> Value {
    json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})
}

/// The entry of an image.
pub(super) fn entry(raw: &RawManifest, tag: Option<&str>) -> Value {
    let (digest, size) = (&raw.digest, raw.bytes.len());
    let mut entry = json!({"mediaType": raw.media_type, "digest": digest, "size": size});
    if let Some(tag) = tag {
        entry["annotations"] = json!({ANNOTATION_REF_NAME: tag});
    }
    entry
}

impl Target for Folder {
    fn blob(
        &self,
        blob: &Descriptor,
        origin: &dyn Origin,
        observer: &dyn Observer,
    ) -> Result<(), Error> {
        if self.has(blob) {
            observer.event(Event::There(&blob.digest));
            return Ok(());
        }
        self.publish(&blob_path(&blob.digest), |file| pour(blob, origin, file, observer))?;
        observer.event(Event::Sent(&blob.digest));
        Ok(())
    }

    fn manifest(&self, raw: &RawManifest, is_last: bool) -> Result<(), Error> {
        self.replace(&blob_path(&raw.digest), &raw.bytes)?;
        if is_last { self.enter(raw) } else { Ok(()) }
    }
}

/// Writes a blob of `origin` to `to`, and verifies it on the way.
pub(super) fn pour(
    blob: &Descriptor,
    origin: &dyn Origin,
    to: &mut dyn Write,
    observer: &dyn Observer,
) -> Result<(), Error> {
    let reader = origin.open(blob, 0).map_err(|error| read_error(blob, error))?;
    let mut reader = VerifyReader::new(reader, blob.digest.clone(), blob.size);
    let (mut buffer, mut written) = (vec![0; 1 << 18], 0);
    loop {
        let count = reader.read(&mut buffer).map_err(|error| read_error(blob, error))?;
        if count == 0 {
            return Ok(());
        }
        let copied = to.write_all(&buffer[..count]);
        copied.map_err(failed("write", Path::new(&blob_path(&blob.digest))))?;
        written += count as u64;
        observer.event(Event::Sending(&blob.digest, written));
    }
}
