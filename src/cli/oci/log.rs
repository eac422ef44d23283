//! Where messages go: to standard error, and to the file that an engine reads them from.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::OciError;
use crate::cli::{failure, output};

/// How messages are written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub(super) enum Format {
    /// One object a line, with `level`, `msg` and `time`.
    Json,
    /// Lines for people.
    #[default]
    Text,
}

/// Where messages go.
#[derive(Debug)]
pub(super) struct Log {
    file: Option<File>,
    format: Format,
}

impl Log {
    /// Opens the file, if there is one, to add to it.
    pub(super) fn new(path: Option<&Path>, format: Format) -> Result<Self, OciError> {
        let open = |path: &Path| {
            let opened = File::options().append(true).create(true).open(path);
            opened.map_err(OciError::file("open", path))
        };
        Ok(Self { file: path.map(open).transpose()?, format })
    }

    pub(super) fn error(&self, error: &OciError) {
        let message = failure::chain(error);
        self.say("error", &message, &format!("mydocker: {message}\n"));
    }

    pub(super) fn warning(&self, message: &str) {
        self.say("warning", message, &format!("mydocker: warning: {message}\n"));
    }

    fn say(&self, level: &str, message: &str, line: &str) {
        let time = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
        let text = match self.format {
            Format::Json => format!("{}\n", json!({"level": level, "msg": message, "time": time})),
            Format::Text => line.to_owned(),
        };
        match &self.file {
            Some(file) => {
                let mut file: &File = file;
                // If the disk is full, there is still standard error.
                let _ = file.write_all(text.as_bytes());
                output::message(line);
            }
            None => output::message(&text),
        }
    }
}
