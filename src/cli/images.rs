//! `mydocker images`.

use serde_json::json;

use super::failure::{While as _, chain};
use super::output::{self, Format, Table};
use super::{Global, Outcome};
use crate::container;
use crate::image::{self, Image};
use crate::oci::reference::Reference;

/// List images
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Show all images; there are no hidden ones
    #[arg(short, long)]
    all: bool,
    /// table, or json for one object a line
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Show ids and digests in full
    #[arg(long)]
    no_trunc: bool,
    /// Show ids only
    #[arg(short, long)]
    quiet: bool,
    /// Show only images of this name
    name: Option<String>,
}

pub(super) fn run(global: &Global, args: &Args) -> Outcome {
    let store = global.store().doing("images")?;
    let (mut images, broken) = image::list(&store).doing("images")?;
    if let Some(name) = &args.name {
        let wanted: Reference = name.parse().doing("images")?;
        let tagged = name.rsplit('/').next().is_some_and(|last| last.contains(':'));
        images.retain(|image| {
            image.reference().is_some_and(|found| {
                found.familiar_repository() == wanted.familiar_repository()
                    && (!tagged || found.tag() == wanted.tag())
            })
        });
    }
    images.sort_by_key(|image| std::cmp::Reverse(created(image)));
    let mut table = Table::new(&["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]);
    for image in &images {
        let row = Row::new(image, args.no_trunc);
        match args.format {
            _ if args.quiet => output::data(&format!("{}\n", row.id)),
            Format::Json => row.print_json(image),
            Format::Table => table.row(vec![row.repository, row.tag, row.id, row.since, row.size]),
        }
    }
    if args.format == Format::Table && !args.quiet {
        table.print();
    }
    for (entry, error) in broken {
        let name = entry.ref_name().unwrap_or("<none>").to_owned();
        output::warning(&format!("image {name} cannot be read: {}", chain(&error)));
    }
    Ok(0)
}

struct Row {
    repository: String,
    tag: String,
    id: String,
    since: String,
    size: String,
}

impl Row {
    fn new(image: &Image, no_trunc: bool) -> Self {
        let none = || "<none>".to_owned();
        let reference = image.reference();
        let created = created(image);
        let since = match created {
            0 => "N/A".to_owned(),
            created => format!("{} ago", output::duration(container::now() - created)),
        };
        Self {
            repository: reference.as_ref().map_or_else(none, Reference::familiar_repository),
            tag: reference.as_ref().and_then(Reference::tag).map_or_else(none, str::to_owned),
            id: if no_trunc { image.id.to_string() } else { image.id.digest().short().to_owned() },
            since,
            size: output::size(image.size()),
        }
    }

    fn print_json(&self, image: &Image) {
        let digest = image.repo_digest();
        output::json_line(&json!({
            "Repository": self.repository,
            "Tag": self.tag,
            "Digest": if digest.is_empty() { "<none>" } else { digest },
            "ID": self.id,
            "CreatedAt": output::timestamp(created(image)),
            "CreatedSince": self.since,
            "Size": self.size,
            "Platform": image.config.platform.to_string(),
        }));
    }
}

/// When the image was made, in seconds since 1970; 0 if it does not say.
fn created(image: &Image) -> i64 {
    image.config.created.as_deref().and_then(output::parse_timestamp).unwrap_or_default()
}
