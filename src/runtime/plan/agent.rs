//! The agent that decides on system calls.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use nix::errno::Errno;

use crate::oci::runtime_spec::VERSION;
use crate::oci::runtime_spec::seccomp::Seccomp;
use crate::runtime::error::Error;
use crate::runtime::idmap::IdMap;
use crate::runtime::{seal, seccomp};

/// A connection to an agent. It is made while the host's names still mean something.
#[derive(Debug)]
pub(in crate::runtime) struct Agent {
    pub socket: OwnedFd,
    metadata: Option<String>,
}

impl Agent {
    /// The container process state (runtime-spec, `config-linux.md#containerprocessstate`), for the process with this
    /// number outside, in a container in this state.
    pub(in crate::runtime) fn message(&self, pid: &str, state: &str) -> String {
        let pid: i64 = pid.parse().unwrap_or_default();
        let metadata = self.metadata.as_ref().map(|metadata| {
            let text = serde_json::Value::from(metadata.as_str());
            format!(r#""metadata":{text},"#)
        });
        let metadata = metadata.unwrap_or_default();
        format!(
            r#"{{"ociVersion":"{VERSION}","fds":["seccompFd"],"pid":{pid},{metadata}"state":{state}}}"#
        )
    }
}

/// Connects to the agent, if the policy has use for one.
pub(in crate::runtime) fn plan(
    policy: Option<&Seccomp>,
    ids: Option<&IdMap>,
) -> Result<Option<Agent>, Error> {
    let Some(policy) = policy else { return Ok(None) };
    let invalid = |field: &str, reason: &str| Error::Invalid {
        field: format!("linux.seccomp.{field}"),
        reason: reason.to_owned(),
    };
    let path = policy.listener_path.as_ref().filter(|path| !path.is_empty());
    if path.is_none() && policy.listener_metadata.as_ref().is_some_and(|text| !text.is_empty()) {
        return Err(invalid("listenerMetadata", "there is no `listenerPath`"));
    }
    if !seccomp::notifies(policy) {
        return Ok(None);
    }
    let path = path
        .map(PathBuf::from)
        .ok_or_else(|| invalid("listenerPath", "`SCMP_ACT_NOTIFY` needs an agent"))?;
    // Otherwise everything begins once more, and an agent expects one connection.
    if seal::is_needed(ids) && !seal::is_sealed() {
        return Err(Error::Unsealed);
    }
    let socket = UnixStream::connect(&path).map_err(|error| Error::Path {
        action: "connect to the seccomp agent at",
        path,
        source: Errno::from_raw(error.raw_os_error().unwrap_or(libc::EINVAL)),
    })?;
    Ok(Some(Agent { socket: socket.into(), metadata: policy.listener_metadata.clone() }))
}
