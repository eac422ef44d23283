//! The list beside every tree: it comes with the tree, fits it, and goes with it.

use std::fs::{self, File};
use std::os::fd::AsFd;

use mydocker::oci::digest::ImageId;
use mydocker::store::{Durability, Store};
use mydocker::unpack::list::{Depth, ListReader, compare};

use crate::support::command::Cmd;
use crate::support::env::{TestEnv, names};
use crate::support::registry::Registry;
use crate::support::require::Need::{Root, Tool};

/// Asserts that every tree has a list and is as that says; returns how many files there are in all of them.
#[track_caller]
pub fn assert_faultless(env: &TestEnv) -> u64 {
    let store = Store::open(env.root(), Durability::Unflushed).unwrap();
    let mut files = 0;
    for tree in names(&env.root().join("trees")) {
        let id = ImageId::new(tree.replace('-', ":").parse().unwrap());
        let list = ListReader::new(store.open_list(&id).unwrap().unwrap()).unwrap();
        assert!(!list.layers().is_empty());
        let root = File::open(store.tree_path(&id)).unwrap();
        let mut found = Vec::new();
        let count =
            compare(root.as_fd(), list, Depth::Contents, |difference| found.push(difference));
        assert!(found.is_empty(), "{tree}: {found:?}");
        files += count.unwrap();
    }
    files
}

#[test]
fn a_pulled_tree_has_a_list_that_it_fits() {
    require!(Root, Tool("docker-registry"));
    let registry = Registry::start();
    let env = TestEnv::new();
    env.mydocker(["pull", "--quiet", &registry.image("layered")]).ok();
    let trees = env.root().join("trees").into_os_string();
    let output = Cmd::new("find").arg(trees).args(["-mindepth", "1", "-printf", "x"]).run();
    assert_eq!(assert_faultless(&env), output.success().stdout.len() as u64);
}

#[test]
fn a_tree_that_is_made_anew_gets_a_list_again() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let files = assert_faultless(&env);
    // What an older version of the program left, or a broken one.
    for gone in [&["trees"][..], &["lists"], &["trees", "lists"]] {
        for folder in gone {
            for name in names(&env.root().join(folder)) {
                fs::remove_dir_all(env.root().join(folder).join(name)).unwrap();
            }
        }
        env.run(&["busybox", "true"]).success();
        if gone != ["lists"] {
            assert_eq!(assert_faultless(&env), files);
        }
    }
    env.assert_no_rubbish();
}

#[test]
fn a_list_goes_with_its_tree() {
    require!(Root);
    let env = TestEnv::with_busybox();
    assert_eq!(names(&env.root().join("lists")), names(&env.root().join("trees")));
    env.mydocker(["rmi", "busybox"]).ok();
    assert_eq!(names(&env.root().join("lists")), [""; 0]);
}
