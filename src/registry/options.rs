//! What the user and the machine say about reaching registries.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::sources::Watcher;

/// How registries are reached.
#[derive(Clone, Debug)]
pub struct Options {
    /// The longest that making a connection may take: looking up the name, connecting, agreeing on TLS.
    pub connect_timeout: Duration,
    /// The longest that a whole manifest, token or error body may take, so that a drip of single bytes ends, too.
    pub document_timeout: Duration,
    /// Where proxies, certificates, credentials and configuration are found.
    pub environment: Environment,
    /// The pause before the second try of a request; it doubles from try to try.
    pub first_backoff: Duration,
    /// The longest pause that a registry can ask for; if it asks for more, its error comes at once.
    pub longest_wait: Duration,
    /// Registries to reach over http, as users write them.
    pub plain_http: Vec<String>,
    /// The longest time without a byte.
    pub progress_timeout: Duration,
    /// How often something is tried that may go well later, the first time included.
    pub tries: u32,
    /// Who is told about mirrors that fail.
    pub watcher: Option<Arc<dyn Watcher>>,
}

impl Default for Options {
    /// What suits a person at a terminal, with the environment of this process.
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            document_timeout: Duration::from_secs(300),
            environment: Environment::of_process(),
            first_backoff: Duration::from_millis(500),
            longest_wait: Duration::from_secs(60),
            plain_http: Vec::new(),
            progress_timeout: Duration::from_secs(30),
            tries: 5,
            watcher: None,
        }
    }
}

/// Where proxies, certificates, credentials and configuration are found: environment variables, and the folders they lead to.
///
/// It is a value and not a look at the process's environment, so that a caller can say exactly what is used.
#[derive(Clone, Default)]
pub struct Environment {
    /// The user's id, as the machine knows it.
    pub uid: u32,
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// `DOCKER_CONFIG`, the folder of docker's `config.json`.
    pub docker_config: Option<PathBuf>,
    /// `REGISTRY_AUTH_FILE`, podman's credentials file.
    pub registry_auth_file: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`, whose `containers/auth.json` `podman login` writes.
    pub xdg_runtime_dir: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`, whose `containers/auth.json` is read too.
    pub xdg_config_home: Option<PathBuf>,
    /// `PATH`, where credential helpers are looked for.
    pub path: Option<OsString>,
    /// `http_proxy` or `HTTP_PROXY`: for requests to `http:` addresses.
    pub http_proxy: Option<String>,
    /// `https_proxy` or `HTTPS_PROXY`: for requests to `https:` addresses.
    pub https_proxy: Option<String>,
    /// `all_proxy` or `ALL_PROXY`: for requests of which no other variable speaks.
    pub all_proxy: Option<String>,
    /// `no_proxy` or `NO_PROXY`: hosts that are reached without a proxy.
    pub no_proxy: Option<String>,
    /// `SSL_CERT_FILE`: a bundle of roots in place of the system's.
    pub ssl_cert_file: Option<PathBuf>,
    /// `SSL_CERT_DIR`: a folder of roots in place of the system's.
    pub ssl_cert_dir: Option<PathBuf>,
    /// Folders with a folder for each registry (`host:port`) that holds its roots (`*.crt`) and our certificate for it
    /// (`NAME.cert` with `NAME.key`).
    pub certs_dirs: Vec<PathBuf>,
    /// Our own configuration files; what a later one says takes the place of what an earlier one does.
    pub config_files: Vec<PathBuf>,
    /// Where podman's `registries.conf` may be; the first that is there is read, unless our own files speak of
    /// registries.
    pub registries_conf: Vec<PathBuf>,
    /// Folders of podman's `*.conf` files that add to it; later ones win.
    pub registries_conf_dirs: Vec<PathBuf>,
    /// The file in which podman remembers what short names have been taken to mean.
    pub short_name_aliases: Option<PathBuf>,
}

/// The id of the user who called this program. The first call must come before the process becomes root in a user
/// namespace of its own, in which it has another one.
pub fn caller() -> u32 {
    static CALLER: OnceLock<u32> = OnceLock::new();
    *CALLER.get_or_init(|| nix::unistd::geteuid().as_raw())
}

impl Environment {
    /// What the process's environment variables say. An empty variable counts as none.
    pub fn of_process() -> Self {
        let path =
            |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        // Lower case first, as curl has it.
        let text = |lower: &str| {
            let upper = lower.to_ascii_uppercase();
            let value = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
            value(lower).or_else(|| value(&upper))
        };
        let home = path("HOME");
        let below_home = |path: &str| home.as_ref().map(|home| home.join(path));
        let with_system = |own: Option<PathBuf>, system: &[&str]| -> Vec<PathBuf> {
            own.into_iter().chain(system.iter().map(PathBuf::from)).collect()
        };
        let certs_dirs = with_system(
            below_home(".config/containers/certs.d"),
            &["/etc/containers/certs.d", "/etc/docker/certs.d"],
        );
        let config_home = path("XDG_CONFIG_HOME").or_else(|| below_home(".config"));
        let mut config_files = with_system(None, &["/etc/mydocker/config.toml"]);
        config_files.extend(config_home.map(|folder| folder.join("mydocker/config.toml")));
        let registries_conf = match path("CONTAINERS_REGISTRIES_CONF") {
            Some(only) => vec![only],
            None => with_system(
                below_home(".config/containers/registries.conf"),
                &["/etc/containers/registries.conf"],
            ),
        };
        let mut registries_conf_dirs = with_system(None, &["/etc/containers/registries.conf.d"]);
        registries_conf_dirs.extend(below_home(".config/containers/registries.conf.d"));
        let uid = caller();
        let short_name_aliases = match uid == 0 {
            true => Some(PathBuf::from("/var/cache/containers/short-name-aliases.conf")),
            false => below_home(".cache/containers/short-name-aliases.conf"),
        };
        Self {
            uid,
            home,
            docker_config: path("DOCKER_CONFIG"),
            registry_auth_file: path("REGISTRY_AUTH_FILE"),
            xdg_runtime_dir: path("XDG_RUNTIME_DIR"),
            xdg_config_home: path("XDG_CONFIG_HOME"),
            path: env::var_os("PATH"),
            http_proxy: text("http_proxy"),
            https_proxy: text("https_proxy"),
            all_proxy: text("all_proxy"),
            no_proxy: text("no_proxy"),
            ssl_cert_file: path("SSL_CERT_FILE"),
            ssl_cert_dir: path("SSL_CERT_DIR"),
            certs_dirs,
            config_files,
            registries_conf,
            registries_conf_dirs,
            short_name_aliases,
        }
    }
}

impl std::fmt::Debug for Environment {
    /// Leaves the proxies out: their addresses may hold passwords.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Environment")
            .field("home", &self.home)
            .field("docker_config", &self.docker_config)
            .field("registry_auth_file", &self.registry_auth_file)
            .field("certs_dirs", &self.certs_dirs)
            .finish_non_exhaustive()
    }
}
