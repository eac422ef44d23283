//! `mydocker ps`.

use serde_json::{Value, json};

use super::container_filter::Filters;
use super::failure::{Failure, While as _, chain};
use super::output::{self, Table};
use super::template::Template;
use super::{Global, Outcome};
use crate::container::{Containers, Finished, HealthStatus, Record, Status, layer_size, now};

/// List containers
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Show all containers, not only those that run
    #[arg(short, long)]
    all: bool,
    /// Only containers that are so: ancestor=, before=, command=, exited=, health=, id=, label=, label!=, name=, network=,
    /// restart-policy=, since=, status=, until=, volume=
    #[arg(short, long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
    /// table, json for one object a line, or a template as in '{{.ID}} {{.Names}}'
    #[arg(long, default_value = "table")]
    format: String,
    /// Show the last so many containers, running or not
    #[arg(short = 'n', long, value_name = "NUMBER", allow_hyphen_values = true, default_value_t = -1)]
    last: i64,
    /// Show the last container, running or not
    #[arg(short, long)]
    latest: bool,
    /// Show ids and commands in full
    #[arg(long)]
    no_trunc: bool,
    /// Show ids only
    #[arg(short, long)]
    quiet: bool,
    /// Show how much each has written
    #[arg(short, long)]
    size: bool,
}

pub(super) fn run(global: &Global, args: &Args) -> Outcome {
    let containers = global.containers().doing("ps")?;
    let (records, broken) = containers.list().doing("ps")?;
    let filters = Filters::parse(&args.filter, &records).doing("ps")?;
    let last = if args.latest { 1 } else { args.last };
    let all = args.all || last >= 0 || filters.mention_state();
    let wanted = records.iter().filter_map(|record| {
        let status = containers.status(record);
        let shown =
            (all || status.running().is_some()) && filters.accept(&containers, record, &status);
        shown.then_some((record, status))
    });
    let most = usize::try_from(last).unwrap_or(usize::MAX);
    let rows: Vec<Row> = wanted
        .take(most)
        .map(|(record, status)| Row::new(&containers, record, &status, args))
        .collect();
    print(&rows, args)?;
    for error in broken {
        output::warning(&chain(&error));
    }
    Ok(0)
}

/// A container as `ps` shows it.
struct Row {
    id: String,
    image: String,
    command: String,
    since: String,
    status: String,
    name: String,
    size: Option<String>,
    json: Value,
}

impl Row {
    fn new(containers: &Containers, record: &Record, status: &Status, args: &Args) -> Self {
        let short: String = record.id.chars().take(12).collect();
        let id = if args.no_trunc { record.id.clone() } else { short };
        let command = command(record, args.no_trunc);
        let since = format!("{} ago", output::duration(now() - record.created));
        let words = describe(containers, record, status);
        let needs_size = args.size || args.format.contains(".Size");
        let size = needs_size.then(|| output::size(layer_size(containers, record)));
        let labels = record.labels.iter().map(|(name, value)| format!("{name}={value}"));
        let json = json!({
            "ID": id,
            "Image": record.image,
            "Command": command,
            "CreatedAt": output::timestamp(record.created),
            "RunningFor": since,
            "State": status.name(),
            "Status": words,
            "Ports": "",
            "Names": record.name,
            "Labels": labels.collect::<Vec<_>>().join(","),
            "Size": size.clone().unwrap_or_default(),
        });
        let (image, name) = (record.image.clone(), record.name.clone());
        Self { id, image, command, since, status: words, name, size, json }
    }
}

fn print(rows: &[Row], args: &Args) -> Result<(), Failure> {
    match args.format.as_str() {
        _ if args.quiet => rows.iter().for_each(|row| output::data(&format!("{}\n", row.id))),
        "json" => rows.iter().for_each(|row| output::json_line(&row.json)),
        "table" => print_table(rows, args.size),
        template => {
            let template = Template::parse(template).doing("ps --format")?;
            let lines = rows.iter().map(|row| template.render(&row.json));
            let lines: Vec<String> = lines.collect::<Result<_, _>>().doing("ps --format")?;
            if template.is_table {
                output::tabs(&template.header(), &lines);
            } else {
                lines.iter().for_each(|line| output::data(&format!("{line}\n")));
            }
        }
    }
    Ok(())
}

fn print_table(rows: &[Row], size: bool) {
    let mut header =
        vec!["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"];
    header.extend(size.then_some("SIZE"));
    let mut table = Table::new(&header);
    for row in rows {
        let mut cells = vec![
            row.id.clone(),
            row.image.clone(),
            row.command.clone(),
            row.since.clone(),
            row.status.clone(),
            String::new(),
            row.name.clone(),
        ];
        cells.extend(row.size.clone().filter(|_| size));
        table.row(cells);
    }
    table.print();
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
fn describe(containers: &Containers, record: &Record, status: &Status) -> String {
    let ended = |finished: &Finished| {
        let ago = output::duration(now() - finished.at);
        (finished.code, ago)
    };
    match status {
        Status::Created => "Created".to_owned(),
        Status::Running(running) => {
            let health = match containers.health(record).map(|health| health.status) {
                None => String::new(),
                Some(HealthStatus::Starting) => " (health: starting)".to_owned(),
                Some(health) => format!(" ({})", health.name()),
            };
            format!("Up {}{health}", output::duration(now() - running.since))
        }
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
