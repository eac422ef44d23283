//! What the tests stand on: a store of their own, commands that cannot hang, registries, terminals, trees to compare.

pub mod command;
pub mod env;
pub mod fixtures;
pub mod mounted;
pub mod program;
pub mod pty;
pub mod registry;
#[macro_use]
pub mod require;
pub mod systemd;
pub mod token_server;
pub mod tree;
pub mod user;

use std::time::{Duration, Instant};

/// How much slower than usual this machine is: the virtual machine of `tests/vm` computes some ten times slower.
fn slowness() -> u32 {
    let given = std::env::var("MYDOCKER_TEST_SLOWNESS");
    given.ok().and_then(|factor| factor.parse().ok()).unwrap_or(1)
}

/// So many seconds on a usual machine, as a limit beyond which something hangs.
pub fn seconds(usual: u32) -> Duration {
    Duration::from_secs(1) * usual * slowness()
}

/// Waits until `done` returns something.
///
/// # Panics
/// After half a minute, with `what` did not come about.
pub fn wait_for<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + seconds(30);
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what} did not come about");
        std::thread::sleep(Duration::from_millis(5));
    }
}
