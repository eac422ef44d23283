//! What detached containers have written, kept and shown.

use std::fs;

use serde_json::Value;

use crate::support::env::{TestEnv, names};
use crate::support::require::Need::Root;

fn detach(env: &TestEnv, options: &[&str], script: &str) -> String {
    let cmd = env.mydocker(["run", "-d", "--name", "web"]).args(options);
    cmd.args(["busybox", "sh", "-c", script]).ok().trim().to_owned()
}

#[test]
fn streams_stay_apart() {
    require!(Root);
    let env = TestEnv::with_busybox();
    detach(&env, &[], "echo out; echo err >&2; printf 'no newline'");
    env.mydocker(["wait", "web"]).ok();
    let logs = env.mydocker(["logs", "web"]).run().success().prints("out\nno newline");
    assert_eq!(logs.stderr, "err\n");
    env.mydocker(["rm", "web"]).ok();
}

#[test]
fn the_file_is_dockers_json_file() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let script = r#"printf 'a"\\\t\033<é>\n\377\n'; printf x >&2"#;
    let id = detach(&env, &[], script);
    env.mydocker(["wait", "web"]).ok();
    let path = env.root().join("containers").join(&id).join(format!("{id}-json.log"));
    let text = fs::read_to_string(path).unwrap();
    let entries: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let logs: Vec<_> = entries
        .iter()
        .map(|e| (e["stream"].as_str().unwrap(), e["log"].as_str().unwrap()))
        .collect();
    assert!(logs.contains(&("stdout", "a\"\\\t\u{1b}<é>\n")), "{logs:?}");
    assert!(logs.contains(&("stdout", "\u{fffd}\n")), "{logs:?}");
    assert!(logs.contains(&("stderr", "x")), "{logs:?}");
    for entry in &entries {
        assert!(entry["time"].as_str().unwrap().ends_with('Z'), "{entry}");
    }
    env.mydocker(["rm", "web"]).ok();
}

#[test]
fn tail_timestamps_and_times() {
    require!(Root);
    let env = TestEnv::with_busybox();
    detach(&env, &[], "for i in 1 2 3 4 5; do echo $i; sleep 0.05; done");
    env.mydocker(["wait", "web"]).ok();
    env.mydocker(["logs", "--tail", "2", "web"]).run().success().prints("4\n5\n");
    env.mydocker(["logs", "-n", "0", "web"]).run().success().prints("");
    env.mydocker(["logs", "-n", "99", "web"]).run().success().prints("1\n2\n3\n4\n5\n");
    let stamped = env.mydocker(["logs", "-t", "web"]).ok();
    let stamped: Vec<(&str, &str)> = stamped.lines().map(|l| l.split_once(' ').unwrap()).collect();
    let (time, third) = stamped[2];
    assert_eq!(third, "3");
    // On a busy machine the monitor may get two lines at once, which then have the same time.
    let same = |(at, _): &(&str, &str)| *at == time;
    let (first, last) =
        (stamped.iter().position(same).unwrap(), stamped.iter().rposition(same).unwrap());
    let text =
        |part: &[(&str, &str)]| part.iter().map(|(_, l)| format!("{l}\n")).collect::<String>();
    let (since, until) = (text(&stamped[first..]), text(&stamped[..=last]));
    env.mydocker(["logs", "--since", time, "web"]).run().success().prints(&since);
    env.mydocker(["logs", "--until", time, "web"]).run().success().prints(&until);
    env.mydocker(["logs", "--since", "0s", "web"]).run().success().prints("");
    env.mydocker(["logs", "--since", "1h", "-n", "1", "web"]).run().success().prints("5\n");
    env.mydocker(["logs", "--since", "soon", "web"]).run().fails(125, &["invalid time", "soon"]);
    env.mydocker(["logs", "--tail", "x", "web"]).run().fails(125, &["--tail", "x"]);
    env.mydocker(["rm", "web"]).ok();
}

#[test]
fn rotation_loses_and_tears_no_line_and_is_bounded() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let options = ["--log-opt", "max-size=20k", "--log-opt", "max-file=1000"];
    let id =
        detach(&env, &options, "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done");
    env.mydocker(["wait", "web"]).ok();
    let wanted: String = (0..3000).map(|i| format!("line {i}\n")).collect();
    assert_eq!(env.mydocker(["logs", "web"]).ok(), wanted);
    let folder = env.root().join("containers").join(&id);
    let files: Vec<_> = names(&folder).into_iter().filter(|n| n.contains("json.log")).collect();
    assert!(files.len() > 5, "{files:?}");
    for file in &files {
        let text = fs::read_to_string(folder.join(file)).unwrap();
        assert!(text.len() <= 20_000 && text.ends_with("\"}\n"), "{file}: {}", text.len());
    }
    let tail: String = (2000..3000).map(|i| format!("line {i}\n")).collect();
    assert_eq!(env.mydocker(["logs", "-n", "1000", "web"]).ok(), tail);
    env.mydocker(["rm", "web"]).ok();
    let id = detach(&env, &["--log-opt", "max-size=10k"], "yes 0123456789 | head -n 5000");
    env.mydocker(["wait", "web"]).ok();
    let folder = env.root().join("containers").join(&id);
    let files: Vec<_> = names(&folder).into_iter().filter(|n| n.contains("json.log")).collect();
    assert_eq!(files.len(), 3, "{files:?}");
    env.mydocker(["rm", "web"]).ok();
}

#[test]
fn following_goes_on_over_rotations_until_the_end() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let script =
        "read go; i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; printf end";
    let options = ["-i", "--log-opt", "max-size=20k", "--log-opt", "max-file=1000"];
    detach(&env, &options, script);
    let follow = env.mydocker(["logs", "-f", "web"]).start();
    env.mydocker(["attach", "web"]).input("go\n").run().success();
    let wanted: String =
        (0..2000).map(|i| format!("line {i}\n")).chain(["end".to_owned()]).collect();
    follow.finish().success().prints(&wanted);
    env.mydocker(["rm", "web"]).ok();
}

#[test]
fn a_line_as_long_as_it_likes() {
    require!(Root);
    let env = TestEnv::with_busybox();
    // Characters of two bytes, so that pieces of 16 KiB would tear one.
    detach(&env, &[], "printf x; i=0; while [ $i -lt 30000 ]; do printf é; i=$((i+1)); done; echo");
    env.mydocker(["wait", "web"]).ok();
    let wanted = format!("x{}\n", "é".repeat(30_000));
    assert!(env.mydocker(["logs", "web"]).ok() == wanted);
    env.mydocker(["rm", "web"]).ok();
}

#[test]
fn a_log_that_a_crash_has_torn_is_read_on() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let id = detach(&env, &[], "echo one");
    env.mydocker(["wait", "web"]).ok();
    let path = env.root().join("containers").join(&id).join(format!("{id}-json.log"));
    let mut text = fs::read_to_string(&path).unwrap();
    text.push_str("{\"log\":\"to");
    fs::write(&path, text).unwrap();
    env.mydocker(["logs", "web"]).run().success().prints("one\n");
    env.mydocker(["start", "-a", "web"]).ok();
    env.mydocker(["logs", "web"]).run().success().prints("one\none\n");
    env.mydocker(["rm", "web"]).ok();
}

#[test]
fn a_log_that_leads_elsewhere_is_refused() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let id = detach(&env, &[], "true");
    env.mydocker(["wait", "web"]).ok();
    let path = env.root().join("containers").join(&id).join(format!("{id}-json.log"));
    let secret = env.folder().join("secret");
    fs::write(&secret, "{\"log\":\"secret\",\"stream\":\"stdout\",\"time\":\"\"}\n").unwrap();
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&secret, &path).unwrap();
    env.mydocker(["logs", "web"]).run().fails(125, &["logs web", "symbolic links"]);
    env.mydocker(["start", "web"]).run().fails(1, &["start web", "symbolic links"]);
    let before = "{\"log\":\"secret\",\"stream\":\"stdout\",\"time\":\"\"}\n";
    assert_eq!(fs::read_to_string(&secret).unwrap(), before);
    env.mydocker(["logs", "../../etc/passwd"]).run().fails(1, &["no such container"]);
    env.mydocker(["rm", "web"]).ok();
}

#[test]
fn no_log_where_there_is_none() {
    require!(Root);
    let env = TestEnv::with_busybox();
    detach(&env, &["--log-driver", "none"], "echo out");
    env.mydocker(["wait", "web"]).ok();
    env.mydocker(["logs", "web"]).run().fails(1, &["web", "no log"]);
    env.mydocker(["rm", "web"]).ok();
    env.mydocker(["run", "--name", "web", "busybox", "true"]).ok();
    env.mydocker(["logs", "web"]).run().fails(1, &["web", "no log"]);
    env.mydocker(["rm", "web"]).ok();
    let cmd = env.mydocker(["run", "-d", "--log-opt", "max-size=x", "busybox", "true"]);
    cmd.run().fails(125, &["max-size=x"]);
}
