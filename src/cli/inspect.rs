//! `mydocker inspect`.

use serde_json::{Value, json};

use super::failure::While as _;
use super::look::{self, LookArgs};
use super::output::{self, Format};
use super::{Global, Outcome};
use crate::image::{self, Image};
use crate::store::Store;

/// Show all that is known of images, as JSON
///
/// With --remote, what their registries say of them: digests, platforms, sizes and the configuration, without pulling.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// json for one object a line; otherwise one indented array
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Ask the registry instead of the store
    #[arg(long = "remote", id = "is_remote")]
    is_remote: bool,
    #[command(flatten)]
    look: LookArgs,
    /// Names, ids or first digits of ids
    #[arg(required = true)]
    image: Vec<String>,
}

pub(super) fn run(global: &Global, args: &Args) -> Outcome {
    let mut documents = Vec::new();
    for name in &args.image {
        if args.is_remote {
            documents.extend(look::document(&args.look, name)?);
            continue;
        }
        let what = format!("inspect {name}");
        let store = global.store().doing(&what)?;
        let image = image::find(&store, name).doing(&what)?;
        documents.push(document(&store, &image).doing(&what)?);
    }
    match args.format {
        Some(Format::Json) => documents.iter().for_each(output::json_line),
        _ if args.is_remote && documents.is_empty() => {}
        _ => output::json_document(&Value::Array(documents)),
    }
    Ok(0)
}

/// The image in the form and with the names of `docker image inspect`.
fn document(store: &Store, image: &Image) -> Result<Value, image::Error> {
    let raw: Value = serde_json::from_slice(&image.config_bytes).unwrap_or_default();
    let (images, _) = image::list(store)?;
    let same = || images.iter().filter(|other| other.id == image.id);
    let tags: Vec<String> = same()
        .filter_map(Image::reference)
        .filter_map(|name| Some(format!("{}:{}", name.familiar_repository(), name.tag()?)))
        .collect();
    let mut digests: Vec<String> = same()
        .filter_map(|image| Some((image.reference()?, image.repo_digest())))
        .filter(|(_, digest)| !digest.is_empty())
        .map(|(name, digest)| format!("{}@{digest}", name.familiar_repository()))
        .collect();
    digests.sort();
    digests.dedup();
    let platform = &image.config.platform;
    Ok(json!({
        "Id": image.id.to_string(),
        "RepoTags": tags,
        "RepoDigests": digests,
        "Created": image.config.created,
        "Author": raw.get("author").cloned().unwrap_or_default(),
        "Architecture": platform.architecture,
        "Variant": platform.variant,
        "Os": platform.os,
        "Size": image.size(),
        "Config": raw.get("config").cloned().unwrap_or_default(),
        "RootFS": { "Type": "layers", "Layers": image.config.rootfs.diff_ids },
        "Descriptor": {
            "mediaType": image.descriptor.media_type,
            "digest": image.descriptor.digest,
            "size": image.descriptor.size,
        },
        "Manifest": image.manifest,
        "GraphDriver": { "Name": "mydocker", "Data": { "Tree": store.tree_path(&image.id) } },
    }))
}
