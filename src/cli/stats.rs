//! `mydocker stats`.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::failure::{Failure, While as _};
use super::output::{self, Table};
use super::template::Template;
use super::{Global, Outcome};
use crate::container::{Containers, Record, Running};
use crate::runtime::Stats;

/// Between two looks, from which processor time is worked out.
const INTERVAL: Duration = Duration::from_secs(1);

/// Show what containers use
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Show containers that do not run, too
    #[arg(short, long)]
    all: bool,
    /// table, json for one object a line, or a template as in '{{.Name}} {{.CPUPerc}}'
    #[arg(long, default_value = "table")]
    format: String,
    /// Show it once
    #[arg(long)]
    no_stream: bool,
    /// Show ids in full
    #[arg(long)]
    no_trunc: bool,
    /// Names, ids or first digits of ids [default: all that run]
    container: Vec<String>,
}

/// What a container had used at one moment.
struct Sample {
    stats: Stats,
    network: (u64, u64),
    at: Instant,
}

pub(super) fn run(global: &Global, args: &Args) -> Outcome {
    let containers = global.containers().doing("stats")?;
    loop {
        let records = records(&containers, args)?;
        let before: Vec<Option<Sample>> = records.iter().map(|r| sample(&containers, r)).collect();
        thread::sleep(INTERVAL);
        let rows: Vec<Value> = records
            .iter()
            .zip(before)
            .map(|(record, before)| row(record, before, sample(&containers, record), args.no_trunc))
            .collect();
        if !args.no_stream && args.format == "table" {
            // To the upper left corner, and clear (ECMA-48).
            output::data("\x1b[H\x1b[J");
        }
        print(&rows, &args.format)?;
        if args.no_stream {
            return Ok(0);
        }
    }
}

fn records(containers: &Containers, args: &Args) -> Result<Vec<Record>, Failure> {
    if args.container.is_empty() {
        let (mut records, _) = containers.list().doing("stats")?;
        records.retain(|record| args.all || containers.status(record).running().is_some());
        return Ok(records);
    }
    let find = |name: &String| containers.find(name).doing(&format!("stats {name}"));
    args.container.iter().map(find).collect()
}

fn sample(containers: &Containers, record: &Record) -> Option<Sample> {
    let status = containers.status(record);
    let running = status.running()?;
    let at = Instant::now();
    Some(Sample { stats: Stats::read(&running.groups), network: network(running), at })
}

/// Bytes received and sent over interfaces of the container's own (`proc_pid_net(5)`).
fn network(running: &Running) -> (u64, u64) {
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    let pid = running.process.pid.to_string();
    if namespace(&pid) == namespace("self") {
        return (0, 0);
    }
    let text = fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default();
    let interfaces = text.lines().skip(2).filter_map(|line| line.split_once(':'));
    interfaces.filter(|(name, _)| name.trim() != "lo").fold(
        (0, 0),
        |(received, sent), (_, rest)| {
            let numbers: Vec<u64> = rest.split_whitespace().flat_map(str::parse).collect();
            let at = |at: usize| numbers.get(at).copied().unwrap_or(0);
            (received + at(0), sent + at(8))
        },
    )
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn row(record: &Record, before: Option<Sample>, after: Option<Sample>, no_trunc: bool) -> Value {
    let short: String = record.id.chars().take(12).collect();
    let id = if no_trunc { record.id.clone() } else { short };
    let now = after.as_ref().map(|sample| sample.stats.clone()).unwrap_or_default();
    let processor = before.zip(after.as_ref()).map_or(0.0, |(before, after)| {
        let used = after.stats.cpu.usage.total.saturating_sub(before.stats.cpu.usage.total);
        let passed = after.at.duration_since(before.at).as_nanos().max(1);
        used as f64 * 100.0 / passed as f64
    });
    // Docker's: what files are cached in can be taken back at any time.
    let inactive = ["total_inactive_file", "inactive_file"];
    let inactive = inactive.iter().find_map(|name| now.memory.raw.get(*name)).copied().unwrap_or(0);
    let used = now.memory.usage.usage.saturating_sub(inactive);
    let limit = now.memory.usage.limit.min(memory_of_machine());
    let share = if limit == 0 { 0.0 } else { used as f64 * 100.0 / limit as f64 };
    let (received, sent) = after.map_or((0, 0), |sample| sample.network);
    let moved = |op: &str| {
        let entries = now.blkio.io_service_bytes_recursive.iter();
        entries.filter(|entry| entry.op.eq_ignore_ascii_case(op)).map(|entry| entry.value).sum()
    };
    json!({
        "Container": id,
        "ID": id,
        "Name": record.name,
        "CPUPerc": format!("{processor:.2}%"),
        "MemUsage": format!("{} / {}", binary_size(used), binary_size(limit)),
        "MemPerc": format!("{share:.2}%"),
        "NetIO": format!("{} / {}", output::size(received), output::size(sent)),
        "BlockIO": format!("{} / {}", output::size(moved("Read")), output::size(moved("Write"))),
        "PIDs": now.pids.current.to_string(),
    })
}

fn memory_of_machine() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or_default();
    let kib = line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok());
    kib.unwrap_or(u64::MAX / 1024) * 1024
}

/// Bytes with four digits and units of 1024, as docker shows memory.
#[expect(clippy::cast_precision_loss, reason = "four digits are shown")]
fn binary_size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut amount, mut unit) = (bytes as f64, 0);
    while amount >= 1024.0 && unit + 1 < UNITS.len() {
        (amount, unit) = (amount / 1024.0, unit + 1);
    }
    let decimals = match amount {
        a if a >= 1000.0 || unit == 0 => 0,
        a if a >= 100.0 => 1,
        a if a >= 10.0 => 2,
        _ => 3,
    };
    let text = format!("{amount:.decimals$}");
    let text =
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{}", UNITS.get(unit).unwrap_or(&""))
}

fn print(rows: &[Value], format: &str) -> Result<(), Failure> {
    const COLUMNS: [&str; 8] =
        ["ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"];
    let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    match format {
        "json" => rows.iter().for_each(output::json_line),
        "table" => {
            let mut table = Table::new(&[
                "CONTAINER ID",
                "NAME",
                "CPU %",
                "MEM USAGE / LIMIT",
                "MEM %",
                "NET I/O",
                "BLOCK I/O",
                "PIDS",
            ]);
            for row in rows {
                table.row(COLUMNS.iter().map(|name| text(row, name)).collect());
            }
            table.print();
        }
        template => {
            let template = Template::parse(template).doing("stats --format")?;
            for row in rows {
                let line = template.render(row).doing("stats --format")?;
                output::data(&format!("{line}\n"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::binary_size;

    #[test]
    fn memory_as_docker_shows_it() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1 << 20, "1MiB"),
            (1_234_567, "1.177MiB"),
            (64 << 20, "64MiB"),
        ] {
            assert_eq!(binary_size(bytes), text);
        }
    }
}
