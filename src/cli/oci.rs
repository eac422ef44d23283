//! `mydocker oci`: the runtime alone, on a bundle that somebody else has made.

use std::error::Error as _;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use crate::container::{self, Signals};
use crate::oci::capability::CapabilitySet;
use crate::oci::runtime_spec::linux::{IdMapping, Linux, NamespaceKind, Pids, Resources};
use crate::oci::runtime_spec::{self, Capabilities, MAX_SPEC, Spec};
use crate::runtime::{self, Bundle, Error, Options, Root, defaults, seccomp};

/// Runs bundles as the OCI runtime specification describes them
#[derive(Args, Debug)]
pub(super) struct OciArgs {
    #[command(subcommand)]
    command: OciCommand,
}

#[derive(Debug, Subcommand)]
enum OciCommand {
    /// Makes a container from a bundle, runs its program, and removes the container
    Run(RunArgs),
    /// Writes a default `config.json`
    Spec(SpecArgs),
}

#[derive(Args, Debug)]
struct RunArgs {
    /// The bundle's directory
    #[arg(short, long, default_value = ".")]
    bundle: PathBuf,
    /// An image's tree to lay the container's own layer over, in place of the spec's root
    #[arg(long, requires = "layer")]
    lower: Option<PathBuf>,
    /// A directory with `upper` and `work` for what the container writes
    #[arg(long, requires = "lower")]
    layer: Option<PathBuf>,
    /// The layer is thrown away with the container, and need not be flushed to disk
    #[arg(long)]
    volatile: bool,
    /// Shows the owners of bind mounts as they are on disk
    #[arg(long)]
    idmap: bool,
    /// The container's name
    id: String,
}

#[derive(Args, Debug)]
struct SpecArgs {
    /// The bundle's directory
    #[arg(short, long, default_value = ".")]
    bundle: PathBuf,
    /// Without a user namespace
    #[arg(long)]
    userns_host: bool,
    /// The program and its arguments
    #[arg(trailing_var_arg = true)]
    args: Vec<String>,
}

/// Why `mydocker oci` failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
enum OciError {
    #[error("{action} `{path}`")]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("parse `{path}`")]
    Parse {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error(transparent)]
    Attach(#[from] container::Error),
    #[error(transparent)]
    Runtime(#[from] Error),
}

/// Does what is asked, and returns the program's exit code.
pub(super) fn main(args: &OciArgs) -> u8 {
    let result = match &args.command {
        OciCommand::Run(args) => run(args),
        OciCommand::Spec(args) => spec(args).map(|()| 0),
    };
    result.unwrap_or_else(|error| {
        let mut message = format!("mydocker: {error}");
        let mut cause = error.source();
        while let Some(source) = cause {
            message.push_str(&format!(": {source}"));
            cause = source.source();
        }
        say(&message);
        match error {
            OciError::Runtime(Error::NotFound { .. }) => 127,
            OciError::Runtime(Error::NotExecutable { .. }) => 126,
            _ => 125,
        }
    })
}

fn say(message: &str) {
    // Nobody is left to tell that standard error is closed.
    let _ = writeln!(std::io::stderr(), "{message}");
}

fn read(directory: &Path) -> Result<Spec, OciError> {
    let path = directory.join("config.json");
    let mut text = Vec::new();
    let read = File::open(&path).and_then(|file| {
        let length = file.metadata()?.len().min(MAX_SPEC);
        text.reserve(usize::try_from(length).unwrap_or_default());
        file.take(MAX_SPEC).read_to_end(&mut text)
    });
    read.map_err(|source| OciError::File { action: "read", path: path.clone(), source })?;
    serde_json::from_slice(&text).map_err(|source| OciError::Parse { path, source })
}

fn run(args: &RunArgs) -> Result<u8, OciError> {
    let directory = std::path::absolute(&args.bundle).map_err(|source| OciError::File {
        action: "find",
        path: args.bundle.clone(),
        source,
    })?;
    let spec = read(&directory)?;
    let root = match (&args.lower, &args.layer) {
        (Some(lower), Some(layer)) => {
            Root::Overlay { lower: lower.clone(), layer: layer.clone(), volatile: args.volatile }
        }
        _ => Root::Directory,
    };
    let bundle = Bundle { id: args.id.clone(), directory, root };
    let options = Options { idmap_binds: args.idmap, ..Options::default() };
    let signals = Signals::new()?;
    let started = runtime::run(&bundle, &spec, options);
    let mut process = match started {
        // The same again, from a copy of this program that the container cannot overwrite.
        Err(Error::Unsealed) => {
            return Err(runtime::seal().err().unwrap_or(Error::Unsealed).into());
        }
        started => started?,
    };
    for warning in process.warnings() {
        say(&format!("mydocker: warning: {warning}"));
    }
    let console = process.take_console();
    let status = container::attach(&mut process, &signals, console, Vec::new(), true)?;
    process.delete()?;
    Ok(status.code())
}

fn spec(args: &SpecArgs) -> Result<(), OciError> {
    let path = args.bundle.join("config.json");
    let file = File::options().write(true).create_new(true).open(&path);
    let write = file.and_then(|mut file| {
        let text = serde_json::to_string_pretty(&default_spec(args))?;
        writeln!(file, "{text}")
    });
    write.map_err(|source| OciError::File { action: "write", path, source })
}

fn default_spec(args: &SpecArgs) -> Spec {
    let capabilities: CapabilitySet = defaults::capabilities();
    let mut namespaces = defaults::namespaces();
    let mapping = IdMapping { container_id: 0, host_id: 100_000, size: 65536 };
    let mut mappings = vec![mapping];
    if args.userns_host {
        namespaces.retain(|namespace| namespace.kind != NamespaceKind::User);
        mappings.clear();
    }
    let words = if args.args.is_empty() { vec!["sh".to_owned()] } else { args.args.clone() };
    Spec {
        oci_version: runtime_spec::VERSION.to_owned(),
        process: Some(runtime_spec::Process {
            args: words,
            env: vec![defaults::PATH.to_owned()],
            cwd: "/".to_owned(),
            rlimits: defaults::rlimits(runtime::probe().nofile),
            capabilities: Some(Capabilities::bounded(capabilities.clone())),
            ..runtime_spec::Process::default()
        }),
        root: Some(runtime_spec::Root { path: "rootfs".to_owned(), readonly: false }),
        hostname: Some("mydocker".to_owned()),
        mounts: defaults::mounts(),
        linux: Some(Linux {
            namespaces,
            uid_mappings: mappings.clone(),
            gid_mappings: mappings,
            resources: Some(Resources {
                devices: defaults::device_rules(),
                pids: Some(Pids { limit: Some(defaults::PIDS_LIMIT) }),
                ..Resources::default()
            }),
            seccomp: Some(seccomp::default_seccomp(&capabilities)),
            masked_paths: defaults::masked_paths(),
            readonly_paths: defaults::readonly_paths(),
            sysctl: defaults::sysctls().into_iter().collect(),
            ..Linux::default()
        }),
        ..Spec::default()
    }
}
