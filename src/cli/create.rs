//! `mydocker create`.

use super::attach_options::CreateAttachArgs;
use super::container_options::ContainerArgs;
use super::failure::While as _;
use super::{Global, Outcome, output};
use crate::container;

/// Make a container without starting it
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true, next_display_order = None)]
pub(super) struct Args {
    #[command(flatten)]
    attach: CreateAttachArgs,
    #[command(flatten)]
    container: ContainerArgs,
}

pub(super) fn run(global: &Global, args: Args) -> Outcome {
    let what = args.container.what("create")?;
    let store = global.store().doing(&what)?;
    let containers = global.containers().doing(&what)?;
    let options = match args.container.options(global, &store, &what, args.attach.has_input())? {
        Ok(options) => options,
        Err(code) => return Ok(code),
    };
    let record = container::create(&containers, &store, &options).doing(&what)?;
    output::data(&format!("{}\n", record.id));
    Ok(0)
}
