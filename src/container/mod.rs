//! Containers as users know them: options to runtime-spec, records, the terminal, the end.

mod adjust;
mod attach;
mod client;
mod copy;
mod copy_path;
mod detach;
mod error;
mod exec;
mod files;
mod freeze;
mod ids;
mod layer;
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
mod size;
mod spec;
mod status;
mod streams;
mod update;
mod usage;
mod user;

pub use adjust::{Adjustments, Host, Limits, Tmpfs, Ulimit};
pub use attach::{Signals, attach, write_all};
pub use client::{Attachment, Left, attach_to};
pub use copy::{Files, Visit, needs_mounts, open_files};
pub use copy_path::{
    CopyError, Destination, Source, base, find_destination, find_directory, find_source,
};
pub use detach::DetachKeys;
pub use error::Error;
pub use exec::{ExecRequest, exec};
pub use freeze::{HOLD_VERB, hold};
pub use ids::IdRange;
pub use layer::{Hold, Layer, Started, open_layer};
pub use lifecycle::{kill, pause, remove, restart, start, stop, unpause, wait};
pub use log::{LogEntry, Stream};
pub use logs::{Follow, LogReader};
pub use options::{MIN_MEMORY, Network, RootSource, RunOptions, UserNamespace, Volume};
pub use prepare::create;
pub use record::{Containers, Record, now};
pub use run::run;
pub use settings::{LogOptions, RestartPolicy, STOP_TIMEOUT, Settings, parse_signal};
pub use size::layer_size;
pub use status::{Finished, Identity, Running, Status};
pub use streams::Relay;
pub use update::{Change, update};
pub use usage::VolumeUsage;
