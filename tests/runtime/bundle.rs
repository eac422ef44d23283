//! Bundles for tests.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::program::write_program;
use serde_json::{Value, json};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_mydocker");

/// What the scripts of the tests use.
const APPLETS: &str = "cat chown cut env grep head hostname id ls mkdir mknod mount readlink rm sh \
    sleep stat stty tail touch true tty umount wc";

/// A bundle in a directory of its own, which goes away with it.
pub(crate) struct Bundle {
    pub(crate) directory: PathBuf,
    pub(crate) id: String,
    pub(crate) spec: Value,
    pub(crate) options: Vec<OsString>,
}

/// How a run ended, and what it printed.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Bundle {
    /// A bundle with the default spec that runs `script` in a shell.
    pub(crate) fn new(script: &str) -> Self {
        Self::with(&["/bin/sh", "-c", script], &[])
    }

    /// As `new`, without a user namespace.
    pub(crate) fn without_user_namespace(script: &str) -> Self {
        Self::with(&["/bin/sh", "-c", script], &["--userns-host"])
    }

    pub(crate) fn with(arguments: &[&str], options: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let id = format!("test-{}-{count}", std::process::id());
        // Not /tmp: a tmpfs, which it often is, cannot map owners before Linux 6.3.
        let directory = std::path::Path::new("/var/tmp").join(format!("mydocker-{id}"));
        let root = directory.join("rootfs");
        for name in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        write_program(&root.join("bin/busybox"), fs::read("/bin/busybox").unwrap());
        for applet in APPLETS.split_whitespace() {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        let written = Command::new(PROGRAM)
            .args(["oci", "spec", "--bundle"])
            .arg(&directory)
            .args(options)
            .arg("--")
            .args(arguments)
            .output()
            .unwrap();
        assert!(written.status.success(), "{written:?}");
        let text = fs::read(directory.join("config.json")).unwrap();
        let spec = serde_json::from_slice(&text).unwrap();
        Self { directory, id, spec, options: vec!["--idmap".into()] }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.directory.join("rootfs")
    }

    /// Sets a value of the spec, by its JSON pointer.
    pub(crate) fn set(&mut self, pointer: &str, value: Value) {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let parent = self.spec.pointer_mut(parent).unwrap();
        match parent {
            Value::Array(list) => list[name.parse::<usize>().unwrap()] = value,
            parent => parent[name] = value,
        }
    }

    /// Mounts a directory or file of the host.
    pub(crate) fn bind(&mut self, source: &Path, destination: &str, options: &[&str]) {
        let options: Vec<&str> = ["rbind"].iter().chain(options).copied().collect();
        let mount = json!({"type": "bind", "source": source, "destination": destination, "options": options});
        self.spec["mounts"].as_array_mut().unwrap().push(mount);
    }

    /// Lays a layer of the container's own over the root; returns it.
    pub(crate) fn overlay(&mut self) -> PathBuf {
        let layer = self.directory.join("layer");
        fs::create_dir_all(layer.join("upper")).unwrap();
        fs::create_dir_all(layer.join("work")).unwrap();
        self.options.extend(["--lower".into(), self.root().into(), "--layer".into()]);
        self.options.push(layer.clone().into());
        layer
    }

    pub(crate) fn command(&self) -> Command {
        let text = serde_json::to_vec(&self.spec).unwrap();
        fs::write(self.directory.join("config.json"), text).unwrap();
        let mut command = Command::new(PROGRAM);
        command.args(["oci", "run", "--bundle"]).arg(&self.directory);
        command.args(&self.options).arg(&self.id).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self) -> Ran {
        Ran::from(self.command().output().unwrap())
    }

    /// Runs, and demands success.
    pub(crate) fn output(&self) -> String {
        let ran = self.run();
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
        ran.out
    }

    /// Runs, and demands that the program is never begun.
    pub(crate) fn refusal(&self) -> String {
        let ran = self.run();
        assert_eq!((ran.code, ran.out.as_str()), (125, ""), "{ran:?}");
        ran.err
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let code = output.status.code().unwrap_or(-1);
        assert_ne!(code, 101, "a panic");
        Self { code, out: text(output.stdout), err: text(output.stderr) }
    }
}

/// Whether this machine has version 2 groups only.
pub(crate) fn is_cgroup2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// The lines of a text that begin with one of `names`, without what lies between name and value.
pub(crate) fn fields<'a>(text: &'a str, names: &[&str]) -> Vec<(&'a str, &'a str)> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.filter(|(name, _)| names.contains(name)).map(|(n, v)| (n, v.trim())).collect()
}
