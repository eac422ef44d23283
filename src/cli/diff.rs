//! `mydocker diff`.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};

use serde_json::json;

use super::failure::{Failure, While as _};
use super::output::{self, Format};
use super::{Global, Outcome};
use crate::container::{self, Hold, Layer};
use crate::image::{self, ChangeKind, Image, Overlay};
use crate::store::Store;

/// Show which files a container added (A), changed (C) and deleted (D)
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// table, or json for one object a line
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Name, id or first digits of an id
    container: String,
}

pub(super) fn run(global: &Global, args: &Args) -> Outcome {
    let what = format!("diff {}", args.container);
    let Opened { layer, lower, .. } = open(global, &args.container, Hold::Frozen, &what)?;
    let seen = image::diff(&overlay(&layer, &lower), &mut |change| {
        let kind = match change.kind {
            ChangeKind::Added => 'A',
            ChangeKind::Changed => 'C',
            ChangeKind::Deleted => 'D',
        };
        // The root itself is not shown, as with docker.
        if change.path.is_empty() {
            return;
        }
        let path = format!("/{}", output::path(&change.path));
        match args.format {
            Format::Json => output::json_line(&json!({ "Kind": kind.to_string(), "Path": path })),
            Format::Table => output::data(&format!("{kind} {path}\n")),
        }
    });
    seen.doing(&what)?;
    Ok(0)
}

/// A container's layer and the image below it.
pub(super) struct Opened {
    pub(super) store: Store,
    pub(super) image: Image,
    pub(super) layer: Layer,
    pub(super) lower: OwnedFd,
}

/// Opens the layer of a container, which stands still until it is dropped, and the tree below it.
pub(super) fn open(
    global: &Global,
    container: &str,
    hold: Hold,
    what: &str,
) -> Result<Opened, Failure> {
    let store = global.store().doing(what)?;
    let containers = global.containers().doing(what)?;
    let layer = container::open_layer(&containers, container, hold).doing(what)?;
    let image = image::find(&store, &layer.image.to_string()).doing(what)?;
    let tree = image.tree(&store).doing(what)?;
    let lower =
        File::open(&tree).map_err(|source| image::Error::Io { verb: "open", path: tree, source });
    Ok(Opened { lower: lower.doing(what)?.into(), store, image, layer })
}

/// The two directories of a container's root filesystem.
pub(super) fn overlay<'a>(layer: &'a Layer, lower: &'a OwnedFd) -> Overlay<'a> {
    Overlay { upper: layer.upper(), lower: lower.as_fd(), mount_points: &layer.mount_points }
}
