//! `podman --runtime`, of root and of an ordinary user.

use std::fs;
use std::os::unix::fs::chown;
use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::command::{Cmd, Output};
use crate::support::fixtures;
use crate::support::pty::Pty;
use crate::support::require::Need::{Root, Tool};
use crate::{Folder, may_raise_limits};

/// The user that every Linux has, and who owns nothing.
const NOBODY: u32 = 65_534;

struct Podman {
    folder: Folder,
    rootless: bool,
}

impl Podman {
    fn new(rootless: bool) -> Self {
        let folder = Folder::new();
        // Its own default is more than every root may give.
        let limits =
            "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n";
        fs::write(folder.path("containers.conf"), limits).unwrap();
        fs::write(folder.path("ids"), format!("{NOBODY}:300000:65536\n")).unwrap();
        fs::create_dir(folder.path("home")).unwrap();
        if rootless {
            chown(folder.path("home"), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        fs::copy(fixtures::path("busybox.tar"), folder.path("busybox.tar")).unwrap();
        let podman = Self { folder, rootless };
        let archive = podman.folder.path("busybox.tar");
        podman.cmd(&["import", "--quiet"]).arg(archive).arg("localhost/busybox").ok();
        podman
    }

    fn home(&self) -> PathBuf {
        self.folder.path("home")
    }

    fn cmd(&self, args: &[&str]) -> Cmd {
        let cmd = if self.rootless {
            // Only as seen from here: the machine's own files stay as they are.
            let script = "mount --bind ../ids /etc/subuid && mount --bind ../ids /etc/subgid && \
                exec setpriv --reuid=65534 --regid=65534 --clear-groups -- podman \"$@\"";
            Cmd::new("unshare").args(["--mount", "sh", "-c", script, "sh"])
        } else {
            Cmd::new("podman")
        };
        // An overlay in a user namespace is not to be had everywhere.
        let driver = if self.rootless { "vfs" } else { "overlay" };
        cmd.arg("--root")
            .arg(self.home().join("root"))
            .arg("--runroot")
            .arg(self.home().join("run"))
            .args(["--storage-driver", driver, "--cgroup-manager", "cgroupfs"])
            .args(["--events-backend", "file", "--runtime"])
            .arg(self.folder.runtime())
            .args(args)
            .current_dir(self.home())
            .env("HOME", self.home())
            .env("XDG_RUNTIME_DIR", self.home())
            .env("CONTAINERS_CONF", self.folder.path("containers.conf"))
    }

    fn run(&self, args: &[&str]) -> Output {
        self.cmd(args).run()
    }

    fn ok(&self, args: &[&str]) -> String {
        self.cmd(args).ok()
    }

    /// Runs busybox's shell in a new container.
    fn sh(&self, script: &str) -> Output {
        self.run(&["run", "--rm", "--network", "none", "localhost/busybox", "sh", "-c", script])
    }

    /// A container called `name` that does nothing.
    fn start(&self, name: &str, options: &[&str]) {
        let script = "trap 'exit 3' TERM; while :; do sleep 0.1; done";
        let cmd = self.cmd(&["run", "-d", "--network", "none", "--name", name]).args(options);
        cmd.args(["localhost/busybox", "sh", "-c", script]).ok();
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        self.run(&["pod", "rm", "-af", "-t", "0"]);
        self.run(&["rm", "-af", "-t", "0"]);
        // What keeps an ordinary user's namespaces open.
        let pause = fs::read_to_string(self.home().join("libpod/tmp/pause.pid"));
        if let Some(pid) = pause.ok().and_then(|text| text.trim().parse().ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

fn run_and_exec(podman: &Podman) {
    podman.sh("echo $((6 * 7)); exit 5").exits(5).prints("42\n");
    let run = ["run", "--rm", "--network", "none", "localhost/busybox"];
    podman.cmd(&run).arg("no-such-program").run().exits(127);
    podman.cmd(&run).arg("/etc").run().exits(126);
    podman.start("one", &[]);
    assert_eq!(podman.ok(&["exec", "one", "cat", "/proc/1/comm"]), "sh\n");
    podman.run(&["exec", "one", "sh", "-c", "exit 9"]).exits(9);
    podman.run(&["exec", "one", "no-such-program"]).exits(127);
    let options = ["exec", "--user", "5:6", "--workdir", "/tmp", "--env", "A=b", "one"];
    let told = podman.cmd(&options).args(["sh", "-c", "id -u; id -g; pwd; echo $A"]).ok();
    assert_eq!(told, "5\n6\n/tmp\nb\n");
    assert!(podman.ok(&["top", "one"]).contains("sleep"));
    podman.ok(&["stop", "one"]);
    let told = podman.ok(&["inspect", "--format", "{{.State.ExitCode}} {{.State.Status}}", "one"]);
    assert_eq!(told, "3 exited\n");
    podman.ok(&["start", "one"]);
    podman.ok(&["exec", "one", "true"]);
    podman.ok(&["rm", "-f", "-t", "0", "one"]);
}

#[test]
fn podman_runs_and_execs() {
    require!(Root, Tool("podman"));
    run_and_exec(&Podman::new(false));
}

#[test]
fn an_ordinary_users_podman_runs_and_execs() {
    require!(Root, Tool("podman"), Tool("newuidmap"));
    let podman = Podman::new(true);
    let map = podman.sh("cat /proc/self/uid_map").success().stdout;
    let map: Vec<Vec<&str>> = map.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(map, [["0", "65534", "1"], ["1", "300000", "65536"]]);
    run_and_exec(&podman);
}

#[test]
fn podman_gives_terminals() {
    require!(Root, Tool("podman"));
    let podman = Podman::new(false);
    let run = ["run", "--rm", "-it", "--network", "none", "localhost/busybox", "sh"];
    let mut pty = Pty::start(podman.cmd(&run), 33, 111);
    pty.expect("# ");
    pty.send("stty size; tty\n");
    pty.expect("33 111\r\n");
    pty.expect("/dev/pts/0\r\n");
    pty.send("exit 4\n");
    assert_eq!(pty.finish(), 4);
    podman.start("one", &[]);
    let mut pty = Pty::start(podman.cmd(&["exec", "-it", "one", "sh"]), 22, 99);
    pty.expect("# ");
    pty.send("stty size\n");
    pty.expect("22 99\r\n");
    pty.send("exit 6\n");
    assert_eq!(pty.finish(), 6);
}

#[test]
fn podman_limits_and_pauses() {
    require!(Root, Tool("podman"));
    let podman = Podman::new(false);
    podman.start("one", &["--memory", "32m", "--pids-limit", "20"]);
    let script = "cd /sys/fs/cgroup; cat memory.max pids.max || cat memory/memory.limit_in_bytes pids/pids.max";
    let told = podman.ok(&["exec", "one", "sh", "-c", &format!("{{ {script}; }} 2>/dev/null")]);
    assert_eq!(told, "33554432\n20\n");
    podman.ok(&["pause", "one"]);
    assert_eq!(podman.ok(&["ps", "-a", "--format", "{{.State}}"]).to_lowercase(), "paused\n");
    podman.ok(&["unpause", "one"]);
    assert!(podman.ok(&["stats", "--no-stream", "one"]).contains("33.55MB"));
}

#[test]
fn podman_looks_after_health() {
    require!(Root, Tool("podman"));
    let podman = Podman::new(false);
    let options = ["--health-cmd", "test -e /tmp/well", "--health-interval", "disable"];
    podman.start("one", &options);
    podman.run(&["healthcheck", "run", "one"]).exits(1);
    podman.ok(&["exec", "one", "touch", "/tmp/well"]);
    podman.run(&["healthcheck", "run", "one"]).exits(0);
}

/// The options by which a container shares what those of a pod share; the first of them is called `first`.
fn pod(podman: &Podman) -> [&'static [&'static str]; 2] {
    if may_raise_limits() {
        let create =
            ["pod", "create", "--name", "pod", "--network", "none", "--hostname", "podded"];
        podman.ok(&create);
        return [&["--pod", "pod"], &["--pod", "pod"]];
    }
    // A pod's own first container always gets more descriptors than this root may give, so one of the others is the first.
    let shared = ["--network=container:first", "--ipc=container:first", "--uts=container:first"];
    let shared: &'static [&'static str] = Box::leak(Box::new(shared));
    [&["--name=first", "--network=none", "--hostname=podded"], shared]
}

#[test]
fn podmans_containers_share_what_those_of_a_pod_do() {
    require!(Root, Tool("podman"));
    let podman = Podman::new(false);
    let [first, second] = pod(&podman);
    let member = |options: &[&str], more: &str, script: &str| {
        let cmd = podman.cmd(&["run", more]).args(options);
        cmd.args(["localhost/busybox", "sh", "-c", script]).ok()
    };
    member(first, "-d", "echo shared >/dev/shm/x; exec httpd -f -p 127.0.0.1:8080 -h /etc");
    let script = "hostname; for i in 1 2 3 4 5 6 7 8 9; do \
        wget -qO- http://127.0.0.1:8080/group && break; sleep 0.3; done | head -n1; cat /dev/shm/x";
    let told = member(second, "--rm", script);
    assert_eq!(told.lines().next(), Some("podded"));
    assert!(told.contains("root") && told.ends_with("shared\n"), "{told}");
}
