//! Debian's docker-registry in all the ways in which people run it: behind a token service, with client certificates,
//! as a mirror; and what the configuration makes of it.

use std::fs;
use std::path::PathBuf;

use base64::Engine as _;

use crate::support::command::{Cmd, Running};
use crate::support::env::{TestEnv, names};
use crate::support::fixtures::{self, SECRET, USER};
use crate::support::registry::{Options, Registry};
use crate::support::require::Need::{Root, Tool};
use crate::support::token_server::{Asked, REFRESH_TOKEN, TokenServer};

const TLS: Options = Options { tls: true, ..Options::PLAIN };

fn write(env: &TestEnv, path: &str, text: &str) -> PathBuf {
    let path = env.folder().join("home").join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    path
}

fn pull(env: &TestEnv, name: &str) -> Cmd {
    env.mydocker(["--no-sync", "pull", name])
}

/// Writes one entry of docker's configuration.
fn credentials(env: &TestEnv, host: &str, entry: &str) {
    write(env, ".docker/config.json", &format!(r#"{{"auths":{{"{host}":{{{entry}}}}}}}"#));
}

fn basic(user: &str, password: &str) -> String {
    let auth = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    format!(r#""auth":"{auth}""#)
}

fn behind(tokens: &TokenServer) -> Registry {
    Registry::with_config(Options::PLAIN, &tokens.registry_config())
}

#[test]
fn a_token_for_everybody() {
    require!(Root, Tool("docker-registry"), Tool("openssl"));
    let (env, tokens) = (TestEnv::new(), TokenServer::start(true));
    let registry = behind(&tokens);
    pull(&env, &registry.image("layered")).ok();
    // One is enough for the manifest and every layer.
    let scopes = vec!["repository:layered:pull".to_owned()];
    let expected = Asked { method: "GET".into(), scopes, given_to: Some(String::new()) };
    assert_eq!(tokens.asked(), [expected]);
}

#[test]
fn a_token_for_a_password() {
    require!(Root, Tool("docker-registry"), Tool("openssl"));
    let (env, tokens) = (TestEnv::new(), TokenServer::start(false));
    let registry = behind(&tokens);
    let name = registry.image("busybox");
    env.assert_refused(pull(&env, &name), 125, &["needs a login", "hint:"]);
    credentials(&env, &registry.host(), &basic(USER, "wrong secret"));
    let output = env.assert_refused(pull(&env, &name), 125, &["refused", "config.json"]);
    assert!(!output.stderr.contains("wrong secret"), "{}", output.report());
    credentials(&env, &registry.host(), &basic(USER, SECRET));
    pull(&env, &name).ok();
    assert_eq!(tokens.asked().pop().unwrap().given_to.as_deref(), Some(USER));
}

#[test]
fn a_token_for_a_refresh_token() {
    require!(Root, Tool("docker-registry"), Tool("openssl"));
    let (env, tokens) = (TestEnv::new(), TokenServer::start(false));
    let registry = behind(&tokens);
    let entry = format!(r#""auth":"{}","identitytoken":"{REFRESH_TOKEN}""#, "MDAwMDo=");
    credentials(&env, &registry.host(), &entry);
    pull(&env, &registry.image("busybox")).ok();
    let asked = tokens.asked();
    assert!(asked.len() == 1 && asked[0].method == "POST", "{asked:?}");
    // The token goes into no log.
    let output = env.mydocker(["--debug", "pull", &registry.image("layered")]).run().success();
    for secret in [REFRESH_TOKEN, "refresh%20", "refresh+", "eyJ"] {
        assert!(!output.stderr.contains(secret), "{}", output.report());
    }
}

#[test]
fn our_own_certificate_where_one_is_wanted() {
    require!(Root, Tool("docker-registry"), Tool("openssl"));
    let env = TestEnv::new();
    let registry = Registry::with(Options { client_certificates: true, ..TLS });
    let name = registry.image("busybox");
    let folder = format!(".config/containers/certs.d/{}", registry.host());
    let ca = fs::read_to_string(fixtures::path("tls/ca.crt")).unwrap();
    let ca = write(&env, &format!("{folder}/ca.crt"), &ca);
    env.assert_refused(pull(&env, &name), 125, &[&registry.host()]);
    let at = |name: &str| ca.with_file_name(name);
    let openssl = || Cmd::new("openssl");
    openssl()
        .args(["req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=client", "-keyout"])
        .arg(at("client.key"))
        .arg("-out")
        .arg(env.folder().join("csr"))
        .ok();
    openssl()
        .args(["x509", "-req", "-days", "2", "-set_serial", "7", "-in"])
        .arg(env.folder().join("csr"))
        .arg("-CA")
        .arg(&ca)
        .arg("-CAkey")
        .arg(fixtures::path("tls/ca.key"))
        .arg("-out")
        .arg(at("client.cert"))
        .ok();
    pull(&env, &name).ok();
}

#[test]
fn documents_come_by_http_2_and_blobs_each_over_their_own_connection() {
    require!(Root, Tool("docker-registry"));
    let (env, registry) = (TestEnv::new(), Registry::with(TLS));
    pull(&env, &registry.image("layered")).env("SSL_CERT_FILE", fixtures::path("tls/ca.crt")).ok();
    let requests = registry.requests();
    let (blobs, documents): (Vec<_>, Vec<_>) = requests.iter().partition(|r| r.is_blob());
    assert!(documents.iter().any(|r| r.path.contains("/manifests/") && r.protocol == "HTTP/2.0"));
    assert!(!blobs.is_empty() && blobs.iter().all(|r| r.protocol == "HTTP/1.1"), "{blobs:?}");
}

#[test]
fn no_manifest_is_fetched_twice() {
    require!(Root, Tool("docker-registry"));
    let (env, registry) = (TestEnv::new(), Registry::start());
    let fetched = |path: &str| {
        let requests = registry.requests();
        requests.iter().filter(|r| r.method == "GET" && r.path.contains(path)).count()
    };
    pull(&env, &registry.image("platforms:oci")).ok();
    let paths: Vec<String> = registry.requests().iter().map(|r| r.path.clone()).collect();
    for path in &paths {
        assert_eq!(fetched(path), usize::from(path != "/"), "{path}: {paths:?}");
    }
    // Under another name: the digest is asked for, and nothing is fetched that is here.
    let digest = fixtures::digest("busybox", "latest");
    pull(&env, &registry.image("busybox")).ok();
    let before = fetched("/v2/");
    pull(&env, &registry.image(&format!("busybox@{digest}"))).ok();
    assert_eq!(fetched("/v2/"), before);
}

#[test]
fn a_pull_through_mirror() {
    require!(Root, Tool("docker-registry"));
    let origin = Registry::start();
    let mirror = Registry::mirror_of(&origin);
    let config = format!(
        "[[registries.registry]]\nlocation = '{}'\n[[registries.registry.mirror]]\nlocation = '{}'\n",
        origin.host(),
        mirror.host()
    );
    let name = origin.image("layered");
    for round in 0..2 {
        let env = TestEnv::new();
        write(&env, ".config/mydocker/config.toml", &config);
        pull(&env, &name).run().success().prints(&format!("{name}:latest\n"));
        assert!(env.rootfs(&name).join("etc/last").is_file());
        env.assert_no_rubbish();
        assert!(mirror.requests().iter().any(|request| request.is_blob()), "{round}");
    }
    // Nobody but the mirror has asked the origin.
    let requests = origin.requests();
    assert!(requests.iter().all(|r| !r.agent.starts_with("mydocker/")), "{requests:?}");
    // A mirror that is gone is no reason to fail.
    drop(mirror);
    let env = TestEnv::new();
    write(&env, ".config/mydocker/config.toml", &config);
    pull(&env, &name).ok();
}

#[test]
fn a_mirror_that_lies_is_named_and_the_image_comes_all_the_same() {
    use crate::fake_registry::FakeRegistry;
    require!(Root, Tool("docker-registry"));
    let (env, origin) = (TestEnv::new(), Registry::start());
    let liar = FakeRegistry::start();
    let name = origin.image("layered");
    let layers = fixtures::layers("layered", "latest");
    for (at, layer) in layers.iter().enumerate() {
        let path = format!("blobs/{}", layer.replacen(':', "/", 1));
        let mut bytes = fs::read(fixtures::path("layered").join(path)).unwrap();
        let middle = bytes.len() / 2;
        if at == 1 {
            bytes[middle] ^= 1;
        }
        liar.put(&format!("/v2/layered/blobs/{layer}"), "application/octet-stream", bytes);
    }
    let digest = fixtures::digest("layered", "latest");
    let manifest =
        fixtures::path("layered").join(format!("blobs/{}", digest.replacen(':', "/", 1)));
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = fs::read(manifest).unwrap();
    liar.put_manifest("layered", "latest", kind, &manifest);
    let config: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let config = config["config"]["digest"].as_str().unwrap();
    let bytes = fixtures::path("layered").join(format!("blobs/{}", config.replacen(':', "/", 1)));
    liar.put_blob("layered", fs::read(bytes).unwrap());
    // As podman's users have it.
    let config = format!(
        "[[registry]]\nlocation = '{}'\n[[registry.mirror]]\nlocation = '{}'\n",
        origin.host(),
        liar.host()
    );
    write(&env, ".config/containers/registries.conf", &config);
    let output = pull(&env, &name).run().success();
    let warning = format!("mirror `{}/layered` is no longer asked", liar.host());
    assert_eq!(output.stderr.matches(&warning).count(), 1, "{}", output.report());
    assert!(output.stderr.contains("digest mismatch"), "{}", output.report());
    assert_eq!(env.json(&["images"])[0]["Digest"], digest);
    env.assert_no_rubbish();
    env.mydocker(["run", "--rm", &name, "true"]).run();
    let alone = TestEnv::new();
    pull(&alone, &name).ok();
    let tree =
        |env: &TestEnv| crate::support::tree::read(&env.rootfs(&name).canonicalize().unwrap());
    tree(&alone).assert_same(&tree(&env));
}

#[test]
fn a_registry_that_the_configuration_blocks() {
    require!(Root, Tool("docker-registry"));
    let (env, registry) = (TestEnv::with_busybox(), Registry::start());
    let config = format!("[[registry]]\nlocation = '{}'\nblocked = true\n", registry.host());
    let file = write(&env, ".config/containers/registries.conf", &config);
    let cmd = pull(&env, &registry.image("layered"));
    env.assert_refused(cmd, 125, &["is blocked by", &file.display().to_string()]);
    assert!(registry.requests().is_empty());
}

#[test]
fn a_configuration_with_a_mistake() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let file = write(&env, ".config/mydocker/config.toml", "[registries]\nmirrors = []\n");
    let cmd = pull(&env, "127.0.0.1:1/x");
    env.assert_refused(cmd, 125, &[&file.display().to_string(), "line 2", "`mirrors`"]);
    // What needs no registry does not mind.
    env.run(&["busybox", "true"]).success();
    env.mydocker(["images"]).ok();
}

#[test]
fn insecure_means_http_or_any_certificate() {
    require!(Root, Tool("docker-registry"));
    // Its certificate is for another address, and its authority unknown.
    let registry = Registry::with(Options { address: "127.0.0.2", ..TLS });
    let env = TestEnv::new();
    env.assert_refused(pull(&env, &registry.image("busybox")), 125, &["certificate"]);
    let config =
        format!("[[registries.registry]]\nlocation = '{}'\ninsecure = true\n", registry.host());
    write(&env, ".config/mydocker/config.toml", &config);
    pull(&env, &registry.image("busybox")).ok();
}

#[test]
fn short_names_mean_what_the_configuration_says() {
    require!(Root, Tool("docker-registry"));
    let (env, registry) = (TestEnv::new(), Registry::start());
    let host = registry.host();
    // The first of the two has nothing.
    let config = format!(
        "unqualified-search-registries = ['127.0.0.1:1', '{host}']\n[aliases]\nlittle = '{host}/variants'\n"
    );
    write(&env, ".config/containers/registries.conf", &config);
    let full = registry.image("variants:v1");
    let output = pull(&env, "variants:v1").run().success().prints(&format!("{full}\n"));
    assert!(
        output.stderr.contains("127.0.0.1:1/variants:v1 was looked for first"),
        "{}",
        output.report()
    );
    pull(&env, "little:v1").run().success().prints(&format!("{full}\n")).says("up to date");
    // What is here under its full name is not pulled again for its short one.
    drop(registry);
    for name in ["variants:v1", "little:v1"] {
        env.mydocker(["run", "--rm", name, "test", "-s", "/variant"]).ok();
    }
}

#[test]
fn thirty_two_pulls_at_once() {
    require!(Root, Tool("docker-registry"));
    let (env, registry) = (TestEnv::new(), Registry::start());
    let images: Vec<String> = (1..=8).map(|n| registry.image(&format!("variants:v{n}"))).collect();
    let start = |at: usize| pull(&env, &images[at % 8]).timeout(120).start();
    let pulls: Vec<Running> = (0..32).map(start).collect();
    for pull in pulls {
        pull.finish().success();
    }
    assert_eq!(env.json(&["images"]).len(), 8);
    assert_eq!(names(&env.root().join("trees")).len(), 8);
    env.assert_no_rubbish();
    for name in &images {
        env.mydocker(["run", "--rm", name, "test", "-s", "/variant"]).ok();
    }
}

#[test]
fn an_ordinary_user_with_a_password() {
    use crate::support::user::{Allowed, User};
    require!(Root, Tool("docker-registry"), Tool("setpriv"));
    let (env, registry) =
        (TestEnv::new(), Registry::with(Options { basic_auth: true, ..Options::PLAIN }));
    let user = User::new(&env, Allowed::ManyIds);
    let text = format!(r#"{{"auths":{{"{}":{{{}}}}}}}"#, registry.host(), basic(USER, SECRET));
    let file = user.root().with_file_name("auth.json");
    fs::write(&file, text).unwrap();
    let cmd = user.mydocker(["--no-sync", "pull", &registry.image("busybox")]);
    cmd.env("REGISTRY_AUTH_FILE", &file).run().success();
    // In a namespace it is root, and yet root's own files are not its own.
    let cmd = user.mydocker(["--no-sync", "pull", &registry.image("layered")]);
    cmd.run().fails(125, &["needs a login"]);
}
