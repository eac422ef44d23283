//! The images that the tests use, made once by `tests/support/fixtures.sh` and kept in `target/test-images`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

/// The user in `htpasswd`.
pub const USER: &str = "alice";
/// That user's password.
pub const SECRET: &str = "correct horse: battery";

/// The folder with the images, which are made first if need be.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = repository.join("target/test-images");
        // The virtual machine gets them with the tests, and has not what makes them.
        if std::env::var_os("MYDOCKER_TEST_PREBUILT").is_none() {
            let script = repository.join("tests/support/fixtures.sh");
            let status = Command::new(script).arg(&folder).status().unwrap();
            assert!(status.success(), "tests/support/fixtures.sh: {status}");
        }
        folder
    })
}

/// A file or folder among them.
pub fn path(name: &str) -> PathBuf {
    folder().join(name)
}

/// The digest of the manifest or index that is called `name` in the OCI layout `layout`.
pub fn digest(layout: &str, name: &str) -> String {
    entry(layout, name)["digest"].as_str().unwrap().to_owned()
}

/// The digests of the layers of the image `name` in `layout`.
pub fn layers(layout: &str, name: &str) -> Vec<String> {
    let digest = digest(layout, name).replacen(':', "/", 1);
    let manifest = json(&path(layout).join("blobs").join(digest));
    let layers = manifest["layers"].as_array().unwrap();
    layers.iter().map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect()
}

fn entry(layout: &str, name: &str) -> Value {
    let index = json(&path(layout).join("index.json"));
    let entries = index["manifests"].as_array().unwrap();
    let called = |entry: &&Value| entry["annotations"]["org.opencontainers.image.ref.name"] == name;
    entries.iter().find(called).unwrap().clone()
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// This machine's architecture as images name it.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
