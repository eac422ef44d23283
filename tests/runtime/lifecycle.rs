//! Beginning and end: exit codes, messages, signals, hooks.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use serde_json::json;

use crate::bundle::Bundle;
use crate::program::write_program;

#[test]
fn exit_codes_are_dockers() {
    let mut bundle = Bundle::new("exit 7");
    assert_eq!(bundle.run().code, 7);
    bundle.set("/process/args/2", json!("kill -9 $$"));
    // The first process of a PID namespace ignores its own signals.
    assert_eq!(bundle.run().code, 0);
    bundle.set("/process/args", json!(["no-such-program"]));
    let ran = bundle.run();
    assert_eq!(
        (ran.code, ran.err.as_str()),
        (
            127,
            "mydocker: executable file `no-such-program` not found in the container: no such file or directory\n"
        )
    );
    for (program, cause) in [
        ("/etc", "it is a directory: permission denied"),
        ("/tmp/plain", "permission denied"),
        ("/tmp/empty", "the file is empty: exec format error"),
    ] {
        fs::write(bundle.root().join("tmp/plain"), "x").unwrap();
        write_program(&bundle.root().join("tmp/empty"), "");
        bundle.set("/process/args", json!([program]));
        let ran = bundle.run();
        assert_eq!(ran.code, 126, "{ran:?}");
        let start = format!("mydocker: execute `{program}`: ");
        assert!(ran.err.starts_with(&start) && ran.err.contains(cause), "{ran:?}");
    }
}

#[test]
fn signals_reach_the_program() {
    let bundle =
        Bundle::new("trap 'echo got; exit 3' TERM; echo ready; while :; do sleep 0.05; done");
    let mut child = bundle.command().stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM).unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "got");
    assert_eq!(child.wait().unwrap().code(), Some(3));
}

#[test]
fn no_signal_is_blocked_or_ignored() {
    let mut bundle = Bundle::new("");
    bundle.set("/process/args", json!(["/bin/grep", "Sig", "/proc/self/status"]));
    let status = bundle.output();
    for name in ["SigBlk", "SigIgn"] {
        assert!(status.contains(&format!("{name}:\t0000000000000000")), "{status}");
    }
}

#[test]
fn messages_name_the_object() {
    let mut bundle = Bundle::new("true");
    bundle.bind("/no/such/source".as_ref(), "/x", &[]);
    assert_eq!(bundle.refusal(), "mydocker: open `/no/such/source`: no such file or directory\n");
    let mut bundle = Bundle::new("true");
    bundle.bind("/etc".as_ref(), "/bin/busybox", &[]);
    assert_eq!(bundle.refusal(), "mydocker: mount `/etc` on `/bin/busybox`: not a directory\n");
    let mut bundle = Bundle::new("true");
    if !std::path::Path::new("/sys/fs/resctrl/schemata").exists() {
        bundle.set("/linux/intelRdt", json!({}));
        let none = "invalid `linux.intelRdt`: there is no `resctrl` filesystem on /sys/fs/resctrl";
        assert_eq!(bundle.refusal(), format!("mydocker: {none}\n"));
    }
    let mut bundle = Bundle::new("true");
    bundle.set("/mounts/0/options", json!(["copy-symlink"]));
    assert_eq!(bundle.refusal(), "mydocker: unsupported `mounts[0].options `copy-symlink``\n");
    let mut bundle = Bundle::new("true");
    bundle.set("/process/capabilities/bounding", json!(["CAP_TELEPORT"]));
    let ran = bundle.run();
    assert_eq!(ran.err, "mydocker: warning: unknown capabilities are not granted: CAP_TELEPORT\n");
}

#[test]
fn hooks_run_in_their_places() {
    let mut bundle = Bundle::new("echo program");
    // Those of the container are run by its root, who is nobody here.
    let log = bundle.directory.join("log");
    fs::write(&log, "").unwrap();
    fs::set_permissions(&log, fs::Permissions::from_mode(0o666)).unwrap();
    let hook = |name: &str| {
        let script =
            format!("echo {name} $A $(readlink /proc/self/ns/mnt) $(cat) >>{}", log.display());
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["A=b", "PATH=/bin:/usr/bin"]}])
    };
    let mut hooks = json!({});
    for name in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
        hooks[name] = hook(name);
    }
    hooks["startContainer"] = json!([{"path": "/bin/touch", "args": ["touch", "/tmp/started"]}]);
    bundle.set("/hooks", hooks);
    assert_eq!(bundle.output(), "program\n");
    assert!(bundle.root().join("tmp/started").exists());
    let log = fs::read_to_string(&log).unwrap();
    let host = fs::read_link("/proc/self/ns/mnt").unwrap();
    let expected = [
        ("prestart", true, "created"),
        ("createRuntime", true, "creating"),
        ("createContainer", false, "creating"),
        ("poststart", true, "running"),
        ("poststop", true, "stopped"),
    ];
    assert_eq!(log.lines().count(), expected.len(), "{log}");
    for (line, (name, outside, status)) in log.lines().zip(expected) {
        let mut words = line.splitn(4, ' ');
        assert_eq!(words.next(), Some(name));
        assert_eq!(words.next(), Some("b"));
        assert_eq!(words.next() == host.to_str(), outside, "{line}");
        let state: serde_json::Value = serde_json::from_str(words.next().unwrap()).unwrap();
        assert_eq!((&state["status"], &state["id"]), (&json!(status), &json!(bundle.id)));
        assert!(state["pid"].as_i64().unwrap() > 1, "{line}");
    }
    bundle.set("/hooks", json!({"createContainer": [{"path": "/no/such/hook"}]}));
    assert_eq!(
        bundle.refusal(),
        "mydocker: run a hook `/no/such/hook`: no such file or directory\n"
    );
    bundle.set("/hooks", json!({"createRuntime": [{"path": "/bin/false"}]}));
    assert_eq!(bundle.refusal(), "mydocker: createRuntime hook `/bin/false` ended with status 1\n");
}

#[test]
fn nothing_is_left_behind() {
    let groups = |id: &str| {
        let found =
            std::process::Command::new("find").args(["/sys/fs/cgroup", "-name", id]).output();
        String::from_utf8(found.unwrap().stdout).unwrap()
    };
    let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    let before = mounts();
    let mut bundle = Bundle::new("true");
    bundle.output();
    bundle.set("/process/args", json!(["no-such-program"]));
    bundle.run();
    bundle.bind("/etc".as_ref(), "/bin/busybox", &[]);
    bundle.refusal();
    assert_eq!(groups(&bundle.id), "");
    assert_eq!(mounts(), before);
}
