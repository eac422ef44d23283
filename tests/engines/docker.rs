//! Docker's daemon with `--add-runtime`.

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::support::command::{Cmd, Output};
use crate::support::pty::Pty;
use crate::support::require::Need::{Root, Tool};
use crate::support::{fixtures, wait_for};
use crate::{Daemon, Folder};

struct Docker {
    folder: Folder,
    daemon: Option<Daemon>,
    bridge: String,
}

impl Docker {
    /// A daemon with a bridge of its own: one that is told to have none takes the usual one away, whoever uses it. Without
    /// `network` it leaves the machine's packet filter alone.
    fn new(network: bool) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = (std::process::id() + COUNT.fetch_add(1, Ordering::Relaxed)) % 250;
        let bridge = format!("mydocker{number}");
        Cmd::new("ip").args(["link", "add", &bridge, "type", "bridge"]).ok();
        let address = format!("10.213.{number}.1/24");
        Cmd::new("ip").args(["address", "add", &address, "dev", &bridge]).ok();
        let folder = Folder::new();
        let mut cmd =
            Cmd::new("dockerd").arg(format!("--host=unix://{}/socket", folder.0.display()));
        for (option, name) in
            [("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "pid")]
        {
            cmd = cmd.arg(option).arg(folder.path(name));
        }
        cmd = cmd.arg(format!("--bridge={bridge}"));
        if !network {
            cmd = cmd.args(["--iptables=false", "--ip-forward=false", "--ip-masq=false"]);
        }
        cmd = cmd.arg(format!("--add-runtime=mine={}", folder.runtime().display()));
        cmd = cmd.args(["--default-runtime=mine", "--exec-opt=native.cgroupdriver=cgroupfs"]);
        let daemon = Daemon::start(cmd, &folder.path("log"));
        let docker = Self { folder, daemon: Some(daemon), bridge };
        wait_for("docker", || (docker.run(&["version"]).code() == Some(0)).then_some(()));
        docker.cmd(&["import"]).arg(fixtures::path("busybox.tar")).arg("busybox").ok();
        docker
    }

    fn cmd(&self, args: &[&str]) -> Cmd {
        let host = format!("unix://{}/socket", self.folder.0.display());
        let cmd = Cmd::new("docker").args(args).env("DOCKER_HOST", host);
        cmd.env("HOME", &self.folder.0).env("DOCKER_BUILDKIT", "0")
    }

    fn run(&self, args: &[&str]) -> Output {
        self.cmd(args).run()
    }

    fn ok(&self, args: &[&str]) -> String {
        self.cmd(args).ok()
    }

    fn sh(&self, options: &[&str], script: &str) -> Output {
        self.cmd(&["run", "--rm"]).args(options).args(["busybox", "sh", "-c", script]).run()
    }

    /// A container called `one` that ends with 3 when it is told to.
    fn start(&self, options: &[&str]) {
        let script = "trap 'exit 3' TERM; while :; do sleep 0.1; done";
        let cmd = self.cmd(&["run", "-d", "--name", "one"]).args(options);
        cmd.args(["busybox", "sh", "-c", script]).ok();
    }

    fn inspect(&self, format: &str) -> String {
        self.ok(&["inspect", "--format", format, "one"]).trim().to_owned()
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let all = self.run(&["ps", "-aq"]);
        for id in all.lines() {
            self.run(&["rm", "-f", id]);
        }
        self.daemon.take();
        Cmd::new("ip").args(["link", "delete", &self.bridge]).run();
    }
}

#[test]
fn docker_runs_and_execs() {
    require!(Root, Tool("dockerd"), Tool("ip"));
    let docker = Docker::new(false);
    docker.sh(&[], "echo $((6 * 7)); exit 5").exits(5).prints("42\n");
    docker.run(&["run", "--rm", "busybox", "no-such-program"]).exits(127);
    docker.run(&["run", "--rm", "busybox", "/etc"]).exits(126);
    docker.start(&[]);
    assert_eq!(docker.ok(&["exec", "one", "cat", "/proc/1/comm"]), "sh\n");
    docker.run(&["exec", "one", "sh", "-c", "exit 9"]).exits(9);
    let options = ["exec", "-u", "5:6", "-w", "/tmp", "-e", "A=b", "one"];
    let told = docker.cmd(&options).args(["sh", "-c", "id -u; id -g; pwd; echo $A"]).ok();
    assert_eq!(told, "5\n6\n/tmp\nb\n");
    assert!(docker.ok(&["top", "one"]).contains("sleep"));
    docker.ok(&["restart", "one"]);
    assert_eq!(docker.inspect("{{.State.Status}}"), "running");
    docker.ok(&["stop", "one"]);
    assert_eq!(docker.inspect("{{.State.Status}} {{.State.ExitCode}}"), "exited 3");
    docker.sh(&["--init"], "cat /proc/1/comm").success().prints("docker-init\n");
    docker
        .sh(
            &["--read-only", "--cap-drop=ALL", "-v", "/etc:/e:ro"],
            "touch /x || touch /e/x; echo $?",
        )
        .success()
        .prints("1\n");
}

#[test]
fn docker_gives_terminals() {
    require!(Root, Tool("dockerd"), Tool("ip"));
    let docker = Docker::new(false);
    let mut pty = Pty::start(docker.cmd(&["run", "--rm", "-it", "busybox", "sh"]), 33, 111);
    pty.expect("# ");
    pty.send("tty; exit 4\n");
    pty.expect("/dev/pts/0\r\n");
    assert_eq!(pty.finish(), 4);
}

#[test]
fn docker_limits_and_pauses() {
    require!(Root, Tool("dockerd"), Tool("ip"));
    let docker = Docker::new(false);
    docker.start(&["--memory", "32m", "--pids-limit", "20", "--cpus", "0.5"]);
    let script = "cd /sys/fs/cgroup; { cat memory.max pids.max || cat memory/memory.limit_in_bytes pids/pids.max; } 2>/dev/null";
    let limits = || docker.ok(&["exec", "one", "sh", "-c", script]);
    assert_eq!(limits(), "33554432\n20\n");
    docker.ok(&["update", "--memory", "64m", "--memory-swap", "128m", "--pids-limit", "30", "one"]);
    assert_eq!(limits(), "67108864\n30\n");
    docker.ok(&["pause", "one"]);
    assert_eq!(docker.inspect("{{.State.Status}}"), "paused");
    docker.ok(&["unpause", "one"]);
    assert!(docker.ok(&["stats", "--no-stream", "one"]).contains("64MiB"));
}

#[test]
fn docker_connects_and_builds() {
    require!(Root, Tool("dockerd"), Tool("ip"), Tool("iptables"));
    let docker = Docker::new(true);
    let server = "echo hi >/tmp/index.html; exec httpd -f -p 80 -h /tmp";
    docker.cmd(&["run", "-d", "--name", "one", "busybox", "sh", "-c", server]).ok();
    let address = docker.inspect("{{.NetworkSettings.IPAddress}}");
    let client = format!(
        "for i in 1 2 3 4 5 6 7 8 9; do wget -qO- http://{address}/ && break; sleep 0.3; done"
    );
    docker.sh(&[], &client).success().prints("hi\n");
    let context = docker.folder.path("context");
    fs::create_dir(&context).unwrap();
    fs::write(
        context.join("Dockerfile"),
        "FROM busybox\nRUN echo built >/x\nCMD [\"cat\", \"/x\"]\n",
    )
    .unwrap();
    docker.cmd(&["build", "-t", "built"]).arg(&context).ok();
    assert_eq!(docker.ok(&["run", "--rm", "built"]), "built\n");
}
