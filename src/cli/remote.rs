//! Options of every verb that talks to registries.

use std::path::PathBuf;

use crate::registry::{Client, Error, Options};

/// How many layers are on their way at a time.
pub(super) const PARALLEL: usize = 3;

#[derive(Debug, clap::Args)]
pub(super) struct RemoteArgs {
    /// Take credentials from this file, and from no other [default: $REGISTRY_AUTH_FILE]
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
    /// Reach this registry over http, without encryption
    #[arg(long, value_name = "REGISTRY")]
    plain_http: Vec<String>,
}

impl RemoteArgs {
    pub(super) fn options(&self) -> Options {
        let mut options = Options { plain_http: self.plain_http.clone(), ..Options::default() };
        if let Some(file) = &self.authfile {
            options.environment.registry_auth_file = Some(file.clone());
        }
        options
    }

    /// A client of registries. From now on, this process leaves no core behind: passwords would be in it.
    pub(super) fn client(&self) -> Result<Client, Error> {
        // What cannot be forbidden is not worth an error: the kernel has known the call since 2.3.20.
        let _ = nix::sys::prctl::set_dumpable(false);
        Client::new(self.options())
    }
}
