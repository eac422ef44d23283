//! Limits, read where the kernel keeps them: in the container's cgroup, on cgroup v2 as on v1.

use std::fs;
use std::path::Path;

use crate::limited::Limited;
use crate::support::env::TestEnv;
use crate::support::require::Need::{Controller, Root};
use crate::support::wait_for;

fn is_v2(folder: &Path) -> bool {
    folder.join("cgroup.controllers").exists()
}

#[test]
fn memory() {
    require!(Root, Controller("memory"));
    let env = TestEnv::with_busybox();
    let limited = Limited::start(&env, &["-m", "64m"]);
    assert_eq!(limited.value("memory", "memory.max", "memory.limit_in_bytes"), "67108864");
}

#[test]
fn a_program_that_needs_more_memory_is_killed() {
    require!(Root, Controller("memory"));
    let env = TestEnv::with_busybox();
    // tail keeps all of a line that never ends.
    let output = env.run(&["-m", "32m", "busybox", "sh", "-c", "exec tail -n 1 /dev/zero"]);
    output.exits(137);
}

#[test]
fn processors() {
    require!(Root, Controller("cpu"));
    let env = TestEnv::with_busybox();
    let limited = Limited::start(&env, &["--cpus", "0.5"]);
    if is_v2(&limited.cgroup("cpu")) {
        assert_eq!(limited.value("cpu", "cpu.max", ""), "50000 100000");
    } else {
        assert_eq!(limited.value("cpu", "", "cpu.cfs_quota_us"), "50000");
        assert_eq!(limited.value("cpu", "", "cpu.cfs_period_us"), "100000");
    }
}

#[test]
fn processes() {
    require!(Root, Controller("pids"));
    let env = TestEnv::with_busybox();
    let limited = Limited::start(&env, &["--pids-limit", "17"]);
    assert_eq!(limited.value("pids", "pids.max", "pids.max"), "17");
}

#[test]
fn a_fork_bomb_ends_at_the_limit() {
    require!(Root, Controller("pids"));
    let env = TestEnv::with_busybox();
    let script = "n=0; while [ $n -lt 50 ]; do sleep 5 & n=$((n + 1)); done 2>&1; true";
    let output =
        env.mydocker(["run", "--rm", "--pids-limit", "10", "busybox", "sh", "-c", script]).run();
    let text = format!("{}{}", output.stdout, output.stderr);
    assert!(text.contains("can't fork"), "{}", output.report());
}

#[test]
fn processes_are_limited_by_default_and_can_be_without_limit() {
    require!(Root, Controller("pids"));
    let env = TestEnv::with_busybox();
    let mut limited = Limited::start(&env, &[]);
    assert_eq!(limited.value("pids", "pids.max", "pids.max"), "2048");
    limited.stop(&env);
    let limited = Limited::start(&env, &["--pids-limit", "-1"]);
    let folder = limited.cgroup("pids");
    let value = fs::read_to_string(folder.join("pids.max")).unwrap_or_else(|_| "max".to_owned());
    assert_eq!(value.trim_end(), "max");
}

#[test]
fn the_cgroups_go_with_the_container() {
    require!(Root, Controller("memory"), Controller("cpu"), Controller("pids"));
    let env = TestEnv::with_busybox();
    let mut limited = Limited::start(&env, &["-m", "64m", "--cpus", "1", "--pids-limit", "50"]);
    let folders = ["memory", "cpu", "pids"].map(|controller| limited.cgroup(controller));
    assert!(folders.iter().all(|folder| folder.is_dir()), "{folders:?}");
    limited.stop(&env);
    for folder in folders {
        wait_for("the end of a cgroup", || (!folder.exists()).then_some(()));
    }
}

#[test]
fn a_container_sees_its_own_cgroup_as_the_root() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let seen = env.sh("cut -d : -f 3 /proc/self/cgroup | sort -u");
    assert_eq!(seen, "/\n");
}

#[test]
fn limits_that_make_no_sense() {
    require!(Root);
    let env = TestEnv::with_busybox();
    for options in [
        ["-m", "1"],
        ["-m", "many"],
        ["-m", "5x"],
        ["--cpus", "0"],
        ["--cpus", "x"],
        ["--pids-limit", "few"],
    ] {
        let output = env.mydocker(["run", "--rm"]).args(options).args(["busybox", "true"]).run();
        output.exits(125).says(options[0]);
    }
}
