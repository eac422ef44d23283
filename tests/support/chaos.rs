//! A network that does what networks do at their worst: a proxy on TCP that resets, stalls, cuts off and corrupts, by
//! the numbers of a seed.

#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What happens to one connection, after so many bytes from the server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fate {
    Corrupt(u64),
    Cut(u64),
    Fine,
    Reset(u64),
    Stall(u64),
}

/// Numbers that look random and are the same for the same seed (splitmix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

/// The proxy, until it is dropped.
pub struct Chaos {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    calm: Arc<AtomicBool>,
    faults: Arc<AtomicU64>,
}

impl Chaos {
    /// In front of the server at `target`. Of ten connections, some four go wrong within the first `reach` bytes.
    pub fn start(target: SocketAddr, seed: u64, reach: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, calm) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let (stopped, is_calm) = (Arc::clone(&stop), Arc::clone(&calm));
        let faults = Arc::<AtomicU64>::default();
        let (count, random) = (Arc::clone(&faults), Mutex::new(Random::new(seed)));
        thread::spawn(move || {
            for client in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let mut random = random.lock().unwrap();
                let at = random.below(reach);
                let fate = match random.below(10) {
                    _ if is_calm.load(Ordering::SeqCst) => Fate::Fine,
                    0 => Fate::Reset(at),
                    1 => Fate::Stall(at),
                    2 => Fate::Cut(at),
                    3 => Fate::Corrupt(at),
                    _ => Fate::Fine,
                };
                count.fetch_add(u64::from(fate != Fate::Fine), Ordering::SeqCst);
                let Ok(client) = client else { continue };
                let stopped = Arc::clone(&stopped);
                thread::spawn(move || relay(&client, target, fate, &stopped));
            }
        });
        Self { address, stop, calm, faults }
    }

    /// Where it listens.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Lets new connections alone from now on, or no more.
    pub fn set_calm(&self, calm: bool) {
        self.calm.store(calm, Ordering::SeqCst);
    }

    /// How many connections went wrong, or would have if they had carried enough.
    pub fn faults(&self) -> u64 {
        self.faults.load(Ordering::SeqCst)
    }
}

impl Drop for Chaos {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
    }
}

/// Carries bytes both ways until the fate of the connection is fulfilled.
fn relay(client: &TcpStream, target: SocketAddr, fate: Fate, stop: &AtomicBool) -> Option<()> {
    let server = TcpStream::connect(target).ok()?;
    let (mut from, mut to) = (client.try_clone().ok()?, server.try_clone().ok()?);
    thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    let (mut from, mut to) = (&server, client);
    let (mut buffer, mut seen) = (vec![0; 4096], 0_u64);
    loop {
        let count = from.read(&mut buffer).unwrap_or(0);
        if count == 0 {
            break;
        }
        let bytes = &mut buffer[..count];
        let here = |at: u64| {
            let at = usize::try_from(at.checked_sub(seen)?).ok()?;
            (at < count).then_some(at)
        };
        let stopped_at = match fate {
            Fate::Corrupt(at) => {
                if let Some(at) = here(at) {
                    bytes[at] ^= 0x10;
                }
                None
            }
            Fate::Cut(at) | Fate::Reset(at) | Fate::Stall(at) => here(at),
            Fate::Fine => None,
        };
        if to.write_all(&bytes[..stopped_at.unwrap_or(count)]).is_err() {
            break;
        }
        seen += count as u64;
        if stopped_at.is_some() {
            end(client, fate, stop);
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
    Some(())
}

fn end(client: &TcpStream, fate: Fate, stop: &AtomicBool) {
    match fate {
        Fate::Reset(_) => {
            let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
            let _ =
                nix::sys::socket::setsockopt(client, nix::sys::socket::sockopt::Linger, &linger);
        }
        Fate::Stall(_) => {
            // Longer than anybody waits in the test.
            for _ in 0..200 {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                thread::sleep(Duration::from_millis(10));
            }
        }
        _ => {}
    }
}
