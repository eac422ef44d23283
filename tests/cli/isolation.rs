//! What a container sees of the host, and what it may do.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::support::env::TestEnv;
use crate::support::require::Need::Root;

/// The value of a field of `/proc/self/status`, inside.
fn status(env: &TestEnv, options: &[&str], field: &str) -> String {
    let script = format!("sed -n 's/^{field}:[[:space:]]*//p' /proc/self/status");
    env.sh_with(options, &script).trim_end().to_owned()
}

#[test]
fn every_namespace_is_its_own() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let script = "cd /proc/self/ns; for n in cgroup ipc mnt net pid user uts; do readlink $n; done";
    let inside = env.sh(script);
    for line in inside.lines() {
        let name = line.split(':').next().unwrap();
        let outside = fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert_ne!(line, outside.to_str().unwrap());
    }
    assert_eq!(inside.lines().count(), 7);
}

#[test]
fn the_mount_table_is_clean() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let table = env.sh("cat /proc/self/mountinfo");
    let points: BTreeSet<&str> =
        table.lines().map(|line| line.split(' ').nth(4).unwrap()).collect();
    for wanted in
        ["/", "/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys", "/etc/hosts"]
    {
        assert!(points.contains(wanted), "no {wanted} in\n{table}");
    }
    let known = ["/", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];
    for point in points {
        let system = ["/proc", "/dev", "/sys"]
            .iter()
            .any(|top| point == *top || point.starts_with(&format!("{top}/")));
        assert!(system || known.contains(&point), "{point} in\n{table}");
    }
    for host in ["mydocker-test", "/home", "shared:", "master:"] {
        let leaks = table.lines().filter(|line| !line.contains(" /etc/"));
        assert!(leaks.clone().all(|line| !line.contains(host)), "{host} in\n{table}");
    }
}

#[test]
fn the_old_root_is_gone() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let marker = env.folder().join("marker");
    fs::write(&marker, "").unwrap();
    let escape = format!(
        "ls {0} /proc/1/root{0} /../../..{0} /proc/1/cwd/../../..{0} 2>/dev/null; ls /",
        marker.display()
    );
    assert!(!env.sh(&escape).contains("marker"));
}

#[test]
fn the_devices() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let script = "cd /dev; for d in null zero full random urandom tty; do stat -c '%n %F %t:%T' $d; done; \
                  for l in fd stdin stdout stderr ptmx; do echo $l $(readlink $l); done; ls -d mqueue pts shm";
    let character = |name: &str, number: &str| format!("{name} character special file {number}\n");
    let wanted: String = [
        ("null", "1:3"),
        ("zero", "1:5"),
        ("full", "1:7"),
        ("random", "1:8"),
        ("urandom", "1:9"),
        ("tty", "5:0"),
    ]
    .map(|(name, number)| character(name, number))
    .concat()
        + "fd /proc/self/fd\nstdin /proc/self/fd/0\nstdout /proc/self/fd/1\nstderr /proc/self/fd/2\nptmx pts/ptmx\n"
        + "mqueue\npts\nshm\n";
    assert_eq!(env.sh(script), wanted);
}

#[test]
fn the_devices_work() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let script = "echo x >/dev/null && head -c 4 /dev/zero | od -An -tx1 && head -c 8 /dev/urandom | wc -c && \
                  echo x 2>/dev/null >/dev/full || echo full; echo shared >/dev/shm/f && cat /dev/shm/f; echo out >/dev/stdout";
    assert_eq!(env.sh(script), " 00 00 00 00\n8\nfull\nshared\nout\n");
}

#[test]
fn no_other_device_can_be_opened() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let script = "for d in 'b 8 0' 'b 254 0' 'c 1 1' 'c 10 232'; do mknod /x $d 2>/dev/null && head -c 1 /x && echo opened; \
                  rm -f /x; done; ls /dev | sort | tr '\\n' ' '";
    let output = env.sh(script);
    assert!(!output.contains("opened"), "{output}");
    for device in ["sda", "vda", "mem", "kmsg", "kvm", "loop0"] {
        assert!(!output.split(' ').any(|name| name == device), "{output}");
    }
}

#[test]
fn the_capabilities_are_few() {
    require!(Root);
    let env = TestEnv::with_busybox();
    // CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE SYS_CHROOT SETFCAP.
    let wanted = "00000000800405fb";
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(status(&env, &[], set), wanted, "{set}");
    }
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(status(&env, &[], set), "0000000000000000", "{set}");
    }
}

#[test]
fn an_ordinary_user_has_no_capabilities() {
    require!(Root);
    let env = TestEnv::with_busybox();
    for set in ["CapPrm", "CapEff", "CapInh", "CapAmb"] {
        assert_eq!(status(&env, &["-u", "1000"], set), "0000000000000000", "{set}");
    }
}

#[test]
fn seccomp_filters() {
    require!(Root);
    let env = TestEnv::with_busybox();
    assert_eq!(status(&env, &[], "Seccomp"), "2");
}

#[test]
fn root_inside_is_nobody_outside() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let run = env.mydocker(["run", "--rm", "--name", "mapped", "busybox", "sleep", "1000"]).start();
    let pid = env.wait_until_running("mapped");
    let owner = fs::metadata(format!("/proc/{pid}")).unwrap().uid();
    drop(run);
    assert!(owner >= 65_536, "root inside is {owner} outside");
    assert_eq!(env.sh("id -u"), "0\n");
}

#[test]
fn the_hosts_user_namespace_on_request() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let inside = env.sh_with(&["--userns", "host"], "readlink /proc/self/ns/user");
    assert_eq!(inside.trim_end(), fs::read_link("/proc/self/ns/user").unwrap().to_str().unwrap());
    assert_eq!(status(&env, &["--userns", "host"], "CapEff"), "00000000800405fb");
}

#[test]
fn files_of_the_image_keep_their_owners() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let script = "stat -c '%u:%g %n' / /etc/passwd /bin/busybox; touch /new; chown 33:100 /new; stat -c '%u:%g' /new";
    assert_eq!(env.sh(script), "0:0 /\n0:0 /etc/passwd\n0:0 /bin/busybox\n33:100\n");
}

#[test]
fn masked_and_read_only_paths() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let script = "for f in kcore keys timer_list; do test -e /proc/$f && head -c 1 /proc/$f 2>/dev/null | wc -c; done | sort -u; \
                  for d in acpi scsi; do test -e /proc/$d && ls /proc/$d; done; ls /sys/firmware 2>/dev/null; \
                  echo 1 2>/dev/null >/proc/sys/kernel/core_uses_pid || echo read-only; \
                  echo h 2>/dev/null >/proc/sysrq-trigger || echo no sysrq; \
                  mkdir /sys/fs/cgroup/x 2>/dev/null || echo no cgroup";
    assert_eq!(env.sh(script), "0\nread-only\nno sysrq\nno cgroup\n");
}

#[test]
fn sys_is_read_only() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let options = env.sh("grep ' /sys ' /proc/self/mounts | cut -d ' ' -f 4");
    let options: Vec<&str> = options.trim_end().split(',').collect();
    for wanted in ["ro", "nosuid", "nodev", "noexec"] {
        assert!(options.contains(&wanted), "{options:?}");
    }
}

#[test]
fn mounting_is_forbidden() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let script = "mount -t tmpfs none /mnt 2>/dev/null || mount -t tmpfs none /tmp 2>/dev/null || echo no mount; \
                  umount /etc/hosts 2>/dev/null || echo no umount; \
                  unshare -m true 2>/dev/null || echo no unshare";
    assert_eq!(env.sh(script), "no mount\nno umount\nno unshare\n");
}

#[test]
fn no_network_but_loopback() {
    require!(Root);
    let env = TestEnv::with_busybox();
    assert_eq!(env.sh("ls /sys/class/net"), "lo\n");
    assert_eq!(env.sh("ping -c 1 -W 1 127.0.0.1 >/dev/null 2>&1 || nc -z 127.0.0.1 1; cat /sys/class/net/lo/operstate"), "unknown\n");
}

#[test]
fn the_hosts_network_on_request() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let inside =
        env.sh_with(&["--network", "host"], "readlink /proc/self/ns/net; cat /proc/net/dev");
    assert!(
        inside.contains(fs::read_link("/proc/self/ns/net").unwrap().to_str().unwrap()),
        "{inside}"
    );
    let resolv = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    assert_eq!(env.sh_with(&["--network", "host"], "cat /etc/resolv.conf"), resolv);
}

#[test]
fn a_network_that_there_is_not() {
    require!(Root);
    let env = TestEnv::with_busybox();
    env.run(&["--network", "nosuch", "busybox", "true"]).exits(125).says("nosuch");
}

#[test]
fn the_store_cannot_be_read_by_others() {
    require!(Root);
    let env = TestEnv::with_busybox();
    env.sh("true");
    assert_eq!(fs::metadata(env.root()).unwrap().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(env.root().join("containers")).unwrap().mode() & 0o777, 0o700);
}

#[test]
fn there_is_no_controlling_terminal_to_inject_into() {
    require!(Root);
    let env = TestEnv::with_busybox();
    // A session of its own, so TIOCSTI into the caller's terminal finds none.
    assert_eq!(env.sh("cut -d ' ' -f 6 /proc/1/stat; cut -d ' ' -f 7 /proc/1/stat"), "1\n0\n");
}
