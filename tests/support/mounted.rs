//! Mounts on the host.

use std::fs;
use std::path::{Path, PathBuf};

use super::command::Cmd;

/// Something mounted on the host for as long as this lives.
pub struct Mounted(PathBuf);

impl Mounted {
    /// Mounts with these arguments of mount(8) at `at`, which is made.
    pub fn new(args: &[&str], at: &Path) -> Self {
        fs::create_dir_all(at).unwrap();
        Cmd::new("mount").args(args).arg(at).ok();
        Self(at.to_owned())
    }

    /// An empty tmpfs.
    pub fn tmpfs(at: &Path) -> Self {
        Self::new(&["-t", "tmpfs", "none"], at)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        Cmd::new("umount").arg("-l").arg(&self.0).run();
    }
}
