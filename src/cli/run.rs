//! `mydocker run`.

use super::attach_options::AttachArgs;
use super::container_options::ContainerArgs;
use super::failure::{Failure, While as _};
use super::{Global, Outcome, attach, output, start};
use crate::container::{
    self, Attachment, Containers, Error, Record, RunOptions, attach_to, monitor,
};
use crate::store::Store;

/// Run a command in a new container
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true, next_display_order = None)]
pub(super) struct Args {
    #[command(flatten)]
    attach: AttachArgs,
    /// Print the container's id as soon as its program runs, and leave it running
    #[arg(short, long)]
    detach: bool,
    #[command(flatten)]
    container: ContainerArgs,
}

impl Args {
    pub(super) fn needs_seal(&self) -> bool {
        self.container.needs_seal() && !self.has_monitor()
    }

    /// The containers, by name, whose namespaces it joins.
    pub(super) fn joined(&self) -> Vec<String> {
        self.container.joined()
    }

    /// Whether the container may outlive this command. A monitor sees to itself.
    fn has_monitor(&self) -> bool {
        self.detach || self.attach.may_leave() || self.container.takes_keys()
    }
}

pub(super) fn run(global: &Global, args: Args) -> Outcome {
    let has_monitor = args.has_monitor();
    let Args { attach, detach, container } = args;
    let attached_input = !detach && attach.has_input();
    if attached_input {
        container.check_terminal("run")?;
    }
    let what = container.what("run")?;
    attach.check(detach, &what)?;
    let store = global.store().doing(&what)?;
    let containers = global.containers().doing(&what)?;
    let options = match container.options(global, &store, &what, attached_input)? {
        Ok(options) => options,
        Err(code) => return Ok(code),
    };
    if !has_monitor {
        let mut warn = |text: &str| warn(text, &what);
        return container::run(&containers, &store, &options, &mut warn).doing(&what);
    }
    let new = New { global, containers: &containers, what: &what };
    if detach {
        let (record, _) = new.start(&store, &options, false)?;
        output::data(&format!("{}\n", record.id));
        return Ok(0);
    }
    let attachment = attach.attachment(options.settings.interactive, options.terminal);
    new.attach(&store, &options, attachment)
}

fn warn(text: &str, what: &str) {
    output::warning(&format!("{what}: {text}"));
}

/// A container that is about to be made, and to be watched by a monitor.
struct New<'a> {
    global: &'a Global,
    containers: &'a Containers,
    what: &'a str,
}

impl New<'_> {
    /// Makes and starts it; `None` beside its record if somebody else was faster with the latter.
    fn start(
        &self,
        store: &Store,
        options: &RunOptions,
        attach: bool,
    ) -> Result<(Record, Option<monitor::Started>), Failure> {
        let record = container::create(self.containers, store, options).doing(self.what)?;
        match container::start(self.containers, &self.global.root(), &record, attach) {
            Ok(started) => {
                let warnings = started.iter().flat_map(|started| &started.warnings);
                warnings.for_each(|text| warn(text, self.what));
                Ok((record, started))
            }
            // Somebody else has started it already, and done more with it.
            Err(Error::Paused(_)) => Ok((record, None)),
            Err(error) => {
                // A container that never ran leaves nothing behind; that is worth less than the error itself.
                let _ = container::remove(self.containers, &record.id, true, true);
                Err(error).doing(self.what)
            }
        }
    }

    /// The same, and stays with it until it ends or the user leaves it.
    fn attach(&self, store: &Store, options: &RunOptions, attachment: Attachment) -> Outcome {
        let (record, started) = self.start(store, options, true)?;
        if !attachment.shows() {
            // Docker's way to say what is left to be looked at.
            output::data(&format!("{}\n", record.id));
        }
        let (containers, what) = (self.containers, self.what);
        let Some(started) = started else {
            let connection = monitor::connect(containers, &record.id).doing(what)?;
            return attach::stay(containers, &record, &connection, attachment, what);
        };
        let left = attach_to(containers, &record, &started.connection, attachment).doing(what)?;
        start::leave(containers, &record, left, what)
    }
}
