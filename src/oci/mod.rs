//! The data and the rules of the OCI specifications: pure, opening nothing, calling nobody.
//!
//! - [`digest`], [`reference`]: what names content, and what users call it.
//! - [`descriptor`], [`manifest`], [`platform`], [`media_type`]: image-spec and Docker schema 2 documents.
//! - [`image_config`]: the image configuration.
//! - [`runtime_spec`], [`capability`]: a container's `config.json`.

pub mod capability;
pub mod descriptor;
pub mod digest;
pub mod image_config;
pub mod manifest;
pub mod media_type;
pub mod platform;
pub mod reference;
pub mod runtime_spec;
