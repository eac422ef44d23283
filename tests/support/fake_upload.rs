//! A registry that takes uploads, goes wrong where a test says so, and writes down every request.
//!
//! As the registry in `fake_registry.rs`, it speaks just enough HTTP/1.1 and knows nothing of the code that it tests.

#![allow(clippy::unwrap_used, dead_code, missing_docs, unreachable_pub)]

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::fake_registry::digest;

/// What to do wrong with the next request of a method.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Answers so, with no effect and an empty body.
    Answer(u16, Vec<(&'static str, String)>),
    /// Takes so many bytes of the body, keeps them, and resets the connection.
    Reset(usize),
    /// Takes so many bytes of the body, and forgets the whole upload while it resets the connection.
    Forget(usize),
    /// Takes so many bytes of the body and then none, with the connection open.
    Stall(usize),
    /// Answers so as soon as the request's head is there, if the body is longer than said, and takes none of it.
    TooLarge(u16, usize),
    /// Takes the body and keeps so many bytes of it, as its answer says.
    TakeOnly(usize),
    /// Does what was asked for and hangs up without a word.
    Silent,
    /// Answers without `Range`.
    NoRange,
    /// Names this as the place where the upload goes on, with the upload's path behind it.
    Elsewhere(String),
    /// Names no place where the upload goes on.
    Nowhere,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Logged {
    pub method: String,
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The bytes of the body that were taken.
    pub taken: usize,
}

impl Logged {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

struct State {
    address: SocketAddr,
    /// The value of `Authorization` that everything needs, and what is challenged with.
    password: Mutex<Option<String>>,
    uploads: Mutex<HashMap<String, Vec<u8>>>,
    stored: Mutex<HashMap<String, Vec<u8>>>,
    faults: Mutex<VecDeque<(&'static str, Fault)>>,
    log: Mutex<Vec<Logged>>,
    count: AtomicUsize,
    stop: AtomicBool,
}

/// A registry, until it is dropped.
pub struct FakeUpload {
    state: Arc<State>,
}

impl FakeUpload {
    /// Plain HTTP on 127.0.0.1.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let state = Arc::new(State {
            address: listener.local_addr().unwrap(),
            password: Mutex::default(),
            uploads: Mutex::default(),
            stored: Mutex::default(),
            faults: Mutex::default(),
            log: Mutex::default(),
            count: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stop.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(stream), state) = (stream, Arc::clone(&shared)) else { continue };
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

    /// Lets in whoever knows this name and password.
    pub fn set_password(&self, name: &str, password: &str) {
        use base64::Engine;
        let both = format!("{name}:{password}");
        let encoded = base64::engine::general_purpose::STANDARD.encode(both);
        *self.state.password.lock().unwrap() = Some(format!("Basic {encoded}"));
    }

    /// Does something wrong with the next request of this method for which nothing is planned yet.
    pub fn fault(&self, method: &'static str, fault: Fault) {
        self.state.faults.lock().unwrap().push_back((method, fault));
    }

    /// The requests so far, oldest first.
    pub fn log(&self) -> Vec<Logged> {
        self.state.log.lock().unwrap().clone()
    }

    /// The methods of the requests so far.
    pub fn methods(&self) -> Vec<String> {
        self.log().into_iter().map(|request| request.method).collect()
    }

    /// The blob or manifest that was stored under this name.
    pub fn stored(&self, name: &str) -> Option<Vec<u8>> {
        self.state.stored.lock().unwrap().get(name).cloned()
    }
}

impl Drop for FakeUpload {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for connections.
        drop(TcpStream::connect(self.state.address));
    }
}

/// Whether the connection goes on.
type Goes = io::Result<bool>;

impl State {
    fn connection(&self, mut stream: TcpStream) -> io::Result<()> {
        while let Some((request, length)) = read_head(&mut stream)? {
            if !self.respond(&mut stream, request, length)? {
                return Ok(());
            }
        }
        Ok(())
    }

    fn respond(&self, stream: &mut TcpStream, mut request: Logged, length: usize) -> Goes {
        let fault = self.take_fault(&request.method);
        if let Some(Fault::TooLarge(status, most)) = fault
            && length > most
        {
            self.log.lock().unwrap().push(request);
            answer(stream, status, &[("connection", "close".to_owned())])?;
            // As nginx does, so that the answer is not lost in a reset.
            stream.set_read_timeout(Some(Duration::from_secs(1)))?;
            io::copy(&mut stream.take(length as u64), &mut io::sink())?;
            return Ok(false);
        }
        let keep = match &fault {
            Some(Fault::Reset(at) | Fault::Forget(at) | Fault::Stall(at)) => length.min(*at),
            _ => length,
        };
        let mut body = vec![0; keep];
        stream.read_exact(&mut body)?;
        request.taken = keep;
        self.log.lock().unwrap().push(request.clone());
        let password = self.password.lock().unwrap().clone();
        if password.is_some() && request.header("authorization") != password.as_deref() {
            return answer(stream, 401, &[("www-authenticate", "Basic realm=\"fake\"".to_owned())]);
        }
        let id = upload_id(&request.path);
        match fault {
            Some(Fault::Answer(status, headers)) => return answer(stream, status, &headers),
            Some(Fault::Reset(_)) => {
                self.uploads.lock().unwrap().entry(id).and_modify(|have| have.extend(&body));
                return reset(stream);
            }
            Some(Fault::Forget(_)) => {
                self.uploads.lock().unwrap().remove(&id);
                return reset(stream);
            }
            Some(Fault::Stall(_)) => {
                while !self.stop.load(Ordering::SeqCst) {
                    thread::sleep(Duration::from_millis(10));
                }
                return Ok(false);
            }
            Some(Fault::TakeOnly(count)) => body.truncate(count),
            _ => {}
        }
        let (status, mut headers) = self.serve(&request, &id, body);
        match fault {
            Some(Fault::Silent) => return Ok(false),
            Some(Fault::NoRange) => headers.retain(|(name, _)| *name != "range"),
            Some(Fault::Nowhere) => headers.retain(|(name, _)| *name != "location"),
            Some(Fault::Elsewhere(base)) => {
                for (name, value) in &mut headers {
                    if *name == "location" {
                        *value = format!("{base}{value}");
                    }
                }
            }
            _ => {}
        }
        answer(stream, status, &headers)
    }

    fn take_fault(&self, method: &str) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap();
        let at = faults.iter().position(|(wanted, _)| *wanted == method)?;
        faults.remove(at).map(|(_, fault)| fault)
    }

    fn serve(
        &self,
        request: &Logged,
        id: &str,
        body: Vec<u8>,
    ) -> (u16, Vec<(&'static str, String)>) {
        let path = request.path.split('?').next().unwrap_or_default();
        let name = path.rsplit('/').next().unwrap_or_default();
        let query = request.path.split_once('?').map_or("", |(_, query)| query);
        let mut uploads = self.uploads.lock().unwrap();
        let mut stored = self.stored.lock().unwrap();
        let place = |id: &str, have: &[u8]| {
            let location = ("location", format!("/v2/app/blobs/uploads/{id}?_state=a%3Db"));
            vec![location, ("range", format!("0-{}", have.len().saturating_sub(1)))]
        };
        match request.method.as_str() {
            "HEAD" => match stored.get(name) {
                // The length is of what GET would send; an answer to HEAD has no body.
                Some(bytes) => (200, vec![("content-length", bytes.len().to_string())]),
                None => (404, Vec::new()),
            },
            "POST" => {
                let id = format!("upload-{}", self.count.fetch_add(1, Ordering::SeqCst));
                uploads.insert(id.clone(), Vec::new());
                (202, place(&id, &[]))
            }
            "PUT" if path.contains("/manifests/") => {
                let found = digest(&body);
                stored.insert(name.to_owned(), body);
                (201, vec![("docker-content-digest", found)])
            }
            method => {
                let Some(have) = uploads.get_mut(id) else { return (404, Vec::new()) };
                let range = request.header("content-range");
                let first = range.and_then(|range| range.split('-').next()?.parse().ok());
                if first.is_some_and(|first: usize| first != have.len()) {
                    return (416, place(id, have));
                }
                match method {
                    "GET" => (204, place(id, have)),
                    "PATCH" => {
                        have.extend(&body);
                        (202, place(id, have))
                    }
                    _ => {
                        have.extend(&body);
                        let found = digest(have);
                        if !query.contains(&found.replace(':', "%3A")) {
                            return (400, Vec::new());
                        }
                        let bytes = uploads.remove(id).unwrap_or_default();
                        stored.insert(found, bytes);
                        (201, Vec::new())
                    }
                }
            }
        }
    }
}

fn upload_id(path: &str) -> String {
    let path = path.split('?').next().unwrap_or_default();
    path.rsplit('/').next().unwrap_or_default().to_owned()
}

fn answer(stream: &mut TcpStream, status: u16, headers: &[(&'static str, String)]) -> Goes {
    let mut head = format!("HTTP/1.1 {status} Fake\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if status != 204 && !headers.iter().any(|(name, _)| *name == "content-length") {
        head.push_str("content-length: 0\r\n");
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    Ok(true)
}

fn reset(stream: &TcpStream) -> Goes {
    let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
    nix::sys::socket::setsockopt(stream, nix::sys::socket::sockopt::Linger, &linger)?;
    Ok(false)
}

/// The next request without its body, and the body's length; `None` at the end of the connection.
fn read_head(stream: &mut TcpStream) -> io::Result<Option<(Logged, usize)>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 {
            return Ok(None);
        }
        head.push(byte[0]);
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
    let length = length.and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
    Ok(Some((Logged { method, path, headers, taken: 0 }, length)))
}
