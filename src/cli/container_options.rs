//! The options of `run` and `create`, and what they mean.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use clap::ArgAction;

use super::Global;
use super::adjust_options::AdjustArgs;
use super::device_options::DeviceArgs;
use super::failure::{Failure, While as _};
use super::health_options::HealthArgs;
use super::mount_options::MountArgs;
use super::namespace_options::NamespaceArgs;
use super::security_options::SecurityArgs;
use super::tuning_options::TuningArgs;
use crate::container::{
    self, LogOptions, Namespaces, Network, RestartPolicy, RootSource, RunOptions, Settings,
    UserNamespace,
};
use crate::image::{self, Image};
use crate::registry::{self, Client};
use crate::store::Store;

/// A container that is to be made.
#[derive(Debug, clap::Args)]
pub(super) struct ContainerArgs {
    #[command(flatten)]
    adjust: AdjustArgs,
    #[command(flatten)]
    mounts: MountArgs,
    /// Processors that it may use, as in 1.5
    #[arg(long, value_name = "N", value_parser = parse_cpus)]
    cpus: Option<f64>,
    /// Write the container's id to this file, which must not exist
    #[arg(long, value_name = "FILE")]
    cidfile: Option<PathBuf>,
    #[command(flatten)]
    devices: DeviceArgs,
    /// Program to start instead of the image's own; empty for none
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// Set an environment variable, or copy the caller's with NAME alone
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<String>,
    /// Environment variables from a file, one a line
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    #[command(flatten)]
    health: HealthArgs,
    /// Show this help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
    /// Host name inside
    #[arg(short, long, value_name = "NAME")]
    hostname: Option<String>,
    /// Have an init process pass signals on to the program and reap what it orphans
    #[arg(long)]
    init: bool,
    /// Pass standard input on
    #[arg(short, long)]
    interactive: bool,
    /// Remark in its record, for people and filters
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    label: Vec<String>,
    /// Remarks from a file, one a line
    #[arg(long, value_name = "FILE")]
    label_file: Vec<PathBuf>,
    /// How its output is kept: json-file, or none
    #[arg(long, value_name = "json-file|none", default_value = "json-file")]
    log_driver: LogDriver,
    /// Bounds of its log: max-size=10m, max-file=3
    #[arg(long, value_name = "NAME=VALUE")]
    log_opt: Vec<String>,
    /// Memory that it may use, as in 512m or 2g
    #[arg(short, long, value_name = "BYTES", value_parser = parse_bytes)]
    memory: Option<u64>,
    /// Name of the container [default: made up]
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    namespaces: NamespaceArgs,
    /// Network: none, host for the host's own, or that of a container
    #[arg(long, alias = "net", value_name = "none|host|container:NAME", default_value = "none", value_parser = parse::<Network>)]
    network: Network,
    /// Processes that it may have at a time; -1 for any number [default: 2048]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    /// Write the number of its first process to this file
    #[arg(long, value_name = "FILE")]
    pidfile: Option<PathBuf>,
    /// Pull the image for this platform if it is missing
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,
    /// Reach this registry over http if the image is missing
    #[arg(long, value_name = "REGISTRY")]
    plain_http: Vec<String>,
    /// When to pull the image: missing, always, or never
    #[arg(long, value_name = "WHEN", default_value = "missing")]
    pull: Pull,
    /// Pull without showing progress if the image is missing
    #[arg(short, long)]
    quiet: bool,
    /// Let nothing be written to the root filesystem
    #[arg(long)]
    read_only: bool,
    /// Start it again when it has ended: no, on-failure[:N], always, unless-stopped
    #[arg(long, value_name = "POLICY", default_value = "no", value_parser = parse::<RestartPolicy>)]
    restart: RestartPolicy,
    /// Remove the container when it ends
    #[arg(long)]
    rm: bool,
    #[command(flatten)]
    security: SecurityArgs,
    /// Run in this folder instead of an image; what is written stays there
    #[arg(long, value_name = "DIR")]
    rootfs: Option<PathBuf>,
    /// Signal that asks it to end [default: the image's, or SIGTERM]
    #[arg(long, value_name = "SIGNAL", value_parser = parse_signal)]
    stop_signal: Option<i32>,
    /// Seconds that it may take to end then; -1 for any time [default: 10]
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true)]
    stop_timeout: Option<i64>,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    #[command(flatten)]
    tuning: TuningArgs,
    /// Run as this user
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// User namespace: private, host for none, or that of a container [default: private; host with --privileged]
    #[arg(long, value_name = "private|host|container:NAME", value_parser = parse::<UserNamespace>)]
    userns: Option<UserNamespace>,
    /// Folder to start in
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    // One list, for whatever is behind the image belongs to the command, also what looks like an option.
    /// Image, and the command in the place of its own; with --rootfs the command alone
    #[arg(value_names = ["IMAGE", "COMMAND"], num_args = 0.., trailing_var_arg = true)]
    words: Vec<String>,
}

/// How a container's output is kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
enum LogDriver {
    /// Docker's files of JSON lines.
    JsonFile,
    /// Not at all.
    None,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
enum Pull {
    Always,
    Missing,
    Never,
}

impl ContainerArgs {
    /// Whether the container has no user namespace that would keep its root from this program's file.
    pub(super) fn needs_seal(&self) -> bool {
        self.user_namespace() == UserNamespace::Host
    }

    fn namespaces(&self, what: &str) -> Result<Namespaces, Failure> {
        let shared =
            self.namespaces.shares_names() || matches!(self.network, Network::Container(_));
        if shared && self.hostname.is_some() {
            let hint = "the name is that of the namespace's owner: leave out --hostname";
            return Err(Failure::new(
                what,
                "conflicting options: --hostname and --uts or --network",
                hint,
            ));
        }
        self.namespaces.namespaces(what)
    }

    fn user_namespace(&self) -> UserNamespace {
        let usual =
            if self.security.privileged { UserNamespace::Host } else { UserNamespace::Usual };
        self.userns.clone().unwrap_or(usual)
    }

    /// What is being done, for messages: `run busybox`.
    pub(super) fn what(&self, verb: &str) -> Result<String, Failure> {
        match (&self.rootfs, self.words.first()) {
            (Some(folder), _) => Ok(format!("{verb} {}", folder.display())),
            (None, Some(image)) => Ok(format!("{verb} {image}")),
            (None, None) => {
                let hint = format!("give one, as in: mydocker {verb} busybox /bin/sh");
                Err(Failure::new(verb, "no image was named", hint))
            }
        }
    }

    /// Whether standard input can be what `-i -t` needs.
    pub(super) fn check_terminal(&self, verb: &str) -> Result<(), Failure> {
        if self.interactive && self.tty && !std::io::stdin().is_terminal() {
            let hint = "leave out -t when standard input is a pipe or file";
            return Err(Failure::new(verb, "the input device is not a TTY", hint));
        }
        Ok(())
    }

    /// What the container module is to make. An image that is missing is pulled; if that fails, there is an exit code.
    pub(super) fn options(
        self,
        global: &Global,
        store: &Store,
        what: &str,
        stdin_once: bool,
    ) -> Result<Result<RunOptions, u8>, Failure> {
        let settings = self.settings(what, stdin_once)?;
        let labels = self.labels(what)?;
        let adjust = self.adjust.adjustments(what)?;
        let namespaces = self.namespaces(what)?;
        let tuning = self.tuning.tuning(what)?;
        let devices = self.devices.devices(what)?;
        let security = self.security.security(what)?;
        let user_namespace = self.user_namespace();
        let mounts = self.mounts.requests(store, what)?;
        let mut env = Vec::new();
        for path in &self.env_file {
            env.extend(lines(path, what)?);
        }
        env.extend(self.env.iter().cloned());
        let (root, command) = match &self.rootfs {
            Some(folder) => (RootSource::Folder(folder.clone()), self.words),
            None => match self.image_root(global, store, what)? {
                Ok(root) => (root, self.words.into_iter().skip(1).collect()),
                Err(code) => return Ok(Err(code)),
            },
        };
        Ok(Ok(RunOptions {
            adjust,
            root,
            command,
            cidfile: self.cidfile,
            devices,
            entrypoint: self.entrypoint,
            env,
            hostname: self.hostname,
            labels,
            terminal: self.tty,
            memory: self.memory,
            cpus: self.cpus,
            pids_limit: self.pids_limit,
            name: self.name,
            namespaces,
            network: self.network,
            read_only: self.read_only,
            security,
            settings,
            tuning,
            user: self.user,
            user_namespace,
            mounts,
            workdir: self.workdir,
        }))
    }

    fn settings(&self, what: &str, stdin_once: bool) -> Result<Settings, Failure> {
        if self.rm && self.restart != RestartPolicy::No {
            let hint = "a container that is removed cannot be started again: leave one of them out";
            return Err(Failure::new(what, "conflicting options: --restart and --rm", hint));
        }
        let mut log = LogOptions::default();
        for option in &self.log_opt {
            log.set(option).doing(what)?;
        }
        let absolute = |path: &PathBuf| {
            let hint = "is the working directory still there?";
            let cause = |error| format!("find `{}`: {error}", path.display());
            std::path::absolute(path).map_err(|error| Failure::new(what, cause(error), hint))
        };
        Ok(Settings {
            restart: self.restart,
            log: (self.log_driver == LogDriver::JsonFile).then_some(log),
            stop_signal: self.stop_signal,
            stop_timeout: self.stop_timeout,
            init: self.init,
            privileged: self.security.privileged,
            remove: self.rm,
            interactive: self.interactive,
            stdin_once: self.interactive && stdin_once,
            health: self.health.check(what)?,
            pid_file: self.pidfile.as_ref().map(absolute).transpose()?,
        })
    }

    fn labels(&self, what: &str) -> Result<BTreeMap<String, String>, Failure> {
        let mut labels = BTreeMap::new();
        for path in &self.label_file {
            for line in lines(path, what)? {
                let (name, value) = line.split_once('=').unwrap_or((&line, ""));
                labels.insert(name.to_owned(), value.to_owned());
            }
        }
        for label in &self.label {
            let (name, value) = label.split_once('=').unwrap_or((label, ""));
            labels.insert(name.to_owned(), value.to_owned());
        }
        Ok(labels)
    }

    fn image_root(
        &self,
        global: &Global,
        store: &Store,
        what: &str,
    ) -> Result<Result<RootSource, u8>, Failure> {
        let name = self.words.first().cloned().unwrap_or_default();
        let mut found = match self.pull {
            Pull::Always => None,
            Pull::Missing | Pull::Never => find(store, &name).doing(what)?,
        };
        if found.is_none() && self.pull != Pull::Never {
            let pulled = pull(global, &name, &self.platform, &self.plain_http, self.quiet)?;
            if let Some(code) = pulled {
                return Ok(Err(code));
            }
            found = find(store, &name).doing(what)?;
        }
        let missing = || image::Error::NoSuchImage(name.clone());
        let image = found.ok_or_else(missing).doing(what)?;
        let tree = image.tree(store).doing(what)?;
        Ok(Ok(RootSource::Image {
            name: image.name().unwrap_or(&name).to_owned(),
            config: Box::new(image.config.config),
            id: image.id,
            tree,
        }))
    }
}

/// The lines of a file of the user's that say something: not empty, and no comment.
pub(super) fn lines(path: &Path, what: &str) -> Result<Vec<String>, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let cause = format!("read `{}`: {error}", path.display());
        Failure::new(what, cause, "it must be a file of text, with NAME=VALUE on each line")
    })?;
    let lines = text.lines().map(str::trim_start);
    Ok(lines.filter(|l| !l.is_empty() && !l.starts_with('#')).map(str::to_owned).collect())
}

/// The image that `name` stands for, if it is here; a short name may stand for one in another registry.
pub(super) fn find(store: &Store, name: &str) -> Result<Option<Image>, image::Error> {
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

pub(super) fn parse_cpus(text: &str) -> Result<f64, String> {
    let cpus: f64 = text.parse().map_err(|_| "expected a number, as in 1.5".to_owned())?;
    if cpus.is_finite() && cpus >= 0.01 {
        return Ok(cpus);
    }
    Err("expected at least 0.01".to_owned())
}

/// Memory with docker's units.
pub(super) fn parse_bytes(text: &str) -> Result<u64, String> {
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

/// A signal by name or number.
pub(super) fn parse_signal(text: &str) -> Result<i32, String> {
    container::parse_signal(text).map_err(|error| super::failure::chain(&error))
}

pub(super) fn parse<T: FromStr<Err = container::Error>>(text: &str) -> Result<T, String> {
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
