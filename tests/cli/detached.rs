//! Containers that run on when the command that started them has ended.

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::env::{TestEnv, copy_program, names};
use crate::support::require::Need::Root;
use crate::support::{fixtures, wait_for};

/// What the run folder says of a container.
fn running(env: &TestEnv, id: &str) -> Value {
    let text = fs::read(env.folder().join("run").join(id)).unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn monitor(env: &TestEnv, id: &str) -> Pid {
    Pid::from_raw(running(env, id)["monitor"]["pid"].as_i64().unwrap().try_into().unwrap())
}

/// A program that ends when it is told to.
const UNTIL_TOLD: &str = "until [ -e /go ]; do sleep 0.05; done; exit 4";

fn detach(env: &TestEnv, options: &[&str], script: &str) -> String {
    let cmd = env.mydocker(["run", "-d"]).args(options).args(["busybox", "sh", "-c", script]);
    let id = cmd.ok().trim().to_owned();
    assert_eq!(id.len(), 64, "{id}");
    id
}

fn state(env: &TestEnv, name: &str) -> Option<String> {
    let all = env.json(&["ps", "-a"]);
    let found = all.iter().find(|container| container["Names"] == name)?;
    Some(found["State"].as_str().unwrap().to_owned())
}

fn status(env: &TestEnv, name: &str) -> String {
    let all = env.json(&["ps", "-a"]);
    let found = all.iter().find(|container| container["Names"] == name).unwrap();
    found["Status"].as_str().unwrap().to_owned()
}

fn assert_nothing_left(env: &TestEnv) {
    assert_eq!(env.containers(), Vec::<String>::new());
    wait_for("an empty run folder", || names(&env.folder().join("run")).is_empty().then_some(()));
    let groups = walk("/sys/fs/cgroup".into(), 3);
    let left: Vec<_> = groups.iter().filter(|group| group.ends_with("mydocker")).collect();
    for folder in left {
        for id in names(folder) {
            assert!(!env.folder().join("store/containers").join(&id).exists(), "{id}");
        }
    }
}

fn walk(folder: PathBuf, depth: u32) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(&folder) else { return Vec::new() };
    let folders = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir()));
    let mut found = vec![folder];
    if depth > 0 {
        folders.for_each(|entry| found.extend(walk(entry.path(), depth - 1)));
    }
    found
}

#[test]
fn run_detached_prints_the_id_and_runs_on() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let id = detach(&env, &["--name", "web"], "exec sleep 1000");
    assert_eq!(state(&env, "web").unwrap(), "running");
    assert_eq!(env.mydocker(["ps", "-q", "--no-trunc"]).ok().trim(), id);
    env.mydocker(["rm", "web"]).run().fails(1, &["web", "running", "rm -f"]);
    env.mydocker(["rm", "-f", "web"]).ok();
    assert_nothing_left(&env);
}

#[test]
fn run_detached_of_what_is_no_program() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let cmd = env.mydocker(["run", "-d", "--name", "web", "busybox", "nosuch"]);
    cmd.run().fails(127, &["run busybox", "nosuch", "not found"]);
    let cmd = env.mydocker(["run", "-d", "--name", "web", "busybox", "/etc/passwd"]);
    cmd.run().fails(126, &["run busybox", "/etc/passwd", "permission denied"]);
    assert_nothing_left(&env);
}

#[test]
fn the_monitor_is_small_and_alone() {
    require!(Root);
    let env = TestEnv::with_busybox();
    // Pages of the program's file that two processes have are no longer one's own.
    let ids = ["a", "b"].map(|name| detach(&env, &["--name", name], "exec sleep 1000"));
    for id in &ids {
        let pid = monitor(&env, id);
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
        let private = |name: &str| -> u64 {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        let private = private("Private_Clean:") + private("Private_Dirty:");
        assert!(private < 1024, "{private} kB\n{text}");
        assert_eq!(fs::read_dir(format!("/proc/{pid}/task")).unwrap().count(), 1);
        // A session of its own, and nothing of whoever started it.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let session = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(3).unwrap();
        assert_eq!(session, pid.to_string());
        let environ = fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
        assert!(environ.starts_with("MYDOCKER_RUN=") && environ.matches('=').count() == 1);
    }
    env.mydocker(["rm", "-f", "a", "b"]).ok();
}

#[test]
fn nothing_that_the_caller_had_open_stays_open() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let program = crate::support::env::program();
    // The reader of descriptor 9 sees its end as soon as the command has ended, and not when the container has.
    let script = format!(
        "{{ '{}' run -d --name web busybox sleep 1000 9>&1 >/dev/null; }} | cat; echo end",
        program.display()
    );
    let cmd = crate::support::command::Cmd::new("sh").args(["-c", &script]);
    let cmd = cmd.env("MYDOCKER_ROOT", env.root()).env("MYDOCKER_RUN", env.folder().join("run"));
    cmd.run().success().prints("end\n");
    env.mydocker(["rm", "-f", "web"]).ok();
}

#[test]
fn killing_the_command_does_not_kill_the_container() {
    require!(Root);
    let env = TestEnv::with_busybox();
    env.mydocker(["create", "--name", "web", "busybox", "sleep", "1000"]).ok();
    let attached = env.mydocker(["start", "-a", "web"]).start();
    let pid = env.wait_until_running("web");
    attached.signal(Signal::SIGKILL);
    drop(attached);
    assert_eq!(state(&env, "web").unwrap(), "running");
    assert!(PathBuf::from(format!("/proc/{pid}")).exists());
    env.mydocker(["rm", "-f", "web"]).ok();
    assert_nothing_left(&env);
}

#[test]
fn the_monitor_does_not_heed_what_ends_a_session() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let id = detach(&env, &["--name", "web"], UNTIL_TOLD);
    for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM] {
        kill(monitor(&env, &id), signal).unwrap();
    }
    env.mydocker(["exec", "web", "touch", "/go"]).ok();
    env.mydocker(["wait", "web"]).run().success().prints("4\n");
    env.mydocker(["rm", "web"]).ok();
}

#[test]
fn a_container_outlives_its_monitor() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let id = detach(&env, &["--name", "web"], "exec sleep 1000");
    kill(monitor(&env, &id), Signal::SIGKILL).unwrap();
    let groups = running(&env, &id)["groups"].clone();
    assert_eq!(state(&env, "web").unwrap(), "running");
    env.mydocker(["stop", "-t", "0", "web"]).ok();
    // Nobody has seen how it ended.
    assert!(status(&env, "web").starts_with("Exited (255) "));
    env.mydocker(["start", "web"]).ok();
    assert_eq!(state(&env, "web").unwrap(), "running");
    kill(monitor(&env, &id), Signal::SIGKILL).unwrap();
    env.mydocker(["rm", "-f", "web"]).ok();
    assert_nothing_left(&env);
    for group in groups.as_array().unwrap() {
        assert!(!PathBuf::from(group.as_str().unwrap()).exists(), "{group}");
    }
}

#[test]
fn an_upgrade_of_the_program_leaves_containers_alone() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let program = env.folder().join("mydocker");
    copy_program(&program);
    let run = |args: &[&str]| {
        let cmd = crate::support::command::Cmd::new(&program).args(args);
        cmd.env("MYDOCKER_ROOT", env.root()).env("MYDOCKER_RUN", env.folder().join("run")).ok()
    };
    let script = "trap 'exit 3' TERM; touch /ready; while :; do sleep 0.1; done";
    run(&[
        "run",
        "-d",
        "--name",
        "web",
        "--restart",
        "on-failure:1",
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    fs::remove_file(&program).unwrap();
    fs::write(&program, "not a program").unwrap();
    let pid = env.wait_until_running("web");
    let ready = format!("/proc/{pid}/root/ready");
    wait_for("a shell with its trap set", || fs::metadata(&ready).ok());
    kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    // Started again by the old program.
    wait_for("another process", || (env.wait_until_running("web") != pid).then_some(()));
    env.mydocker(["rm", "-f", "web"]).ok();
    assert_nothing_left(&env);
}

#[test]
fn create_start_and_the_exit_code() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let cmd = env.mydocker([
        "create",
        "--name",
        "web",
        "busybox",
        "sh",
        "-c",
        "echo out; echo err >&2; exit 7",
    ]);
    let id = cmd.ok().trim().to_owned();
    assert_eq!(state(&env, "web").unwrap(), "created");
    assert_eq!(env.mydocker(["start", "web"]).ok(), "web\n");
    env.mydocker(["wait", "web"]).run().success().prints("7\n");
    assert!(status(&env, "web").starts_with("Exited (7) "));
    let again = env.mydocker(["start", "-a", &id[..12]]).run().exits(7).prints("out\n");
    assert_eq!(again.stderr, "err\n");
    env.mydocker(["rm", "web"]).ok();
    env.mydocker(["start", "web"]).run().fails(1, &["start web", "no such container"]);
}

#[test]
fn input_reaches_a_started_container_and_ends() {
    require!(Root);
    let env = TestEnv::with_busybox();
    env.mydocker(["create", "-i", "--name", "cat", "busybox", "cat"]).ok();
    for _ in 0..2 {
        let text = "0123456789\n".repeat(20_000);
        let output = env.mydocker(["start", "-a", "-i", "cat"]).input(text.clone()).run().success();
        assert!(output.stdout == text, "{} bytes of {}", output.stdout.len(), text.len());
    }
    env.mydocker(["rm", "cat"]).ok();
}

#[test]
fn restart_policies() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let script = "echo run; exit 3";
    detach(&env, &["--name", "thrice", "--restart", "on-failure:2"], script);
    detach(&env, &["--name", "fine", "--restart", "on-failure"], "echo run");
    detach(&env, &["--name", "ever", "--restart", "always"], "echo run");
    env.mydocker(["wait", "fine"]).ok();
    wait_for("the last restart", || {
        status(&env, "thrice").starts_with("Exited (3) ").then_some(())
    });
    assert_eq!(env.mydocker(["logs", "thrice"]).ok(), "run\nrun\nrun\n");
    assert_eq!(env.mydocker(["logs", "fine"]).ok(), "run\n");
    wait_for("restarts", || {
        (env.mydocker(["logs", "ever"]).ok().lines().count() > 3).then_some(())
    });
    env.mydocker(["stop", "ever"]).ok();
    let count = env.mydocker(["logs", "ever"]).ok().lines().count();
    assert!(status(&env, "ever").starts_with("Exited "), "{}", status(&env, "ever"));
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert_eq!(env.mydocker(["logs", "ever"]).ok().lines().count(), count, "it was stopped");
    env.mydocker(["rm", "thrice", "fine", "ever"]).ok();
    env.mydocker(["run", "-d", "--rm", "--restart", "always", "busybox", "true"])
        .run()
        .fails(125, &["--restart", "--rm"]);
    assert_nothing_left(&env);
}

#[test]
fn removed_at_its_end() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let id = detach(&env, &["--rm"], UNTIL_TOLD);
    let waiting = env.mydocker(["wait", &id]).start();
    waiting.wait_until_connected();
    env.mydocker(["exec", &id, "touch", "/go"]).ok();
    waiting.finish().success().prints("4\n");
    assert_nothing_left(&env);
}

#[test]
fn id_and_process_number_in_files() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let id =
        detach(&env, &["--name", "web", "--cidfile", "cid", "--pidfile", "pid"], "exec sleep 1000");
    assert_eq!(fs::read_to_string(env.folder().join("cid")).unwrap(), id);
    let pid = env.wait_until_running("web");
    assert_eq!(fs::read_to_string(env.folder().join("pid")).unwrap(), pid.to_string());
    let cmd = env.mydocker(["run", "--cidfile", "cid", "busybox", "true"]);
    cmd.run().fails(125, &["cid", "file exists"]);
    assert_eq!(env.containers(), [id]);
    env.mydocker(["rm", "-f", "web"]).ok();
}

#[test]
fn a_container_of_another_boot_has_ended() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let id = detach(&env, &["--name", "web"], "exec sleep 1000");
    let path = env.root().join("containers").join(&id).join("record.json");
    let text = fs::read_to_string(&path).unwrap();
    let mut record: Value = serde_json::from_str(&text).unwrap();
    env.mydocker(["kill", "web"]).ok();
    env.mydocker(["wait", "web"]).ok();
    // As it was found after a power cut: it ran, in another boot.
    record["boot"] = "00000000-0000-0000-0000-000000000000".into();
    record["finished"] = Value::Null;
    fs::write(&path, record.to_string()).unwrap();
    assert!(status(&env, "web").starts_with("Exited (255) "));
    env.mydocker(["start", "web"]).ok();
    assert_eq!(state(&env, "web").unwrap(), "running");
    env.mydocker(["rm", "-f", "web"]).ok();
    assert_nothing_left(&env);
}

#[test]
fn two_starts_at_once_make_one_container() {
    require!(Root);
    let env = TestEnv::with_busybox();
    env.mydocker(["create", "--name", "web", "busybox", "sleep", "1000"]).ok();
    let starts: Vec<_> = (0..6).map(|_| env.mydocker(["start", "web"]).start()).collect();
    let codes: Vec<_> = starts.into_iter().map(|start| start.finish().code()).collect();
    assert!(codes.iter().all(|code| *code == Some(0)), "{codes:?}");
    assert_eq!(env.running().len(), 1);
    env.mydocker(["rm", "-f", "web"]).ok();
    assert_nothing_left(&env);
}

#[test]
fn the_image_of_a_container_that_waits_cannot_be_removed() {
    require!(Root);
    let env = TestEnv::with_busybox();
    env.mydocker(["create", "--name", "web", "busybox", "true"]).ok();
    env.mydocker(["rmi", "busybox"]).run().fails(1, &["busybox", "in use"]);
    env.mydocker(["rm", "web"]).ok();
    env.mydocker(["import", "--name", "other"]).arg(fixtures::path("busybox.tar")).ok();
}
