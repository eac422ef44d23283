//! The built program, driven as a user drives it, against real registries and the real kernel.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, missing_docs, unreachable_pub)]

#[macro_use]
#[path = "../support/mod.rs"]
mod support;

mod bundle;
mod commit;
mod crash;
mod disk_usage;
mod errors;
mod history;
mod images;
mod import;
mod isolation;
mod limits;
mod lists;
mod process;
mod pull;
mod rootless;
mod run;
mod save;
mod secure_registry;
mod sharing;
mod signals;
mod terminal;
mod tree_lists;
mod verify;
