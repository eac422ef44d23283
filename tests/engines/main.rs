//! Engines that drive the built program as their runtime: podman, containerd and docker, each with folders of its own.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    dead_code,
    missing_docs,
    unreachable_pub
)]

#[macro_use]
#[path = "../support/mod.rs"]
mod support;

mod containerd;
mod docker;
mod kubernetes;
mod podman;
mod systemd;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use support::command::Cmd;
use support::env::{copy_program, temporary_folder};
use support::seconds;

/// A folder in which everything of one engine is, on a real disk; removed with what is mounted in it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        Self(temporary_folder())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The program under the name by which it is the runtime alone, where every user can reach it.
    fn runtime(&self) -> PathBuf {
        let path = self.path("mydocker-oci");
        if !path.exists() {
            copy_program(&path);
        }
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What an engine has started to tidy up may be at work for a while, and mount things again.
        let deadline = Instant::now() + seconds(10);
        loop {
            self.umount();
            let _ = fs::remove_dir_all(&self.0);
            if !self.0.exists() || Instant::now() > deadline {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Folder {
    fn umount(&self) {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let inside = |line: &&str| line.contains(self.0.to_str().unwrap());
        let points = mounts.lines().filter(inside).filter_map(|line| line.split(' ').nth(1));
        for point in points.collect::<Vec<_>>().into_iter().rev() {
            Cmd::new("umount").args(["-l", point]).run();
        }
    }
}

/// A daemon, ended and waited for when dropped.
struct Daemon(Child);

impl Daemon {
    fn start(cmd: Cmd, log: &Path) -> Self {
        let file = || Stdio::from(File::options().create(true).append(true).open(log).unwrap());
        let mut command = cmd.into_command();
        command.stdin(Stdio::null()).stdout(file()).stderr(file());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).unwrap());
        let _ = kill(pid, Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

/// Whether this process may raise limits, which engines do for every container unless they are told not to.
fn may_raise_limits() -> bool {
    const SYS_RESOURCE: u32 = 24;
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:\t")).unwrap();
    u64::from_str_radix(effective, 16).unwrap() & 1 << SYS_RESOURCE != 0
}
