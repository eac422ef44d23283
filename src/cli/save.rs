//! `mydocker save`.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use super::failure::{Failure, While as _};
use super::{Global, Outcome};
use crate::image::{self, ArchiveFormat, Output, Packing};

/// Save images to an archive that docker, podman and others load
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Pack the archive, with gzip unless said otherwise
    #[arg(
        long,
        value_enum,
        value_name = "gzip|zstd",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "gzip"
    )]
    compress: Option<Packer>,
    /// docker-archive, or oci-archive, which keeps manifests and layers byte for byte
    #[arg(long, value_enum, default_value_t)]
    format: Form,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Names, ids or first digits of ids; a repository without a tag means all its tags
    #[arg(required = true)]
    image: Vec<String>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Packer {
    Gzip,
    Zstd,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum Form {
    #[default]
    DockerArchive,
    OciArchive,
}

pub(super) fn run(global: &Global, args: Args) -> Outcome {
    let what = format!("save {}", args.image.join(" "));
    let output = output(args.output, &what)?;
    let store = global.store().doing(&what)?;
    let images = image::choose(&store, &args.image).doing(&what)?;
    let format = match args.format {
        Form::DockerArchive => ArchiveFormat::Docker,
        Form::OciArchive => ArchiveFormat::Oci,
    };
    let packing = match args.compress {
        None => Packing::None,
        Some(Packer::Gzip) => Packing::Gzip,
        Some(Packer::Zstd) => Packing::Zstd,
    };
    image::save(&store, &images, format, packing, &output).doing(&what)?;
    for image in &images {
        global.tell_image(
            "save",
            &image.image.id.to_string(),
            image.image.name().unwrap_or_default(),
        );
    }
    Ok(0)
}

/// Where an archive goes to: a file, or standard output unless that is a terminal.
pub(super) fn output(file: Option<PathBuf>, what: &str) -> Result<Output, Failure> {
    match file {
        Some(path) => Ok(Output::File(path)),
        None if std::io::stdout().is_terminal() => {
            let hint = "give a file with -o, or send standard output to a file or pipe";
            Err(Failure::new(what, "an archive is not written to a terminal", hint))
        }
        None => Ok(Output::Stdout),
    }
}
