//! The options of `run` and `create` about whose namespaces the container is in.

use super::container_options::parse;
use super::failure::Failure;
use crate::container::{Ipc, Namespaces, Share};

/// Whose namespaces the container is in.
#[derive(Debug, clap::Args)]
pub(super) struct NamespaceArgs {
    /// Namespace of control groups: private, or host for the host's
    #[arg(long, value_name = "private|host", default_value = "private", value_parser = parse::<Share>)]
    cgroupns: Share,
    /// Namespace of IPC: private, shareable, none, host, or that of a container
    #[arg(long, value_name = "MODE|container:NAME", default_value = "private", value_parser = parse::<Ipc>)]
    ipc: Ipc,
    /// Namespace of processes: private, host, or that of a container
    #[arg(long, value_name = "MODE|container:NAME", default_value = "private", value_parser = parse::<Share>)]
    pid: Share,
    /// Namespace of host names: private, host, or that of a container
    #[arg(long, value_name = "MODE|container:NAME", default_value = "private", value_parser = parse::<Share>)]
    uts: Share,
}

impl NamespaceArgs {
    pub(super) fn namespaces(&self, what: &str) -> Result<Namespaces, Failure> {
        if matches!(self.cgroupns, Share::Container(_)) {
            let cause = "--cgroupns knows private and host";
            return Err(Failure::new(what, cause, "containers do not share control groups"));
        }
        Ok(Namespaces {
            cgroup: self.cgroupns.clone(),
            ipc: self.ipc.clone(),
            pid: self.pid.clone(),
            uts: self.uts.clone(),
        })
    }

    /// The containers, by name, that are joined by these.
    pub(super) fn joined(&self) -> Vec<String> {
        let shares = [&self.pid, &self.uts].into_iter().filter_map(|share| match share {
            Share::Container(name) => Some(name.clone()),
            _ => None,
        });
        let ipc = match &self.ipc {
            Ipc::Container(name) => Some(name.clone()),
            _ => None,
        };
        shares.chain(ipc).collect()
    }

    /// Whether the host name inside is that of somebody else.
    pub(super) fn shares_names(&self) -> bool {
        self.uts != Share::Private
    }
}
