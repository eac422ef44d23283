//! What a container has mounted, with the names of `docker container inspect`.

use serde_json::{Map, Value, json};

use crate::container::{MountPoint, MountSource};
use crate::oci::runtime_spec::Spec;

/// `Mounts`.
pub(super) fn mounts(points: &[MountPoint]) -> Vec<Value> {
    points.iter().map(mount).collect()
}

fn mount(point: &MountPoint) -> Value {
    let mut shown = json!({
        "Type": kind(point),
        "Source": source(point),
        "Destination": point.destination,
        "Mode": point.mode,
        "RW": !point.read_only,
        "Propagation": match point.source {
            MountSource::Bind { .. } => point.propagation.name(),
            _ => "",
        },
    });
    if let MountSource::Volume { name, .. } = &point.source {
        shown["Name"] = name.as_str().into();
        shown["Driver"] = "local".into();
    }
    shown
}

fn kind(point: &MountPoint) -> &'static str {
    match point.source {
        MountSource::Bind { .. } => "bind",
        MountSource::Volume { .. } => "volume",
        MountSource::Tmpfs { .. } => "tmpfs",
        MountSource::Image { .. } => "image",
    }
}

/// What is mounted, as the host sees it.
fn source(point: &MountPoint) -> String {
    match &point.source {
        MountSource::Tmpfs { .. } => String::new(),
        MountSource::Bind { path } => path.display().to_string(),
        MountSource::Volume { path, subpath, .. } | MountSource::Image { path, subpath, .. } => {
            let whole = subpath.as_ref().map_or_else(|| path.clone(), |subpath| path.join(subpath));
            whole.display().to_string()
        }
    }
}

/// `Config.Volumes`: where volumes without a name are.
pub(super) fn volumes(points: &[MountPoint]) -> Value {
    let anonymous = points
        .iter()
        .filter(|point| matches!(point.source, MountSource::Volume { anonymous: true, .. }));
    let places: Map<String, Value> =
        anonymous.map(|point| (point.destination.clone(), json!({}))).collect();
    if places.is_empty() { Value::Null } else { Value::Object(places) }
}

/// `HostConfig.Binds`: paths and names, as `-v` takes them.
pub(super) fn binds(points: &[MountPoint]) -> Value {
    let bind = |point: &MountPoint| {
        let from = match &point.source {
            MountSource::Bind { path } => path.display().to_string(),
            MountSource::Volume { name, anonymous: false, .. } => name.clone(),
            _ => return None,
        };
        let mode = match (point.mode.as_str(), point.read_only) {
            ("", true) => ":ro".to_owned(),
            ("", false) => String::new(),
            (mode, _) => format!(":{mode}"),
        };
        Some(format!("{from}:{}{mode}", point.destination))
    };
    let binds: Vec<String> = points.iter().filter_map(bind).collect();
    if binds.is_empty() { Value::Null } else { json!(binds) }
}

/// `HostConfig.Tmpfs`: the options of each file system in memory that came with `--tmpfs`.
pub(super) fn tmpfs(spec: &Spec, points: &[MountPoint]) -> Value {
    const OWN: [&str; 2] = ["/dev", "/dev/shm"];
    let own = |destination: &str| {
        OWN.contains(&destination) || points.iter().any(|point| point.destination == destination)
    };
    let mounts = spec.mounts.iter().filter(|mount| mount.kind.as_deref() == Some("tmpfs"));
    let places: Map<String, Value> = mounts
        .filter(|mount| !own(&mount.destination))
        .map(|mount| (mount.destination.clone(), mount.options.join(",").into()))
        .collect();
    if places.is_empty() { Value::Null } else { Value::Object(places) }
}
