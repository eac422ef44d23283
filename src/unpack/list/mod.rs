//! The list of a tree: what each path of it was when it was unpacked, so that damage can be told from what belongs.
//!
//! ```text
//! "mydocker list 1\n"
//! the number of layers; of each the length of its DiffID's text, the text, and how many regular files its archive has
//! records, in the order of [`compare_paths`]: the root first, a directory before what is in it
//! 0, the number of records
//! the BLAKE3 digest of all that
//! ```
//!
//! A record begins with a byte that holds its kind and the flags below. Then come: the length of the path's part that
//! is the same as in the path before, the length of the rest, the rest; mode, owner, group, seconds and nanoseconds of
//! the modification time; with [`ORIGIN`] the layer's and the entry's number; for a file its size and digest, for a
//! symbolic link its target, for a device its numbers; with [`XATTRS`] their number and each one's name and value.
//! Numbers are LEB128, seconds zigzag first; names, targets and values have their length before them.
//!
//! A file's digest is BLAKE3: for all but tiny files it takes a third of the time of SHA-256, even where the processor has
//! instructions for that, and nobody but this program has to compute it.

mod compare;
mod content;
mod origins;
mod read;
mod scan;
mod write;

use std::io;

use crate::oci::digest::DiffId;

pub use self::compare::{Change, Depth, Difference, compare};
pub(super) use self::content::ContentHasher;
pub(super) use self::origins::{Attributes, Made};
pub use self::origins::{Origin, Origins};
pub use self::read::ListReader;
pub(super) use self::scan::{file_kind, mtime};
pub use self::write::write_list;

const MAGIC: &[u8; 16] = b"mydocker list 1\n";
const DIRECTORY: u8 = 1;
const FILE: u8 = 2;
const SYMLINK: u8 = 3;
const BLOCK: u8 = 4;
const CHARACTER: u8 = 5;
const FIFO: u8 = 6;
/// The bits of a record's first byte that hold its kind.
const KIND: u8 = 0x0f;
/// The file also has a name that stands earlier in the list.
const LINKED: u8 = 0x10;
/// It has extended attributes.
const XATTRS: u8 = 0x20;
/// It is known which layer it comes from.
const ORIGIN: u8 = 0x40;
/// Its digest leaves out what is zero ([`RecordKind::File::sparse`]).
const SPARSE: u8 = 0x80;

/// A BLAKE3 digest.
pub type ContentDigest = [u8; 32];

/// Extended attributes: names and values, by name.
pub type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// A layer that a tree was made of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListedLayer {
    /// The digest of its uncompressed archive.
    pub diff_id: DiffId,
    /// How many regular files that holds, hidden ones among them.
    pub files: u64,
}

/// What a path of a tree was when it was unpacked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    /// The path from the root, without a slash before it; empty for the root.
    pub path: Vec<u8>,
    /// What kind of file it is, with what only such a file has.
    pub kind: RecordKind,
    /// Permissions, set-user-ID, set-group-ID and sticky bit. Those of a symbolic link mean nothing.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The modification time: seconds since 1970, and nanoseconds.
    pub mtime: (i64, u32),
    /// Extended attributes that belong to the tree, by name.
    pub xattrs: Xattrs,
    /// Where it comes from; `None` for a directory, which belongs to all layers that have something in it. Names with the
    /// same origin are one file.
    pub origin: Option<Origin>,
    /// Whether this is one more name of a file that stands earlier in the list.
    pub linked: bool,
}

/// What kind of file a record stands for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RecordKind {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// In bytes.
        size: u64,
        /// Of its content.
        digest: ContentDigest,
        /// Whether the digest leaves out those blocks of 4096 bytes that are zero, and instead has each other one's
        /// offset before it and the size at the end, so that nobody has to hash an exbibyte of nothing.
        sparse: bool,
    },
    /// A symbolic link.
    Symlink {
        /// What it holds.
        target: Vec<u8>,
    },
    /// A block device.
    Block {
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// A character device.
    Character {
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// A FIFO.
    Fifo,
}

/// Why a list could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListError {
    /// The list is not what was written once.
    #[error("corrupt list of a tree at byte {offset}: {problem}")]
    Corrupt {
        /// Where, counted from its start.
        offset: u64,
        /// What is wrong.
        problem: &'static str,
    },
    /// The list's file could not be read.
    #[error("read the list of a tree")]
    Read(#[source] io::Error),
    /// Something in the tree could not be looked at.
    #[error("look at `{path}` in the tree")]
    Tree {
        /// The path inside the tree, as it may be shown.
        path: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The list's file could not be written.
    #[error("write the list of a tree")]
    Write(#[source] io::Error),
}

impl ListError {
    pub(super) fn tree(path: &[u8], errno: nix::errno::Errno) -> Self {
        Self::Tree { path: super::error::shown(path), source: errno.into() }
    }
}

/// Orders paths as a walk does that enters a directory before it goes on behind it: `a/x` before `a.b`.
pub fn compare_paths(a: &[u8], b: &[u8]) -> std::cmp::Ordering {
    // No name holds a NUL, which is therefore free to stand for the slash, and sorts first.
    let key =
        |path: &[u8]| path.iter().map(|b| if *b == b'/' { 0 } else { *b }).collect::<Vec<_>>();
    let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    key(a.get(same..).unwrap_or_default()).cmp(&key(b.get(same..).unwrap_or_default()))
}
