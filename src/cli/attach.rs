//! `mydocker attach`.

use super::container_options::parse;
use super::failure::While as _;
use super::{Global, Outcome, start};
use crate::container::monitor::{self, Connection, Request};
use crate::container::{self, Attachment, Containers, DetachKeys, Record, Status, attach_to};

/// Show what a detached container writes, and pass input and signals on to it
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Keys that leave it running [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS", value_parser = parse::<DetachKeys>)]
    detach_keys: Option<DetachKeys>,
    /// Do not pass standard input on
    #[arg(long)]
    no_stdin: bool,
    /// Pass signals on
    #[arg(long, value_name = "BOOL", default_value = "true", action = clap::ArgAction::Set)]
    sig_proxy: bool,
    /// Name, id or first digits of an id
    container: String,
}

pub(super) fn run(global: &Global, args: &Args) -> Outcome {
    let what = format!("attach {}", args.container);
    let containers = global.containers().doing(&what)?;
    let record = containers.find(&args.container).doing(&what)?;
    match containers.status(&record) {
        Status::Running(_) | Status::Restarting(..) => {}
        Status::Paused(_) => return Err(container::Error::Paused(record.name)).doing(&what),
        _ => return Err(container::Error::NotRunning(record.name)).doing(&what),
    }
    let connection = monitor::connect(&containers, &record.id).doing(&what)?;
    let attachment = Attachment {
        interactive: !args.no_stdin && record.settings.interactive,
        output: true,
        error: true,
        terminal: containers.has_terminal(&record).doing(&what)?,
        sig_proxy: args.sig_proxy,
        detach_keys: args.detach_keys.clone().unwrap_or_default(),
    };
    stay(&containers, &record, &connection, attachment, &what)
}

/// Attaches to a container that runs, and stays until it ends or the user leaves.
pub(super) fn stay(
    containers: &Containers,
    record: &Record,
    connection: &Connection,
    attachment: Attachment,
    what: &str,
) -> Outcome {
    let failed = |errno: nix::errno::Errno| container::Error::Monitor {
        verb: "talk to",
        source: errno.into(),
    };
    connection.send(&Request::Attach).map_err(failed).doing(what)?;
    let left = attach_to(containers, record, connection, attachment).doing(what)?;
    start::leave(containers, record, left, what)
}
