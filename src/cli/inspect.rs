//! `mydocker inspect`.

use serde_json::{Value, json};

use super::failure::{Failure, While as _};
use super::look::{self, LookArgs};
use super::template::Template;
use super::{Global, Outcome, inspect_container, output, volume};
use crate::container::{self, Containers};
use crate::image::{self, Image};
use crate::store::Store;

/// Show all that is known of containers, images and volumes, as JSON
///
/// With --remote, what registries say of images: digests, platforms, sizes and the configuration, without pulling.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// json for one object a line, or a template as in '{{.State.Status}}'; otherwise one indented array
    #[arg(short, long)]
    format: Option<String>,
    /// What is meant: container, image, or volume
    #[arg(long, value_name = "container|image|volume")]
    r#type: Option<Kind>,
    /// Ask the registry instead of the store
    #[arg(long = "remote", id = "is_remote")]
    is_remote: bool,
    #[command(flatten)]
    look: LookArgs,
    /// Names, ids or first digits of ids
    #[arg(required = true)]
    name: Vec<String>,
}

/// What a name can mean.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
enum Kind {
    Container,
    Image,
    Volume,
}

impl Args {
    /// The same where names mean containers alone.
    pub(super) fn of_containers(self) -> Self {
        Self { r#type: Some(Kind::Container), ..self }
    }
}

pub(super) fn run(global: &Global, args: &Args) -> Outcome {
    let mut documents = Vec::new();
    for name in &args.name {
        if args.is_remote {
            documents.extend(look::document(&args.look, name)?);
        } else {
            documents.push(find(global, name, args.r#type)?);
        }
    }
    if args.is_remote && documents.is_empty() && args.format.is_none() {
        return Ok(0);
    }
    print(&documents, args.format.as_deref())?;
    Ok(0)
}

/// `image inspect`: names mean images alone.
pub(super) fn run_images(global: &Global, args: Args) -> Outcome {
    run(global, &Args { r#type: Some(Kind::Image), ..args })
}

/// Prints documents: as one indented array, one a line, or by a template.
pub(super) fn print(documents: &[Value], format: Option<&str>) -> Result<(), Failure> {
    match format {
        Some("json") => documents.iter().for_each(output::json_line),
        Some(template) => {
            let template = Template::parse(template).doing("inspect --format")?;
            for document in documents {
                let line = template.render(document).doing("inspect --format")?;
                output::data(&format!("{line}\n"));
            }
        }
        None => output::json_document(&Value::Array(documents.to_vec())),
    }
    Ok(())
}

/// The container of this name, or else the image, or else the volume.
fn find(global: &Global, name: &str, kind: Option<Kind>) -> Result<Value, Failure> {
    let what = format!("inspect {name}");
    let containers = global.containers().doing(&what)?;
    if kind == Some(Kind::Volume) {
        return volume::document(&containers, name).doing(&what);
    }
    if kind != Some(Kind::Image) {
        match containers.find(name) {
            Err(container::Error::NoSuchContainer(_)) if kind.is_none() => {}
            found => {
                let record = found.doing(&what)?;
                return inspect_container::document(&containers, &record).doing(&what);
            }
        }
    }
    let store = global.store().doing(&what)?;
    let image = match image::find(&store, name) {
        Err(image::Error::NoSuchImage(_)) if kind.is_none() && has_volume(&containers, name) => {
            return volume::document(&containers, name).doing(&what);
        }
        found => found.doing(&what)?,
    };
    document(&store, &image).doing(&what)
}

fn has_volume(containers: &Containers, name: &str) -> bool {
    containers.volumes().find(name).is_ok()
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
