//! `run -it`: a terminal that behaves like the caller's own.

use nix::sys::signal::{Signal, kill};

use crate::support::env::TestEnv;
use crate::support::pty::Pty;
use crate::support::require::Need::Root;

fn shell(env: &TestEnv) -> Pty {
    let mut pty = Pty::start(env.mydocker(["run", "--rm", "-it", "busybox", "sh"]), 33, 111);
    pty.expect("# ");
    pty
}

#[test]
fn the_size_is_the_windows() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let mut pty = shell(&env);
    pty.send("stty size\n");
    pty.expect("33 111\r\n");
}

#[test]
fn the_size_follows_the_window() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let script = "trap 'echo now $(stty size)' WINCH; echo set; while :; do sleep 0.1; done";
    let mut pty =
        Pty::start(env.mydocker(["run", "--rm", "-it", "busybox", "sh", "-c", script]), 33, 111);
    pty.expect("set\r\n");
    for (rows, columns) in [(44, 122), (10, 40)] {
        pty.resize(rows, columns);
        pty.expect(&format!("now {rows} {columns}\r\n"));
    }
}

#[test]
fn it_is_a_terminal_of_the_containers_own() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let mut pty = shell(&env);
    pty.send("tty; test -t 0 && test -t 1 && test -t 2 && echo all three; echo end$((1 + 1))\n");
    let said = pty.expect("end2\r\n");
    assert!(said.contains("/dev/pts/0\r\n") || said.contains("/dev/console\r\n"), "{said}");
    assert!(said.contains("all three\r\n"), "{said}");
}

#[test]
fn ctrl_c_interrupts_what_is_in_the_foreground() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let mut pty = shell(&env);
    // What says so is in the foreground already; a shell of its own would still be on the way there.
    pty.send("sh -c 'echo before; exec sleep 1000'\n");
    pty.expect("\r\nbefore\r\n");
    pty.send("\x03");
    pty.expect("# ");
    pty.send("echo code $?\n");
    pty.expect("code 130\r\n");
}

#[test]
fn ctrl_d_ends_the_shell() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let mut pty = shell(&env);
    pty.send("(exit 3)\n");
    pty.expect("# ");
    pty.send("\x04");
    assert_eq!(pty.finish(), 3);
}

#[test]
fn ctrl_z_stops_a_job_and_job_control_works() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let mut pty = shell(&env);
    pty.send("sh -c 'echo before; exec sleep 1000'\n");
    pty.expect("\r\nbefore\r\n");
    pty.send("\x1a");
    pty.expect("Stopped");
    pty.send("kill -9 %1; sleep 0.2\n");
    pty.expect("Killed");
    pty.send("exit 0\n");
    assert_eq!(pty.finish(), 0);
}

#[test]
fn exit_codes() {
    require!(Root);
    let env = TestEnv::with_busybox();
    for code in [0, 3, 125, 126, 127] {
        let mut pty = shell(&env);
        pty.send(&format!("exit {code}\n"));
        assert_eq!(pty.finish(), code);
    }
    for (command, code) in [("/etc/passwd", 126), ("nosuchcommand", 127)] {
        let mut pty = Pty::start(env.mydocker(["run", "--rm", "-it", "busybox", command]), 24, 80);
        assert_eq!(pty.finish(), code, "{}", pty.transcript());
    }
}

#[test]
fn a_kill_is_137() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let cmd = env.mydocker(["run", "-it", "--rm", "--name", "killed", "busybox", "sleep", "1000"]);
    let mut pty = Pty::start(cmd, 24, 80);
    let pid = env.wait_until_running("killed");
    kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    assert_eq!(pty.finish(), 137);
}

#[test]
fn the_callers_terminal_is_as_before() {
    require!(Root);
    let env = TestEnv::with_busybox();
    // Ended by itself, with an error of its own, and by a signal from outside.
    for (command, signal) in
        [("true", None), ("nosuchcommand", None), ("cat", Some(Signal::SIGTERM))]
    {
        let cmd = env.mydocker(["run", "--rm", "-it", "--name", "raw", "busybox", command]);
        // The terminal is looked at before the program can have changed it, and by who made it.
        let mut pty = Pty::start(cmd, 24, 80);
        let usual = Pty::usual_settings();
        if let Some(signal) = signal {
            env.wait_until_running("raw");
            crate::support::wait_for("a terminal in raw mode", || {
                (pty.settings() != usual).then_some(())
            });
            kill(pty.pid(), signal).unwrap();
            // cat, as the first process, does not handle it; the end of its input ends it.
            pty.send("\x04");
        }
        pty.finish();
        assert_eq!(pty.settings(), usual, "{command}");
    }
}

#[test]
fn output_is_not_mangled() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let mut pty = shell(&env);
    pty.send("printf 'a\\tb\\033[31mred\\033[0m\\n'; echo end$((1 + 1))\n");
    let said = pty.expect("end2\r\n");
    assert!(said.contains("a\tb\x1b[31mred\x1b[0m\r\n"), "{said:?}");
}

#[test]
fn much_output_arrives_whole() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let mut pty =
        Pty::start(env.mydocker(["run", "--rm", "-it", "busybox", "seq", "1", "20000"]), 24, 80);
    assert_eq!(pty.finish(), 0);
    pty.expect("19999\r\n20000\r\n");
}

#[test]
fn a_terminal_without_a_terminal() {
    require!(Root);
    let env = TestEnv::with_busybox();
    env.run(&["-it", "busybox", "true"]).fails(125, &["not a TTY"]);
    // Without -i nothing is read from the caller, so a pipe will do.
    let output = env.run(&["-t", "busybox", "sh", "-c", "test -t 1 && echo terminal"]);
    output.success().prints("terminal\r\n");
}

#[test]
fn the_terminal_is_named_in_the_environment() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let mut pty = shell(&env);
    pty.send("echo TERM=$TERM.\n");
    pty.expect("TERM=xterm.\r\n");
}
