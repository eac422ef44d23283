//! Layers: decompress, verify, parse, extract, merge, pack.
//!
//! Everything in a layer is hostile. The parser refuses what two readers could understand differently (`tar`); the
//! extractor never hands a path of the archive to the kernel, but walks component by component on directory
//! descriptors (`walk`).

mod chunk;
mod compression;
pub mod confine;
mod copy;
mod create;
mod descriptors;
mod encode;
mod error;
mod extract;
mod gzip;
mod lay;
mod layer;
mod limits;
pub mod list;
mod look;
mod members;
mod merge;
mod note;
mod overlay;
mod pack;
mod path;
mod replica;
mod resolve;
mod share;
mod stream;
mod syscalls;
mod tar;
mod tree;
mod walk;
mod writer;
mod xz;

pub use self::compression::{Compression, decoder};
pub use self::copy::Copy;
pub use self::encode::{Encoder, measure};
pub use self::error::Error;
pub use self::lay::{Laid, Laying, Owners, lay};
pub use self::layer::Layer;
pub use self::limits::{LimitError, Limits};
pub use self::look::{diff_id, file_bytes, names};
pub use self::members::{Member, members};
pub use self::merge::merge;
pub use self::overlay::{Change, ChangeKind, Overlay, changes, pack_changes, pack_merged};
pub use self::pack::{pack, pack_files};
pub use self::replica::replicate;
pub use self::share::Donor;
pub use self::stream::{Destination, extract, replay_layer, unpack_layer};
