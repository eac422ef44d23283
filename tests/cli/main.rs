//! The built program, driven as a user drives it, against real registries and the real kernel.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, missing_docs, unreachable_pub)]

#[path = "../support/connect_proxy.rs"]
mod connect_proxy;
#[path = "../support/disk.rs"]
mod disk;
#[path = "../support/fake_registry.rs"]
mod fake_registry;
#[path = "../support/limited.rs"]
mod limited;
#[path = "../support/image.rs"]
mod made;
#[macro_use]
#[path = "../support/mod.rs"]
mod support;

mod boot;
mod boot_systemd;
mod bundle;
mod commit;
mod contents;
mod copy;
mod cp;
mod crash;
mod damaged_blobs;
mod detached;
mod devices;
mod disk_usage;
mod errors;
mod events;
mod exec;
mod explained;
mod flags;
mod flags_attach;
mod flags_init;
mod flags_limits;
mod golden;
mod health;
mod history;
mod hostile_images;
mod image_races;
mod images;
mod import;
mod isolation;
mod layer_limits;
mod lifecycle;
mod limits;
mod lists;
mod login;
mod logs;
mod many;
mod memory;
mod mounts;
mod namespaces;
mod network;
mod one_liners;
mod options;
mod process;
mod pull;
mod push;
mod races;
mod real_registries;
mod remote;
mod resume;
mod rootless;
mod run;
mod save;
mod search;
mod secure_registry;
mod security_options;
mod services;
mod sharing;
mod shown;
mod signals;
mod steps;
mod system;
mod tag;
mod terminal;
mod top;
mod tree_lists;
mod verify;
mod volumes;
