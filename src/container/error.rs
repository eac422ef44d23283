//! What goes wrong with containers.

use std::io;
use std::path::PathBuf;

use super::copy_path::CopyError;
use super::monitor::Failed;
use super::volume::VolumeError;
use crate::runtime::seccomp::ProfileError;
use crate::sys::remove_tree::RemoveError;
use crate::{runtime, store};

/// An error of a container's life.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Several containers have ids that begin so.
    #[error("ambiguous container id `{0}`")]
    AmbiguousId(String),
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
    /// The image was there, and is not any more.
    #[error("image {0} was removed by another command meanwhile")]
    ImageRemoved(String),
    /// Something cannot be copied from or to where it was asked for.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// Its processes cannot be stopped for a while.
    #[error("container {0} is running, and cannot be frozen")]
    CannotFreeze(String),
    /// Another container's namespaces cannot be shared.
    #[error("join the namespaces of another container")]
    Join(#[source] Box<Error>),
    /// A monitor could not be started or reached.
    #[error("{verb} the container's monitor")]
    Monitor {
        /// What was tried.
        verb: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Neither the image nor the user says what to run.
    #[error("no command: the image has neither entry point nor command")]
    NoCommand,
    /// The name belongs to another container.
    #[error("the name `{name}` is in use by container {id}")]
    NameTaken {
        /// The name.
        name: String,
        /// The container that has it.
        id: String,
    },
    /// It was started with `--rootfs`.
    #[error("container {0} runs in a folder of the host, and has no layer of its own")]
    NoLayer(String),
    /// No such container.
    #[error("no such container: {0}")]
    NoSuchContainer(String),
    /// The user or group is neither a known name nor a number in range.
    #[error("no such {what} in the container: `{name}`")]
    NoSuchUser {
        /// User or group.
        what: &'static str,
        /// What was asked for.
        name: String,
    },
    /// The container has no log.
    #[error("container {0} has no log")]
    NoLog(String),
    /// Nothing is known that starts other programs here.
    #[error("no init system is known here")]
    NoInitSystem,
    /// Nobody says how it is probed.
    #[error("container {0} has no health check")]
    NoHealthCheck(String),
    /// The container is not paused.
    #[error("container {0} is not paused")]
    NotPaused(String),
    /// The container is paused.
    #[error("container {0} is paused")]
    Paused(String),
    /// The container does not run.
    #[error("container {0} is not running")]
    NotRunning(String),
    /// Its monitor could not start it.
    #[error("{}", .0.cause)]
    NotStarted(Failed),
    /// A seccomp profile makes no sense.
    #[error("read the seccomp profile `{path}`")]
    Profile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: ProfileError,
    },
    /// The kernel gave no random bytes for an id.
    #[error("make an id")]
    Random(#[source] nix::errno::Errno),
    /// The record of a container cannot be understood.
    #[error("malformed record `{path}`")]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The container's folder could not be deleted.
    #[error("clear `{path}`")]
    Remove {
        /// The folder.
        path: PathBuf,
        /// What stays.
        #[source]
        source: RemoveError,
    },
    /// The container has to end first.
    #[error("container {0} is running")]
    Running(String),
    /// The runtime could not start it.
    #[error(transparent)]
    Runtime(#[from] runtime::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The terminal could not be used.
    #[error("{verb} the terminal")]
    Terminal {
        /// What was tried.
        verb: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Its first process outlives being killed.
    #[error("container {0} was killed and has not ended yet")]
    Unkillable(String),
    /// The image's `/etc/passwd` or `/etc/group` cannot be read.
    #[error("read the container's `/{path}`")]
    UserFile {
        /// The file, without the leading slash.
        path: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something about a volume or a mount.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// The process among a container's files could not do its work.
    #[error("{}", .0.cause)]
    Visit(Failed),
    /// An option has a value that cannot work.
    #[error("invalid {what} `{value}`: {why}")]
    Value {
        /// What it is.
        what: &'static str,
        /// What was given.
        value: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl Error {
    /// What the user can do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NameTaken { id, .. } => Some(format!(
                "remove that container with `mydocker rm {id}`, or choose another name"
            )),
            Self::NoSuchContainer(_) => Some("`mydocker ps -a` lists them".to_owned()),
            Self::Join(error) => error.hint(),
            Self::Running(id) => Some(format!("`mydocker rm -f {id}` kills and removes it")),
            Self::CannotFreeze(_) => Some(
                "it has no control group of its own; wait for its end, or `commit --pause=false`"
                    .to_owned(),
            ),
            Self::NoLayer(_) => Some("what it wrote is in that folder itself".to_owned()),
            Self::NoCommand => Some("give one behind the image".to_owned()),
            Self::NoInitSystem => Some(
                "have it execute `mydocker boot` when the machine starts, or name it with --init; of \
                 an ordinary user it can only be systemd"
                    .to_owned(),
            ),
            Self::NoHealthCheck(_) => {
                Some("create it with --health-cmd, or from an image with a HEALTHCHECK".to_owned())
            }
            Self::NoLog(_) => Some(
                "containers that run in the foreground, or with --log-driver none, have none"
                    .to_owned(),
            ),
            Self::Paused(name) => Some(format!("`mydocker unpause {name}` lets it go on")),
            Self::NotRunning(name) => Some(format!("`mydocker start {name}` starts it")),
            Self::NotStarted(failed) | Self::Visit(failed) => failed.hint.clone(),
            Self::Runtime(error) => error.hint(),
            Self::Unkillable(name) => Some(format!(
                "the kernel ends a process when what it waits for comes, such as a disk or a file server; `mydocker top {name}` \
                 shows it"
            )),
            Self::Volume(error) => error.hint(),
            _ => None,
        }
    }

    /// The exit code that docker gives to such an error: 127 for a program that is not there, 126 for one that cannot
    /// be executed, 1 for what a container's state does not allow, 125 for the rest.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotStarted(failed) | Self::Visit(failed) => failed.code,
            Self::Runtime(error) => error.exit_code(),
            Self::Volume(error) => error.exit_code(),
            // What docker's daemon refuses to do with a container that there is or is not.
            Self::AmbiguousId(_)
            | Self::Copy(_)
            | Self::NoLog(_)
            | Self::NoSuchContainer(_)
            | Self::NotPaused(_)
            | Self::NotRunning(_)
            | Self::Paused(_)
            | Self::Running(_)
            | Self::Unkillable(_) => 1,
            _ => 125,
        }
    }
}
