//! Images that share layers: stored once, fetched once, and none the worse for the other's removal.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::support::env::{TestEnv, names};
use crate::support::fixtures;
use crate::support::registry::Registry;
use crate::support::require::Need::{Root, Tool};
use crate::tree_lists::assert_faultless;

fn inode(path: &Path) -> u64 {
    path.symlink_metadata().unwrap().ino()
}

/// How often the registry was asked for the blob of the layer that all variants share.
fn fetches_of_base(registry: &Registry) -> usize {
    let base = &fixtures::layers("variants", "v1")[0];
    let requests = registry.requests();
    requests
        .iter()
        .filter(|request| request.is_blob() && request.path.contains(base.as_str()))
        .count()
}

#[test]
fn a_second_image_links_the_files_of_the_base_that_it_shares() {
    require!(Root, Tool("docker-registry"));
    let registry = Registry::start();
    let env = TestEnv::new();
    for image in ["v1", "v2"] {
        env.mydocker(["pull", "--quiet", &registry.image(&format!("variants:{image}"))]).ok();
    }
    assert_eq!(fetches_of_base(&registry), 1);
    let tree = |tag: &str| env.rootfs(&format!("{}:{tag}", registry.image("variants")));
    for path in ["bin/busybox", "etc/passwd"] {
        assert_eq!(inode(&tree("v1").join(path)), inode(&tree("v2").join(path)), "{path}");
    }
    assert_ne!(inode(&tree("v1").join("variant")), inode(&tree("v2").join("variant")));
    assert_faultless(&env);
    env.mydocker(["rmi", &registry.image("variants:v1")]).ok();
    assert_faultless(&env);
    env.run(&[&registry.image("variants:v2"), "busybox", "true"]).success();
    env.mydocker(["rmi", &registry.image("variants:v2")]).ok();
    assert_eq!(names(&env.root().join("trees")), [""; 0]);
    assert_eq!(names(&env.root().join("blobs/sha256")), [""; 0]);
    env.assert_no_rubbish();
}

#[test]
fn a_shared_layer_whose_blob_is_lost_is_fetched_and_not_unpacked() {
    require!(Root, Tool("docker-registry"));
    let registry = Registry::start();
    let env = TestEnv::new();
    env.mydocker(["pull", "--quiet", &registry.image("variants:v1")]).ok();
    let base = fixtures::layers("variants", "v1")[0].replace("sha256:", "");
    fs::remove_file(env.root().join("blobs/sha256").join(&base)).unwrap();
    env.mydocker(["pull", "--quiet", &registry.image("variants:v2")]).ok();
    assert_eq!(fetches_of_base(&registry), 2);
    assert!(env.root().join("blobs/sha256").join(&base).exists());
    let tree = |tag: &str| env.rootfs(&format!("{}:{tag}", registry.image("variants")));
    let path = "bin/busybox";
    assert_eq!(inode(&tree("v1").join(path)), inode(&tree("v2").join(path)));
    assert_faultless(&env);
}

#[test]
fn a_damaged_tree_lends_nothing_that_shows_it() {
    require!(Root, Tool("docker-registry"));
    let registry = Registry::start();
    let env = TestEnv::new();
    env.mydocker(["pull", "--quiet", &registry.image("variants:v1")]).ok();
    let tree = |tag: &str| env.rootfs(&format!("{}:{tag}", registry.image("variants")));
    let whole = fs::read(tree("v1").join("bin/busybox")).unwrap();
    fs::write(tree("v1").join("bin/busybox"), "rotten").unwrap();
    env.mydocker(["pull", "--quiet", &registry.image("variants:v2")]).ok();
    assert!(fs::read(tree("v2").join("bin/busybox")).unwrap() == whole);
}

#[test]
fn pulling_while_the_image_that_lends_is_removed() {
    require!(Root, Tool("docker-registry"));
    let registry = Registry::start();
    let env = TestEnv::new();
    let image = |tag: &str| registry.image(&format!("variants:{tag}"));
    for round in 0..6 {
        env.mydocker(["--no-sync", "pull", "--quiet", &image("v1")]).ok();
        let removing = env.mydocker(["--no-sync", "rmi", &image("v1")]).start();
        let pulled = env.mydocker(["--no-sync", "pull", "--quiet", &image("v2")]).run();
        removing.finish().success();
        if pulled.code() != Some(0) {
            // A blob may go between its being found and its being needed: that is said, and nothing is half there.
            assert!(pulled.stderr.contains("removed by another command"), "{}", pulled.report());
            env.mydocker(["--no-sync", "pull", "--quiet", &image("v2")]).ok();
        }
        assert_faultless(&env);
        env.run(&[&image("v2"), "busybox", "true"]).success();
        env.mydocker(["--no-sync", "rmi", &image("v2")]).ok();
        assert_eq!(names(&env.root().join("trees")), [""; 0], "round {round}");
    }
    env.assert_no_rubbish();
}
