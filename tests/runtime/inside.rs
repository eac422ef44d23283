//! What a program finds in a default container.

use std::fs;

use serde_json::json;

use crate::bundle::{Bundle, fields, is_cgroup2};

#[test]
fn every_namespace_is_its_own() {
    let kinds = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"];
    let inside =
        Bundle::new(&format!("for n in {}; do readlink /proc/self/ns/$n; done", kinds.join(" ")));
    let inside = inside.output();
    assert_eq!(inside.lines().count(), kinds.len());
    for (kind, inside) in kinds.iter().zip(inside.lines()) {
        let outside = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert_ne!(outside.to_str().unwrap(), inside, "{kind}");
    }
}

#[test]
fn the_mount_table_is_clean() {
    let mut bundle = Bundle::new("cat /proc/self/mountinfo");
    bundle.set("/linux/maskedPaths", json!(["/proc/keys", "/sys/firmware"]));
    bundle.set("/linux/readonlyPaths", json!(["/proc/sys"]));
    bundle.overlay();
    let table = bundle.output();
    let mut mounts: Vec<String> = table
        .lines()
        .map(|line| {
            let (mount, filesystem) = line.split_once(" - ").unwrap();
            let mount: Vec<&str> = mount.split(' ').collect();
            let kind = filesystem.split(' ').next().unwrap();
            // No tag such as `master:1`: nothing passes between these mounts and the host's.
            assert_eq!(mount.len(), 6, "{line}");
            assert!(!line.contains(bundle.directory.to_str().unwrap()), "{line}");
            format!("{} {kind} {}", mount[4], mount[5].replace(",relatime", ""))
        })
        .filter(|mount| !mount.starts_with("/sys/fs/cgroup/"))
        .collect();
    mounts.sort();
    let cgroup = if is_cgroup2() { "cgroup2" } else { "tmpfs" };
    let cgroup = format!("/sys/fs/cgroup {cgroup} ro,nosuid,nodev,noexec");
    let quiet = "nosuid,nodev,noexec";
    assert_eq!(
        mounts,
        [
            "/ overlay rw,nodev".to_owned(),
            "/dev tmpfs rw,nosuid".to_owned(),
            format!("/dev/mqueue mqueue rw,{quiet}"),
            "/dev/pts devpts rw,nosuid,noexec".to_owned(),
            format!("/dev/shm tmpfs rw,{quiet}"),
            format!("/proc proc rw,{quiet}"),
            format!("/proc/keys tmpfs ro,{quiet}"),
            format!("/proc/sys proc ro,{quiet}"),
            format!("/sys sysfs ro,{quiet}"),
            format!("/sys/firmware tmpfs ro,{quiet}"),
            cgroup,
        ]
    );
}

#[test]
fn every_cgroup_mount_is_read_only() {
    let table = Bundle::new("grep cgroup /proc/self/mountinfo; cat /proc/self/cgroup").output();
    assert!(table.lines().filter(|l| l.contains(" - ")).all(|l| l.contains(" ro,")), "{table}");
    let groups = table.lines().filter(|line| !line.contains(" - "));
    // Its own groups look like the roots of their hierarchies.
    for group in groups {
        assert!(group.ends_with(":/"), "{group}");
    }
}

#[test]
fn privileges_are_those_of_the_spec() {
    let names = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"];
    let mut bundle = Bundle::new("cat /proc/self/status");
    let root = bundle.output();
    let eleven = "00000000800405fb";
    let none = "0000000000000000";
    assert_eq!(
        fields(&root, &names),
        [
            ("CapInh", none),
            ("CapPrm", eleven),
            ("CapEff", eleven),
            ("CapBnd", eleven),
            ("CapAmb", none),
            ("NoNewPrivs", "0"),
            ("Seccomp", "2"),
        ]
    );
    bundle.set("/process/user", json!({"uid": 1000, "gid": 100, "additionalGids": [7]}));
    bundle.set("/process/noNewPrivileges", json!(true));
    let user = bundle.output();
    let names = ["CapPrm", "CapEff", "CapBnd", "NoNewPrivs", "Uid", "Gid", "Groups"];
    assert_eq!(
        fields(&user, &names),
        [
            ("Uid", "1000\t1000\t1000\t1000"),
            ("Gid", "100\t100\t100\t100"),
            ("Groups", "7 100"),
            ("CapPrm", none),
            ("CapEff", none),
            ("CapBnd", eleven),
            ("NoNewPrivs", "1"),
        ]
    );
    bundle.set("/process/capabilities", json!(null));
    bundle.set("/process/user", json!({}));
    let bare = bundle.output();
    assert_eq!(fields(&bare, &["CapEff", "CapBnd"]), [("CapEff", none), ("CapBnd", none)]);
}

#[test]
fn ambient_capabilities_reach_a_user() {
    let mut bundle = Bundle::new("grep Cap /proc/self/status");
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    let one = json!(["CAP_NET_BIND_SERVICE"]);
    for set in ["bounding", "effective", "permitted", "inheritable", "ambient"] {
        bundle.set(&format!("/process/capabilities/{set}"), one.clone());
    }
    let status = bundle.output();
    assert!(status.lines().all(|line| line.ends_with("0000000000000400")), "{status}");
}

#[test]
fn devices_work_and_no_others_can_be_made() {
    let bundle = Bundle::new(
        "cd /dev; for d in full null random tty urandom zero; do stat -c '%n %a %F %t:%T' $d; done
         echo gone >null; head -c 3 zero | wc -c; head -c 3 urandom | wc -c; echo x >full; echo $?
         for l in fd stdin stdout stderr ptmx; do readlink $l; done
         mknod /dev/sda b 8 0; echo $?; mknod /tmp/kmem c 1 2; echo $?",
    );
    for mut bundle in [bundle, Bundle::without_user_namespace("true")] {
        bundle.spec["process"]["args"][2] = Bundle::new(
            "cd /dev; for d in full null random tty urandom zero; do stat -c '%n %a %F %t:%T' $d; done
             echo gone >null; head -c 3 zero | wc -c; head -c 3 urandom | wc -c; (echo x >full) 2>/dev/null; echo $?
             for l in fd stdin stdout stderr ptmx; do readlink $l; done
             mknod /dev/sda b 8 0 2>/dev/null; echo $?; mknod /tmp/kmem c 1 2 2>/dev/null; echo $?",
        )
        .spec["process"]["args"][2]
            .clone();
        let expected = "full 666 character special file 1:7\n\
            null 666 character special file 1:3\n\
            random 666 character special file 1:8\n\
            tty 666 character special file 5:0\n\
            urandom 666 character special file 1:9\n\
            zero 666 character special file 1:5\n\
            3\n3\n1\n/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\n1\n1\n";
        assert_eq!(bundle.output(), expected);
    }
}

#[test]
fn a_device_of_the_spec_is_made() {
    let mut bundle = Bundle::new("stat -c '%n %a %u:%g %t:%T' /dev/net/tun");
    let tun = json!({"path": "/dev/net/tun", "type": "c", "major": 10, "minor": 200, "fileMode": 0o600, "uid": 3, "gid": 4});
    bundle.set("/linux/devices", json!([tun]));
    assert_eq!(bundle.output(), "/dev/net/tun 600 3:4 a:c8\n");
}

#[test]
fn what_is_masked_is_empty_and_what_is_protected_cannot_be_written() {
    let mut bundle = Bundle::new(
        "cat /proc/timer_list /proc/keys | wc -c; ls /sys/firmware | wc -l; ls /proc/acpi 2>/dev/null | wc -l
         for p in /proc/sys/kernel/core_pattern /proc/timer_list /sys/firmware/x; do
           (echo x >$p) 2>&1 | grep -c -e Read-only -e 'ermission denied'; done
         umount /proc/keys 2>&1 | grep -c 'ermitted'",
    );
    assert_eq!(bundle.output(), "0\n0\n0\n1\n1\n1\n1\n");
    bundle.set("/process/capabilities/bounding", json!(["CAP_SYS_ADMIN"]));
    bundle.set("/linux/maskedPaths", json!(["/proc/no/such/thing", "/etc"]));
    bundle.set("/process/args/2", json!("ls /etc | wc -l; touch /etc/x 2>&1 | grep -c Read-only"));
    assert_eq!(bundle.output(), "0\n1\n");
}

#[test]
fn names_sysctls_and_working_directory() {
    let mut bundle = Bundle::new(
        "hostname; cat /proc/sys/kernel/domainname /proc/sys/net/ipv4/ip_unprivileged_port_start; pwd; umask",
    );
    bundle.set("/hostname", json!("box"));
    bundle.set("/domainname", json!("example"));
    bundle.set("/linux/sysctl", json!({"net.ipv4.ip_unprivileged_port_start": "7"}));
    bundle.set("/process/cwd", json!("/srv/new/place"));
    bundle.set("/process/user/umask", json!(0o27));
    assert_eq!(bundle.output(), "box\nexample\n7\n/srv/new/place\n0027\n");
    bundle.set("/linux/sysctl", json!({"kernel.core_pattern": "x"}));
    assert!(
        bundle.refusal().contains("`linux.sysctl `kernel.core_pattern``"),
        "{:?}",
        bundle.refusal()
    );
}

#[test]
fn environment_and_descriptors_are_given_and_not_inherited() {
    let mut bundle = Bundle::new("env; ls /proc/self/fd");
    bundle.set("/process/env", json!(["PATH=/bin", "A=1", "BARE", ""]));
    // 7 and 9 are open in the caller, without being closed on execution.
    let ran = std::process::Command::new("/bin/sh")
        .args(["-c", "exec 7</ 9</etc; exec \"$0\" \"$@\""])
        .arg(crate::bundle::PROGRAM)
        .args(bundle.command().get_args())
        .env("SECRET", "s3cret")
        .env("BARE", "s3cret")
        .output()
        .unwrap();
    let out = String::from_utf8(ran.stdout).unwrap();
    assert!(ran.status.success() && !out.contains("s3cret"), "{out}");
    assert!(out.contains("A=1\n") && out.contains("PATH=/bin\n"), "{out}");
    // The shell has no others open; 3 is the directory that `ls` reads.
    assert!(out.ends_with("0\n1\n2\n3\n"), "{out}");
}

#[test]
fn limits_of_the_process() {
    let mut bundle = Bundle::new("ulimit -Sn; ulimit -Hn; ulimit -c; cat /proc/self/oom_score_adj");
    let limits = json!([
        {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}
    ]);
    bundle.set("/process/rlimits", limits);
    bundle.set("/process/oomScoreAdj", json!(500));
    assert_eq!(bundle.output(), "100\n200\n0\n500\n");
}

#[test]
fn a_read_only_root() {
    let script = "touch /x 2>&1 | grep -c Read-only; touch /dev/shm/x && echo written; mount -o remount,rw / 2>/dev/null || echo refused";
    let mut bundle = Bundle::new(script);
    bundle.set("/root/readonly", json!(true));
    assert_eq!(bundle.output(), "1\nwritten\nrefused\n");
    bundle.overlay();
    assert_eq!(bundle.output(), "1\nwritten\nrefused\n");
    // A tree without the mount points stays as it is: they are made in the layer.
    fs::remove_dir(bundle.root().join("sys")).unwrap();
    assert_eq!(bundle.output(), "1\nwritten\nrefused\n");
    assert!(!bundle.root().join("sys").exists());
}

#[test]
fn a_terminal() {
    let mut bundle = Bundle::new(
        "tty; stty size; stat -c %t /dev/console; echo hello >/dev/console; ls -l /dev/pts/0 | cut -c 1-10; test -e /dev/pts/1 || echo alone",
    );
    bundle.set("/process/terminal", json!(true));
    bundle.set("/process/consoleSize", json!({"height": 33, "width": 99}));
    let expected = "/dev/pts/0\r\n33 99\r\n88\r\nhello\r\ncrw--w----\r\nalone\r\n";
    assert_eq!(bundle.output(), expected);
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    bundle.set("/process/args/2", json!("stat -c %u /dev/pts/0; echo x >/dev/tty; echo $?"));
    assert_eq!(bundle.output(), "1000\r\nx\r\n0\r\n");
}

#[test]
fn a_namespace_can_be_joined() {
    let name = format!("mydocker-test-{}", std::process::id());
    let ip = |arguments: &[&str]| {
        std::process::Command::new("ip").args(arguments).status().unwrap().success()
    };
    assert!(ip(&["netns", "add", &name]));
    let path = format!("/run/netns/{name}");
    let mut bundle = Bundle::new("readlink /proc/self/ns/net");
    let namespaces = bundle.spec["linux"]["namespaces"].as_array_mut().unwrap();
    for namespace in namespaces.iter_mut().filter(|namespace| namespace["type"] == "network") {
        namespace["path"] = json!(path);
    }
    bundle.set("/linux/sysctl", json!({}));
    let ran = bundle.run();
    let inode = std::os::unix::fs::MetadataExt::ino(&fs::metadata(&path).unwrap());
    ip(&["netns", "delete", &name]);
    assert_eq!(ran.out, format!("net:[{inode}]\n"), "{ran:?}");
}
