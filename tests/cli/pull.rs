//! `mydocker pull` from a registry that anybody may read.

use crate::support::command::{Cmd, Running};
use crate::support::env::{TestEnv, names};
use crate::support::fixtures;
use crate::support::registry::{Registry, Request};
use crate::support::require::Need::{Root, Tool};

fn blobs(requests: &[Request], digest: &str) -> usize {
    requests.iter().filter(|request| request.is_blob() && request.path.contains(digest)).count()
}

#[test]
fn an_image_comes_by_http() {
    require!(Root, Tool("docker-registry"));
    let (env, registry) = (TestEnv::new(), Registry::start());
    let name = registry.image("busybox");
    env.mydocker(["pull", &name]).run().success().prints(&format!("{name}:latest\n"));
    assert!(env.rootfs(&name).join("bin/busybox").is_file());
    assert_eq!(env.json(&["images"]).len(), 1);
    env.assert_no_rubbish();
}

#[test]
fn an_image_of_dockers_schema_2() {
    require!(Root, Tool("docker-registry"));
    let (env, registry) = (TestEnv::new(), Registry::start());
    let name = registry.image("busybox:docker");
    env.mydocker(["pull", &name]).ok();
    let inspected = env.mydocker(["inspect", &name]).ok();
    assert!(inspected.contains("vnd.docker.distribution.manifest.v2+json"), "{inspected}");
    assert!(env.rootfs(&name).join("bin/sh").is_symlink());
}

#[test]
fn by_digest() {
    require!(Root, Tool("docker-registry"));
    let (env, registry) = (TestEnv::new(), Registry::start());
    let digest = fixtures::digest("busybox", "latest");
    let name = format!("{}@{digest}", registry.image("busybox"));
    env.mydocker(["pull", &name]).ok();
    assert_eq!(env.json(&["images"])[0]["Digest"], digest);
    env.mydocker(["run", "--rm", &name, "true"]).ok();
}

#[test]
fn the_manifest_is_stored_byte_for_byte() {
    require!(Root, Tool("docker-registry"));
    let (env, registry) = (TestEnv::new(), Registry::start());
    env.mydocker(["pull", "--quiet", &registry.image("layered")]).ok();
    let mut digests = fixtures::layers("layered", "latest");
    digests.push(fixtures::digest("layered", "latest"));
    for digest in digests {
        let path = format!("blobs/{}", digest.replacen(':', "/", 1));
        let stored = std::fs::read(env.root().join(&path)).unwrap();
        assert!(
            stored == std::fs::read(fixtures::path("layered").join(&path)).unwrap(),
            "{digest}"
        );
    }
}

#[test]
fn nothing_is_downloaded_twice() {
    require!(Root, Tool("docker-registry"));
    let (env, registry) = (TestEnv::new(), Registry::start());
    let name = registry.image("layered");
    env.mydocker(["pull", &name]).run().success().says("Downloaded newer image");
    let (store, before) = (env.store(), registry.requests().len());
    env.mydocker(["pull", &name]).run().success().says("up to date");
    let later = &registry.requests()[before..];
    assert!(later.iter().all(|request| !request.is_blob()), "{later:?}");
    assert!(later.iter().any(|request| request.path.contains("/manifests/")), "{later:?}");
    store.assert_same(&env.store());
}

#[test]
fn a_layer_that_another_image_has_is_not_downloaded_again() {
    require!(Root, Tool("docker-registry"));
    let (env, registry) = (TestEnv::new(), Registry::start());
    env.mydocker(["pull", &registry.image("variants:v1")]).ok();
    env.mydocker(["pull", &registry.image("variants:v2")]).ok();
    let requests = registry.requests();
    for (tag, times) in [("v1", [1, 1]), ("v2", [1, 1])] {
        let layers = fixtures::layers("variants", tag);
        assert_eq!([blobs(&requests, &layers[0]), blobs(&requests, &layers[1])], times, "{tag}");
    }
}

#[test]
fn this_machines_platform_is_found_in_a_nested_index_behind_an_attestation() {
    require!(Root, Tool("docker-registry"));
    let (env, registry) = (TestEnv::new(), Registry::start());
    let name = registry.image("platforms:oci");
    env.mydocker(["pull", &name]).ok();
    let platform = std::fs::read_to_string(env.rootfs(&name).join("platform")).unwrap();
    assert_eq!(platform, format!("linux/{}\n", fixtures::architecture()));
}

#[test]
fn this_machines_platform_is_found_in_dockers_manifest_list() {
    require!(Root, Tool("docker-registry"));
    let (env, registry) = (TestEnv::new(), Registry::start());
    let name = registry.image("platforms:docker");
    env.mydocker(["pull", &name]).ok();
    let platform = std::fs::read_to_string(env.rootfs(&name).join("platform")).unwrap();
    assert_eq!(platform, format!("linux/{}\n", fixtures::architecture()));
}

#[test]
fn another_platform_is_chosen_with_its_variant() {
    require!(Root, Tool("docker-registry"));
    let (env, registry) = (TestEnv::new(), Registry::start());
    let name = registry.image("platforms:oci");
    for platform in ["linux/arm/v7", "linux/arm/v6", "linux/s390x"] {
        env.mydocker(["pull", "--platform", platform, &name]).ok();
        let found = std::fs::read_to_string(env.rootfs(&name).join("platform")).unwrap();
        assert_eq!(found, format!("{platform}\n"));
    }
    assert_eq!(env.json(&["images", &name]).len(), 1);
}

#[test]
fn a_platform_that_is_not_on_offer() {
    require!(Root, Tool("docker-registry"));
    let (env, registry) = (TestEnv::new(), Registry::start());
    let name = registry.image("platforms:docker");
    let cmd = env.mydocker(["pull", "--platform", "linux/riscv64", &name]);
    env.assert_refused(cmd, 125, &["linux/riscv64", "linux/arm/v7", "linux/s390x"]);
}

#[test]
fn quiet_means_the_name_alone() {
    require!(Root, Tool("docker-registry"));
    let (env, registry) = (TestEnv::new(), Registry::start());
    let name = registry.image("busybox");
    let output = env.mydocker(["pull", "--quiet", &name]).run().success();
    assert_eq!((&*output.stdout, &*output.stderr), (&*format!("{name}:latest\n"), ""));
}

#[test]
fn progress_is_plain_lines_where_there_is_no_terminal() {
    require!(Root, Tool("docker-registry"));
    let (env, registry) = (TestEnv::new(), Registry::start());
    let output = env.mydocker(["pull", &registry.image("layered")]).run().success();
    assert!(!output.stderr.contains(['\r', '\x1b']), "{}", output.report());
    assert!(output.stderr.contains(&fixtures::digest("layered", "latest")), "{}", output.report());
}

#[test]
fn progress_is_bars_on_a_terminal() {
    use crate::support::pty::Pty;
    require!(Root, Tool("docker-registry"));
    let (env, registry) = (TestEnv::new(), Registry::start());
    let mut pty = Pty::start(env.mydocker(["pull", &registry.image("layered")]), 24, 100);
    assert_eq!(pty.finish(), 0, "{}", pty.transcript());
    pty.expect("\x1b[");
    pty.expect("Downloaded newer image");
}

#[test]
fn a_terminal_that_knows_no_control_codes_gets_plain_lines() {
    use crate::support::pty::Pty;
    require!(Root, Tool("docker-registry"));
    let (env, registry) = (TestEnv::new(), Registry::start());
    let cmd = env.mydocker(["pull", &registry.image("layered")]).env("TERM", "dumb");
    let mut pty = Pty::start(cmd, 24, 100);
    assert_eq!(pty.finish(), 0, "{}", pty.transcript());
    pty.expect("Downloaded newer image");
    assert!(!pty.transcript().contains('\x1b'), "{}", pty.transcript());
}

#[test]
fn eight_pulls_of_the_same_image_at_once() {
    require!(Root, Tool("docker-registry"));
    let (env, registry) = (TestEnv::new(), Registry::start());
    let name = registry.image("layered");
    let pulls: Vec<Running> = (0..8).map(|_| env.mydocker(["pull", &name]).start()).collect();
    for pull in pulls {
        pull.finish().success();
    }
    assert_eq!(names(&env.root().join("trees")).len(), 1);
    assert_eq!(env.json(&["images"]).len(), 1);
    env.assert_no_rubbish();
    let alone = TestEnv::new();
    alone.mydocker(["pull", &name]).ok();
    let tree =
        |env: &TestEnv| crate::support::tree::read(&env.rootfs(&name).canonicalize().unwrap());
    tree(&alone).assert_same(&tree(&env));
}

#[test]
fn eight_pulls_of_different_images_at_once() {
    require!(Root, Tool("docker-registry"));
    let (env, registry) = (TestEnv::new(), Registry::start());
    let images: Vec<String> = (1..=8).map(|n| registry.image(&format!("variants:v{n}"))).collect();
    let pulls: Vec<Running> =
        images.iter().map(|name| env.mydocker(["pull", name]).start()).collect();
    for pull in pulls {
        pull.finish().success();
    }
    assert_eq!(env.json(&["images"]).len(), 8);
    env.assert_no_rubbish();
    for name in &images {
        env.mydocker(["run", "--rm", name, "test", "-s", "/variant"]).ok();
    }
}

#[test]
fn a_tag_that_moved_is_pulled_anew() {
    require!(Root, Tool("docker-registry"), Tool("skopeo"));
    let (env, registry) = (TestEnv::new(), Registry::start());
    // The same name, first with another image behind it.
    let name = registry.image("variants:v1");
    env.mydocker(["import", "--name", &name]).arg(fixtures::path("busybox.tar")).ok();
    env.mydocker(["pull", &name]).run().success().says("Downloaded newer image");
    assert!(env.rootfs(&name).join("variant").is_file());
    assert_eq!(env.json(&["images", &name]).len(), 1);
}

#[test]
fn a_whole_debian() {
    use crate::support::require::Need::Debian;
    require!(Root, Tool("docker-registry"), Debian);
    let (env, registry) = (TestEnv::new(), Registry::start());
    let name = registry.image("debian");
    env.mydocker(["pull", "--quiet", &name]).timeout(120).ok();
    let output = env.run(&[&name, "dpkg", "--audit"]);
    output.success().prints("");
}

#[test]
fn skopeo_reads_the_store_as_it_lies() {
    require!(Root, Tool("docker-registry"), Tool("skopeo"));
    let (env, registry) = (TestEnv::new(), Registry::start());
    env.mydocker(["pull", &registry.image("layered")]).ok();
    env.mydocker(["import"]).arg(fixtures::path("busybox.tar")).ok();
    let (root, copy) = (env.root().display(), env.folder().join("copy"));
    for name in ["busybox", &registry.image("layered")] {
        let inspected = Cmd::new("skopeo").arg("inspect").arg(format!("oci:{root}:{name}")).ok();
        assert!(inspected.contains("\"Os\": \"linux\""), "{inspected}");
        let target = format!("oci:{}:copied", copy.display());
        let source = format!("oci:{root}:{name}");
        Cmd::new("skopeo").args(["--insecure-policy", "copy", "--quiet", &source, &target]).ok();
    }
}

#[test]
fn the_registry_is_asked_once_what_a_name_stands_for() {
    require!(Root, Tool("docker-registry"), Tool("skopeo"));
    let (env, registry) = (TestEnv::new(), Registry::writable());
    let name = registry.image("app:1");
    let asked = || {
        let requests = registry.requests();
        let is_question =
            |request: &&Request| request.method == "HEAD" && request.path.contains("/manifests/");
        requests.iter().filter(is_question).count()
    };
    let mut last = String::new();
    for layout in ["busybox", "layered"] {
        let source = format!("oci:{}:latest", fixtures::path(layout).display());
        let copy = ["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false", &source];
        Cmd::new("skopeo").args(copy).arg(format!("docker://{name}")).ok();
        let before = asked();
        env.mydocker(["--no-sync", "pull", "--quiet", &name]).ok();
        // The first time there is nothing that it could be compared with.
        assert_eq!(asked() - before, usize::from(layout == "layered"));
        let id = env.mydocker(["images", "-q", "--no-trunc", &name]).ok();
        assert_ne!(id, last);
        last = id;
    }
}
