//! A container over several commands: made, started, signalled, held, changed and removed by one process each.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bundle::{Bundle, PROGRAM, Ran, is_cgroup2};
use crate::program::write_program;

/// A container with a folder of states of its own, which is removed by force in the end.
pub(crate) struct Container {
    pub(crate) bundle: Bundle,
}

impl Container {
    /// One that is not made yet.
    pub(crate) fn new(script: &str) -> Self {
        Self { bundle: Bundle::new(script) }
    }

    /// One that runs `script`.
    pub(crate) fn started(script: &str) -> Self {
        let container = Self::new(script);
        container.create(&[]);
        container.ok(&["start"]);
        container
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let (verb, options) = args.split_first().unwrap();
        let mut command = Command::new(PROGRAM);
        command.args(["oci", "--root"]).arg(self.states()).arg(verb).args(options);
        command.stdin(Stdio::null());
        command
    }

    pub(crate) fn states(&self) -> PathBuf {
        self.bundle.directory.join("states")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.states().join(&self.bundle.id).join(name)
    }

    /// Runs `args`, the verb first, with the container's name behind them.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        Ran::from(self.command(args).arg(&self.bundle.id).output().unwrap())
    }

    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{args:?}: {ran:?}");
        ran.out
    }

    /// Makes it. Its streams are files: pipes would be held open as long as it lives.
    pub(crate) fn create(&self, options: &[&str]) {
        let ran = self.try_create(options);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
    }

    pub(crate) fn try_create(&self, options: &[&str]) -> Ran {
        let bundle = &self.bundle;
        let text = serde_json::to_vec(&bundle.spec).unwrap();
        fs::write(bundle.directory.join("config.json"), text).unwrap();
        let file = |name| fs::File::create(bundle.directory.join(name)).unwrap();
        let mut command = self.command(&["create", "--bundle"]);
        command.arg(&bundle.directory).args(options).arg(&bundle.id);
        let status = command.stdout(file("out")).stderr(file("err")).status().unwrap();
        Ran { code: status.code().unwrap(), out: self.output(), err: self.read("err") }
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.bundle.directory.join(name)).unwrap()
    }

    /// What its program has printed.
    pub(crate) fn output(&self) -> String {
        self.read("out")
    }

    pub(crate) fn state(&self) -> Value {
        serde_json::from_str(&self.ok(&["state"])).unwrap()
    }

    pub(crate) fn status(&self) -> String {
        self.state()["status"].as_str().unwrap().to_owned()
    }

    fn pid(&self) -> String {
        self.state()["pid"].to_string()
    }

    pub(crate) fn exec(&self, options: &[&str], program: &[&str]) -> Ran {
        let mut command = self.command(&["exec"]);
        command.args(options).arg(&self.bundle.id).args(program);
        Ran::from(command.output().unwrap())
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.run(&["delete", "--force"]);
    }
}

/// Waits until `done`.
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "{what} did not come about");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) const FOR_EVER: &str = "echo begun; while :; do sleep 0.05; done";

#[test]
fn the_program_begins_with_start_and_everything_ends_with_delete() {
    let container = Container::new(FOR_EVER);
    container.create(&[]);
    let state = container.state();
    assert_eq!((&state["status"], &state["id"]), (&json!("created"), &json!(container.bundle.id)));
    assert_eq!(state["bundle"], json!(container.bundle.directory));
    assert_eq!(state["rootfs"], json!(container.bundle.root()));
    assert_eq!(state["owner"], "root");
    assert!(Path::new("/proc").join(state["pid"].to_string()).exists());
    assert_eq!(container.output(), "");
    assert!(container.run(&["start"]).code == 0 && container.status() == "running");
    until("output", || container.output() == "begun\n");
    let groups = fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
    assert!(groups.contains(&container.bundle.id));
    let again = container.run(&["start"]);
    assert_eq!((again.code, again.err.contains("it runs already")), (1, true), "{again:?}");
    container.ok(&["kill", "--all"]);
    let script = ["kill", &container.bundle.id, "KILL"];
    assert!(container.command(&script).status().unwrap().success());
    until("the end", || container.status() == "stopped");
    assert_eq!(container.pid(), "0");
    container.ok(&["delete"]);
    let gone = container.run(&["state"]);
    assert_eq!(gone.code, 1);
    assert!(gone.err.contains("does not exist"), "{gone:?}");
    let found =
        Command::new("find").args(["/sys/fs/cgroup", "-name", &container.bundle.id]).output();
    assert_eq!(found.unwrap().stdout, b"");
}

#[test]
fn what_a_command_needs_of_the_state_is_said_in_the_words_that_engines_look_for() {
    let container = Container::new(FOR_EVER);
    container.create(&[]);
    let refused = |args: &[&str], words: &str| {
        let ran = container.run(args);
        assert_eq!((ran.code, ran.err.contains(words)), (1, true), "{args:?} {ran:?}");
    };
    let twice = container.try_create(&[]);
    assert_eq!(twice.code, 1);
    assert!(twice.err.contains("container with given ID already exists"), "{twice:?}");
    refused(&["resume"], "container not paused");
    container.ok(&["start"]);
    refused(&["delete"], "it has not stopped");
    container.ok(&["delete", "--force"]);
    for command in ["start", "kill", "state", "pause", "delete", "ps", "exec"] {
        let ran = container.run(&[command]);
        assert_ne!(ran.code, 0, "{command}");
        assert!(ran.err.contains("does not exist"), "{command} {ran:?}");
    }
    container.ok(&["delete", "--force"]);
    let ended = Container::started("true");
    until("the end", || ended.status() == "stopped");
    for command in ["kill", "pause"] {
        let ran = ended.run(&[command]);
        assert!(ran.code == 1 && ran.err.contains("container not running"), "{ran:?}");
    }
}

#[test]
fn a_container_that_was_never_started_can_be_removed() {
    let container = Container::new(FOR_EVER);
    container.create(&[]);
    let pid = container.pid();
    container.ok(&["delete"]);
    until("the end", || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.is_empty() || status.contains("State:\tZ")
    });
    assert_eq!(container.output(), "");
}

#[test]
fn one_of_two_that_start_at_the_same_time_does() {
    let container = Container::new("echo begun; sleep 60");
    container.create(&[]);
    let start = || {
        let mut command = container.command(&["start", &container.bundle.id]);
        command.stderr(Stdio::null()).spawn().unwrap()
    };
    let started: Vec<bool> =
        [start(), start(), start()].map(|mut child| child.wait().unwrap().success()).into();
    assert_eq!(started.iter().filter(|started| **started).count(), 1, "{started:?}");
    until("output", || container.output() == "begun\n");
}

#[test]
fn another_process_with_the_same_number_is_left_alone() {
    let container = Container::started(FOR_EVER);
    // The kernel tells when a process began in hundredths of a second.
    std::thread::sleep(Duration::from_millis(50));
    let mut stranger = Command::new("sleep").arg("60").spawn().unwrap();
    let mut record: Value =
        serde_json::from_slice(&fs::read(container.file("state.json")).unwrap()).unwrap();
    let own = record.clone();
    record["pid"] = json!(stranger.id());
    fs::write(container.file("state.json"), record.to_string()).unwrap();
    assert_eq!(container.status(), "stopped");
    for args in [&["kill"][..], &["exec"], &["pause"]] {
        assert_ne!(container.run(args).code, 0, "{args:?}");
    }
    assert_eq!(stranger.try_wait().unwrap(), None);
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    fs::write(container.file("state.json"), own.to_string()).unwrap();
    assert_eq!(container.status(), "running");
}

#[test]
fn names_lead_nowhere_but_to_a_folder_of_their_own() {
    let container = Container::started(FOR_EVER);
    fs::create_dir(container.bundle.directory.join("other")).unwrap();
    for id in ["../other", "..", ".", "", "a/b", "/etc", "a b", "a\n"] {
        for verb in ["state", "delete", "kill", "start"] {
            let ran = Ran::from(container.command(&[verb, "--", id]).output().unwrap());
            assert_eq!(ran.code, 1, "{verb} {id:?} {ran:?}");
            assert!(ran.err.contains("invalid `container id`"), "{verb} {id:?} {ran:?}");
        }
    }
    assert!(container.bundle.directory.join("other").exists());
}

#[test]
fn what_lies_in_the_folder_is_for_its_owner_alone() {
    let container = Container::new(FOR_EVER);
    container.create(&[]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&container.states()), 0o700);
    assert_eq!(mode(&container.states().join(&container.bundle.id)), 0o700);
    assert!(container.file("init").exists());
    container.ok(&["start"]);
    assert!(!container.file("init").exists());
}

#[test]
fn a_program_that_is_not_there_is_told_by_create() {
    let mut container = Container::new("");
    for (program, cause) in [("no-such-program", "no such file"), ("/etc", "permission denied")] {
        container.bundle.set("/process/args", json!([program]));
        let ran = container.try_create(&[]);
        assert_eq!((ran.code, ran.err.contains(cause)), (1, true), "{ran:?}");
        assert_eq!(fs::read_dir(container.states()).unwrap().count(), 0);
    }
    // What only the execution finds out is told by start.
    write_program(&container.bundle.root().join("tmp/empty"), "");
    container.bundle.set("/process/args", json!(["/tmp/empty"]));
    container.create(&[]);
    let ran = container.run(&["start"]);
    let expected = "mydocker: execute `/tmp/empty`: the file is empty: exec format error\n";
    assert_eq!((ran.code, ran.err.as_str()), (1, expected));
}

#[test]
fn errors_are_lines_of_json_in_the_log() {
    let container = Container::new("");
    let log = container.bundle.directory.join("log");
    let log_path = log.to_str().unwrap();
    for _ in 0..2 {
        let mut command = Command::new(PROGRAM);
        command.args(["oci", "--log", log_path, "--log-format", "json", "state", "nobody"]);
        let ran = Ran::from(command.output().unwrap());
        assert!(ran.code == 1 && ran.err.starts_with("mydocker: container `nobody`"), "{ran:?}");
    }
    let text = fs::read_to_string(&log).unwrap();
    assert_eq!(text.lines().count(), 2);
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["level"], "error");
        assert_eq!(line["msg"], "container `nobody` does not exist");
        assert!(line["time"].as_str().unwrap().contains('T'));
    }
}

#[test]
fn the_first_process_is_written_down_for_whoever_asks() {
    let container = Container::new(FOR_EVER);
    let file = container.bundle.directory.join("pid");
    container.create(&["--pid-file", file.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(&file).unwrap(), container.pid());
    let listed: Value = serde_json::from_str(
        &Ran::from(container.command(&["list", "--format", "json"]).output().unwrap()).out,
    )
    .unwrap();
    assert_eq!(listed, json!([container.state()]));
    let quiet = Ran::from(container.command(&["list", "-q"]).output().unwrap());
    assert_eq!(quiet.out, format!("{}\n", container.bundle.id));
    let table = Ran::from(container.command(&["list"]).output().unwrap()).out;
    let words: Vec<Vec<&str>> = table.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(words[0], ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    assert_eq!(words[1][..3], [&container.bundle.id, &container.pid(), "created"]);
    let pids = container.ok(&["ps", "--format", "json"]);
    assert_eq!(pids.trim(), format!("[{}]", container.pid()));
    let table = container.ok(&["ps"]);
    assert_eq!(table.lines().count(), 2, "{table}");
    assert!(table.lines().nth(1).unwrap().contains(&container.pid()));
}

#[test]
fn a_held_container_does_nothing_and_goes_on() {
    let container = Container::started("while :; do echo x; sleep 0.01; done");
    until("output", || !container.output().is_empty());
    container.ok(&["pause"]);
    assert_eq!(container.status(), "paused");
    let held = container.output();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(container.output(), held);
    let ran = container.exec(&[], &["true"]);
    assert!(ran.code == 255 && ran.err.contains("it is paused"), "{ran:?}");
    container.ok(&["resume"]);
    assert_eq!(container.status(), "running");
    until("more output", || container.output() != held);
    container.ok(&["pause"]);
    container.ok(&["delete", "--force"]);
}

#[test]
fn limits_can_be_changed_and_use_is_told() {
    let mut container = Container::new(FOR_EVER);
    container.bundle.set("/linux/resources/memory", json!({"limit": 64 << 20}));
    container.create(&[]);
    container.ok(&["start"]);
    let id = container.bundle.id.clone();
    let group = |controller: &str, v1: &str, v2: &str| {
        let root = Path::new("/sys/fs/cgroup");
        let path = if is_cgroup2() {
            root.join("mydocker").join(&id).join(v2)
        } else {
            root.join(controller).join("mydocker").join(&id).join(v1)
        };
        fs::read_to_string(&path).unwrap().trim().to_owned()
    };
    let memory = || group("memory", "memory.limit_in_bytes", "memory.max");
    let pids = || group("pids", "pids.max", "pids.max");
    assert_eq!((memory().as_str(), pids().as_str()), ("67108864", "2048"));
    container.ok(&["update", "--pids-limit", "50", "--memory", "32m"]);
    assert_eq!((memory().as_str(), pids().as_str()), ("33554432", "50"));
    let mut command = container.command(&["update", "--resources", "-"]);
    let mut child = command.arg(&container.bundle.id).stdin(Stdio::piped()).spawn().unwrap();
    let resources = json!({"memory": {"limit": 128 << 20}, "pids": {"limit": 0}}).to_string();
    child.stdin.take().unwrap().write_all(resources.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!((memory().as_str(), pids().as_str()), ("134217728", "50"));
    let stats: Value = serde_json::from_str(&container.ok(&["events", "--stats"])).unwrap();
    assert_eq!((&stats["type"], &stats["id"]), (&json!("stats"), &json!(container.bundle.id)));
    let data = &stats["data"];
    assert_eq!(
        (&data["pids"]["limit"], &data["memory"]["usage"]["limit"]),
        (&json!(50), &json!(134_217_728))
    );
    assert!(data["pids"]["current"].as_u64().unwrap() >= 1);
    assert!(data["cpu"]["usage"]["total"].as_u64().unwrap() > 0);
    let refused = container.run(&["update", "--cpuset-cpus", "4095"]);
    assert_eq!(refused.code, 1, "{refused:?}");
}

#[test]
fn events_come_until_the_container_ends() {
    let container = Container::started(FOR_EVER);
    let mut command = container.command(&["events", "--interval", "50ms", &container.bundle.id]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 1];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    container.ok(&["delete", "--force"]);
    let mut rest = String::new();
    child.stdout.take().unwrap().read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(rest.lines().count() >= 2, "{rest}");
}
