//! Debian's `docker-registry` on a loopback port, with the images of [`super::fixtures`] in it.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
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
    /// For clients with a certificate of that CA only.
    pub client_certificates: bool,
    /// Empty at first, and open to uploads.
    pub writable: bool,
}

impl Options {
    /// By http, for everybody, at the usual address.
    pub const PLAIN: Self = Self {
        address: "127.0.0.1",
        tls: false,
        basic_auth: false,
        client_certificates: false,
        writable: false,
    };
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
    /// The protocol and its version.
    pub protocol: String,
    /// The HTTP status of the answer.
    pub status: u16,
    /// The program that asked.
    pub agent: String,
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
        Self::with_config(options, "")
    }

    /// As `with`, with more lines at the end of its configuration.
    pub fn with_config(options: Options, more: &str) -> Self {
        Self::started(options, |folder| {
            let (fixtures, folder) = (fixtures::folder().display(), folder.display());
            let storage = match options.writable {
                true => format!("filesystem: {{ rootdirectory: '{folder}/storage' }}"),
                false => format!(
                    "filesystem: {{ rootdirectory: '{fixtures}/registry' }}\n  \
                     maintenance: {{ readonly: {{ enabled: true }} }}"
                ),
            };
            format!("storage:\n  {storage}\n{more}")
        })
    }

    /// A pull-through cache of the registry at `origin`, empty.
    pub fn mirror_of(origin: &Registry) -> Self {
        let remote = format!("http://{}", origin.host());
        Self::started(Options::PLAIN, |folder| {
            format!(
                "storage: {{ filesystem: {{ rootdirectory: '{}/cache' }} }}\nproxy: {{ remoteurl: '{remote}' }}\n",
                folder.display()
            )
        })
    }

    fn started(options: Options, more: impl Fn(&Path) -> String) -> Self {
        // Between finding a free port and listening on it, somebody else may have taken it.
        let try_start = |_| Self::try_start(options, &more);
        (0..10).find_map(try_start).expect("docker-registry does not start")
    }

    fn try_start(options: Options, more: &dyn Fn(&Path) -> String) -> Option<Self> {
        let port = TcpListener::bind((options.address, 0)).unwrap().local_addr().unwrap().port();
        let folder = super::env::temporary_folder();
        let (fixtures, address) = (fixtures::folder().display(), options.address);
        let mut config = format!(
            "version: 0.1\n\
             log: {{ level: error, accesslog: {{ disabled: false }} }}\n{}",
            more(&folder)
        );
        if options.basic_auth {
            let _ = writeln!(
                config,
                "auth: {{ htpasswd: {{ realm: test, path: '{fixtures}/htpasswd' }} }}"
            );
        }
        let _ = writeln!(config, "http:\n  addr: {address}:{port}\n  secret: none");
        if options.tls {
            let tls = format!("{fixtures}/tls/server");
            let clients = match options.client_certificates {
                true => format!(", clientcas: ['{fixtures}/tls/ca.crt']"),
                false => String::new(),
            };
            let pair = format!("certificate: '{tls}.crt', key: '{tls}.key'");
            let _ = writeln!(config, "  tls: {{ {pair}{clients} }}");
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
                protocol: words.next()?.to_owned(),
                status,
                agent: line.rsplit('"').nth(1)?.to_owned(),
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
