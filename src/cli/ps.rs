//! `mydocker ps`.

use serde_json::json;

use super::failure::{While as _, chain};
use super::output::{self, Format, Table};
use super::{Global, Outcome};
use crate::container::{Finished, Record, Status, now};

/// List containers
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Show all containers, not only those that run
    #[arg(short, long)]
    all: bool,
    /// table, or json for one object a line
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Show ids and commands in full
    #[arg(long)]
    no_trunc: bool,
    /// Show ids only
    #[arg(short, long)]
    quiet: bool,
}

pub(super) fn run(global: &Global, args: &Args) -> Outcome {
    let containers = global.containers().doing("ps")?;
    let (records, broken) = containers.list().doing("ps")?;
    let header = ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"];
    let mut table = Table::new(&header);
    for record in &records {
        let status = containers.status(record);
        if !args.all && status.running().is_none() {
            continue;
        }
        let short: String = record.id.chars().take(12).collect();
        let id = if args.no_trunc { record.id.clone() } else { short };
        let command = command(record, args.no_trunc);
        let since = format!("{} ago", output::duration(now() - record.created));
        let (state, words) = (status.name(), describe(&status));
        match args.format {
            _ if args.quiet => output::data(&format!("{id}\n")),
            Format::Json => output::json_line(&json!({
                "ID": id,
                "Image": record.image,
                "Command": command,
                "CreatedAt": output::timestamp(record.created),
                "RunningFor": since,
                "State": state,
                "Status": words,
                "Ports": "",
                "Names": record.name,
            })),
            Format::Table => {
                let image = record.image.clone();
                table.row(vec![
                    id,
                    image,
                    command,
                    since,
                    words,
                    String::new(),
                    record.name.clone(),
                ]);
            }
        }
    }
    if args.format == Format::Table && !args.quiet {
        table.print();
    }
    for error in broken {
        output::warning(&chain(&error));
    }
    Ok(0)
}

/// The command in docker's form: quoted, and cut off after 20 characters.
fn command(record: &Record, no_trunc: bool) -> String {
    const SHOWN: usize = 20;
    // Escaped, so that a container cannot write to the terminal of whoever lists it.
    let mut text: String = record.command.join(" ").escape_debug().collect();
    if !no_trunc && text.chars().count() > SHOWN {
        text = text.chars().take(SHOWN - 1).collect();
        text.push('…');
    }
    format!("\"{text}\"")
}

/// The state in docker's words.
fn describe(status: &Status) -> String {
    let ended = |finished: &Finished| {
        let ago = output::duration(now() - finished.at);
        (finished.code, ago)
    };
    match status {
        Status::Created => "Created".to_owned(),
        Status::Running(running) => format!("Up {}", output::duration(now() - running.since)),
        Status::Paused(running) => {
            format!("Up {} (Paused)", output::duration(now() - running.since))
        }
        Status::Restarting(finished, _) => {
            let (code, ago) = ended(finished);
            format!("Restarting ({code}) {ago} ago")
        }
        Status::Exited(finished) => {
            let (code, ago) = ended(finished);
            format!("Exited ({code}) {ago} ago")
        }
    }
}
