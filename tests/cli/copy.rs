//! `mydocker copy` between registries, layouts and archives, and what other tools read of it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::Value;

use crate::fake_registry::{FakeRegistry, Fault};
use crate::support::command::{Cmd, Output};
use crate::support::env::{TestEnv, names};
use crate::support::fixtures;
use crate::support::registry::Registry;
use crate::support::require::Need::{Root, Tool};

fn copy(env: &TestEnv, from: &str, to: &str) -> Output {
    let output = env.mydocker(["copy", from, to]).run();
    assert!(!env.root().exists(), "the store was touched");
    output
}

/// The digest of what skopeo reads at a place.
fn digest(place: &str) -> String {
    let cmd = Cmd::new("skopeo").args(["inspect", "--tls-verify=false", "--format", "{{.Digest}}"]);
    cmd.arg(place).ok().trim().to_owned()
}

/// The manifest or index at a place, byte for byte, as skopeo reads it.
fn raw(place: &str) -> String {
    Cmd::new("skopeo").args(["inspect", "--tls-verify=false", "--raw", place]).ok()
}

/// An image for several platforms. One in docker's form would not do: skopeo finds none of those by its name in a layout.
fn index(registry: &Registry) -> String {
    registry.image("platforms:oci")
}

#[test]
fn an_image_goes_round_and_keeps_its_digest() {
    require!(Tool("docker-registry"), Tool("skopeo"));
    let (env, source, registry) = (TestEnv::new(), Registry::start(), Registry::writable());
    let expected = fixtures::digest("layered", "latest");
    let places = [
        source.image("layered"),
        registry.image("first/app:v1"),
        "oci:layout:v1".to_owned(),
        "oci-archive:archive.tar:v1".to_owned(),
        format!("docker://{}", registry.image("second/app:v1")),
        "oci:other".to_owned(),
    ];
    for pair in places.windows(2) {
        let output = copy(&env, &pair[0], &pair[1]).success();
        output.prints(&format!("{expected}\n"));
    }
    let inside = |path: &str| env.folder().join(path).display().to_string();
    for place in [
        format!("docker://{}", registry.image("first/app:v1")),
        format!("docker://{}", registry.image("second/app:v1")),
        format!("oci:{}:v1", inside("layout")),
        format!("oci-archive:{}:v1", inside("archive.tar")),
        format!("oci:{}", inside("other")),
    ] {
        assert_eq!(digest(&place), expected, "{place}");
    }
    let left = names(env.folder()).into_iter().filter(|name| name.starts_with('.'));
    assert_eq!(left.count(), 0);
}

#[test]
fn all_platforms_of_an_index_are_kept() {
    require!(Tool("docker-registry"), Tool("skopeo"));
    let (env, source, registry) = (TestEnv::new(), Registry::start(), Registry::writable());
    let (name, copied) = (index(&source), registry.image("platforms:v1"));
    let before = raw(&format!("docker://{name}"));
    copy(&env, &name, &copied).success();
    assert_eq!(raw(&format!("docker://{copied}")), before);
    copy(&env, &copied, "oci-archive:all.tar").success();
    copy(&env, "oci-archive:all.tar", "oci:all").success();
    copy(&env, "oci:all", &registry.image("again:v1")).success();
    assert_eq!(raw(&format!("docker://{}", registry.image("again:v1"))), before);
    // Every image of it is there.
    let document: Value = serde_json::from_str(&before).unwrap();
    for entry in document["manifests"].as_array().unwrap() {
        let digest = entry["digest"].as_str().unwrap();
        raw(&format!("docker://{}@{digest}", registry.image("again")));
    }
    // One of them alone.
    let cmd = env.mydocker(["copy", "--platform", &format!("linux/{}", fixtures::architecture())]);
    cmd.args([&name, "oci:one:x"]).ok();
    let one: Value =
        serde_json::from_str(&raw(&format!("oci:{}:x", env.folder().join("one").display())))
            .unwrap();
    assert!(one["config"].is_object(), "{one:#}");
    let none = env.mydocker(["copy", "--platform", "plan9/mips", &name, "oci:none"]);
    none.run().fails(125, &["no image for platform", "hint:"]);
    assert!(!env.folder().join("none").exists());
}

#[test]
fn blobs_are_mounted_within_a_registry_and_not_sent_twice() {
    require!(Tool("docker-registry"));
    let (env, registry) = (TestEnv::new(), Registry::writable());
    let layout = format!("oci:{}:latest", fixtures::path("layered").display());
    copy(&env, &layout, &registry.image("first")).success();
    let uploads = |registry: &Registry| {
        registry
            .requests()
            .iter()
            .filter(|r| r.method == "PATCH" || r.method == "PUT" && r.path.contains("/blobs/"))
            .count()
    };
    let before = uploads(&registry);
    let output = copy(&env, &registry.image("first"), &registry.image("second")).success();
    output.says("Mounted from first");
    let output = copy(&env, &registry.image("second"), &registry.image("second:other")).success();
    output.says("already exists");
    assert_eq!(uploads(&registry), before);
    assert!(!registry.requests().iter().any(super::support::registry::Request::is_blob));
}

#[test]
fn an_archive_of_docker_save() {
    require!(Root, Tool("docker-registry"), Tool("skopeo"), Tool("podman"));
    let (env, source, registry) = (TestEnv::new(), Registry::start(), Registry::writable());
    let name = source.image("busybox");
    copy(&env, &name, "docker-archive:saved.tar:org/bb:v1").success();
    let path = env.folder().join("saved.tar").display().to_string();
    let seen: Value = serde_json::from_str(
        &Cmd::new("skopeo").args(["inspect", "--config", &format!("docker-archive:{path}")]).ok(),
    )
    .unwrap();
    assert_eq!(seen["config"]["Cmd"], serde_json::json!(["sh"]));
    let podman = |args: &[&str]| {
        let (root, run) = (env.folder().join("podman/root"), env.folder().join("podman/run"));
        let cmd = Cmd::new("podman").env("HOME", env.folder().join("home")).timeout(120);
        cmd.arg("--root")
            .arg(root)
            .arg("--runroot")
            .arg(run)
            .args(["--storage-driver", "vfs"])
            .args(args)
            .ok()
    };
    assert!(podman(&["load", "--input", &path]).contains("org/bb:v1"));
    let id = podman(&["image", "inspect", "--format", "{{.Id}}", "org/bb:v1"]);
    // And back, packed as a whole.
    Cmd::new("gzip").arg(&path).ok();
    copy(&env, "docker-archive:saved.tar.gz:org/bb:v1", &registry.image("bb")).success();
    copy(&env, "docker-archive:saved.tar.gz", "oci:back").success();
    env.mydocker(["--no-sync", "pull", "--quiet", &registry.image("bb")]).ok();
    assert_eq!(env.mydocker(["run", "--rm", &registry.image("bb"), "echo", "back"]).ok(), "back\n");
    // The configuration is the image's id, and is the same all the way.
    let pulled = env.mydocker(["images", "--quiet", "--no-trunc"]).ok();
    assert_eq!(pulled.trim(), format!("sha256:{}", id.trim()));
    // An image without a name of its own has that of its source.
    env.mydocker(["copy", &registry.image("bb"), "docker-archive:named.tar"]).ok();
    let list =
        Cmd::new("tar").args(["-xOf", "named.tar", "manifest.json"]).current_dir(env.folder()).ok();
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list[0]["RepoTags"][0], format!("{}:latest", registry.image("bb")));
}

#[test]
fn a_layout_gets_another_image_and_keeps_those_it_has() {
    require!(Tool("skopeo"));
    let env = TestEnv::new();
    let layered = format!("oci:{}:latest", fixtures::path("layered").display());
    let busybox = format!("oci:{}:latest", fixtures::path("busybox").display());
    copy(&env, &layered, "oci:all:one").success();
    copy(&env, &busybox, "oci:all:two").success();
    let index = || -> Value {
        serde_json::from_slice(&fs::read(env.folder().join("all/index.json")).unwrap()).unwrap()
    };
    let all = index();
    assert_eq!(all["manifests"].as_array().unwrap().len(), 2);
    // The name goes to the new one, and nothing is copied that is there.
    copy(&env, &busybox, "oci:all:one").success().says("already exists");
    let digests: Vec<String> = index()["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["digest"].as_str().unwrap().to_owned())
        .collect();
    let expected = fixtures::digest("busybox", "latest");
    assert_eq!(digests, [expected.clone(), expected]);
    copy(&env, "oci:all:nosuch", "oci:other").fails(125, &["has no image `nosuch`"]);
    // Two names of one image are no question.
    copy(&env, "oci:all", "oci:other").success();
    copy(&env, &layered, "oci:all:three").success();
    copy(&env, "oci:all", "oci:third").fails(125, &["holds", "images"]);
    // A folder with something else in it is left alone.
    copy(&env, &busybox, "oci:home").success();
    fs::create_dir(env.folder().join("mine")).unwrap();
    fs::write(env.folder().join("mine/file"), "").unwrap();
    copy(&env, &busybox, "oci:mine").fails(125, &["something else"]);
    assert_eq!(names(&env.folder().join("mine")), ["file"]);
}

/// A copy of the layout `name` that a test may spoil.
fn spoilt(env: &TestEnv, name: &str) -> std::path::PathBuf {
    let path = env.folder().join("spoilt");
    Cmd::new("cp").arg("-r").arg(fixtures::path(name)).arg(&path).ok();
    path
}

fn layer(folder: &Path) -> std::path::PathBuf {
    folder.join("blobs").join(fixtures::layers("layered", "latest")[0].replacen(':', "/", 1))
}

/// Puts a small image called `app` into a registry, and returns the digest of its layer.
fn put_image(fake: &FakeRegistry) -> String {
    let config = fake.put_blob("app", b"{}".to_vec());
    let layer = fake.put_blob("app", b"layer".to_vec());
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{kind}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":2}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{layer}","size":5}}]}}"#
    );
    fake.put_manifest("app", "latest", kind, manifest.as_bytes());
    layer
}

#[test]
fn a_mirror_that_sends_other_bytes_is_dropped() {
    require!(Tool("docker-registry"));
    let (env, registry) = (TestEnv::new(), Registry::writable());
    let (origin, mirror) = (FakeRegistry::start(), FakeRegistry::start());
    let layer = put_image(&origin);
    put_image(&mirror);
    mirror.fault(&layer, 9, Fault::body("other"));
    let folder = env.folder().join("home/.config/containers");
    fs::create_dir_all(&folder).unwrap();
    let (from, lent) = (format!("{}/app", origin.host()), format!("{}/app", mirror.host()));
    let text = format!(
        "[[registry]]\nlocation = \"{from}\"\n[[registry.mirror]]\nlocation = \"{lent}\"\n"
    );
    fs::write(folder.join("registries.conf"), text).unwrap();
    for to in ["oci:layout", &registry.image("app")] {
        let output = copy(&env, &from, to).success();
        output.says(&lent);
    }
    assert!(origin.count("GET", &layer) >= 2, "{:?}", origin.log());
}

#[test]
fn what_is_not_as_its_digest_says_gets_no_name() {
    require!(Tool("docker-registry"));
    let (env, registry) = (TestEnv::new(), Registry::writable());
    let folder = spoilt(&env, "layered");
    let blob = layer(&folder);
    let mut bytes = fs::read(&blob).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&blob, bytes).unwrap();
    fs::write(env.folder().join("old.tar"), "old").unwrap();
    let image = registry.image("app");
    for to in ["oci:new", "oci-archive:old.tar", "docker-archive:old.tar", &image] {
        let output = copy(&env, "oci:spoilt:latest", to).exits(125);
        let words = output.stderr.to_lowercase();
        assert!(
            words.contains("mismatch") || words.contains("corrupt") || words.contains("gzip"),
            "{to}: {}",
            output.report()
        );
    }
    assert!(!env.folder().join("new/index.json").exists());
    assert_eq!(fs::read_to_string(env.folder().join("old.tar")).unwrap(), "old");
    env.mydocker(["tags", &image]).run().fails(125, &["unknown"]);
    assert!(
        !names(env.folder()).iter().any(|name| name.starts_with('.')),
        "{:?}",
        names(env.folder())
    );
    // From a registry that sends other bytes.
    let fake = FakeRegistry::start();
    let layer = put_image(&fake);
    let from = format!("{}/app", fake.host());
    for to in ["oci:lied", &registry.image("lied")] {
        fake.fault(&layer, 1, Fault::body("other"));
        copy(&env, &from, to).fails(125, &["digest mismatch"]);
    }
    // With the right ones it goes well, for the image is any that is whole.
    copy(&env, &from, "oci:right").success();
}

#[test]
fn layouts_that_lead_out_of_themselves() {
    let env = TestEnv::new();
    let folder = spoilt(&env, "layered");
    let blob = layer(&folder);
    let aside = env.folder().join("aside");
    fs::rename(&blob, &aside).unwrap();
    symlink(&aside, &blob).unwrap();
    copy(&env, "oci:spoilt:latest", "oci:new").fails(125, &["symbolic link"]);
    fs::remove_file(&blob).unwrap();
    nix::unistd::mkfifo(&blob, nix::sys::stat::Mode::S_IRWXU).unwrap();
    copy(&env, "oci:spoilt:latest", "oci:new").fails(125, &["not a file"]);
    let index = folder.join("index.json");
    fs::remove_file(&index).unwrap();
    symlink("/etc/passwd", &index).unwrap();
    copy(&env, "oci:spoilt:latest", "oci:new").fails(125, &["index.json"]);
    assert!(!env.folder().join("new/index.json").exists());
}

#[test]
fn places_that_are_none() {
    let env = TestEnv::new();
    let layout = format!("oci:{}:latest", fixtures::path("layered").display());
    copy(&env, "oci:nosuch", "oci:x").fails(125, &["open `nosuch`", "no such file"]);
    copy(&env, "oci-archive:nosuch.tar", "oci:x").fails(125, &["open `nosuch.tar`"]);
    copy(&env, &layout, "oci-archive:no/such/folder.tar")
        .fails(125, &["folder.tar", "no such file"]);
    copy(&env, "docker://A:B:C", "oci:x").fails(125, &["invalid reference"]);
    fs::write(env.folder().join("text"), "no archive").unwrap();
    copy(&env, "oci-archive:text", "oci:x").fails(125, &["text"]);
    copy(&env, "docker-archive:text", "oci:x").fails(125, &["text"]);
    let pinned = format!("127.0.0.1:1/x@sha256:{}", "0".repeat(64));
    copy(&env, &layout, &pinned).fails(125, &["digest mismatch"]);
}
