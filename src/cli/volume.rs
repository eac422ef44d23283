//! `mydocker volume`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::failure::{Failure, While as _, chain};
use super::output::{self, Table};
use super::template::Template;
use super::volume_filter::VolumeFilters;
use super::{Global, Outcome, each, prompt};
use crate::container::{self, Containers, MountFault, Volume, VolumeError};

/// Manage volumes
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Create(CreateArgs),
    #[command(visible_alias = "list")]
    Ls(LsArgs),
    Inspect(InspectArgs),
    #[command(visible_alias = "remove")]
    Rm(RmArgs),
    Prune(PruneArgs),
}

/// Make a volume; one that is there stays as it is
#[derive(Debug, clap::Args)]
struct CreateArgs {
    /// Driver: there is local
    #[arg(short, long, value_name = "local", default_value = "local")]
    driver: String,
    /// Remark, for people and filters
    #[arg(long, value_name = "NAME[=VALUE]")]
    label: Vec<String>,
    /// Name, as older versions of docker took it
    #[arg(long = "name", id = "old_name", value_name = "NAME", hide = true)]
    old_name: Option<String>,
    /// Option of the driver; type=none, o=bind and device=/path make it a folder of the host
    #[arg(short, long, value_name = "NAME=VALUE")]
    opt: Vec<String>,
    /// Name [default: 64 digits]
    #[arg(conflicts_with = "old_name")]
    name: Option<String>,
}

/// List volumes
#[derive(Debug, clap::Args)]
struct LsArgs {
    /// Only volumes that are so: dangling=true, driver=, label=, name=
    #[arg(short, long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
    /// table, json for one object a line, or a template as in '{{.Name}}'
    #[arg(long, default_value = "table")]
    format: String,
    /// Names alone
    #[arg(short, long)]
    quiet: bool,
}

/// Show all that is known of volumes, as JSON
#[derive(Debug, clap::Args)]
struct InspectArgs {
    /// json for one object a line, or a template as in '{{.Mountpoint}}'; otherwise one indented array
    #[arg(short, long)]
    format: Option<String>,
    /// Names
    #[arg(required = true)]
    volume: Vec<String>,
}

/// Remove volumes that no container has
#[derive(Debug, clap::Args)]
struct RmArgs {
    /// Pass over those that are not there
    #[arg(short, long)]
    force: bool,
    /// Names
    #[arg(required = true)]
    volume: Vec<String>,
}

/// Remove all volumes that no container has and nobody has named
#[derive(Debug, clap::Args)]
pub(super) struct PruneArgs {
    /// Those with names too
    #[arg(short, long)]
    all: bool,
    /// Only volumes that are so: label=, label!=
    #[arg(long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

pub(super) fn run(global: &Global, args: &Args) -> Outcome {
    match &args.verb {
        Verb::Create(args) => create(global, args),
        Verb::Ls(args) => ls(global, args),
        Verb::Inspect(args) => inspect(global, args),
        Verb::Rm(args) => each(&args.volume, |name| rm(global, name, args.force)),
        Verb::Prune(args) => prune(global, args),
    }
}

fn create(global: &Global, args: &CreateArgs) -> Outcome {
    let name = args.name.as_deref().or(args.old_name.as_deref());
    let what =
        name.map_or_else(|| "volume create".to_owned(), |name| format!("volume create {name}"));
    let refuse = |fault: MountFault| Failure::new(&what, chain(&fault), "leave it out");
    if args.driver != "local" {
        return Err(refuse(MountFault::Driver(args.driver.clone())));
    }
    let options = container::parse_volume_options(&args.opt).map_err(refuse)?;
    let labels = args.label.iter().map(|label| {
        let (name, value) = label.split_once('=').unwrap_or((label, ""));
        (name.to_owned(), value.to_owned())
    });
    let containers = global.containers().doing(&what)?;
    let made = containers.volumes().create(name, labels.collect(), options).doing(&what)?;
    output::data(&format!("{made}\n"));
    Ok(0)
}

fn ls(global: &Global, args: &LsArgs) -> Outcome {
    let what = "volume ls";
    let filters = VolumeFilters::parse(&args.filter).doing(what)?;
    let containers = global.containers().doing(what)?;
    let used = used(&containers).doing(what)?;
    let (volumes, broken) = containers.volumes().list().doing(what)?;
    for error in &broken {
        output::warning(&chain(error));
    }
    let wanted = |volume: &&Volume| filters.accept(volume, used.contains(&volume.name));
    let volumes: Vec<&Volume> = volumes.iter().filter(wanted).collect();
    let row = |volume: &&Volume| row(&containers, volume);
    match args.format.as_str() {
        _ if args.quiet => {
            volumes.iter().for_each(|volume| output::data(&format!("{}\n", volume.name)));
        }
        "json" => volumes.iter().map(row).for_each(|row| output::json_line(&row)),
        "table" => {
            let mut table = Table::new(&["DRIVER", "VOLUME NAME"]);
            for volume in volumes {
                table.row(vec![volume.driver.clone(), volume.name.clone()]);
            }
            table.print();
        }
        template => {
            let template = Template::parse(template).doing("volume ls --format")?;
            let lines = volumes.iter().map(|volume| template.render(&row(volume)));
            let lines: Vec<String> = lines.collect::<Result<_, _>>().doing("volume ls --format")?;
            if template.is_table {
                output::tabs(&template.header(), &lines);
            } else {
                lines.iter().for_each(|line| output::data(&format!("{line}\n")));
            }
        }
    }
    Ok(if broken.is_empty() { 0 } else { 1 })
}

/// The names of the volumes that containers have.
fn used(containers: &Containers) -> Result<BTreeSet<String>, container::Error> {
    let (records, _) = containers.list()?;
    let mounts = records.iter().flat_map(|record| &record.mounts);
    Ok(mounts.filter_map(|mount| mount.volume()).map(str::to_owned).collect())
}

/// A volume with the names of `docker volume ls --format`.
fn row(containers: &Containers, volume: &Volume) -> Value {
    let labels = volume.labels.iter().map(|(name, value)| format!("{name}={value}"));
    json!({
        "Availability": "N/A",
        "Driver": volume.driver,
        "Group": "N/A",
        "Labels": labels.collect::<Vec<_>>().join(","),
        "Links": "N/A",
        "Mountpoint": containers.volumes().mount_point(&volume.name),
        "Name": volume.name,
        "Scope": "local",
        "Size": "N/A",
        "Status": "N/A",
    })
}

fn inspect(global: &Global, args: &InspectArgs) -> Outcome {
    let (mut documents, mut code) = (Vec::new(), 0);
    for name in &args.volume {
        let what = format!("volume inspect {name}");
        let containers = global.containers().doing(&what)?;
        match document(&containers, name).doing(&what) {
            Ok(found) => documents.push(found),
            Err(failure) => {
                failure.report();
                code = 1;
            }
        }
    }
    super::inspect::print(&documents, args.format.as_deref())?;
    Ok(code)
}

/// The volume in the form and with the names of `docker volume inspect`.
pub(super) fn document(containers: &Containers, name: &str) -> Result<Value, VolumeError> {
    let volumes = containers.volumes();
    let volume = volumes.find(name)?;
    let labels: Option<&BTreeMap<_, _>> = Some(&volume.labels).filter(|labels| !labels.is_empty());
    let options: Option<&BTreeMap<_, _>> = Some(&volume.options).filter(|all| !all.is_empty());
    Ok(json!({
        "CreatedAt": output::timestamp(volume.created),
        "Driver": volume.driver,
        "Labels": labels,
        "Mountpoint": volumes.mount_point(&volume.name),
        "Name": volume.name,
        "Options": options,
        "Scope": "local",
    }))
}

fn rm(global: &Global, name: &str, force: bool) -> Result<(), Failure> {
    let what = format!("volume rm {name}");
    let containers = global.containers().doing(&what)?;
    match container::remove_volume(&containers, name) {
        Err(container::Error::Volume(VolumeError::NoSuchVolume(_))) if force => Ok(()),
        removed => removed.doing(&what),
    }
}

fn prune(global: &Global, args: &PruneArgs) -> Outcome {
    let what = "volume prune";
    let filters = VolumeFilters::parse_prune(&args.filter, args.all).doing(what)?;
    let kind = if filters.all() { "all" } else { "anonymous" };
    let warning =
        format!("This will remove {kind} local volumes not used by at least one container.");
    if !args.force && !prompt::is_sure(&warning) {
        return Ok(0);
    }
    let containers = global.containers().doing(what)?;
    let freed = prune_volumes(&containers, &filters).doing(what)?;
    output::data(&format!("Total reclaimed space: {}\n", output::size(freed)));
    Ok(0)
}

/// Removes volumes, names them, and says how many bytes are free now.
pub(super) fn prune_volumes(
    containers: &Containers,
    filters: &VolumeFilters,
) -> Result<u64, container::Error> {
    let (mut names, mut freed) = (Vec::new(), 0_u64);
    let wanted =
        |volume: &Volume| (filters.all() || volume.anonymous) && filters.accept(volume, false);
    let done = container::prune_volumes(containers, &wanted, &mut |name, bytes| {
        names.push(name.to_owned());
        freed = freed.saturating_add(bytes);
    });
    if !names.is_empty() {
        output::data(&format!("Deleted Volumes:\n{}\n\n", names.join("\n")));
    }
    done?;
    containers.tell_prune("volume", freed);
    Ok(freed)
}
