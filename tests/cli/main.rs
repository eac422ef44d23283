//! The built program, driven as a user drives it, against real registries and the real kernel.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, missing_docs, unreachable_pub)]

#[macro_use]
#[path = "../support/mod.rs"]
mod support;

mod crash;
mod detached;
mod errors;
mod exec;

mod images;
mod import;
mod isolation;
mod lifecycle;
mod limits;
mod lists;
mod logs;
mod options;
mod process;
mod pull;
mod rootless;
mod run;
mod secure_registry;
mod shown;
mod signals;
mod terminal;
