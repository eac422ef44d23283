//! `--init`: an init process in front of the program.

use std::fs;

use nix::sys::signal::Signal;

use crate::support::env::TestEnv;
use crate::support::pty::Pty;
use crate::support::require::Need::Root;
use crate::support::wait_for;

#[test]
fn the_program_is_the_second_process_and_ends_as_ever() {
    require!(Root);
    let env = TestEnv::with_busybox();
    for userns in ["private", "host"] {
        let with =
            |args: &[&str]| env.run(&[&["--init", "--userns", userns, "busybox"], args].concat());
        with(&["sh", "-c", "echo $$; exit 7"]).exits(7).prints("2\n");
        with(&["sh", "-c", "kill -9 $$"]).exits(137);
        with(&["sh", "-c", "kill -40 $$"]).exits(168);
        with(&["nosuch"]).fails(127, &["executable file `nosuch` not found"]);
        with(&["/etc/passwd"]).fails(126, &["/etc/passwd"]);
    }
    env.run(&["--init", "--pid", "host", "busybox", "sh", "-c", "exit 5"]).exits(5);
    assert_eq!(env.sh("echo $$"), "1\n");
    assert_eq!(env.containers(), Vec::<String>::new());
}

#[test]
fn the_init_process_is_no_more_than_the_program_and_tells_nothing_of_the_caller() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let script = "for f in Uid CapEff CapBnd NoNewPrivs Seccomp; do grep ^$f: /proc/1/status >/1; grep ^$f: /proc/self/status >/2; \
                  cmp /1 /2 || echo differs; done; tr '\\0' ' ' </proc/1/cmdline; cat /proc/1/environ | wc -c; ls /proc/1/fd | tr '\\n' ' '";
    let cmd = env.mydocker(["run", "--rm", "--init", "-e", "WORD=swordfish", "--cap-drop", "KILL"]);
    let cmd = cmd.args(["--security-opt", "no-new-privileges", "busybox", "sh", "-c", script]);
    let shown = cmd.env("CALLER", "secret").ok();
    // The descriptors are the streams, and that by which it waits for signals.
    assert_eq!(shown, "mydocker-init 2 0\n0 1 2 3 ");
}

#[test]
fn orphans_are_reaped() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let script = "(sh -c 'sleep 0.1 & echo $!' >/pid); p=$(cat /pid); while grep -q . /proc/$p/stat 2>/dev/null; do \
                  case $(cut -d ' ' -f 3 /proc/$p/stat) in Z) z=$((z + 1)); test $z = 50 && echo zombie && exit;; esac; sleep 0.02; done; echo gone";
    // A shell that is no init process lets its orphans be, which is what --init is for.
    let script = format!("exec sh -c '{}'", script.replace('\'', "'\\''"));
    assert_eq!(env.sh_with(&["--init"], &script), "gone\n");
}

#[test]
fn signals_reach_the_program_without_a_handler() {
    require!(Root);
    let env = TestEnv::with_busybox();
    // The first process of a PID namespace is deaf to what it has no handler for.
    let options = ["run", "-d", "--init", "--name", "c", "busybox", "sleep", "1000"];
    env.mydocker(options).ok();
    env.mydocker(["stop", "-t", "60", "c"]).ok();
    let code =
        || env.mydocker(["inspect", "-f", "{{.State.ExitCode}} {{.HostConfig.Init}}", "c"]).ok();
    assert_eq!(code(), "143 true\n");
    env.mydocker(["start", "c"]).ok();
    env.mydocker(["kill", "-s", "USR1", "c"]).ok();
    env.mydocker(["wait", "c"]).run().success().prints("138\n");
    env.mydocker(["rm", "c"]).ok();
    let run =
        env.mydocker(["run", "--rm", "--init", "--name", "f", "busybox", "sleep", "1000"]).start();
    env.wait_until_running("f");
    run.signal(Signal::SIGINT);
    run.finish().exits(130);
}

#[test]
fn the_init_process_is_small_and_ends_with_its_watcher() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let run = env.mydocker(["run", "--init", "--name", "c", "busybox", "sleep", "1000"]).start();
    let pid = env.wait_until_running("c");
    let rollup = wait_for("the init process", || {
        let cmdline = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        cmdline.starts_with("mydocker-init").then_some(rollup)
    });
    let private: u64 = rollup
        .lines()
        .filter(|line| line.starts_with("Private_Dirty"))
        .map(|line| line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap())
        .sum();
    assert!(private < 512, "{private} KB private");
    run.signal(Signal::SIGKILL);
    run.finish();
    let gone = || (!fs::exists(format!("/proc/{pid}/ns")).unwrap_or(false)).then_some(());
    wait_for("the end of the container", gone);
    env.mydocker(["rm", "-f", "c"]).ok();
}

#[test]
fn the_keys_of_a_terminal_go_to_the_program() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let cmd = env.mydocker(["run", "--rm", "-it", "--init", "busybox", "sh"]);
    let mut pty = Pty::start(cmd, 33, 111);
    pty.expect("# ");
    pty.send("sh -c 'echo before; exec sleep 1000'\n");
    pty.expect("\r\nbefore\r\n");
    pty.send("\x03");
    pty.expect("# ");
    pty.send("echo code $?\n");
    pty.expect("code 130\r\n");
}
