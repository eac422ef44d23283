//! From an image's configuration and a user's options to a runtime-spec: a pure function.
//!
//! Rules: image-spec, `conversion.md`, and docker's where it is silent. Only the fields named here are looked at;
//! labels and annotations of an image decide nothing (CVE-2026-94603).

use std::path::Path;

use super::devices::Handed;
use super::files;
use super::namespaces::{self, Ipc, Joins, SHM, Share};
use super::options::{DEFAULT_PIDS_LIMIT, RootSource, RunOptions};
use super::user::User;
use super::{Error, IdRange, volume};
use crate::oci::image_config::ContainerConfig;
use crate::oci::runtime_spec::linux::{
    Cpu, IdMapping, Linux, Memory, NamespaceKind, Pids, Resources,
};
use crate::oci::runtime_spec::{self};
use crate::oci::runtime_spec::{
    Capabilities, ConsoleSize, Mount, Process, Rlimit, Root, Spec, VERSION,
};
use crate::runtime::defaults;

/// The search path of a program whose image does not say one, as with docker.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The group that terminals belong to, on every Linux system.
pub(super) const TTY_GROUP: u32 = 5;
/// The period over which processor time is counted out, in microseconds: the kernel's own default.
const CPU_PERIOD: u64 = 100_000;

/// Where POSIX message queues are mounted (`mq_overview(7)`).
const QUEUES: &str = "/dev/mqueue";

/// Everything that a container's specification follows from.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) options: &'a RunOptions,
    pub(super) id: &'a str,
    /// The container's folder, with its `/etc` files.
    pub(super) folder: &'a Path,
    pub(super) user: &'a User,
    /// The devices that it is handed.
    pub(super) devices: &'a Handed,
    /// The ids on the host that the container's stand for; none without a user namespace of its own.
    pub(super) ids: Option<IdRange>,
    /// The containers that it joins.
    pub(super) joins: &'a Joins,
    /// What the user and the image have had mounted.
    pub(super) mounts: &'a [Mount],
    /// The caller's environment, for `-e NAME`.
    pub(super) caller: &'a dyn CallerEnvironment,
    pub(super) window: Option<ConsoleSize>,
    pub(super) rlimits: Vec<Rlimit>,
    /// The capabilities that this process can hand on, as the kernel's mask.
    pub(super) own_capabilities: u64,
    /// Whether this process is root of the whole machine, and not only of a user namespace.
    pub(super) machine_root: bool,
    /// Whether the group that terminals belong to exists inside, which it does not where there is but one id.
    pub(super) has_tty_group: bool,
}

/// Where `-e NAME` finds a value.
pub(super) trait CallerEnvironment: std::fmt::Debug {
    fn value(&self, name: &str) -> Option<String>;
}

/// The specification of a container.
pub(super) fn build(request: &Request<'_>) -> Result<Spec, Error> {
    let options = request.options;
    let empty = ContainerConfig::default();
    let config = match &options.root {
        RootSource::Image { config, .. } => config,
        RootSource::Folder(_) => &empty,
    };
    let mut capabilities = options.adjust.capabilities(options.security.usual_capabilities())?;
    if !request.has_user_namespace() {
        // Only a new user namespace has what this process has not.
        capabilities.retain(request.own_capabilities);
    }
    let process = Process {
        terminal: options.terminal,
        console_size: request.window,
        user: runtime_spec::User {
            uid: request.user.uid,
            gid: request.user.gid,
            umask: None,
            additional_gids: request.user.additional_gids.clone(),
        },
        args: args(options, config)?,
        env: environment(request, config),
        cwd: cwd(options, config),
        capabilities: Some(Capabilities::bounded(capabilities.clone())),
        rlimits: request.rlimits.clone(),
        ..Process::default()
    };
    let mut spec = Spec {
        oci_version: VERSION.to_owned(),
        process: Some(process),
        root: Some(Root { path: root_path(options), readonly: options.read_only }),
        // What is shared is not set.
        hostname: (options.namespaces.uts == Share::Private)
            .then(|| hostname(options, request.joins, request.id)),
        mounts: mounts(request),
        linux: Some(Linux {
            namespaces: namespaces::list(options, request.joins, request.ids.is_some()),
            uid_mappings: mappings(request.ids),
            gid_mappings: mappings(request.ids),
            cgroups_path: Some(options.tuning.cgroups_path(request.id)),
            devices: request.devices.nodes.clone(),
            resources: Some(resources(request)),
            ..Linux::default()
        }),
        ..Spec::default()
    };
    options.adjust.apply(&mut spec);
    options.security.apply(&mut spec, &capabilities);
    options.tuning.apply(&mut spec, request.folder);
    request.devices.edits.apply(&mut spec);
    let own = request.mounts.iter().map(|mount| mount.destination.clone());
    let tmpfs = options.adjust.tmpfs.iter().map(|tmpfs| tmpfs.destination().to_owned());
    volume::arrange(&mut spec.mounts, &own.chain(tmpfs).collect::<Vec<_>>());
    spec.linux.get_or_insert_default().rootfs_propagation = root_propagation(request);
    Ok(spec)
}

impl Request<'_> {
    fn has_user_namespace(&self) -> bool {
        self.ids.is_some() || self.joins.of(NamespaceKind::User)
    }
}

/// The host name inside.
pub(super) fn hostname(options: &RunOptions, joins: &Joins, id: &str) -> String {
    let given = options.hostname.clone().or_else(|| joins.hostname.clone());
    let shared = || (options.namespaces.uts == Share::Host).then(host_name).flatten();
    given.or_else(shared).unwrap_or_else(|| id.chars().take(12).collect())
}

fn host_name() -> Option<String> {
    nix::unistd::gethostname().ok()?.into_string().ok()
}

fn root_path(options: &RunOptions) -> String {
    match &options.root {
        RootSource::Folder(folder) => folder.display().to_string(),
        RootSource::Image { tree, .. } => tree.display().to_string(),
    }
}

/// Entry point and command. An entry point that the user gives comes without the image's command, as with docker.
fn args(options: &RunOptions, config: &ContainerConfig) -> Result<Vec<String>, Error> {
    let (mut args, image_command) = match options.entrypoint.as_deref() {
        None => (config.entrypoint.clone(), true),
        Some("") => (Vec::new(), false),
        Some(program) => (vec![program.to_owned()], false),
    };
    if !options.command.is_empty() {
        args.extend(options.command.iter().cloned());
    } else if image_command {
        args.extend(config.cmd.iter().cloned());
    }
    if args.is_empty() { Err(Error::NoCommand) } else { Ok(args) }
}

/// The program's whole environment: nothing of the caller's that was not asked for by name.
///
/// An entry of the image without a `=` is dropped: as an option it would ask for the caller's value (CVE-2026-57231).
fn environment(request: &Request<'_>, config: &ContainerConfig) -> Vec<String> {
    let options = request.options;
    let mut env: Vec<(String, String)> = Vec::new();
    for (name, value) in &options.tuning.env {
        set(&mut env, name, value);
    }
    set(&mut env, "PATH", DEFAULT_PATH);
    set(&mut env, "HOSTNAME", &hostname(options, request.joins, request.id));
    if options.terminal {
        set(&mut env, "TERM", "xterm");
    }
    set(&mut env, "HOME", &request.user.home);
    for (name, value) in config.env.iter().filter_map(|entry| entry.split_once('=')) {
        if !name.is_empty() {
            set(&mut env, name, value);
        }
    }
    env.retain(|(name, _)| !options.tuning.unsets(name));
    for entry in &options.env {
        match entry.split_once('=') {
            Some((name, value)) => set(&mut env, name, value),
            None => {
                if let Some(value) = request.caller.value(entry) {
                    set(&mut env, entry, &value);
                }
            }
        }
    }
    env.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

fn set(env: &mut Vec<(String, String)>, name: &str, value: &str) {
    match env.iter_mut().find(|(known, _)| known == name) {
        Some(entry) => value.clone_into(&mut entry.1),
        None => env.push((name.to_owned(), value.to_owned())),
    }
}

fn cwd(options: &RunOptions, config: &ContainerConfig) -> String {
    let given = options.workdir.as_deref().filter(|folder| !folder.is_empty());
    let wanted = given.unwrap_or(&config.working_dir);
    if wanted.starts_with('/') { wanted.to_owned() } else { format!("/{wanted}") }
}

fn mappings(ids: Option<IdRange>) -> Vec<IdMapping> {
    let mapping = |ids: IdRange| IdMapping { container_id: 0, host_id: ids.first, size: ids.size };
    ids.into_iter().map(mapping).collect()
}

fn mounts(request: &Request<'_>) -> Vec<Mount> {
    let mut mounts = defaults::mounts();
    share_memory(request, &mut mounts);
    if !request.has_tty_group {
        let gid = format!("gid={TTY_GROUP}");
        mounts.iter_mut().for_each(|mount| mount.options.retain(|option| *option != gid));
    }
    for name in files::NAMES {
        let source = request.folder.join(name).display().to_string();
        let mut options = vec!["bind", "rprivate", "nosuid", "nodev"];
        options.extend(request.options.read_only.then_some("ro"));
        mounts.push(Mount::bind(&source, &format!("/etc/{name}"), &options));
    }
    mounts.extend(request.mounts.iter().cloned());
    mounts
}

/// What is at `/dev/shm` goes with the IPC namespace. Another container's is put there when this one is started.
fn share_memory(request: &Request<'_>, mounts: &mut Vec<Mount>) {
    match request.options.namespaces.ipc {
        Ipc::Private | Ipc::Container(_) => {}
        Ipc::None => mounts.retain(|mount| mount.destination != SHM),
        Ipc::Host => {
            let options = ["rbind", "rprivate", "nosuid", "noexec", "nodev"];
            let shared = mounts.iter_mut().filter(|mount| mount.destination == SHM);
            shared.for_each(|mount| *mount = Mount::bind(SHM, SHM, &options));
            // In a user namespace it can only be shown as the host has mounted it.
            if request.has_user_namespace() && !Path::new(QUEUES).exists() {
                mounts.retain(|mount| mount.destination != QUEUES);
            }
        }
    }
}

/// Mount events only come out of a container whose root they come out of. A user namespace keeps them in.
fn root_propagation(request: &Request<'_>) -> Option<String> {
    let is_shared = |mount: &Mount| {
        mount.options.iter().any(|option| matches!(option.as_str(), "shared" | "rshared"))
    };
    let shared = !request.has_user_namespace() && request.mounts.iter().any(is_shared);
    shared.then(|| "shared".to_owned())
}

/// Limits, and without any user namespace the devices: in one, nodes cannot be made and mounts show none.
///
/// An ordinary user may have no cgroup to be limited by, so only what was asked for is demanded there.
fn resources(request: &Request<'_>) -> Resources {
    let options = request.options;
    let memory = options.memory.and_then(|bytes| i64::try_from(bytes).ok()).map(Memory::limited);
    let cpu = options.cpus.map(quota).map(|(quota, period)| Cpu {
        quota: Some(quota),
        period: Some(period),
        ..Cpu::default()
    });
    let default = request.machine_root.then_some(DEFAULT_PIDS_LIMIT);
    let pids = options.pids_limit.or(default).filter(|limit| *limit > 0);
    let pids = pids.map(|limit| Pids { limit: Some(limit) });
    let devices = if request.machine_root {
        request.devices.rules(!request.has_user_namespace())
    } else {
        Vec::new()
    };
    let mut resources = Resources { memory, cpu, pids, devices, ..Resources::default() };
    request.devices.limit(&mut resources);
    options.tuning.limit(&mut resources);
    resources
}

/// Processor time as the kernel counts it out: so many microseconds in each period, and its length.
#[expect(
    clippy::cast_possible_truncation,
    reason = "far above the number of processors of any machine"
)]
pub(super) fn quota(cpus: f64) -> (i64, u64) {
    ((cpus * 100_000.0).round() as i64, CPU_PERIOD)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::settings::Settings;
    use super::*;
    use crate::oci::digest::{Digest, ImageId};

    #[derive(Debug)]
    struct Caller;

    impl CallerEnvironment for Caller {
        fn value(&self, name: &str) -> Option<String> {
            (name != "UNSET").then(|| format!("host-{name}"))
        }
    }

    fn options(config: ContainerConfig) -> RunOptions {
        RunOptions {
            adjust: super::super::adjust::Adjustments::default(),
            root: RootSource::Image {
                config: Box::new(config),
                id: ImageId::new(Digest::sha256(b"")),
                name: "busybox".to_owned(),
                tree: "/tree".into(),
            },
            command: Vec::new(),
            cidfile: None,
            devices: super::super::devices::Devices::default(),
            entrypoint: None,
            env: Vec::new(),
            hostname: None,
            labels: BTreeMap::default(),
            terminal: false,
            memory: None,
            cpus: None,
            pids_limit: Some(100),
            name: None,
            namespaces: namespaces::Namespaces::default(),
            network: super::super::options::Network::None,
            read_only: false,
            security: super::super::security::Security::default(),
            settings: Settings::default(),
            tuning: super::super::tuning::Tuning::default(),
            user: None,
            user_namespace: super::super::options::UserNamespace::Usual,
            mounts: super::super::volume::MountRequests::default(),
            workdir: None,
        }
    }

    fn spec(options: &RunOptions) -> Result<Spec, Error> {
        let user = User { uid: 0, gid: 0, additional_gids: vec![0], home: "/root".to_owned() };
        build(&Request {
            options,
            id: &"0123456789abcdef".repeat(4),
            folder: Path::new("/c"),
            user: &user,
            devices: &Handed::default(),
            ids: Some(IdRange { first: 1_000_000, size: 65_536 }),
            joins: &Joins::default(),
            mounts: &[],
            caller: &Caller,
            window: None,
            rlimits: Vec::new(),
            own_capabilities: u64::MAX,
            machine_root: true,
            has_tty_group: true,
        })
    }

    fn strings(items: &[&str]) -> Vec<String> {
        items.iter().map(|item| (*item).to_owned()).collect()
    }

    #[test]
    fn entry_point_and_command() {
        let config = ContainerConfig {
            entrypoint: strings(&["/entry", "-x"]),
            cmd: strings(&["default"]),
            ..ContainerConfig::default()
        };
        let args = |entrypoint: Option<&str>, command: &[&str]| {
            let mut options = options(config.clone());
            options.entrypoint = entrypoint.map(str::to_owned);
            options.command = strings(command);
            spec(&options).map(|spec| spec.process.unwrap().args)
        };
        assert_eq!(args(None, &[]).unwrap(), ["/entry", "-x", "default"]);
        assert_eq!(args(None, &["a b", "c\n"]).unwrap(), ["/entry", "-x", "a b", "c\n"]);
        assert_eq!(args(Some("sh"), &[]).unwrap(), ["sh"]);
        assert_eq!(args(Some(""), &["ls"]).unwrap(), ["ls"]);
        assert!(matches!(args(Some(""), &[]), Err(Error::NoCommand)));
    }

    #[test]
    fn the_callers_environment_does_not_leak() {
        let image = ["AWS_KEY", "*", "PATH*", "=x", "", "A=1", "A=2", "HOME=/data"];
        let mut options = options(ContainerConfig {
            env: strings(&image),
            cmd: strings(&["sh"]),
            ..ContainerConfig::default()
        });
        options.env = strings(&["B=x=y", "COPIED", "UNSET"]);
        let env = spec(&options).unwrap().process.unwrap().env;
        let path = format!("PATH={DEFAULT_PATH}");
        let wanted =
            [&path, "HOSTNAME=0123456789ab", "HOME=/data", "A=2", "B=x=y", "COPIED=host-COPIED"];
        assert_eq!(env, wanted);
    }

    #[test]
    fn limits() {
        let mut options =
            options(ContainerConfig { cmd: strings(&["sh"]), ..ContainerConfig::default() });
        options.memory = Some(64 << 20);
        options.cpus = Some(1.5);
        let linux = spec(&options).unwrap().linux.unwrap();
        let resources = linux.resources.unwrap();
        assert_eq!(resources.memory.unwrap().limit, Some(64 << 20));
        assert_eq!(resources.cpu.unwrap().quota, Some(150_000));
        assert_eq!(resources.pids.unwrap().limit, Some(100));
        assert_eq!(linux.uid_mappings[0].host_id, 1_000_000);
    }
}
