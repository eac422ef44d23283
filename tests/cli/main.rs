//! The built program, driven as a user drives it, against real registries and the real kernel.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, missing_docs, unreachable_pub)]

#[path = "../support/fake_registry.rs"]
mod fake_registry;
#[macro_use]
#[path = "../support/mod.rs"]
mod support;

mod copy;
mod crash;
mod errors;
mod images;
mod import;
mod isolation;
mod limits;
mod lists;
mod login;
mod process;
mod pull;
mod push;
mod remote;
mod rootless;
mod run;
mod search;
mod secure_registry;
mod signals;
mod tag;
mod terminal;
