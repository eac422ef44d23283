//! The client of the distribution-spec: manifests and blobs from and to registries, with authentication.
//!
//! Everything that a registry sends is hostile until its digest has been compared, and nothing that it says decides
//! whom credentials are sent to: they belong to one host and port and go nowhere else, whatever redirect or realm
//! asks for them.
//!
//! - `client`, `blob`, `tags`, `search`: what is asked for, and the reader that resumes a broken download.
//! - `config`, `sources`: which places a reference stands for, and which of them still deserve to be asked.
//! - `push`, `upload`, `resume`, `pipe`: what is given, and the upload that goes on where it broke off.
//! - `auth`, `challenge`, `credentials`, `helper`, `secret`: who we are, and to whom that is said.
//! - `login`, `authfile`: how that comes to be known here.
//! - `error`, `cause`, `foreign`: what goes wrong, and what others say of it, made fit to be shown.
//! - `transport`, `address`, `proxy`, `tls`, `certificate`: one exchange with its redirects, and how far it may go.
//!
//! Not here: verifying a blob (whoever reads it wraps it in [`crate::oci::digest::VerifyReader`]), understanding manifests,
//! and the `urls` of layers, which are never looked at.
//!
//! Specifications: distribution-spec; distribution's "Token Authentication Specification"; RFC 9110.

mod address;
mod auth;
mod authfile;
mod blob;
mod cause;
mod certificate;
mod challenge;
mod client;
mod config;
mod credentials;
mod error;
mod foreign;
mod helper;
mod login;
mod options;
mod pipe;
mod proxy;
mod push;
mod resume;
mod search;
mod secret;
mod sources;
mod tags;
mod tls;
mod transport;
mod upload;

pub use blob::Blob;
pub use cause::Cause;
pub use client::{Client, RawManifest, media_type_of};
pub use error::{Error, Issuer, Sent};
pub use login::{Keeper, Login, LoginKey, LoginKeyError, forget, keep, known, left};
pub use options::{Environment, Options, caller};
pub use push::{Content, Pushed};
pub use search::SearchResult;
pub use secret::Secret;
pub use sources::Watcher;
