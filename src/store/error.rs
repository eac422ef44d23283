//! What goes wrong in a store.

use std::io;
use std::path::{Path, PathBuf};

use crate::oci::digest::{Digest, Mismatch};
use crate::sys::remove_tree::RemoveError;

/// An error of the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `index.json` cannot be understood.
    #[error("malformed `{path}`")]
    Index {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// A system call on a path of the store failed.
    #[error("{verb} `{path}`")]
    Io {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A blob that a new image needs was removed by another process while the image was being made.
    #[error("blob {0} was removed by another command meanwhile")]
    Vanished(Digest),
    /// A document in the store is larger than any that is read into memory.
    #[error("`{path}` has {size} bytes, more than the {limit} allowed")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size, in bytes.
        size: u64,
        /// The most that is read, in bytes.
        limit: u64,
    },
    /// Something under `tmp/` or a removed tree could not be deleted.
    #[error("clear `{path}`")]
    Remove {
        /// The folder.
        path: PathBuf,
        /// What stays.
        #[source]
        source: RemoveError,
    },
}

impl Error {
    /// Whether something in the store is not what its digest says.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Io { source, .. } if Mismatch::of(source).is_some())
    }

    /// The kernel's word on it, where there is one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Io { source, .. } => source.raw_os_error(),
            Self::Remove { source, .. } => source.source.raw_os_error(),
            _ => None,
        }
    }
}

/// Adds the verb and the path to an I/O error.
pub(super) trait At<T> {
    fn at(self, verb: &'static str, path: &Path) -> Result<T, Error>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, verb: &'static str, path: &Path) -> Result<T, Error> {
        self.map_err(|source| Error::Io { verb, path: path.to_owned(), source })
    }
}
