//! A container that shares its caller's mount namespace, and still mounts nothing on the host.

use std::fs;

use serde_json::json;

use crate::bundle::{Bundle, fields};
use crate::commands::Container;

/// A container without a mount namespace; `path` joins the caller's by its name.
fn container(script: &str, path: Option<&str>) -> Container {
    let mut bundle = Bundle::without_user_namespace(script);
    let namespaces = bundle.spec["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "mount");
    namespaces.extend(path.map(|path| json!({ "type": "mount", "path": path })));
    Container { bundle }
}

fn mounts() -> Vec<String> {
    let table = fs::read_to_string("/proc/self/mounts").unwrap();
    // Other tests have mounts of their own.
    table.lines().filter(|line| line.contains("/mydocker-test-")).map(str::to_owned).collect()
}

#[test]
fn it_is_the_hosts_and_shows_nothing_of_it() {
    for path in [None, Some("/proc/self/ns/mnt")] {
        let container = container("while :; do sleep 0.05; done", path);
        let own = |mount: &String| mount.contains(&container.bundle.id);
        container.create(&[]);
        container.ok(&["start"]);
        let state: serde_json::Value = serde_json::from_str(&container.ok(&["state"])).unwrap();
        let pid = state["pid"].as_i64().unwrap();
        let outside = fs::read_link("/proc/self/ns/mnt").unwrap();
        assert_eq!(fs::read_link(format!("/proc/{pid}/ns/mnt")).unwrap(), outside);
        assert!(!mounts().iter().any(own));
        // A further program has the same root, with all that is mounted in it.
        let script = "ls /; readlink /proc/self/ns/mnt; echo x >/dev/null && echo null; cat /proc/kcore; echo 1 >/proc/sys/kernel/pid_max";
        let ran = container.exec(&[], &["sh", "-c", script]);
        let expected = format!("bin\ndev\netc\nproc\nsys\ntmp\n{}\nnull\n", outside.display());
        assert_eq!(ran.out, expected, "{ran:?}");
        assert!(ran.err.contains("Read-only file system"), "{ran:?}");
        container.ok(&["delete", "--force"]);
        assert!(!mounts().iter().any(own));
    }
}

#[test]
fn there_is_no_way_up_from_its_root() {
    // Out of a plain chroot(2), root gets by another one, and then up.
    let script = "mkdir -p /tmp/below && /bin/busybox chroot /tmp/below /x 2>/dev/null; cd /; \
        ls ../../../..; grep CapEff /proc/self/status; ls /proc/self/root/..";
    let container = container(script, None);
    let ran = container.bundle.run();
    let listed: Vec<&str> = ran.out.lines().filter(|line| !line.starts_with("CapEff")).collect();
    let all = ["bin", "dev", "etc", "proc", "sys", "tmp"];
    assert_eq!(listed, [all, all].concat(), "{ran:?}");
    assert!(!fields(&ran.out, &["CapEff"]).is_empty());
}

#[test]
fn a_user_namespace_has_mounts_of_its_own_or_none() {
    let mut bundle = Bundle::new("true");
    let namespaces = bundle.spec["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "mount");
    let why = "mydocker: invalid `linux.namespaces`: a user namespace needs a mount namespace\n";
    assert_eq!(bundle.refusal(), why);
}
