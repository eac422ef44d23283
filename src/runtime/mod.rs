//! (bundle, spec) to process: namespaces, mounts, control groups, capabilities, seccomp.
//!
//! [`create`] plans everything in the parent ([`plan`]), clones once, and lets the child walk a flat list of steps
//! ([`child`]) while the parent maps ids, fills the control group and compiles the filter. What fails in the child comes
//! back as (step, object, errno) ([`protocol`]) and is said in words by the parent ([`error`]).
//!
//! Invariants: the process that clones has one thread; no name inside a root is resolved but by `openat2` on that root;
//! nothing that an image says chooses what happens here.

mod cgroup;
mod child;
mod console;
mod container;
mod create;
pub mod defaults;
mod error;
mod exec;
mod explain;
mod features;
mod groups;
mod hooks;
mod host;
mod idmap;
mod init;
mod labels;
mod mount_options;
mod options;
mod plan;
mod process;
mod protocol;
mod reaper;
mod resctrl;
pub mod rootless;
mod seal;
pub mod seccomp;
mod share;
mod spawn;
mod state;
mod stats;
mod systemd;
mod tune;
mod visit;

pub use console::send_console;
pub use container::{Container, State, delete_unfinished};
pub use error::{Error, Step, Warning};
pub use exec::{ExecOptions, exec};
pub use explain::Cause;
pub use features::{coverage_page, features};
pub use groups::{Below, Groups};
pub use host::{CgroupVersion, Host, probe};
pub use init::{Init, start_time};
pub use labels::pass_over_labels;
pub use options::{Bundle, Options, Root, Stdio};
pub use process::{ExitStatus, Process, create, run};
pub use reaper::{INIT_NAME, reap};
pub use resctrl::Class;
pub use seal::{is_sealed, seal, seal_for};
pub use share::open_mount;
pub use state::{Entry, Record, States, Status};
pub use stats::Stats;
pub use systemd::{BusError, Manager, Unit};
pub use visit::{Visitor, visit};
