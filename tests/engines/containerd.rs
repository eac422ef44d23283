//! containerd through its runc v2 shim: `ctr run --runc-binary`.

use std::fs;

use crate::support::command::{Cmd, Output};
use crate::support::pty::Pty;
use crate::support::require::Need::{Root, Tool};
use crate::support::{fixtures, wait_for};
use crate::{Daemon, Folder};

const IMAGE: &str = "localhost/busybox:latest";

struct Containerd {
    folder: Folder,
    daemon: Option<Daemon>,
}

impl Containerd {
    fn new() -> Self {
        let folder = Folder::new();
        let config = format!(
            "version = 2\nroot = \"{0}/root\"\nstate = \"{0}/state\"\n\
             [grpc]\naddress = \"{0}/socket\"\n[ttrpc]\naddress = \"{0}/ttrpc\"\n",
            folder.0.display()
        );
        fs::write(folder.path("config.toml"), config).unwrap();
        let cmd = Cmd::new("containerd").arg("--config").arg(folder.path("config.toml"));
        let daemon = Daemon::start(cmd, &folder.path("log"));
        let containerd = Self { folder, daemon: Some(daemon) };
        wait_for("containerd", || (containerd.run(&["version"]).code() == Some(0)).then_some(()));
        let archive = containerd.folder.path("busybox.tar");
        Cmd::new("tar")
            .arg("-cf")
            .arg(&archive)
            .arg("-C")
            .arg(fixtures::path("busybox"))
            .arg(".")
            .ok();
        let import = ["image", "import", "--base-name", "localhost/busybox"];
        containerd.cmd(&import).arg(&archive).ok();
        containerd
    }

    fn cmd(&self, args: &[&str]) -> Cmd {
        Cmd::new("ctr").arg("--address").arg(self.folder.path("socket")).args(args)
    }

    fn run(&self, args: &[&str]) -> Output {
        self.cmd(args).run()
    }

    fn ok(&self, args: &[&str]) -> String {
        self.cmd(args).ok()
    }

    /// `ctr run` of a container called `name`.
    fn container(&self, options: &[&str], name: &str, program: &[&str]) -> Cmd {
        let cmd = self.cmd(&["run", "--runc-binary"]).arg(self.folder.runtime());
        // Else all daemons of the machine would share one folder, and its names.
        let cmd = cmd.arg("--runc-root").arg(self.folder.path("runc")).args(options);
        cmd.args([IMAGE, name]).args(program)
    }

    fn status(&self, name: &str) -> String {
        let list = self.ok(&["task", "list"]);
        let line = list.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_whitespace().last()).unwrap_or_default().to_owned()
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let list = self.run(&["task", "list", "-q"]);
        for task in list.lines() {
            self.run(&["task", "delete", "--force", task]);
        }
        self.daemon.take();
    }
}

#[test]
fn containerd_runs() {
    require!(Root, Tool("containerd"));
    let containerd = Containerd::new();
    let run = |program: &[&str]| containerd.container(&["--rm"], "first", program).run();
    run(&["sh", "-c", "echo $((6 * 7)); exit 5"]).exits(5).prints("42\n");
    let refused = run(&["no-such-program"]);
    assert_ne!(refused.code(), Some(0));
    refused.says("executable file `no-such-program` not found in the container");
    let mut pty = Pty::start(containerd.container(&["--rm", "-t"], "terminal", &["sh"]), 33, 111);
    pty.expect("# ");
    pty.send("tty; exit 3\n");
    pty.expect("/dev/pts/0\r");
    assert_eq!(pty.finish(), 3);
}

#[test]
fn containerd_drives_a_task_through_its_life() {
    require!(Root, Tool("containerd"));
    let containerd = Containerd::new();
    let limit = ["-d", "--memory-limit", "33554432"];
    containerd.container(&limit, "second", &["sleep", "600"]).ok();
    let exec = ["task", "exec", "--exec-id", "e", "second", "sh", "-c"];
    containerd.cmd(&exec).arg("cat /proc/1/comm; exit 7").run().exits(7).prints("sleep\n");
    let metrics = containerd.ok(&["task", "metrics", "second"]);
    assert!(metrics.contains("33554432"), "{metrics}");
    assert_eq!(containerd.ok(&["task", "ps", "second"]).lines().count(), 2);
    assert_eq!(containerd.status("second"), "RUNNING");
    containerd.ok(&["task", "pause", "second"]);
    assert_eq!(containerd.status("second"), "PAUSED");
    containerd.ok(&["task", "resume", "second"]);
    assert_eq!(containerd.status("second"), "RUNNING");
    containerd.ok(&["task", "kill", "-s", "SIGKILL", "second"]);
    wait_for("the end", || (containerd.status("second") == "STOPPED").then_some(()));
    containerd.run(&["task", "delete", "second"]).success().says("exit code 137");
    containerd.ok(&["container", "delete", "second"]);
    let left = containerd.folder.path("state/io.containerd.runtime.v2.task/default");
    assert!(fs::read_dir(left).unwrap().next().is_none());
}
