//! `bundle` and `inventory`: to a machine without a network, only what it lacks.

use std::fs;

use crate::support::command::Cmd;
use crate::support::env::TestEnv;
use crate::support::fixtures;
use crate::support::require::Need::{Root, Tool};
use crate::support::tree;

/// A store with `base`, and with `app`, which is `base` and a layer more.
fn app() -> TestEnv {
    let env = TestEnv::new();
    env.mydocker(["import", "-q", "--name", "base"]).arg(fixtures::path("busybox")).ok();
    env.mydocker(["run", "--name", "maker", "base", "sh", "-c", "echo app >/app"]).ok();
    env.mydocker(["commit", "-c", "CMD [\"cat\", \"/app\"]", "maker", "app:1"]).ok();
    env
}

/// Another machine that has `base`.
fn other() -> TestEnv {
    let env = TestEnv::new();
    env.mydocker(["import", "-q", "--name", "base"]).arg(fixtures::path("busybox")).ok();
    env
}

#[test]
fn a_bundle_leaves_out_what_the_other_side_has() {
    require!(Root);
    let (env, other) = (app(), other());
    let (inventory, bundle) = (env.folder().join("inventory"), env.folder().join("bundle.tar"));
    other.mydocker(["inventory", "-o"]).arg(&inventory).run().success().prints("");
    let layer = fixtures::layers("busybox", "latest").remove(0);
    let listed = fs::read_to_string(&inventory).unwrap();
    assert!(listed.lines().any(|line| line == layer), "{listed}");
    let mut sorted: Vec<&str> = listed.lines().collect();
    sorted.sort_unstable();
    assert_eq!(sorted, listed.lines().collect::<Vec<_>>());
    let cmd = env.mydocker(["bundle", "app:1", "--have"]).arg(&inventory).arg("-o").arg(&bundle);
    cmd.run().success().prints("").says("Left out: ");
    assert!(fs::metadata(&bundle).unwrap().len() < 50_000);
    let content = Cmd::new("tar").arg("-tf").arg(&bundle).ok();
    assert!(!content.contains(layer.trim_start_matches("sha256:")), "{content}");
    other.mydocker(["import", "-q"]).arg(&bundle).ok();
    other.run(&["app:1"]).success().prints("app\n");
    let tree_of = |env: &TestEnv| tree::read(&env.rootfs("app:1").canonicalize().unwrap());
    tree_of(&env).without(&[""]).assert_same(&tree_of(&other).without(&[""]));
    assert_eq!(env.json(&["images", "app"])[0]["ID"], other.json(&["images", "app"])[0]["ID"]);
    other.assert_no_rubbish();
}

#[test]
fn a_bundle_for_a_machine_with_nothing_is_a_whole_oci_archive() {
    require!(Root, Tool("skopeo"));
    let env = app();
    let bundle = env.folder().join("bundle.tar");
    let cmd = env.mydocker(["bundle", "--have", "/dev/null", "app:1", "base", "-o"]).arg(&bundle);
    cmd.ok();
    let source = format!("oci-archive:{}:docker.io/library/app:1", bundle.display());
    let target = format!("oci:{}:x", env.folder().join("x").display());
    Cmd::new("skopeo").args(["--insecure-policy", "copy", "--quiet", &source, &target]).ok();
}

#[test]
fn an_import_says_what_is_missing() {
    require!(Root);
    let (env, empty) = (app(), TestEnv::new());
    let inventory = other().mydocker(["inventory"]).ok();
    let bundle = env.folder().join("bundle.tar");
    let cmd = env.mydocker(["bundle", "--have", "-", "app:1", "-o"]).arg(&bundle);
    cmd.input(inventory).ok();
    let layer = fixtures::layers("busybox", "latest").remove(0);
    let cmd = empty.mydocker(["import"]).arg(&bundle);
    empty.assert_refused(cmd, 125, &["bundle.tar", &layer, "not in this store", "inventory"]);
}

#[test]
fn an_inventory_that_is_none() {
    require!(Root);
    let env = app();
    for text in ["nonsense", "sha256:../../x", "{}"] {
        let cmd = env.mydocker(["bundle", "--have", "-", "app:1"]).input(text);
        env.assert_refused(cmd, 125, &["inventory"]);
    }
}
