//! `mydocker commit`.

use std::os::fd::AsFd as _;

use super::diff::{Opened, open};
use super::failure::{Failure, While as _};
use super::{Global, Outcome, output};
use crate::container::Hold;
use crate::image::{self, CommitOptions, Instruction, Start};
use crate::oci::reference::Reference;

/// Make an image of what a container changed
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Who made it
    #[arg(short, long, value_name = "TEXT")]
    author: Option<String>,
    /// Change the configuration with an instruction as in a Dockerfile: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD,
    /// STOPSIGNAL, USER, VOLUME, WORKDIR
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// A remark for the image's history
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// Hold a running container still meanwhile; -p=false lets it run on
    #[arg(
        short,
        long,
        num_args = 0..=1,
        require_equals = true,
        default_value_t = true,
        default_missing_value = "true",
        action = clap::ArgAction::Set,
        value_name = "BOOL"
    )]
    pause: bool,
    /// Name, id or first digits of an id
    container: String,
    /// What to call the image: [REGISTRY/]REPOSITORY[:TAG]
    image: Option<String>,
}

pub(super) fn run(global: &Global, args: Args) -> Outcome {
    let what = format!("commit {}", args.container);
    let name: Option<Reference> = args.image.map(|name| name.parse()).transpose().doing(&what)?;
    if name.as_ref().is_some_and(|name| name.digest().is_some()) {
        let hint = "a digest follows from the content; give a name and a tag";
        return Err(Failure::new(&what, "an image cannot be given a digest", hint));
    }
    let changes: Vec<Instruction> =
        args.change.iter().map(|change| change.parse()).collect::<Result<_, _>>().doing(&what)?;
    let hold = if args.pause { Hold::Frozen } else { Hold::Running };
    let Opened { store, image, layer, lower } = open(global, &args.container, hold, &what)?;
    let start = layer.started(&image.config.config, lower.as_fd()).doing(&what)?;
    let start = Start { args: start.args, env: start.env, cwd: start.cwd, user: start.user };
    let (author, message) = (args.author, args.message);
    let told = name.as_ref().map(Reference::familiar).unwrap_or_default();
    let options = CommitOptions { name, author, message, changes, start };
    let overlay = super::diff::overlay(&layer, &lower);
    let id = image::commit(&store, &image, &overlay, &options).doing(&what)?;
    let text = id.to_string();
    global.tell_image("create", &text, &told);
    let comment = options.message.as_deref().unwrap_or_default();
    let made = [("comment", comment), ("imageID", &text), ("imageRef", &told)];
    global.tell_container(&args.container, "commit", &made);
    output::data(&format!("{id}\n"));
    Ok(0)
}
