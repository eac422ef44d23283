//! One small process for each detached container: it starts the container, keeps its log, writes down how it ended, and
//! starts it again if its policy says so.
//!
//! ```text
//! mydocker run -d / start            mydocker monitor ID                      the container
//! spawns the monitor         →       a session of its own; claims the lock
//! waits                              starts the container             →       is executed
//! prints the id, ends        ←       STARTED, or why not
//!                                    log, clients, end, restart       ←       output, end
//! ```
//!
//! It is this program executed anew, so that it carries nothing of the command that started it, has one thread, as the
//! runtime demands, and depends on no file that an upgrade replaces. Clients reach it by a socket in the run folder.

mod channel;
mod life;
mod listener;
mod lock;
mod message;
mod prober;
mod watch;

pub(super) use channel::poke;
pub use channel::{Started, connect, start};
pub use life::{Explain, Monitor};
pub(super) use listener::remove_socket;
pub(super) use lock::lock;
pub use message::{Connection, Event, Failed, Request};
pub(super) use prober::Watcher;
pub use prober::watch;

/// The hidden verb.
pub const MONITOR_VERB: &str = "monitor";
