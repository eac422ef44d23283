//! What goes wrong while images come and go.

use std::io;
use std::path::PathBuf;

use crate::oci::digest::{DiffId, Digest, DigestError, Mismatch};
use crate::oci::manifest::{DocumentError, Index};
use crate::oci::platform::Platform;
use crate::oci::reference::ReferenceError;
use crate::{registry, store, unpack};

/// What to do about a store that is not what it was.
const MEND: &str = "`mydocker verify` shows what else is, `mydocker repair` mends it";

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
    /// What a container changed could not be read.
    #[error("read the container's changes")]
    Compare {
        /// Why.
        #[source]
        source: unpack::Error,
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
    /// A blob in the store is no longer what its digest says.
    #[error("blob `{digest}` is damaged")]
    Damaged {
        /// The digest that it should have.
        digest: Digest,
        /// What is wrong.
        #[source]
        source: Mismatch,
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
    /// A name with a digest, where a name is given.
    #[error("a name that is given cannot hold a digest: {0}")]
    DigestNamed(Digest),
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
    /// A list of digests cannot be understood.
    #[error("malformed inventory `{path}`")]
    Inventory {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: DigestError,
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
    /// A layer that has to be in the store is not there, or not in its full size.
    #[error("blob `{0}` is missing from the store, or cut off")]
    Lost(Digest),
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
    /// An archive leaves out layers that the store does not have.
    #[error("`{path}` leaves out layers that are not in this store: {layers}")]
    Missing {
        /// What was imported.
        path: String,
        /// Their digests.
        layers: String,
    },
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
    /// A blob is broken, and no image that has it came from a registry.
    #[error("no registry is known to have blob `{0}`")]
    NoSource(Digest),
    /// A tree cannot be exchanged while a container runs on it.
    #[error("container {0} is running on it")]
    Running(String),
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
    /// An archive or layout has no image of the name.
    #[error("`{path}` has no image `{tag}`")]
    NoSuchTag {
        /// The archive or layout.
        path: String,
        /// The name.
        tag: String,
    },
    /// What was imported is of no known kind.
    #[error("`{path}` is no root filesystem, image archive or image layout: {why}")]
    NotAnImage {
        /// What was imported.
        path: String,
        /// What it lacks.
        why: &'static str,
    },
    /// An archive could not be laid into a directory.
    #[error("copy to `{path}`")]
    Lay {
        /// What it was copied to.
        path: PathBuf,
        /// Why.
        #[source]
        source: unpack::Error,
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
            Self::Nameless | Self::ImageCount { .. } => {
                Some("say what to call it with --name NAME".to_owned())
            }
            Self::NameTaken(_) => Some(
                "`import --name NAME` gives it another name; --force takes the name away"
                    .to_owned(),
            ),
            Self::NoSource(_) => Some(
                "the image was imported or committed: import it once more, or remove it".to_owned(),
            ),
            Self::Running(container) => {
                Some(format!("wait for its end, or remove it: mydocker rm -f {container}"))
            }
            Self::Damaged { .. } | Self::Lost(_) => Some(MEND.to_owned()),
            Self::Store(error) if error.is_damage() => Some(MEND.to_owned()),
            Self::Missing { .. } => Some(
                "make the bundle once more, with what `mydocker inventory` says on this machine"
                    .to_owned(),
            ),
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

    /// Whether a registry or the way to it is the cause, and not what came from there.
    pub(super) fn is_network(&self) -> bool {
        self.causes().any(|cause| {
            let carried = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            let carried = carried.and_then(|inner| inner.downcast_ref());
            let registry = cause.downcast_ref::<registry::Error>().or(carried);
            registry.is_some_and(|error| !error.is_lie())
        }) || matches!(self, Self::Registry(error) if !error.is_lie())
    }

    /// This error and what is behind it.
    fn causes(&self) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
        let first: &(dyn std::error::Error + 'static) = self;
        std::iter::successors(Some(first), |error| error.source())
    }

    fn is_disk_full(&self) -> bool {
        if let Self::NoSpace { .. } | Self::Layer { source: unpack::Error::Full { .. }, .. } = self
        {
            return true;
        }
        self.causes().any(|error| {
            let errno = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
            let nix = error.downcast_ref::<nix::errno::Errno>().map(|errno| *errno as i32);
            matches!(errno.or(nix), Some(libc::ENOSPC | libc::EDQUOT))
        })
    }
}
