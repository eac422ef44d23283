//! The options of `run` and `create`, and what they mean.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::str::FromStr;

use clap::ArgAction;

use super::Global;
use super::adjust_options::AdjustArgs;
use super::device_options::DeviceArgs;
use super::failure::{Failure, While as _};
use super::health_options::HealthArgs;
use super::image_source::ImageSourceArgs;
use super::mount_options::MountArgs;
use super::namespace_options::NamespaceArgs;
use super::security_options::SecurityArgs;
use super::tuning_options::TuningArgs;
use super::variable_options::VariableArgs;
use crate::container::{
    self, LogOptions, Namespaces, Network, RestartPolicy, RootSource, RunOptions, Settings,
    UserNamespace,
};
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
    #[command(flatten)]
    variables: VariableArgs,
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
    #[command(flatten)]
    source: ImageSourceArgs,
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
    #[arg(short, long, value_name = "DIR", value_parser = parse_workdir)]
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

impl ContainerArgs {
    /// Whether the container has no user namespace that would keep its root from this program's file.
    pub(super) fn needs_seal(&self) -> bool {
        self.user_namespace() == UserNamespace::Host
    }

    /// Whether its user types into a terminal of it, and so may type the keys that leave it.
    pub(super) fn takes_keys(&self) -> bool {
        self.interactive && self.tty
    }

    /// The containers, by name, whose namespaces it joins.
    pub(super) fn joined(&self) -> Vec<String> {
        let mut names = self.namespaces.joined();
        if let Network::Container(name) = &self.network {
            names.push(name.clone());
        }
        if let Some(UserNamespace::Container(name)) = &self.userns {
            names.push(name.clone());
        }
        names
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
        let labels = self.variables.labels(what)?;
        let adjust = self.adjust.adjustments(what)?;
        let namespaces = self.namespaces(what)?;
        let tuning = self.tuning.tuning(what)?;
        let devices = self.devices.devices(what)?;
        let security = self.security.security(what)?;
        let user_namespace = self.user_namespace();
        let mounts = self.mounts.requests(store, what)?;
        let env = self.variables.env(what)?;
        let (root, command) = match &self.rootfs {
            Some(folder) => (RootSource::Folder(folder.clone()), self.words),
            None => {
                let mut words = self.words.into_iter();
                let name = words.next().unwrap_or_default();
                match self.source.root(global, store, &name, what)? {
                    Ok(root) => (root, words.collect()),
                    Err(code) => return Ok(Err(code)),
                }
            }
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
            ..Settings::default()
        })
    }
}

/// A folder inside; an empty one is none, as with docker.
pub(super) fn parse_workdir(text: &str) -> Result<String, String> {
    if text.is_empty() || text.starts_with('/') {
        Ok(text.to_owned())
    } else {
        Err("it must be an absolute path".to_owned())
    }
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
    container::parse_bytes(text).ok_or_else(|| {
        format!("`{text}`: expected a number with b, k, m or g behind it, as in 512m")
    })
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
