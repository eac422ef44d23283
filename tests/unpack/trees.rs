//! Removing trees that somebody else may be changing.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use mydocker::sys::remove_tree::remove_tree;
use nix::fcntl::{RenameFlags, renameat2};

use crate::support::{Canary, Scratch, chain, run};

#[test]
fn everything_goes() {
    let canary = Canary::new();
    let scratch = Scratch::new();
    let tree = scratch.dir("t");
    fs::create_dir_all(tree.join("a/b/c")).unwrap();
    fs::create_dir_all(tree.join("unreadable/x")).unwrap();
    for i in 0..3000 {
        fs::write(tree.join(format!("a/{i}")), "").unwrap();
    }
    std::os::unix::fs::symlink(canary.path(), tree.join("a/link")).unwrap();
    std::os::unix::fs::symlink(format!("{}/d", canary.path()), tree.join("dirlink")).unwrap();
    run(Command::new("mkfifo").arg(tree.join("fifo")));
    run(Command::new("chmod").arg("0").arg(tree.join("unreadable")));
    let parent = File::open(&scratch.0).unwrap();
    remove_tree(parent.as_fd(), b"t").unwrap();
    assert!(!tree.exists());
    remove_tree(parent.as_fd(), b"t").unwrap();
    std::os::unix::fs::symlink(canary.path(), &tree).unwrap();
    remove_tree(parent.as_fd(), b"t").unwrap();
    assert!(tree.symlink_metadata().is_err());
    canary.check("remove_tree");
}

#[test]
fn depth_does_not_matter() {
    let scratch = Scratch::new();
    let top = scratch.dir("t");
    let mut dir = File::open(&top).unwrap();
    for i in 0..5000 {
        nix::sys::stat::mkdirat(&dir, "directory", nix::sys::stat::Mode::S_IRWXU).unwrap();
        let flags = nix::fcntl::OFlag::O_DIRECTORY;
        let next =
            nix::fcntl::openat(&dir, "directory", flags, nix::sys::stat::Mode::empty()).unwrap();
        dir = File::from(next);
        if i % 100 == 0 {
            nix::unistd::symlinkat("/", &dir, "link").unwrap();
        }
    }
    let before = fs::read_dir("/proc/self/fd").unwrap().count();
    let parent = File::open(&scratch.0).unwrap();
    remove_tree(parent.as_fd(), b"t").unwrap();
    assert!(!top.exists() && fs::read_dir("/proc/self/fd").unwrap().count() < before + 100);
}

#[test]
fn mounts_are_not_entered() {
    let canary = Canary::new();
    let scratch = Scratch::new();
    let tree = scratch.dir("t");
    fs::create_dir_all(tree.join("a/mnt")).unwrap();
    let mount =
        |args: &[&str]| Command::new("mount").args(args).status().is_ok_and(|s| s.success());
    if !mount(&["--bind", &canary.path(), tree.join("a/mnt").to_str().unwrap()]) {
        eprintln!("skipped: may not mount");
        return;
    }
    let parent = File::open(&scratch.0).unwrap();
    let error = remove_tree(parent.as_fd(), b"t").unwrap_err();
    run(Command::new("umount").arg(tree.join("a/mnt")));
    assert!(chain(&error).starts_with("remove `t/a"), "{}", chain(&error));
    canary.check("mount");
    remove_tree(parent.as_fd(), b"t").unwrap();
}

#[test]
fn a_racing_link_leads_nowhere() {
    let canary = Canary::new();
    let stop = AtomicBool::new(false);
    let scratch = Scratch::new();
    std::os::unix::fs::symlink(canary.path(), scratch.path("evil")).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let dir = File::open(&scratch.0).unwrap();
            while !stop.load(Ordering::Relaxed) {
                let _ = renameat2(&dir, "evil", &dir, "t/a/b", RenameFlags::RENAME_EXCHANGE);
            }
        });
        let parent = File::open(&scratch.0).unwrap();
        for _ in 0..1000 {
            fs::create_dir_all(scratch.path("new/a/b/c/d")).unwrap();
            fs::write(scratch.path("new/a/b/c/f"), "").unwrap();
            let _ = fs::rename(scratch.path("new"), scratch.path("t"));
            // Either it goes or it fails; what the link points to stays.
            let _ = remove_tree(parent.as_fd(), b"t");
            let _ = remove_tree(parent.as_fd(), b"new");
        }
        stop.store(true, Ordering::Relaxed);
    });
    canary.check("race");
}

#[test]
fn removed_by_several_at_once() {
    let scratch = Scratch::new();
    let parent = File::open(&scratch.0).unwrap();
    for _ in 0..60 {
        for folder in 0..40 {
            fs::create_dir_all(scratch.path(format!("t/{folder}/x"))).unwrap();
        }
        std::thread::scope(|scope| {
            let removals: Vec<_> =
                (0..3).map(|_| scope.spawn(|| remove_tree(parent.as_fd(), b"t"))).collect();
            for removal in removals {
                removal.join().unwrap().unwrap();
            }
        });
        assert!(!scratch.path("t").exists());
    }
}
