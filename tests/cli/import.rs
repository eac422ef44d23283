//! `mydocker import`: every form, packed in every way.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::made::{noise, tar_of};
use crate::support::command::Cmd;
use crate::support::env::{TestEnv, temporary_folder};
use crate::support::fixtures;
use crate::support::mounted::Mounted;
use crate::support::require::Need::{Root, Tool};
use crate::support::tree;

/// The programs that pack, and the endings that they give.
const PACKERS: [(&str, &str); 4] =
    [("gzip", "gz"), ("zstd", "zst"), ("xz", "xz"), ("bzip2", "bz2")];

/// Imports `archive` as it is and packed in every way, and sees that the image works.
fn import_packed_and_not(archive: &Path) {
    import_and_run(archive);
    for (packer, ending) in PACKERS {
        let packed = archive.with_file_name(format!("packed.{ending}"));
        let script = format!("{packer} -c '{}' >'{}'", archive.display(), packed.display());
        Cmd::new("sh").args(["-c", &script]).ok();
        import_and_run(&packed);
    }
}

fn import_and_run(input: &Path) {
    let env = TestEnv::new();
    env.mydocker(["import", "--name", "imported"]).arg(input).ok();
    let output = env.run(&["imported", "sh", "-c", "echo works"]);
    output.success().prints("works\n");
    env.assert_no_rubbish();
}

/// Copies the busybox layout into another form with skopeo.
fn archive(env: &TestEnv, transport: &str, name: &str) -> PathBuf {
    let path = env.folder().join("archive.tar");
    let source = format!("oci:{}:latest", fixtures::path("busybox").display());
    let target = format!("{transport}:{}:{name}", path.display());
    Cmd::new("skopeo").args(["--insecure-policy", "copy", "--quiet", &source, &target]).ok();
    path
}

#[test]
fn a_root_filesystem_gets_the_files_name() {
    require!(Root);
    let env = TestEnv::new();
    let output = env.mydocker(["import"]).arg(fixtures::path("busybox.tar")).run().success();
    assert!(output.stdout.starts_with("sha256:"), "{}", output.report());
    assert_eq!(env.json(&["images"])[0]["Repository"], "busybox");
    assert!(env.rootfs("busybox").join("bin/busybox").is_file());
    env.assert_no_rubbish();
}

#[test]
fn a_root_filesystem_in_every_packing() {
    require!(Root, Tool("zstd"), Tool("xz"), Tool("bzip2"));
    let env = TestEnv::new();
    let tar = env.folder().join("root.tar");
    fs::copy(fixtures::path("busybox.tar"), &tar).unwrap();
    import_packed_and_not(&tar);
}

#[test]
fn an_archive_of_docker_save_in_every_packing() {
    require!(Root, Tool("skopeo"), Tool("zstd"), Tool("xz"), Tool("bzip2"));
    let env = TestEnv::new();
    import_packed_and_not(&archive(&env, "docker-archive", "some/name:1"));
}

#[test]
fn an_oci_archive_in_every_packing() {
    require!(Root, Tool("skopeo"), Tool("zstd"), Tool("xz"), Tool("bzip2"));
    let env = TestEnv::new();
    import_packed_and_not(&archive(&env, "oci-archive", "name"));
}

#[test]
fn an_oci_layout() {
    require!(Root);
    import_and_run(&fixtures::path("busybox"));
}

#[test]
fn a_plain_folder() {
    require!(Root);
    let env = TestEnv::new();
    let folder = env.folder().join("busybox");
    fs::create_dir(&folder).unwrap();
    Cmd::new("tar").arg("-xf").arg(fixtures::path("busybox.tar")).arg("-C").arg(&folder).ok();
    import_and_run(&folder);
    env.mydocker(["import"]).arg(&folder).ok();
    tree::read(&folder).assert_same(&tree::read(&env.rootfs("busybox").canonicalize().unwrap()));
}

#[test]
fn standard_input() {
    require!(Root);
    let env = TestEnv::new();
    let tar = fs::read(fixtures::path("busybox.tar")).unwrap();
    env.mydocker(["import", "--name", "piped", "-"]).input(tar).ok();
    env.run(&["piped", "true"]).success();
}

#[test]
fn standard_input_without_a_name() {
    require!(Root);
    let env = TestEnv::new();
    let tar = fs::read(fixtures::path("busybox.tar")).unwrap();
    let cmd = env.mydocker(["import", "-"]).input(tar);
    env.assert_refused(cmd, 125, &["name", "--name"]);
}

#[test]
fn the_name_in_an_archive_of_docker_save() {
    require!(Root, Tool("skopeo"));
    let env = TestEnv::new();
    let path = archive(&env, "docker-archive", "some/name:1");
    env.mydocker(["import"]).arg(path).ok();
    let images = env.json(&["images"]);
    assert_eq!((&images[0]["Repository"], &images[0]["Tag"]), (&"some/name".into(), &"1".into()));
}

#[test]
fn an_archive_does_not_take_the_name_of_another_image() {
    require!(Root, Tool("skopeo"));
    let env = TestEnv::new();
    let path = archive(&env, "docker-archive", "precious:latest");
    let other = fixtures::path("layered");
    env.mydocker(["import", "--name", "precious"]).arg(other).ok();
    env.assert_refused(env.mydocker(["import"]).arg(path), 125, &["precious", "--name"]);
}

#[test]
fn twice_is_once() {
    require!(Root);
    let env = TestEnv::new();
    for _ in 0..2 {
        env.mydocker(["import", "--name", "twice"]).arg(fixtures::path("busybox")).ok();
    }
    assert_eq!(env.json(&["images"]).len(), 1);
    assert_eq!(crate::support::env::names(&env.root().join("trees")).len(), 1);
}

#[test]
fn the_images_config_is_kept() {
    require!(Root);
    let env = TestEnv::new();
    env.mydocker(["import", "--name", "layout"]).arg(fixtures::path("busybox")).ok();
    let config = &env.json(&["inspect", "layout"])[0]["Config"];
    assert_eq!(config["Cmd"], serde_json::json!(["sh"]));
}

#[test]
fn what_is_no_archive() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let path = env.folder().join("nonsense.tar");
    for content in ["", "not a tar", &"x".repeat(100_000)] {
        fs::write(&path, content).unwrap();
        env.assert_refused(env.mydocker(["import"]).arg(&path), 125, &["nonsense.tar"]);
    }
}

#[test]
fn an_archive_that_is_cut_off() {
    require!(Root, Tool("zstd"), Tool("xz"), Tool("bzip2"));
    let env = TestEnv::with_busybox();
    let tar = fixtures::path("busybox.tar");
    for (packer, ending) in [("cat", "tar")].into_iter().chain(PACKERS) {
        let path = env.folder().join(format!("cut.{ending}"));
        let script =
            format!("{packer} <'{}' | head -c 200000 >'{}'", tar.display(), path.display());
        Cmd::new("sh").args(["-c", &script]).ok();
        env.assert_refused(env.mydocker(["import"]).arg(&path), 125, &["cut."]);
    }
}

#[test]
fn a_file_that_is_not_there() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let cmd = env.mydocker(["import", "/no/such/file.tar"]);
    env.assert_refused(cmd, 125, &["/no/such/file.tar", "no such file"]);
}

#[test]
fn a_layer_that_is_not_what_its_image_says() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let layout = env.folder().join("layout");
    Cmd::new("cp").arg("-r").arg(fixtures::path("busybox")).arg(&layout).ok();
    let layer = fixtures::layers("busybox", "latest").remove(0).replacen(':', "/", 1);
    let layer = layout.join("blobs").join(layer);
    let mut bytes = fs::read(&layer).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&layer, bytes).unwrap();
    let cmd = env.mydocker(["import", "--name", "spoilt"]).arg(&layout);
    env.assert_refused(cmd, 125, &["sha256:"]);
}

/// Imports an uncompressed archive into `env`'s store, and compares its layer there.
fn assert_copied(env: &TestEnv) {
    let tar = tar_of(&[("bin/sh", b"x".as_slice()), ("noise", &noise(3_000_001))]);
    assert_ne!(tar.len() % 4096, 0, "the end is to be one that O_DIRECT cannot write");
    let path = env.folder().join("root.tar");
    fs::write(&path, &tar).unwrap();
    env.mydocker(["import"]).arg(&path).ok();
    let copies = fs::read_dir(env.root().join("blobs/sha256")).unwrap();
    assert!(copies.into_iter().any(|blob| fs::read(blob.unwrap().path()).unwrap() == tar));
    env.mydocker(["verify", "--deep"]).ok();
}

#[test]
fn the_layer_of_an_uncompressed_archive_is_the_archive() {
    require!(Root);
    assert_copied(&TestEnv::new());
}

#[test]
fn an_uncompressed_archive_on_a_file_system_that_writes_through_the_page_cache_only() {
    require!(Root);
    let folder = temporary_folder();
    let _ramfs = Mounted::new(&["-t", "ramfs", "none"], &folder);
    assert_copied(&TestEnv::with_root(&folder.join("store")));
}

/// CVE-2026-26960 and others: a hard link whose target is looked for where the caller stands.
#[test]
fn a_hard_link_does_not_name_files_of_the_folder_that_one_is_in() {
    require!(Root);
    let env = TestEnv::new();
    let canary = env.folder().join("canary");
    fs::create_dir(&canary).unwrap();
    fs::write(canary.join("f"), "secret").unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Link);
    header.set_size(0);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_link(&mut header, "etc/stolen", "f").unwrap();
    let path = env.folder().join("root.tar");
    fs::write(&path, archive.into_inner().unwrap()).unwrap();
    let cmd = env.mydocker(["import"]).arg(&path).current_dir(&canary);
    env.assert_refused(cmd, 125, &["no such file in this layer or below"]);
    assert_eq!(fs::metadata(canary.join("f")).unwrap().nlink(), 1);
}
