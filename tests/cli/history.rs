//! `mydocker history`.

use std::fs;

use serde_json::json;

use crate::support::command::Cmd;
use crate::support::env::TestEnv;
use crate::support::fixtures;
use crate::support::require::Need::{Root, Tool};

#[test]
fn the_last_step_first_and_empty_layers_have_no_size() {
    require!(Root, Tool("umoci"));
    let env = TestEnv::new();
    let layout = env.folder().join("layout");
    Cmd::new("cp").arg("-r").arg(fixtures::path("busybox")).arg(&layout).ok();
    let image = format!("{}:latest", layout.display());
    let configure = ["config", "--image", &image, "--history.created_by", "CMD [\"x\"]"];
    let time = ["--history.created", "2020-01-02T03:04:05Z", "--history.comment", "by hand"];
    Cmd::new("umoci").args(configure).args(time).args(["--config.cmd", "x"]).ok();
    env.mydocker(["import", "--quiet", "--name", "told"]).arg(&layout).ok();
    let steps = env.json(&["history", "told"]);
    let id = env.json(&["images"])[0]["ID"].clone();
    assert_eq!(steps[0]["ID"], id);
    assert_eq!(steps[0]["CreatedBy"], "CMD [\"x\"]");
    assert_eq!(steps[0]["CreatedAt"], "2020-01-02T03:04:05Z");
    assert_eq!(steps[0]["Comment"], "by hand");
    assert_eq!(steps[0]["Size"], "0B");
    assert_eq!(steps[1]["ID"], "<missing>");
    let header = ["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"];
    let table = env.mydocker(["history", "told"]).ok();
    let first = table.lines().next().unwrap();
    assert_eq!(
        first.split("   ").map(str::trim).filter(|c| !c.is_empty()).collect::<Vec<_>>(),
        header
    );
    assert_eq!(env.mydocker(["history", "-q", "told"]).ok().lines().count(), steps.len());
}

#[test]
fn a_layer_has_the_size_of_its_files() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let mut expected = 0;
    let mut pending = vec![env.rootfs("busybox").canonicalize().unwrap()];
    let mut seen = std::collections::BTreeSet::new();
    while let Some(path) = pending.pop() {
        use std::os::unix::fs::MetadataExt as _;
        let found = fs::symlink_metadata(&path).unwrap();
        if found.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if found.is_file() && seen.insert(found.ino()) {
            expected += found.len();
        }
    }
    let cmd = ["history", "--human=false", "--no-trunc", "busybox"];
    assert_eq!(env.json(&cmd)[0]["Size"], json!(expected.to_string()));
    assert!(env.json(&cmd)[0]["ID"].as_str().unwrap().starts_with("sha256:"));
}

#[test]
fn a_hostile_history_does_not_write_to_the_terminal() {
    require!(Root);
    let env = TestEnv::new();
    let root = env.folder().join("root");
    fs::create_dir(&root).unwrap();
    env.mydocker(["import", "--quiet", "--name", "plain"]).arg(&root).ok();
    let archive = env.folder().join("hostile");
    fs::create_dir(&archive).unwrap();
    env.mydocker(["save", "-o"]).arg(env.folder().join("plain.tar")).arg("plain").ok();
    Cmd::new("tar").arg("-xf").arg(env.folder().join("plain.tar")).arg("-C").arg(&archive).ok();
    let manifest = fs::read_to_string(archive.join("manifest.json")).unwrap();
    let name = manifest.split("\"Config\":\"").nth(1).unwrap().split('"').next().unwrap();
    let mut config: serde_json::Value =
        serde_json::from_slice(&fs::read(archive.join(name)).unwrap()).unwrap();
    config["history"] =
        json!([{ "created_by": "\u{1b}]0;x\u{7}\u{9b}2J", "comment": "\u{1b}[2J" }]);
    fs::write(archive.join(name), config.to_string()).unwrap();
    let script = "tar -cf ../hostile.tar *";
    Cmd::new("sh").args(["-c", script]).current_dir(&archive).ok();
    env.mydocker(["load", "--force", "-q", "-i", "hostile.tar"]).ok();
    let shown = env.mydocker(["history", "--no-trunc", "plain"]).ok();
    assert!(shown.contains("2J"), "{shown}");
    assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{shown:?}");
}
