//! Signals sent to `mydocker run` reach the program inside.

use nix::sys::signal::Signal;

use crate::support::command::Running;
use crate::support::env::TestEnv;
use crate::support::require::Need::Root;

/// A shell inside that says which signal it got, and ends.
fn trap(env: &TestEnv) -> Running {
    let script = "for s in HUP INT QUIT USR1 USR2 TERM WINCH; do trap \"echo got $s; exit 9\" $s; done; \
                  touch /tmp/ready; while :; do sleep 0.1; done";
    let run =
        env.mydocker(["run", "--rm", "--name", "trap", "busybox", "sh", "-c", script]).start();
    let pid = env.wait_until_running("trap");
    // The shell has set its traps when it has made the file.
    let ready = format!("/proc/{pid}/root/tmp/ready");
    crate::support::wait_for("a shell with its traps set", || std::fs::metadata(&ready).ok());
    run
}

#[test]
fn signals_are_forwarded() {
    require!(Root);
    let env = TestEnv::with_busybox();
    for (signal, name) in [
        (Signal::SIGHUP, "HUP"),
        (Signal::SIGINT, "INT"),
        (Signal::SIGQUIT, "QUIT"),
        (Signal::SIGTERM, "TERM"),
        (Signal::SIGUSR1, "USR1"),
        (Signal::SIGUSR2, "USR2"),
    ] {
        let run = trap(&env);
        run.signal(signal);
        run.finish().exits(9).prints(&format!("got {name}\n"));
    }
}

#[test]
fn a_program_that_does_not_handle_it_is_terminated() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let run =
        env.mydocker(["run", "--name", "plain", "busybox", "sh", "-c", "sleep 1000; true"]).start();
    env.wait_until_running("plain");
    // The first process of a pid namespace ignores what it does not handle; SIGKILL by `rm -f` it cannot.
    env.mydocker(["rm", "-f", "plain"]).ok();
    run.finish().exits(137);
}

#[test]
fn stopped_and_continued() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let run = trap(&env);
    run.signal(Signal::SIGSTOP);
    run.signal(Signal::SIGCONT);
    run.signal(Signal::SIGTERM);
    run.finish().exits(9).prints("got TERM\n");
}

#[test]
fn a_reader_that_goes_away() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let mydocker = crate::support::env::program();
    let script = format!("'{}' run --rm busybox yes | head -n 1", mydocker.display());
    let cmd = crate::support::command::Cmd::new("sh").args(["-c", &script]);
    let cmd = cmd.env("MYDOCKER_ROOT", env.root()).env("MYDOCKER_RUN", env.folder().join("run"));
    cmd.run().success().prints("y\n");
}

#[test]
fn a_killed_run_takes_its_container_with_it() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let run = env.mydocker(["run", "--name", "left", "busybox", "sleep", "1000"]).start();
    let pid = env.wait_until_running("left");
    run.signal(Signal::SIGKILL);
    drop(run);
    let process = std::path::PathBuf::from(format!("/proc/{pid}"));
    crate::support::wait_for("the end of a container without its mydocker", || {
        (!process.exists()).then_some(())
    });
    assert_eq!(env.json(&["ps"]).len(), 0);
    assert_eq!(env.json(&["ps", "-a"])[0]["State"], "exited");
    env.mydocker(["rm", "left"]).ok();
}
