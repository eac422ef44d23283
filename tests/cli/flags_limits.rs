//! Limits and surroundings of a container's processes, read where the kernel keeps them.

use std::fs;

use serde_json::Value;

use crate::limited::Limited;
use crate::support::env::TestEnv;
use crate::support::require::Need::{Controller, Root};

fn is_v2(env: &TestEnv) -> bool {
    env.json(&["info"])[0]["CgroupVersion"] == "2"
}

#[test]
fn weights_and_sets_of_processors() {
    require!(Root, Controller("cpu"), Controller("cpuset"));
    let env = TestEnv::with_busybox();
    let options = ["-c", "512", "--cpuset-cpus", "0", "--cpuset-mems", "0"];
    let limited = Limited::start(&env, &options);
    let shares = limited.value("cpu", "cpu.weight", "cpu.shares");
    assert_eq!(shares, if is_v2(&env) { "59" } else { "512" });
    assert_eq!(limited.value("cpuset", "cpuset.cpus", "cpuset.cpus"), "0");
    assert_eq!(limited.value("cpuset", "cpuset.mems", "cpuset.mems"), "0");
    drop(limited);
    env.mydocker(["rm", "-f", "limited"]).run();
    env.run(&["--cpuset-cpus", "4000", "busybox", "true"]).exits(125).says("cpuset.cpus");
}

#[test]
fn processor_time_in_periods() {
    require!(Root, Controller("cpu"));
    let env = TestEnv::with_busybox();
    let limited = Limited::start(&env, &["--cpu-period", "50000", "--cpu-quota", "20000"]);
    if is_v2(&env) {
        assert_eq!(limited.value("cpu", "cpu.max", ""), "20000 50000");
    } else {
        assert_eq!(limited.value("cpu", "", "cpu.cfs_period_us"), "50000");
        assert_eq!(limited.value("cpu", "", "cpu.cfs_quota_us"), "20000");
    }
    env.run(&["--cpus", "1", "--cpu-period", "50000", "busybox", "true"]).exits(125).says("--cpus");
    if is_v2(&env) {
        let output = env.run(&["--cpu-rt-runtime", "1000", "busybox", "true"]);
        output.fails(125, &["realtimeRuntime", "cgroup version 1"]);
    }
}

#[test]
fn memory_beside_its_limit() {
    require!(Root, Controller("memory"));
    let env = TestEnv::with_busybox();
    let options = ["-m", "64m", "--memory-swap", "96m", "--memory-reservation", "32m"];
    let mut limited = Limited::start(&env, &options);
    let reserved = limited.value("memory", "memory.low", "memory.soft_limit_in_bytes");
    assert_eq!(reserved, (32 << 20).to_string());
    let folder = limited.cgroup("memory");
    if folder.join("memory.memsw.limit_in_bytes").exists() {
        let swap = limited.value("memory", "", "memory.memsw.limit_in_bytes");
        assert_eq!(swap, (96 << 20).to_string());
    } else if folder.join("memory.swap.max").exists() {
        assert_eq!(limited.value("memory", "memory.swap.max", ""), (32 << 20).to_string());
    }
    limited.stop(&env);
    let options = ["-m", "64m", "--memory-swappiness", "7", "--oom-kill-disable"];
    if is_v2(&env) {
        let with = |options: &[&str]| env.run(&[options, &["busybox", "true"]].concat());
        with(&options[2..4]).fails(125, &["memory.swappiness", "cgroup version 1"]);
        with(&options[4..]).fails(125, &["disableOOMKiller", "cgroup version 1"]);
    } else {
        let limited = Limited::start(&env, &options);
        assert_eq!(limited.value("memory", "", "memory.swappiness"), "7");
        let control = limited.value("memory", "", "memory.oom_control");
        assert!(control.starts_with("oom_kill_disable 1"), "{control}");
    }
    env.run(&["--memory-swappiness", "101", "busybox", "true"]).exits(125).says("101");
    env.run(&["-m", "64m", "--memory-swap", "32m", "busybox", "true"]).exits(125);
}

#[test]
fn control_groups_by_name() {
    require!(Root, Controller("pids"));
    let env = TestEnv::with_busybox();
    let parent = format!("mydocker-test-{}", std::process::id());
    let mut limited = Limited::start(&env, &["--cgroup-parent", &format!("/{parent}/sub")]);
    let folder = limited.cgroup("pids");
    assert!(folder.to_str().unwrap().contains(&format!("/{parent}/sub/")), "{}", folder.display());
    limited.stop(&env);
    assert!(!folder.exists());
    for group in [folder.parent(), folder.parent().and_then(|sub| sub.parent())] {
        fs::remove_dir(group.unwrap()).unwrap();
    }
    env.run(&["--cgroup-parent", "../x", "busybox", "true"]).exits(125).says("../x");
    let conf = ["--cgroup-conf", "pids.max=19"];
    if is_v2(&env) {
        let limited = Limited::start(&env, &conf);
        assert_eq!(limited.value("pids", "pids.max", ""), "19");
        env.run(&["--cgroup-conf", "cgroup.procs=1", "busybox", "true"]).exits(125);
    } else {
        let output = env.run(&[&conf[..], &["busybox", "true"]].concat());
        output.fails(125, &["pids.max", "cgroup version 2"]);
    }
    env.run(&["--cgroup-conf", "novalue", "busybox", "true"]).fails(125, &["--cgroup-conf"]);
}

#[test]
fn time_zone_mask_and_personality() {
    require!(Root);
    let env = TestEnv::with_busybox();
    assert_eq!(env.sh_with(&["--umask", "077"], "umask; touch /x; stat -c %a /x"), "0077\n600\n");
    env.run(&["--umask", "1777", "busybox", "true"]).exits(125).says("1777");
    let shown = env.sh_with(&["--personality", "LINUX32"], "uname -m");
    assert_ne!(shown, env.sh("uname -m"));
    if fs::exists("/usr/share/zoneinfo/Etc/GMT+5").unwrap() {
        let script = "md5sum </etc/localtime; echo 2>/dev/null >>/etc/localtime || echo ro";
        let shown = env.sh_with(&["--tz", "Etc/GMT+5"], script);
        assert_ne!(shown, env.sh_with(&["--tz", "Etc/GMT+6"], script));
        assert!(shown.ends_with("ro\n"), "{shown}");
    }
    env.run(&["--tz", "../../../etc/passwd", "busybox", "true"]).fails(125, &["time zone"]);
    env.run(&["--tz", "No/Where", "busybox", "true"]).fails(125, &["No/Where", "no such file"]);
}

#[test]
fn whole_environments() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let with = |options: &[&str], script: &str| {
        let cmd = env.mydocker(["run", "--rm"]).args(options).args(["busybox", "sh", "-c", script]);
        cmd.env("MINE", "m").env("HOSTNAME", "host").ok()
    };
    assert_eq!(with(&["--env-host"], "echo $MINE"), "m\n");
    assert_eq!(with(&[], "echo $MINE"), "\n");
    assert_eq!(
        with(&["--env-host", "-e", "MINE=x", "--hostname", "h"], "echo $MINE $HOSTNAME"),
        "x h\n"
    );
    // No shell, which would set some by itself.
    let printed = |options: &[&str]| {
        env.run(&[options, &["busybox", "/bin/busybox", "env"]].concat()).success().stdout
    };
    let shown = printed(&["--hostname", "h", "--unsetenv", "PATH", "--unsetenv", "HOME"]);
    assert_eq!(shown, "HOSTNAME=h\n");
    assert_eq!(printed(&["--unsetenv-all", "-e", "A=1"]), "A=1\n");
}

#[test]
fn remarks_for_people() {
    require!(Root);
    let env = TestEnv::with_busybox();
    fs::write(env.folder().join("labels"), "# no\na=file\nb\nc=x=y\n").unwrap();
    let options = ["--label-file", "labels", "-l", "a=option", "--annotation", "n.example/k=v=w"];
    let create = env.mydocker(["create", "--name", "c"]).args(options);
    let id = create.args(["busybox", "true"]).ok();
    let shown = env.mydocker(["inspect", "-f", "{{json .Config.Labels}}", "c"]).ok();
    assert_eq!(shown, "{\"a\":\"option\",\"b\":\"\",\"c\":\"x=y\"}\n");
    let path = env.root().join("containers").join(id.trim_end()).join("config.json");
    let spec: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    assert_eq!(spec["annotations"]["n.example/k"], "v=w");
    env.mydocker(["rm", "c"]).ok();
    env.run(&["--annotation", "novalue", "busybox", "true"])
        .fails(125, &["--annotation", "novalue"]);
    env.run(&["--label-file", "nosuch", "busybox", "true"]).fails(125, &["nosuch", "no such file"]);
}

#[test]
fn what_docker_has_and_this_program_has_not_is_refused_by_name() {
    require!(Root);
    let env = TestEnv::with_busybox();
    for (option, value) in [
        ("--kernel-memory", "64m"),
        ("--link", "db"),
        ("--runtime", "runsc"),
        ("--isolation", "hyperv"),
    ] {
        env.run(&[option, value, "busybox", "true"])
            .fails(125, &[option, "not supported", "hint:"]);
    }
    env.run(&["--log-driver", "syslog", "busybox", "true"]).exits(125).says("json-file");
    assert_eq!(env.containers(), Vec::<String>::new());
}
