//! What goes wrong with volumes and mounts.

use std::io;
use std::path::PathBuf;

use crate::sys::remove_tree::RemoveError;

/// An error of a volume, or of something that is to be mounted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VolumeError {
    /// What is to be bind-mounted with `--mount` is not there.
    #[error("bind source path does not exist: {}", .0.display())]
    BindSource(PathBuf),
    /// A file of an image could not be copied into a volume.
    #[error("copy `{}` of the image into volume {volume}", path.escape_ascii())]
    Copy {
        /// The volume.
        volume: String,
        /// The file, from the image's folder on.
        path: Vec<u8>,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Two mounts have one place.
    #[error("duplicate mount point: {0}")]
    Duplicate(String),
    /// Containers have the volume mounted, running or not.
    #[error("volume {name} is in use by {}", containers.join(", "))]
    InUse {
        /// The volume.
        name: String,
        /// The containers, by name and id.
        containers: Vec<String>,
    },
    /// The image that is to be mounted could be written to.
    #[error(
        "image {0} cannot be mounted into a container with CAP_SYS_ADMIN, which could write to it"
    )]
    ImageWritable(String),
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
    /// A `-v` or `--mount` cannot be understood.
    #[error("invalid mount `{text}`")]
    Mount {
        /// What was given.
        text: String,
        /// What is wrong with it.
        #[source]
        source: MountFault,
    },
    /// The name is no volume's.
    #[error("invalid volume name `{name}`: {why}")]
    Name {
        /// What was given.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Mount events cannot pass as they should.
    #[error("`{path}` is mounted on `{mount_point}`, which is not a {wanted} mount")]
    NotShared {
        /// What is to be bind-mounted.
        path: PathBuf,
        /// The mount that it is part of.
        mount_point: String,
        /// What it would have to be.
        wanted: &'static str,
    },
    /// No such volume.
    #[error("no such volume: {0}")]
    NoSuchVolume(String),
    /// An ordinary user cannot map owners of mounts.
    #[error("show `{path}` as owned by user {uid} of the container, without being root")]
    OwnerMatch {
        /// What is to be mounted.
        path: PathBuf,
        /// The container's user.
        uid: u32,
    },
    /// The record of a volume cannot be understood.
    #[error("malformed record `{path}`")]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The volume's folder could not be deleted.
    #[error("clear `{path}`")]
    Remove {
        /// The folder.
        path: PathBuf,
        /// What stays.
        #[source]
        source: RemoveError,
    },
    /// The image wants more volumes than anybody needs.
    #[error("the image has {0} volumes, more than 256")]
    TooMany(usize),
}

/// What is wrong with the text of a mount.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MountFault {
    /// Docker's words.
    #[error("too many colons")]
    Colons,
    /// Nothing between two colons, or before the first.
    #[error("empty section between colons")]
    EmptySection,
    /// Neither an absolute path nor one that begins with a dot, and no name either.
    #[error("the source must be the name of a volume, or a path that begins with / or .")]
    Source,
    /// No absolute path.
    #[error("the destination must be an absolute path")]
    Destination,
    /// The root.
    #[error("the destination cannot be the root itself")]
    Root,
    /// No such option of `-v`.
    #[error("unknown option `{0}`")]
    Option(String),
    /// Two options that say different things about one matter.
    #[error("`{0}` contradicts an option before it")]
    Twice(String),
    /// An option that is for another kind of mount.
    #[error("`{option}` is not for mounts of type {kind}")]
    Mixed {
        /// The option or key.
        option: String,
        /// The type.
        kind: &'static str,
    },
    /// Not what `encoding/csv` writes.
    #[error("a quote in the wrong place")]
    Quotes,
    /// A field of `--mount` without `=`.
    #[error("field `{0}` must be a key=value pair")]
    NoValue(String),
    /// No such key of `--mount`.
    #[error("unexpected key `{0}`")]
    Key(String),
    /// A key with a value that cannot work.
    #[error("invalid value for {key}: `{value}`; expected {wanted}")]
    Value {
        /// The key.
        key: String,
        /// What was given.
        value: String,
        /// What it could be.
        wanted: &'static str,
    },
    /// A key that must be there.
    #[error("{0} is required")]
    Missing(&'static str),
    /// `bind-recursive=readonly` promises more than the other keys say.
    #[error("bind-recursive={0} needs {1}")]
    Recursive(&'static str, &'static str),
    /// A kind of mount that there is not.
    #[error("there are the types bind, volume, tmpfs and image, not `{0}`")]
    Kind(String),
    /// The driver's options.
    #[error("volume option `{option}`: {why}")]
    DriverOption {
        /// What was given.
        option: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Another driver than `local`.
    #[error("volume driver `{0}` not found; there is local")]
    Driver(String),
}

impl VolumeError {
    /// What the user can do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::BindSource(_) => "make it first; -v would make a folder",
            Self::ImageWritable(_) => "leave out --cap-add SYS_ADMIN, or run the image itself",
            Self::InUse { .. } => "remove the containers first; `mydocker ps -a` lists them",
            Self::Mount { .. } => {
                "as in -v NAME:/data, -v /host/folder:/data:ro, --mount type=tmpfs,dst=/tmp,tmpfs-size=64m"
            }
            Self::NoSuchVolume(_) => "`mydocker volume ls` lists them",
            Self::NotShared { .. } => "`mount --make-shared` on that mount point makes it one",
            Self::OwnerMatch { .. } => "leave out owner=match, or run as root",
            _ => return None,
        };
        Some(text.to_owned())
    }

    /// Docker's exit code: 1 for what a volume's state does not allow, 125 for the rest.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::InUse { .. } | Self::NoSuchVolume(_) => 1,
            _ => 125,
        }
    }
}
