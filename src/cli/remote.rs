//! Options of every verb that talks to registries.

use std::path::PathBuf;
use std::sync::Arc;

use crate::registry::{Client, Error, Options, Watcher};

/// How many layers are on their way at a time; docs/registries.md says how this was measured.
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

    /// A client of registries.
    pub(super) fn client(&self) -> Result<Client, Error> {
        Client::new(self.options())
    }

    /// The same with somebody who hears what becomes of mirrors.
    pub(super) fn watched(&self, watcher: Arc<dyn Watcher>) -> Result<Client, Error> {
        Client::new(Options { watcher: Some(watcher), ..self.options() })
    }
}
