//! `commit`: an image of what a container made of its own.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde_json::{Map, Value, json};

use super::change::{Instruction, set_env};
use super::import::{now, to_json};
use super::layers::Build;
use super::output::{Output, Sink};
use super::supply::Nowhere;
use super::{Error, Image};
use crate::oci::descriptor::Descriptor;
use crate::oci::digest::{Algorithm, DiffId, Digest, Hasher, ImageId};
use crate::oci::image_config::MAX_CONFIG;
use crate::oci::manifest::Manifest;
use crate::oci::media_type::{
    self, LayerCompression, OCI_CONFIG, OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, OCI_MANIFEST,
};
use crate::oci::reference::Reference;
use crate::store::{ANNOTATION_SIZE, Publication, Staging, Store};
use crate::unpack::{self, Change, Compression, Encoder, Limits, Overlay};

/// What a container was started with.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// The program and its arguments.
    pub args: Vec<String>,
    /// `NAME=value` entries.
    pub env: Vec<String>,
    /// The directory to start in.
    pub cwd: String,
    /// The user, unless it is the image's.
    pub user: Option<String>,
}

/// What a commit is told.
#[derive(Clone, Debug, Default)]
pub struct CommitOptions {
    /// What to call the image, if it is to have a name.
    pub name: Option<Reference>,
    /// Who made it.
    pub author: Option<String>,
    /// A remark for its history.
    pub message: Option<String>,
    /// Changes of its configuration.
    pub changes: Vec<Instruction>,
    /// How the container was started, which is how the image starts.
    pub start: Start,
}

/// Makes an image of `base` and of what `overlay` has on top of it.
///
/// What changed becomes one more layer. The configuration is the base's, with what the container was started with, as
/// docker has it, and the changes that the user wants.
pub fn commit(
    store: &Store,
    base: &Image,
    overlay: &Overlay<'_>,
    options: &CommitOptions,
) -> Result<ImageId, Error> {
    let staging = store.stage()?;
    let commit = Commit { store, staging: &staging, base, options };
    let layer = commit.layer(overlay)?;
    commit.publish(layer)
}

/// Tells `see` of every difference between a container and its image.
pub fn diff(overlay: &Overlay<'_>, see: &mut dyn FnMut(&Change)) -> Result<(), Error> {
    let compared = unpack::changes(overlay, &mut |change| {
        see(change);
        Ok(())
    });
    compared.map_err(|source| Error::Compare { source })
}

/// Writes the root filesystem that a container sees into a tar archive.
pub fn export(overlay: &Overlay<'_>, container: &Path, output: &Output) -> Result<(), Error> {
    let sink = output.open()?;
    let shown = sink.shown().to_owned();
    let failed = Sink::failed(&shown);
    let mut out = BufWriter::with_capacity(1 << 20, sink);
    unpack::pack_merged(overlay, &mut out).map_err(|source| match source {
        unpack::Error::Write(source) => failed(source),
        source => Error::Pack { path: container.to_owned(), source },
    })?;
    out.into_inner().map_err(|error| failed(error.into_error()))?.finish()
}

struct Commit<'a> {
    store: &'a Store,
    staging: &'a Staging,
    base: &'a Image,
    options: &'a CommitOptions,
}

impl Commit<'_> {
    /// Stages what changed; `None` if nothing did.
    fn layer(&self, overlay: &Overlay<'_>) -> Result<Option<(Descriptor, DiffId)>, Error> {
        let path = self.staging.path().join("layer");
        let failed = |source| Error::Io { verb: "write", path: path.clone(), source };
        let file = self.staging.create_file("layer")?;
        let packed = Hashing::new(BufWriter::with_capacity(1 << 20, file));
        let encoder = Encoder::new(Compression::Gzip, packed).map_err(failed)?;
        let mut plain = Hashing::new(encoder);
        let any = unpack::pack_changes(overlay, &mut plain).map_err(|source| match source {
            unpack::Error::Write(source) => failed(source),
            source => Error::Compare { source },
        })?;
        let (encoder, diff_id, _) = plain.finish();
        let (out, digest, size) = encoder.finish().map_err(failed)?.finish();
        let file: File = out.into_inner().map_err(|error| failed(error.into_error()))?;
        drop(file);
        if !any {
            return Ok(None);
        }
        let blob = self.staging.blob_path(&digest);
        fs::rename(&path, &blob).map_err(failed)?;
        Ok(Some((Descriptor::new(OCI_LAYER_GZIP, digest, size), DiffId::new(diff_id))))
    }

    fn publish(&self, layer: Option<(Descriptor, DiffId)>) -> Result<ImageId, Error> {
        let mut layers: Vec<Descriptor> = self.base.manifest.layers.iter().map(as_oci).collect();
        let mut diff_ids = self.base.config.rootfs.diff_ids.clone();
        let is_empty = layer.is_none();
        if let Some((layer, diff_id)) = layer {
            layers.push(layer);
            diff_ids.push(diff_id);
        }
        let config_bytes = self.config(&diff_ids, is_empty)?;
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(OCI_MANIFEST.to_owned()),
            config: Descriptor::of(OCI_CONFIG, &config_bytes),
            layers,
        };
        let id = ImageId::new(manifest.config.digest.clone());
        let (layers, limits) = (&manifest.layers, Limits::default());
        let (store, staging) = (self.store, self.staging);
        let build = Build {
            parallel: 2,
            ..Build::new(store, staging, layers, &diff_ids, &Nowhere, &limits)
        };
        let tree = build.tree_of(&id)?;
        let manifest_bytes = to_json(&manifest)?;
        let digest = self.staging.write_blob(&manifest_bytes)?;
        self.staging.write_blob(&config_bytes)?;
        let mut image = Descriptor::new(OCI_MANIFEST, digest.clone(), manifest_bytes.len() as u64);
        image.platform = Some(self.base.config.platform.clone());
        image.annotations.insert(ANNOTATION_SIZE.to_owned(), tree.size.to_string());
        let mut blobs = vec![digest, manifest.config.digest.clone()];
        blobs.extend(manifest.layers.iter().map(|layer| layer.digest.clone()));
        let (name, tree) = (self.options.name.as_ref(), tree.name);
        let new = Publication { name, image: &image, id: &id, blobs: &blobs, tree };
        self.store.publish(self.staging, &new)?;
        Ok(id)
    }

    fn config(&self, diff_ids: &[DiffId], is_empty: bool) -> Result<Vec<u8>, Error> {
        let digest = self.base.id.digest().clone();
        let malformed = |source| Error::Config { digest: digest.clone(), source };
        let mut document: Map<String, Value> =
            serde_json::from_slice(&self.base.config_bytes).map_err(malformed)?;
        let options = self.options;
        let created = now().unwrap_or_default();
        // What docker once wrote about the container that the base was made in.
        for stale in ["container", "container_config", "docker_version"] {
            document.remove(stale);
        }
        document.insert("created".to_owned(), json!(created));
        if let Some(author) = &options.author {
            document.insert("author".to_owned(), json!(author));
        }
        let mut config = document.get("config").and_then(Value::as_object).cloned();
        let config = config.get_or_insert_default();
        self.remember_start(config);
        options.changes.iter().for_each(|change| change.apply(config));
        document.insert("config".to_owned(), json!(config));
        document.insert("rootfs".to_owned(), json!({ "type": "layers", "diff_ids": diff_ids }));
        let mut step = Map::new();
        step.insert("created".to_owned(), json!(created));
        step.insert("created_by".to_owned(), json!(options.start.args.join(" ")));
        for (field, value) in [("author", &options.author), ("comment", &options.message)] {
            step.extend(value.as_ref().map(|value| (field.to_owned(), json!(value))));
        }
        if is_empty {
            step.insert("empty_layer".to_owned(), json!(true));
        }
        let mut history = document.get("history").and_then(Value::as_array).cloned();
        // A base without a history has steps all the same, of which nothing is known.
        let untold = self.base.config.rootfs.diff_ids.len();
        let history = history.get_or_insert_with(|| vec![json!({}); untold]);
        history.push(Value::from(step));
        document.insert("history".to_owned(), json!(history));
        let bytes = to_json(&document)?;
        match bytes.len() as u64 {
            0..=MAX_CONFIG => Ok(bytes),
            size => {
                let path = "config".into();
                Err(crate::store::Error::TooLarge { path, size, limit: MAX_CONFIG }.into())
            }
        }
    }

    /// The image starts as the container did.
    fn remember_start(&self, config: &mut Map<String, Value>) {
        let start = &self.options.start;
        let base = &self.base.config.config;
        match start.args.strip_prefix(&base.entrypoint[..]) {
            Some(rest) if rest != base.cmd => Instruction::Cmd(rest.to_vec()).apply(config),
            Some(_) => {}
            None => {
                Instruction::Entrypoint(Vec::new()).apply(config);
                Instruction::Cmd(start.args.clone()).apply(config);
            }
        }
        for (name, value) in start.env.iter().filter_map(|entry| entry.split_once('=')) {
            set_env(config, name, value);
        }
        if start.cwd != base.working_dir && !(start.cwd == "/" && base.working_dir.is_empty()) {
            Instruction::Workdir(start.cwd.clone()).apply(config);
        }
        if let Some(user) = &start.user {
            Instruction::User(user.clone()).apply(config);
        }
    }
}

/// The same layer under the name that OCI has for its type: an OCI manifest holds no other.
fn as_oci(layer: &Descriptor) -> Descriptor {
    let kind = match media_type::layer_compression(&layer.media_type) {
        Some(LayerCompression::Gzip) => OCI_LAYER_GZIP,
        Some(LayerCompression::Zstd) => OCI_LAYER_ZSTD,
        Some(LayerCompression::None) => OCI_LAYER,
        None => &layer.media_type,
    };
    Descriptor { media_type: kind.to_owned(), ..layer.clone() }
}

/// Counts and hashes what passes through.
struct Hashing<W> {
    inner: W,
    hasher: Hasher,
    size: u64,
}

impl<W: Write> Hashing<W> {
    fn new(inner: W) -> Self {
        Self { inner, hasher: Hasher::new(Algorithm::Sha256), size: 0 }
    }

    fn finish(self) -> (W, Digest, u64) {
        (self.inner, self.hasher.finish(), self.size)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(buf)?;
        self.hasher.update(&buf[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
