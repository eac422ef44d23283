//! The options of `run` and `create` about the image: where it is found, and when it is pulled.

use std::process::Command;

use super::Global;
use super::failure::{Failure, While as _};
use crate::container::RootSource;
use crate::image::{self, Image};
use crate::registry::{self, Client};
use crate::store::Store;

/// How a missing image is pulled.
#[derive(Debug, clap::Args)]
pub(super) struct ImageSourceArgs {
    /// Pull the image for this platform if it is missing
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,
    /// Reach this registry over http if the image is missing
    #[arg(long, value_name = "REGISTRY")]
    plain_http: Vec<String>,
    /// When to pull the image: missing, always, or never
    #[arg(long, value_name = "WHEN", default_value = "missing")]
    pull: Pull,
    /// Pull without showing progress if the image is missing
    #[arg(short, long)]
    quiet: bool,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
enum Pull {
    Always,
    Missing,
    Never,
}

impl ImageSourceArgs {
    /// The root filesystem of the image `name`, which is pulled where these options say so; if that fails, there is an
    /// exit code.
    pub(super) fn root(
        &self,
        global: &Global,
        store: &Store,
        name: &str,
        what: &str,
    ) -> Result<Result<RootSource, u8>, Failure> {
        let mut found = match self.pull {
            Pull::Always => None,
            Pull::Missing | Pull::Never => find(store, name).doing(what)?,
        };
        if found.is_none() && self.pull != Pull::Never {
            if let Some(code) = self.pull(global, name)? {
                return Ok(Err(code));
            }
            found = find(store, name).doing(what)?;
        }
        let missing = || image::Error::NoSuchImage(name.to_owned());
        let image = found.ok_or_else(missing).doing(what)?;
        let tree = image.tree(store).doing(what)?;
        Ok(Ok(RootSource::Image {
            name: image.name().unwrap_or(name).to_owned(),
            config: Box::new(image.config.config),
            id: image.id,
            tree,
        }))
    }

    /// Pulls a missing image, and says the exit code if that failed.
    ///
    /// Another process does it, since the one that makes a container must have no second thread: a child made by
    /// `clone3(2)` has only the thread that made it, and would wait for ever on a lock that another one held.
    fn pull(&self, global: &Global, name: &str) -> Result<Option<u8>, Failure> {
        let mut command = Command::new("/proc/self/exe");
        command.arg("--root").arg(global.root());
        command.args(global.debug.then_some("--debug")).args(global.no_sync.then_some("--no-sync"));
        command.arg("pull").args(self.quiet.then_some("--quiet"));
        command.args(self.platform.iter().flat_map(|platform| ["--platform", platform]));
        command.args(self.plain_http.iter().flat_map(|registry| ["--plain-http", registry]));
        command.arg("--").arg(name).stdin(std::process::Stdio::null());
        // Standard output belongs to the program in the container.
        command.stdout(std::process::Stdio::null());
        let status = command.status().map_err(|error| {
            let hint = "is /proc mounted?";
            Failure::new("run", format!("start `/proc/self/exe`: {error}"), hint)
        })?;
        // The pull has told the user what is wrong.
        Ok(match status.code() {
            Some(0) => None,
            code => Some(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(125)),
        })
    }
}

/// The image that `name` stands for, if it is here; a short name may stand for one in another registry.
pub(super) fn find(store: &Store, name: &str) -> Result<Option<Image>, image::Error> {
    match image::find(store, name) {
        Err(image::Error::NoSuchImage(_)) => {}
        found => return found.map(Some),
    }
    let candidates = Client::new(registry::Options::default())?.candidates(name)?;
    for candidate in candidates {
        match image::find(store, &candidate.familiar()) {
            Err(image::Error::NoSuchImage(_)) => {}
            found => return found.map(Some),
        }
    }
    Ok(None)
}
