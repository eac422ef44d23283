//! `enable` and `disable` on a machine with systemd, for root and for an ordinary user.

use std::collections::BTreeSet;

use crate::support::command::Cmd;
use crate::support::require::Need::{Root, Service};
use crate::support::systemd::Machine;

/// Who has the containers: how their scripts are run, where their folders are, and how systemd is asked.
struct Owner {
    machine: Machine,
    is_user: bool,
    folder: &'static str,
    systemctl: &'static str,
}

impl Owner {
    fn root() -> Self {
        let (folder, systemctl) = ("/srv", "systemctl");
        Self { machine: Machine::boot(), is_user: false, folder, systemctl }
    }

    fn user() -> Self {
        let (folder, systemctl) = ("/home/user", "systemctl --user");
        Self { machine: Machine::boot(), is_user: true, folder, systemctl }
    }

    fn cmd(&self, script: &str) -> Cmd {
        if self.is_user { self.machine.sh_as_user(script) } else { self.machine.sh(script) }
    }

    #[track_caller]
    fn sh(&self, script: &str) -> String {
        self.cmd(script).ok()
    }

    /// Waits until a container has been seen in this state.
    fn wait_for(&self, name: &str, state: &str) {
        let inspect = format!("mydocker inspect -f '{{{{.State.Status}}}}' {name}");
        crate::support::wait_for(&format!("{name} {state}"), || {
            let shown = self.cmd(&inspect).run().success().stdout;
            (shown.trim() == state).then_some(())
        });
    }

    fn containers_come_with_the_machine_until_that_is_disabled(&self) {
        let Self { folder, systemctl, machine, .. } = self;
        self.sh(&format!("mkdir -p {folder}/root/bin && cp /bin/busybox {folder}/root/bin/"));
        let run = |options: &str, script: &str| {
            // The machine's own root is an overlay, whose owners cannot be mapped.
            let users = if self.is_user { "" } else { "--userns host" };
            let root = format!("{users} --rootfs {folder}/root /bin/busybox sh -c '{script}'");
            self.sh(&format!("mydocker {options} {root} </dev/null"));
        };
        let loops = "while :; do /bin/busybox sleep 0.1; done";
        let script = format!("trap \"echo >/stopped; exit 0\" TERM; echo >/ready; {loops}");
        run("run -d --restart unless-stopped --name web", &script);
        run("run -d --name once", loops);
        run("run -d --restart unless-stopped --name asked", "exit 0");
        self.sh("mydocker stop -t 0 asked");
        self.sh(&format!("until [ -e {folder}/root/ready ]; do sleep 0.1; done"));
        let installed = self.sh("mydocker enable");
        let unit = installed.lines().next().unwrap();
        assert!(unit.ends_with("/mydocker.service"), "{installed}");
        let mode = if self.is_user { "--user" } else { "--system" };
        let verified = self.cmd(&format!("systemd-analyze {mode} verify {unit} 2>&1")).run();
        verified.success().prints("");
        assert_eq!(self.sh(&format!("{systemctl} is-enabled mydocker")), "enabled\n");
        assert_eq!(self.sh(&format!("{systemctl} is-active mydocker")), "active\n");
        self.sh(&format!("! [ -e {folder}/root/stopped ]"));

        machine.reboot();
        self.wait_for("web", "running");
        // It was asked to end before the machine did, and that was nobody's wish for it to stay so.
        self.sh(&format!("rm {folder}/root/stopped"));
        self.wait_for("once", "exited");
        self.wait_for("asked", "exited");
        self.sh("mydocker logs web && mydocker exec web /bin/busybox true");

        let removed = self.sh("mydocker disable");
        let all = |paths: &str| paths.lines().map(str::to_owned).collect::<BTreeSet<_>>();
        assert_eq!(all(&removed), all(&installed));
        self.wait_for("web", "running");
        assert!(
            !self.sh(&format!("{systemctl} is-enabled mydocker 2>&1; true")).contains("enabled")
        );
        machine.reboot();
        self.wait_for("web", "exited");
    }
}

#[test]
fn roots_containers_come_with_the_machine() {
    require!(Root, Service("systemd"));
    Owner::root().containers_come_with_the_machine_until_that_is_disabled();
}

#[test]
fn an_ordinary_users_containers_come_with_the_machine() {
    require!(Root, Service("systemd"));
    let owner = Owner::user();
    owner.containers_come_with_the_machine_until_that_is_disabled();
    // Who lingers needs no hint.
    let enable = owner.cmd("mydocker enable").run().success();
    assert!(!enable.stderr.contains("hint:"), "{}", enable.stderr);
    owner.machine.sh("rm /var/lib/systemd/linger/user").ok();
    owner.cmd("mydocker enable").run().success().says("loginctl enable-linger user");
}
