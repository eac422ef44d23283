//! What `run` is attached to, and how its caller leaves.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::env::TestEnv;
use crate::support::pty::Pty;
use crate::support::require::Need::Root;
use crate::support::wait_for;

fn runs(env: &TestEnv, name: &str) -> bool {
    env.mydocker(["inspect", "-f", "{{.State.Running}}", name]).ok() == "true\n"
}

#[test]
fn the_keys_that_were_asked_for_leave_it_running() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let options = ["run", "--rm", "-it", "--detach-keys", "ctrl-a,d", "--name", "left"];
    let mut pty = Pty::start(env.mydocker(options).args(["busybox", "sh"]), 33, 111);
    pty.expect("# ");
    // Others are the program's.
    pty.send("stty size\n");
    pty.expect("33 111\r\n");
    pty.send("\x10\x11\necho still$((1 + 1))\n");
    pty.expect("still2\r\n");
    pty.send("\x01d");
    pty.expect("read escape sequence");
    assert_eq!(pty.finish(), 0);
    assert_eq!(pty.settings(), Pty::usual_settings());
    assert!(runs(&env, "left"));
    // It is removed by who watches it now.
    let mut pty = Pty::start(env.mydocker(["attach", "left"]), 24, 80);
    pty.send("exit 4\n");
    assert_eq!(pty.finish(), 4);
    wait_for("its removal", || env.containers().is_empty().then_some(()));
}

#[test]
fn the_usual_keys_leave_it_running() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let mut pty =
        Pty::start(env.mydocker(["run", "-it", "--name", "left", "busybox", "sh"]), 24, 80);
    pty.expect("# ");
    pty.send("echo said$((1 + 1))\n");
    pty.expect("said2\r\n");
    pty.send("\x10\x11");
    pty.expect("read escape sequence");
    assert_eq!(pty.finish(), 0);
    assert!(runs(&env, "left"));
    assert!(env.mydocker(["logs", "left"]).ok().contains("said2"));
    let told = ["events", "--stream=false", "-f", "event=detach", "--format", "{{.Type}}"];
    assert_eq!(env.mydocker(told).ok(), "container\n");
    let mut pty = Pty::start(env.mydocker(["attach", "left"]), 24, 80);
    pty.send("exit 4\n");
    assert_eq!(pty.finish(), 4);
    assert_eq!(env.mydocker(["inspect", "-f", "{{.State.ExitCode}}", "left"]).ok(), "4\n");
    env.mydocker(["rm", "left"]).ok();
}

#[test]
fn what_ended_the_program_is_said_to_who_is_attached() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let forbids = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["sethostname"], "action": "SCMP_ACT_KILL_PROCESS"}]}"#;
    std::fs::write(env.folder().join("forbids.json"), forbids).unwrap();
    let options = ["run", "--rm", "-it", "--security-opt", "seccomp=forbids.json"];
    let cmd = env.mydocker(options).args(["busybox", "hostname", "other"]);
    let mut pty = Pty::start(cmd, 24, 80);
    pty.expect("system call filter");
    assert_eq!(pty.finish(), 128 + Signal::SIGSYS as i32);
}

#[test]
fn signals_that_are_not_passed_on_leave_it_running() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let script = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.1; done";
    let start = |name: &str, option: &str| {
        let cmd = env.mydocker(["run", option, "--name", name, "busybox", "sh", "-c", script]);
        let mut pty = Pty::start(cmd, 24, 80);
        pty.expect("ready");
        kill(pty.pid(), Signal::SIGTERM).unwrap();
        pty.finish()
    };
    assert_eq!(start("own", "--sig-proxy=false"), 128 + Signal::SIGTERM as i32);
    assert!(runs(&env, "own"));
    assert_eq!(start("passed", "--sig-proxy"), 9);
    assert_eq!(start("watched", "--detach-keys=ctrl-a"), 9);
    env.mydocker(["rm", "-f", "own", "passed", "watched"]).ok();
}

#[test]
fn only_the_streams_that_were_asked_for_are_shown() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let script = "echo out; echo err >&2; exit 3";
    let run = |options: &[&str]| {
        let cmd = env.mydocker(["run", "--rm"]).args(options).args(["busybox", "sh", "-c", script]);
        let output = cmd.run().exits(3);
        (output.stdout, output.stderr)
    };
    let text = |out: &str, err: &str| (out.to_owned(), err.to_owned());
    assert_eq!(run(&["-a", "stdout"]), text("out\n", ""));
    assert_eq!(run(&["--attach", "STDERR"]), text("", "err\n"));
    assert_eq!(run(&["-a", "STDOUT", "-a", "stderr"]), text("out\n", "err\n"));
    wait_for("their removal", || env.containers().is_empty().then_some(()));
}

#[test]
fn input_alone_is_passed_on_until_it_ends() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let cmd = env.mydocker(["run", "-i", "-a", "stdin", "--name", "fed", "busybox"]);
    let script = "cat; echo behind; exec sleep 1000";
    let id = cmd.args(["sh", "-c", script]).input("fed\n").ok();
    assert_eq!(id.trim().len(), 64, "{id}");
    // The end of the input was the end of the program's.
    wait_for("the program's output", || {
        (env.mydocker(["logs", "fed"]).ok() == "fed\nbehind\n").then_some(())
    });
    assert!(runs(&env, "fed"));
    env.mydocker(["rm", "-f", "fed"]).ok();
    // What is not attached gets no end either.
    let cmd = env.mydocker(["run", "-i", "-a", "stdout", "--name", "open", "busybox"]);
    let cmd = cmd.args(["sh", "-c", "timeout 1 cat; echo $?"]).input("not for it\n");
    cmd.run().success().prints("143\n");
    env.mydocker(["rm", "-f", "open"]).ok();
}

#[test]
fn create_takes_the_streams_that_start_is_for() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let start = |options: &[&str]| {
        let create = env.mydocker(["create", "-i", "--name", "made"]).args(options);
        create.args(["busybox", "sh", "-c", "timeout 1 cat; echo $?"]).ok();
        let start = env.mydocker(["start", "-a", "-i", "made"]).input("line\n").ok();
        env.mydocker(["rm", "made"]).ok();
        start
    };
    assert_eq!(start(&["-a", "STDIN", "-a", "stdout"]), "line\n0\n");
    assert_eq!(start(&["--attach", "stdout"]), "line\n143\n");
    env.mydocker(["create", "-a", "nosuch", "busybox"]).run().exits(125).says("--attach");
}

#[test]
fn what_cannot_be_attached_to() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let run =
        |options: &[&str]| env.mydocker(["run"]).args(options).args(["busybox", "nosuch"]).run();
    run(&["-d", "-a", "stdout"]).fails(125, &["conflicting options: -a and -d"]);
    run(&["-a", "nosuch"]).exits(125).says("--attach");
    run(&["--detach-keys", "ctrl-"]).exits(125).says("ctrl-LETTER");
    // A program that is not there leaves nothing behind.
    run(&["-a", "stdout"]).fails(127, &["run busybox", "nosuch", "not found"]);
    assert_eq!(env.containers(), Vec::<String>::new());
}

#[test]
fn the_process_that_was_left_is_nobodys_child() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let cmd =
        env.mydocker(["run", "--sig-proxy=false", "--name", "on", "busybox", "sleep", "1000"]);
    let pty = Pty::start(cmd, 24, 80);
    let pid = env.wait_until_running("on");
    drop(pty);
    kill(Pid::from_raw(pid), None).unwrap();
    assert!(runs(&env, "on"));
    env.mydocker(["rm", "-f", "on"]).ok();
}
