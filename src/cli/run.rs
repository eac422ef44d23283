//! `mydocker run`.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::Command;
use std::str::FromStr;

use clap::ArgAction;

use super::failure::{Failure, While as _};
use super::{Global, Outcome, output};
use crate::container::{self, Network, RootSource, RunOptions, UserNamespace, Volume};
use crate::image::{self, Image};
use crate::registry::{self, Client};
use crate::store::Store;

/// Run a command in a new container
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(super) struct Args {
    /// Processors that it may use, as in 1.5
    #[arg(long, value_name = "N", value_parser = parse_cpus)]
    cpus: Option<f64>,
    /// Program to start instead of the image's own; empty for none
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// Set an environment variable, or copy the caller's with NAME alone
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Show this help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
    /// Host name inside
    #[arg(short, long, value_name = "NAME")]
    hostname: Option<String>,
    /// Pass standard input on
    #[arg(short, long)]
    interactive: bool,
    /// Memory that it may use, as in 512m or 2g
    #[arg(short, long, value_name = "BYTES", value_parser = parse_bytes)]
    memory: Option<u64>,
    /// Name of the container [default: made up]
    #[arg(long)]
    name: Option<String>,
    /// Network: none, or host for the host's own
    #[arg(long, alias = "net", value_name = "none|host", default_value = "none", value_parser = parse::<Network>)]
    network: Network,
    /// Processes that it may have at a time; -1 for any number [default: 2048]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    /// Pull the image for this platform if it is missing
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,
    /// Reach this registry over http if the image is missing
    #[arg(long, value_name = "REGISTRY")]
    plain_http: Vec<String>,
    /// Pull without showing progress if the image is missing
    #[arg(short, long)]
    quiet: bool,
    /// Let nothing be written to the root filesystem
    #[arg(long)]
    read_only: bool,
    /// Remove the container when it ends
    #[arg(long)]
    rm: bool,
    /// Run in this folder instead of an image; what is written stays there
    #[arg(long, value_name = "DIR")]
    rootfs: Option<PathBuf>,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// Run as this user
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// User namespace: private, or host for none
    #[arg(long, value_name = "private|host", default_value = "private", value_parser = parse::<UserNamespace>)]
    userns: UserNamespace,
    /// Show a folder or file of the host inside
    #[arg(short, long, value_name = "SRC:DST[:ro]", value_parser = parse::<Volume>)]
    volume: Vec<Volume>,
    /// Folder to start in
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Image to run; with --rootfs the first word of the command
    #[arg(value_name = "IMAGE")]
    image: Option<String>,
    /// Command and its arguments [default: the image's own]
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

impl Args {
    /// Whether the container has no user namespace that would keep its root from this program's file.
    pub(super) fn needs_seal(&self) -> bool {
        self.userns == UserNamespace::Host
    }
}

pub(super) fn run(global: &Global, args: Args) -> Outcome {
    if args.interactive && args.tty && !std::io::stdin().is_terminal() {
        let hint = "leave out -t when standard input is a pipe or file";
        return Err(Failure::new("run", "the input device is not a TTY", hint));
    }
    let (what, root, mut command) = match (&args.rootfs, &args.image) {
        (Some(folder), first) => {
            let what = format!("run {}", folder.display());
            (what, None, first.iter().cloned().collect())
        }
        (None, Some(image)) => (format!("run {image}"), Some(image.clone()), Vec::new()),
        (None, None) => {
            let hint = "give one, as in: mydocker run busybox /bin/sh";
            return Err(Failure::new("run", "no image was named", hint));
        }
    };
    command.extend(args.command.iter().cloned());
    let store = global.store().doing(&what)?;
    let containers = global.containers().doing(&what)?;
    let root = match (root, args.rootfs) {
        (Some(name), _) => {
            let mut found = find(&store, &name).doing(&what)?;
            if found.is_none() {
                if let Some(code) =
                    pull(global, &name, &args.platform, &args.plain_http, args.quiet)?
                {
                    return Ok(code);
                }
                found = find(&store, &name).doing(&what)?;
            }
            let missing = || image::Error::NoSuchImage(name.clone());
            let image = found.ok_or_else(missing).doing(&what)?;
            let tree = image.tree(&store).doing(&what)?;
            RootSource::Image {
                name: image.name().unwrap_or(&name).to_owned(),
                config: Box::new(image.config.config),
                id: image.id,
                tree,
            }
        }
        (None, folder) => RootSource::Folder(folder.unwrap_or_default()),
    };
    let options = RunOptions {
        root,
        command,
        entrypoint: args.entrypoint,
        env: args.env,
        hostname: args.hostname,
        interactive: args.interactive,
        terminal: args.tty,
        memory: args.memory,
        cpus: args.cpus,
        pids_limit: args.pids_limit,
        name: args.name,
        network: args.network,
        read_only: args.read_only,
        remove: args.rm,
        user: args.user,
        user_namespace: args.userns,
        volumes: args.volume,
        workdir: args.workdir,
    };
    let mut warn = |text: &str| output::warning(&format!("{what}: {text}"));
    container::run(&containers, &store, &options, &mut warn).doing(&what)
}

/// The image that `name` stands for, if it is here; a short name may stand for one in another registry.
fn find(store: &Store, name: &str) -> Result<Option<Image>, image::Error> {
    match image::find(store, name) {
        Err(image::Error::NoSuchImage(_)) => {}
        found => return found.map(Some),
    }
    let candidates = Client::new(registry::Options::default())?.candidates(name)?;
    for candidate in candidates {
        match image::find(store, &candidate.familiar()) {
            Err(image::Error::NoSuchImage(_)) => {}
            found => return found.map(Some),
        }
    }
    Ok(None)
}

/// Pulls a missing image, and says the exit code if that failed.
///
/// Another process does it, since the one that makes a container must have no second thread: a child made by
/// `clone3(2)` has only the thread that made it, and would wait for ever on a lock that another one held.
fn pull(
    global: &Global,
    name: &str,
    platform: &Option<String>,
    plain_http: &[String],
    quiet: bool,
) -> Result<Option<u8>, Failure> {
    let mut command = Command::new("/proc/self/exe");
    command.arg("--root").arg(global.root());
    command.args(global.debug.then_some("--debug")).args(global.no_sync.then_some("--no-sync"));
    command.arg("pull").args(quiet.then_some("--quiet"));
    command.args(platform.iter().flat_map(|platform| ["--platform", platform]));
    command.args(plain_http.iter().flat_map(|registry| ["--plain-http", registry]));
    command.arg("--").arg(name).stdin(std::process::Stdio::null());
    // Standard output belongs to the program in the container.
    command.stdout(std::process::Stdio::null());
    let status = command.status().map_err(|error| {
        let hint = "is /proc mounted?";
        Failure::new("run", format!("start `/proc/self/exe`: {error}"), hint)
    })?;
    // The pull has told the user what is wrong.
    Ok(match status.code() {
        Some(0) => None,
        code => Some(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(125)),
    })
}

fn parse_cpus(text: &str) -> Result<f64, String> {
    let cpus: f64 = text.parse().map_err(|_| "expected a number, as in 1.5".to_owned())?;
    if cpus.is_finite() && cpus >= 0.01 {
        return Ok(cpus);
    }
    Err("expected at least 0.01".to_owned())
}

/// Memory with docker's units.
fn parse_bytes(text: &str) -> Result<u64, String> {
    let bytes = parse_size(text)?;
    if bytes < container::MIN_MEMORY {
        return Err("expected at least 6m, docker's minimum".to_owned());
    }
    Ok(bytes)
}

/// Bytes with docker's units, which are powers of 1024.
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}`: expected a number with b, k, m or g behind it, as in 512m");
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &lower[digits.len()..] {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1_u64 << 40,
        _ => return Err(wrong()),
    };
    let amount: u64 = digits.parse().map_err(|_| wrong())?;
    amount.checked_mul(factor).ok_or_else(wrong)
}

fn parse<T: FromStr<Err = container::Error>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: container::Error| super::failure::chain(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_with_units() {
        assert_eq!(parse_bytes("512m"), Ok(512 << 20));
        assert_eq!(parse_bytes("2G"), Ok(2 << 30));
        assert_eq!(parse_bytes("8388608"), Ok(8_388_608));
        for bad in ["", "m", "1", "1x", "-1m", "1.5g", "99999999999g", "ä"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }
}
