//! `mydocker push` to Debian's registry, and what skopeo and podman read back.

use std::fs;

use serde_json::Value;

use crate::support::command::Cmd;
use crate::support::env::TestEnv;
use crate::support::fixtures::{self, SECRET, USER};
use crate::support::pty::Pty;
use crate::support::registry::{Options, Registry};
use crate::support::require::Need::{Root, Tool};
use crate::support::token_server::{Asked, TokenServer};
use crate::support::user::{Allowed, User};

/// Makes the layout's image `name` one of the store's.
fn import(env: &TestEnv, layout: &str, name: &str) {
    let path = fixtures::path(layout);
    env.mydocker(["--no-sync", "import", "--quiet", "--name", name]).arg(path).ok();
}

/// What skopeo says of an image in a registry.
fn skopeo(image: &str) -> Value {
    let image = format!("docker://{image}");
    let text = Cmd::new("skopeo").args(["inspect", "--tls-verify=false", &image]).ok();
    serde_json::from_str(&text).unwrap()
}

/// The digest of the image that `name` is in the store.
fn stored_digest(env: &TestEnv, name: &str) -> String {
    let all: Value = serde_json::from_str(&env.mydocker(["inspect", name]).ok()).unwrap();
    all[0]["Descriptor"]["digest"].as_str().unwrap().to_owned()
}

#[test]
fn skopeo_reads_what_was_pushed() {
    require!(Root, Tool("docker-registry"), Tool("skopeo"));
    let (env, source, registry) = (TestEnv::new(), Registry::start(), Registry::writable());
    for (image, tag) in [("busybox:docker", "docker"), ("layered", "latest")] {
        let (from, to) = (source.image(image), registry.image(image));
        env.mydocker(["--no-sync", "pull", "--quiet", &from]).ok();
        let pushed = env.mydocker(["push", &from, &to]).run().success();
        let digest = stored_digest(&env, &from);
        let bytes = fs::metadata(env.root().join("blobs").join(digest.replacen(':', "/", 1)));
        let line = format!("{tag}: digest: {digest} size: {}\n", bytes.unwrap().len());
        let pushed = pushed.prints(&line).says("The push refers to repository [");
        assert!(pushed.stderr.contains(": Pushed\n"), "{}", pushed.report());
        let read = skopeo(&to);
        assert_eq!(read["Digest"], digest.as_str());
        if image == "layered" {
            let layers: Vec<&str> =
                read["Layers"].as_array().unwrap().iter().map(|l| l.as_str().unwrap()).collect();
            assert_eq!(layers, fixtures::layers("layered", "latest"));
            assert_eq!(digest, fixtures::digest("layered", "latest"));
        }
    }
}

#[test]
fn podman_runs_what_was_pushed() {
    require!(Root, Tool("docker-registry"), Tool("podman"));
    let (env, registry) = (TestEnv::with_busybox(), Registry::writable());
    let image = registry.image("org/busybox:v1");
    env.mydocker(["push", "--quiet", "busybox", &image])
        .run()
        .success()
        .prints(&format!("{image}\n"));
    let folder = env.folder();
    let podman = |args: &[&str]| {
        let (root, run) = (folder.join("podman/root"), folder.join("podman/run"));
        let cmd = Cmd::new("podman").env("HOME", folder.join("home")).timeout(120);
        cmd.arg("--root")
            .arg(root)
            .arg("--runroot")
            .arg(run)
            .args(["--storage-driver", "vfs"])
            .args(args)
    };
    podman(&["pull", "--quiet", "--tls-verify=false", &image]).ok();
    let digest = podman(&["image", "inspect", "--format", "{{.Digest}} {{.Id}}", &image]).ok();
    let id = env.mydocker(["images", "--quiet", "--no-trunc", "busybox"]).ok();
    let id = id.trim().trim_start_matches("sha256:");
    assert_eq!(digest.trim(), format!("{} {id}", stored_digest(&env, "busybox")));
}

#[test]
fn what_the_registry_has_is_not_sent_again() {
    require!(Root, Tool("docker-registry"));
    let (env, registry) = (TestEnv::new(), Registry::writable());
    import(&env, "layered", "layered");
    env.mydocker(["push", "layered", &registry.image("app:v1")]).ok();
    let sent = |registry: &Registry| {
        let requests = registry.requests();
        requests.iter().filter(|r| matches!(r.method.as_str(), "POST" | "PATCH")).count()
    };
    let before = sent(&registry);
    assert!(before > 0);
    let again = env.mydocker(["push", "layered", &registry.image("app:v2")]).run().success();
    assert_eq!(sent(&registry), before, "{:?}", registry.requests());
    again.says(": Layer already exists\n");
}

#[test]
fn blobs_of_another_repository_are_mounted() {
    require!(Root, Tool("docker-registry"));
    let (env, registry) = (TestEnv::new(), Registry::writable());
    import(&env, "layered", "layered");
    env.mydocker(["push", "layered", &registry.image("first/app")]).ok();
    let name = registry.image("first/app");
    env.mydocker(["--no-sync", "pull", "--quiet", &name]).ok();
    let output = env.mydocker(["push", &name, &registry.image("second/app")]).run().success();
    output.says(": Mounted from first/app\n");
    let requests = registry.requests();
    let mounts = requests.iter().filter(|r| r.path.contains("?mount=") && r.status == 201).count();
    assert_eq!(mounts, fixtures::layers("layered", "latest").len() + 1, "{requests:?}");
    assert!(!requests.iter().any(|r| r.method == "PATCH" && r.path.contains("second")));
}

#[test]
fn a_name_in_the_registry_is_pushed_there_and_comes_back() {
    require!(Root, Tool("docker-registry"));
    let (env, registry) = (TestEnv::with_busybox(), Registry::writable());
    let name = registry.image("org/app:v1");
    env.mydocker(["tag", "busybox", &name]).ok();
    env.mydocker(["push", &name]).ok();
    let other = TestEnv::new();
    other.mydocker(["--no-sync", "pull", "--quiet", &name]).ok();
    assert_eq!(stored_digest(&other, &name), stored_digest(&env, "busybox"));
    assert_eq!(other.mydocker(["run", "--rm", &name, "echo", "back"]).ok(), "back\n");
}

#[test]
fn a_password_is_asked_for_and_not_shown() {
    require!(Root, Tool("docker-registry"));
    let env = TestEnv::with_busybox();
    let registry = Registry::with(Options { basic_auth: true, ..Options::WRITABLE });
    let name = registry.image("app");
    let push = || env.mydocker(["--debug", "push", "busybox", &name]);
    push().run().fails(125, &["login", &name[..name.len() - 4], "hint:"]);
    let login = env.mydocker(["login", "-u", USER, "--password-stdin", &registry.host()]);
    login.input(SECRET).ok();
    let output = push().run().success();
    assert!(
        !output.stderr.contains(SECRET) && !output.stderr.contains("Basic "),
        "{}",
        output.report()
    );
}

#[test]
fn a_token_is_got_for_what_is_done() {
    require!(Root, Tool("docker-registry"), Tool("openssl"));
    let (env, tokens) = (TestEnv::with_busybox(), TokenServer::start(true));
    let registry = Registry::with_config(Options::WRITABLE, &tokens.registry_config());
    let (first, second) = (registry.image("first/app"), registry.image("second/app"));
    // Who has no name may read at most.
    env.mydocker(["push", "busybox", &first]).run().fails(125, &["login", "hint:"]);
    let login = ["login", "-u", USER, "--password-stdin", &registry.host()];
    env.mydocker(login).input(SECRET).ok();
    env.mydocker(["push", "busybox", &first]).ok();
    let scopes = tokens.asked().pop().unwrap().scopes;
    assert!(
        scopes
            .iter()
            .any(|scope| scope.starts_with("repository:first/app:") && scope.contains("push")),
        "{scopes:?}"
    );
    // A mount takes a right in both repositories, and one token for them.
    let output = env.mydocker(["copy", &first, &second]).run().success();
    output.says("Mounted from first/app");
    let both = |asked: &Asked| {
        let of = |name: &str| asked.scopes.iter().any(|scope| scope.contains(name));
        of("first/app") && of("second/app")
    };
    assert!(tokens.asked().iter().any(both), "{:?}", tokens.asked());
    // A wrong password is found out before it is kept.
    env.mydocker(login).input("wrong").run().fails(125, &["refuses"]);
    env.mydocker(["push", "busybox", &second]).ok();
}

#[test]
fn a_blocked_registry_is_not_pushed_to() {
    require!(Root, Tool("docker-registry"));
    let (env, registry) = (TestEnv::with_busybox(), Registry::writable());
    let folder = env.folder().join("home/.config/containers");
    fs::create_dir_all(&folder).unwrap();
    let text = format!("[[registry]]\nlocation = \"{}\"\nblocked = true\n", registry.image("no"));
    fs::write(folder.join("registries.conf"), text).unwrap();
    env.mydocker(["push", "busybox", &registry.image("no/app")]).run().fails(125, &["block"]);
    env.mydocker(["push", "busybox", &registry.image("yes/app")]).ok();
}

#[test]
fn what_cannot_be_pushed() {
    require!(Root, Tool("docker-registry"));
    let env = TestEnv::with_busybox();
    let digest = "0".repeat(64);
    env.mydocker(["push", "nosuch"]).run().fails(125, &["push nosuch", "no such image"]);
    let id = env.mydocker(["images", "--quiet"]).ok();
    env.mydocker(["push", id.trim()]).run().fails(125, &["not the image's name", "hint:"]);
    let pinned = format!("127.0.0.1:1/app@sha256:{digest}");
    env.mydocker(["push", "busybox", &pinned]).run().fails(125, &["digest"]);
    env.mydocker(["push", "busybox", "A:B:C"]).run().fails(125, &["invalid reference"]);
    // What may only be read.
    let registry = Registry::start();
    let output = env.mydocker(["push", "busybox", &registry.image("new")]).run();
    output.fails(125, &["push busybox", &registry.host(), "405"]);
}

#[test]
fn a_blob_that_has_rotted_is_not_pushed() {
    require!(Root, Tool("docker-registry"));
    let (env, registry) = (TestEnv::with_busybox(), Registry::writable());
    let all: Value = serde_json::from_str(&env.mydocker(["inspect", "busybox"]).ok()).unwrap();
    let layer = all[0]["Manifest"]["layers"][0]["digest"].as_str().unwrap().to_owned();
    let path = env.root().join("blobs").join(layer.replacen(':', "/", 1));
    let mut bytes = fs::read(&path).unwrap();
    bytes[1000] ^= 1;
    fs::write(&path, bytes).unwrap();
    let output = env.mydocker(["push", "busybox", &registry.image("app")]).run();
    output.fails(125, &["digest mismatch", &layer]);
    let committed =
        |r: &crate::support::registry::Request| r.method == "PUT" && r.path.contains("/manifests/");
    assert!(!registry.requests().iter().any(committed));
}

#[test]
fn a_terminal_shows_progress() {
    require!(Root, Tool("docker-registry"));
    let (env, registry) = (TestEnv::with_busybox(), Registry::writable());
    let mut pty = Pty::start(env.mydocker(["push", "busybox", &registry.image("app")]), 24, 100);
    pty.expect("The push refers to repository [");
    pty.expect("Pushed");
    pty.expect("latest: digest: sha256:");
    assert_eq!(pty.finish(), 0);
    assert_eq!(pty.settings(), Pty::usual_settings());
}

#[test]
fn an_ordinary_user_tags_and_pushes() {
    require!(Root, Tool("docker-registry"), Tool("setpriv"));
    let (env, registry) = (TestEnv::new(), Registry::writable());
    let user = User::new(&env, Allowed::OneId);
    let name = registry.image("app:v1");
    user.mydocker(["--no-sync", "import", "--quiet"]).arg(fixtures::path("busybox.tar")).ok();
    user.mydocker(["tag", "busybox", &name]).ok();
    user.mydocker(["push", "--quiet", &name]).run().success().prints(&format!("{name}\n"));
    user.mydocker(["rmi", &name]).ok();
    user.mydocker(["--no-sync", "pull", "--quiet", &name]).ok();
    user.mydocker(["copy", "--quiet", &name, "oci:layout"]).current_dir(user.root()).ok();
}
