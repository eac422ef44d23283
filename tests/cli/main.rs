//! The built program, driven as a user drives it, against real registries and the real kernel.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, missing_docs, unreachable_pub)]

#[path = "../support/connect_proxy.rs"]
mod connect_proxy;
#[path = "../support/fake_registry.rs"]
mod fake_registry;
#[path = "../support/image.rs"]
mod made;
#[macro_use]
#[path = "../support/mod.rs"]
mod support;

mod crash;
mod errors;
mod hostile_images;
mod images;
mod import;
mod isolation;
mod limits;
mod lists;
mod memory;
mod network;
mod process;
mod pull;
mod real_registries;
mod resume;
mod rootless;
mod run;
mod secure_registry;
mod signals;
mod terminal;
