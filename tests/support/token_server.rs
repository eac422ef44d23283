//! A token service after distribution's "Token Authentication Specification", for the real registry: anonymous, by
//! password, and by refresh token over POST ("oauth2").

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::fixtures::{self, SECRET, USER};

/// Who the tokens say they are from.
pub const ISSUER: &str = "mydocker test tokens";
/// Whom they are for.
pub const SERVICE: &str = "registry.test";
/// A refresh token of the user in `fixtures`.
pub const REFRESH_TOKEN: &str = "refresh & renew";

/// A request for a token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Asked {
    /// The HTTP method.
    pub method: String,
    /// The scopes asked for.
    pub scopes: Vec<String>,
    /// Whom it was given to: the user, nobody in particular (an empty name), or nobody at all.
    pub given_to: Option<String>,
}

/// The service, until it is dropped.
#[derive(Debug)]
pub struct TokenServer {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    stop: Arc<AtomicBool>,
}

impl TokenServer {
    /// Gives tokens to the user in `fixtures`; to `everybody` too, if so.
    pub fn start(everybody: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, stop) = (Arc::<Mutex<Vec<Asked>>>::default(), Arc::<AtomicBool>::default());
        let (log, stopped) = (Arc::clone(&asked), Arc::clone(&stop));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(stream), log) = (stream, Arc::clone(&log)) else { continue };
                std::thread::spawn(move || answer(stream, everybody, &log));
            }
        });
        Self { address, asked, stop }
    }

    /// What the registry's configuration says of it.
    pub fn registry_config(&self) -> String {
        let (address, ca) = (self.address, fixtures::path("tls/ca.crt"));
        format!(
            "auth: {{ token: {{ realm: 'http://{address}/token', service: {SERVICE}, issuer: {ISSUER}, \
             rootcertbundle: '{}' }} }}\n",
            ca.display()
        )
    }

    /// The requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for TokenServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
    }
}

/// Answers one request; the connection ends with it.
fn answer(mut stream: TcpStream, everybody: bool, log: &Mutex<Vec<Asked>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_owned());
    }
    let mut words = lines.first().map(String::as_str).unwrap_or_default().split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let header = |name: &str| {
        lines.iter().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then(|| value.to_owned())
        })
    };
    let length = header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let query = match method {
        "POST" => String::from_utf8(body).unwrap(),
        _ => path.split_once('?').map(|(_, query)| query.to_owned()).unwrap_or_default(),
    };
    let form = reqwest::Url::parse(&format!("http://x/?{query}")).unwrap();
    let all = |name: &str| -> Vec<String> {
        form.query_pairs().filter(|(key, _)| key == name).map(|(_, v)| v.into_owned()).collect()
    };
    let one = |name: &str| all(name).pop().unwrap_or_default();
    let basic = format!("Basic {}", STANDARD.encode(format!("{USER}:{SECRET}")));
    let given_to = match (method, header("authorization")) {
        _ if one("service") != SERVICE => None,
        ("GET", None) => everybody.then(String::new),
        ("GET", Some(given)) => (given == basic).then(|| USER.to_owned()),
        ("POST", None) => {
            let renews = one("grant_type") == "refresh_token" && !one("client_id").is_empty();
            (renews && one("refresh_token") == REFRESH_TOKEN).then(|| USER.to_owned())
        }
        _ => None,
    };
    let scopes: Vec<String> =
        all("scope").iter().flat_map(|scope| scope.split(' ')).map(str::to_owned).collect();
    let (status, body) = match &given_to {
        Some(name) => {
            let token = token(name, &scopes);
            ("200 OK", json!({ "token": token, "access_token": token, "expires_in": 300 }))
        }
        None => ("401 Unauthorized", json!({ "details": "who are you?" })),
    };
    log.lock().unwrap().push(Asked { method: method.to_owned(), scopes, given_to });
    let body = body.to_string();
    let _ = write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
}

/// A JSON web token, signed by the key of the server's certificate ("Docker Registry v2 Bearer token specification").
fn token(name: &str, scopes: &[String]) -> String {
    let access: Vec<Value> = scopes
        .iter()
        .filter_map(|scope| {
            let (rest, actions) = scope.rsplit_once(':')?;
            let (kind, repository) = rest.split_once(':')?;
            // Those without a name only read.
            let actions: Vec<&str> =
                actions.split(',').filter(|action| !name.is_empty() || *action == "pull").collect();
            Some(json!({ "type": kind, "name": repository, "actions": actions }))
        })
        .collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let pem = std::fs::read_to_string(fixtures::path("tls/server.crt")).unwrap();
    let der: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let header = json!({ "typ": "JWT", "alg": "RS256", "x5c": [der] });
    let claims = json!({
        "iss": ISSUER, "sub": name, "aud": SERVICE, "exp": now + 300, "nbf": now - 10, "iat": now,
        "jti": now.to_string(), "access": access,
    });
    let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
    let signed = format!("{}.{}", encode(&header), encode(&claims));
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(sign(signed.as_bytes())))
}

fn sign(bytes: &[u8]) -> Vec<u8> {
    let mut openssl = Command::new("openssl")
        .args(["dgst", "-sha256", "-sign"])
        .arg(fixtures::path("tls/server.key"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    openssl.stdin.take().unwrap().write_all(bytes).unwrap();
    openssl.wait_with_output().unwrap().stdout
}
