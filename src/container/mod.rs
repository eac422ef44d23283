//! Containers as users know them: options to runtime-spec, records, the terminal, the end.

mod attach;
mod client;
mod detach;
mod error;
mod files;
mod ids;
mod lifecycle;
mod log;
mod logs;
pub mod monitor;
mod names;
mod options;
mod prepare;
mod record;
mod run;
mod settings;
mod spec;
mod status;
mod streams;
mod user;

pub use attach::{Signals, attach, write_all};
pub use client::{Attachment, Left, attach_to};
pub use detach::DetachKeys;
pub use error::Error;
pub use ids::IdRange;
pub use lifecycle::{kill, pause, remove, restart, start, stop, unpause, wait};
pub use log::{LogEntry, Stream};
pub use logs::{Follow, LogReader};
pub use options::{MIN_MEMORY, Network, RootSource, RunOptions, UserNamespace, Volume};
pub use prepare::create;
pub use record::{Containers, Record, now};
pub use run::run;
pub use settings::{LogOptions, RestartPolicy, STOP_TIMEOUT, Settings, parse_signal};
pub use status::{Finished, Identity, Running, Status};
pub use streams::Relay;
