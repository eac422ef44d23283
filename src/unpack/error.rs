//! What can go wrong with a layer.

use std::io;

use nix::errno::Errno;

use crate::oci::digest::DiffId;
use crate::sys::remove_tree::RemoveError;

/// Why a layer could not be unpacked, merged or packed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The thread that extracts could not be shut in.
    #[error("confine the thread that extracts")]
    Confine(#[source] io::Error),
    /// The copy of the layer could not be written.
    #[error("write a copy of the layer")]
    Copy(#[source] io::Error),
    /// The uncompressed layer is not the one that the image configuration names.
    #[error("layer has the wrong diff id: expected {expected}, got {actual}")]
    DiffId {
        /// What the configuration says.
        expected: DiffId,
        /// What the bytes hash to.
        actual: DiffId,
    },
    /// An entry could not be made, changed or read.
    #[error("{action} `{path}`")]
    Entry {
        /// What was tried, as a verb with its object's kind.
        action: &'static str,
        /// The entry's path inside the tree.
        path: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The copy of the layer's headers could not be written.
    #[error("write the headers of the layer")]
    Headers(#[source] io::Error),
    /// Less is free on the file system than is to stay free.
    #[error("{free} bytes are free, and {limit} are to stay so")]
    Full {
        /// What is free, in bytes.
        free: u64,
        /// What is to stay free, in bytes.
        limit: u64,
    },
    /// A hard link names a file that neither its layer nor a lower one holds.
    #[error("link `{path}` to `{target}`: no such file in this layer or below")]
    LinkTarget {
        /// The link's path inside the tree.
        path: String,
        /// The path that it names.
        target: String,
    },
    /// The layer asks for more than the caller allows.
    #[error("layer exceeds the limit of {maximum} {what}")]
    Limit {
        /// What there is too much of, in the plural.
        what: &'static str,
        /// How much is allowed.
        maximum: u64,
    },
    /// The thread that writes contents has failed; it has the error that counts.
    #[error("the writer has stopped")]
    Stopped,
    /// The archive does not follow its format, or readers of tar archives disagree about what it means.
    #[error("malformed tar archive at byte {offset}: {problem}")]
    Malformed {
        /// Where the header begins, counted from the start of the uncompressed archive.
        offset: u64,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// An entry's name cannot stand for what the entry is.
    #[error("refuse entry `{path}`: {problem}")]
    Name {
        /// The name as the archive has it.
        path: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The layer's bytes could not be read or decompressed.
    #[error("read layer")]
    Read(#[source] io::Error),
    /// Something that a layer replaces or hides could not be removed.
    #[error("clear the way in `{path}`")]
    Remove {
        /// The directory inside the tree.
        path: String,
        /// What could not be removed.
        #[source]
        source: RemoveError,
    },
    /// A thread could not be started.
    #[error("start a thread")]
    Thread(#[source] io::Error),
    /// A packed archive could not be written.
    #[error("write layer")]
    Write(#[source] io::Error),
}

impl Error {
    /// Whether the kernel refused for want of a privilege, as it does when an ordinary user makes a device or gives a
    /// file away.
    pub fn is_permission(&self) -> bool {
        let Self::Entry { source, .. } = self else { return false };
        source.kind() == io::ErrorKind::PermissionDenied
    }

    pub(super) fn entry(action: &'static str, path: &[u8], errno: Errno) -> Self {
        Self::Entry { action, path: shown(path), source: errno.into() }
    }

    pub(super) fn name(path: &[u8], problem: &'static str) -> Self {
        Self::Name { path: shown(path), problem }
    }
}

/// A hostile name as it may be shown: bounded, and without control characters that would steer a terminal.
pub(super) fn shown(path: &[u8]) -> String {
    const LONGEST: usize = 256;
    let mut shown = String::new();
    for c in String::from_utf8_lossy(&path[..path.len().min(LONGEST)]).chars() {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    if path.len() > LONGEST {
        shown.push('…');
    }
    shown
}
