//! `mydocker info`.

use serde_json::json;

use super::failure::While as _;
use super::output::{self, Format};
use super::{Global, Outcome};
use crate::container::Status;
use crate::image;
use crate::runtime::{self, CgroupVersion};

/// Show what this machine offers and what the store holds
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// table, or json
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Print the usual seccomp profile alone, as `--security-opt seccomp=FILE` takes it
    #[arg(long, conflicts_with = "format")]
    seccomp_profile: bool,
}

pub(super) fn run(global: &Global, args: &Args) -> Outcome {
    if args.seccomp_profile {
        output::data(runtime::seccomp::DEFAULT_PROFILE);
        return Ok(0);
    }
    let store = global.store().doing("info")?;
    let containers = global.containers().doing("info")?;
    let (images, broken) = image::list(&store).doing("info")?;
    let (records, _) = containers.list().doing("info")?;
    let running = records
        .iter()
        .filter(|record| matches!(containers.status(record), Status::Running(_)))
        .count();
    let host = runtime::probe();
    let cgroup = match host.cgroup {
        CgroupVersion::None => "none",
        CgroupVersion::V1 => "1",
        CgroupVersion::V2 => "2",
    };
    let platform = crate::oci::platform::Platform::host().to_string();
    let facts = [
        ("ServerVersion", json!(env!("CARGO_PKG_VERSION"))),
        ("Platform", json!(platform)),
        ("KernelVersion", json!(host.kernel)),
        ("NCPU", json!(std::thread::available_parallelism().map_or(1, usize::from))),
        ("StoreRoot", json!(store.root())),
        ("Images", json!(images.len())),
        ("BrokenImages", json!(broken.len())),
        ("Containers", json!(records.len())),
        ("ContainersRunning", json!(running)),
        ("CgroupVersion", json!(cgroup)),
        ("CgroupControllers", json!(host.controllers)),
        ("UserNamespaces", json!(host.user_namespaces)),
        ("IdmappedOverlay", json!(host.idmapped_overlay)),
        ("Seccomp", json!(host.seccomp)),
        ("AppArmor", json!(host.apparmor)),
        ("SELinux", json!(host.selinux)),
    ];
    match args.format {
        Format::Json => {
            let object = facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            output::json_line(&serde_json::Value::Object(object));
        }
        Format::Table => {
            for (name, value) in facts {
                let shown = match value {
                    serde_json::Value::String(text) => text,
                    serde_json::Value::Array(items) => {
                        let words = items.iter().filter_map(serde_json::Value::as_str);
                        words.collect::<Vec<_>>().join(" ")
                    }
                    other => other.to_string(),
                };
                output::data(&format!("{name}: {shown}\n"));
            }
        }
    }
    Ok(0)
}
