//! What a registry sends and what it says of it: whatever does not agree is refused, and leaves no trace.

use std::io::Write as _;

use serde_json::{Value, json};

use crate::fake_registry::{FakeRegistry, Fault, digest};
use crate::support::env::TestEnv;
use crate::support::require::Need::Root;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// An image of one layer, and what can be wrong with it.
struct Hostile {
    registry: FakeRegistry,
    env: TestEnv,
    archive: Vec<u8>,
    config: Value,
    layer_type: &'static str,
}

impl Hostile {
    fn new() -> Self {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(6);
        header.set_mode(0o644);
        builder.append_data(&mut header, "etc/motd", &b"hello\n"[..]).unwrap();
        let archive = builder.into_inner().unwrap();
        let config = json!({
            "architecture": if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" },
            "os": "linux",
            "rootfs": { "type": "layers", "diff_ids": [digest(&archive)] },
        });
        let (registry, env) = (FakeRegistry::start(), TestEnv::with_busybox());
        Self { registry, env, archive, config, layer_type: LAYER }
    }

    /// The layer as it travels.
    fn layer(&self) -> Vec<u8> {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(&self.archive).unwrap();
        packer.finish().unwrap()
    }

    /// Stores the image as it says it is.
    fn put(&self) {
        let (layer, config) = (self.layer(), serde_json::to_vec(&self.config).unwrap());
        let (layer_size, config_size) = (layer.len(), config.len());
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {
                "mediaType": CONFIG,
                "digest": self.registry.put_blob("app", config),
                "size": config_size,
            },
            "layers": [{
                "mediaType": self.layer_type,
                "digest": self.registry.put_blob("app", layer),
                "size": layer_size,
            }],
        });
        let bytes = serde_json::to_vec(&manifest).unwrap();
        self.registry.put_manifest("app", "latest", MANIFEST, &bytes);
    }

    fn config_digest(&self) -> String {
        digest(&serde_json::to_vec(&self.config).unwrap())
    }

    fn name(&self) -> String {
        format!("{}/app", self.registry.host())
    }

    #[track_caller]
    fn refused(&self, name: &str, causes: &[&str]) {
        self.env.assert_refused(self.env.mydocker(["pull", name]), 125, causes);
    }
}

/// Other bytes of the same length.
fn flipped(mut bytes: Vec<u8>) -> Vec<u8> {
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    bytes
}

#[test]
fn an_image_that_is_what_it_says() {
    require!(Root);
    let hostile = Hostile::new();
    hostile.put();
    hostile.env.mydocker(["pull", &hostile.name()]).ok();
    let file = hostile.env.rootfs(&hostile.name()).join("etc/motd");
    assert_eq!(std::fs::read_to_string(file).unwrap(), "hello\n");
}

#[test]
fn a_manifest_that_is_not_its_digest() {
    require!(Root);
    let hostile = Hostile::new();
    let name = format!("{}@sha256:{}", hostile.name(), "a".repeat(64));
    let path = format!("/v2/app/manifests/sha256:{}", "a".repeat(64));
    hostile.registry.put(&path, MANIFEST, b"{\"schemaVersion\":2}".to_vec());
    hostile.refused(&name, &["digest", &"a".repeat(64)]);
}

#[test]
fn a_configuration_that_is_not_its_digest() {
    require!(Root);
    let hostile = Hostile::new();
    hostile.put();
    let digest = hostile.config_digest();
    let other = flipped(serde_json::to_vec(&hostile.config).unwrap());
    hostile.registry.put(&format!("/v2/app/blobs/{digest}"), CONFIG, other);
    hostile.refused(&hostile.name(), &["config", &digest, "digest"]);
}

#[test]
fn a_layer_that_is_not_its_digest() {
    require!(Root);
    let hostile = Hostile::new();
    hostile.put();
    // The last bytes are gzip's sum and length: what is damaged there is seen by nobody but whoever hashes.
    let digest = digest(&hostile.layer());
    let mut other = hostile.layer();
    other[4] ^= 1;
    hostile.registry.put(&format!("/v2/app/blobs/{digest}"), LAYER, other);
    hostile.refused(&hostile.name(), &["layer", &digest, "digest"]);
}

#[test]
fn a_layer_that_is_not_its_diff_id() {
    require!(Root);
    let mut hostile = Hostile::new();
    hostile.config["rootfs"]["diff_ids"] = json!([digest(b"something else")]);
    hostile.put();
    hostile.refused(&hostile.name(), &["layer", &digest(b"something else")]);
}

#[test]
fn fewer_diff_ids_than_layers() {
    require!(Root);
    let mut hostile = Hostile::new();
    hostile.config["rootfs"]["diff_ids"] = json!([]);
    hostile.put();
    hostile.refused(&hostile.name(), &["layers"]);
}

#[test]
fn a_body_that_breaks_off() {
    require!(Root);
    let hostile = Hostile::new();
    hostile.put();
    hostile.registry.fault("/blobs/", 100, Fault::TruncateSilently(20));
    hostile.refused(&hostile.name(), &["breaks off", &hostile.config_digest()]);
}

#[test]
fn a_body_that_is_longer_than_said() {
    require!(Root);
    for path in ["config", "layer"] {
        let hostile = Hostile::new();
        hostile.put();
        let digest = match path {
            "config" => hostile.config_digest(),
            _ => digest(&hostile.layer()),
        };
        hostile.registry.fault(&digest, 100, Fault::Extend(1000));
        hostile.refused(&hostile.name(), &[&digest]);
    }
}

#[test]
fn a_layer_of_a_type_that_nobody_knows() {
    require!(Root);
    let mut hostile = Hostile::new();
    hostile.layer_type = "application/vnd.example.layer.v9+rot13";
    hostile.put();
    hostile.refused(&hostile.name(), &["application/vnd.example.layer.v9+rot13"]);
    assert_eq!(hostile.registry.count("GET", "/blobs/"), 0, "nothing of it was fetched");
}

#[test]
fn a_manifest_of_a_type_that_nobody_knows() {
    require!(Root);
    let hostile = Hostile::new();
    let bytes = br#"{"schemaVersion":1,"name":"app","fsLayers":[]}"#;
    let kind = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    hostile.registry.put_manifest("app", "latest", kind, bytes);
    hostile.refused(&hostile.name(), &["manifest"]);
}

#[test]
fn a_layer_that_is_no_archive() {
    require!(Root);
    let mut hostile = Hostile::new();
    hostile.archive =
        b"no archive at all, but long enough to look like the header of one ".repeat(20);
    hostile.config["rootfs"]["diff_ids"] = json!([digest(&hostile.archive)]);
    hostile.put();
    hostile.refused(&hostile.name(), &["layer", "malformed tar archive"]);
}
