//! `mydocker df`.

use serde_json::json;

use super::failure::While as _;
use super::output::{self, Format, Table};
use super::{Global, Outcome};
use crate::container::{self, Record, VolumeUsage};
use crate::image::{self, DiskUsage, Image};
use crate::oci::digest::ImageId;
use crate::oci::reference::Reference;

/// Show what images, containers and volumes take of the disk
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// table, or json for one object a line
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Show each image, container and volume
    #[arg(short, long)]
    verbose: bool,
}

/// What there is, and what it takes of the disk.
struct Survey {
    images: DiskUsage,
    containers: Vec<(Record, u64, bool)>,
    volumes: Vec<VolumeUsage>,
}

pub(super) fn run(global: &Global, args: &Args) -> Outcome {
    let store = global.store().doing("df")?;
    let containers = global.containers().doing("df")?;
    let (records, _) = containers.list().doing("df")?;
    let users: Vec<ImageId> = records.iter().flat_map(|r| r.images().cloned()).collect();
    let images = image::disk_usage(&store, &users).doing("df")?;
    let volumes = containers.volume_usage(&records).doing("df")?;
    let mut used = Vec::new();
    for record in records {
        let bytes = containers.disk_usage(&record).doing("df")?;
        let is_running = containers.status(&record).running().is_some();
        used.push((record, bytes, is_running));
    }
    let survey = Survey { images, containers: used, volumes };
    match args.verbose {
        true => survey.print_each(args.format),
        false => survey.print_sums(args.format),
    }
    Ok(0)
}

impl Survey {
    fn print_sums(&self, format: Format) {
        let images = &self.images;
        let active = images.images.iter().filter(|image| image.containers > 0).count();
        let (containers, volumes) = (&self.containers, &self.volumes);
        let idle = |(_, bytes, running): &(_, u64, bool)| if *running { 0 } else { *bytes };
        let unmounted = volumes.iter().filter(|volume| volume.containers == 0);
        let rows = [
            ("Images", images.images.len(), active, images.total, images.reclaimable),
            (
                "Containers",
                containers.len(),
                containers.iter().filter(|(_, _, running)| *running).count(),
                containers.iter().map(|(_, bytes, _)| bytes).sum(),
                containers.iter().map(idle).sum(),
            ),
            (
                "Local Volumes",
                volumes.len(),
                volumes.iter().filter(|volume| volume.containers > 0).count(),
                volumes.iter().map(|volume| volume.bytes).sum(),
                unmounted.map(|volume| volume.bytes).sum(),
            ),
        ];
        let mut table = Table::new(&["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]);
        for (kind, total, active, size, reclaimable) in rows {
            let (total, active) = (total.to_string(), active.to_string());
            let (size, reclaimable) = (output::size(size), share(reclaimable, size));
            match format {
                Format::Json => output::json_line(&json!({
                    "Type": kind,
                    "TotalCount": total,
                    "Active": active,
                    "Size": size,
                    "Reclaimable": reclaimable,
                })),
                Format::Table => {
                    table.row(vec![kind.to_owned(), total, active, size, reclaimable]);
                }
            }
        }
        if format == Format::Table {
            table.print();
        }
    }

    fn print_each(&self, format: Format) {
        let header = [
            "REPOSITORY",
            "TAG",
            "IMAGE ID",
            "CREATED",
            "SIZE",
            "SHARED SIZE",
            "UNIQUE SIZE",
            "CONTAINERS",
        ];
        let mut images = Table::new(&header);
        for usage in &self.images.images {
            for image in &usage.images {
                let reference = image.reference();
                let none = || "<none>".to_owned();
                let repository =
                    reference.as_ref().map_or_else(none, Reference::familiar_repository);
                let tag =
                    reference.as_ref().and_then(Reference::tag).map_or_else(none, str::to_owned);
                let id = image.id.digest().short().to_owned();
                let size = output::size(usage.own + usage.shared);
                let (shared, unique) = (output::size(usage.shared), output::size(usage.own));
                let containers = usage.containers.to_string();
                match format {
                    Format::Json => output::json_line(&json!({
                        "Type": "Image", "Repository": repository, "Tag": tag, "ID": id, "CreatedSince": since(image),
                        "Size": size, "SharedSize": shared, "UniqueSize": unique, "Containers": containers,
                    })),
                    Format::Table => images.row(vec![
                        repository,
                        tag,
                        id,
                        since(image),
                        size,
                        shared,
                        unique,
                        containers,
                    ]),
                }
            }
        }
        let mut containers = Table::new(&["CONTAINER ID", "IMAGE", "SIZE", "STATUS", "NAMES"]);
        for (record, bytes, running) in &self.containers {
            let id: String = record.id.chars().take(12).collect();
            let (size, status) =
                (output::size(*bytes), if *running { "running" } else { "exited" });
            match format {
                Format::Json => output::json_line(&json!({
                    "Type": "Container", "ID": id, "Image": record.image, "Size": size, "Status": status,
                    "Names": record.name,
                })),
                Format::Table => containers.row(vec![
                    id,
                    record.image.clone(),
                    size,
                    status.to_owned(),
                    record.name.clone(),
                ]),
            }
        }
        let mut volumes = Table::new(&["VOLUME NAME", "LINKS", "SIZE"]);
        for volume in &self.volumes {
            let (links, size) = (volume.containers.to_string(), output::size(volume.bytes));
            match format {
                Format::Json => output::json_line(&json!({
                    "Type": "Volume", "Name": volume.name, "Links": links, "Size": size,
                })),
                Format::Table => volumes.row(vec![volume.name.clone(), links, size]),
            }
        }
        if format == Format::Table {
            for (title, table) in [
                ("Images space usage:", images),
                ("\nContainers space usage:", containers),
                ("\nLocal Volumes space usage:", volumes),
            ] {
                output::data(&format!("{title}\n\n"));
                table.print();
            }
        }
    }
}

/// `1.2MB (60%)`, as docker shows it.
fn share(part: u64, whole: u64) -> String {
    match part.saturating_mul(100).checked_div(whole) {
        Some(percent) if part > 0 => format!("{} ({percent}%)", output::size(part)),
        _ => output::size(part),
    }
}

fn since(image: &Image) -> String {
    let created = image.config.created.as_deref().and_then(output::parse_timestamp);
    created.map_or_else(
        || "N/A".to_owned(),
        |created| format!("{} ago", output::duration(container::now() - created)),
    )
}
