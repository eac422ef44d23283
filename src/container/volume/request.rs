//! What a user asks to be mounted, before anything of it is looked for.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::error::{MountFault, VolumeError};
use crate::oci::digest::ImageId;

/// Everything that a user asks to be mounted.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct MountRequests {
    /// `-v` and `--mount`, in this order.
    pub mounts: Vec<MountRequest>,
    /// `--volumes-from`.
    pub volumes_from: Vec<VolumesFrom>,
}

/// One thing that is to be mounted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MountRequest {
    /// Where: an absolute path inside, clean.
    pub destination: String,
    /// What.
    pub source: RequestedSource,
    /// Whether it can only be read.
    pub read_only: bool,
    /// What `inspect` shows: the options as they were given.
    pub mode: String,
    /// What is done with what is mounted below the source.
    pub recursion: Recursion,
    /// How mount events pass.
    pub propagation: Propagation,
    /// Whether the source's owner is shown as the container's user.
    pub owner: Ownership,
}

/// What is to be mounted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RequestedSource {
    /// A file or folder of the host, by its absolute path.
    Bind {
        /// The path.
        path: PathBuf,
        /// Whether a folder is made where there is nothing.
        create: bool,
    },
    /// A volume.
    Volume(RequestedVolume),
    /// A file system in memory, with options of `tmpfs(5)`.
    Tmpfs(Vec<String>),
    /// An image's tree.
    Image {
        /// What the user calls it.
        name: String,
        /// What it is, once somebody has looked.
        found: Option<(ImageId, PathBuf)>,
        /// The folder in it that is mounted.
        subpath: Option<String>,
    },
}

/// A volume that is to be mounted, and made if it is not there.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RequestedVolume {
    /// Its name; a new volume of the container's own where `None`.
    pub name: Option<String>,
    /// Whether it stays empty at first.
    pub no_copy: bool,
    /// The folder in it that is mounted.
    pub subpath: Option<String>,
    /// What its driver is told when it is made, each as `NAME=VALUE`.
    pub options: Vec<String>,
    /// What it is labelled with when it is made.
    pub labels: Vec<(String, String)>,
}

/// What is done with what is mounted below the source of a bind mount.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Recursion {
    /// It comes along, read-only too if the mount is.
    #[default]
    Enabled,
    /// It comes along, as it is.
    Writable,
    /// It is left out.
    Disabled,
}

/// How mount events pass between a bind mount and the host (`mount_namespaces(7)`).
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Propagation {
    Private,
    #[default]
    Rprivate,
    Shared,
    Rshared,
    Slave,
    Rslave,
}

/// Whom files of a mount belong to inside.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Ownership {
    /// Those with the same number: what is root's outside is root's inside.
    #[default]
    Keep,
    /// What belongs to the source's owner belongs to the container's user.
    Match,
}

/// The mounts of another container, given as `CONTAINER[:ro|rw]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VolumesFrom {
    /// The container.
    pub container: String,
    /// Whether they can only be read here; as they are there where `None`.
    pub read_only: Option<bool>,
}

impl Propagation {
    /// All of them.
    const ALL: [Self; 6] =
        [Self::Private, Self::Rprivate, Self::Shared, Self::Rshared, Self::Slave, Self::Rslave];

    /// Its name, as `mount(8)` and docker have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::Rprivate => "rprivate",
            Self::Shared => "shared",
            Self::Rshared => "rshared",
            Self::Slave => "slave",
            Self::Rslave => "rslave",
        }
    }

    pub(super) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl VolumesFrom {
    /// Parses `CONTAINER[:ro|rw]`.
    ///
    /// # Errors
    /// [`VolumeError::Mount`].
    pub fn parse(text: &str) -> Result<Self, VolumeError> {
        let refuse = |source| VolumeError::Mount { text: text.to_owned(), source };
        let (container, mode) = text.split_once(':').unwrap_or((text, ""));
        if container.is_empty() {
            return Err(refuse(MountFault::EmptySection));
        }
        let mut read_only = None;
        for option in mode.split(',').filter(|option| !option.is_empty()) {
            match option {
                "ro" => read_only = Some(true),
                "rw" => read_only = Some(false),
                // Labels of SELinux, which is off.
                "z" | "Z" => {}
                _ => return Err(refuse(MountFault::Option(option.to_owned()))),
            }
        }
        Ok(Self { container: container.to_owned(), read_only })
    }
}

/// A destination without `.`, `..` and empty parts.
pub(super) fn clean_destination(destination: &str) -> Result<String, MountFault> {
    if !destination.starts_with('/') || destination.contains('\0') {
        return Err(MountFault::Destination);
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in destination.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    if parts.is_empty() {
        return Err(MountFault::Root);
    }
    Ok(format!("/{}", parts.join("/")))
}
