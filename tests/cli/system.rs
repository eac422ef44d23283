//! `system df`, `system prune` and `image …`: docker's spellings of what there is.

use std::fs;

use crate::support::env::{TestEnv, names};
use crate::support::fixtures;
use crate::support::require::Need::Root;

/// A store with a stopped and a running container, an image without a name, and volumes with and without.
fn full() -> TestEnv {
    let env = TestEnv::with_busybox();
    env.mydocker([
        "run",
        "--name",
        "old",
        "-v",
        "named:/n",
        "-v",
        "/a",
        "busybox",
        "sh",
        "-c",
        "echo x >/a/x",
    ])
    .ok();
    env.mydocker(["run", "-d", "--name", "on", "-v", "/b", "busybox", "sleep", "1000"]).ok();
    // The name goes to another image.
    env.mydocker(["import", "-q", "--name", "gone"]).arg(fixtures::path("layered")).ok();
    env.mydocker(["import", "-q", "--force", "--name", "gone"])
        .arg(fixtures::path("busybox.tar"))
        .ok();
    env
}

#[test]
fn system_df_counts_volumes() {
    require!(Root);
    let env = full();
    let rows = env.json(&["system", "df"]);
    let volumes = rows.iter().find(|row| row["Type"] == "Local Volumes").unwrap();
    assert_eq!((&volumes["TotalCount"], &volumes["Active"]), (&"3".into(), &"3".into()));
    assert_eq!(volumes["Reclaimable"], "0B");
    env.mydocker(["rm", "old"]).ok();
    fs::write(env.root().join("volumes/named/_data/big"), vec![1; 1 << 20]).unwrap();
    let rows = env.json(&["system", "df", "-v"]);
    let named = rows.iter().find(|row| row["Name"] == "named").unwrap();
    assert_eq!((&named["Type"], &named["Links"]), (&"Volume".into(), &"0".into()));
    assert_eq!(named["Size"], "1.05MB");
    let table = env.mydocker(["system", "df"]).ok();
    let line = table.lines().find(|line| line.starts_with("Local Volumes")).unwrap().to_owned();
    assert!(line.contains("   3       1        1.0"), "{table}");
    env.mydocker(["rm", "-f", "on"]).ok();
}

#[test]
fn system_prune_takes_what_nothing_uses() {
    require!(Root);
    let env = full();
    let before = env.mydocker(["images", "-q"]).ok().lines().count();
    let asked = env.mydocker(["system", "prune", "--volumes"]).input("n\n").run().success();
    asked.prints("").says("all stopped containers").says("anonymous volumes");
    // The image without a name was made years ago, the containers just now.
    let pruned = env.mydocker(["system", "prune", "-f", "--filter", "until=1h"]).ok();
    assert!(pruned.starts_with("Deleted Images:\n"), "{pruned}");
    assert_eq!(env.mydocker(["images", "-q"]).ok().lines().count(), before - 1);
    assert_eq!(env.containers().len(), 2);
    let pruned = env.mydocker(["system", "prune", "-f"]).ok();
    assert!(pruned.contains("\nTotal reclaimed space: "), "{pruned}");
    assert_eq!(env.containers().len(), 1, "one runs");
    assert_eq!(names(&env.root().join("volumes")).len(), 3);
    let pruned = env.mydocker(["system", "prune", "-f", "--volumes"]).ok();
    assert!(pruned.contains("Deleted Volumes:"), "{pruned}");
    let left = names(&env.root().join("volumes"));
    assert!(left.len() == 2 && left.contains(&"named".to_owned()), "{left:?}");
    env.mydocker(["system", "prune", "-f", "--volumes", "--filter", "until=1h"])
        .run()
        .fails(125, &["until"]);
    env.mydocker(["system", "prune", "-f", "--filter", "nosuch=1"]).run().fails(125, &["nosuch=1"]);
    env.mydocker(["rm", "-f", "-v", "on"]).ok();
    env.mydocker(["system", "prune", "-af"]).ok();
    assert_eq!(env.mydocker(["images", "-q"]).ok(), "");
    assert_eq!(names(&env.root().join("volumes")), ["named"]);
}

#[test]
fn image_is_another_spelling() {
    require!(Root);
    let env = TestEnv::with_busybox();
    assert_eq!(env.mydocker(["image", "ls", "-q"]).ok(), env.mydocker(["images", "-q"]).ok());
    env.mydocker(["create", "--name", "busybox", "busybox", "true"]).ok();
    let kind =
        |args: &[&str]| env.mydocker(args).args(["-f", "{{json .RootFS}}", "busybox"]).run().code();
    assert_eq!((kind(&["image", "inspect"]), kind(&["inspect"])), (Some(0), Some(125)));
    env.mydocker(["rm", "busybox"]).ok();
    env.mydocker(["image", "tag", "busybox", "other"]).ok();
    env.mydocker(["image", "rm", "other"]).ok();
    env.mydocker(["image", "prune", "-f"]).run().success().prints("Total reclaimed space: 0B\n");
    env.mydocker(["image", "prune", "-af"]).ok();
    assert_eq!(env.mydocker(["image", "ls", "-q"]).ok(), "");
}
