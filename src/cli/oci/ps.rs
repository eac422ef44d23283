//! `ps`: the processes of a container.

use std::path::Path;
use std::process::Command;

use clap::Args;
use serde_json::Value;

use super::{OciError, Outcome};
use crate::cli::output::{self, Format};
use crate::runtime::{Container, States};

#[derive(Args, Debug)]
pub(super) struct PsArgs {
    /// How the list is printed
    #[arg(short, long, value_enum, default_value_t = Format::Table, value_name = "FORMAT")]
    format: Format,
    /// The container's name
    #[arg(value_name = "CONTAINER")]
    id: String,
    /// What ps(1) of this machine is told [default: -ef]
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTION")]
    options: Vec<String>,
}

pub(super) fn run(states: &States, args: &PsArgs) -> Outcome {
    let pids = Container::open(states, &args.id)?.processes()?;
    let pids: Vec<i32> = pids.into_iter().map(nix::unistd::Pid::as_raw).collect();
    if args.format == Format::Json {
        output::json_line(&Value::from(pids));
        return Ok(0);
    }
    let usual = ["-ef".to_owned()];
    let options = if args.options.is_empty() { &usual[..] } else { &args.options };
    let ps = Path::new("ps");
    let listed = Command::new(ps).args(options).output().map_err(OciError::file("run", ps))?;
    if !listed.status.success() {
        let said = String::from_utf8_lossy(&listed.stderr);
        return Err(OciError::Usage(format!("ps: {}", said.trim())));
    }
    let text = String::from_utf8_lossy(&listed.stdout);
    output::data(&select(&text, &pids)?);
    Ok(0)
}

/// The head of a list of processes, and its lines about those with the numbers.
fn select(text: &str, pids: &[i32]) -> Result<String, OciError> {
    let mut lines = text.lines();
    let head = lines.next().unwrap_or_default();
    let column = head.split_whitespace().position(|name| name == "PID");
    let column = column.ok_or_else(|| OciError::Usage("ps: there is no column PID".to_owned()))?;
    let mut selected = format!("{head}\n");
    for line in lines {
        let pid = line.split_whitespace().nth(column).and_then(|pid| pid.parse().ok());
        if pid.is_some_and(|pid: i32| pids.contains(&pid)) {
            selected.push_str(line);
            selected.push('\n');
        }
    }
    Ok(selected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_selected_by_number() {
        let text = "UID   PID CMD\nroot   12 12 13\nroot 13 x\n";
        assert_eq!(select(text, &[13]).unwrap(), "UID   PID CMD\nroot 13 x\n");
        assert!(select("UID CMD\n", &[13]).is_err());
    }
}
