//! mydocker: pulls container images and runs them, without a daemon and without Docker.
//!
//! The modules and the only arrows between them are drawn in `ARCHITECTURE.md` and held by `tests/architecture.rs`.

pub mod cli;
pub mod container;
pub mod image;
pub mod oci;
pub mod registry;
pub mod runtime;
pub mod store;
#[allow(unsafe_code)]
pub mod sys;
pub mod unpack;
