//! A container in the form and with the names of `docker container inspect`.

use serde_json::{Value, json};

use super::{inspect_mounts, output};
use crate::container::{self, Containers, Record, Status};
use crate::oci::runtime_spec::Spec;
use crate::oci::runtime_spec::linux::{NamespaceKind, Resources};

/// Docker's time for what has not been.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// The container as one JSON object.
pub(super) fn document(
    containers: &Containers,
    record: &Record,
) -> Result<Value, container::Error> {
    let spec = containers.spec(&record.id)?;
    let folder = containers.folder(&record.id);
    let file = |name: &str| folder.join(name).display().to_string();
    let process = spec.process.clone().unwrap_or_default();
    let log = record.settings.log.map(|_| file(&format!("{}-json.log", record.id)));
    Ok(json!({
        "Id": record.id,
        "Created": output::timestamp(record.created),
        "Path": record.command.first(),
        "Args": record.command.get(1..).unwrap_or_default(),
        "State": state(containers, record),
        "Image": record.image_id.as_ref().map(ToString::to_string).unwrap_or_default(),
        "ResolvConfPath": file("resolv.conf"),
        "HostnamePath": file("hostname"),
        "HostsPath": file("hosts"),
        "LogPath": log.unwrap_or_default(),
        "Name": format!("/{}", record.name),
        "RestartCount": record.restarts,
        "Driver": "overlay",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": process.selinux_label.clone().unwrap_or_default(),
        "AppArmorProfile": process.apparmor_profile.clone().unwrap_or_default(),
        "ExecIDs": null,
        "HostConfig": host_config(record, &spec),
        "GraphDriver": { "Name": "overlay", "Data": {
            "LowerDir": spec.root.as_ref().map(|root| &root.path),
            "UpperDir": file("upper"),
            "WorkDir": file("work"),
        }},
        "Mounts": inspect_mounts::mounts(&record.mounts),
        "Config": {
            "Hostname": spec.hostname,
            "Domainname": spec.domainname.clone().unwrap_or_default(),
            "User": format!("{}:{}", process.user.uid, process.user.gid),
            "Tty": process.terminal,
            "OpenStdin": record.settings.interactive,
            "StdinOnce": record.settings.stdin_once,
            "Env": process.env,
            "Cmd": record.command,
            "Entrypoint": null,
            "Image": record.image,
            "WorkingDir": process.cwd,
            "Labels": record.labels,
            "Healthcheck": record.settings.health,
            "StopSignal": record.settings.stop_signal().to_string(),
            "StopTimeout": record.settings.stop_timeout,
            "Volumes": inspect_mounts::volumes(&record.mounts),
        },
        "NetworkSettings": {
            "Ports": {},
            "Networks": { (network(record, &spec)): { "IPAddress": "", "Gateway": "" } },
        },
    }))
}

fn state(containers: &Containers, record: &Record) -> Value {
    let status = containers.status(record);
    let running = status.running();
    let finished = match &status {
        Status::Exited(finished) | Status::Restarting(finished, _) => Some(*finished),
        _ => None,
    };
    let time = |at: Option<i64>| at.map_or_else(|| NEVER.to_owned(), output::timestamp);
    let mut state = json!({
        "Status": status.name(),
        "Running": running.is_some(),
        "Paused": matches!(status, Status::Paused(_)),
        "Restarting": matches!(status, Status::Restarting(..)),
        "OOMKilled": finished.is_some_and(|finished| finished.oom_killed),
        "Dead": false,
        "Pid": running.map_or(0, |running| running.process.pid),
        "ExitCode": finished.map_or(0, |finished| finished.code),
        "Error": record.error.clone().unwrap_or_default(),
        "StartedAt": time(record.started),
        "FinishedAt": time(finished.map(|finished| finished.at)),
    });
    if let (Some(health), Some(state)) = (containers.health(record), state.as_object_mut()) {
        let known = json!({
            "Status": health.status,
            "FailingStreak": health.failing_streak,
            "Log": health.log,
        });
        state.insert("Health".to_owned(), known);
    }
    state
}

fn host_config(record: &Record, spec: &Spec) -> Value {
    let settings = &record.settings;
    let empty = Resources::default();
    let linux = spec.linux.as_ref();
    let resources = linux.and_then(|linux| linux.resources.as_ref()).unwrap_or(&empty);
    let memory = resources.memory.clone().unwrap_or_default();
    let cpu = resources.cpu.clone().unwrap_or_default();
    let most = match settings.restart {
        container::RestartPolicy::OnFailure(most) => most,
        _ => 0,
    };
    let log = settings.log.map(
        |log| json!({ "max-size": log.max_size.to_string(), "max-file": log.max_file.to_string() }),
    );
    let nano_cpus = cpu.quota.zip(cpu.period).map_or(0, |(quota, period)| {
        quota.saturating_mul(1_000_000_000) / i64::try_from(period).unwrap_or(1).max(1)
    });
    json!({
        "LogConfig": {
            "Type": if settings.log.is_some() { "json-file" } else { "none" },
            "Config": log.unwrap_or_else(|| json!({})),
        },
        "NetworkMode": network(record, spec),
        "RestartPolicy": { "Name": settings.restart.name(), "MaximumRetryCount": most },
        "AutoRemove": settings.remove,
        "ReadonlyRootfs": spec.root.as_ref().is_some_and(|root| root.readonly),
        "CgroupnsMode": mode(record, spec, NamespaceKind::Cgroup),
        "IpcMode": mode(record, spec, NamespaceKind::Ipc),
        "PidMode": mode(record, spec, NamespaceKind::Pid),
        "UTSMode": mode(record, spec, NamespaceKind::Uts),
        "UsernsMode": mode(record, spec, NamespaceKind::User),
        "Memory": memory.limit.unwrap_or(0),
        "MemorySwap": memory.swap.unwrap_or(0),
        "MemoryReservation": memory.reservation.unwrap_or(0),
        "NanoCpus": nano_cpus,
        "CpuShares": cpu.shares.unwrap_or(0),
        "CpusetCpus": cpu.cpus.unwrap_or_default(),
        "CpusetMems": cpu.mems.unwrap_or_default(),
        "PidsLimit": resources.pids.and_then(|pids| pids.limit),
        "Init": settings.init,
        "Privileged": settings.privileged,
        "Binds": inspect_mounts::binds(&record.mounts),
        "Tmpfs": inspect_mounts::tmpfs(spec, &record.mounts),
    })
}

/// What docker calls the network of a container.
pub(super) fn network(record: &Record, spec: &Spec) -> String {
    let mode = mode(record, spec, NamespaceKind::Network);
    if mode == "private" { "none".to_owned() } else { mode }
}

/// Whose namespace of this kind it is in.
fn mode(record: &Record, spec: &Spec, kind: NamespaceKind) -> String {
    if let Some(join) = record.joins.iter().find(|join| join.kind == kind) {
        return format!("container:{}", join.container);
    }
    let own = spec.linux.as_ref().is_some_and(|linux| linux.namespace(kind).is_some());
    if own { "private".to_owned() } else { "host".to_owned() }
}
