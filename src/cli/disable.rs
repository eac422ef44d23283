//! `mydocker disable`.

use super::enable::{PlaceArgs, systemctl};
use super::failure::While as _;
use super::{Global, Outcome, output};

const WHAT: &str = "disable";

/// Have the machine start no containers any more when it starts; those that run go on
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    place: PlaceArgs,
}

pub(super) fn run(global: &Global, args: &Args) -> Outcome {
    let hook = args.place.hook(global, WHAT)?;
    let removed = hook.remove().doing(WHAT)?;
    for path in &removed {
        output::data(&format!("{}\n", path.display()));
    }
    if removed.is_empty() {
        output::message("mydocker: disable: nothing was enabled\n");
    } else if hook.is_live() && std::path::Path::new("/run/systemd/system").exists() {
        // It forgets the unit with the next boot at the latest.
        let _ = systemctl(hook.user_units.is_some(), &["daemon-reload"]);
    }
    Ok(0)
}
