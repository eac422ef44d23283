//! Images that share layers: stored once, fetched once, and none the worse for the other's removal.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::support::env::{TestEnv, names};
use crate::support::fixtures;
use crate::support::registry::Registry;
use crate::support::require::Need::{Root, Tool};
use crate::support::tree;
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

/// Pushes an image of the base `variants:v1` with one layer more to a registry of its own; says its name and the base's.
fn pushed_with_one_more_layer(source: &Registry, target: &Registry) -> (String, String) {
    let env = TestEnv::new();
    let (base, more) = (source.image("variants:v1"), target.image("more"));
    env.mydocker(["--no-sync", "pull", "--quiet", &base]).ok();
    let change = "busybox mkdir /made && busybox rm /etc/group && echo more > /made/file";
    env.mydocker(["run", "--name", "changed", &base, "busybox", "sh", "-ec", change]).ok();
    env.mydocker(["--no-sync", "commit", "changed", &more]).ok();
    env.mydocker(["push", &more]).ok();
    (base, more)
}

#[test]
fn an_image_that_begins_with_another_has_the_same_tree_as_without_it() {
    require!(Root, Tool("docker-registry"));
    let (source, target) = (Registry::start(), Registry::writable());
    let (base, more) = pushed_with_one_more_layer(&source, &target);
    let alone = TestEnv::new();
    alone.mydocker(["--no-sync", "pull", "--quiet", &more]).ok();
    let read = |env: &TestEnv| tree::read(&env.rootfs(&more).canonicalize().unwrap());
    let expected = read(&alone);
    for damage in [false, true] {
        let env = TestEnv::new();
        env.mydocker(["--no-sync", "pull", "--quiet", &base]).ok();
        if damage {
            fs::write(env.rootfs(&base).join("etc/passwd"), "other").unwrap();
        }
        let blobs = || target.requests().iter().filter(|request| request.is_blob()).count();
        let before = blobs();
        env.mydocker(["--no-sync", "pull", "--quiet", &more]).ok();
        assert_eq!(blobs() - before, 2, "its own layer and the configuration");
        expected.assert_same(&read(&env));
        if !damage {
            let inodes = [&base, &more].map(|image| inode(&env.rootfs(image).join("bin/busybox")));
            assert_eq!(inodes[0], inodes[1]);
            assert_faultless(&env);
            env.mydocker(["rmi", &base]).ok();
            assert_faultless(&env);
            env.run(&[&more, "busybox", "cat", "/made/file"]).success().prints("more\n");
            env.assert_no_rubbish();
        }
    }
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
