//! Scratch directories, pictures of trees, and a canary beside them.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use mydocker::sys::remove_tree::remove_tree;
use mydocker::sys::xattr::{fgetxattr, flistxattr};
use mydocker::unpack::{Destination, Error, Layer, Limits, extract, merge};

/// A directory that goes away with its owner.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // Not /tmp: a tmpfs, which it often is, has no `user.*` attributes before Linux 6.6.
        let path =
            Path::new("/var/tmp").join(format!("mydocker-unpack-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.0.join(name.as_ref())
    }

    /// A new directory in it.
    pub(crate) fn dir(&self, name: &str) -> PathBuf {
        fs::create_dir(self.path(name)).unwrap();
        self.path(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let parent = File::open(self.0.parent().unwrap()).unwrap();
        let name = self.0.file_name().unwrap().as_bytes();
        if let Err(error) = remove_tree(parent.as_fd(), name) {
            eprintln!("{error}: {:?}", error.source);
        }
    }
}

/// Extracts one uncompressed layer into `dest`, without the walls that would hide what the extractor does wrong.
pub(crate) fn extract_into(tar: &[u8], dest: &Path) -> Result<Layer, Error> {
    let dest = File::open(dest).unwrap();
    let limits = Limits::default();
    let dest = Destination { walls: false, ..Destination::new(dest.as_fd(), &limits) };
    extract(tar, &dest)
}

/// Extracts layers and merges them, lowest first, into `scratch/root`.
pub(crate) fn unpack(scratch: &Scratch, layers: &[Vec<u8>]) -> Result<PathBuf, Error> {
    let root = scratch.dir("root");
    for (i, tar) in layers.iter().enumerate() {
        let staging = scratch.dir(&format!("staging{i}"));
        let layer = extract_into(tar, &staging)?;
        let (base, upper) = (File::open(&root).unwrap(), File::open(&staging).unwrap());
        merge(base.as_fd(), upper.as_fd(), &layer)?;
        std::fs::remove_dir_all(&staging).unwrap();
    }
    Ok(root)
}

/// What makes two trees equal, one line a file in the order of their names.
pub(crate) fn picture(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut inodes = HashMap::new();
    let mut paths = vec![PathBuf::new()];
    while let Some(path) = paths.pop() {
        let full = root.join(&path);
        let meta = fs::symlink_metadata(&full).unwrap();
        let name = path.as_os_str().as_bytes().escape_ascii().to_string();
        let mut line = format!(
            "{name} {:o} {}:{} {}.{:09}",
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.mtime(),
            meta.mtime_nsec()
        );
        let kind = meta.file_type();
        if kind.is_dir() {
            let mut names: Vec<_> =
                fs::read_dir(&full).unwrap().map(|e| e.unwrap().file_name()).collect();
            names.sort();
            paths.extend(names.into_iter().rev().map(|name| path.join(name)));
        } else {
            let first = inodes.entry(meta.ino()).or_insert_with(|| name.clone());
            write!(line, " {}x{first}", meta.nlink()).unwrap();
        }
        if kind.is_symlink() {
            write!(line, " -> {:?}", fs::read_link(&full).unwrap()).unwrap();
        } else if kind.is_char_device() || kind.is_block_device() {
            write!(line, " {:x}", meta.rdev()).unwrap();
        } else if kind.is_file() {
            let data = fs::read(&full).unwrap();
            write!(line, " {} {}", data.len(), mydocker::oci::digest::Digest::sha256(&data))
                .unwrap();
        }
        if kind.is_file() || kind.is_dir() {
            let file = File::open(&full).unwrap();
            let mut names = flistxattr(file.as_fd()).unwrap();
            names.sort();
            for name in names {
                let value = fgetxattr(file.as_fd(), &name).unwrap();
                write!(line, " {}={}", name.escape_ascii(), value.escape_ascii()).unwrap();
            }
        }
        lines.push(line);
    }
    lines
}

/// Fails with the first lines that differ.
#[track_caller]
pub(crate) fn assert_same(ours: &[String], theirs: &[String], what: &str) {
    let differing: Vec<_> = ours
        .iter()
        .filter(|line| !theirs.contains(line))
        .map(|line| format!("+ {line}"))
        .chain(theirs.iter().filter(|line| !ours.contains(line)).map(|line| format!("- {line}")))
        .take(12)
        .collect();
    assert!(differing.is_empty(), "{what}\n{}", differing.join("\n"));
}

/// Paths and kinds only, for what does not depend on times.
pub(crate) fn shape(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut paths = vec![PathBuf::new()];
    while let Some(path) = paths.pop() {
        let full = root.join(&path);
        let meta = fs::symlink_metadata(&full).unwrap();
        let name = path.display();
        let kind = meta.file_type();
        if kind.is_dir() {
            let mut names: Vec<_> =
                fs::read_dir(&full).unwrap().map(|e| e.unwrap().file_name()).collect();
            names.sort();
            paths.extend(names.into_iter().rev().map(|name| path.join(name)));
            if !path.as_os_str().is_empty() {
                lines.push(format!("{name}/"));
            }
        } else if kind.is_symlink() {
            lines.push(format!("{name} -> {}", fs::read_link(&full).unwrap().display()));
        } else if kind.is_file() {
            lines.push(format!("{name}={}", fs::read_to_string(&full).unwrap()));
        } else {
            lines.push(format!("{name}!"));
        }
    }
    lines
}

/// Files outside any tree that nothing may touch.
pub(crate) struct Canary {
    scratch: Scratch,
    before: Vec<String>,
}

impl Canary {
    pub(crate) fn new() -> Self {
        let scratch = Scratch::new();
        fs::create_dir_all(scratch.path("c/d")).unwrap();
        fs::write(scratch.path("c/f"), "secret").unwrap();
        fs::write(scratch.path("c/d/g"), "secret too").unwrap();
        run(Command::new("mkfifo").arg(scratch.path("c/p")));
        run(Command::new("chmod").arg("600").arg(scratch.path("c/f")));
        let before = picture(&scratch.0);
        Self { scratch, before }
    }

    pub(crate) fn path(&self) -> String {
        self.scratch.path("c").to_str().unwrap().to_owned()
    }

    #[track_caller]
    pub(crate) fn check(&self, what: &str) {
        assert_same(&picture(&self.scratch.0), &self.before, what);
    }
}

/// Runs a program that must succeed; returns its output.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Vec<u8> {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    output.stdout
}

/// Whether a program is there; a test that needs it says so when it is not.
pub(crate) fn have(program: &str) -> bool {
    let found = Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !found {
        eprintln!("skipped: `{program}` is not installed");
    }
    found
}

/// An error with all its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        write!(text, ": {cause}").unwrap();
        source = cause.source();
    }
    text
}
