//! Containers over a reboot, and the hook that makes it so.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::command::Cmd;
use crate::support::env::{TestEnv, lives, names};
use crate::support::require::Need::Root;
use crate::support::wait_for;

fn detach(env: &TestEnv, name: &str, restart: &str, script: &str) {
    let cmd = env.mydocker(["run", "-d", "--name", name, "--restart", restart]);
    cmd.args(["--stop-signal", "KILL", "busybox", "sh", "-c", script]).ok();
}

fn states(env: &TestEnv) -> Vec<(String, String)> {
    let text = env.mydocker(["ps", "-a", "--format", "{{.Names}} {{.State}}"]).ok();
    let pairs = text.lines().map(|line| line.split_once(' ').unwrap());
    let mut states: Vec<_> = pairs.map(|(a, b)| (a.to_owned(), b.to_owned())).collect();
    states.sort();
    states
}

fn running(env: &TestEnv) -> Vec<String> {
    let running = states(env).into_iter().filter(|(_, state)| state == "running");
    running.map(|(name, _)| name).collect()
}

/// What a power cut and the boot after it do to a store: no process is left, and nobody has written down how they ended;
/// the run folder and the control groups are empty; it is another boot.
fn reboot(env: &TestEnv) {
    let run = env.folder().join("run");
    let mut groups = Vec::new();
    let monitors = env.monitors();
    let end = |pid: i32| kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap_or_default();
    monitors.iter().copied().for_each(end);
    wait_for("the monitors' end", || (!monitors.iter().any(|pid| lives(*pid))).then_some(()));
    for id in env.running() {
        let written: Value = serde_json::from_slice(&fs::read(run.join(&id)).unwrap()).unwrap();
        let pid = i32::try_from(written["pid"].as_i64().unwrap()).unwrap();
        if pid > 0 {
            end(pid);
            wait_for("a container's end", || (!lives(pid)).then_some(()));
        }
        let all = written["groups"].as_array().unwrap().clone();
        groups.extend(all.iter().map(|group| PathBuf::from(group.as_str().unwrap())));
    }
    for group in groups {
        wait_for("an empty group", || match fs::remove_dir(&group) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => None,
            _ => Some(()),
        });
    }
    fs::remove_dir_all(&run).unwrap();
    for id in env.containers() {
        let path = env.root().join("containers").join(&id).join("record.json");
        let mut record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        record["boot"] = "00000000-0000-0000-0000-000000000000".into();
        fs::write(&path, record.to_string()).unwrap();
    }
}

#[test]
fn restart_policies_hold_across_a_reboot() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let forever = "exec sleep 1000";
    for policy in ["no", "on-failure", "always", "unless-stopped"] {
        detach(&env, &format!("{policy}-ran"), policy, forever);
        detach(&env, &format!("{policy}-stopped"), policy, forever);
    }
    detach(&env, "fine", "on-failure", "exit 0");
    detach(&env, "twice", "on-failure:1", "exit 3");
    env.mydocker(["create", "--name", "made", "--restart", "always", "busybox", "true"]).ok();
    let cmd = env.mydocker(["run", "-d", "--rm", "--name", "removed", "busybox", "sleep", "1000"]);
    cmd.ok();
    for policy in ["no", "on-failure", "always", "unless-stopped"] {
        env.mydocker(["stop", &format!("{policy}-stopped")]).ok();
    }
    wait_for("the end of what ends", || (running(&env).len() == 5).then_some(()));
    reboot(&env);
    assert_eq!(running(&env), Vec::<String>::new());
    let started = env.mydocker(["boot"]).ok();
    // In the order in which they were made.
    let wanted = ["on-failure-ran", "always-ran", "always-stopped", "unless-stopped-ran"];
    assert_eq!(started.lines().collect::<Vec<_>>(), wanted);
    let mut sorted = wanted.map(str::to_owned);
    sorted.sort();
    assert_eq!(running(&env), sorted);
    let states = states(&env);
    let state = |name: &str| states.iter().find(|(n, _)| n == name).map(|(_, s)| s.as_str());
    assert_eq!(state("made"), Some("created"));
    assert_eq!(state("removed"), None, "it was to be removed at its end");
    // Once more does no more, and respects what a user has stopped since.
    assert_eq!(env.mydocker(["boot"]).ok(), "");
    env.mydocker(["stop", "always-ran"]).ok();
    assert_eq!(env.mydocker(["boot"]).ok(), "");
    assert_eq!(running(&env).len(), 3);
}

#[test]
fn an_orderly_end_of_the_machine_is_no_stop_by_a_user() {
    require!(Root);
    let env = TestEnv::with_busybox();
    detach(&env, "ran", "unless-stopped", "exec sleep 1000");
    detach(&env, "stopped", "unless-stopped", "exec sleep 1000");
    detach(&env, "plain", "no", "exec sleep 1000");
    env.mydocker(["stop", "stopped"]).ok();
    env.mydocker(["boot", "--stop"]).run().success().prints("");
    assert_eq!(running(&env), Vec::<String>::new());
    assert!(
        env.monitors().is_empty()
            || wait_for("no monitor", || { env.monitors().is_empty().then_some(true) })
    );
    // As when the hook is stopped and started by hand.
    assert_eq!(env.mydocker(["boot"]).ok(), "ran\n");
    env.mydocker(["boot", "--stop"]).ok();
    reboot(&env);
    assert_eq!(env.mydocker(["boot"]).ok(), "ran\n");
    assert_eq!(running(&env), ["ran"]);
}

#[test]
fn one_that_cannot_be_started_does_not_keep_the_others() {
    require!(Root);
    let env = TestEnv::with_busybox();
    for name in ["a", "b", "c"] {
        detach(&env, name, "always", "exec sleep 1000");
    }
    let ids = env.mydocker(["ps", "-q", "--no-trunc", "--filter", "name=b"]).ok();
    reboot(&env);
    let config = env.root().join("containers").join(ids.trim()).join("config.json");
    fs::write(config, "{").unwrap();
    let output = env.mydocker(["boot"]).run().exits(1).prints("a\nc\n");
    assert!(output.stderr.contains("mydocker: boot: b: malformed record"), "{}", output.stderr);
    assert_eq!(running(&env), ["a", "c"]);
}

/// A folder that looks like a machine's root directory, with these files and folders.
fn machine(env: &TestEnv, name: &str, files: &[&str]) -> PathBuf {
    let root = env.folder().join(name);
    for file in files {
        let path = root.join(file);
        if file.ends_with('/') {
            fs::create_dir_all(path).unwrap();
        } else {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
    }
    root
}

/// Everything that there is in a folder.
fn listed(folder: &Path) -> Vec<String> {
    let out = Cmd::new("find").arg(".").current_dir(folder).ok();
    let mut lines: Vec<_> = out.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn enable(env: &TestEnv, verb: &str, root: &Path) -> Vec<String> {
    let made = env.mydocker([verb, "--sysroot"]).arg(root).ok();
    let inside = |line: &str| line.strip_prefix(root.to_str().unwrap()).unwrap().to_owned();
    made.lines().map(inside).collect()
}

#[test]
fn enable_and_disable_leave_a_machine_as_it_was() {
    require!(Root);
    let env = TestEnv::new();
    let unit = "/etc/systemd/system/mydocker.service";
    let systems: [(&str, &[&str], &[&str]); 5] = [
        (
            "systemd",
            &["usr/lib/systemd/systemd"],
            &[unit, "/etc/systemd/system/multi-user.target.wants/mydocker.service"],
        ),
        (
            "openrc",
            &["sbin/openrc-run"],
            &["/etc/init.d/mydocker", "/etc/runlevels/default/mydocker"],
        ),
        (
            "runit",
            &["etc/sv/", "var/service/"],
            &["/etc/sv/mydocker/run", "/etc/sv/mydocker/finish", "/var/service/mydocker"],
        ),
        (
            "sysvinit",
            &["etc/init.d/", "etc/rc2.d/"],
            &[
                "/etc/init.d/mydocker",
                "/etc/rc2.d/S99mydocker",
                "/etc/rc3.d/S99mydocker",
                "/etc/rc4.d/S99mydocker",
                "/etc/rc5.d/S99mydocker",
                "/etc/rc0.d/K01mydocker",
                "/etc/rc1.d/K01mydocker",
                "/etc/rc6.d/K01mydocker",
            ],
        ),
        ("rc.local", &["etc/rc.local"], &["/etc/rc.local"]),
    ];
    for (name, files, wanted) in systems {
        let root = machine(&env, name, files);
        let before = listed(&root);
        assert_eq!(enable(&env, "enable", &root), wanted, "{name}");
        // Once more is the same once more.
        assert_eq!(enable(&env, "enable", &root), wanted, "{name}");
        for path in wanted {
            let path = root.join(path.trim_start_matches('/'));
            let target = fs::read_link(&path).map(|target| match target.strip_prefix("/") {
                Ok(inside) => root.join(inside),
                Err(_) => path.parent().unwrap().join(target),
            });
            assert!(target.as_ref().unwrap_or(&path).exists(), "{name}: {path:?}: {target:?}");
        }
        let mut removed = enable(&env, "disable", &root);
        removed.sort();
        let mut wanted = wanted.to_vec();
        wanted.sort_unstable();
        assert_eq!(removed, wanted, "{name}");
        let left: Vec<_> = listed(&root).into_iter().filter(|l| !before.contains(l)).collect();
        assert!(left.iter().all(|path| root.join(path).is_dir()), "{name}: {left:?}");
        env.mydocker(["disable", "--sysroot"]).arg(&root).run().success().says("nothing");
    }
}

#[test]
fn the_scripts_start_and_stop_containers() {
    require!(Root);
    let env = TestEnv::with_busybox();
    detach(&env, "web", "always", "exec sleep 1000");
    let root = machine(&env, "machine", &["etc/rc.local"]);
    fs::write(root.join("etc/rc.local"), "#!/bin/sh\necho before\n\nexit 0\n").unwrap();
    let run = |script: &Path, args: &[&str]| {
        let cmd = Cmd::new("sh").arg(script).args(args);
        cmd.run().success().stdout
    };
    for init in ["sysvinit", "rc.local"] {
        env.mydocker(["enable", "--init", init, "--sysroot"]).arg(&root).ok();
    }
    let script = root.join("etc/init.d/mydocker");
    assert_eq!(run(&script, &["stop"]), "");
    assert_eq!(running(&env), Vec::<String>::new());
    assert_eq!(run(&script, &["start"]), "web\n");
    assert_eq!(run(&script, &["restart"]), "web\n");
    assert_eq!(running(&env), ["web"]);
    Cmd::new("sh").arg(&script).arg("nosuch").run().exits(3);
    run(&script, &["stop"]);
    assert_eq!(run(&root.join("etc/rc.local"), &[]), "before\nweb\n");
    assert_eq!(running(&env), ["web"]);
    env.mydocker(["disable", "--sysroot"]).arg(&root).ok();
    let text = fs::read_to_string(root.join("etc/rc.local")).unwrap();
    assert_eq!(text, "#!/bin/sh\necho before\n\nexit 0\n");
    assert_eq!(running(&env), ["web"], "what runs goes on");
}

#[test]
fn what_enable_would_do_can_be_seen_first() {
    require!(Root);
    let env = TestEnv::new();
    let root = machine(&env, "root", &["lib/systemd/systemd"]);
    let before = listed(&root);
    let text = env.mydocker(["enable", "--print", "--sysroot"]).arg(&root).ok();
    assert_eq!(listed(&root), before);
    // The unit names the file and not a link to it.
    let program = crate::support::env::program().canonicalize().unwrap();
    let command = format!("{} --root {} boot", program.display(), env.root().display());
    for line in [
        "# /etc/systemd/system/mydocker.service".to_owned(),
        format!("Environment=MYDOCKER_RUN={}", env.folder().join("run").display()),
        format!("ExecStart={command}"),
        format!("ExecStop={command} --stop"),
        "Type=oneshot".to_owned(),
        "RemainAfterExit=yes".to_owned(),
        "KillMode=process".to_owned(),
        "WantedBy=multi-user.target".to_owned(),
    ] {
        assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
    }
    let nothing = machine(&env, "nothing", &["etc/"]);
    let cmd = env.mydocker(["enable", "--sysroot"]).arg(&nothing);
    cmd.run().fails(125, &["enable", "no init system", "mydocker boot"]);
    env.mydocker(["enable", "--init", "nosuch"]).run().fails(125, &["nosuch", "openrc"]);
    // A file of that name which somebody else has made stays theirs.
    fs::create_dir_all(root.join("etc/systemd/system")).unwrap();
    let unit = root.join("etc/systemd/system/mydocker.service");
    fs::write(&unit, "[Unit]\n").unwrap();
    let cmd = env.mydocker(["enable", "--sysroot"]).arg(&root);
    cmd.run().fails(125, &["enable", "mydocker.service", "file exists"]);
    env.mydocker(["disable", "--sysroot"]).arg(&root).ok();
    assert_eq!(fs::read_to_string(unit).unwrap(), "[Unit]\n");
    assert_eq!(names(&root.join("etc/systemd/system")), ["mydocker.service"]);
}
