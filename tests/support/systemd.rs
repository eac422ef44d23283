//! A machine with systemd as its first process, which is a container of the program's own.

use std::ffi::OsStr;

use super::command::Cmd;
use super::env::{TestEnv, program};
use super::{fixtures, wait_for};

/// The ordinary user of the machine, who lingers.
pub const USER: u32 = 1000;

/// A machine that has booted; it goes away when dropped. The program is in its `PATH`, also as `mydocker-oci`.
#[derive(Debug)]
pub struct Machine {
    env: TestEnv,
}

impl Machine {
    /// Boots a machine, and waits until systemd says that it runs, and that the user's manager does. The test needs
    /// `Root` and `Service("systemd")`.
    pub fn boot() -> Self {
        Self::boot_with(&[])
    }

    /// As [`Self::boot`], with further options of `mydocker run`.
    pub fn boot_with(options: &[&str]) -> Self {
        let env = TestEnv::new();
        let import = env.mydocker(["--no-sync", "import", "-q", "--name", "systemd"]);
        import.arg(fixtures::path("systemd")).timeout(180).ok();
        let run = env.mydocker(["run", "-d", "--privileged", "--name", "machine"]);
        let volume = |name: &str| format!("{}:/usr/bin/{name}:ro", program().display());
        let run = run.args(["-v", &volume("mydocker"), "-v", &volume("mydocker-oci")]);
        run.args(options).arg("systemd").ok();
        let machine = Self { env };
        machine.wait_for_boot();
        machine
    }

    /// Waits until a command in the machine's shell succeeds.
    pub fn wait_until(&self, script: &str) {
        wait_for(script, || (self.sh(script).run().code() == Some(0)).then_some(()));
    }

    /// A command in the machine, by root.
    pub fn exec(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Cmd {
        self.env.mydocker(["exec", "machine"]).args(args)
    }

    /// A script in the machine's shell, by root.
    pub fn sh(&self, script: &str) -> Cmd {
        self.exec(["sh", "-c", script])
    }

    /// A script in the machine's shell, by the ordinary user, who has a bus and a manager.
    pub fn sh_as_user(&self, script: &str) -> Cmd {
        let runtime = format!("XDG_RUNTIME_DIR=/run/user/{USER}");
        let bus = format!("DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/{USER}/bus");
        let exec = self.env.mydocker(["exec", "-u", &USER.to_string(), "-w", "/home/user"]);
        let exec = exec.args(["-e", "HOME=/home/user", "-e", "USER=user", "-e", &runtime]);
        exec.args(["-e", &bus, "machine", "sh", "-c", script])
    }

    /// Ends the machine as an operator does, and starts it again with all that is on its disk.
    pub fn reboot(&self) {
        self.env.mydocker(["stop", "-t", "60", "machine"]).timeout(90).ok();
        self.env.mydocker(["start", "machine"]).ok();
        self.wait_for_boot();
    }

    fn wait_for_boot(&self) {
        // Where several boot at once, systemd now and then fails to move a process of a unit's into its group.
        self.wait_until("systemctl is-system-running --wait | grep -Ex 'running|degraded'");
        self.wait_until(&format!("systemctl is-active user@{USER}.service"));
    }
}
