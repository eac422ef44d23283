//! `mydocker tags`.

use serde_json::json;

use super::Outcome;
use super::failure::{Failure, While as _};
use super::output::{self, Format};
use super::remote::RemoteArgs;
use crate::oci::reference::Reference;

/// List the tags of a repository at its registry, one a line
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    remote: RemoteArgs,
    /// table for columns, or json for one object a line; otherwise one tag a line
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// List no more than so many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// [REGISTRY/]REPOSITORY
    repository: String,
}

pub(super) fn run(args: &Args) -> Outcome {
    let what = format!("tags {}", args.repository);
    let repository: Reference = args.repository.parse().doing(&what)?;
    if names_a_tag(&args.repository) {
        return Err(Failure::new(
            &what,
            "a repository has no tag",
            "leave out what stands behind `:` or `@`",
        ));
    }
    let client = args.remote.client().doing(&what)?;
    let mut table = output::Table::new(&["NAME", "TAG"]);
    let mut left = args.limit.unwrap_or(u64::MAX);
    let mut each = |found: Reference| {
        let (name, tag) = (found.familiar_repository(), found.tag().unwrap_or_default().to_owned());
        match args.format {
            Some(Format::Table) => table.row(vec![name, tag]),
            Some(Format::Json) => output::json_line(&json!({"Name": name, "Tag": tag})),
            None => output::data(&format!("{tag}\n")),
        }
        left -= 1;
        left > 0
    };
    client.tags(&repository, &mut each).doing(&what)?;
    if args.format == Some(Format::Table) {
        table.print();
    }
    Ok(0)
}

/// Whether a reference is given with a tag or digest, where a repository is wanted.
pub(super) fn names_a_tag(text: &str) -> bool {
    text.rsplit('/').next().is_some_and(|last| last.contains([':', '@']))
}
