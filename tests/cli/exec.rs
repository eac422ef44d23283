//! Further commands in running containers.

use crate::support::env::TestEnv;
use crate::support::pty::Pty;
use crate::support::require::Need::Root;
use crate::support::wait_for;

/// A running container called `box` with `options`.
fn start(env: &TestEnv, options: &[&str]) {
    let cmd = env.mydocker(["run", "-d", "--name", "box"]).args(options);
    cmd.args(["busybox", "sleep", "1000"]).ok();
}

fn end(env: &TestEnv) {
    env.mydocker(["rm", "-f", "box"]).ok();
}

#[test]
fn a_command_its_streams_and_its_exit_code() {
    require!(Root);
    let env = TestEnv::with_busybox();
    start(&env, &["--hostname", "inside", "-e", "FROM=run"]);
    let script = "hostname; echo $FROM; echo err >&2; exit 7";
    let output = env.mydocker(["exec", "box", "sh", "-c", script]).run().exits(7);
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("inside\nrun\n", "err\n"));
    let cat = env.mydocker(["exec", "-i", "box", "cat"]).input("from outside\n");
    cat.run().success().prints("from outside\n");
    env.mydocker(["exec", "box", "cat"]).input("not passed on").run().success().prints("");
    env.mydocker(["exec", "box", "sh", "-c", "kill -9 $$"]).run().exits(137);
    // It sees the container's processes and is one of them.
    let pids = env.mydocker(["exec", "box", "sh", "-c", "ls -d /proc/1 && cat /proc/1/comm"]).ok();
    assert_eq!(pids, "/proc/1\nsleep\n");
    end(&env);
}

#[test]
fn environment_folder_and_user() {
    require!(Root);
    let env = TestEnv::with_busybox();
    std::fs::write(env.folder().join("vars"), "# comment\nA=file\n\nB=file\n").unwrap();
    start(&env, &[]);
    let exec = |args: &[&str], script: &str| {
        let cmd = env.mydocker(["exec"]).args(args).args(["box", "sh", "-c", script]);
        cmd.env("COPIED", "caller").env("SECRET", "caller").ok()
    };
    let options = ["--env-file", "vars", "-e", "B=option", "-e", "COPIED"];
    assert_eq!(exec(&options, "echo $A $B $COPIED $SECRET"), "file option caller\n");
    assert_eq!(exec(&["-w", "/tmp"], "pwd"), "/tmp\n");
    assert_eq!(exec(&["-u", "1234:5678"], "id -u; id -g; echo $HOME"), "1234\n5678\n/\n");
    assert_eq!(exec(&["-u", "1"], "id -u; id -g"), "1\n1\n");
    assert_eq!(exec(&[], "id -u"), "0\n");
    let cmd = env.mydocker(["exec", "-u", "nosuch", "box", "true"]);
    cmd.run().fails(125, &["exec box", "no such user", "nosuch"]);
    end(&env);
}

#[test]
fn detached_it_runs_on() {
    require!(Root);
    let env = TestEnv::with_busybox();
    start(&env, &[]);
    let script = "while [ ! -e /go ]; do sleep 0.05; done; touch /done";
    env.mydocker(["exec", "-d", "box", "sh", "-c", script]).run().success().prints("");
    env.mydocker(["exec", "box", "touch", "/go"]).ok();
    wait_for("the detached command's end", || {
        (env.mydocker(["exec", "box", "ls", "/done"]).run().code() == Some(0)).then_some(())
    });
    end(&env);
}

#[test]
fn with_a_terminal() {
    require!(Root);
    let env = TestEnv::with_busybox();
    start(&env, &[]);
    let mut pty = Pty::start(env.mydocker(["exec", "-i", "-t", "box", "sh"]), 31, 101);
    pty.send("stty size; tty; echo $TERM\n");
    pty.expect("31 101");
    pty.expect("/dev/pts/");
    pty.expect("xterm");
    pty.send("exit 5\n");
    assert_eq!(pty.finish(), 5);
    env.mydocker(["exec", "-i", "-t", "box", "sh"]).run().fails(125, &["not a tty"]);
    end(&env);
}

#[test]
fn it_is_confined_as_the_container_is() {
    require!(Root);
    let env = TestEnv::with_busybox();
    start(&env, &["-m", "64m"]);
    let status = |options: &[&str]| {
        let cmd = env.mydocker(["exec"]).args(options);
        cmd.args(["box", "grep", "-E", "^(CapBnd|CapEff|Seccomp):", "/proc/self/status"]).ok()
    };
    let own =
        env.mydocker(["exec", "box", "grep", "-E", "^(CapBnd|CapEff|Seccomp):", "/proc/1/status"]);
    let plain = status(&[]);
    assert_eq!(plain, own.ok());
    assert!(plain.contains("Seccomp:\t2"), "{plain}");
    let privileged = status(&["--privileged"]);
    assert_ne!(privileged, plain);
    // Only the three standard descriptors, and the one that lists them.
    let fds = env.mydocker(["exec", "box", "sh", "-c", "ls /proc/self/fd | wc -l"]);
    fds.run().success().prints("4\n");
    let cgroup = env.mydocker(["exec", "box", "sh", "-c", "diff /proc/self/cgroup /proc/1/cgroup"]);
    cgroup.run().success();
    end(&env);
}

#[test]
fn not_where_nothing_runs() {
    require!(Root);
    let env = TestEnv::with_busybox();
    env.mydocker(["exec", "box", "true"]).run().fails(1, &["exec box", "no such container"]);
    env.mydocker(["create", "--name", "box", "busybox", "sleep", "1000"]).ok();
    env.mydocker(["exec", "box", "true"]).run().fails(1, &["exec box", "not running", "start"]);
    env.mydocker(["start", "box"]).ok();
    env.mydocker(["exec", "box", "nosuch"]).run().fails(127, &["exec box", "nosuch", "not found"]);
    env.mydocker(["exec", "box", "/etc"]).run().fails(126, &["exec box", "/etc"]);
    env.mydocker(["pause", "box"]).ok();
    env.mydocker(["exec", "box", "true"]).run().fails(1, &["exec box", "is paused", "unpause"]);
    end(&env);
}
