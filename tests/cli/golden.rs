//! The golden page: all that a default container is, in one file that changes only on purpose.
//!
//! `MYDOCKER_TEST_BLESS=1` writes the page anew, for somebody to read what has changed.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use crate::support::command::Cmd;
use crate::support::env::TestEnv;
use crate::support::require::Need::{Root, Tool};

/// What the container says of itself. The variables of a shell's own are left out.
const SCRIPT: &str = "
echo '# status'; grep -E '^(Uid|Gid|Groups|Cap...|NoNewPrivs|Seccomp|Seccomp_filters|SigBlk|SigIgn):' /proc/self/status
echo '# limits'; ulimit -Sn; cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max 2>/dev/null
echo '# descriptors'; ls /proc/1/fd | tr '\\n' ' '; echo
echo '# environment'; tr '\\0' '\\n' </proc/1/environ
echo '# process'; umask; pwd; cut -d ' ' -f 6-7 /proc/1/stat
echo '# devices'; ls -ln /dev | grep -v ^total | sed -E 's/ +/ /g; s/ [A-Z][a-z]{2} [0-9 ]+ ?[0-9:]+ / /'
echo '# cgroup'; cut -d : -f 3 /proc/self/cgroup | sort -u
echo '# network'; ls /sys/class/net
echo '# mounts'; sort -k 5,5 /proc/self/mountinfo
";

#[test]
fn a_default_container_is_what_the_page_says() {
    require!(Root);
    let env = TestEnv::with_busybox();
    // The first process waits meanwhile: it has no descriptors of its own, as a shell with a pipeline has.
    let waiting = "sh -c \"$0\"; exit $?";
    let options = ["run", "--rm", "--hostname", "golden", "busybox"];
    let output = env.mydocker(options).args(["sh", "-c", waiting, SCRIPT]);
    let shown = output.env("SECRET", "s").ok();
    let v2 = env.json(&["info"])[0]["CgroupVersion"] == "2";
    compare(if v2 { "golden-v2.txt" } else { "golden-v1.txt" }, &normal(&shown));
}

#[test]
fn dangerous_system_calls_return_what_the_page_says() {
    require!(Root, Tool("cc"));
    if std::env::consts::ARCH != "x86_64" {
        return;
    }
    let env = TestEnv::with_busybox();
    let (source, program) = (folder().join("golden.c"), env.folder().join("calls"));
    Cmd::new("cc").args(["-static", "-O1", "-w", "-o"]).arg(&program).arg(source).ok();
    let volume = format!("{}:/calls:ro", program.display());
    compare("golden-calls.txt", &env.run(&["-v", &volume, "busybox", "/calls"]).success().stdout);
}

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli"))
}

#[track_caller]
fn compare(page: &str, shown: &str) {
    let path = folder().join(page);
    if std::env::var_os("MYDOCKER_TEST_BLESS").is_some() {
        fs::write(&path, shown).unwrap();
    }
    let wanted = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut text = String::new();
    let (old, new): (Vec<&str>, Vec<&str>) = (wanted.lines().collect(), shown.lines().collect());
    for line in old.iter().filter(|line| !new.contains(line)) {
        let _ = writeln!(text, "- {line}");
    }
    for line in new.iter().filter(|line| !old.contains(line)) {
        let _ = writeln!(text, "+ {line}");
    }
    assert!(wanted == shown, "{page} is no more what a container is:\n{text}\nall of it:\n{shown}");
}

/// The page without what differs from one machine, or one run, to the next.
fn normal(shown: &str) -> String {
    let mut page = String::new();
    let mut mounts = false;
    for line in shown.lines() {
        mounts |= line == "# mounts";
        let line = if mounts && !line.starts_with('#') { mount(line) } else { line.to_owned() };
        // A kernel need not have every file that is hidden or read-only.
        if !line.contains("empty-mask") && !line.starts_with("/proc/sysrq-trigger ") {
            page.push_str(&line);
            page.push('\n');
        }
    }
    page
}

/// A line of `mountinfo` (proc_pid_mountinfo(5)) without numbers, and without what is in the store's own paths.
fn mount(line: &str) -> String {
    let fields: Vec<&str> = line.split(' ').collect();
    let (first, last) = line.split_once(" - ").unwrap_or((line, ""));
    let optional: Vec<&str> = first.split(' ').skip(6).collect();
    let source: Vec<&str> = last.split(' ').collect();
    let on_disk = fields[4] == "/" || fields[4].starts_with("/etc/");
    let root = if on_disk { "*" } else { fields[3] };
    // Of the file system's own options, which are also its age, only those that say what may be done.
    let options = source.get(2).copied().unwrap_or_default();
    let kept = |option: &&str| {
        matches!(*option, "ro" | "rw") || option.starts_with("mode=") || option.starts_with("size=")
    };
    let options: Vec<&str> = options.split(',').filter(kept).collect();
    let kind = if fields[4].starts_with("/etc/") { "*" } else { source[0] };
    let masked = fields[3] == "/file" || fields[3] == "/directory";
    if masked {
        return format!("empty-mask {}", fields[4]);
    }
    let options = if on_disk { String::new() } else { options.join(",") };
    format!("{} {root} {} {optional:?} {kind} {options}", fields[4], fields[5])
}
