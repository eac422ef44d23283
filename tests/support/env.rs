//! A store and a home of a test's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::command::{Cmd, Output};
use super::tree::{self, Tree};
use super::{fixtures, seconds, wait_for};

/// An empty store with everything that belongs to it, removed when dropped.
#[derive(Debug)]
pub struct TestEnv {
    folder: PathBuf,
    root: PathBuf,
}

impl TestEnv {
    /// An empty store.
    pub fn new() -> Self {
        let folder = temporary_folder();
        fs::create_dir(folder.join("home")).unwrap();
        let root = folder.join("store");
        Self { folder, root }
    }

    /// A store in another place, such as a small disk; that place is not removed.
    pub fn with_root(root: &Path) -> Self {
        let mut env = Self::new();
        env.root = root.to_owned();
        env
    }

    /// A store with the image `busybox`.
    pub fn with_busybox() -> Self {
        let env = Self::new();
        env.mydocker(["--no-sync", "import", "--quiet"]).arg(fixtures::path("busybox.tar")).ok();
        env
    }

    /// A folder for the test's own files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The store's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The program, about to run with `args`.
    pub fn mydocker(&self, args: impl IntoIterator<Item = impl AsRef<std::ffi::OsStr>>) -> Cmd {
        let cmd = Cmd::new(program()).args(args).current_dir(&self.folder);
        cmd.env("HOME", self.folder.join("home"))
            .env("MYDOCKER_ROOT", &self.root)
            .env("MYDOCKER_RUN", self.folder.join("run"))
    }

    /// `mydocker run --rm` with `args`, to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        self.mydocker(["run", "--rm"]).args(args).run()
    }

    /// What `script` prints when busybox's shell runs it in a container made with `options`.
    #[track_caller]
    pub fn sh_with(&self, options: &[&str], script: &str) -> String {
        let output = self
            .mydocker(["run", "--rm"])
            .args(options)
            .args(["busybox", "sh", "-c", script])
            .run();
        output.success().stdout
    }

    /// What `script` prints when busybox's shell runs it in a container.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        self.sh_with(&[], script)
    }

    /// What a verb prints with `--format json`: one object a line.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Vec<Value> {
        let output = self.mydocker(args).args(["--format", "json"]).run().success();
        let lines = output.stdout.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}")))
            .collect()
    }

    /// The tree that `rootfs/<name>` leads to.
    pub fn rootfs(&self, name: &str) -> PathBuf {
        self.root.join("rootfs").join(name.replace('/', "+"))
    }

    /// Everything in the store but work under way, to be compared with a later state.
    pub fn store(&self) -> Tree {
        if !self.root.exists() {
            return Tree::default();
        }
        tree::read(&self.root).without(&["tmp", "partial", "containers", "events.log", ""])
    }

    /// Asserts that nothing is left of work under way.
    #[track_caller]
    pub fn assert_no_rubbish(&self) {
        let left = names(&self.root.join("tmp"));
        assert!(left.is_empty(), "left in tmp/: {left:?}");
        let left = self.partial_blobs();
        assert!(left.is_empty(), "left in partial/: {left:?}");
        let images = names(&self.root.join("trees"));
        let named = names(&self.root.join("rootfs"));
        assert!(images.is_empty() == named.is_empty(), "trees {images:?}, names {named:?}");
    }

    /// What interrupted downloads have left for the next.
    pub fn partial_blobs(&self) -> Vec<String> {
        names(&self.root.join("partial"))
    }

    /// Asserts that a command fails and leaves the store as it was.
    #[track_caller]
    pub fn assert_refused(&self, cmd: Cmd, code: i32, causes: &[&str]) -> Output {
        let before = self.store();
        let output = cmd.run().fails(code, causes);
        // A store that was made for the attempt holds nothing, which is as good as none.
        let after = self.store();
        if before.is_empty() {
            assert!(names(&self.root.join("trees")).is_empty(), "{}", output.report());
            assert!(names(&self.root.join("rootfs")).is_empty(), "{}", output.report());
            assert!(names(&self.root.join("blobs/sha256")).is_empty(), "{}", output.report());
        } else {
            before.assert_same(&after);
        }
        self.assert_no_rubbish();
        output
    }

    /// Waits until the container `name` runs, and returns the process id of its first process on the host.
    pub fn wait_until_running(&self, name: &str) -> i32 {
        wait_for("a running container", || {
            let all = self.json(&["ps", "--no-trunc"]);
            let found = all.iter().find(|c| c["Names"] == name && c["State"] == "running")?;
            let written = fs::read(self.folder.join("run").join(found["ID"].as_str()?)).ok()?;
            let state: Value = serde_json::from_slice(&written).ok()?;
            i32::try_from(state["pid"].as_i64()?).ok()
        })
    }

    /// The processes in containers of this store, known by what is mounted there.
    pub fn processes(&self) -> Vec<i32> {
        let own = format!("{}/", self.folder.file_name().unwrap().to_str().unwrap());
        let ours = fs::read_link("/proc/self/ns/mnt").unwrap();
        let inside = |pid: &i32| {
            let namespace = fs::read_link(format!("/proc/{pid}/ns/mnt"));
            let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo"));
            namespace.is_ok_and(|found| found != ours)
                && mounts.is_ok_and(|mounts| mounts.contains(&own))
        };
        names(Path::new("/proc"))
            .into_iter()
            .filter_map(|name| name.parse().ok())
            .filter(inside)
            .collect()
    }

    /// The ids of the containers that are written down as running.
    pub fn running(&self) -> Vec<String> {
        names(&self.folder.join("run")).into_iter().filter(|name| name.len() == 64).collect()
    }

    /// The ids of the containers that the store knows.
    pub fn containers(&self) -> Vec<String> {
        names(&self.root.join("containers")).into_iter().filter(|name| name.len() == 64).collect()
    }
}

impl TestEnv {
    /// Removes the containers that a test has left, and kills monitors that are no container's any more: one that fails
    /// while a container runs would leave both behind for good.
    fn remove_containers(&self) {
        let left = self.containers();
        if !left.is_empty() {
            let mut removal = self.mydocker(["rm", "-f"]).args(&left).start();
            let deadline = Instant::now() + seconds(60);
            // One that hangs is killed, and no reason to panic: the test may be about to end in that already.
            while !removal.has_ended() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        for pid in self.monitors() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        for group in groups().iter().filter(|group| left.iter().any(|id| group.ends_with(id))) {
            let _ = fs::write(group.join("freezer.state"), "THAWED");
            let procs = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
            for pid in procs.lines().filter_map(|pid| pid.parse().ok()) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            let _ = fs::remove_dir(group);
        }
    }

    /// The monitors of this store's containers.
    pub fn monitors(&self) -> Vec<i32> {
        let root = self.root.to_string_lossy().into_owned();
        let is_one = |pid: &i32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let mut words = line.split(|byte| *byte == 0);
            words.any(|word| word == b"monitor") && words.any(|word| word == root.as_bytes())
        };
        let pids = names(Path::new("/proc")).into_iter().filter_map(|name| name.parse().ok());
        pids.filter(is_one).collect()
    }
}

impl Drop for TestEnv {
    fn drop(&mut self) {
        self.remove_containers();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        // Not those of another test whose number only begins alike.
        let folder = format!("{}/", self.folder.display());
        let left: Vec<&str> = mounts.lines().filter(|line| line.contains(&folder)).collect();
        for line in &left {
            let point = line.split(' ').nth(4).unwrap_or_default();
            Cmd::new("umount").arg("-l").arg(point).run();
        }
        // Those of a container whose mydocker was killed a moment ago are about to end.
        let deadline = Instant::now() + seconds(5);
        let mut processes = self.processes();
        while !processes.is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
            processes = self.processes();
        }
        let _ = fs::remove_dir_all(&self.folder);
        if !std::thread::panicking() {
            assert!(left.is_empty(), "left mounted: {left:?}");
            assert!(processes.is_empty(), "left running: {processes:?}");
        }
    }
}

/// Whether a process has not ended, whoever may still have to take notice of its end.
pub fn lives(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// The control groups of all containers on this machine, in all hierarchies.
pub fn groups() -> Vec<PathBuf> {
    fn walk(folder: PathBuf, depth: u32, found: &mut Vec<PathBuf>) {
        let Ok(entries) = fs::read_dir(&folder) else { return };
        let folders = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir()));
        for entry in folders {
            if folder.ends_with("mydocker") {
                found.push(entry.path());
            } else if depth > 0 {
                walk(entry.path(), depth - 1, found);
            }
        }
    }
    let mut found = Vec::new();
    walk("/sys/fs/cgroup".into(), 4, &mut found);
    found
}

/// The memory of a process that is its alone, in kB.
pub fn private_memory(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let private = |name: &str| -> u64 {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    private("Private_Clean:") + private("Private_Dirty:")
}

/// The program under test.
pub fn program() -> PathBuf {
    match std::env::var_os("MYDOCKER_TEST_PROGRAM") {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(env!("CARGO_BIN_EXE_mydocker")),
    }
}

/// Copies the program, by another process: were this one to write it, a command started at the same time by another test
/// would inherit the open file, and the copy could not be executed for so long (`ETXTBSY`).
pub fn copy_program(to: &Path) {
    Cmd::new("install").args(["-m", "755"]).arg(program()).arg(to).ok();
}

/// A new, empty folder on a real disk: an overlay's upper layer cannot lie on an overlay, nor, on older kernels, an
/// idmapped mount on a tmpfs.
pub fn temporary_folder() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let base = std::env::var_os("MYDOCKER_TEST_TMP").map_or("/var/tmp".into(), PathBuf::from);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let folder = base.join(format!("mydocker-test-{}-{number}", std::process::id()));
    fs::create_dir(&folder).unwrap();
    folder
}

/// The names in a folder; none if there is no such folder.
pub fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
