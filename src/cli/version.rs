//! `mydocker version`.

use serde_json::json;

use super::Outcome;
use super::output::{self, Format};

/// Show the program's version
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// table, or json
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn run(args: &Args) -> Outcome {
    let version = env!("CARGO_PKG_VERSION");
    let platform = crate::oci::platform::Platform::host();
    match args.format {
        Format::Json => output::json_line(&json!({
            "Version": version,
            "Os": platform.os,
            "Arch": platform.architecture,
        })),
        Format::Table => output::data(&format!("mydocker version {version}, {platform}\n")),
    }
    Ok(0)
}
