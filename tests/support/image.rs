//! Images that are made in memory, for a fake registry.

#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

use std::io::Write as _;

use serde_json::{Value, json};

use crate::fake_registry::{FakeRegistry, digest};

/// The type of a manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The type of an index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The type of a configuration.
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// The type of a layer that is not packed.
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Bytes that are not all alike, and the same each time for one size.
pub fn noise(size: usize) -> Vec<u8> {
    let mut state = u32::try_from(size % 65_521).unwrap_or(7) | 1;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(size).collect()
}

/// An uncompressed layer with these files.
pub fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        tar.append_data(&mut header, name, *content).unwrap();
    }
    tar.into_inner().unwrap()
}

/// `bytes` as one gzip member.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// This machine's architecture as images name it.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A descriptor.
pub fn descriptor(kind: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": kind, "digest": digest(bytes), "size": bytes.len() })
}

/// A configuration for this machine with these DiffIDs.
pub fn config_of(diff_ids: &[String]) -> Vec<u8> {
    let config = json!({
        "architecture": architecture(), "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    serde_json::to_vec(&config).unwrap()
}

/// A manifest of a configuration and the descriptors of layers.
pub fn manifest_of(config: &[u8], layers: &[Value]) -> Value {
    json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": descriptor(CONFIG, config), "layers": layers,
    })
}

/// Puts a document into `repository` under `tag`; returns its digest.
pub fn serve_document(
    fake: &FakeRegistry,
    repository: &str,
    tag: &str,
    kind: &str,
    document: &Value,
) -> String {
    fake.put_manifest(repository, tag, kind, &serde_json::to_vec(document).unwrap())
}

/// Puts an image of these uncompressed layers, base first, into `repository` under `tag`; returns the layers' digests.
pub fn serve_image(
    fake: &FakeRegistry,
    repository: &str,
    tag: &str,
    layers: &[Vec<u8>],
) -> Vec<String> {
    let digests: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
    let config = config_of(&digests);
    let entries: Vec<Value> = layers.iter().map(|layer| descriptor(LAYER, layer)).collect();
    serve_document(fake, repository, tag, MANIFEST, &manifest_of(&config, &entries));
    fake.put_blob(repository, config);
    for layer in layers {
        fake.put_blob(repository, layer.clone());
    }
    digests
}
