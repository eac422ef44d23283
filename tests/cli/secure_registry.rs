//! Registries with a private CA, and registries that ask for a password.

use std::fs;
use std::path::PathBuf;

use base64::Engine as _;

use crate::support::command::Cmd;
use crate::support::env::TestEnv;
use crate::support::fixtures::{self, SECRET, USER};
use crate::support::registry::{Options, Registry};
use crate::support::require::Need::{Root, Tool};

const TLS: Options = Options { tls: true, ..Options::PLAIN };
const PASSWORD: Options = Options { basic_auth: true, ..Options::PLAIN };
const PASSWORD_OVER_TLS: Options = Options { tls: true, ..PASSWORD };

fn ca() -> PathBuf {
    fixtures::path("tls/ca.crt")
}

fn pull(env: &TestEnv, registry: &Registry) -> Cmd {
    env.mydocker(["pull", &registry.image("busybox")])
}

/// Writes docker's configuration with this user and password for `registry`.
fn log_in(env: &TestEnv, registry: &str, user: &str, password: &str) {
    let auth = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    let config = format!(r#"{{"auths":{{"{registry}":{{"auth":"{auth}"}}}}}}"#);
    fs::create_dir_all(env.folder().join("home/.docker")).unwrap();
    fs::write(env.folder().join("home/.docker/config.json"), config).unwrap();
}

/// A folder below `/etc` for one registry's certificates, removed when dropped.
struct CertsD(PathBuf);

impl CertsD {
    fn new(parent: &str, registry: &Registry) -> Self {
        let folder = PathBuf::from(parent).join("certs.d").join(registry.host());
        fs::create_dir_all(&folder).unwrap();
        fs::copy(ca(), folder.join("ca.crt")).unwrap();
        Self(folder)
    }
}

impl Drop for CertsD {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
        // Empty parents go too; those that hold something stay.
        for parent in self.0.ancestors().skip(1).take(2) {
            let _ = fs::remove_dir(parent);
        }
    }
}

#[test]
fn a_private_ca_named_by_ssl_cert_file() {
    require!(Root, Tool("docker-registry"));
    let (env, registry) = (TestEnv::new(), Registry::with(TLS));
    pull(&env, &registry).env("SSL_CERT_FILE", ca()).ok();
}

#[test]
fn a_private_ca_in_dockers_certs_d() {
    require!(Root, Tool("docker-registry"));
    let (env, registry) = (TestEnv::new(), Registry::with(TLS));
    let _certs = CertsD::new("/etc/docker", &registry);
    pull(&env, &registry).ok();
}

#[test]
fn a_private_ca_in_podmans_certs_d() {
    require!(Root, Tool("docker-registry"));
    let (env, registry) = (TestEnv::new(), Registry::with(TLS));
    let _certs = CertsD::new("/etc/containers", &registry);
    pull(&env, &registry).ok();
}

#[test]
fn an_unknown_ca_is_refused_and_http_is_not_tried_instead() {
    require!(Root, Tool("docker-registry"));
    let (env, registry) = (TestEnv::new(), Registry::with(TLS));
    env.assert_refused(pull(&env, &registry), 125, &["certificate", &registry.host()]);
    assert!(registry.requests().is_empty(), "{:?}", registry.requests());
}

#[test]
fn another_hosts_certificate_is_refused() {
    require!(Root, Tool("docker-registry"));
    // It is for 127.0.0.1 and localhost.
    let options = Options { address: "127.0.0.2", ..TLS };
    let (env, registry) = (TestEnv::new(), Registry::with(options));
    let cmd = pull(&env, &registry).env("SSL_CERT_FILE", ca());
    env.assert_refused(cmd, 125, &["certificate", &registry.host()]);
    assert!(registry.requests().is_empty(), "{:?}", registry.requests());
}

#[test]
fn a_password_from_dockers_configuration() {
    require!(Root, Tool("docker-registry"));
    let (env, registry) = (TestEnv::new(), Registry::with(PASSWORD_OVER_TLS));
    log_in(&env, &registry.host(), USER, SECRET);
    pull(&env, &registry).env("SSL_CERT_FILE", ca()).ok();
    assert!(env.rootfs(&registry.image("busybox")).join("bin/busybox").is_file());
}

#[test]
fn a_password_over_http_on_loopback() {
    require!(Root, Tool("docker-registry"));
    let (env, registry) = (TestEnv::new(), Registry::with(PASSWORD));
    log_in(&env, &registry.host(), USER, SECRET);
    pull(&env, &registry).ok();
}

#[test]
fn a_configuration_folder_named_by_docker_config() {
    require!(Root, Tool("docker-registry"));
    let (env, registry) = (TestEnv::new(), Registry::with(PASSWORD));
    log_in(&env, &registry.host(), USER, SECRET);
    fs::rename(env.folder().join("home/.docker"), env.folder().join("elsewhere")).unwrap();
    pull(&env, &registry).env("DOCKER_CONFIG", env.folder().join("elsewhere")).ok();
}

#[test]
fn a_wrong_password_is_refused_and_not_shown() {
    require!(Root, Tool("docker-registry"));
    let (env, registry) = (TestEnv::new(), Registry::with(PASSWORD));
    log_in(&env, &registry.host(), USER, "a wrong secret");
    let output =
        env.assert_refused(pull(&env, &registry).arg("--debug"), 125, &["login", "refused"]);
    let encoded =
        base64::engine::general_purpose::STANDARD.encode(format!("{USER}:a wrong secret"));
    for secret in ["a wrong secret", &encoded] {
        assert!(!output.stderr.contains(secret), "{}", output.report());
    }
}

#[test]
fn no_password_where_one_is_wanted() {
    require!(Root, Tool("docker-registry"));
    let (env, registry) = (TestEnv::new(), Registry::with(PASSWORD));
    env.assert_refused(pull(&env, &registry), 125, &["login", "hint:"]);
}

#[test]
fn a_password_goes_to_its_own_registry_only() {
    require!(Root, Tool("docker-registry"));
    let (env, registry) = (TestEnv::new(), Registry::with(PASSWORD));
    let port: u16 = registry.host().rsplit(':').next().unwrap().parse().unwrap();
    for other in
        [format!("127.0.0.1:{}", port - 1), "127.0.0.1".to_owned(), format!("localhost:{port}")]
    {
        log_in(&env, &other, USER, SECRET);
        env.assert_refused(pull(&env, &registry), 125, &["login"]);
    }
}
