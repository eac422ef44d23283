//! The distribution client against registries that misbehave.

#![allow(clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

#[path = "registry/auth.rs"]
mod auth;
#[path = "support/chaos.rs"]
mod chaos;
#[path = "registry/content.rs"]
mod content;
#[path = "registry/download.rs"]
mod download;
#[path = "support/fake_registry.rs"]
mod fake_registry;
#[path = "support/fake_upload.rs"]
mod fake_upload;
#[path = "registry/fault_run.rs"]
mod fault_run;
#[path = "support/image.rs"]
mod made;
#[path = "registry/mirrors.rs"]
mod mirrors;
#[path = "registry/network.rs"]
mod network;
#[path = "support/program.rs"]
mod program;
#[path = "registry/redirects.rs"]
mod redirects;
#[path = "registry/retries.rs"]
mod retries;
#[path = "registry/tls.rs"]
mod tls;
#[path = "registry/upload.rs"]
mod upload;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mydocker::oci::descriptor::Descriptor;
use mydocker::oci::digest::VerifyReader;
use mydocker::oci::media_type::OCI_LAYER_GZIP;
use mydocker::oci::reference::Reference;
use mydocker::registry::{Client, Environment, Error, Options};

use fake_registry::FakeRegistry;

/// A user with a home of their own and nothing in it.
struct User {
    home: PathBuf,
    options: Options,
}

impl User {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!(
            "mydocker-registry-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::SeqCst)
        );
        let home = std::env::temp_dir().join(name);
        fs::create_dir_all(home.join("certs.d")).unwrap();
        let environment = Environment {
            home: Some(home.clone()),
            xdg_runtime_dir: Some(home.join("run")),
            certs_dirs: vec![home.join("certs.d")],
            ..Environment::default()
        };
        let options = Options {
            connect_timeout: Duration::from_secs(5),
            environment,
            first_backoff: Duration::from_millis(1),
            longest_wait: Duration::from_secs(1),
            progress_timeout: Duration::from_secs(2),
            ..Options::default()
        };
        Self { home, options }
    }

    fn client(&self) -> Client {
        Client::new(self.options.clone()).unwrap()
    }

    /// Puts a file into the home.
    fn write(&self, path: &str, text: &str) -> PathBuf {
        let path = self.home.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// As `docker login` does.
    fn log_in(&self, host: &str, name: &str, password: &str) {
        use base64::Engine;
        let auth = base64::engine::general_purpose::STANDARD.encode(format!("{name}:{password}"));
        let text = format!(r#"{{"auths":{{"{host}":{{"auth":"{auth}"}}}}}}"#);
        self.write(".docker/config.json", &text);
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.home);
    }
}

fn reference(fake: &FakeRegistry, rest: &str) -> Reference {
    format!("{}/{rest}", fake.host()).parse().unwrap()
}

/// A small manifest, of an image that nobody has.
const MANIFEST: &[u8] = br#"{
  "schemaVersion": 2,
  "mediaType": "application/vnd.oci.image.manifest.v1+json",
  "config": {
    "mediaType": "application/vnd.oci.image.config.v1+json",
    "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
    "size": 2
  },
  "layers": []
}"#;
const KIND: &str = mydocker::oci::media_type::OCI_MANIFEST;

/// A registry with `app:v1`.
fn with_app() -> FakeRegistry {
    let fake = FakeRegistry::start();
    fake.put_manifest("app", "v1", KIND, MANIFEST);
    fake
}

/// Bytes that are not all alike.
fn noise(size: usize) -> Vec<u8> {
    let mut state = 7_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(size).collect()
}

/// A registry with a blob, and the blob's descriptor.
fn with_blob(bytes: &[u8]) -> (FakeRegistry, Descriptor) {
    let fake = FakeRegistry::start();
    fake.put_blob("app", bytes.to_vec());
    (fake, Descriptor::of(OCI_LAYER_GZIP, bytes))
}

/// Downloads and verifies a blob.
fn download(
    client: &Client,
    reference: &Reference,
    descriptor: &Descriptor,
) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let blob = client.blob(reference, descriptor, 0)?;
    let mut bytes = Vec::new();
    VerifyReader::new(blob, descriptor.digest.clone(), descriptor.size).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// An error as the program prints it, with all its causes.
fn in_words(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}

fn exists(path: &Path) -> bool {
    path.try_exists().unwrap()
}
