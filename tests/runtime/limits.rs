//! Control groups.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::json;

use crate::bundle::{Bundle, is_cgroup2};

/// Reads a file of a running container's own group.
fn read(controller: &str, file: &str) -> String {
    if is_cgroup2() {
        format!("cat /sys/fs/cgroup/{file};")
    } else {
        format!("cat /sys/fs/cgroup/{controller}/{file};")
    }
}

#[test]
fn limits_are_in_force() {
    let v2 = is_cgroup2();
    let name = |two: &'static str, one: &'static str| if v2 { two } else { one };
    let script = [
        read("memory", name("memory.max", "memory.limit_in_bytes")),
        read("pids", "pids.max"),
        read("cpu", name("cpu.weight", "cpu.shares")),
        read("cpu", name("cpu.max", "cpu.cfs_quota_us")),
        read("cpuset", "cpuset.cpus"),
    ];
    let mut bundle = Bundle::new(&script.concat());
    bundle.set(
        "/linux/resources",
        json!({
            "memory": {"limit": 67_108_864}, "pids": {"limit": 50},
            "cpu": {"shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0", "mems": "0"}
        }),
    );
    let expected =
        if v2 { "67108864\n50\n60\n50000 100000\n0\n" } else { "67108864\n50\n512\n50000\n0\n" };
    let found = bundle.output();
    // The weight of 512 shares is a rounded number.
    assert_eq!(found.lines().count(), 5, "{found}");
    for (at, (found, expected)) in found.lines().zip(expected.lines()).enumerate() {
        assert!(found == expected || (v2 && at == 2), "{found} {expected}");
    }
}

#[test]
fn the_number_of_tasks_is_limited() {
    let mut bundle = Bundle::new("for i in 1 2 3 4 5 6 7 8 9; do sleep 1 & done; wait");
    bundle.set("/linux/resources", json!({"pids": {"limit": 5}}));
    let ran = bundle.run();
    assert!(ran.err.contains("can't fork"), "{ran:?}");
}

#[test]
fn memory_runs_out() {
    let mut bundle = Bundle::new("head -c 60m /dev/zero | tail -c 60m | wc -c");
    bundle.set("/linux/resources", json!({"memory": {"limit": 16_777_216, "swap": 16_777_216}}));
    let ran = bundle.run();
    assert_ne!(ran.out.trim(), "62914560", "{ran:?}");
}

#[test]
fn the_host_sees_the_container_in_its_group() {
    let bundle = Bundle::new("echo ready; sleep 5");
    let mut child = bundle.command().stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let hierarchy = if is_cgroup2() { "" } else { "pids/" };
    let procs = format!("/sys/fs/cgroup/{hierarchy}mydocker/{}/cgroup.procs", bundle.id);
    let pid: i32 = fs::read_to_string(&procs).unwrap().lines().next().unwrap().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(137));
    assert!(!fs::exists(&procs).unwrap());
}

#[test]
fn what_cannot_be_limited_is_an_error() {
    let mut bundle = Bundle::new("true");
    if is_cgroup2() {
        bundle.set("/linux/resources", json!({"unified": {"rdma.max": "x"}}));
        assert!(bundle.refusal().contains("rdma"), "{}", bundle.refusal());
        bundle.set("/linux/resources", json!({"memory": {"limit": 1000, "swappiness": 5}}));
        assert!(bundle.refusal().contains("it needs cgroup version 1"));
    } else {
        bundle.set("/linux/resources", json!({"unified": {"memory.high": "1"}}));
        assert!(bundle.refusal().contains("it needs cgroup version 2"));
        bundle
            .set("/linux/resources", json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]}));
        let refusal = bundle.refusal();
        assert!(refusal.contains("no `hugetlb` cgroup controller"), "{refusal}");
    }
    bundle.set("/linux/resources", json!({}));
    bundle.set("/linux/cgroupsPath", json!("/a/../../b"));
    assert!(bundle.refusal().contains("`linux.cgroupsPath`"));
}

#[test]
fn devices_are_limited_without_a_user_namespace() {
    let mut bundle = Bundle::without_user_namespace(
        "mknod /tmp/kmsg c 1 11 && (cat /tmp/kmsg) 2>&1 | grep -c ermitted; echo x >/dev/null && echo ok",
    );
    let caps = json!(["CAP_MKNOD", "CAP_DAC_OVERRIDE"]);
    for set in ["bounding", "effective", "permitted"] {
        bundle.set(&format!("/process/capabilities/{set}"), caps.clone());
    }
    // On a filesystem that has device nodes, so that the rules alone stand in the way.
    let tmpfs =
        json!({"type": "tmpfs", "source": "tmpfs", "destination": "/tmp", "options": ["nosuid"]});
    bundle.spec["mounts"].as_array_mut().unwrap().push(tmpfs);
    assert_eq!(bundle.output(), "1\nok\n");
}

#[test]
fn a_delegated_group_can_be_divided_and_its_limits_not_changed() {
    if !is_cgroup2() {
        return;
    }
    let mut bundle = Bundle::new(
        "cd /sys/fs/cgroup; mkdir x && echo 1 >x/cgroup.procs && cat /proc/self/cgroup; (echo max >memory.max) 2>/dev/null; \
         echo $?; stat -c %u . cgroup.procs memory.max",
    );
    bundle.set("/linux/resources", json!({"memory": {"limit": 67_108_864}}));
    let mounts = bundle.spec["mounts"].as_array_mut().unwrap();
    let group = mounts.iter_mut().find(|mount| mount["destination"] == "/sys/fs/cgroup").unwrap();
    group["options"] = json!(["nosuid", "noexec", "nodev"]);
    assert_eq!(bundle.output(), "0::/x\n1\n0\n0\n65534\n");
    // A read-only view hands nothing on.
    let mounts = bundle.spec["mounts"].as_array_mut().unwrap();
    let group = mounts.iter_mut().find(|mount| mount["destination"] == "/sys/fs/cgroup").unwrap();
    group["options"] = json!(["ro"]);
    bundle.set("/process/args/2", json!("stat -c %u /sys/fs/cgroup /sys/fs/cgroup/cgroup.procs"));
    assert_eq!(bundle.output(), "65534\n65534\n");
}

#[test]
fn what_only_one_version_has_is_refused_on_the_other() {
    let fields = [
        (json!({"network": {"classID": 5}}), "network"),
        (json!({"network": {"priorities": [{"name": "lo", "priority": 1}]}}), "net_prio"),
        (json!({"rdma": {"mlx5": {"hcaHandles": 1}}}), "rdma"),
        (json!({"blockIO": {"leafWeight": 100}}), "blockIO"),
    ];
    for (resources, name) in fields {
        let mut bundle = Bundle::new("true");
        bundle.set("/linux/resources", resources);
        let ran = bundle.run();
        // This machine's controllers decide; what it cannot do, it says.
        if ran.code != 0 {
            let controller = if is_cgroup2() { ["network", name] } else { ["net_cls", name] };
            let blkio = ran.err.contains("blkio");
            assert!(blkio || controller.iter().any(|part| ran.err.contains(part)), "{ran:?}");
        }
        if is_cgroup2() && name != "rdma" {
            assert!(ran.err.contains("it needs cgroup version 1"), "{ran:?}");
        }
    }
}

#[test]
fn memory_and_processors_in_every_way() {
    let files: &[(&str, &str)] = if is_cgroup2() {
        &[
            ("memory", "memory.max"),
            ("memory", "memory.low"),
            ("memory", "memory.swap.max"),
            ("cpu", "cpu.max"),
            ("cpu", "cpu.max.burst"),
        ]
    } else {
        &[
            ("memory", "memory.limit_in_bytes"),
            ("memory", "memory.soft_limit_in_bytes"),
            ("memory", "memory.swappiness"),
            ("cpu", "cpu.cfs_period_us"),
            ("cpu", "cpu.cfs_burst_us"),
        ]
    };
    let script: String = files.iter().map(|(controller, file)| read(controller, file)).collect();
    let mut bundle = Bundle::new(&script);
    bundle.set(
        "/linux/resources",
        json!({
            "memory": {"limit": 67_108_864, "reservation": 33_554_432, "kernel": 1, "useHierarchy": true,
                "checkBeforeUpdate": true},
            "cpu": {"quota": 40_000, "period": 80_000, "burst": 10_000}
        }),
    );
    if is_cgroup2() {
        bundle.set("/linux/resources/memory/swap", json!(100_663_296));
        let out = bundle.output();
        assert_eq!(out, "67108864\n33554432\n33554432\n40000 80000\n10000\n");
        bundle.set("/linux/resources/cpu/idle", json!(1));
        bundle.set("/process/args/2", json!(read("cpu", "cpu.idle")));
        assert_eq!(bundle.output(), "1\n");
    } else {
        bundle.set("/linux/resources/memory/swappiness", json!(7));
        assert_eq!(bundle.output(), "67108864\n33554432\n7\n80000\n10000\n");
    }
}
