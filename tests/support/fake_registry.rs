//! A registry that does as it is told: it serves what a test gives it, misbehaves where the test says so, and writes
//! down every request.
//!
//! It speaks just enough HTTP/1.1, on threads and blocking sockets, and knows nothing of the code that it tests.
//!
//! The certificates beside this file are valid from 2020 to 2120 (`expired` ended in 2020) for `localhost`, `127.0.0.1`,
//! `127.0.0.2`, `::1` and `registry.test`. The key of their authority is thrown away.

#![allow(clippy::unwrap_used, dead_code, missing_docs, unreachable_pub)]

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use sha2::{Digest as _, Sha256};

/// The authority that signed `LEAF` and `CLIENT`.
pub const CA: &str = include_str!("fake_registry/ca.crt");
/// A client's certificate.
pub const CLIENT: &str = include_str!("fake_registry/client.crt");
/// The key of `CLIENT`.
pub const CLIENT_KEY: &str = include_str!("fake_registry/client.key");
/// A certificate that is its own authority.
pub const SELF_SIGNED: &str = include_str!("fake_registry/self-signed.crt");

const LEAF: &str = include_str!("fake_registry/leaf.crt");
const LEAF_KEY: &str = include_str!("fake_registry/leaf.key");
const EXPIRED: &str = include_str!("fake_registry/expired.crt");
const EXPIRED_KEY: &str = include_str!("fake_registry/expired.key");
const SELF_SIGNED_KEY: &str = include_str!("fake_registry/self-signed.key");

/// How a server proves who it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Tls {
    Expired,
    Leaf,
    /// As `Leaf`, and the client must prove who it is, too.
    LeafForClients,
    None,
    SelfSigned,
}

/// Who may come in.
#[derive(Clone, Debug)]
pub enum Auth {
    /// Whoever knows this name and password.
    Basic(&'static str, &'static str),
    /// Whoever has a token of any fake registry's `/token`; the registry names the one at this address.
    Bearer(String),
    /// As `Bearer`, with the whole challenge given.
    Challenge(String),
    None,
}

/// What to do wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Answers with this in place of what was asked for.
    Answer { status: u16, headers: Vec<(String, String)>, body: Vec<u8> },
    /// Closes the connection without a word.
    Close,
    /// Sends the body in pieces of so many bytes with so many milliseconds before each.
    Drip(usize, u64),
    /// Sends a body without end.
    Endless,
    /// Sends so many bytes more than there are, without announcing any length.
    Extend(usize),
    /// Adds or replaces a header of the right answer.
    Header(&'static str, String),
    /// Ignores `Range`.
    NoRange,
    /// Resets the connection after so many bytes of the body.
    Reset(usize),
    /// Answers with this status and the right body.
    Status(u16),
    /// Sends so many bytes of the body and then nothing, with the connection open.
    Stall(usize),
    /// Ends the connection after so many bytes of the body.
    Truncate(usize),
    /// As `Truncate`, without having announced a length.
    TruncateSilently(usize),
    /// Answers a range that starts so many bytes too late.
    WrongRange(u64),
}

impl Fault {
    /// An answer with a status and an error body of the distribution-spec.
    pub fn error(status: u16, code: &str) -> Self {
        let body = format!(r#"{{"errors":[{{"code":"{code}","message":"in words"}}]}}"#);
        Self::Answer { status, headers: Vec::new(), body: body.into_bytes() }
    }

    /// An answer with a status and one header.
    pub fn status(status: u16, name: &str, value: &str) -> Self {
        let headers = vec![(name.to_owned(), value.to_owned())];
        Self::Answer { status, headers, body: Vec::new() }
    }

    /// An answer with a body and nothing else to it.
    pub fn body(body: &str) -> Self {
        Self::Answer { status: 200, headers: Vec::new(), body: body.as_bytes().to_vec() }
    }
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Logged {
    pub method: String,
    /// With the query.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Logged {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

struct Rule {
    method: &'static str,
    part: String,
    left: usize,
    fault: Fault,
}

/// A media type and what is under it.
type Content = (String, Arc<Vec<u8>>);

struct State {
    address: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    auth: Mutex<Auth>,
    /// Whom `/token` gives tokens: a name and a password, or a refresh token without a name. Everybody when `None`.
    tokens_for: Mutex<Option<(&'static str, &'static str)>>,
    /// Tokens of older generations are no longer good.
    generation: AtomicUsize,
    content: Mutex<HashMap<String, Content>>,
    rules: Mutex<Vec<Rule>>,
    log: Mutex<Vec<Logged>>,
    connections: AtomicUsize,
    sent: AtomicU64,
    stop: AtomicBool,
}

/// A registry, until it is dropped.
pub struct FakeRegistry {
    state: Arc<State>,
}

impl FakeRegistry {
    /// Plain HTTP on 127.0.0.1.
    pub fn start() -> Self {
        Self::start_at("127.0.0.1:0", Tls::None)
    }

    /// On the address and port given; port 0 stands for any.
    pub fn start_at(address: &str, tls: Tls) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let state = Arc::new(State {
            address: listener.local_addr().unwrap(),
            tls: server_config(tls),
            auth: Mutex::new(Auth::None),
            tokens_for: Mutex::default(),
            generation: AtomicUsize::new(0),
            content: Mutex::default(),
            rules: Mutex::default(),
            log: Mutex::default(),
            connections: AtomicUsize::new(0),
            sent: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stop.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(stream), state) = (stream, Arc::clone(&shared)) else { continue };
                state.connections.fetch_add(1, Ordering::SeqCst);
                // What a client that has gone away leaves behind is of no interest.
                thread::spawn(move || drop(state.connection(stream)));
            }
        });
        Self { state }
    }

    /// `host:port`, as a reference has it.
    pub fn host(&self) -> String {
        self.state.address.to_string()
    }

    pub fn port(&self) -> u16 {
        self.state.address.port()
    }

    /// The address of `path` here.
    pub fn url(&self, path: &str) -> String {
        let scheme = if self.state.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.host())
    }

    /// Stores a manifest under a tag and its digest; returns the digest.
    pub fn put_manifest(&self, repository: &str, tag: &str, kind: &str, bytes: &[u8]) -> String {
        let digest = digest(bytes);
        for name in [tag, &digest] {
            self.put(&format!("/v2/{repository}/manifests/{name}"), kind, bytes.to_vec());
        }
        digest
    }

    /// Stores a blob; returns its digest.
    pub fn put_blob(&self, repository: &str, bytes: Vec<u8>) -> String {
        let digest = digest(&bytes);
        let kind = "application/octet-stream";
        self.put(&format!("/v2/{repository}/blobs/{digest}"), kind, bytes);
        digest
    }

    /// Stores anything at any path.
    pub fn put(&self, path: &str, kind: &str, bytes: Vec<u8>) {
        let content = (kind.to_owned(), Arc::new(bytes));
        self.state.content.lock().unwrap().insert(path.to_owned(), content);
    }

    pub fn set_auth(&self, auth: Auth) {
        *self.state.auth.lock().unwrap() = auth;
    }

    /// Gives tokens to nobody else; with an empty name, the second is a refresh token.
    pub fn give_tokens_to(&self, name: &'static str, secret: &'static str) {
        *self.state.tokens_for.lock().unwrap() = Some((name, secret));
    }

    /// Makes every token invalid that has been given so far.
    pub fn revoke_tokens(&self) {
        self.state.generation.fetch_add(1, Ordering::SeqCst);
    }

    /// Does something wrong with the next `times` requests whose path holds `part`.
    ///
    /// Of several faults that fit a request, the first is meant, and the next one for the next request. `Header`,
    /// `NoRange`, `Status` and `WrongRange` go together with others.
    pub fn fault(&self, part: &str, times: usize, fault: Fault) {
        self.fault_on("", part, times, fault);
    }

    /// As `fault`, for one method only.
    pub fn fault_on(&self, method: &'static str, part: &str, times: usize, fault: Fault) {
        let rule = Rule { method, part: part.to_owned(), left: times, fault };
        self.state.rules.lock().unwrap().push(rule);
    }

    /// The requests so far, oldest first.
    pub fn log(&self) -> Vec<Logged> {
        self.state.log.lock().unwrap().clone()
    }

    /// How many requests had this method and this in their path.
    pub fn count(&self, method: &str, part: &str) -> usize {
        self.log().iter().filter(|r| r.method == method && r.path.contains(part)).count()
    }

    /// How many connections were made.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// How many bytes of bodies were handed to the kernel.
    pub fn sent(&self) -> u64 {
        self.state.sent.load(Ordering::SeqCst)
    }
}

impl Drop for FakeRegistry {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for connections.
        drop(TcpStream::connect(self.state.address));
    }
}

/// The digest of `bytes`.
pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn server_config(tls: Tls) -> Option<Arc<ServerConfig>> {
    let (chain, key) = match tls {
        Tls::None => return None,
        Tls::Leaf | Tls::LeafForClients => (LEAF, LEAF_KEY),
        Tls::Expired => (EXPIRED, EXPIRED_KEY),
        Tls::SelfSigned => (SELF_SIGNED, SELF_SIGNED_KEY),
    };
    let chain = vec![CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = if tls == Tls::LeafForClients {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(CA.as_bytes()).unwrap()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        builder.with_client_cert_verifier(verifier.build().unwrap())
    } else {
        builder.with_no_client_auth()
    };
    Some(Arc::new(builder.with_single_cert(chain, key).unwrap()))
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

impl State {
    fn connection(&self, stream: TcpStream) -> io::Result<()> {
        let raw = stream.try_clone()?;
        let mut stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(stream),
            Some(config) => {
                let server = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
                Box::new(StreamOwned::new(server, stream))
            }
        };
        while let Some(request) = read_request(&mut stream)? {
            self.log.lock().unwrap().push(request.clone());
            let mut response = self.respond(&request);
            if !self.write(&mut stream, &raw, &request, &mut response)? {
                return Ok(());
            }
        }
        Ok(())
    }

    fn respond(&self, request: &Logged) -> Response {
        let faults = self.faults(request);
        let replaced = faults.iter().find_map(|fault| match fault {
            Fault::Answer { status, headers, body } => {
                Some(Response::new(*status, headers.clone(), body.clone()))
            }
            _ => None,
        });
        let path = request.path.split('?').next().unwrap_or_default();
        let mut response = match replaced {
            Some(replaced) => replaced,
            None if path == "/token" => self.token(request),
            None if !self.is_let_in(request) => self.challenge(),
            None => self.content(request, path, &faults),
        };
        for fault in &faults {
            match fault {
                Fault::Header(name, value) => {
                    response.headers.retain(|(found, _)| found != name);
                    response.headers.push(((*name).to_owned(), value.clone()));
                }
                Fault::Status(status) => response.status = *status,
                _ => {}
            }
        }
        response.faults = faults;
        response
    }

    fn faults(&self, request: &Logged) -> Vec<Fault> {
        let mut found = Vec::new();
        let mut alone = false;
        for rule in self.rules.lock().unwrap().iter_mut() {
            let fits = (rule.method.is_empty() || rule.method == request.method)
                && request.path.contains(&rule.part);
            let joins = matches!(
                rule.fault,
                Fault::Header(..) | Fault::NoRange | Fault::Status(_) | Fault::WrongRange(_)
            );
            if fits && rule.left > 0 && (joins || !alone) {
                rule.left -= 1;
                alone |= !joins;
                found.push(rule.fault.clone());
            }
        }
        found
    }

    fn is_let_in(&self, request: &Logged) -> bool {
        let given = request.header("authorization");
        let generation = self.generation.load(Ordering::SeqCst);
        match &*self.auth.lock().unwrap() {
            Auth::None => true,
            Auth::Basic(name, password) => given == Some(basic(name, password).as_str()),
            Auth::Bearer(_) | Auth::Challenge(_) => {
                given.is_some_and(|given| given.starts_with(&format!("Bearer good-{generation}-")))
            }
        }
    }

    fn challenge(&self) -> Response {
        let challenge = match &*self.auth.lock().unwrap() {
            Auth::Basic(..) | Auth::None => "Basic realm=\"fake\"".to_owned(),
            Auth::Bearer(url) => {
                format!("Bearer realm=\"{url}\",service=\"fake\",scope=\"repository:app:pull\"")
            }
            Auth::Challenge(challenge) => challenge.clone(),
        };
        let body = br#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
        Response::new(401, vec![("www-authenticate".to_owned(), challenge)], body.to_vec())
    }

    fn token(&self, request: &Logged) -> Response {
        let wanted = *self.tokens_for.lock().unwrap();
        let given = request.header("authorization");
        let known = match wanted {
            None => true,
            Some(("", refresh)) => {
                request.method == "POST"
                    && request.body.contains(&format!("refresh_token={refresh}"))
            }
            Some((name, password)) => given == Some(basic(name, password).as_str()),
        };
        if !known {
            return Response::new(401, Vec::new(), b"{}".to_vec());
        }
        let generation = self.generation.load(Ordering::SeqCst);
        let number = self.log.lock().unwrap().len();
        let body = format!(r#"{{"token":"good-{generation}-{number}","expires_in":300}}"#);
        Response::new(200, Vec::new(), body.into_bytes())
    }

    fn content(&self, request: &Logged, path: &str, faults: &[Fault]) -> Response {
        if path == "/v2/" {
            return Response::new(200, Vec::new(), b"{}".to_vec());
        }
        let Some((kind, bytes)) = self.content.lock().unwrap().get(path).cloned() else {
            let code = if path.contains("/blobs/") { "BLOB_UNKNOWN" } else { "MANIFEST_UNKNOWN" };
            let body = format!(r#"{{"errors":[{{"code":"{code}","message":"not here"}}]}}"#);
            return Response::new(404, Vec::new(), body.into_bytes());
        };
        let mut headers = vec![("content-type".to_owned(), kind)];
        if path.contains("/manifests/") {
            headers.push(("docker-content-digest".to_owned(), digest(&bytes)));
        }
        let ranges = !faults.iter().any(|fault| matches!(fault, Fault::NoRange));
        let shift = faults.iter().find_map(|fault| match fault {
            Fault::WrongRange(shift) => Some(*shift),
            _ => None,
        });
        let range = request.header("range").filter(|_| ranges);
        let first = range.and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        let mut response = Response { status: 200, headers, body: bytes, first: 0, faults: vec![] };
        if let Some(first) = first {
            let first: u64 = first;
            let (first, size) = (first + shift.unwrap_or(0), response.body.len() as u64);
            if first >= size {
                return Response::new(416, Vec::new(), Vec::new());
            }
            response.status = 206;
            response.first = first as usize;
            let range = format!("bytes {first}-{}/{size}", size - 1);
            response.headers.push(("content-range".to_owned(), range));
        }
        response
    }

    /// Sends the response; says whether the connection may go on.
    fn write(
        &self,
        stream: &mut dyn Stream,
        raw: &TcpStream,
        request: &Logged,
        response: &mut Response,
    ) -> io::Result<bool> {
        let body = &response.body[response.first..];
        let has = |test: fn(&Fault) -> bool| response.faults.iter().any(test);
        if has(|fault| matches!(fault, Fault::Close)) {
            return Ok(false);
        }
        let unannounced = has(|fault| {
            matches!(fault, Fault::Endless | Fault::Extend(_) | Fault::TruncateSilently(_))
        });
        let mut head = format!("HTTP/1.1 {} Fake\r\n", response.status);
        for (name, value) in &response.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&match unannounced {
            true => "connection: close\r\n\r\n".to_owned(),
            false => format!("content-length: {}\r\n\r\n", body.len()),
        });
        stream.write_all(head.as_bytes())?;
        stream.flush()?;
        if request.method == "HEAD" {
            return Ok(!unannounced);
        }
        for fault in &response.faults {
            match fault {
                Fault::Truncate(at) | Fault::TruncateSilently(at) => {
                    self.send(stream, &body[..*at])?;
                    return Ok(false);
                }
                Fault::Reset(at) => {
                    self.send(stream, &body[..*at])?;
                    // Lets the client have those bytes before the reset takes the rest away.
                    thread::sleep(Duration::from_millis(50));
                    let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
                    nix::sys::socket::setsockopt(raw, nix::sys::socket::sockopt::Linger, &linger)?;
                    return Ok(false);
                }
                Fault::Stall(at) => {
                    self.send(stream, &body[..*at])?;
                    while !self.stop.load(Ordering::SeqCst) {
                        thread::sleep(Duration::from_millis(10));
                    }
                    return Ok(false);
                }
                Fault::Drip(piece, pause) => {
                    for piece in body.chunks(*piece) {
                        thread::sleep(Duration::from_millis(*pause));
                        self.send(stream, piece)?;
                    }
                    return Ok(true);
                }
                Fault::Endless => loop {
                    self.send(stream, &[b' '; 16 << 10])?;
                },
                Fault::Extend(more) => {
                    self.send(stream, body)?;
                    self.send(stream, &vec![b' '; *more])?;
                    return Ok(false);
                }
                _ => {}
            }
        }
        self.send(stream, body)?;
        Ok(true)
    }

    fn send(&self, stream: &mut dyn Stream, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(256 << 10) {
            stream.write_all(piece)?;
            self.sent.fetch_add(piece.len() as u64, Ordering::SeqCst);
        }
        stream.flush()
    }
}

struct Response {
    status: u16,
    headers: Vec<(String, String)>,
    body: Arc<Vec<u8>>,
    /// Where in `body` the answer begins.
    first: usize,
    faults: Vec<Fault>,
}

impl Response {
    fn new(status: u16, headers: Vec<(String, String)>, body: Vec<u8>) -> Self {
        Self { status, headers, body: Arc::new(body), first: 0, faults: Vec::new() }
    }
}

fn basic(name: &str, password: &str) -> String {
    use base64::Engine;
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{name}:{password}"));
    format!("Basic {encoded}")
}

/// The next request; `None` at the end of the connection, or after an answer to what is no HTTP.
fn read_request(stream: &mut dyn Stream) -> io::Result<Option<Logged>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 {
            return Ok(None);
        }
        head.push(byte[0]);
        // A TLS handshake, most likely. Go's server answers so, too.
        if head.ends_with(b"\n") && !head.is_ascii() || head.len() > 64 << 10 {
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n")?;
            return Ok(None);
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length.and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(Some(Logged { method, path, headers, body }))
}
