//! Whole directory trees as values, to compare two of them or one before and after.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::command::Cmd;

/// All that can be known of a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    kind: &'static str,
    mode: u32,
    owner: (u32, u32),
    /// How many names it has in the tree. Files of several trees may be one file, so that its link count tells less.
    links: u64,
    device: u64,
    /// Seconds and nanoseconds.
    mtime: (i64, i64),
    /// A file's size and SHA-256, or a symbolic link's target.
    content: String,
    /// The extended attributes, in the words of getfattr.
    xattrs: Vec<String>,
}

/// A directory tree. Names are paths from its top, with other bytes than printable ASCII escaped.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tree(BTreeMap<String, Entry>);

/// Reads a whole tree.
pub fn read(top: &Path) -> Tree {
    let (mut entries, mut names) = (BTreeMap::new(), HashMap::new());
    let mut pending = vec![top.to_owned()];
    while let Some(path) = pending.pop() {
        let name =
            path.strip_prefix(top).unwrap().as_os_str().as_bytes().escape_ascii().to_string();
        let Some((inode, entry)) = entry(&path) else { continue };
        // What is no directory has no children; what has gone away meanwhile neither.
        if entry.kind == "directory"
            && let Ok(children) = fs::read_dir(&path)
        {
            pending.extend(children.map(|child| child.unwrap().path()));
        }
        names.entry(inode).or_insert_with(Vec::new).push(name.clone());
        entries.insert(name, entry);
    }
    for same in names.values() {
        for name in same {
            entries.entry(name.clone()).and_modify(|entry| entry.links = same.len() as u64);
        }
    }
    Tree(entries)
}

/// A file, and what it is known by on the disk; `None` if it has gone away meanwhile.
fn entry(path: &PathBuf) -> Option<((u64, u64), Entry)> {
    let found = fs::symlink_metadata(path).ok()?;
    let (kind, content) = match found.file_type() {
        kind if kind.is_dir() => ("directory", String::new()),
        kind if kind.is_symlink() => {
            ("symlink", fs::read_link(path).ok()?.as_os_str().as_bytes().escape_ascii().to_string())
        }
        kind if kind.is_fifo() => ("fifo", String::new()),
        kind if kind.is_char_device() => ("character device", String::new()),
        kind if kind.is_block_device() => ("block device", String::new()),
        kind if kind.is_socket() => ("socket", String::new()),
        _ => {
            let hash = Sha256::digest(fs::read(path).ok()?);
            let hex = hash.iter().fold(String::new(), |mut hex, byte| {
                let _ = write!(hex, "{byte:02x}");
                hex
            });
            ("file", format!("{} bytes, sha256 {hex}", found.len()))
        }
    };
    let entry = Entry {
        kind,
        mode: found.mode() & 0o7777,
        owner: (found.uid(), found.gid()),
        links: 1,
        device: found.rdev(),
        mtime: (found.mtime(), found.mtime_nsec()),
        content,
        xattrs: Vec::new(),
    };
    Some(((found.dev(), found.ino()), entry))
}

impl Tree {
    /// Whether there is nothing at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Reads the extended attributes too, which `top` and all below it have.
    pub fn with_xattrs(mut self, top: &Path) -> Self {
        let all = Cmd::new("getfattr")
            .args([
                "--dump",
                "--recursive",
                "--no-dereference",
                "--physical",
                "--match=-",
                "--encoding=hex",
                ".",
            ])
            .current_dir(top)
            .ok();
        for paragraph in all.split("\n\n") {
            let mut lines = paragraph.lines();
            let Some(name) = lines.next().and_then(|line| line.strip_prefix("# file: ")) else {
                continue;
            };
            let name = if name == "." { "" } else { name };
            let entry = self.0.get_mut(name).unwrap_or_else(|| panic!("no {name}"));
            entry.xattrs = lines.map(str::to_owned).collect();
            entry.xattrs.sort();
        }
        self
    }

    /// The tree without some of its parts, given by their paths; `""` is the top alone.
    pub fn without(mut self, parts: &[&str]) -> Self {
        for part in parts {
            let below = format!("{part}/");
            self.0.retain(|name, _| name != part && (part.is_empty() || !name.starts_with(&below)));
        }
        self
    }

    /// The tree without the times of what is below some directories.
    pub fn without_times(mut self, folders: &[&str]) -> Self {
        for (name, entry) in &mut self.0 {
            if folders.iter().any(|folder| name.starts_with(&format!("{folder}/"))) {
                entry.mtime = (0, 0);
            }
        }
        self
    }

    /// The tree without the times of directories, and without the top itself.
    pub fn without_times_of_folders(mut self) -> Self {
        self.0.remove("");
        for entry in self.0.values_mut().filter(|entry| entry.kind == "directory") {
            entry.mtime = (0, 0);
        }
        self
    }

    /// The tree without the numbers of links, which tell what other trees share files with it.
    pub fn without_links(mut self) -> Self {
        self.0.values_mut().for_each(|entry| entry.links = 0);
        self
    }

    /// The tree without some directories themselves; what is in them stays.
    pub fn without_folders(mut self, folders: &[&str]) -> Self {
        self.0.retain(|name, _| !folders.contains(&name.as_str()));
        self
    }

    /// Asserts that `other` is the same, and says how it is not.
    #[track_caller]
    pub fn assert_same(&self, other: &Self) {
        let mut differences = String::new();
        for (name, left) in &self.0 {
            match other.0.get(name) {
                None => _ = writeln!(differences, "{name}: only in the first: {left:?}"),
                Some(right) if left != right => {
                    _ = writeln!(differences, "{name}:\n  {left:?}\n  {right:?}");
                }
                Some(_) => {}
            }
        }
        for (name, right) in other.0.iter().filter(|(name, _)| !self.0.contains_key(*name)) {
            let _ = writeln!(differences, "{name}: only in the second: {right:?}");
        }
        assert!(differences.is_empty(), "the trees differ:\n{differences}");
    }
}
