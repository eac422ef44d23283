//! Whether containers are well: what their probes say, and what is made of it.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::fake_registry::digest;
use crate::made::{architecture, tar_of};
use crate::support::env::{TestEnv, lives, names};
use crate::support::require::Need::Root;
use crate::support::{fixtures, wait_for};

const OFTEN: [&str; 4] = ["--health-interval", "100ms", "--health-retries", "2"];

fn detach(env: &TestEnv, options: &[&str]) {
    let cmd = env.mydocker(["run", "-d", "--name", "web"]).args(options);
    cmd.args(["busybox", "sleep", "1000"]).ok();
}

fn health(env: &TestEnv) -> Value {
    let text = env.mydocker(["inspect", "--format", "{{json .State.Health}}", "web"]).ok();
    serde_json::from_str(&text).unwrap()
}

#[track_caller]
fn becomes(env: &TestEnv, status: &str) -> Value {
    wait_for(status, || {
        let found = health(env);
        (found["Status"] == status).then_some(found)
    })
}

fn status(env: &TestEnv) -> String {
    env.mydocker(["ps", "-a", "--filter", "name=web", "--format", "{{.Status}}"]).ok()
}

fn exec(env: &TestEnv, script: &str) -> String {
    env.mydocker(["exec", "web", "sh", "-c", script]).ok()
}

/// Makes the image `name` of busybox's files and this part of a configuration.
fn with_config(env: &TestEnv, name: &str, config: &str) {
    let layer = fs::read(fixtures::path("busybox.tar")).unwrap();
    let layers = format!(r#"{{"type":"layers","diff_ids":["{}"]}}"#, digest(&layer));
    let head = format!(r#""architecture":"{}","os":"linux""#, architecture());
    let document =
        format!(r#"{{{head},"config":{{"Env":["PATH=/bin"],{config}}},"rootfs":{layers}}}"#);
    let (own, base) = ("a".repeat(64) + ".json", "b".repeat(64) + ".tar");
    let manifest = format!(r#"[{{"Config":"{own}","RepoTags":null,"Layers":["{base}"]}}]"#);
    let archive = tar_of(&[
        ("manifest.json", manifest.as_bytes()),
        (&own, document.as_bytes()),
        (&base, &layer),
    ]);
    let path = env.folder().join("archive.tar");
    fs::write(&path, archive).unwrap();
    env.mydocker(["import", "--quiet", "--force", "--name", name]).arg(path).ok();
}

#[test]
fn a_container_is_well_while_its_probe_says_so() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let script = "test -e /well && echo fine || { echo not so; echo bad >&2; exit 4; }";
    detach(&env, &[&OFTEN[..], &["--health-cmd", script]].concat());
    let found = becomes(&env, "unhealthy");
    assert!(found["FailingStreak"].as_i64().unwrap() >= 2, "{found}");
    let last = found["Log"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(last["ExitCode"], 4);
    assert_eq!(last["Output"], "not so\nbad\n");
    assert!(last["Start"].as_str() < last["End"].as_str(), "{last}");
    assert!(status(&env).contains("(unhealthy)"), "{}", status(&env));
    exec(&env, "touch /well");
    let found = becomes(&env, "healthy");
    assert_eq!(found["FailingStreak"], 0);
    assert!(status(&env).contains("(healthy)"), "{}", status(&env));
    wait_for("a full log", || (health(&env)["Log"].as_array()?.len() == 5).then_some(()));
    let filtered = |value: &str| env.mydocker(["ps", "-q", "--filter", value]).ok().lines().count();
    let counts = ["health=healthy", "health=unhealthy", "health=starting", "health=none"];
    assert_eq!(counts.map(filtered), [1, 0, 0, 0]);
    env.mydocker(["ps", "--filter", "health=nosuch"]).run().fails(125, &["filter", "starting"]);
    let told = env.mydocker(["events", "--until", "0s", "--filter", "event=health_status"]);
    let told = told.args(["--format", "{{.Action}}"]).ok();
    assert_eq!(told, "health_status: unhealthy\nhealth_status: healthy\n");
    env.mydocker(["rm", "-f", "web"]).ok();
}

#[test]
fn what_takes_too_long_is_killed_with_all_that_it_started() {
    require!(Root);
    let env = TestEnv::with_busybox();
    // One that leaves its session, and one whose parent has ended.
    let script = "(setsid sleep 4321 & sleep 4321 &) ; echo begun; sleep 4321";
    let options = ["--health-cmd", script, "--health-timeout", "300ms"];
    detach(&env, &[&OFTEN[..], &options].concat());
    let found = becomes(&env, "unhealthy");
    let last = &found["Log"][0];
    assert_eq!(last["ExitCode"], -1);
    assert_eq!(last["Output"], "Health check exceeded timeout (300ms): begun\n");
    // Some may belong to the next one. None of them outlives its time.
    env.mydocker(["pause", "web"]).ok();
    env.mydocker(["unpause", "web"]).ok();
    let processes = || {
        let list = env.mydocker(["top", "web"]).ok();
        list.lines().filter(|line| line.contains("sleep 4321")).count()
    };
    wait_for("an end of all", || (processes() == 0).then_some(()));
    env.mydocker(["rm", "-f", "web"]).ok();
}

#[test]
fn a_probe_that_ends_leaves_nothing_behind_either() {
    require!(Root);
    let env = TestEnv::with_busybox();
    detach(&env, &["--health-cmd", "sleep 4321 & true", "--health-interval", "1h"]);
    env.mydocker(["healthcheck", "run", "web"]).run().success().prints("");
    assert!(!env.mydocker(["top", "web"]).ok().contains("4321"));
    assert_eq!(health(&env)["Status"], "healthy");
    let id = env.mydocker(["ps", "-q", "--no-trunc"]).ok();
    let written = fs::read(env.folder().join("run").join(id.trim())).unwrap();
    let running: Value = serde_json::from_slice(&written).unwrap();
    for group in running["groups"].as_array().unwrap() {
        let below = names(group.as_str().unwrap().as_ref());
        assert!(!below.iter().any(|name| name.starts_with("health")), "{group}: {below:?}");
    }
    env.mydocker(["rm", "-f", "web"]).ok();
}

#[test]
fn one_can_ask_now() {
    require!(Root);
    let env = TestEnv::with_busybox();
    detach(&env, &["--health-cmd", "test -e /well", "--health-interval", "1h"]);
    env.mydocker(["healthcheck", "run", "web"]).run().exits(1).prints("unhealthy\n");
    assert_eq!(health(&env)["FailingStreak"], 1);
    exec(&env, "touch /well");
    env.mydocker(["healthcheck", "run", "web"]).run().success().prints("");
    assert_eq!(health(&env)["Status"], "healthy");
    env.mydocker(["pause", "web"]).ok();
    env.mydocker(["healthcheck", "run", "web"]).run().fails(125, &["web", "paused"]);
    env.mydocker(["rm", "-f", "web"]).ok();
    env.mydocker(["create", "--name", "web", "busybox", "true"]).ok();
    env.mydocker(["healthcheck", "run", "web"]).run().fails(125, &["web", "no health check"]);
    env.mydocker(["healthcheck", "run", "nosuch"]).run().fails(125, &["no such container"]);
    env.mydocker(["rm", "web"]).ok();
}

#[test]
fn failures_in_the_start_period_do_not_count() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let slow = ["--health-interval", "1h", "--health-retries", "1", "--health-cmd", "exit 1"];
    let start = ["--health-start-period", "1h", "--health-start-interval", "100ms"];
    detach(&env, &[&slow[..], &start].concat());
    let found = wait_for("some probes", || {
        let found = health(&env);
        (found["Log"].as_array()?.len() >= 3).then_some(found)
    });
    assert_eq!((&found["Status"], &found["FailingStreak"]), (&"starting".into(), &0.into()));
    assert!(status(&env).contains("(health: starting)"), "{}", status(&env));
    env.mydocker(["rm", "-f", "web"]).ok();
}

#[test]
fn what_is_paused_is_not_probed_and_what_is_started_again_begins_anew() {
    require!(Root);
    let env = TestEnv::with_busybox();
    detach(&env, &[&OFTEN[..], &["--health-cmd", "true"]].concat());
    becomes(&env, "healthy");
    env.mydocker(["pause", "web"]).ok();
    assert!(status(&env).contains("(Paused)"), "{}", status(&env));
    // One that was under way is held as well, and may end when it is let go.
    std::thread::sleep(std::time::Duration::from_millis(300));
    let before = health(&env)["Log"].as_array().unwrap().last().unwrap()["Start"].clone();
    std::thread::sleep(std::time::Duration::from_millis(700));
    assert_eq!(health(&env)["Log"].as_array().unwrap().last().unwrap()["Start"], before);
    env.mydocker(["unpause", "web"]).ok();
    wait_for("another probe", || {
        (health(&env)["Log"].as_array()?.last()?["Start"] != before).then_some(())
    });
    assert_eq!(health(&env)["Status"], "healthy");
    env.mydocker(["stop", "-t", "0", "web"]).ok();
    assert!(!status(&env).contains("healthy"), "{}", status(&env));
    assert_eq!(health(&env)["Status"], "healthy", "docker keeps what was known last");
    env.mydocker(["start", "web"]).ok();
    becomes(&env, "healthy");
    let first = health(&env)["Log"][0]["Start"].as_str().unwrap().to_owned();
    assert!(first.as_str() > before.as_str().unwrap(), "what was before is forgotten");
    env.mydocker(["rm", "-f", "web"]).ok();
}

#[test]
fn a_container_ends_whatever_its_probe_is_doing() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let probe = ["--health-cmd", "touch /begun; sleep 1000", "--health-interval", "100ms"];
    detach(&env, &probe);
    wait_for("a probe", || {
        let begun = env.mydocker(["exec", "web", "test", "-e", "/begun"]).run();
        (begun.code() == Some(0)).then_some(())
    });
    env.mydocker(["stop", "-t", "0", "web"]).ok();
    assert_eq!(health(&env)["Log"], Value::Array(Vec::new()), "it was not the container's fault");
    env.mydocker(["start", "web"]).ok();
    env.mydocker(["rm", "-f", "web"]).ok();
    wait_for("an empty run folder", || names(&env.folder().join("run")).is_empty().then_some(()));
}

#[test]
fn the_image_says_how_unless_the_user_does() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let image = |config: &str| with_config(&env, "checked", config);
    image(r#""Healthcheck":{"Test":["CMD","test","-e","/well"],"Interval":100000000,"Retries":2}"#);
    let check = |options: &[&str]| {
        let cmd = env.mydocker(["create", "--name", "web"]).args(options);
        cmd.args(["checked", "sleep", "1000"]).ok();
        let text = env.mydocker(["inspect", "--format", "{{json .Config.Healthcheck}}", "web"]);
        let found: Value = serde_json::from_str(&text.ok()).unwrap();
        env.mydocker(["rm", "web"]).ok();
        found
    };
    let found = check(&["--health-retries", "7"]);
    assert_eq!(found["Test"], serde_json::json!(["CMD", "test", "-e", "/well"]));
    assert_eq!((&found["Retries"], &found["Interval"]), (&7.into(), &100_000_000.into()));
    let found = check(&["--health-cmd", "true"]);
    assert_eq!(found["Test"], serde_json::json!(["CMD-SHELL", "true"]));
    assert_eq!(check(&["--no-healthcheck"])["Test"], serde_json::json!(["NONE"]));
    env.mydocker(["run", "-d", "--name", "web", "checked", "sleep", "1000"]).ok();
    becomes(&env, "unhealthy");
    env.mydocker(["rm", "-f", "web"]).ok();
    // What makes no sense checks nothing, and keeps nothing from running.
    for nonsense in [r#"{"Test":["NOSUCH"]}"#, r#"{"Test":null,"Interval":-1}"#, "null"] {
        image(&format!(r#""Healthcheck":{nonsense}"#));
        let cmd = env.mydocker(["run", "--rm", "checked", "true"]);
        cmd.run().success();
    }
}

#[test]
fn options_that_make_no_sense_together() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let refused = |options: &[&str], causes: &[&str]| {
        env.mydocker(["create"]).args(options).arg("busybox").run().fails(125, causes);
    };
    refused(&["--no-healthcheck", "--health-cmd", "true"], &["--no-healthcheck", "--health-"]);
    refused(&["--health-interval", "1us"], &["--health-interval", "1ms"]);
    refused(&["--health-interval", "soon"], &["--health-interval", "30s"]);
    refused(&["--health-timeout=-1s"], &["--health-timeout", "30s"]);
    refused(&["--health-retries=-1"], &["--health-retries"]);
    assert!(env.containers().is_empty());
}

#[test]
fn a_probe_that_cannot_be_run_says_why_and_much_output_is_cut() {
    require!(Root);
    let env = TestEnv::with_busybox();
    with_config(&env, "checked", r#""Healthcheck":{"Test":["CMD","nosuch"]}"#);
    env.mydocker(["run", "-d", "--name", "web", "checked", "sleep", "1000"]).ok();
    env.mydocker(["healthcheck", "run", "web"]).run().exits(1);
    let last = health(&env)["Log"][0].clone();
    assert_eq!(last["ExitCode"], -1);
    assert!(last["Output"].as_str().unwrap().contains("`nosuch` not found"), "{last}");
    env.mydocker(["rm", "-f", "web"]).ok();
    detach(&env, &["--health-cmd", "yes | head -c 100000"]);
    env.mydocker(["healthcheck", "run", "web"]).run().success();
    let output = health(&env)["Log"][0]["Output"].as_str().unwrap().to_owned();
    assert_eq!(output.len(), 4096 + "...".len());
    assert!(output.ends_with("y\n..."), "{}", &output[4080..]);
    env.mydocker(["rm", "-f", "web"]).ok();
}

#[test]
fn in_the_foreground_too() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let cmd = env.mydocker(["run", "--rm", "--name", "web"]).args(OFTEN);
    let run = cmd.args(["--health-cmd", "true", "busybox", "sleep", "1000"]).start();
    env.wait_until_running("web");
    becomes(&env, "healthy");
    run.signal(Signal::SIGKILL);
    drop(run);
    wait_for("the watcher's end", || watchers(&env).is_empty().then_some(()));
    env.mydocker(["rm", "-f", "web"]).ok();
}

/// The processes that have this store's containers probed.
fn watchers(env: &TestEnv) -> Vec<i32> {
    let root = env.root().to_string_lossy().into_owned();
    let is_one = |pid: &i32| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.contains("healthcheck\0watch") && line.contains(&root)
    };
    let pids = names("/proc".as_ref()).into_iter().filter_map(|name| name.parse().ok());
    pids.filter(is_one).collect()
}

#[test]
fn the_monitor_stays_small_alone_and_alive() {
    require!(Root);
    let env = TestEnv::with_busybox();
    detach(&env, &["--health-cmd", "true", "--health-interval", "100ms"]);
    // Pages of the program's file that two processes have are no longer one's own.
    env.mydocker(["run", "-d", "--name", "other", "busybox", "sleep", "1000"]).ok();
    wait_for("some probes", || (health(&env)["Log"].as_array()?.len() >= 5).then_some(()));
    for pid in env.monitors() {
        let private = crate::support::env::private_memory(pid);
        assert!(private < 1024, "{private} kB");
        assert_eq!(names(format!("/proc/{pid}/task").as_ref()).len(), 1);
    }
    // A probe that is killed from outside counts for nothing, and there is another one.
    let probe = wait_for("a probe", || {
        let root = env.root().to_string_lossy().into_owned();
        names("/proc".as_ref()).into_iter().filter_map(|name| name.parse().ok()).find(
            |pid: &i32| {
                let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                line.contains("healthcheck\0run") && line.contains(&root) && lives(*pid)
            },
        )
    });
    let _ = kill(Pid::from_raw(probe), Signal::SIGKILL);
    let before = health(&env)["Log"][4]["Start"].clone();
    wait_for("another probe", || (health(&env)["Log"][4]["Start"] != before).then_some(()));
    env.mydocker(["rm", "-f", "web", "other"]).ok();
}

#[test]
fn wait_for_more_than_the_end() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let wait = |options: &[&str]| env.mydocker(["wait", "-i", "10ms"]).args(options).start();
    let script = "touch /begun; sleep 0.3; touch /well; sleep 1000";
    let cmd = env.mydocker(["create", "--name", "web", "--health-cmd", "test -e /well"]);
    cmd.args(OFTEN).args(["busybox", "sh", "-c", script]).ok();
    wait(&["--condition", "created", "web"]).finish().success().prints("-1\n");
    let states = ["running", "healthy", "paused", "removing"];
    let waiting = states.map(|state| wait(&["--condition", state, "web"]));
    let ended = wait(&["--condition", "removing,stopped", "web"]);
    env.mydocker(["start", "web"]).ok();
    let [running, healthy, mut paused, mut gone] = waiting;
    running.finish().success().prints("-1\n");
    healthy.finish().success().prints("-1\n");
    assert_eq!(health(&env)["Status"], "healthy");
    assert!(!paused.has_ended() && !gone.has_ended());
    env.mydocker(["pause", "web"]).ok();
    paused.finish().success().prints("-1\n");
    env.mydocker(["stop", "-t", "0", "web"]).ok();
    ended.finish().success().prints("137\n");
    assert!(!gone.has_ended());
    env.mydocker(["rm", "web"]).ok();
    gone.finish().success().prints("-1\n");
    wait(&["--ignore", "web"]).finish().success().prints("-1\n");
    wait(&["web"]).finish().fails(1, &["no such container"]);
    wait(&["--condition", "nosuch", "web"]).finish().fails(125, &["nosuch", "healthy"]);
}
