//! The options of `run` and `create` about what holds a container back.

use super::failure::{Failure, While as _};
use crate::container::Security;

/// What holds the container back.
#[derive(Debug, clap::Args)]
pub(super) struct SecurityArgs {
    /// Hold nothing back: all capabilities and devices, no filter of system calls, the host's user namespace
    #[arg(long)]
    pub(super) privileged: bool,
    /// seccomp=FILE|unconfined, no-new-privileges, apparmor=PROFILE, label=disable, mask=PATHS, unmask=ALL|PATHS, …
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,
}

impl SecurityArgs {
    pub(super) fn security(&self, what: &str) -> Result<Security, Failure> {
        let mut security = Security::new(self.privileged);
        self.security_opt.iter().try_for_each(|option| security.set(option).doing(what))?;
        Ok(security)
    }
}
