//! The options of `run` and `create` about what is named and has a value: environment variables and labels.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::failure::Failure;

/// The variables that name proxies, as programs know them: podman's list.
const PROXIES: [&str; 8] = [
    "http_proxy",
    "https_proxy",
    "ftp_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "FTP_PROXY",
    "NO_PROXY",
];

/// Environment variables and labels.
#[derive(Debug, clap::Args)]
pub(super) struct VariableArgs {
    /// Set an environment variable, or copy the caller's with NAME alone
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Environment variables from a file, one a line
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Set the variables that name the caller's proxies, such as https_proxy
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", action = clap::ArgAction::Set)]
    http_proxy: bool,
    /// Remark in its record, for people and filters
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    label: Vec<String>,
    /// Remarks from a file, one a line
    #[arg(long, value_name = "FILE")]
    label_file: Vec<PathBuf>,
}

impl VariableArgs {
    /// `NAME=value`, or `NAME` to copy the caller's, the last one of a name winning.
    pub(super) fn env(&self, what: &str) -> Result<Vec<String>, Failure> {
        let mut env = Vec::new();
        if self.http_proxy {
            env.extend(PROXIES.map(str::to_owned));
        }
        for path in &self.env_file {
            env.extend(lines(path, what)?);
        }
        env.extend(self.env.iter().cloned());
        Ok(env)
    }

    /// What its record calls it by, the options winning over the files.
    pub(super) fn labels(&self, what: &str) -> Result<BTreeMap<String, String>, Failure> {
        let mut labels = BTreeMap::new();
        for path in &self.label_file {
            for line in lines(path, what)? {
                let (name, value) = line.split_once('=').unwrap_or((&line, ""));
                labels.insert(name.to_owned(), value.to_owned());
            }
        }
        for label in &self.label {
            let (name, value) = label.split_once('=').unwrap_or((label, ""));
            labels.insert(name.to_owned(), value.to_owned());
        }
        Ok(labels)
    }
}

/// The lines of a file of the user's that say something: not empty, and no comment.
pub(super) fn lines(path: &Path, what: &str) -> Result<Vec<String>, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let cause = format!("read `{}`: {error}", path.display());
        Failure::new(what, cause, "it must be a file of text, with NAME=VALUE on each line")
    })?;
    let lines = text.lines().map(str::trim_start);
    Ok(lines.filter(|l| !l.is_empty() && !l.starts_with('#')).map(str::to_owned).collect())
}
