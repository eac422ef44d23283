//! What is told of all that happens.

use std::fs::{self, OpenOptions};
use std::io::Write as _;

use serde_json::Value;

use crate::support::command::Cmd;
use crate::support::env::TestEnv;
use crate::support::pty::Pty;
use crate::support::require::Need::Root;
use crate::support::wait_for;

/// What has happened so far, in order: `container start`, ….
fn actions(env: &TestEnv, options: &[&str]) -> Vec<String> {
    let cmd = env.mydocker(["events", "--stream=false", "--format", "{{.Type}} {{.Action}}"]);
    cmd.args(options).ok().lines().map(str::to_owned).collect()
}

fn events(env: &TestEnv, options: &[&str]) -> Vec<Value> {
    let cmd = env.mydocker(["events", "--until", "0s", "--format", "json"]).args(options);
    cmd.ok().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_containers_life_is_told_in_dockers_words() {
    require!(Root);
    let env = TestEnv::with_busybox();
    env.mydocker(["run", "-d", "--name", "web", "-l", "tier=front", "busybox", "sleep", "1000"])
        .ok();
    env.mydocker(["exec", "web", "sh", "-c", "exit 3"]).run().exits(3);
    env.mydocker(["pause", "web"]).ok();
    env.mydocker(["unpause", "web"]).ok();
    env.mydocker(["rename", "web", "site"]).ok();
    env.mydocker(["update", "--pids-limit", "100", "site"]).ok();
    env.mydocker(["restart", "-t", "0", "site"]).ok();
    env.mydocker(["kill", "-s", "USR1", "site"]).ok();
    env.mydocker(["stop", "-t", "0", "site"]).ok();
    env.mydocker(["rm", "site"]).ok();
    let told = actions(&env, &["--filter", "type=container"]);
    let told: Vec<&str> = told.iter().map(|line| line.trim_start_matches("container ")).collect();
    let wanted = [
        "create",
        "start",
        "exec_create: sh -c exit 3",
        "exec_start: sh -c exit 3",
        "exec_die",
        "pause",
        "unpause",
        "rename",
        "update",
        "kill",
        "kill",
        "die",
        "start",
        "restart",
        "kill",
        "kill",
        "kill",
        "die",
        "stop",
        "destroy",
    ];
    assert_eq!(told, wanted);
    let all = events(&env, &[]);
    let find = |action: &str| all.iter().find(|event| event["Action"] == action).unwrap();
    let start = find("start");
    assert_eq!(start["Type"], "container");
    assert_eq!(start["status"], "start");
    assert_eq!(start["from"], "busybox");
    assert_eq!(start["scope"], "local");
    assert_eq!(start["id"], start["Actor"]["ID"]);
    let attributes = &start["Actor"]["Attributes"];
    assert_eq!(attributes["name"], "web");
    assert_eq!(attributes["image"], "busybox");
    assert_eq!(attributes["tier"], "front");
    let nano = start["timeNano"].as_i64().unwrap();
    assert_eq!(nano / 1_000_000_000, start["time"].as_i64().unwrap());
    assert_eq!(find("exec_die")["Actor"]["Attributes"]["exitCode"], "3");
    assert_eq!(find("rename")["Actor"]["Attributes"]["oldName"], "/web");
    assert_eq!(find("rename")["Actor"]["Attributes"]["name"], "site");
    assert_eq!(find("die")["Actor"]["Attributes"]["exitCode"], "137");
    assert_eq!(find("kill")["Actor"]["Attributes"]["signal"], "15");
}

#[test]
fn a_foreground_run_and_what_is_removed_at_its_end_are_told_too() {
    require!(Root);
    let env = TestEnv::with_busybox();
    env.run(&["busybox", "sh", "-c", "exit 4"]).exits(4);
    env.run(&["busybox", "nosuch"]).exits(127);
    env.mydocker(["run", "-d", "--rm", "--name", "web", "busybox", "sleep", "0.2"]).ok();
    wait_for("its removal", || env.containers().is_empty().then_some(()));
    let life = ["create", "attach", "start", "die", "destroy"];
    let detached = ["create", "start", "die", "destroy"];
    let wanted: Vec<String> = life
        .iter()
        .chain(&["create", "destroy"])
        .chain(&detached)
        .map(|action| format!("container {action}"))
        .collect();
    wait_for("the last event", || {
        (actions(&env, &["--filter", "type=container"]) == wanted).then_some(())
    });
    let dead = events(&env, &["--filter", "event=die"]);
    assert_eq!(dead[0]["Actor"]["Attributes"]["exitCode"], "4");
}

#[test]
fn what_happens_to_images_is_told() {
    require!(Root);
    let env = TestEnv::with_busybox();
    env.mydocker(["tag", "busybox", "other:v1"]).ok();
    env.mydocker(["save", "-o", "image.tar", "other:v1"]).ok();
    env.mydocker(["rmi", "other:v1"]).ok();
    env.mydocker(["load", "-i", "image.tar"]).ok();
    env.mydocker(["rmi", "other:v1"]).ok();
    env.mydocker(["rmi", "busybox"]).ok();
    let told = ["import", "tag", "save", "untag", "load", "untag", "untag", "delete"];
    let told: Vec<String> = told.iter().map(|action| format!("image {action}")).collect();
    assert_eq!(actions(&env, &[]), told);
}

#[test]
fn what_is_done_with_a_container_is_told() {
    require!(Root);
    let env = TestEnv::with_busybox();
    env.mydocker(["run", "-d", "--name", "web", "busybox", "sleep", "1000"]).ok();
    fs::write(env.folder().join("file"), "x").unwrap();
    let mark = || actions(&env, &["--filter", "container=web"]).len();
    let before = mark();
    env.mydocker(["cp", "web:/etc/hosts", "hosts"]).ok();
    env.mydocker(["cp", "web:/etc/hosts", "-"]).ok();
    env.mydocker(["cp", "file", "web:/tmp"]).ok();
    let tar = Cmd::new("tar").args(["-c", "file"]).current_dir(env.folder()).run().stdout;
    env.mydocker(["cp", "-", "web:/tmp"]).input(tar).ok();
    env.mydocker(["cp", "nosuch", "web:/tmp"]).run().exits(1);
    env.mydocker(["top", "web"]).ok();
    env.mydocker(["export", "-o", "web.tar", "web"]).ok();
    env.mydocker(["commit", "-m", "why", "web", "made"]).ok();
    let told = actions(&env, &["--filter", "container=web"]).split_off(before);
    let wanted = [
        "archive-path",
        "archive-path",
        "extract-to-dir",
        "extract-to-dir",
        "top",
        "export",
        "commit",
    ];
    assert_eq!(told, wanted.map(|action| format!("container {action}")));
    let commit = &events(&env, &["--filter", "event=commit"])[0]["Actor"]["Attributes"];
    assert_eq!((&commit["comment"], &commit["imageRef"]), (&"why".into(), &"made".into()));
    let mut pty = Pty::start(env.mydocker(["run", "-it", "--rm", "busybox", "true"]), 33, 111);
    pty.finish();
    let resize = &events(&env, &["--filter", "event=resize"])[0]["Actor"]["Attributes"];
    assert_eq!((&resize["height"], &resize["width"]), (&"33".into(), &"111".into()));
    env.mydocker(["rm", "-f", "web"]).ok();
}

#[test]
fn what_happens_to_volumes_and_what_is_pruned_is_told() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let told = || actions(&env, &["--filter", "type=volume"]);
    let volumes = ["-v", "data:/data:ro", "-v", "/anonymous"];
    env.run(&[&volumes[..], &["busybox", "true"]].concat()).success();
    let wanted = ["create", "create", "mount", "mount", "unmount", "unmount", "destroy"];
    assert_eq!(told(), wanted.map(|action| format!("volume {action}")));
    let mounted = &events(&env, &["--filter", "volume=data", "--filter", "event=mount"])[0];
    let attributes = &mounted["Actor"]["Attributes"];
    let run = &events(&env, &["--filter", "event=start"])[0]["id"];
    assert_eq!((&attributes["container"], &attributes["destination"]), (run, &"/data".into()));
    assert_eq!(
        (&attributes["read/write"], &attributes["driver"]),
        (&"false".into(), &"local".into())
    );
    env.mydocker(["run", "-d", "--name", "web", "-v", "data:/data", "busybox", "true"]).ok();
    env.mydocker(["wait", "web"]).ok();
    wait_for("the volume to be let go", || (told().len() == wanted.len() + 2).then_some(()));
    env.mydocker(["container", "prune", "-f"]).ok();
    env.mydocker(["volume", "prune", "-a", "-f"]).ok();
    env.mydocker(["image", "prune", "-a", "-f", "--dry-run"]).ok();
    env.mydocker(["image", "prune", "-a", "-f"]).ok();
    let pruned = actions(&env, &["--filter", "event=prune"]);
    assert_eq!(pruned, ["container prune", "volume prune", "image prune"]);
    let freed = &events(&env, &["--filter", "event=prune"])[2]["Actor"]["Attributes"]["reclaimed"];
    assert!(freed.as_str().unwrap().parse::<u64>().unwrap() > 1_000_000, "{freed}");
}

#[test]
fn filters_choose_as_dockers_do() {
    require!(Root);
    let env = TestEnv::with_busybox();
    for name in ["a", "b"] {
        let label = format!("which={name}");
        env.mydocker(["create", "--name", name, "-l", &label, "busybox", "true"]).ok();
        env.mydocker(["start", "-a", name]).ok();
    }
    let count = |options: &[&str]| events(&env, options).len();
    assert_eq!(count(&["--filter", "container=a", "--filter", "event=die"]), 1);
    assert_eq!(count(&["--filter", "container=a", "--filter", "container=b"]), 8);
    assert_eq!(count(&["--filter", "label=which=b"]), 4);
    assert_eq!(count(&["--filter", "label=which"]), 8);
    assert_eq!(count(&["--filter", "label=which=b", "--filter", "label=which=a"]), 0);
    assert_eq!(count(&["--filter", "image=busybox", "--filter", "type=container"]), 8);
    assert_eq!(count(&["--filter", "type=image"]), 1);
    assert_eq!(count(&["--since", "0s"]), 0);
    let old = env.mydocker(["events", "--until", "1h"]).ok();
    assert_eq!(old, "", "nothing is so old");
    for bad in ["nosuch=a", "container"] {
        env.mydocker(["events", "--filter", bad]).run().fails(125, &["events", bad, "filter"]);
    }
    env.mydocker(["events", "--until", "nonsense"]).run().fails(125, &["events", "nonsense"]);
    let text = env.mydocker(["events", "--until", "0s", "--filter", "event=create"]).ok();
    let first = text.lines().next().unwrap();
    let id = &env.mydocker(["ps", "-aq", "--no-trunc", "--filter", "name=a"]).ok();
    let end = format!(" container create {} (image=busybox, name=a, which=a)", id.trim());
    assert!(first.ends_with(&end), "{first}");
    let time = first.split(' ').next().unwrap();
    assert_eq!(time.len(), "2026-01-02T03:04:05.123456789Z".len(), "{time}");
    env.mydocker(["rm", "a", "b"]).ok();
}

#[test]
fn events_are_followed_over_files_that_are_put_aside() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let program = crate::support::env::program();
    let script = "exec \"$0\" events --format '{{.Action}} {{.ID}}' >shown";
    let follower = Cmd::new("sh").args(["-c", script]).arg(program).current_dir(env.folder());
    let follower = follower.env("MYDOCKER_ROOT", env.root()).start();
    let shown = |count: usize| {
        wait_for("an event", || {
            let text = fs::read_to_string(env.folder().join("shown")).unwrap_or_default();
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            (lines.len() >= count).then_some(lines)
        })
    };
    // Only what happens from now on is shown, and when that is nobody knows: until the first is seen.
    let log = env.root().join("events.log");
    let tag = |name: &str| drop(env.mydocker(["tag", "busybox", name]).ok());
    let pid = follower.pid();
    wait_for("a watch", || {
        let open = crate::support::env::names(format!("/proc/{pid}/fd").as_ref());
        open.iter()
            .any(|fd| {
                let to = fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap_or_default();
                to == log
            })
            .then_some(())
    });
    tag("first");
    assert!(shown(1)[0].starts_with("tag sha256:"), "{:?}", shown(1));
    // So full that it is put aside, with a line that is none at its end.
    let mut file = OpenOptions::new().append(true).open(&log).unwrap();
    file.write_all(&b"{\"status\":\"torn\n".repeat(80_000)).unwrap();
    tag("second");
    assert!(env.root().join("events.log.1").exists());
    assert!(fs::metadata(&log).unwrap().len() < 1000);
    shown(2);
    // By one who had it open before it was put aside.
    let mut late = events(&env, &[]).pop().unwrap();
    late["Action"] = "late".into();
    file.write_all(format!("{late}\n").as_bytes()).unwrap();
    tag("third");
    let all = shown(4);
    let count = |action: &str| all.iter().filter(|line| line.starts_with(action)).count();
    assert_eq!((count("tag "), count("late ")), (3, 1), "{all:?}");
    drop(follower);
}

#[test]
fn many_writers_keep_their_lines_apart_and_lose_none() {
    require!(Root);
    let env = TestEnv::with_busybox();
    // Near the limit, so that the file is put aside in the middle of it all.
    let log = env.root().join("events.log");
    let line = fs::read(&log).unwrap();
    let filled = line.repeat((1 << 20) / line.len() - 20);
    fs::write(&log, &filled).unwrap();
    let before = events(&env, &[]).len();
    let tags: Vec<_> = (0..60)
        .map(|n| env.mydocker(["--no-sync", "tag", "busybox", &format!("n{n}")]).start())
        .collect();
    tags.into_iter().for_each(|tag| drop(tag.finish().success()));
    let told = events(&env, &[]);
    assert_eq!(told.len(), before + 60);
    let mut names: Vec<_> = told.iter().filter(|event| event["Action"] == "tag").collect();
    names.dedup_by_key(|event| event["Actor"]["Attributes"]["name"].to_string());
    assert_eq!(names.len(), 60);
    assert!(env.root().join("events.log.1").exists());
}

#[test]
fn an_event_that_cannot_be_written_fails_nothing() {
    require!(Root);
    let env = TestEnv::with_busybox();
    fs::remove_file(env.root().join("events.log")).unwrap();
    // A name that leads elsewhere is not followed either.
    let elsewhere = env.folder().join("elsewhere");
    std::os::unix::fs::symlink(&elsewhere, env.root().join("events.log")).unwrap();
    env.run(&["busybox", "true"]).success();
    assert!(!elsewhere.exists());
    // Labels that nobody could read are left out of an event.
    fs::remove_file(env.root().join("events.log")).unwrap();
    let label = format!("long={}", "x".repeat(20_000));
    env.mydocker(["create", "--name", "web", "-l", &label, "busybox", "true"]).ok();
    let told = events(&env, &[]);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["Actor"]["Attributes"]["long"], Value::Null);
    assert_eq!(told[0]["Actor"]["Attributes"]["name"], "web");
    env.mydocker(["rm", "web"]).ok();
}

#[test]
fn until_a_moment_to_come_events_are_awaited() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let until = time_in(10);
    let follower = env.mydocker(["events", "--until", &until, "--format", "{{.Action}}"]).start();
    env.mydocker(["tag", "busybox", "other"]).ok();
    follower.finish().success().prints("import\ntag\n");
}

/// So many seconds from now, in seconds since 1970.
fn time_in(seconds: u64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    (now.as_secs() + seconds).to_string()
}
