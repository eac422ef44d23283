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
    let mut running: Vec<(String, ImageId)> = Vec::new();
    for record in records.iter().filter(|record| containers.status(record).running().is_some()) {
        let short: String = record.id.chars().take(12).collect();
        running.extend(record.images().map(|id| (short.clone(), id.clone())));
    }
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
