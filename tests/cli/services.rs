//! Services as people run them: made of Debian's packages, detached, with their data in a folder of the host's.

use std::fs;
use std::os::unix::fs::chown;

use nix::sys::signal::Signal;

use crate::support::command::Cmd;
use crate::support::env::{TestEnv, program};
use crate::support::fixtures;
use crate::support::require::Need::{Root, Service};
use crate::support::systemd::Machine;
use crate::support::wait_for;

/// A store with the image of a service, and a folder `data` that the service's user owns.
fn with(service: &str) -> TestEnv {
    let env = TestEnv::new();
    let import = env.mydocker(["--no-sync", "import", "-q", "--name", service]);
    import.arg(fixtures::path(service)).ok();
    let data = env.folder().join("data");
    fs::create_dir(&data).unwrap();
    chown(&data, Some(900), Some(900)).unwrap();
    env
}

/// Starts a container called `box` from a shell that is then killed, so that nothing of whoever started it lives on.
fn start(env: &TestEnv, args: &[&str]) {
    let script = "\"$@\" >id && exec sleep 1000";
    let _ = fs::remove_file(env.folder().join("id"));
    let cmd = env.mydocker(["x"]).into_command();
    let mut sh = Cmd::new("sh").args(["-c", script, "sh"]).arg(program());
    sh = sh.args(["run", "-d", "--name", "box"]).args(args).current_dir(env.folder());
    for (name, value) in cmd.get_envs() {
        sh = sh.env(name, value.unwrap());
    }
    let starter = sh.start();
    wait_for("the container's id", || {
        let id = fs::read_to_string(env.folder().join("id")).unwrap_or_default();
        (id.len() > 64).then_some(())
    });
    starter.signal(Signal::SIGKILL);
    drop(starter.finish());
}

/// What a command in the container prints, once the service lets it succeed.
fn client(env: &TestEnv, args: &[&str]) -> String {
    wait_for(&format!("an answer to {args:?}"), || {
        let output = env.mydocker(["exec", "box"]).args(args).run();
        (output.code() == Some(0)).then_some(output.stdout)
    })
}

/// Does to the container what an operator does, and asks `check` each time.
fn through_its_life(env: &TestEnv, check: impl Fn(&str)) {
    check("started");
    env.mydocker(["restart", "box"]).ok();
    check("restarted");
    env.mydocker(["stop", "box"]).ok();
    assert_eq!(env.json(&["ps", "-a"])[0]["State"], "exited");
    env.mydocker(["start", "box"]).ok();
    check("stopped and started");
    env.mydocker(["kill", "box"]).ok();
    env.mydocker(["wait", "box"]).ok();
    env.mydocker(["start", "box"]).ok();
    check("killed and started");
    env.mydocker(["rm", "-f", "box"]).ok();
}

#[test]
fn redis_keeps_its_data() {
    require!(Root, Service("redis"));
    let env = with("redis");
    start(&env, &["-v", "./data:/data", "redis"]);
    assert_eq!(client(&env, &["redis-cli", "-e", "set", "key", "value"]), "OK\n");
    through_its_life(&env, |state| {
        assert_eq!(client(&env, &["redis-cli", "-e", "get", "key"]), "value\n", "{state}");
    });
    assert!(env.folder().join("data/appendonlydir").is_dir());
    // Another container with the same folder has the same data.
    start(&env, &["-v", "./data:/data", "redis"]);
    assert_eq!(client(&env, &["redis-cli", "-e", "get", "key"]), "value\n");
    assert!(env.mydocker(["logs", "box"]).ok().contains("Ready to accept connections"));
    env.mydocker(["rm", "-f", "box"]).ok();
    // And so have containers with the same named volume, which begins as the image's folder: its user may write to it.
    start(&env, &["-v", "kept:/data", "redis"]);
    assert_eq!(client(&env, &["redis-cli", "-e", "set", "key", "kept"]), "OK\n");
    env.mydocker(["rm", "-f", "box"]).ok();
    start(&env, &["-v", "kept:/data", "redis"]);
    assert_eq!(client(&env, &["redis-cli", "-e", "get", "key"]), "kept\n");
    env.mydocker(["rm", "-f", "box"]).ok();
}

#[test]
fn postgresql_keeps_its_data() {
    require!(Root, Service("postgres"));
    let env = with("postgres");
    let volume = "./data:/var/lib/postgresql/data";
    start(&env, &["-v", volume, "--shm-size", "64m", "postgres"]);
    let sql = |text: &str| client(&env, &["psql", "-h", "/var/run/postgresql", "-Atc", text]);
    sql("create table t as select generate_series(1, 1000) n");
    through_its_life(&env, |state| {
        assert_eq!(sql("select count(*), sum(n) from t"), "1000|500500\n", "{state}");
    });
    assert!(env.folder().join("data/PG_VERSION").is_file());
}

#[test]
fn nginx_serves_a_folder() {
    require!(Root, Service("nginx"));
    let env = with("nginx");
    fs::write(env.folder().join("data/index.html"), "hello from outside\n").unwrap();
    start(&env, &["-v", "./data:/var/www/html:ro", "nginx"]);
    through_its_life(&env, |state| {
        let page = client(&env, &["curl", "-sf", "http://localhost/"]);
        assert_eq!(page, "hello from outside\n", "{state}");
    });
    start(&env, &["-v", "./data:/var/www/html:ro", "nginx"]);
    client(&env, &["curl", "-sf", "http://localhost/"]);
    // The access log goes to the container's.
    wait_for("a line of the log", || {
        env.mydocker(["logs", "box"]).ok().contains("GET / HTTP/1.1").then_some(())
    });
    // What is changed outside is served at once; what is asked for and is not there is an error.
    fs::write(env.folder().join("data/new"), "new").unwrap();
    assert_eq!(client(&env, &["curl", "-sf", "http://localhost/new"]), "new");
    env.mydocker(["exec", "box", "curl", "-sf", "http://localhost/no"]).run().exits(22);
    env.mydocker(["rm", "-f", "box"]).ok();
}

#[test]
fn python_runs_scripts_and_serves() {
    require!(Root, Service("python"));
    let env = with("python");
    fs::write(env.folder().join("data/script.py"), "import sys; print(sum(map(int, sys.stdin)))\n")
        .unwrap();
    let run = ["run", "--rm", "-i", "-v", "./data:/app", "-w", "/app", "python", "python3"];
    env.mydocker(run).arg("script.py").input("1\n2\n39\n").run().success().prints("42\n");
    let fails = env.mydocker(["run", "--rm", "python", "python3", "-c", "raise SystemExit(7)"]);
    fails.run().exits(7);
    let script = "import socket; s = socket.create_server(('127.0.0.1', 80))
while True:
    c, _ = s.accept(); c.sendall(open('/app/greeting', 'rb').read()); c.close()";
    fs::write(env.folder().join("data/greeting"), "hello\n").unwrap();
    start(&env, &["-v", "./data:/app", "python", "python3", "-c", script]);
    let ask = "import socket; print(socket.create_connection(('127.0.0.1', 80)).recv(99).decode(), end='')";
    through_its_life(&env, |state| {
        assert_eq!(client(&env, &["python3", "-c", ask]), "hello\n", "{state}");
    });
}

#[test]
fn systemd_boots_and_boots_again() {
    require!(Root, Service("systemd"));
    let machine = Machine::boot();
    let active = ["systemctl", "is-active", "multi-user.target", "dbus.service"];
    assert_eq!(machine.exec(active).ok(), "active\nactive\n");
    assert_eq!(machine.sh_as_user("systemctl --user is-active basic.target").ok(), "active\n");
    // It manages the control groups that it is shown, down to a limit.
    let limited = "systemd-run -q --wait --pipe -p TasksMax=77 sh -c 'cat /sys/fs/cgroup/$(cut -d: -f3- /proc/self/cgroup | \
        head -n1)/pids.max /sys/fs/cgroup/pids/$(grep pids: /proc/self/cgroup | cut -d: -f3)/pids.max 2>/dev/null'";
    assert_eq!(machine.sh(limited).run().stdout, "77\n");
    machine.sh("echo kept >/etc/kept").ok();
    machine.reboot();
    assert_eq!(machine.exec(active).ok(), "active\nactive\n");
    assert_eq!(machine.sh("cat /etc/kept").ok(), "kept\n");
}
