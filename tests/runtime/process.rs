//! When, where and as what the program runs.

use serde_json::json;

use crate::bundle::{Bundle, is_cgroup2};

#[test]
fn the_scheduling_policy_is_the_specs() {
    // Fields of /proc/<pid>/stat (proc(5)): the nice value and the policy.
    let mut bundle = Bundle::new(
        "/bin/busybox awk '{print $19, $41}' /proc/self/stat; /bin/busybox ionice -p $$",
    );
    bundle.set("/process/scheduler", json!({"policy": "SCHED_BATCH", "nice": 7}));
    bundle.set("/process/ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": 6}));
    assert_eq!(bundle.output(), "7 3\nbest-effort: prio 6\n");
    bundle.set("/process/scheduler", json!({"policy": "SCHED_OTHER", "nice": -3}));
    bundle.set("/process/ioPriority", json!({"class": "IOPRIO_CLASS_IDLE", "priority": 3}));
    assert_eq!(bundle.output(), "-3 0\nidle\n");
    bundle.set("/process/scheduler", json!({"policy": "SCHED_ISO"}));
    let refusal = bundle.refusal();
    assert!(refusal.contains("set `process.scheduler` of process"), "{refusal}");
    for (pointer, value, field) in [
        (
            "/process/scheduler",
            json!({"policy": "SCHED_OTHER", "nice": 20}),
            "process.scheduler.nice",
        ),
        (
            "/process/ioPriority",
            json!({"class": "IOPRIO_CLASS_RT", "priority": 8}),
            "process.ioPriority.priority",
        ),
        (
            "/linux/memoryPolicy",
            json!({"mode": "MPOL_BIND", "nodes": "x"}),
            "linux.memoryPolicy.nodes",
        ),
        (
            "/linux/personality",
            json!({"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]}),
            "linux.personality.flags",
        ),
    ] {
        let mut bundle = Bundle::new("true");
        bundle.set(pointer, value);
        let refusal = bundle.refusal();
        assert!(refusal.contains(&format!("`{field}")), "{refusal}");
    }
}

#[test]
fn a_real_time_policy_is_set_where_the_group_has_a_budget() {
    let mut bundle = Bundle::new("/bin/busybox awk '{print $18, $40, $41}' /proc/self/stat; true");
    bundle.set(
        "/process/scheduler",
        json!({"policy": "SCHED_RR", "priority": 10, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}),
    );
    // No group of the cpu controller: the process is in the first one, which has all of the budget.
    let ran = bundle.run();
    if is_cgroup2() && ran.code != 0 {
        // A kernel that hands out real-time budgets by group gives a new one of version 2 none.
        assert!(ran.err.contains("scheduler") || ran.err.contains("cgroup"), "{ran:?}");
    } else {
        // The shell's children are ordinary again: that is what the flag is for.
        assert_eq!((ran.code, ran.out.as_str()), (0, "20 0 0\n"), "{ran:?}");
        bundle.set(
            "/process/args",
            json!(["/bin/busybox", "awk", "{print $18, $40, $41}", "/proc/self/stat"]),
        );
        assert_eq!(bundle.output(), "-11 10 2\n");
    }
}

#[test]
fn memory_policy_and_personality_are_the_specs() {
    let mut bundle = Bundle::new(
        "/bin/busybox uname -m; /bin/busybox awk '$2 ~ /bind/ {print $2; exit}' /proc/self/numa_maps",
    );
    bundle.set("/linux/personality", json!({"domain": "LINUX32"}));
    let numa = std::path::Path::new("/proc/self/numa_maps").exists();
    let policy = json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]});
    if numa {
        bundle.set("/linux/memoryPolicy", policy);
    }
    let expected = if cfg!(target_arch = "x86_64") { "i686" } else { "armv8l" };
    let policy = if numa { "bind=static:0\n" } else { "" };
    assert_eq!(bundle.output(), format!("{expected}\n{policy}"));
    if numa {
        bundle.set("/linux/memoryPolicy", json!({"mode": "MPOL_BIND"}));
        let refusal = bundle.run().err;
        assert!(refusal.contains("set the memory policy: invalid argument"), "{refusal}");
    }
}

#[test]
fn labels_of_a_security_module_that_is_off_are_passed_over_with_a_warning() {
    for (pointer, field, module) in [
        ("/process/apparmorProfile", "apparmorProfile", "/sys/module/apparmor/parameters/enabled"),
        ("/process/selinuxLabel", "selinuxLabel", "/sys/fs/selinux/enforce"),
        ("/linux/mountLabel", "mountLabel", "/sys/fs/selinux/enforce"),
    ] {
        let on = std::fs::read_to_string(module).is_ok_and(|on| on.trim() != "N");
        let mut bundle = Bundle::new("cat /proc/self/attr/current");
        // Every AppArmor has this profile.
        bundle.set(pointer, json!("unconfined"));
        if on && field == "apparmorProfile" {
            assert_eq!(bundle.output().trim(), "unconfined");
            bundle.set(pointer, json!("no-such-profile"));
            assert!(bundle.refusal().contains("set the AppArmor profile `no-such-profile`"));
        } else if !on {
            bundle.set("/process/args", json!(["/bin/true"]));
            let ran = bundle.run();
            assert_eq!(ran.code, 0, "{ran:?}");
            assert!(ran.err.contains("is off on this machine: `unconfined` is not"), "{ran:?}");
        }
        // What is empty is not asked for.
        bundle.set(pointer, json!(""));
        bundle.set("/process/args", json!(["/bin/true"]));
        bundle.output();
    }
}

#[test]
fn umask_groups_and_a_program_without_proc() {
    let mut bundle =
        Bundle::new("umask; id -G; touch /tmp/new; stat -c %a /tmp/new; cat /tmp/forwarding");
    bundle
        .set("/process/user", json!({"uid": 5, "gid": 6, "umask": 0o27, "additionalGids": [7, 8]}));
    std::os::unix::fs::chown(bundle.root().join("tmp"), Some(5), Some(6)).unwrap();
    std::fs::write(bundle.root().join("tmp/forwarding"), "kept\n").unwrap();
    bundle.spec["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/proc");
    // Kernel parameters are set by a proc that the container never sees.
    bundle.set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"}));
    bundle.set("/linux/maskedPaths", json!([]));
    bundle.set("/linux/readonlyPaths", json!([]));
    assert_eq!(bundle.output(), "0027\n6 7 8\n640\nkept\n");
}
