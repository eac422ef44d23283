//! The runtime on the real kernel: the built program runs bundles made of Debian's static busybox.
//!
//! Needs root and `/bin/busybox` (package `busybox-static`).

#![allow(clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

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
#[path = "runtime/owners.rs"]
mod owners;
#[path = "runtime/probe.rs"]
mod probe;
#[path = "runtime/requests.rs"]
mod requests;
