//! Images that are made in memory, for a fake registry.

#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

use crate::fake_registry::{FakeRegistry, digest};

const OCI: &str = "application/vnd.oci.image";

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

/// This machine's architecture as images name it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Puts an image of these uncompressed layers, base first, into `repository` under `tag`; returns the layers' digests.
pub fn serve_image(
    fake: &FakeRegistry,
    repository: &str,
    tag: &str,
    layers: &[Vec<u8>],
) -> Vec<String> {
    let digests: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
    let config = serde_json::json!({
        "architecture": architecture(), "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": digests },
    });
    let config = serde_json::to_vec(&config).unwrap();
    let entry = |(layer, digest): (&Vec<u8>, &String)| {
        serde_json::json!({
            "mediaType": format!("{OCI}.layer.v1.tar"), "digest": digest, "size": layer.len(),
        })
    };
    let kind = format!("{OCI}.manifest.v1+json");
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": kind,
        "config": {
            "mediaType": format!("{OCI}.config.v1+json"),
            "digest": digest(&config), "size": config.len(),
        },
        "layers": layers.iter().zip(&digests).map(entry).collect::<Vec<_>>(),
    });
    fake.put_blob(repository, config);
    for layer in layers {
        fake.put_blob(repository, layer.clone());
    }
    fake.put_manifest(repository, tag, &kind, &serde_json::to_vec(&manifest).unwrap());
    digests
}
