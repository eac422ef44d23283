//! `mydocker tag`.

use crate::support::env::TestEnv;
use crate::support::fixtures;
use crate::support::require::Need::Root;

/// The names of the images in the store, sorted, with their ids.
fn names(env: &TestEnv) -> Vec<(String, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let name =
        |row: &serde_json::Value| format!("{}:{}", text(&row["Repository"]), text(&row["Tag"]));
    let rows = env.json(&["images", "--no-trunc"]);
    let mut all: Vec<_> = rows.iter().map(|row| (name(row), text(&row["ID"]))).collect();
    all.sort();
    all
}

#[test]
fn one_image_has_two_names() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let id = names(&env)[0].1.clone();
    env.mydocker(["tag", "busybox", "mine/bb:v1"]).run().success().prints("");
    let expected =
        [("busybox:latest".to_owned(), id.clone()), ("mine/bb:v1".to_owned(), id.clone())];
    assert_eq!(names(&env), expected);
    assert!(env.rootfs("mine/bb:v1").join("bin/busybox").is_file());
    assert_eq!(env.mydocker(["run", "--rm", "mine/bb:v1", "echo", "hi"]).ok(), "hi\n");
    // By the first digits of its id, and a second time without effect.
    env.mydocker(["tag", &id["sha256:".len()..][..12], "mine/bb:v1"]).ok();
    assert_eq!(names(&env), expected);
    // The name goes; the image stays for the other.
    env.mydocker(["rmi", "busybox"]).ok();
    assert_eq!(names(&env), [expected[1].clone()]);
    assert_eq!(env.mydocker(["run", "--rm", "mine/bb:v1", "echo", "hi"]).ok(), "hi\n");
    env.assert_no_rubbish();
}

#[test]
fn a_name_moves_and_the_image_that_had_it_stays() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let old = names(&env)[0].1.clone();
    let layered = fixtures::path("layered");
    env.mydocker(["--no-sync", "import", "--quiet", "--name", "layered"]).arg(layered).ok();
    let new = names(&env).into_iter().find(|(name, _)| name == "layered:latest").unwrap().1;
    env.mydocker(["tag", "layered", "busybox"]).ok();
    let all = names(&env);
    assert!(all.contains(&("busybox:latest".to_owned(), new)), "{all:?}");
    assert!(all.contains(&("<none>:<none>".to_owned(), old)), "{all:?}");
}

#[test]
fn what_is_no_source_and_no_name() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let tag = |source: &str, target: &str| env.mydocker(["tag", source, target]);
    env.assert_refused(tag("nosuch", "x"), 125, &["tag nosuch", "no such image"]);
    env.assert_refused(tag("busybox", "UPPER/"), 125, &["invalid reference"]);
    let pinned = format!("x@sha256:{}", "0".repeat(64));
    env.assert_refused(tag("busybox", &pinned), 125, &["digest"]);
}
