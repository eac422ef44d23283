//! `mydocker prune`.

use std::collections::BTreeMap;

use super::failure::{Failure, While as _};
use super::{Global, Outcome, moment, output, prompt};
use crate::image::{self, PruneOptions};
use crate::oci::digest::ImageId;

/// Remove images that no container stands on
///
/// Those without a name; with --all every one. What no image needs, as a crash may leave it, goes too. `image prune` is the
/// same; `container prune`, `volume prune` and `system prune` are about the rest.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Remove images that have names too
    #[arg(short, long)]
    all: bool,
    /// Show what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Only images that match: until=TIME (10m, 24h, 2026-01-31T12:00:00Z, seconds since 1970), label=NAME[=VALUE]
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Remove the images that came first, named or not, until all others take no more than this, as in 10g
    #[arg(long, visible_alias = "keep-storage", value_name = "BYTES", value_parser = super::container_options::parse_size)]
    max_size: Option<u64>,
}

pub(super) fn run(global: &Global, args: &Args) -> Outcome {
    let options = PruneOptions {
        max_size: args.max_size,
        dry_run: args.dry_run,
        ..options(args.all, &args.filter)?
    };
    if !args.force && !args.dry_run && !is_sure(args) {
        return Ok(0);
    }
    let bytes = prune_images(global, &options)?;
    let verb = if args.dry_run { "Reclaimable space" } else { "Total reclaimed space" };
    output::data(&format!("{verb}: {}\n", output::size(bytes)));
    Ok(0)
}

/// What is to go: images with names too if `all`, but only those that meet the filters.
pub(super) fn options(all: bool, filters: &[String]) -> Result<PruneOptions, Failure> {
    let (until, labels) = parse(filters)?;
    Ok(PruneOptions { all, until, labels, ..PruneOptions::default() })
}

/// Removes images, names them, and says how many bytes are free now.
pub(super) fn prune_images(global: &Global, options: &PruneOptions) -> Result<u64, Failure> {
    let store = global.store().doing("prune")?;
    let containers = global.containers().doing("prune")?;
    let users = || -> Option<Vec<ImageId>> {
        let (records, _) = containers.list().ok()?;
        Some(records.iter().flat_map(|record| record.images().cloned()).collect())
    };
    let pruned = image::prune(&store, &users, options).doing("prune")?;
    if !pruned.images.is_empty() {
        output::data(if options.dry_run { "Would delete:\n" } else { "Deleted Images:\n" });
        for name in pruned.names {
            told(global, options, "untag", &name);
            output::data(&format!("untagged: {name}\n"));
        }
        for id in pruned.images {
            told(global, options, "delete", &id.to_string());
            output::data(&format!("deleted: {id}\n"));
        }
        output::data("\n");
    }
    if !options.dry_run {
        containers.tell_prune("image", pruned.bytes);
    }
    Ok(pruned.bytes)
}

/// Writes down what has happened to an image, if it has.
fn told(global: &Global, options: &PruneOptions, action: &str, name: &str) {
    if !options.dry_run {
        global.tell_image(action, name, name);
    }
}

/// Asks as docker does; only `y` is a yes.
fn is_sure(args: &Args) -> bool {
    let what = match (args.max_size, args.all) {
        (Some(_), _) => "the images that came first and that no container stands on",
        (None, true) => "all images without at least one container associated to them",
        (None, false) => "all dangling images",
    };
    prompt::is_sure(&format!("This will remove {what}."))
}

type Filters = (Option<i64>, BTreeMap<String, Option<String>>);

fn parse(texts: &[String]) -> Result<Filters, Failure> {
    let (mut until, mut labels) = (None, BTreeMap::new());
    for text in texts {
        let wrong = || {
            let hint = "filters are until=TIME and label=NAME[=VALUE]";
            Failure::new("prune", format!("invalid filter `{text}`"), hint)
        };
        match text.split_once('=').ok_or_else(wrong)? {
            ("until", time) => until = Some(moment::seconds_at(time).ok_or_else(wrong)?),
            ("label", label) => {
                let (name, value) = match label.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    None => (label, None),
                };
                labels.insert(name.to_owned(), value);
            }
            _ => return Err(wrong()),
        }
    }
    Ok((until, labels))
}
