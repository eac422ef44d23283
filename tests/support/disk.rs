//! A small disk of a test's own, and what is left on it when the power goes.

use std::path::{Path, PathBuf};

use crate::support::command::Cmd;
use crate::support::env;

/// A small ext4 in a file, mounted, for as long as this lives.
#[derive(Debug)]
pub struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    /// An empty one.
    pub fn new(megabytes: u32) -> Self {
        let disk = Self::unmounted();
        Cmd::new("truncate").args(["-s", &format!("{megabytes}M")]).arg(disk.image()).ok();
        Cmd::new("mke2fs").args(["-q", "-F", "-t", "ext4", "-m", "0"]).arg(disk.image()).ok();
        disk.mount();
        disk
    }

    fn unmounted() -> Self {
        let folder = env::temporary_folder();
        std::fs::create_dir(folder.join("mounted")).unwrap();
        Self { folder }
    }

    /// Another disk with the same on it, while nobody writes to this one.
    pub fn copy(&self) -> Self {
        Cmd::new("sync").arg("-f").arg(self.path()).ok();
        let copy = Self::unmounted();
        Cmd::new("cp").arg("--sparse=always").arg(self.image()).arg(copy.image()).ok();
        copy.mount();
        copy
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.folder.join("mounted")
    }

    /// Fills it but for so many bytes; returns the file that takes all the room.
    pub fn fill(&self, free: u64) -> PathBuf {
        let found = nix::sys::statvfs::statvfs(&self.path()).unwrap();
        let size = (found.blocks_available() * found.fragment_size()).saturating_sub(free);
        let file = self.path().join("filling");
        Cmd::new("fallocate").args(["-l", &size.to_string()]).arg(&file).ok();
        file
    }

    fn image(&self) -> PathBuf {
        self.folder.join("disk")
    }

    fn mount(&self) {
        Cmd::new("mount").args(["-o", "loop"]).arg(self.image()).arg(self.path()).ok();
    }

    /// Loses all that has not been written to the disk, in the file system's journal as well, and mounts what is left.
    pub fn cut_power(&self) {
        shut_down(&self.path());
        Cmd::new("umount").arg(self.path()).ok();
        // Another test's process may have it in a mount namespace of its own still, where it stays what it is.
        let left = self.folder.join("left");
        Cmd::new("cp").arg("--sparse=always").arg(self.image()).arg(&left).ok();
        std::fs::rename(left, self.image()).unwrap();
        self.mount();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Cmd::new("umount").arg(self.path()).run();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// `EXT4_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH` (fs/ext4/ext4.h): from now on nothing is written.
fn shut_down(mounted: &Path) {
    const PROGRAM: &str = "import fcntl, os, struct, sys\n\
        fcntl.ioctl(os.open(sys.argv[1], 0), 0x8004587d, struct.pack('I', 2))";
    Cmd::new("python3").args(["-c", PROGRAM]).arg(mounted).ok();
}
