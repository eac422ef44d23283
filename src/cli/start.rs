//! `mydocker start`.

use super::container_options::parse;
use super::failure::{Failure, While as _};
use super::{Global, Outcome, each, output, stop_options};
use crate::container::{
    self, Attachment, Containers, DetachKeys, Left, Record, attach_to, monitor,
};

/// Start containers
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// All containers that do not run, the oldest first
    #[arg(long, conflicts_with_all = ["attach", "container", "interactive"])]
    all: bool,
    /// Show what it writes, pass signals on, and exit as it does
    #[arg(short, long)]
    attach: bool,
    /// Keys that leave it running [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS", value_parser = parse::<DetachKeys>)]
    detach_keys: Option<DetachKeys>,
    /// Pass standard input on, and show what it writes
    #[arg(short, long)]
    interactive: bool,
    /// Pass signals on when attached
    #[arg(long, value_name = "BOOL", default_value = "true", action = clap::ArgAction::Set)]
    sig_proxy: bool,
    /// Names, ids or first digits of ids
    #[arg(required_unless_present = "all")]
    container: Vec<String>,
}

impl Args {
    /// The containers that are named.
    pub(super) fn names(&self) -> &[String] {
        &self.container
    }
}

pub(super) fn run(global: &Global, args: &Args) -> Outcome {
    if !args.attach && !args.interactive {
        let all = if args.all { stop_options::all(global, "start", false)? } else { Vec::new() };
        let names = if args.all { &all } else { &args.container };
        return each(names, |name| start(global, name));
    }
    let [name] = &args.container[..] else {
        let hint = "start them without -a and -i, or one at a time";
        return Err(Failure::new("start", "only one container can be attached to", hint));
    };
    let what = format!("start {name}");
    let containers = global.containers().doing(&what)?;
    let record = containers.find(name).doing(&what)?;
    let attachment = Attachment {
        interactive: args.interactive && record.settings.interactive,
        output: true,
        error: true,
        terminal: containers.has_terminal(&record).doing(&what)?,
        sig_proxy: args.sig_proxy,
        detach_keys: args.detach_keys.clone().unwrap_or_default(),
    };
    let root = global.root();
    let Some(started) = container::start(&containers, &root, &record, true).doing(&what)? else {
        let connection = monitor::connect(&containers, &record.id).doing(&what)?;
        return super::attach::stay(&containers, &record, &connection, attachment, &what);
    };
    started.warnings.iter().for_each(|text| output::warning(&format!("{what}: {text}")));
    let left = attach_to(&containers, &record, &started.connection, attachment).doing(&what)?;
    leave(&containers, &record, left, &what)
}

fn start(global: &Global, name: &str) -> Result<(), Failure> {
    let what = format!("start {name}");
    let containers = global.containers().doing(&what)?;
    let record = containers.find(name).doing(&what)?;
    let started = container::start(&containers, &global.root(), &record, false).doing(&what)?;
    let warnings = started.iter().flat_map(|started| &started.warnings);
    warnings.for_each(|text| output::warning(&format!("{what}: {text}")));
    Ok(())
}

/// The exit code of a command that was attached to a container.
pub(super) fn leave(containers: &Containers, record: &Record, left: Left, what: &str) -> Outcome {
    match left {
        Left::Ended(code, ending) => {
            if let Some(ending) = ending {
                output::warning(&format!("{what}: {ending}"));
            }
            Ok(code)
        }
        Left::Detached => {
            output::message("read escape sequence\n");
            Ok(0)
        }
        Left::InputEnded => Ok(0),
        Left::Lost => container::wait(containers, record).doing(what),
    }
}
