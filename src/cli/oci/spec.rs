//! `spec`: a `config.json` to begin with.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

use clap::Args;

use super::OciError;
use crate::oci::capability::CapabilitySet;
use crate::oci::runtime_spec::linux::{IdMapping, Linux, NamespaceKind, Pids, Resources};
use crate::oci::runtime_spec::{self, Capabilities, Spec};
use crate::runtime::{self, defaults, seccomp};

/// Ids of the host that stand for those of a container, where root makes it.
const FIRST_ID: u32 = 100_000;
const IDS: u32 = 65_536;

#[derive(Args, Debug)]
pub(super) struct SpecArgs {
    /// The bundle's directory
    #[arg(short, long, default_value = ".", value_name = "DIR")]
    bundle: PathBuf,
    /// For a container that an ordinary user makes: this user alone is mapped, and nothing is limited
    #[arg(long, conflicts_with = "userns_host")]
    rootless: bool,
    /// Without a user namespace
    #[arg(long)]
    userns_host: bool,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    args: Vec<String>,
}

pub(super) fn run(args: &SpecArgs) -> Result<(), OciError> {
    let path = args.bundle.join("config.json");
    let file = File::options().write(true).create_new(true).open(&path);
    let write = file.and_then(|mut file| {
        let text = serde_json::to_string_pretty(&default_spec(args))?;
        writeln!(file, "{text}")
    });
    write.map_err(OciError::file("write", &path))
}

fn default_spec(args: &SpecArgs) -> Spec {
    let capabilities: CapabilitySet = defaults::capabilities();
    let words = if args.args.is_empty() { vec!["sh".to_owned()] } else { args.args.clone() };
    let mut spec = Spec {
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
        linux: Some(linux(&capabilities)),
        ..Spec::default()
    };
    let Some(linux) = &mut spec.linux else { return spec };
    if args.userns_host {
        linux.namespaces.retain(|namespace| namespace.kind != NamespaceKind::User);
        linux.uid_mappings.clear();
        linux.gid_mappings.clear();
    }
    if args.rootless {
        let own = |host_id| vec![IdMapping { container_id: 0, host_id, size: 1 }];
        linux.uid_mappings = own(nix::unistd::geteuid().as_raw());
        linux.gid_mappings = own(nix::unistd::getegid().as_raw());
        linux.resources = None;
        // A group that is not mapped cannot own anything.
        for mount in &mut spec.mounts {
            mount.options.retain(|option| !option.starts_with("gid="));
        }
    }
    spec
}

fn linux(capabilities: &CapabilitySet) -> Linux {
    let mappings = vec![IdMapping { container_id: 0, host_id: FIRST_ID, size: IDS }];
    Linux {
        namespaces: defaults::namespaces(),
        uid_mappings: mappings.clone(),
        gid_mappings: mappings,
        resources: Some(Resources {
            devices: defaults::device_rules(),
            pids: Some(Pids { limit: Some(defaults::PIDS_LIMIT) }),
            ..Resources::default()
        }),
        seccomp: Some(seccomp::default_seccomp(capabilities)),
        masked_paths: defaults::masked_paths(),
        readonly_paths: defaults::readonly_paths(),
        sysctl: defaults::sysctls().into_iter().collect(),
        ..Linux::default()
    }
}
