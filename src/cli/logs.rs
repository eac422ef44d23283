//! `mydocker logs`.

use std::os::fd::AsFd as _;

use super::failure::{Failure, While as _};
use super::{Global, Outcome, moment};
use crate::container::{Follow, LogEntry, LogReader, Stream, write_all};

/// Show what a detached container has written
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Go on until the container ends
    #[arg(short, long)]
    follow: bool,
    /// Only what came since then: a time as in 2026-01-02T15:04:05, or how long ago as in 10m
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// How many entries of the end: a number or all
    #[arg(short = 'n', long, value_name = "NUMBER", default_value = "all")]
    tail: String,
    /// Show when it was written
    #[arg(short, long)]
    timestamps: bool,
    /// Only what came before then
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Name, id or first digits of an id
    container: String,
}

/// From when to when, in nanoseconds since 1970.
struct Span {
    since: Option<i128>,
    until: Option<i128>,
}

pub(super) fn run(global: &Global, args: &Args) -> Outcome {
    let what = format!("logs {}", args.container);
    let time = |text: &Option<String>| text.as_deref().map(|t| moment::parse(t, &what)).transpose();
    let span = Span { since: time(&args.since)?, until: time(&args.until)? };
    let tail = match args.tail.as_str() {
        "all" | "-1" => None,
        number => Some(number.parse().map_err(|_| {
            let cause = format!("invalid --tail `{number}`: it is neither a number nor all");
            Failure::new(&what, cause, "as in: --tail 100")
        })?),
    };
    let containers = global.containers().doing(&what)?;
    let record = containers.find(&args.container).doing(&what)?;
    let follow = args.follow.then(|| Follow::new(&containers, &record)).transpose().doing(&what)?;
    let mut reader = LogReader::open(&containers, &record, tail).doing(&what)?;
    loop {
        while let Some(entry) = reader.next_entry().doing(&what)? {
            if !show(&entry, &span, args.timestamps) {
                return Ok(0);
            }
        }
        match &follow {
            Some(follow) if reader.wait(follow).doing(&what)? => {}
            _ => return Ok(0),
        }
    }
}

/// Prints an entry to the stream that it came from, and says whether more are wanted.
fn show(entry: &LogEntry, span: &Span, timestamps: bool) -> bool {
    let at = moment::parse_rfc3339(&entry.time);
    if let (Some(at), Some(until)) = (at, span.until)
        && at > until
    {
        return false;
    }
    if let (Some(at), Some(since)) = (at, span.since)
        && at < since
    {
        return true;
    }
    let mut text = entry.log.clone();
    if timestamps {
        text.insert_str(0, &format!("{} ", entry.time));
    }
    match entry.stream {
        Stream::Stdout => write_all(std::io::stdout().as_fd(), text.as_bytes()),
        Stream::Stderr => write_all(std::io::stderr().as_fd(), text.as_bytes()),
    }
}
