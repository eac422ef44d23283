//! `list` and `state`: the containers there are.

use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};

use super::OciError;
use crate::cli::output::{self, Table};
use crate::runtime::{self, Container, States, rootless};

#[derive(Args, Debug)]
pub(super) struct ListArgs {
    /// How the list is printed
    #[arg(short, long, value_enum, default_value_t = output::Format::Table, value_name = "FORMAT")]
    format: output::Format,
    /// Print the containers' names alone
    #[arg(short, long)]
    quiet: bool,
}

pub(super) fn run(states: &States, args: &ListArgs) -> Result<(), OciError> {
    let ids = states.ids()?;
    if args.quiet {
        ids.iter().for_each(|id| output::data(&format!("{id}\n")));
        return Ok(());
    }
    // One that is removed just now is not there, and a broken one does not hide the others.
    let found: Vec<Value> =
        ids.iter().filter_map(|id| Container::open(states, id).ok()).map(describe).collect();
    if args.format == output::Format::Json {
        output::json_line(&Value::from(found));
        return Ok(());
    }
    let names = ["id", "pid", "status", "bundle", "created", "owner"];
    let mut table = Table::new(&["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    for container in &found {
        let cell = |name: &&str| match &container[*name] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        table.row(names.iter().map(cell).collect());
    }
    table.print();
    Ok(())
}

pub(super) fn state(states: &States, id: &str) -> Result<(), OciError> {
    output::json_document(&describe(Container::open(states, id)?));
    Ok(())
}

#[derive(Serialize)]
struct Owned {
    #[serde(flatten)]
    state: runtime::State,
    owner: String,
}

fn describe(container: Container) -> Value {
    let uid = container.owner();
    let owner = rootless::user_name(uid).unwrap_or_else(|| uid.to_string());
    serde_json::to_value(Owned { state: container.state(), owner }).unwrap_or_else(|_| json!({}))
}
