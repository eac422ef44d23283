//! The client of the distribution-spec: manifests and blobs from registries, with authentication.
//!
//! Everything that a registry sends is hostile until its digest has been compared, and nothing that it says decides
//! whom credentials are sent to: they belong to one host and port and go nowhere else, whatever redirect or realm
//! asks for them.
//!
//! - `client`, `blob`: what is asked for, and the reader that resumes a broken download.
//! - `config`, `sources`: which places a reference stands for, and which of them still deserve to be asked.
//! - `auth`, `challenge`, `credentials`, `helper`, `secret`: who we are, and to whom that is said.
//! - `transport`, `address`, `proxy`, `tls`, `certificate`: one exchange with its redirects, and how far it may go.
//!
//! Not here: verifying a blob (whoever reads it wraps it in [`crate::oci::digest::VerifyReader`]), understanding manifests,
//! and the `urls` of layers, which are never looked at.
//!
//! Specifications: distribution-spec; distribution's "Token Authentication Specification"; RFC 9110.

mod address;
mod auth;
mod blob;
mod certificate;
mod challenge;
mod client;
mod config;
mod credentials;
mod error;
mod helper;
mod options;
mod proxy;
mod secret;
mod sources;
mod tls;
mod transport;

pub use blob::Blob;
pub use client::{Client, RawManifest, media_type_of};
pub use error::{Cause, Error, Issuer, Sent};
pub use options::{Environment, Options, caller};
pub use sources::Watcher;
