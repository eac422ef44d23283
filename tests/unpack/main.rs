//! `unpack` against the real kernel, hostile archives, and the programs that unpacked layers before it.
//!
//! Most of this needs root: owners, devices and capabilities are part of a layer.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "helpers of tests are test code"
)]

mod archive;
mod breakouts;
mod confinement;
mod differential;
mod formats;
mod layers;
mod limits;
mod lists;
mod random;
mod readers;
mod sharing;
mod streams;
mod support;
mod trees;
