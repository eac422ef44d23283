//! `df` and `prune`: what takes room, and what goes.

use std::fs;
use std::os::unix::fs::MetadataExt;

use serde_json::Value;

use crate::support::command::Cmd;
use crate::support::env::{TestEnv, names};
use crate::support::fixtures;
use crate::support::require::Need::Root;

/// Bytes that docker's form of a size means, as exactly as it tells them.
fn bytes(text: &Value) -> f64 {
    let text = text.as_str().unwrap().split(' ').next().unwrap();
    let at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap();
    let factor = match &text[at..] {
        "B" => 1.0,
        "kB" => 1e3,
        "MB" => 1e6,
        unit => panic!("{unit}"),
    };
    text[..at].parse::<f64>().unwrap() * factor
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 0.01 * a.max(b).max(10_000.0)
}

/// What `du` says of folders of the store.
fn du(env: &TestEnv, folders: &[&str]) -> f64 {
    let there = folders.iter().filter(|folder| env.root().join(folder).exists());
    let text = Cmd::new("du").args(["-sc", "-B1"]).args(there).current_dir(env.root()).ok();
    text.lines().last().unwrap().split('\t').next().unwrap().parse().unwrap()
}

/// The image `busybox`, `other` for the same, and `upper`, which is a commit on it.
fn shared() -> TestEnv {
    let env = TestEnv::with_busybox();
    env.mydocker(["import", "-q", "--name", "other"]).arg(fixtures::path("busybox.tar")).ok();
    let script = "dd if=/dev/urandom of=/big bs=1M count=3 2>/dev/null";
    env.mydocker(["run", "--name", "maker", "busybox", "sh", "-c", script]).ok();
    env.mydocker(["commit", "maker", "upper"]).ok();
    env.mydocker(["rm", "maker"]).ok();
    env
}

fn usage(env: &TestEnv, name: &str) -> Value {
    let all = env.json(&["df", "-v"]);
    let found = all.iter().find(|row| row["Type"] == "Image" && row["Repository"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {all:?}")).clone()
}

#[test]
fn what_is_shared_is_counted_once() {
    require!(Root);
    let env = shared();
    let sums = env.json(&["df"]);
    assert_eq!((&sums[0]["Type"], &sums[0]["TotalCount"]), (&"Images".into(), &"3".into()));
    let all = du(&env, &["blobs/sha256", "trees", "lists"]);
    let counted = bytes(&sums[0]["Size"]);
    // du counts the folders that hold all of it too.
    assert!(close(counted, all), "df {counted}, du {all}");
    assert!(close(bytes(&sums[0]["Reclaimable"]), counted));
    let upper = usage(&env, "upper");
    assert!(bytes(&upper["UniqueSize"]) > 3e6, "{upper}");
    // The layer of the base, and its files as far as they are hard links.
    assert!(bytes(&upper["SharedSize"]) > 2e6, "{upper}");
}

#[test]
fn what_df_calls_own_is_what_rmi_frees() {
    require!(Root);
    let env = shared();
    for name in ["upper", "busybox"] {
        let own = bytes(&usage(&env, name)["UniqueSize"]);
        let before = du(&env, &["blobs/sha256", "trees", "lists"]);
        env.mydocker(["rmi", name]).ok();
        let freed = before - du(&env, &["blobs/sha256", "trees", "lists"]);
        assert!(close(own, freed), "{name}: df {own}, freed {freed}");
    }
}

#[test]
fn images_in_use_are_not_reclaimable() {
    require!(Root);
    let env = TestEnv::with_busybox();
    env.mydocker(["run", "--name", "user", "busybox", "sh", "-c", "echo x >/x"]).ok();
    let sums = env.json(&["df"]);
    assert_eq!((&sums[0]["Active"], &sums[0]["Reclaimable"]), (&"1".into(), &"0B".into()));
    assert_eq!((&sums[1]["TotalCount"], &sums[1]["Active"]), (&"1".into(), &"0".into()));
    assert!(bytes(&sums[1]["Reclaimable"]) > 0.0);
    assert_eq!(usage(&env, "busybox")["Containers"], "1");
    let header = env.mydocker(["df"]).ok();
    let first: Vec<&str> = header.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(first, ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]);
}

#[test]
fn prune_asks_first() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let before = env.store();
    for answer in ["", "n\n", "no\n", "\n"] {
        let output = env.mydocker(["prune", "--all"]).input(answer).run();
        output.success().prints("").says("[y/N]");
    }
    env.store().assert_same(&before);
    env.mydocker(["prune", "--all"]).input("y\n").ok();
    assert!(names(&env.root().join("trees")).is_empty());
}

#[test]
fn prune_takes_images_without_a_name() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let id = env.json(&["images", "--no-trunc"])[0]["ID"].as_str().unwrap().to_owned();
    // The name goes to another image.
    env.mydocker(["import", "-q", "--name", "busybox"]).arg(fixtures::path("layered")).ok();
    assert_eq!(env.json(&["images"]).len(), 2);
    let dry = env.mydocker(["prune", "--dry-run"]).ok();
    assert!(dry.contains(&format!("deleted: {id}")), "{dry}");
    assert_eq!(env.json(&["images"]).len(), 2);
    let before = du(&env, &["blobs/sha256", "trees", "lists"]);
    let done = env.mydocker(["prune", "-f"]).ok();
    assert!(done.starts_with("Deleted Images:\n"), "{done}");
    let freed = before - du(&env, &["blobs/sha256", "trees", "lists"]);
    let said =
        bytes(&Value::from(done.lines().last().unwrap().replace("Total reclaimed space: ", "")));
    assert!(close(said, freed), "said {said}, freed {freed}");
    assert_eq!(env.json(&["images"]).len(), 1);
    env.mydocker(["prune", "-f"]).run().success().prints("Total reclaimed space: 0B\n");
}

#[test]
fn prune_keeps_what_a_container_stands_on() {
    require!(Root);
    let env = shared();
    env.mydocker(["run", "--name", "user", "busybox", "true"]).ok();
    env.mydocker(["prune", "-af"]).ok();
    let left = env.json(&["images"]);
    assert_eq!((left.len(), &left[0]["Repository"]), (1, &"busybox".into()));
    env.run(&["busybox", "true"]).success();
    env.assert_no_rubbish();
}

#[test]
fn prune_by_age_and_by_label() {
    require!(Root);
    let env = TestEnv::with_busybox();
    env.mydocker(["import", "-q", "--name", "old"]).arg(fixtures::path("layered")).ok();
    let left = |env: &TestEnv| {
        let mut names: Vec<String> = env
            .json(&["images"])
            .iter()
            .map(|i| i["Repository"].as_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    };
    env.mydocker(["prune", "-af", "--filter", "label=nosuch"]).ok();
    env.mydocker(["prune", "-af", "--filter", "until=2001-01-01T00:00:00Z"]).ok();
    assert_eq!(left(&env), ["busybox", "old"]);
    // The one was made in 2024, the other a moment ago.
    env.mydocker(["prune", "-af", "--filter", "until=1h"]).ok();
    assert_eq!(left(&env), ["busybox"]);
    for bad in ["until=yesterday", "colour=red", "until"] {
        env.assert_refused(env.mydocker(["prune", "-f", "--filter", bad]), 125, &[bad, "filter"]);
    }
}

#[test]
fn prune_to_a_size() {
    require!(Root);
    let env = TestEnv::with_busybox();
    env.mydocker(["import", "-q", "--name", "second"]).arg(fixtures::path("layered")).ok();
    env.mydocker(["prune", "-f", "--max-size", "1g"]).run().success();
    assert_eq!(env.json(&["images"]).len(), 2);
    // Without the one that came first it is small enough.
    env.mydocker(["prune", "-f", "--keep-storage", "5m"]).run().success();
    let left = env.json(&["images"]);
    assert_eq!((left.len(), &left[0]["Repository"]), (1, &"second".into()));
    env.mydocker(["prune", "-f", "--max-size", "0"]).run().success();
    assert_eq!(env.json(&["images"]).len(), 0);
}

#[test]
fn prune_takes_what_no_image_needs() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let before = env.store();
    let blob = env.root().join("blobs/sha256").join("ab".repeat(32));
    fs::write(&blob, "left by a crash").unwrap();
    let tree = env.root().join("trees").join(format!("sha256-{}", "cd".repeat(32)));
    fs::create_dir(&tree).unwrap();
    std::os::unix::fs::symlink("../trees/sha256-gone", env.root().join("rootfs/gone")).unwrap();
    assert!(bytes(&env.json(&["df"])[0]["Reclaimable"]) > 0.0);
    env.mydocker(["prune", "-f"]).ok();
    // Only the times of the folders tell that something was there.
    let folders = ["blobs/sha256", "trees", "rootfs"];
    env.store().without_folders(&folders).assert_same(&before.without_folders(&folders));
    // Of an image that cannot be read nobody knows what it needs.
    let config = env.root().join("blobs/sha256");
    let manifest = names(&config)
        .into_iter()
        .find(|name| fs::read(config.join(name)).unwrap().starts_with(b"{\"schemaVersion\""));
    fs::write(config.join(manifest.unwrap()), "{}").unwrap();
    fs::write(&blob, "who knows").unwrap();
    env.mydocker(["prune", "-af"]).ok();
    assert!(blob.exists());
}

#[test]
fn a_store_with_hard_links_is_counted_by_inodes() {
    require!(Root);
    let env = shared();
    // Files of one layer that both trees have are the same files.
    let inode = |name: &str| fs::metadata(env.rootfs(name).join("bin/busybox")).unwrap().ino();
    assert!([inode("busybox"), inode("other")].contains(&inode("upper")));
    let shared = bytes(&usage(&env, "upper")["SharedSize"]);
    let size = fs::metadata(env.rootfs("upper").join("bin/busybox")).unwrap().len();
    assert!(shared > 1.5 * size as f64, "{shared}");
}
