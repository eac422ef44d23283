//! `save` and `load`, with podman and skopeo on the other side.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::command::Cmd;
use crate::support::env::{TestEnv, names};
use crate::support::fixtures;
use crate::support::pty::Pty;
use crate::support::require::Need::{Root, Tool};
use crate::support::tree;

/// A store with the images `busybox`, `layered` and, for the same as the last, `team/app:1.2`.
fn two_images() -> TestEnv {
    let env = TestEnv::with_busybox();
    for name in ["layered", "team/app:1.2"] {
        let cmd = env.mydocker(["--no-sync", "import", "--quiet", "--name", name]);
        cmd.arg(fixtures::path("layered")).ok();
    }
    env
}

fn save(env: &TestEnv, args: &[&str]) -> PathBuf {
    let path = env.folder().join("saved.tar");
    env.mydocker(["save", "-o"]).arg(&path).args(args).run().success().prints("");
    path
}

/// A podman with storage of its own.
fn podman(env: &TestEnv, args: &[&str]) -> Cmd {
    let folder = |name: &str| env.folder().join(name).into_os_string();
    Cmd::new("podman")
        .arg("--root")
        .arg(folder("podman"))
        .arg("--runroot")
        .arg(folder("podman-run"))
        .args(["--storage-driver", "vfs"])
        .args(args)
        .env("HOME", folder("home"))
}

fn id(env: &TestEnv, name: &str) -> String {
    let text = env.mydocker(["inspect", "--format", "json", name]).ok();
    let found: serde_json::Value = serde_json::from_str(&text).unwrap();
    found["Id"].as_str().unwrap().trim_start_matches("sha256:").to_owned()
}

#[test]
fn podman_loads_both_forms_with_several_images() {
    require!(Root, Tool("podman"));
    let env = two_images();
    for format in ["docker-archive", "oci-archive"] {
        let path = save(&env, &["--format", format, "busybox", "layered", "team/app:1.2"]);
        for image in ["busybox", "layered"] {
            // Podman takes one image from an OCI archive with several.
            let path = match format {
                "oci-archive" => save(&env, &["--format", format, image]),
                _ => path.clone(),
            };
            podman(&env, &["load", "--quiet", "--input"]).arg(&path).timeout(120).ok();
            let found = podman(&env, &["images", "--no-trunc", "--quiet"]).ok();
            assert!(found.contains(&id(&env, image)), "{image} is not in\n{found}");
        }
        podman(&env, &["rmi", "--all", "--force"]).ok();
    }
}

#[test]
fn podmans_tree_is_ours() {
    require!(Root, Tool("podman"));
    let env = two_images();
    let path = save(&env, &["busybox"]);
    podman(&env, &["load", "--quiet", "--input"]).arg(&path).ok();
    let mount = podman(&env, &["image", "mount", &id(&env, "busybox")]).ok();
    // The layer says nothing about the root itself.
    let ours = tree::read(&env.rootfs("busybox").canonicalize().unwrap()).without(&[""]);
    ours.assert_same(&tree::read(Path::new(mount.trim())).without(&[""]));
    podman(&env, &["image", "umount", "--all"]).ok();
}

#[test]
fn an_oci_archive_keeps_manifests_byte_for_byte() {
    require!(Root, Tool("skopeo"));
    let env = two_images();
    let path = save(&env, &["--format", "oci-archive", "layered", "busybox"]);
    let source = format!("oci-archive:{}:docker.io/library/layered:latest", path.display());
    let raw = Cmd::new("skopeo").args(["inspect", "--raw", &source]).ok();
    let digest = fixtures::digest("layered", "latest").replacen(':', "/", 1);
    let ours = fs::read_to_string(fixtures::path("layered").join("blobs").join(digest)).unwrap();
    assert_eq!(raw, ours);
}

#[test]
fn skopeo_copies_from_a_docker_archive() {
    require!(Root, Tool("skopeo"));
    let env = two_images();
    let path = save(&env, &["busybox", "team/app:1.2"]);
    let source = format!("docker-archive:{}:team/app:1.2", path.display());
    let target = format!("oci:{}:copy", env.folder().join("copy").display());
    Cmd::new("skopeo").args(["--insecure-policy", "copy", "--quiet", &source, &target]).ok();
    // It compares the layers with the DiffIDs, and writes the configuration in its own order.
    let config = Cmd::new("skopeo").args(["inspect", "--config", "--raw", &target]).ok();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    let ours = fs::read(env.root().join("blobs/sha256").join(id(&env, "layered"))).unwrap();
    assert_eq!(config, serde_json::from_slice::<serde_json::Value>(&ours).unwrap());
}

#[test]
fn what_is_saved_comes_back() {
    require!(Root);
    let env = two_images();
    let ours = tree::read(&env.rootfs("layered").canonicalize().unwrap());
    for (format, compress) in [
        ("docker-archive", None),
        ("docker-archive", Some("--compress")),
        ("oci-archive", Some("--compress=zstd")),
    ] {
        let mut args = vec!["--format", format, "layered", "team/app:1.2", "busybox"];
        args.extend(compress);
        let path = save(&env, &args);
        let other = TestEnv::new();
        let loaded = other.mydocker(["load", "--quiet", "-i"]).arg(&path).ok();
        let mut loaded: Vec<&str> = loaded.lines().collect();
        loaded.sort_unstable();
        let expected = ["busybox:latest", "layered:latest", "team/app:1.2"];
        assert_eq!(loaded, expected.map(|name| format!("Loaded image: {name}")));
        assert_eq!(id(&other, "layered"), id(&env, "layered"));
        ours.assert_same(&tree::read(&other.rootfs("team/app:1.2").canonicalize().unwrap()));
        other.assert_no_rubbish();
    }
}

#[test]
fn the_same_images_are_the_same_bytes() {
    require!(Root);
    let env = two_images();
    for format in ["docker-archive", "oci-archive"] {
        for compress in [None, Some("--compress=gzip"), Some("--compress=zstd")] {
            let mut args = vec!["--format", format, "busybox", "layered"];
            args.extend(compress);
            let first = fs::read(save(&env, &args)).unwrap();
            let second = fs::read(save(&env, &args)).unwrap();
            assert!(first == second, "{format} {compress:?}");
        }
    }
}

#[test]
fn a_repository_means_all_its_tags() {
    require!(Root);
    let env = two_images();
    env.mydocker(["import", "--quiet", "--name", "team/app:2"]).arg(fixtures::path("busybox")).ok();
    let path = save(&env, &["team/app"]);
    let other = TestEnv::new();
    let loaded = other.mydocker(["load", "--quiet", "-i"]).arg(&path).ok();
    assert!(loaded.contains("team/app:1.2") && loaded.contains("team/app:2"), "{loaded}");
}

#[test]
fn an_image_saved_by_its_id_has_no_name() {
    require!(Root);
    let env = two_images();
    let id = id(&env, "busybox");
    for format in ["docker-archive", "oci-archive"] {
        let path = save(&env, &["--format", format, &id]);
        let other = TestEnv::new();
        let output = other.mydocker(["load", "--quiet", "-i"]).arg(&path).run();
        output.success().prints(&format!("Loaded image ID: sha256:{id}\n"));
        assert_eq!(other.json(&["images"])[0]["Repository"], "<none>");
        other.run(&[&id, "true"]).success();
        other.mydocker(["rmi", &id]).ok();
        assert_eq!(names(&other.root().join("blobs/sha256")), Vec::<String>::new());
    }
}

#[test]
fn nothing_is_written_to_a_terminal() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let mut pty = Pty::start(env.mydocker(["save", "busybox"]), 24, 80);
    pty.expect("not written to a terminal");
    assert_eq!(pty.finish(), 125);
}

#[test]
fn a_damaged_layer_makes_no_archive() {
    require!(Root);
    let env = two_images();
    let layer = fixtures::layers("layered", "latest").remove(0);
    let path = env.root().join("blobs").join(layer.replacen(':', "/", 1));
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    for format in ["docker-archive", "oci-archive"] {
        let target = env.folder().join("out.tar");
        let cmd = env.mydocker(["save", "--format", format, "layered", "-o"]).arg(&target);
        cmd.run().fails(125, &[&layer, "layered"]);
        let left = names(env.folder());
        assert!(!left.iter().any(|name| name.contains("out.tar")), "{left:?}");
        // Others do not suffer from it.
        env.mydocker(["save", "--format", format, "busybox", "-o"]).arg(&target).ok();
        fs::remove_file(&target).unwrap();
    }
}

#[test]
fn an_archive_is_written_to_a_device_as_it_is() {
    require!(Root);
    let env = TestEnv::with_busybox();
    env.mydocker(["save", "-o", "/dev/null", "busybox"]).ok();
    let cmd = env.mydocker(["save", "-o", "/dev/full", "busybox"]);
    env.assert_refused(cmd, 125, &["/dev/full", "no space left"]);
    assert!(Path::new("/dev/null").metadata().is_ok_and(|found| !found.is_file()));
}

#[test]
fn a_loaded_name_does_not_take_that_of_another_image() {
    require!(Root);
    let env = two_images();
    let path = save(&env, &["busybox"]);
    let other = TestEnv::new();
    other.mydocker(["import", "--quiet", "--name", "busybox"]).arg(fixtures::path("layered")).ok();
    let before = id(&other, "busybox");
    let cmd = other.mydocker(["load", "-i"]).arg(&path);
    other.assert_refused(cmd, 125, &["busybox", "another image", "--force"]);
    other.mydocker(["load", "--quiet", "--force", "-i"]).arg(&path).ok();
    assert_eq!(id(&other, "busybox"), id(&env, "busybox"));
    other.run(&[&before, "true"]);
    assert_eq!(other.json(&["images"]).len(), 2);
}

#[test]
fn load_takes_standard_input_and_no_root_filesystem() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let archive = fs::read(save(&env, &["busybox"])).unwrap();
    let other = TestEnv::new();
    let output = other.mydocker(["load", "-q"]).input(archive).run();
    output.success().prints("Loaded image: busybox:latest\n");
    let cmd = other.mydocker(["load", "-i"]).arg(fixtures::path("busybox.tar"));
    other.assert_refused(cmd, 125, &["busybox.tar", "manifest.json"]);
}
