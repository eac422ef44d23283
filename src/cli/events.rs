//! `mydocker events`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::failure::{Failure, While as _};
use super::template::Template;
use super::{Global, Outcome, moment, output};
use crate::container::{Event, EventReader, Journal};

const WHAT: &str = "events";

/// Show what happens to containers and images, until interrupted
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only events that are so: container=, image=, type=, event=, label=, volume=, network=, scope=
    #[arg(short, long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
    /// json for one object a line, or a template as in '{{.Type}} {{.Action}} {{.Actor.ID}}'
    #[arg(long)]
    format: Option<String>,
    /// Also what has happened since then: a time as in 2026-01-02T15:04:05, or how long ago as in 10m
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Go on when all that has happened is shown
    #[arg(long, value_name = "BOOL", default_value = "true", action = clap::ArgAction::Set)]
    stream: bool,
    /// Only until then, and end
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

/// How an event is printed.
enum Form {
    Json,
    Template(Template),
    Text,
}

pub(super) fn run(global: &Global, args: &Args) -> Outcome {
    let now = nanoseconds_now();
    let time = |text: &Option<String>| text.as_deref().map(|t| moment::parse(t, WHAT)).transpose();
    let (since, until) = (time(&args.since)?, time(&args.until)?);
    // As docker does: what was before is shown to those who say from when, or until when.
    let since = since.unwrap_or(if until.is_some() || !args.stream { 0 } else { now });
    let until = if args.stream { until } else { Some(until.unwrap_or(now)) };
    let filters = Filters::parse(&args.filter)?;
    let form = match args.format.as_deref() {
        None => Form::Text,
        Some("json" | "{{json .}}") => Form::Json,
        Some(template) => Form::Template(Template::parse(template).doing("events --format")?),
    };
    // What is watched is the store's folder, which may be yet to come.
    if !global.root().is_dir() {
        global.store().doing(WHAT)?;
    }
    let mut reader = EventReader::open(Journal::new(&global.root())).doing(WHAT)?;
    loop {
        let left = until.map(|until| until - nanoseconds_now());
        while let Some(event) = reader.next_event().doing(WHAT)? {
            let at = i128::from(event.time_nano);
            let wanted = at >= since && until.is_none_or(|until| at <= until);
            if wanted && filters.accept(&event) {
                print(&event, &form)?;
            }
        }
        if left.is_some_and(|left| left <= 0) {
            return Ok(0);
        }
        let left = left.map(|left| u64::try_from(left).map_or(Duration::MAX, Duration::from_nanos));
        reader.wait(left).doing(WHAT)?;
    }
}

fn nanoseconds_now() -> i128 {
    OffsetDateTime::now_utc().unix_timestamp_nanos()
}

fn print(event: &Event, form: &Form) -> Result<(), Failure> {
    match form {
        Form::Json => output::json_line(&json!(event)),
        Form::Template(template) => {
            let line = template.render(&fields(event)).doing("events --format")?;
            output::data(&format!("{line}\n"));
        }
        Form::Text => output::data(&text(event)),
    }
    Ok(())
}

/// An event with the names that docker's templates know.
fn fields(event: &Event) -> Value {
    json!({
        "Type": event.kind,
        "Action": event.action,
        "Actor": event.actor,
        "Scope": event.scope,
        "Time": event.time,
        "TimeNano": event.time_nano,
        "Status": event.status,
        "ID": event.id,
        "From": event.from,
    })
}

/// An event in docker's form for people.
fn text(event: &Event) -> String {
    let attributes = event.actor.attributes.iter();
    let attributes: Vec<String> =
        attributes.map(|(name, value)| format!("{name}={value}")).collect();
    let line = format!(
        "{} {} {} {} ({})",
        moment::with_nanoseconds(event.time_nano.into()),
        event.kind,
        event.action,
        event.actor.id,
        attributes.join(", ")
    );
    // Labels come from images, and commands from anywhere.
    output::path(line.as_bytes()) + "\n"
}

/// `--filter`: values of one name are alternatives, labels and names must all be met.
#[derive(Debug, Default)]
struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    fn parse(filters: &[String]) -> Result<Self, Failure> {
        const NAMES: [&str; 8] =
            ["container", "event", "image", "label", "network", "scope", "type", "volume"];
        let mut parsed = Self::default();
        for filter in filters {
            let found = filter.split_once('=').filter(|(name, _)| NAMES.contains(name));
            let Some((name, value)) = found else {
                let hint = format!("there are {}=VALUE", NAMES.join("=VALUE, "));
                return Err(Failure::new(WHAT, format!("invalid filter `{filter}`"), hint));
            };
            parsed.0.entry(name.to_owned()).or_default().push(value.to_owned());
        }
        Ok(parsed)
    }

    fn accept(&self, event: &Event) -> bool {
        self.0.iter().all(|(name, values)| {
            let mut met = values.iter().map(|value| meets(name, value, event));
            if name == "label" { met.all(|met| met) } else { met.any(|met| met) }
        })
    }
}

fn meets(name: &str, value: &str, event: &Event) -> bool {
    let attribute = |name: &str| event.actor.attributes.get(name).map(String::as_str);
    let is_named = || event.actor.id.starts_with(value) || attribute("name") == Some(value);
    match name {
        "event" => {
            // `health_status` stands for every state, and `exec_start` for every command.
            let general = event.action.split_once(':').map(|(general, _)| general);
            event.action == value || general == Some(value)
        }
        "image" if event.kind == "container" => is_image(value, &event.from),
        "image" => event.kind == "image" && (is_named() || is_image(value, &event.actor.id)),
        "label" => match value.split_once('=') {
            Some((name, value)) => attribute(name) == Some(value),
            None => attribute(value).is_some(),
        },
        "scope" => event.scope == value,
        "type" => event.kind == value,
        kind => event.kind == kind && is_named(),
    }
}

/// Whether an image is meant, with its tag or without.
fn is_image(value: &str, name: &str) -> bool {
    name == value
        || name.strip_prefix(value).is_some_and(|rest| rest.starts_with(':') && !rest.contains('/'))
}
