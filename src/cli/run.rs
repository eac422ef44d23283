//! `mydocker run`.

use super::container_options::ContainerArgs;
use super::failure::While as _;
use super::{Global, Outcome, output};
use crate::container;

/// Run a command in a new container
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(super) struct Args {
    /// Print the container's id as soon as its program runs, and leave it running
    #[arg(short, long)]
    detach: bool,
    #[command(flatten)]
    container: ContainerArgs,
}

impl Args {
    pub(super) fn needs_seal(&self) -> bool {
        // A monitor sees to itself.
        self.container.needs_seal() && !self.detach
    }
}

pub(super) fn run(global: &Global, args: Args) -> Outcome {
    let Args { detach, container } = args;
    if !detach {
        container.check_terminal("run")?;
    }
    let what = container.what("run")?;
    let store = global.store().doing(&what)?;
    let containers = global.containers().doing(&what)?;
    let options = match container.options(global, &store, &what, !detach)? {
        Ok(options) => options,
        Err(code) => return Ok(code),
    };
    let mut warn = |text: &str| output::warning(&format!("{what}: {text}"));
    if !detach {
        return container::run(&containers, &store, &options, &mut warn).doing(&what);
    }
    let record = container::create(&containers, &store, &options).doing(&what)?;
    match container::start(&containers, &global.root(), &record, false) {
        Ok(started) => {
            started.iter().flat_map(|started| &started.warnings).for_each(|text| warn(text));
            output::data(&format!("{}\n", record.id));
            Ok(0)
        }
        // Somebody else has started it already, and done more with it.
        Err(container::Error::Paused(_)) => {
            output::data(&format!("{}\n", record.id));
            Ok(0)
        }
        Err(error) => {
            // A container that never ran leaves nothing behind; that is worth less than the error itself.
            let _ = container::remove(&containers, &record.id, true, true);
            Err(error).doing(&what)
        }
    }
}
