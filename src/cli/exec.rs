//! `mydocker exec`.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use super::container_options::parse_workdir;
use super::failure::{Failure, While as _};
use super::variable_options::lines;
use super::{Global, Outcome, output};
use crate::container::{self, ExecRequest};

/// Run a further command in a running container
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Leave the command to itself
    #[arg(short, long)]
    detach: bool,
    /// Set an environment variable, or copy the caller's with NAME alone
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Environment variables from a file, one a line
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Pass standard input on
    #[arg(short, long)]
    interactive: bool,
    /// Give it every capability that the container's user namespace has
    #[arg(long)]
    privileged: bool,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// Run it as this user
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Folder to start in
    #[arg(short, long, value_name = "DIR", value_parser = parse_workdir)]
    workdir: Option<String>,
    /// Name, id or first digits of an id
    container: String,
    /// Command and its arguments
    #[arg(
        value_name = "COMMAND",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    command: Vec<String>,
}

pub(super) fn run(global: &Global, args: Args) -> Outcome {
    let what = format!("exec {}", args.container);
    if args.interactive && args.tty && !args.detach && !std::io::stdin().is_terminal() {
        let hint = "leave out -t when standard input is a pipe or file";
        return Err(Failure::new(&what, "the input device is not a TTY", hint));
    }
    let mut env = Vec::new();
    for path in &args.env_file {
        env.extend(lines(path, &what)?);
    }
    env.extend(args.env);
    let request = ExecRequest {
        command: args.command,
        detach: args.detach,
        env,
        interactive: args.interactive,
        privileged: args.privileged,
        terminal: args.tty,
        user: args.user,
        workdir: args.workdir,
    };
    let containers = global.containers().doing(&what)?;
    let record = containers.find(&args.container).doing(&what)?;
    let mut warn = |text: &str| output::warning(&format!("{what}: {text}"));
    container::exec(&containers, &record, &request, &mut warn).doing(&what)
}
