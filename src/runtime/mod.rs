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
pub mod defaults;
mod error;
mod features;
mod hooks;
mod host;
mod idmap;
mod mount_options;
mod plan;
mod process;
mod protocol;
pub mod rootless;
mod seal;
pub mod seccomp;
mod spawn;
mod tune;

pub use error::{Error, Step, Warning};
pub use features::{coverage_page, features};
pub use host::{CgroupVersion, Host, probe};
pub use process::{Bundle, ExitStatus, Options, Process, Root, Stdio, create, run};
pub use seal::{is_sealed, seal};
