//! Debian's `docker-registry` on a loopback port, with the images of [`super::fixtures`] in it.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::{fixtures, wait_for};

/// How a registry is reached.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// At which loopback address.
    pub address: &'static str,
    /// By https, with a certificate of the private CA in `tls/ca.crt`.
    pub tls: bool,
    /// With a user name and password.
    pub basic_auth: bool,
    /// Empty at first, and open to uploads.
    pub writable: bool,
}

impl Options {
    /// By http, for everybody, at the usual address.
    pub const PLAIN: Self =
        Self { address: "127.0.0.1", tls: false, basic_auth: false, writable: false };
    /// As `PLAIN`, empty at first, and open to uploads.
    pub const WRITABLE: Self = Self { writable: true, ..Self::PLAIN };
}

/// A registry that runs until it is dropped. What it holds cannot be changed, unless it is a writable one.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    folder: PathBuf,
    host: String,
}

/// A request that the registry answered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Request {
    /// The HTTP method.
    pub method: String,
    /// The path, with its query.
    pub path: String,
    /// The HTTP status of the answer.
    pub status: u16,
}

impl Request {
    /// Whether bytes of a layer or configuration were asked for.
    pub fn is_blob(&self) -> bool {
        self.method == "GET" && self.path.contains("/blobs/")
    }
}

impl Registry {
    /// A registry that anybody reaches by http.
    pub fn start() -> Self {
        Self::with(Options::PLAIN)
    }

    /// An empty registry that anybody may write to by http.
    pub fn writable() -> Self {
        Self::with(Options::WRITABLE)
    }

    /// A registry with TLS, or a password, or both.
    pub fn with(options: Options) -> Self {
        // Between finding a free port and listening on it, somebody else may have taken it.
        (0..10).find_map(|_| Self::try_start(options)).expect("docker-registry does not start")
    }

    fn try_start(options: Options) -> Option<Self> {
        let port = TcpListener::bind((options.address, 0)).unwrap().local_addr().unwrap().port();
        let folder = super::env::temporary_folder();
        let (fixtures, address) = (fixtures::folder().display(), options.address);
        let mut config =
            String::from("version: 0.1\nlog: { level: error, accesslog: { disabled: false } }\n");
        let _ = match options.writable {
            true => writeln!(
                config,
                "storage:\n  filesystem: {{ rootdirectory: '{}/storage' }}",
                folder.display()
            ),
            false => writeln!(
                config,
                "storage:\n  filesystem: {{ rootdirectory: '{fixtures}/registry' }}\n  maintenance: {{ readonly: {{ enabled: true }} }}"
            ),
        };
        if options.basic_auth {
            let _ = writeln!(
                config,
                "auth: {{ htpasswd: {{ realm: test, path: '{fixtures}/htpasswd' }} }}"
            );
        }
        let _ = writeln!(config, "http:\n  addr: {address}:{port}\n  secret: none");
        if options.tls {
            let tls = format!("{fixtures}/tls/server");
            let _ = writeln!(config, "  tls: {{ certificate: '{tls}.crt', key: '{tls}.key' }}");
        }
        fs::write(folder.join("config.yml"), config).unwrap();
        let log = File::create(folder.join("log")).unwrap();
        let mut command = Command::new("docker-registry");
        command
            .arg("serve")
            .arg(folder.join("config.yml"))
            .env_clear()
            .env("OTEL_TRACES_EXPORTER", "none");
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().expect("docker-registry cannot be started");
        let mut registry = Self { child, folder, host: format!("{address}:{port}") };
        let listens = wait_for("a registry that listens", || {
            if registry.child.try_wait().unwrap().is_some() {
                return Some(false);
            }
            TcpStream::connect(&registry.host).is_ok().then_some(true)
        });
        listens.then_some(registry)
    }

    /// Its host and port.
    pub fn host(&self) -> String {
        self.host.clone()
    }

    /// The full reference of `image` in this registry.
    pub fn image(&self, image: &str) -> String {
        format!("{}/{image}", self.host())
    }

    /// All requests until now, in the order of their answers.
    pub fn requests(&self) -> Vec<Request> {
        let log = fs::read_to_string(self.folder.join("log")).unwrap();
        // 127.0.0.1 - - [23/Nov/2026:20:56:40 +0000] "GET /v2/ HTTP/1.1" 200 2 "" "agent"
        let parse = |line: &str| {
            let (request, rest) = line.split_once("] \"")?.1.split_once('"')?;
            let mut words = request.split(' ');
            let status = rest.split_whitespace().next()?.parse().ok()?;
            Some(Request {
                method: words.next()?.to_owned(),
                path: words.next()?.to_owned(),
                status,
            })
        };
        log.lines().filter_map(parse).collect()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
