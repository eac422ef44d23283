//! Attacks that other runtimes have seen, tried on this one.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use serde_json::json;

use crate::bundle::Bundle;

/// How often a race is run.
const STARTS: usize = 120;

#[test]
fn a_volume_that_changes_under_way_leads_nowhere() {
    // CVE-2021-30465: another container with the same volume exchanges a directory for a link while this one is mounted.
    let mut bundle = Bundle::new("ls /v/a/b; cat /v/a/b/f");
    let volume = bundle.directory.join("volume");
    let canary = bundle.directory.join("canary");
    let inner = bundle.directory.join("inner");
    for directory in [&volume, &canary, &inner, &volume.join("a")] {
        fs::create_dir(directory).unwrap();
    }
    fs::write(canary.join("f"), "secret").unwrap();
    fs::write(inner.join("f"), "mine").unwrap();
    symlink(&canary, volume.join("link")).unwrap();
    bundle.bind(&volume, "/v", &[]);
    bundle.bind(&inner, "/v/a/b", &[]);
    let stop = AtomicBool::new(false);
    // Not those of others, which come and go.
    let mounts = || {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        table.lines().filter(|line| line.contains(&bundle.id)).count()
    };
    let before = mounts();
    let mut started = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (one, other) = (volume.join("a"), volume.join("link"));
            while !stop.load(Ordering::Relaxed) {
                renameat2(AT_FDCWD, &one, AT_FDCWD, &other, RenameFlags::RENAME_EXCHANGE).unwrap();
            }
        });
        for _ in 0..STARTS {
            let ran = bundle.run();
            assert!(!ran.out.contains("secret"), "{ran:?}");
            started += usize::from(ran.code == 0);
        }
        stop.store(true, Ordering::Relaxed);
    });
    let names: Vec<_> =
        fs::read_dir(&canary).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["f"], "{started} of {STARTS} started");
    assert_eq!(mounts(), before);
}

#[test]
fn a_dev_of_the_images_masks_nothing_and_unmasks_nothing() {
    // CVE-2025-31133: what looks like /dev/null is a way to a kernel parameter.
    let pattern = Path::new("/proc/sys/kernel/core_pattern");
    let before = fs::read(pattern).unwrap();
    for null in ["/proc/sys/kernel/core_pattern", "/proc/keys", "/etc/passwd"] {
        let mut bundle = Bundle::new(
            "cat /proc/keys /proc/timer_list /proc/kcore | wc -c; echo x >/proc/keys && echo written; ls /sys/firmware | wc -l",
        );
        let dev = bundle.directory.join("dev");
        fs::create_dir(&dev).unwrap();
        symlink(null, dev.join("null")).unwrap();
        bundle.spec["mounts"]
            .as_array_mut()
            .unwrap()
            .retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
        bundle.bind(&dev, "/dev", &[]);
        let ran = bundle.run();
        if ran.code == 0 {
            assert_eq!(ran.out, "0\n0\n", "{null}: {ran:?}");
        }
    }
    assert_eq!(fs::read(pattern).unwrap(), before);
}

#[test]
fn a_terminal_is_ours_whatever_lies_on_its_directory() {
    // CVE-2025-52565: /dev/pts/0 of a volume is a way to somewhere else.
    let mut bundle = Bundle::new("stat -c '%F %t' /dev/console; tty");
    let volume = bundle.directory.join("pts");
    fs::create_dir(&volume).unwrap();
    symlink("/proc/sysrq-trigger", volume.join("0")).unwrap();
    symlink("/proc/sysrq-trigger", volume.join("ptmx")).unwrap();
    bundle.bind(&volume, "/dev/pts", &[]);
    bundle.set("/process/terminal", json!(true));
    let ran = bundle.run();
    assert!(ran.out.starts_with("character special file 88\r\n"), "{ran:?}");
}

#[test]
fn annotations_steer_nothing() {
    // CVE-2026-94603 and its like: an engine copies an image's labels into annotations.
    let script = "cat /proc/self/mountinfo | cut -d' ' -f5-; cat /proc/self/cgroup; grep -E 'Cap|Seccomp:|NoNew' /proc/self/status";
    let mut bundle = Bundle::new(script);
    let clean = bundle.output();
    let names = [
        "run.oci.handler",
        "run.oci.hooks.stderr",
        "run.oci.keep_original_groups",
        "run.oci.mount_context_type",
        "run.oci.pidfd_receiver",
        "run.oci.seccomp.receiver",
        "run.oci.systemd.subgroup",
        "org.criu.config",
        "org.systemd.property.ExecStart",
        "io.podman.annotations.privileged",
        "io.kubernetes.cri-o.Devices",
        "cdi.k8s.io/vendor",
        "mydocker.privileged",
    ];
    let annotations: serde_json::Map<String, serde_json::Value> =
        names.iter().map(|name| ((*name).to_owned(), json!("/dev/kmsg"))).collect();
    bundle.set("/annotations", json!(annotations));
    assert_eq!(bundle.output(), clean);
}

#[test]
fn groups_of_the_host_cannot_be_mounted() {
    // CVE-2022-0492: a hierarchy mounted in a new user namespace has a release agent.
    let bundle = Bundle::new(
        "for type in cgroup cgroup2; do mount -t $type none /tmp 2>/dev/null && echo mounted; done; \
         /bin/busybox unshare -U true 2>/dev/null && echo unshared; umount /sys/fs/cgroup 2>/dev/null && echo removed; \
         for f in /sys/fs/cgroup/*/release_agent /sys/fs/cgroup/release_agent; do (echo x >$f) 2>/dev/null && echo $f; done; \
         mkdir /sys/fs/cgroup/x /sys/fs/cgroup/*/x 2>/dev/null && echo made; true",
    );
    assert_eq!(bundle.output(), "");
}

#[test]
fn no_socket_of_the_runtimes_can_be_seen_from_the_hosts_network() {
    // CVE-2020-15257: an abstract socket is everybody's who shares the network.
    let mut bundle = Bundle::without_user_namespace("grep -c mydocker /proc/net/unix; id -u");
    bundle.spec["linux"]["namespaces"]
        .as_array_mut()
        .unwrap()
        .retain(|namespace| namespace["type"] != "network");
    bundle.set("/linux/sysctl", json!({}));
    let out = bundle.output();
    assert!(out.starts_with("0\n"), "{out}");
}
