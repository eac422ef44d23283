//! `mydocker repair`.

use super::failure::While as _;
use super::{Global, Outcome, output};
use crate::image::{self, Helpers, Repaired};
use crate::oci::digest::ImageId;
use crate::registry::{self, Client};

/// Make right what `verify` finds wrong
///
/// Broken documents and layers are fetched again from where the image came from, broken trees unpacked again. One line
/// on standard output for each thing that was mended; the exit code is 1 if anything could not be.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Reach this registry over http, without encryption
    #[arg(long, value_name = "REGISTRY")]
    plain_http: Vec<String>,
    /// Names, ids or first digits of ids [default: the whole store]
    image: Vec<String>,
}

pub(super) fn run(global: &Global, args: &Args) -> Outcome {
    let what = ["repair"].into_iter().chain(args.image.iter().map(String::as_str));
    let what = what.collect::<Vec<_>>().join(" ");
    let store = global.store().doing(&what)?;
    let containers = global.containers().doing(&what)?;
    let (records, _) = containers.list().doing(&what)?;
    let running = records.into_iter().filter_map(|record| {
        let is_running = containers.status(&record).running().is_some();
        let id: ImageId = record.image_id.filter(|_| is_running)?;
        Some((record.id.chars().take(12).collect(), id))
    });
    let running: Vec<(String, ImageId)> = running.collect();
    let mut code = 0;
    let mut report = |repaired| match repaired {
        Repaired::Mended(object, how) => output::data(&format!("{object}: {how}\n")),
        Repaired::Broken(object, error) => {
            code = 1;
            if let Err(failure) = Err::<(), _>(error).doing(&format!("repair {object}")) {
                failure.report();
            }
        }
    };
    let connect = || {
        let plain_http = args.plain_http.clone();
        Client::new(registry::Options { plain_http, ..registry::Options::default() })
    };
    let helpers = Helpers { running: &running, connect: &connect, report: &mut report };
    image::repair(&store, &args.image, helpers).doing(&what)?;
    Ok(code)
}
