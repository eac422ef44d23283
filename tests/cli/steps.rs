//! A command that is killed, loses its power or finds the disk full, at every step of those that change the store.
//!
//! A step is a system call that can change something. strace(1) kills the command when it is about to make one, or has the
//! call fail; which calls there are is learnt from a run that nothing happens to. Threads count for themselves.
//!
//! With `MYDOCKER_TEST_STEPS=all` it is every step, which takes ten minutes; else it is all those that make something seen or
//! make it last, and each fifth of the others.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::disk::SmallDisk;
use crate::fake_registry::FakeRegistry;
use crate::made::{serve_image, tar_of};
use crate::support::command::{Cmd, Output};
use crate::support::env::{TestEnv, names, program};
use crate::support::require::Need::{Loop, Root, Tool};

/// The calls that change something, or make that it lasts.
const CALLS: [&str; 29] = [
    "openat",
    "mkdir",
    "mkdirat",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "mknodat",
    "unlink",
    "unlinkat",
    "rmdir",
    "write",
    "pwrite64",
    "writev",
    "copy_file_range",
    "fsync",
    "fdatasync",
    "syncfs",
    "ftruncate",
    "fchmod",
    "fchmodat",
    "fchown",
    "fchownat",
    "utimensat",
    "fsetxattr",
    "flock",
];

/// Something that a user does to a store.
struct Work {
    registry: FakeRegistry,
    /// What is done before.
    before: &'static [&'static [&'static str]],
    /// What is interrupted.
    command: &'static [&'static str],
    /// What it may say when it is done once more, having been done already.
    already: &'static str,
}

impl Work {
    fn new(
        before: &'static [&'static [&'static str]],
        command: &'static [&'static str],
        already: &'static str,
    ) -> Self {
        let registry = FakeRegistry::start();
        let base = tar_of(&[("etc/a", b"a"), ("etc/b", b"bb"), ("usr/lib/c", &[b'c'; 5000])]);
        let upper = tar_of(&[("etc/.wh.a", b""), ("usr/lib/d", b"d"), ("new/e", b"e")]);
        serve_image(&registry, "base", "latest", std::slice::from_ref(&base));
        serve_image(&registry, "app", "latest", &[base, upper]);
        Self { registry, before, command, already }
    }

    fn cmd(&self, env: &TestEnv, words: &[&str]) -> Cmd {
        let folder = env.folder().display().to_string();
        let host = self.registry.host();
        let words = words.iter().map(|word| word.replace("HOST", &host).replace("DIR", &folder));
        env.mydocker(words)
    }

    /// Makes the store that the command meets.
    fn prepare(&self, env: &TestEnv) {
        fs::write(env.folder().join("root.tar"), root_archive()).unwrap();
        for words in self.before {
            match words[0] {
                "damage" => damage(env.root()),
                _ => drop(self.cmd(env, words).ok()),
            }
        }
    }

    /// The command under strace, which does `inject` to it, if anything.
    fn traced(&self, env: &TestEnv, inject: Option<&str>, log: &Path) -> Cmd {
        let calls = format!("trace={}", CALLS.join(","));
        let mut cmd = Cmd::new("strace").args(["-f", "-e", &calls, "-o"]).arg(log);
        if let Some(inject) = inject {
            cmd = cmd.args(["-e", &format!("inject={inject}")]);
        }
        let host = self.registry.host();
        let folder = env.folder().display().to_string();
        let words = self.command.iter();
        let words = words.map(|word| word.replace("HOST", &host).replace("DIR", &folder));
        cmd.arg(program())
            .args(words)
            .current_dir(env.folder())
            .env("HOME", env.folder().join("home"))
            .env("MYDOCKER_ROOT", env.root())
            .env("MYDOCKER_RUN", env.folder().join("run"))
    }

    /// The steps of the command: a call, and how many of it the thread has made that made most of it.
    fn steps(&self, env: &TestEnv) -> Vec<Step> {
        let log = env.folder().join("strace");
        self.traced(env, None, &log).ok();
        let mut made: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        let mut steps = BTreeSet::new();
        let text = fs::read_to_string(log).unwrap();
        for line in text.lines() {
            let Some((thread, rest)) = line.split_once(' ') else { continue };
            let Some((call, args)) = rest.trim_start().split_once('(') else { continue };
            let Some(call) = CALLS.into_iter().find(|known| *known == call) else { continue };
            let number = made.entry((thread, call)).or_default();
            *number += 1;
            if call != "openat" || args.contains("O_CREAT") {
                steps.insert(Step { call, number: *number });
            }
        }
        assert!(steps.len() > 10, "{text}");
        let all = std::env::var_os("MYDOCKER_TEST_STEPS").is_some_and(|wanted| wanted == "all");
        let tried = |(at, step): &(usize, Step)| all || step.is_decisive() || at % 5 == 0;
        steps.into_iter().enumerate().filter(tried).map(|(_, step)| step).collect()
    }
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Step {
    call: &'static str,
    number: usize,
}

impl Step {
    fn is_decisive(self) -> bool {
        matches!(self.call, "rename" | "symlink" | "fsync" | "fdatasync" | "syncfs")
    }

    fn inject(self, what: &str) -> String {
        format!("{}:{what}:when={}", self.call, self.number)
    }
}

fn root_archive() -> Vec<u8> {
    tar_of(&[("etc/a", b"other"), ("bin/sh", &[0; 3000]), ("usr/share/x/y", b"y")])
}

/// Breaks a layer, and a file of a tree.
fn damage(root: &Path) {
    let blobs = root.join("blobs/sha256");
    let largest =
        names(&blobs).into_iter().max_by_key(|name| fs::metadata(blobs.join(name)).unwrap().len());
    let path = blobs.join(largest.unwrap());
    let mut bytes = fs::read(&path).unwrap();
    bytes[1500] ^= 1;
    fs::write(path, bytes).unwrap();
    for tree in names(&root.join("trees")) {
        let _ = fs::remove_file(root.join("trees").join(tree).join("usr/lib/c"));
    }
}

/// What the user sees of a store.
fn images(env: &TestEnv) -> Vec<String> {
    if !env.root().join("index.json").exists() {
        return Vec::new();
    }
    let shown = env.json(&["images"]);
    let name = |image: &serde_json::Value| format!("{}:{}", image["Repository"], image["Tag"]);
    // Who does a thing twice may leave an image without a name.
    let named = shown.iter().filter(|image| image["Tag"] != "<none>");
    let mut shown: Vec<String> = named.map(name).collect();
    shown.sort();
    shown
}

/// What there is, is whole, be the command done or not.
#[track_caller]
fn is_sound(work: &Work, env: &TestEnv, states: [&Vec<String>; 2], what: &str) {
    let now = images(env);
    assert!(states.contains(&&now), "{what}: {now:?} is neither of {states:?}");
    if env.root().join("oci-layout").exists() && !work.before.contains(&&["damage"][..]) {
        let verified = env.mydocker(["verify", "--deep"]).run();
        assert_eq!(verified.code(), Some(0), "{what}: {}", verified.report());
    }
}

/// What there is, is whole; done once more, the command is done, and nothing is left of the first time.
#[track_caller]
fn recovers(work: &Work, env: &TestEnv, states: [&Vec<String>; 2], what: &str) {
    is_sound(work, env, states, what);
    let again = work.cmd(env, work.command).run();
    let already = !work.already.is_empty() && again.stderr.contains(work.already);
    let done = again.code() == Some(0) || already;
    assert!(done, "{what}: {}", again.report());
    assert_eq!(&images(env), states[1], "{what}");
    env.mydocker(["verify", "--deep"]).run().success().prints("");
    // Who writes sweeps.
    env.mydocker(["import", "-q", "--name", "sweeper", "root.tar"]).ok();
    env.mydocker(["rmi", "sweeper"]).ok();
    env.assert_no_rubbish();
}

/// The store before and after the command, in a folder that copies are made of; and what is seen then.
fn undisturbed(work: &Work, env: &TestEnv) -> (PathBuf, [Vec<String>; 2], Vec<Step>) {
    work.prepare(env);
    let kept = env.folder().join("kept");
    if env.root().exists() {
        Cmd::new("cp").arg("-a").arg(env.root()).arg(&kept).ok();
    }
    let old = images(env);
    let steps = work.steps(env);
    (kept, [old, images(env)], steps)
}

/// Puts the store back to what it was before the command.
fn put_back(env: &TestEnv, kept: &Path) {
    Cmd::new("rm").arg("-rf").arg(env.root()).ok();
    if kept.exists() {
        Cmd::new("cp").arg("-a").arg(kept).arg(env.root()).ok();
    }
}

/// The command is killed at every step, and then the machine loses its power.
fn killed_everywhere(work: &Work) {
    let disk = SmallDisk::new(16);
    let env = TestEnv::with_root(&disk.path().join("store"));
    work.prepare(&env);
    let old = images(&env);
    let base = disk.copy();
    let steps = work.steps(&env);
    let new = images(&env);
    // What was reported done is done.
    disk.cut_power();
    assert_eq!(images(&env), new);
    env.mydocker(["verify", "--deep"]).run().success().prints("");
    drop((env, disk));
    let mut killed = 0;
    for step in &steps {
        let disk = base.copy();
        let env = TestEnv::with_root(&disk.path().join("store"));
        fs::write(env.folder().join("root.tar"), root_archive()).unwrap();
        if env.root().join("containers").exists() {
            fs::create_dir_all(env.folder().join("run")).unwrap();
        }
        let output =
            work.traced(&env, Some(&step.inject("signal=KILL")), Path::new("/dev/null")).run();
        let done = output.code() == Some(0);
        killed += usize::from(!done);
        let what = format!("killed at {step:?}");
        is_sound(work, &env, [&old, &new], &what);
        disk.cut_power();
        recovers(
            work,
            &env,
            [if done { &new } else { &old }, &new],
            &format!("{what}, and without power"),
        );
    }
    // A thread may have done less than the last time; most do the same.
    assert!(killed > steps.len() / 2, "{killed} of {}", steps.len());
}

/// Every step but the writing of bytes fails, as if the disk were full, and flushing as if it were broken.
fn failing_everywhere(work: &Work) {
    let env = TestEnv::new();
    let (kept, [old, new], steps) = undisturbed(work, &env);
    let mut failed = 0;
    // What is written goes to pipes and to the terminal as well, and locks do not need room.
    for step in steps.iter().filter(|step| !matches!(step.call, "write" | "writev" | "flock")) {
        let (error, words) = match step.call {
            "fsync" | "fdatasync" | "syncfs" => ("EIO", "i/o error"),
            _ => ("ENOSPC", "no space left on device"),
        };
        put_back(&env, &kept);
        let inject = step.inject(&format!("error={error}"));
        let output = work.traced(&env, Some(&inject), Path::new("/dev/null")).run();
        let done = output.code() == Some(0);
        failed += usize::from(!done);
        let what = format!("{error} from {step:?}");
        // The same number in another thread may have opened a file that is there.
        if step.call != "openat" {
            said(&output, words, &what);
        }
        recovers(work, &env, [if done { &new } else { &old }, &new], &what);
    }
    assert!(failed > steps.len() / 4, "{failed} of {}", steps.len());
}

/// The disk is full after ever more bytes, until there is room enough.
fn full_everywhere(work: &Work) {
    let disk = SmallDisk::new(16);
    let env = TestEnv::with_root(&disk.path().join("store"));
    work.prepare(&env);
    let old = images(&env);
    let base = disk.copy();
    work.cmd(&env, work.command).ok();
    let new = images(&env);
    drop((env, disk));
    for free in (0..400).step_by(4) {
        let disk = base.copy();
        let env = TestEnv::with_root(&disk.path().join("store"));
        fs::write(env.folder().join("root.tar"), root_archive()).unwrap();
        let room = disk.fill(free << 10);
        let output = work.cmd(&env, work.command).run();
        let (done, what) = (output.code() == Some(0), format!("{free} KiB are free"));
        said(&output, "no space left on device", &what);
        is_sound(work, &env, [if done { &new } else { &old }, &new], &what);
        fs::remove_file(room).unwrap();
        recovers(work, &env, [if done { &new } else { &old }, &new], &what);
        if done {
            return;
        }
    }
    panic!("400 KiB are not enough");
}

/// A command that fails says why.
#[track_caller]
fn said(output: &Output, words: &str, what: &str) {
    let fine = output.code() == Some(0) || output.stderr.to_lowercase().contains(words);
    assert!(fine && !output.stderr.contains("panicked"), "{what}: {}", output.report());
}

fn pull() -> Work {
    Work::new(&[], &["pull", "-q", "HOST/app"], "")
}

fn pull_beside_another() -> Work {
    Work::new(&[&["pull", "-q", "HOST/base"]], &["pull", "-q", "HOST/app"], "")
}

fn import() -> Work {
    Work::new(
        &[&["pull", "-q", "HOST/base"]],
        &["import", "-q", "--name", "new", "DIR/root.tar"],
        "",
    )
}

fn rmi() -> Work {
    let before: &[&[&str]] = &[&["pull", "-q", "HOST/base"], &["pull", "-q", "HOST/app"]];
    Work::new(before, &["rmi", "HOST/app"], "no such image")
}

fn commit() -> Work {
    let before: &[&[&str]] = &[
        &["pull", "-q", "HOST/base"],
        &["create", "--name", "c", "HOST/base", "/x"],
        &["cp", "DIR/root.tar", "c:/usr/"],
    ];
    Work::new(before, &["commit", "c", "made"], "")
}

fn repair() -> Work {
    Work::new(&[&["pull", "-q", "HOST/app"], &["damage"]], &["repair"], "")
}

fn prune() -> Work {
    let before: &[&[&str]] = &[&["pull", "-q", "HOST/base"], &["pull", "-q", "HOST/app"]];
    Work::new(before, &["prune", "-a", "-f"], "")
}

macro_rules! at_every_step {
    ($($work:ident),+) => {$(
        mod $work {
            use super::*;

            #[test]
            fn killed_and_without_power() {
                require!(Root, Loop, Tool("strace"), Tool("mke2fs"), Tool("python3"));
                killed_everywhere(&super::$work());
            }

            #[test]
            fn every_call_fails() {
                require!(Root, Tool("strace"));
                failing_everywhere(&super::$work());
            }

            #[test]
            fn the_disk_is_full() {
                require!(Root, Loop, Tool("mke2fs"));
                full_everywhere(&super::$work());
            }
        }
    )+};
}

at_every_step!(pull, pull_beside_another, import, rmi, commit, repair, prune);

/// What the tests above stand on: what was not flushed is lost.
#[test]
fn without_a_flush_the_power_takes_it() {
    require!(Root, Loop, Tool("mke2fs"), Tool("python3"));
    let disk = SmallDisk::new(16);
    let env = TestEnv::with_root(&disk.path().join("store"));
    let work = import();
    work.prepare(&env);
    let old = images(&env);
    env.mydocker(["--no-sync", "import", "-q", "--name", "new", "root.tar"]).ok();
    assert_ne!(images(&env), old);
    disk.cut_power();
    assert_eq!(images(&env), old);
}
