//! Blobs in the store that have the right size and other bytes: whoever uses one notices, gets it anew where it can be had,
//! and hands it to nobody.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::env::TestEnv;
use crate::support::fixtures;
use crate::support::registry::Registry;
use crate::support::require::Need::{Root, Tool};
use crate::support::tree::{self, Tree};

/// What to do about it.
const HINT: &str = "hint: `mydocker verify` shows what else is, `mydocker repair` mends it";

/// A store with the image `layered` from a registry.
struct Stored {
    env: TestEnv,
    registry: Registry,
    image: String,
}

impl Stored {
    fn new() -> Self {
        let (env, registry) = (TestEnv::new(), Registry::start());
        let image = registry.image("layered");
        env.mydocker(["--no-sync", "pull", "--quiet", &image]).ok();
        Self { env, registry, image }
    }

    fn blob(&self, digest: &str) -> PathBuf {
        self.env.root().join("blobs").join(digest.replacen(':', "/", 1))
    }

    /// Every kind of blob that the image has.
    fn blobs(&self) -> [(&'static str, PathBuf); 3] {
        let manifest = self.blob(&fixtures::digest("layered", "latest"));
        let parsed: Value = serde_json::from_slice(&fs::read(&manifest).unwrap()).unwrap();
        let config = self.blob(parsed["config"]["digest"].as_str().unwrap());
        [("manifest", manifest), ("config", config), ("layer", self.layer(1))]
    }

    fn layer(&self, number: usize) -> PathBuf {
        self.blob(&fixtures::layers("layered", "latest").remove(number))
    }

    fn tree(&self) -> Tree {
        tree::read(&self.env.rootfs(&self.image).canonicalize().unwrap())
    }

    /// Takes away what is made from the blobs, so that they are needed.
    fn forget_tree(&self) {
        for folder in ["trees", "lists"] {
            fs::remove_dir_all(self.env.root().join(folder)).unwrap();
            fs::create_dir(self.env.root().join(folder)).unwrap();
        }
    }

    #[track_caller]
    fn is_whole(&self) {
        self.env.mydocker(["verify", "--deep"]).run().success().prints("");
        self.env.assert_no_rubbish();
    }
}

/// Changes one byte, at so many hundredths of the file.
fn change(path: &Path, hundredths: usize) {
    let mut bytes = fs::read(path).unwrap();
    let at = (bytes.len() - 1) * hundredths / 100;
    bytes[at] ^= 0x20;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_pull_fetches_layers_again_that_it_finds_damaged() {
    require!(Root, Tool("docker-registry"));
    let stored = Stored::new();
    let wanted = stored.tree();
    // In the header of the stream, in the middle of it, and in the checksum at its end.
    for hundredths in [0, 50, 100] {
        change(&stored.layer(1), hundredths);
        change(&stored.layer(4), hundredths);
        stored.forget_tree();
        let before = stored.registry.requests().len();
        let output = stored.env.mydocker(["pull", &stored.image]).run().success();
        assert_eq!(output.stderr.matches("is damaged, and is replaced").count(), 2);
        let fetched = stored.registry.requests().split_off(before);
        assert_eq!(fetched.iter().filter(|request| request.is_blob()).count(), 2, "{fetched:?}");
        stored.tree().assert_same(&wanted);
        stored.is_whole();
    }
}

#[test]
fn a_pull_fetches_documents_again_that_it_finds_damaged() {
    require!(Root, Tool("docker-registry"));
    let stored = Stored::new();
    let [(_, manifest), (_, config), _] = stored.blobs();
    for path in [manifest, config] {
        change(&path, 50);
        stored.env.mydocker(["pull", &stored.image]).run().success();
        stored.env.mydocker(["verify"]).run().success().prints("");
    }
    stored.is_whole();
}

#[test]
fn a_pull_that_finds_all_up_to_date_reads_no_layer() {
    require!(Root, Tool("docker-registry"));
    let stored = Stored::new();
    change(&stored.layer(1), 50);
    let before = stored.registry.requests().len();
    stored.env.mydocker(["pull", &stored.image]).run().success().says("Image is up to date");
    let asked = stored.registry.requests().split_off(before);
    assert!(asked.iter().all(|request| request.method == "HEAD"), "{asked:?}");
    // Those who look find it, and mend it.
    stored.env.mydocker(["verify"]).run().exits(1);
    stored.env.mydocker(["repair"]).ok();
    stored.is_whole();
}

#[test]
fn damaged_blobs_are_given_to_nobody() {
    require!(Root, Tool("docker-registry"));
    let stored = Stored::new();
    let target = Registry::writable();
    let archive = stored.env.folder().join("archive.tar");
    let archive = archive.to_str().unwrap();
    for (what, path, hundredths) in stored
        .blobs()
        .into_iter()
        .flat_map(|(what, path)| [0, 50, 100].map(|at| (what, path.clone(), at)))
    {
        change(&path, hundredths);
        let digest = path.file_name().unwrap().to_str().unwrap();
        let image = stored.image.as_str();
        for args in [
            &["push", image, &target.image("copy")][..],
            &["save", "-o", archive, image],
            &["save", "--format", "oci-archive", "-o", archive, image],
            &["bundle", "--have", "/dev/null", "-o", archive, image],
        ] {
            let output = stored.env.mydocker(args).run().fails(125, &[digest, HINT]);
            assert!(output.stderr.contains("digest mismatch"), "{what}: {}", output.report());
            assert!(!Path::new(archive).exists(), "{what}: {args:?}");
        }
        let refused = stored.env.mydocker(["pull", &target.image("copy")]).run();
        refused.fails(125, &["manifest unknown"]);
        change(&path, hundredths);
    }
    stored.env.mydocker(["push", &stored.image, &target.image("copy")]).ok();
}

#[test]
fn a_tree_is_not_made_of_a_damaged_layer() {
    require!(Root, Tool("docker-registry"));
    let stored = Stored::new();
    let digest = fixtures::layers("layered", "latest").remove(1);
    stored.forget_tree();
    let run = || stored.env.run(&[&stored.image, "/no/such/program"]);
    change(&stored.layer(1), 50);
    run().fails(125, &[&format!("blob `{digest}` is damaged"), HINT]);
    change(&stored.layer(1), 50);
    let whole = fs::read(stored.layer(1)).unwrap();
    fs::write(stored.layer(1), &whole[1..]).unwrap();
    run().fails(125, &[&format!("blob `{digest}` is missing from the store, or cut off"), HINT]);
    fs::write(stored.layer(1), &whole).unwrap();
    run().exits(127);
    stored.is_whole();
}

#[test]
fn an_import_takes_the_layers_of_the_archive_where_those_of_the_store_are_damaged() {
    require!(Root);
    for format in ["oci-archive", "docker-archive"] {
        let env = TestEnv::new();
        env.mydocker(["import", "-q", "--name", "layered"]).arg(fixtures::path("layered")).ok();
        let archive = env.folder().join("archive.tar");
        env.mydocker(["save", "--format", format, "layered", "-o"]).arg(&archive).ok();
        env.mydocker(["rmi", "layered"]).ok();
        env.mydocker(["import", "-q"]).arg(&archive).ok();
        let manifest = env.json(&["inspect", "layered"]).remove(0)["Descriptor"]["digest"].clone();
        let manifest =
            env.root().join("blobs").join(manifest.as_str().unwrap().replacen(':', "/", 1));
        let manifest: Value = serde_json::from_slice(&fs::read(manifest).unwrap()).unwrap();
        for number in [1, 4] {
            let layer = manifest["layers"][number]["digest"].as_str().unwrap();
            change(&env.root().join("blobs").join(layer.replacen(':', "/", 1)), 50);
        }
        for folder in ["trees", "lists"] {
            fs::remove_dir_all(env.root().join(folder)).unwrap();
            fs::create_dir(env.root().join(folder)).unwrap();
        }
        env.mydocker(["import", "-q"]).arg(&archive).ok();
        env.mydocker(["verify", "--deep"]).run().success().prints("");
        env.assert_no_rubbish();
    }
}
