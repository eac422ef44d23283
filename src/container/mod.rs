//! Containers as users know them: options to runtime-spec, records, the terminal, the end.

mod adjust;
mod attach;
mod boot;
mod boot_hook;
mod cdi;
mod client;
mod copy;
mod copy_path;
mod detach;
mod devices;
mod error;
mod events;
mod events_reader;
mod exec;
mod explain;
mod files;
mod freeze;
mod health;
mod ids;
mod keep_groups;
mod layer;
mod lifecycle;
mod log;
mod logs;
pub mod monitor;
mod names;
mod namespaces;
mod neighbours;
mod options;
mod prepare;
mod probe;
mod record;
mod run;
mod security;
mod settings;
mod size;
mod spec;
mod status;
mod streams;
mod top;
mod tuning;
mod update;
mod usage;
mod user;
mod volume;
mod wait;
mod yaml;

pub use adjust::{Adjustments, Host, Limits, Tmpfs, Ulimit};
pub use attach::{Signals, attach, write_all};
pub use boot::{Booted, boot, shut_down};
pub use boot_hook::{BootHook, HookFile, InitSystem};
pub use client::{Attachment, Left, attach_to};
pub use copy::{Files, Visit, needs_mounts, open_files};
pub use copy_path::{
    CopyError, Destination, Source, base, find_destination, find_directory, find_source,
};
pub use detach::DetachKeys;
pub use devices::{DeviceCgroupRule, DeviceRequest, Devices, Throttle, Throttles};
pub use error::Error;
pub use events::{Actor, Event, Journal};
pub use events_reader::EventReader;
pub use exec::{ExecRequest, exec};
pub use explain::Ending;
pub use freeze::{HOLD_VERB, hold};
pub use health::{Health, HealthStatus, Probed};
pub use ids::IdRange;
pub use layer::{Hold, Layer, Started, open_layer};
pub use lifecycle::{kill, pause, remove, restart, start, stop, unpause, wait};
pub use log::{LogEntry, Stream};
pub use logs::{Follow, LogReader};
pub use namespaces::{Ipc, Join, Namespaces, Share};
pub use neighbours::{joined_by, neighbours};
pub use options::{MIN_MEMORY, Network, RootSource, RunOptions, UserNamespace};
pub use prepare::create;
pub use probe::probe;
pub use record::{Containers, Record, now};
pub use run::run;
pub use security::Security;
pub use settings::{LogOptions, RestartPolicy, STOP_TIMEOUT, Settings, parse_bytes, parse_signal};
pub use size::layer_size;
pub use status::{Finished, Identity, Running, Status};
pub use streams::Relay;
pub use top::{Columns, TopError, top};
pub use tuning::Tuning;
pub use update::{Change, update};
pub use usage::VolumeUsage;
pub use volume::{
    MountFault, MountPoint, MountRequest, MountRequests, MountSource, Ownership, Propagation,
    Recursion, RequestedSource, RequestedVolume, Volume, VolumeError, Volumes, VolumesFrom,
    parse_options as parse_volume_options, prune_volumes, remove_volume,
};
pub use wait::{Condition, wait_until};
