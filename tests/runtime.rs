//! The runtime on the real kernel: the built program runs bundles made of Debian's static busybox.
//!
//! Needs root and `/bin/busybox` (package `busybox-static`).

#![allow(clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

#[path = "runtime/agent.rs"]
mod agent;
#[path = "runtime/attacks.rs"]
mod attacks;
#[path = "runtime/bundle.rs"]
mod bundle;
#[path = "runtime/commands.rs"]
mod commands;
#[path = "runtime/exec.rs"]
mod exec;
#[path = "runtime/hostile.rs"]
mod hostile;
#[path = "runtime/inside.rs"]
mod inside;
#[path = "runtime/lifecycle.rs"]
mod lifecycle;
#[path = "runtime/limits.rs"]
mod limits;
#[path = "runtime/mounts.rs"]
mod mounts;
#[path = "runtime/namespaces.rs"]
mod namespaces;
#[path = "runtime/owners.rs"]
mod owners;
#[path = "runtime/probe.rs"]
mod probe;
#[path = "runtime/process.rs"]
mod process;
#[path = "support/program.rs"]
mod program;
#[path = "runtime/requests.rs"]
mod requests;
#[path = "runtime/shared_mounts.rs"]
mod shared_mounts;
#[path = "runtime/unstarted.rs"]
mod unstarted;
