//! Printing: tables, JSON lines, sizes and times in docker's form.

use std::io::Write as _;

use serde_json::Value;

/// Writes data to standard output. A reader that has gone away is no error: it has what it wanted.
pub(super) fn data(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// Writes a message to standard error.
pub(super) fn message(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Tells a person about something that went well enough to go on.
pub(super) fn warning(text: &str) {
    message(&format!("mydocker: warning: {text}\n"));
}

/// How a list is printed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub(super) enum Format {
    /// One JSON object a line.
    Json,
    /// Columns for people.
    #[default]
    Table,
}

/// A list with named columns.
#[derive(Debug)]
pub(super) struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(header: &[&'static str]) -> Self {
        Self { header: header.to_vec(), rows: Vec::new() }
    }

    pub(super) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Prints the table with docker's three blanks between columns.
    pub(super) fn print(&self) {
        let header = self.header.iter().map(|name| (*name).to_owned()).collect();
        let mut widths = vec![0; self.header.len()];
        let lines: Vec<&Vec<String>> = std::iter::once(&header).chain(&self.rows).collect();
        for line in &lines {
            for (width, cell) in widths.iter_mut().zip(line.iter()) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = String::new();
        for line in lines {
            let padded: Vec<String> =
                line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            text.push_str(padded.join("   ").trim_end());
            text.push('\n');
        }
        data(&text);
    }
}

/// Prints lines whose cells are apart by tabs as a table.
pub(super) fn tabs(header: &str, lines: &[String]) {
    let lines = std::iter::once(header).chain(lines.iter().map(String::as_str));
    let rows: Vec<Vec<&str>> = lines.map(|line| line.split('\t').collect()).collect();
    let mut widths: Vec<usize> = Vec::new();
    for row in &rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in &rows {
        let padded: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        data(&format!("{}\n", padded.join("   ").trim_end()));
    }
}

/// Prints one JSON object on a line.
pub(super) fn json_line(value: &Value) {
    data(&format!("{value}\n"));
}

/// Prints a JSON document for people to read too.
pub(super) fn json_document(value: &Value) {
    // The alternate form is indented; it cannot fail, for a `Value` holds nothing that JSON lacks.
    data(&format!("{value:#}\n"));
}

/// A path from a container or an image, without anything that would steer a terminal.
pub(super) fn path(path: &[u8]) -> String {
    let mut shown = String::new();
    for chunk in path.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
        }
        shown.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    shown
}

/// Bytes in docker's form: three digits and a decimal unit.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut amount = bytes as f64;
    let mut unit = 0;
    while amount >= 999.5 && unit + 1 < UNITS.len() {
        amount /= 1000.0;
        unit += 1;
    }
    let decimals = match amount {
        _ if unit == 0 => 0,
        a if a < 9.995 => 2,
        a if a < 99.95 => 1,
        _ => 0,
    };
    let text = format!("{amount:.decimals$}");
    let text =
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{}", UNITS[unit])
}

/// How long ago something was, in docker's words and without the `ago`.
pub(super) fn duration(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (seconds, minutes, hours) {
        (0, ..) => "Less than a second".to_owned(),
        (1, ..) => "1 second".to_owned(),
        (..60, ..) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".to_owned(),
        (_, ..60, _) => format!("{minutes} minutes"),
        (_, _, 1) => "About an hour".to_owned(),
        (_, _, ..48) => format!("{hours} hours"),
        _ if days < 14 => format!("{days} days"),
        _ if days < 60 => format!("{} weeks", days / 7),
        _ if days < 730 => format!("{} months", days / 30),
        _ => format!("{} years", days / 365),
    }
}

/// A time of day in RFC 3339, from seconds since 1970.
pub(super) fn timestamp(seconds: i64) -> String {
    let format = &time::format_description::well_known::Rfc3339;
    let time = time::OffsetDateTime::from_unix_timestamp(seconds);
    time.ok().and_then(|time| time.format(format).ok()).unwrap_or_default()
}

/// Seconds since 1970, from a time of day in RFC 3339.
pub(super) fn parse_timestamp(text: &str) -> Option<i64> {
    let format = &time::format_description::well_known::Rfc3339;
    time::OffsetDateTime::parse(text, format).ok().map(time::OffsetDateTime::unix_timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_docker_shows_them() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (4_261_574, "4.26MB"),
            (77_800_000, "77.8MB"),
            (999_999, "1MB"),
            (1_500_000_000, "1.5GB"),
            (187_654_321, "188MB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn durations_as_docker_shows_them() {
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (120, "2 minutes"),
            (3600, "About an hour"),
            (7200, "2 hours"),
            (172_800, "2 days"),
            (1_209_600, "2 weeks"),
            (5_184_000, "2 months"),
            (63_072_000, "2 years"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }
}
