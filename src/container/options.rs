//! What a user asks of a container, before it is a runtime-spec.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use super::Error;
use super::adjust::Adjustments;
use super::devices::Devices;
use super::namespaces::{self, Namespaces};
use super::security::Security;
use super::settings::Settings;
use super::tuning::Tuning;
use super::volume::MountRequests;
use crate::oci::digest::ImageId;
use crate::oci::image_config::ContainerConfig;

/// Processes that a container may have unless the user says otherwise: podman's number, and enough for any program
/// that does not run away.
pub(super) const DEFAULT_PIDS_LIMIT: i64 = 2048;
/// The least memory that a container may be limited to, in bytes: docker's number. Below it nothing starts.
pub const MIN_MEMORY: u64 = 6 << 20;

/// What to run, where and how.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// What changes the specification that follows from all else.
    pub adjust: Adjustments,
    /// Where the root filesystem comes from.
    pub root: RootSource,
    /// The command and its arguments; the image's own where empty.
    pub command: Vec<String>,
    /// The file that its id is written to; it must not exist.
    pub cidfile: Option<PathBuf>,
    /// Devices of the host.
    pub devices: Devices,
    /// In the place of the image's entry point; empty for none.
    pub entrypoint: Option<String>,
    /// `NAME=value`, or `NAME` to copy the caller's.
    pub env: Vec<String>,
    /// The host name inside; the first digits of the id where `None`.
    pub hostname: Option<String>,
    /// What its record calls it by, beside the image's own labels.
    pub labels: BTreeMap<String, String>,
    /// Whether the program gets a terminal.
    pub terminal: bool,
    /// The limit of memory, in bytes.
    pub memory: Option<u64>,
    /// The limit of processor time, in processors.
    pub cpus: Option<f64>,
    /// The limit of processes, none where it is not positive; 2048 where `None`.
    pub pids_limit: Option<i64>,
    /// The container's name; made up where `None`.
    pub name: Option<String>,
    /// Whose namespaces it is in.
    pub namespaces: Namespaces,
    /// Which network it has.
    pub network: Network,
    /// Whether nothing can be written to the root filesystem.
    pub read_only: bool,
    /// What holds it back.
    pub security: Security,
    /// How it is logged, stopped and started again.
    pub settings: Settings,
    /// What few ask for.
    pub tuning: Tuning,
    /// `user`, `uid`, `user:group`, `uid:gid`; the image's own where `None`.
    pub user: Option<String>,
    /// Which user namespace the container is in.
    pub user_namespace: UserNamespace,
    /// What is mounted inside.
    pub mounts: MountRequests,
    /// The folder to start in; the image's own where `None`.
    pub workdir: Option<String>,
}

/// Where a container's root filesystem comes from.
#[derive(Clone, Debug)]
pub enum RootSource {
    /// A folder, written to as it lies.
    Folder(PathBuf),
    /// An image, which is never written to.
    Image {
        /// What the image says about its program.
        config: Box<ContainerConfig>,
        /// The image's id.
        id: ImageId,
        /// What the user calls it.
        name: String,
        /// The folder of its tree.
        tree: PathBuf,
    },
}

/// A container's network.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Network {
    /// That of another container.
    Container(String),
    /// The host's own.
    Host,
    /// A loopback interface and nothing else.
    #[default]
    None,
}

/// A container's user namespace (`user_namespaces(7)`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum UserNamespace {
    /// That of another container.
    Container(String),
    /// None: root inside is root on the host, held back by capabilities and seccomp alone.
    Host,
    /// One of its own: root inside is nobody on the host.
    Private,
    /// As `Private`, unless other namespaces of a container are joined, to which its user namespace belongs.
    #[default]
    Usual,
}

impl FromStr for Network {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "host" => Ok(Self::Host),
            "none" => Ok(Self::None),
            _ => namespaces::container(text).map(Self::Container).ok_or_else(|| Error::Value {
                what: "network",
                value: text.to_owned(),
                why: "there are `none`, `host` and `container:NAME`",
            }),
        }
    }
}

impl FromStr for UserNamespace {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "host" => Ok(Self::Host),
            // Podman's name for what is usual here.
            "private" | "auto" => Ok(Self::Private),
            _ => namespaces::container(text).map(Self::Container).ok_or_else(|| Error::Value {
                what: "user namespace",
                value: text.to_owned(),
                why: match text.split(':').next() {
                    Some("keep-id" | "nomap") => {
                        "there are `private`, `host` and `container:NAME`; for this one, an image's files would need \
                         other owners, which no file system lets an ordinary user map"
                    }
                    _ => "there are `private`, `host` and `container:NAME`",
                },
            }),
        }
    }
}
