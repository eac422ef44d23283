//! What `ps`, `inspect`, `top` and `stats` show of containers, and what `update` and `container prune` change.

use serde_json::{Value, json};

use crate::support::env::TestEnv;
use crate::support::require::Need::Root;
use crate::support::wait_for;

fn detach(env: &TestEnv, name: &str, options: &[&str], script: &str) {
    let cmd = env.mydocker(["run", "-d", "--name", name]).args(options);
    cmd.args(["busybox", "sh", "-c", script]).ok();
}

fn inspect(env: &TestEnv, name: &str) -> Value {
    let text = env.mydocker(["inspect", name]).ok();
    let all: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(all.as_array().unwrap().len(), 1);
    all[0].clone()
}

fn field(env: &TestEnv, name: &str, template: &str) -> String {
    env.mydocker(["inspect", "-f", template, name]).ok().trim_end().to_owned()
}

#[test]
fn inspect_has_dockers_fields() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let options = [
        "--label",
        "a=1",
        "-e",
        "X=y",
        "-m",
        "64m",
        "--cpus",
        "0.5",
        "--restart",
        "on-failure:3",
        "-i",
    ];
    detach(&env, "web", &options, "exec sleep 1000");
    let found = inspect(&env, "web");
    let pid = env.wait_until_running("web");
    for (pointer, value) in [
        ("/Name", json!("/web")),
        ("/Path", json!("sh")),
        ("/Args", json!(["-c", "exec sleep 1000"])),
        ("/State/Status", json!("running")),
        ("/State/Running", json!(true)),
        ("/State/Paused", json!(false)),
        ("/State/Pid", json!(pid)),
        ("/State/ExitCode", json!(0)),
        ("/State/FinishedAt", json!("0001-01-01T00:00:00Z")),
        ("/RestartCount", json!(0)),
        ("/Config/Labels/a", json!("1")),
        ("/Config/Image", json!("busybox")),
        ("/Config/OpenStdin", json!(true)),
        ("/Config/Tty", json!(false)),
        ("/HostConfig/Memory", json!(64 << 20)),
        ("/HostConfig/NanoCpus", json!(500_000_000)),
        ("/HostConfig/NetworkMode", json!("none")),
        ("/HostConfig/RestartPolicy", json!({ "Name": "on-failure", "MaximumRetryCount": 3 })),
        ("/HostConfig/LogConfig/Type", json!("json-file")),
        ("/Mounts", json!([])),
    ] {
        assert_eq!(found.pointer(pointer), Some(&value), "{pointer}");
    }
    assert!(found["Config"]["Env"].as_array().unwrap().contains(&json!("X=y")));
    assert!(std::path::Path::new(found["LogPath"].as_str().unwrap()).exists());
    assert_eq!(field(&env, "web", "{{.State.Status}} {{.Config.Labels.a}}"), "running 1");
    assert_eq!(field(&env, "web", "{{json .HostConfig.RestartPolicy.Name}}"), "\"on-failure\"");
    let nosuch = env.mydocker(["inspect", "-f", "{{.Nosuch}}", "web"]);
    nosuch.run().fails(125, &["inspect --format", "no field `.nosuch`"]);
    env.mydocker(["inspect", "--type", "image", "web"]).run().fails(125, &["no such image"]);
    env.mydocker(["inspect", "--type", "container", "busybox"])
        .run()
        .fails(1, &["no such container"]);
    env.mydocker(["kill", "web"]).ok();
    env.mydocker(["wait", "web"]).ok();
    assert_eq!(
        field(&env, "web", "{{.State.Status}} {{.State.ExitCode}} {{.State.Pid}}"),
        "exited 137 0"
    );
    env.mydocker(["rm", "web"]).ok();
}

#[test]
fn a_start_that_failed_says_why() {
    require!(Root);
    let env = TestEnv::with_busybox();
    env.mydocker(["create", "--name", "web", "busybox", "nosuch"]).ok();
    env.mydocker(["start", "web"]).run().fails(1, &["start web", "nosuch", "not found"]);
    assert!(field(&env, "web", "{{.State.Error}}").contains("nosuch"));
    assert_eq!(field(&env, "web", "{{.State.Status}}"), "created");
    env.mydocker(["rm", "web"]).ok();
}

#[test]
fn out_of_memory_is_told() {
    require!(Root);
    let env = TestEnv::with_busybox();
    // As much as fits into a string, again and again.
    detach(&env, "eater", &["-m", "16m"], "x=0123456789; while :; do x=$x$x; done");
    env.mydocker(["wait", "eater"]).run().success().prints("137\n");
    assert_eq!(field(&env, "eater", "{{.State.OOMKilled}} {{.State.ExitCode}}"), "true 137");
    env.mydocker(["rm", "eater"]).ok();
}

#[test]
fn ps_filters() {
    require!(Root);
    let env = TestEnv::with_busybox();
    detach(&env, "web-1", &["--label", "tier=front", "--label", "x"], "exec sleep 1000");
    detach(&env, "web-2", &["--label", "tier=back"], "exit 3");
    env.mydocker(["wait", "web-2"]).ok();
    env.mydocker(["create", "--name", "db", "busybox", "true"]).ok();
    let names = |args: &[&str]| -> Vec<String> {
        let text = env.mydocker(["ps", "--format", "{{.Names}}"]).args(args).ok();
        let mut names: Vec<String> = text.lines().map(str::to_owned).collect();
        names.sort();
        names
    };
    assert_eq!(names(&[]), ["web-1"]);
    assert_eq!(names(&["-a"]), ["db", "web-1", "web-2"]);
    assert_eq!(names(&["-f", "status=exited"]), ["web-2"]);
    assert_eq!(names(&["-f", "status=created", "-f", "status=running"]), ["db", "web-1"]);
    assert_eq!(names(&["-f", "exited=3"]), ["web-2"]);
    assert_eq!(names(&["-a", "-f", "name=web"]), ["web-1", "web-2"]);
    assert_eq!(names(&["-a", "-f", "name=^db$"]), ["db"]);
    assert_eq!(names(&["-a", "-f", "label=tier"]), ["web-1", "web-2"]);
    assert_eq!(names(&["-a", "-f", "label=tier=back"]), ["web-2"]);
    assert_eq!(names(&["-a", "-f", "label=tier=front", "-f", "label=x"]), ["web-1"]);
    assert_eq!(names(&["-a", "-f", "ancestor=busybox"]).len(), 3);
    assert_eq!(names(&["-a", "-f", "ancestor=debian"]).len(), 0);
    assert_eq!(names(&["-n", "1"]).len(), 1);
    assert_eq!(names(&["-l"]).len(), 1);
    for bad in ["status=nosuch", "nosuch=1", "status", "exited=x", "before=nosuch"] {
        env.mydocker(["ps", "-f", bad]).run().fails(125, &["ps", "filter", bad]);
    }
    env.mydocker(["rm", "-f", "web-1", "web-2", "db"]).ok();
}

#[test]
fn ps_filters_by_what_a_container_was_made_with() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let create = |name: &str, options: &[&str]| {
        let command = ["busybox", "sleep", "1000"];
        env.mydocker(["create", "--name", name]).args(options).args(command).ok();
    };
    create("db", &["-v", "data:/data", "-v", "/etc:/host:ro", "-l", "tier=back"]);
    create("open", &["--network", "host", "--restart", "on-failure:3", "--entrypoint", "/bin/env"]);
    create("plain", &["--tmpfs", "/data/tmp", "-l", "tier!=x"]);
    let names = |filters: &[&str]| -> Vec<String> {
        let cmd = env.mydocker(["ps", "-a", "--format", "{{.Names}}"]);
        let cmd = filters.iter().fold(cmd, |cmd, filter| cmd.args(["--filter", filter]));
        let mut names: Vec<String> = cmd.ok().lines().map(str::to_owned).collect();
        names.sort();
        names
    };
    for volume in ["volume=data", "volume=/data", "volume=/etc", "volume=/host"] {
        assert_eq!(names(&[volume]), ["db"], "{volume}");
    }
    assert!(names(&["volume=dat"]).is_empty());
    assert_eq!(names(&["volume=data", "volume=nosuch"]), ["db"]);
    assert_eq!(names(&["network=host"]), ["open"]);
    assert_eq!(names(&["network=none"]), ["db", "plain"]);
    assert_eq!(names(&["restart-policy=on-failure"]), ["open"]);
    assert_eq!(names(&["command=^sleep$"]), ["db", "plain"]);
    assert_eq!(names(&["command=env"]), ["open"]);
    assert_eq!(names(&["label!=tier=back"]), ["open", "plain"]);
    assert_eq!(names(&["label!=tier", "label!=tier!"]), ["open"]);
    assert_eq!(names(&["label=tier!=x"]), ["plain"]);
    assert!(names(&["until=1h"]).is_empty() && names(&["until=4000000000"]).len() == 3);
    assert!(names(&["publish=80/tcp"]).is_empty() && names(&["expose=80-90"]).is_empty());
    assert!(names(&["is-task=true"]).is_empty() && names(&["is-task=false"]).len() == 3);
    for bad in ["publish=x", "expose=90-80", "until=x", "restart-policy=x", "is-task=x", "pod=x"] {
        env.mydocker(["ps", "-f", bad]).run().fails(125, &["ps", "filter", bad]);
    }
    let pruned = ["container", "prune", "-f", "--filter", "until=1h"];
    env.mydocker(pruned).run().success().prints("");
    env.mydocker(["container", "prune", "-f", "--filter", "label!=tier"]).ok();
    assert_eq!(names(&[]), ["db"]);
    env.mydocker(["rm", "db"]).ok();
}

#[test]
fn ps_in_a_form_of_ones_own() {
    require!(Root);
    let env = TestEnv::with_busybox();
    detach(&env, "web", &["--label", "a=1"], "echo 0123456789 > /file; exec sleep 1000");
    let table =
        env.mydocker(["ps", "--format", "table {{.Names}}\\t{{.State}}\\t{{.Label \"a\"}}"]).ok();
    assert_eq!(table, "NAMES   STATE     a\nweb     running   1\n");
    wait_for("a file", || {
        (env.mydocker(["ps", "--format", "{{.Size}}"]).ok() == "11B\n").then_some(())
    });
    assert!(env.mydocker(["ps", "-s"]).ok().contains("SIZE"));
    env.mydocker(["ps", "--format", "{{.Nosuch}}"]).run().fails(125, &["no field"]);
    env.mydocker(["rm", "-f", "web"]).ok();
}

#[test]
fn top_lists_processes_with_their_numbers_outside() {
    require!(Root);
    let env = TestEnv::with_busybox();
    detach(&env, "web", &[], "sleep 1001 & exec sleep 1000");
    let pid = env.wait_until_running("web");
    let text = wait_for("two processes", || {
        let text = env.mydocker(["top", "web"]).ok();
        (text.lines().count() == 3).then_some(text)
    });
    assert!(text.starts_with("UID "), "{text}");
    let own = text.lines().find(|line| line.ends_with("sleep 1000")).unwrap();
    assert_eq!(own.split_whitespace().nth(1).unwrap(), pid.to_string());
    env.mydocker(["rm", "-f", "web"]).ok();
    env.mydocker(["top", "web"]).run().fails(1, &["top web", "no such container"]);
}

#[test]
fn stats_of_what_runs() {
    require!(Root);
    let env = TestEnv::with_busybox();
    detach(&env, "busy", &["-m", "64m"], "while :; do :; done");
    let all = env.json(&["stats", "--no-stream"]);
    assert_eq!(all.len(), 1);
    assert_eq!(all[0]["Name"], "busy");
    let processor = all[0]["CPUPerc"].as_str().unwrap().trim_end_matches('%');
    assert!(processor.parse::<f64>().unwrap() > 0.0, "{all:?}");
    assert!(all[0]["MemUsage"].as_str().unwrap().ends_with(" / 64MiB"), "{all:?}");
    assert_eq!(all[0]["PIDs"], "1");
    let table = env.mydocker(["stats", "--no-stream", "busy"]).ok();
    assert!(table.starts_with("CONTAINER ID   NAME   CPU %"), "{table}");
    env.mydocker(["rm", "-f", "busy"]).ok();
}

#[test]
fn update_changes_limits_at_once_and_for_later() {
    require!(Root);
    let env = TestEnv::with_busybox();
    detach(&env, "web", &["-m", "64m"], "exec sleep 1000");
    let options = ["-m", "128m", "--cpus", "0.25", "--pids-limit", "77", "--restart", "always"];
    env.mydocker(["update"]).args(options).arg("web").run().success().prints("web\n");
    let check = || {
        let wanted = "134217728 250000000 77 always";
        let template = "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}} \
                        {{.HostConfig.RestartPolicy.Name}}";
        assert_eq!(field(&env, "web", template), wanted);
        let usage = &env.json(&["stats", "--no-stream"])[0]["MemUsage"];
        assert!(usage.as_str().unwrap().ends_with(" / 128MiB"), "{usage}");
    };
    check();
    env.mydocker(["restart", "-t", "0", "web"]).ok();
    check();
    env.mydocker(["update", "web"]).run().fails(125, &["nothing to change"]);
    env.mydocker(["update", "-m", "1", "web"]).run().fails(125, &["6m"]);
    env.mydocker(["rm", "-f", "web"]).ok();
}

#[test]
fn prune_removes_what_does_not_run() {
    require!(Root);
    let env = TestEnv::with_busybox();
    detach(&env, "runs", &[], "exec sleep 1000");
    for name in ["a", "b"] {
        env.mydocker(["create", "--name", name, "--label", name, "busybox", "true"]).ok();
    }
    env.mydocker(["container", "prune"]).run().fails(125, &["nobody to ask", "--force"]);
    let pruned = env.mydocker(["container", "prune", "-f", "--filter", "label=a"]).run().success();
    assert_eq!(pruned.lines().len(), 1);
    assert!(pruned.stderr.contains("Total reclaimed space: "), "{}", pruned.report());
    env.mydocker(["container", "prune", "-f"]).ok();
    assert_eq!(env.containers().len(), 1);
    env.mydocker(["rm", "-f", "runs"]).ok();
}

#[test]
fn verbs_about_containers_have_dockers_longer_spelling() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let container = |args: &[&str]| env.mydocker(["container"]).args(args).run();
    let id =
        container(&["run", "-d", "--name", "web", "busybox", "sleep", "1000"]).success().stdout;
    container(&["exec", "-w", "/etc", "web", "pwd"]).success().prints("/etc\n");
    container(&["ls", "-q", "--no-trunc"]).success().prints(&id);
    container(&["inspect", "-f", "{{.Name}}", "web"]).success().prints("/web\n");
    container(&["inspect", "busybox"]).fails(1, &["no such container"]);
    container(&["rename", "web", "site"]).success();
    container(&["stop", "-t", "0", "site"]).success().prints("site\n");
    container(&["start", "site"]).success();
    container(&["kill", "site"]).success();
    container(&["wait", "site"]).success().prints("137\n");
    container(&["rm", "site"]).success();
    let told =
        env.mydocker(["system", "events", "--until", "0s", "--filter", "event=destroy"]).ok();
    assert!(told.contains(id.trim()), "{told}");
}
