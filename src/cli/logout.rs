//! `mydocker logout`.

use super::failure::While as _;
use super::remote::RemoteArgs;
use super::{Outcome, output};
use crate::oci::reference::DEFAULT_REGISTRY;
use crate::registry::{self, LoginKey};

/// Log out of a registry: forget its credentials
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    remote: RemoteArgs,
    /// HOST[:PORT], or HOST[:PORT]/PATH for a part of a registry
    #[arg(default_value = DEFAULT_REGISTRY)]
    registry: String,
}

pub(super) fn run(args: &Args) -> Outcome {
    let what = format!("logout {}", args.registry);
    let key: LoginKey = args.registry.parse().doing(&what)?;
    let environment = args.remote.options().environment;
    let found = registry::forget(&environment, &key).doing(&what)?;
    if !found.is_empty() {
        output::data(&format!("Removing login credentials for {key}\n"));
    }
    match registry::left(&environment, &key).doing(&what)? {
        Some(place) => {
            output::warning(&format!("{place} has credentials for {key}, which are still used"));
        }
        None if found.is_empty() => output::message(&format!("Not logged in to {key}\n")),
        None => {}
    }
    Ok(0)
}
