//! What a pull needs of memory, whatever the image is.

use serde_json::{Value, json};

use crate::fake_registry::{FakeRegistry, digest};
use crate::made::{
    INDEX, LAYER, MANIFEST, architecture, config_of, descriptor, gzip, manifest_of, noise,
    serve_document, serve_image, tar_of,
};
use crate::support::command::Cmd;
use crate::support::env::TestEnv;
use crate::support::require::Need::Root;

/// The most that a pull may take, in kilobytes.
const MOST: u64 = 48 << 10;
const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Runs a command to its end, which must be success, and returns the most memory that it had at a time, in kilobytes.
fn peak(cmd: Cmd) -> u64 {
    let mut running = cmd.start();
    let status = format!("/proc/{}/status", running.pid());
    let mut peak = 0;
    while !running.has_ended() {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let value = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        peak = peak.max(value.unwrap_or(0));
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    running.finish().success();
    peak
}

#[test]
fn a_layer_of_four_gigabytes() {
    require!(Root);
    let (env, fake) = (TestEnv::new(), FakeRegistry::start());
    // A file of zeros, in gzip members of 64 MiB that are all the same.
    let (size, piece) = (4_u64 << 30, vec![0; 64 << 20]);
    let mut header = tar::Header::new_ustar();
    header.set_path("zeros").unwrap();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    let pieces = usize::try_from(size).unwrap() / piece.len();
    let (end, packed) = ([0; 1024], gzip(&piece));
    let mut layer = gzip(header.as_bytes());
    let mut hasher = sha2::Sha256::default();
    sha2::Digest::update(&mut hasher, header.as_bytes());
    for _ in 0..pieces {
        layer.extend_from_slice(&packed);
        sha2::Digest::update(&mut hasher, &piece);
    }
    layer.extend_from_slice(&gzip(&end));
    sha2::Digest::update(&mut hasher, end);
    let hex: String =
        sha2::Digest::finalize(hasher).iter().map(|byte| format!("{byte:02x}")).collect();
    let config = config_of(&[format!("sha256:{hex}")]);
    serve_document(
        &fake,
        "app",
        "v1",
        MANIFEST,
        &manifest_of(&config, &[descriptor(GZIP, &layer)]),
    );
    fake.put_blob("app", config);
    fake.put_blob("app", layer);
    let name = format!("{}/app:v1", fake.host());
    let peak = peak(env.mydocker(["--no-sync", "pull", &name]).timeout(300));
    assert!(peak > 0 && peak < MOST, "{peak} kB");
    assert_eq!(env.rootfs(&name).join("zeros").metadata().unwrap().len(), size);
}

#[test]
fn many_large_layers_side_by_side() {
    require!(Root);
    let (env, fake) = (TestEnv::new(), FakeRegistry::start());
    let layers: Vec<Vec<u8>> =
        (0..8).map(|n| tar_of(&[("noise", &noise((12 << 20) + n))])).collect();
    serve_image(&fake, "app", "v1", &layers);
    let name = format!("{}/app:v1", fake.host());
    let peak = peak(env.mydocker(["--no-sync", "pull", &name]).timeout(120));
    assert!(peak > 0 && peak < MOST, "{peak} kB");
}

#[test]
fn an_index_with_a_thousand_entries() {
    require!(Root);
    let (env, fake) = (TestEnv::new(), FakeRegistry::start());
    let layer = tar_of(&[("file", b"content")]);
    serve_image(&fake, "app", "image", std::slice::from_ref(&layer));
    let config = config_of(&[digest(&layer)]);
    let manifest = manifest_of(&config, &[descriptor(LAYER, &layer)]);
    let entry = |bytes: &[u8], architecture: &str| {
        let mut entry = descriptor(MANIFEST, bytes);
        entry["platform"] = json!({ "os": "linux", "architecture": architecture });
        // As large as an index may be.
        entry["annotations"] = json!({ "filler": "x".repeat(3500) });
        entry
    };
    let mut entries: Vec<Value> =
        (0..999).map(|n| entry(format!("{n}").as_bytes(), "wasm")).collect();
    entries.push(entry(&serde_json::to_vec(&manifest).unwrap(), architecture()));
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries });
    serve_document(&fake, "app", "v1", INDEX, &index);
    let name = format!("{}/app:v1", fake.host());
    let peak = peak(env.mydocker(["--no-sync", "pull", &name]));
    assert!(peak > 0 && peak < MOST, "{peak} kB");
    assert!(env.rootfs(&name).join("file").exists());
}
