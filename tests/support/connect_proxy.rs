//! A proxy that makes tunnels (RFC 9110, `CONNECT`), all of them to one server.

#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// The proxy, until it is dropped.
pub struct ConnectProxy {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
}

impl ConnectProxy {
    /// Whatever is asked for, it leads to `target`.
    pub fn start(target: &str) -> Self {
        let (listener, target) = (TcpListener::bind("127.0.0.1:0").unwrap(), target.to_owned());
        let address = listener.local_addr().unwrap();
        let (heads, stop) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<AtomicBool>::default());
        let (log, stopped) = (Arc::clone(&heads), Arc::clone(&stop));
        thread::spawn(move || {
            for client in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(client), target, log) = (client, target.clone(), Arc::clone(&log)) else {
                    continue;
                };
                thread::spawn(move || tunnel(client, &target, &log));
            }
        });
        Self { address, heads, stop }
    }

    /// Host and port.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// The heads of all requests for a tunnel.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

impl Drop for ConnectProxy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
    }
}

fn tunnel(mut client: TcpStream, target: &str, log: &Mutex<Vec<String>>) -> Option<()> {
    let mut reader = BufReader::new(client.try_clone().ok()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let is_connect = head.starts_with("CONNECT ");
    log.lock().unwrap().push(head);
    if !is_connect {
        client.write_all(b"HTTP/1.1 405 Only tunnels\r\ncontent-length: 0\r\n\r\n").ok()?;
        return None;
    }
    client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").ok()?;
    let server = TcpStream::connect(target).ok()?;
    let (mut from, mut to) = (server.try_clone().ok()?, client.try_clone().ok()?);
    let back = thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    let _ = std::io::copy(&mut reader, &mut &server);
    let _ = server.shutdown(Shutdown::Write);
    let _ = back.join();
    Some(())
}
