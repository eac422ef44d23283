//! What goes wrong while images come and go.

use std::io;
use std::path::PathBuf;

use crate::oci::digest::{DiffId, Digest, Mismatch};
use crate::oci::manifest::{DocumentError, Index};
use crate::oci::platform::Platform;
use crate::oci::reference::ReferenceError;
use crate::{registry, store, unpack};

/// An error of a use-case.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Several images have ids that begin so.
    #[error("ambiguous image id `{0}`")]
    AmbiguousId(String),
    /// A blob is not what its descriptor says.
    #[error("verify {what} `{digest}`")]
    Blob {
        /// Configuration or layer.
        what: &'static str,
        /// The digest in its descriptor.
        digest: Digest,
        /// What is wrong.
        #[source]
        source: Mismatch,
    },
    /// The image configuration cannot be understood.
    #[error("malformed image configuration `{digest}`")]
    Config {
        /// Its digest.
        digest: Digest,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The configuration does not fit the manifest.
    #[error("image configuration has {diff_ids} diff_ids and the manifest {layers} layers")]
    LayerCount {
        /// Layers according to the configuration.
        diff_ids: usize,
        /// Layers according to the manifest.
        layers: usize,
    },
    /// A layer unpacks to something else than its image says.
    #[error("layer `{layer}`: DiffID mismatch: expected {expected}, got {actual}")]
    DiffId {
        /// The layer's digest.
        layer: Digest,
        /// What the configuration says.
        expected: DiffId,
        /// What the bytes hash to.
        actual: DiffId,
    },
    /// A manifest or index cannot be understood.
    #[error("parse manifest `{digest}`")]
    Document {
        /// Its digest.
        digest: Digest,
        /// What is wrong with it.
        #[source]
        source: DocumentError,
    },
    /// An archive or layout names no image, or more than one where one was wanted.
    #[error("`{path}` holds {found} images")]
    ImageCount {
        /// What was imported.
        path: String,
        /// The number of images in it.
        found: usize,
    },
    /// A containers stands on the image.
    #[error("image is in use by container {0}")]
    InUse(String),
    /// A system call on a path failed.
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
    /// Unpacking a layer failed.
    #[error("unpack layer `{layer}`")]
    Layer {
        /// The layer's digest.
        layer: String,
        /// Why.
        #[source]
        source: unpack::Error,
    },
    /// A layer has a type that cannot be unpacked.
    #[error("unsupported layer media type `{0}`")]
    LayerType(String),
    /// The list of a tree could not be read or written.
    #[error(transparent)]
    List(#[from] unpack::list::ListError),
    /// A name in an archive belongs to another image already.
    #[error("`{0}` is already the name of another image")]
    NameTaken(String),
    /// Nothing says what the image should be called.
    #[error("the image has no name")]
    Nameless,
    /// What is still to come does not fit on the store's disk.
    #[error("no space left on device: {needed} bytes are needed at least, {free} are free")]
    NoSpace {
        /// The packed layers and what is to stay free, in bytes.
        needed: u64,
        /// What there is, in bytes.
        free: u64,
    },
    /// No such image in the store.
    #[error("no such image: {0}")]
    NoSuchImage(String),
    /// The image is not offered for the platform.
    #[error("no image for platform {wanted}; there is: {offered}")]
    NoSuchPlatform {
        /// The platform asked for, or that of this machine.
        wanted: String,
        /// What is on offer.
        offered: String,
    },
    /// What was imported is of no known kind.
    #[error("`{path}` is no root filesystem, image archive or image layout: {why}")]
    NotAnImage {
        /// What was imported.
        path: String,
        /// What it lacks.
        why: &'static str,
    },
    /// Packing a folder into a layer failed.
    #[error("pack `{path}`")]
    Pack {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: unpack::Error,
    },
    /// The text is no image reference.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The registry or the way to it failed.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Indexes within indexes beyond the limit.
    #[error("index is nested too deeply or too wide")]
    TooDeep,
}

impl Error {
    pub(super) fn document(digest: &Digest, source: DocumentError) -> Self {
        Self::Document { digest: digest.clone(), source }
    }

    pub(super) fn no_platform(wanted: &Platform, index: &Index) -> Self {
        let offered = index.platforms();
        let offered = if offered.is_empty() { "none".to_owned() } else { offered.join(", ") };
        Self::NoSuchPlatform { wanted: wanted.to_string(), offered }
    }

    /// What the user can do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Registry(error) => error.hint(),
            Self::NoSuchImage(name) => Some(format!(
                "`mydocker pull {name}` fetches it, `mydocker images` lists what is here"
            )),
            Self::AmbiguousId(_) => Some("give more digits of the id".to_owned()),
            Self::NoSuchPlatform { .. } => {
                Some("choose one of these with --platform OS/ARCH[/VARIANT]".to_owned())
            }
            Self::Nameless | Self::ImageCount { .. } | Self::NameTaken(_) => {
                Some("say what to call it with --name NAME".to_owned())
            }
            Self::InUse(id) => Some(format!("remove the container first: mydocker rm {id}")),
            Self::Store(error) if error.errno() == Some(libc::EACCES) => {
                Some("run it as root, or give another store with --root DIR".to_owned())
            }
            Self::Blob { .. } | Self::DiffId { .. } => Some(
                "the registry or something on the way changed the bytes; nothing was stored"
                    .to_owned(),
            ),
            _ if self.is_disk_full() => {
                Some("free some space, or give a store on another disk with --root DIR".to_owned())
            }
            _ => None,
        }
    }

    fn is_disk_full(&self) -> bool {
        if let Self::NoSpace { .. } | Self::Layer { source: unpack::Error::Full { .. }, .. } = self
        {
            return true;
        }
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = cause {
            let errno = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
            let nix = error.downcast_ref::<nix::errno::Errno>().map(|errno| *errno as i32);
            if matches!(errno.or(nix), Some(libc::ENOSPC | libc::EDQUOT)) {
                return true;
            }
            cause = error.source();
        }
        false
    }
}
