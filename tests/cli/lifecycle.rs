//! Stopping, killing, pausing, renaming, attaching.

use crate::support::env::TestEnv;
use crate::support::pty::Pty;
use crate::support::require::Need::Root;
use crate::support::wait_for;

/// A container that says which signal it got and ends with 9; its traps are set when this returns.
fn trap(env: &TestEnv, options: &[&str]) -> i32 {
    let script = "for s in HUP INT QUIT USR1 TERM; do trap \"echo got $s; exit 9\" $s; done; \
                  touch /tmp/ready; while :; do sleep 0.1; done";
    let cmd = env.mydocker(["run", "-d", "--name", "trap"]).args(options);
    cmd.args(["busybox", "sh", "-c", script]).ok();
    let pid = env.wait_until_running("trap");
    let ready = format!("/proc/{pid}/root/tmp/ready");
    wait_for("a shell with its traps set", || std::fs::metadata(&ready).ok());
    pid
}

fn state(env: &TestEnv, name: &str) -> String {
    let all = env.json(&["ps", "-a"]);
    let found = all.iter().find(|container| container["Names"] == name).unwrap();
    found["State"].as_str().unwrap().to_owned()
}

#[test]
fn stop_asks_with_the_stop_signal() {
    require!(Root);
    let env = TestEnv::with_busybox();
    for (options, stop, name) in [
        (&[][..], &["stop", "trap"][..], "TERM"),
        (&["--stop-signal", "QUIT"], &["stop", "trap"], "QUIT"),
        (&[], &["stop", "-s", "SIGINT", "trap"], "INT"),
        (&[], &["kill", "-s", "1", "trap"], "HUP"),
    ] {
        trap(&env, options);
        env.mydocker(stop).run().success().prints("trap\n");
        env.mydocker(["wait", "trap"]).run().success().prints("9\n");
        assert_eq!(env.mydocker(["logs", "trap"]).ok(), format!("got {name}\n"));
        env.mydocker(["rm", "trap"]).ok();
    }
}

#[test]
fn stop_kills_what_does_not_end() {
    require!(Root);
    let env = TestEnv::with_busybox();
    env.mydocker([
        "run",
        "-d",
        "--name",
        "deaf",
        "--stop-timeout",
        "0",
        "busybox",
        "sleep",
        "1000",
    ])
    .ok();
    env.mydocker(["stop", "deaf"]).run().success().prints("deaf\n");
    env.mydocker(["wait", "deaf"]).run().success().prints("137\n");
    // Stopping what has ended is no error, killing it is.
    env.mydocker(["stop", "deaf"]).ok();
    env.mydocker(["kill", "deaf"]).run().fails(1, &["kill deaf", "not running"]);
    env.mydocker(["stop", "nosuch"]).run().fails(1, &["stop nosuch", "no such container"]);
    env.mydocker(["kill", "-s", "NOSUCH", "deaf"]).run().fails(125, &["nosuch", "signal"]);
    env.mydocker(["rm", "deaf"]).ok();
}

#[test]
fn restart_makes_another_process() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let first = trap(&env, &["--rm"]);
    env.mydocker(["restart", "trap"]).run().success().prints("trap\n");
    let second = env.wait_until_running("trap");
    assert_ne!(first, second);
    assert!(env.mydocker(["logs", "trap"]).ok().starts_with("got TERM\n"));
    // It is removed at its end still.
    env.mydocker(["stop", "-t", "0", "trap"]).ok();
    assert_eq!(env.containers(), Vec::<String>::new());
    env.mydocker(["create", "--name", "one", "busybox", "sleep", "1000"]).ok();
    env.mydocker(["restart", "one"]).ok();
    assert_eq!(state(&env, "one"), "running");
    env.mydocker(["rm", "-f", "one"]).ok();
}

#[test]
fn pause_holds_and_unpause_lets_go() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let script = "while :; do date +%s%N > /now; sleep 0.01; done";
    env.mydocker(["run", "-d", "--name", "clock", "busybox", "sh", "-c", script]).ok();
    let pid = env.wait_until_running("clock");
    let now = || std::fs::read_to_string(format!("/proc/{pid}/root/now")).unwrap_or_default();
    wait_for("a running clock", || (!now().is_empty()).then_some(()));
    env.mydocker(["pause", "clock"]).run().success().prints("clock\n");
    assert_eq!(state(&env, "clock"), "paused");
    let held = now();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(now(), held);
    env.mydocker(["pause", "clock"]).run().fails(1, &["clock", "is paused"]);
    env.mydocker(["start", "clock"]).run().fails(1, &["clock", "is paused", "unpause"]);
    env.mydocker(["unpause", "clock"]).run().success().prints("clock\n");
    wait_for("a clock that goes on", || (now() != held).then_some(()));
    env.mydocker(["unpause", "clock"]).run().fails(1, &["clock", "not paused"]);
    // What is paused can be stopped and removed.
    env.mydocker(["pause", "clock"]).ok();
    env.mydocker(["stop", "-t", "0", "clock"]).ok();
    env.mydocker(["start", "clock"]).ok();
    env.mydocker(["pause", "clock"]).ok();
    env.mydocker(["rm", "-f", "clock"]).ok();
    assert_eq!(env.containers(), Vec::<String>::new());
}

#[test]
fn rename_frees_the_old_name() {
    require!(Root);
    let env = TestEnv::with_busybox();
    env.mydocker(["run", "-d", "--name", "old", "busybox", "sleep", "1000"]).ok();
    env.mydocker(["create", "--name", "other", "busybox", "true"]).ok();
    env.mydocker(["rename", "old", "other"]).run().fails(125, &["other", "in use"]);
    env.mydocker(["rename", "old", "a/b"]).run().fails(125, &["container name"]);
    env.mydocker(["rename", "old", "new"]).ok();
    assert_eq!(state(&env, "new"), "running");
    env.mydocker(["stop", "-t", "0", "new"]).ok();
    env.mydocker(["create", "--name", "old", "busybox", "true"]).ok();
    env.mydocker(["rm", "old", "new", "other"]).ok();
}

#[test]
fn wait_for_several() {
    require!(Root);
    let env = TestEnv::with_busybox();
    for code in ["1", "2"] {
        let script = format!("sleep 0.2; exit {code}");
        env.mydocker(["run", "-d", "--name", &format!("c{code}"), "busybox", "sh", "-c", &script])
            .ok();
    }
    env.mydocker(["wait", "c2", "c1"]).run().success().prints("2\n1\n");
    env.mydocker(["rm", "c1", "c2"]).ok();
}

#[test]
fn port_prints_nothing_without_ports() {
    require!(Root);
    let env = TestEnv::with_busybox();
    env.mydocker(["create", "--name", "web", "busybox", "true"]).ok();
    env.mydocker(["port", "web"]).run().success().prints("");
    env.mydocker(["rm", "web"]).ok();
    env.mydocker(["port", "web"]).run().fails(1, &["no such container"]);
}

#[test]
fn attach_shows_output_passes_signals_and_gives_the_exit_code() {
    require!(Root);
    let env = TestEnv::with_busybox();
    trap(&env, &[]);
    let attached = env.mydocker(["attach", "trap"]).start();
    // Only one that is attached shows what comes.
    attached.wait_until_blocked(nix::sys::signal::Signal::SIGUSR1);
    attached.signal(nix::sys::signal::Signal::SIGUSR1);
    attached.finish().exits(9).prints("got USR1\n");
    env.mydocker(["attach", "trap"]).run().fails(1, &["attach trap", "not running"]);
    env.mydocker(["rm", "trap"]).ok();
}

#[test]
fn a_terminal_is_left_by_keys_and_found_again() {
    require!(Root);
    let env = TestEnv::with_busybox();
    env.mydocker(["run", "-d", "-i", "-t", "--name", "shell", "busybox", "sh"]).ok();
    let mut pty = Pty::start(env.mydocker(["attach", "shell"]), 30, 100);
    pty.send("echo $((6*7)); stty size\n");
    pty.expect("42");
    pty.expect("30 100");
    pty.send("\u{10}\u{11}");
    pty.expect("read escape sequence");
    assert_eq!(pty.finish(), 0);
    assert_eq!(state(&env, "shell"), "running");
    let mut pty =
        Pty::start(env.mydocker(["attach", "--detach-keys", "ctrl-x,x", "shell"]), 24, 80);
    pty.send("echo $((6*8))\n");
    pty.expect("48");
    pty.send("exit 6\n");
    assert_eq!(pty.finish(), 6);
    env.mydocker(["rm", "shell"]).ok();
}

#[test]
fn a_client_that_is_stopped_takes_nobody_with_it() {
    require!(Root);
    let env = TestEnv::with_busybox();
    env.mydocker(["run", "-d", "--name", "loud", "busybox", "yes"]).ok();
    let attached = env.mydocker(["attach", "loud"]).start();
    attached.wait_until_blocked(nix::sys::signal::Signal::SIGUSR1);
    attached.signal(nix::sys::signal::Signal::SIGSTOP);
    env.mydocker(["rm", "-f", "loud"]).ok();
    // Its monitor, which sees its client off, does not keep the name from another one.
    env.run(&["--name", "loud", "busybox", "true"]).success();
    attached.signal(nix::sys::signal::Signal::SIGKILL);
}
