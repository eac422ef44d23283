//! Errors about the program inside, explained.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::env::TestEnv;
use crate::support::fixtures;
use crate::support::require::Need::{Controller, Debian, Root};

/// A program for another machine: the beginning of an ELF file (elf(5)).
fn foreign(machine: u16) -> Vec<u8> {
    let mut head = vec![0_u8; 64];
    head[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1]);
    head[16] = 2;
    head[18..20].copy_from_slice(&machine.to_le_bytes());
    head
}

/// A program for this machine with `loader` as its interpreter.
fn loaded_by(loader: &str) -> Vec<u8> {
    let machine: u16 = if cfg!(target_arch = "x86_64") { 62 } else { 183 };
    let mut file = foreign(machine);
    let word = |value: u64| value.to_le_bytes();
    file[20] = 1;
    file[32..40].copy_from_slice(&word(64));
    file[52..58].copy_from_slice(&[64, 0, 56, 0, 1, 0]);
    let mut header = vec![3, 0, 0, 0, 4, 0, 0, 0];
    let length = loader.len() as u64 + 1;
    for value in [120, 0x12_0000, 0x12_0000, length, length, 1] {
        header.extend(word(value));
    }
    file.extend(header);
    file.extend(loader.as_bytes());
    file.push(0);
    file.resize(4096, 0);
    file
}

/// An image `odd` of busybox with programs that cannot be executed.
fn odd() -> TestEnv {
    let env = TestEnv::with_busybox();
    let root = env.folder().join("odd");
    let put = |name: &str, content: &[u8], mode: u32| {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let busybox = fs::read(env.rootfs("busybox").join("bin/busybox")).unwrap();
    put("bin/sh", &busybox, 0o755);
    put("bin/sleep", &busybox, 0o755);
    put("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n", 0o644);
    put("x/foreign", &foreign(if cfg!(target_arch = "x86_64") { 183 } else { 62 }), 0o755);
    put("x/alpha", &foreign(0x9026), 0o755);
    put("x/loader", &loaded_by("/lib/ld-nosuch.so.1"), 0o755);
    put("x/script", b"#!/bin/nosuch -x\necho\n", 0o755);
    put("x/windows", b"#!/bin/sh\r\necho hello\r\n", 0o755);
    put("x/plain", b"#!/bin/sh\necho\n", 0o644);
    put("x/by-plain", b"#!/x/plain\necho\n", 0o755);
    put("x/by-loader", b"#!/x/loader\necho\n", 0o755);
    put("x/empty", b"", 0o755);
    put("x/text", b"echo hello\n", 0o755);
    put("x/huge", &[b"#!/".as_slice(), &vec![b'y'; 100_000]].concat(), 0o755);
    put("x/elf-bits", b"\x7fELF\x02\x01\x01", 0o755);
    std::os::unix::fs::symlink("/nosuch/target", root.join("x/link")).unwrap();
    std::os::unix::fs::symlink("link", root.join("x/loop")).unwrap();
    nix::unistd::mkfifo(&root.join("x/fifo"), nix::sys::stat::Mode::from_bits_truncate(0o777))
        .unwrap();
    env.mydocker(["import", "-q"]).arg(&root).ok();
    env
}

const PROGRAMS: &[(&str, i32, &[&str])] = &[
    ("/x/alpha", 126, &["execute `/x/alpha`", "program for machine 36902", "this machine is"]),
    ("/x/loader", 127, &["execute `/x/loader`", "interpreter `/lib/ld-nosuch.so.1`", "C library"]),
    ("/x/script", 127, &["interpreter `/bin/nosuch` is not in the container"]),
    ("/x/windows", 127, &["carriage return", "`/bin/sh\\r`", "hint: ", "Windows"]),
    ("/x/by-loader", 127, &["interpreter `/lib/ld-nosuch.so.1`"]),
    ("/x/plain", 126, &["no permission to be executed", "mode 0644", "chmod +x"]),
    ("/x/by-plain", 126, &["interpreter `/x/plain` cannot be executed"]),
    ("/x", 126, &["execute `/x`", "it is a directory"]),
    ("/x/fifo", 126, &["it is a device, a pipe or a socket"]),
    ("/x/empty", 126, &["the file is empty", "#!/bin/sh"]),
    ("/x/text", 126, &["neither a program nor a script"]),
    ("/x/elf-bits", 126, &["execute `/x/elf-bits`"]),
    ("/x/link", 127, &["it is a link to `/nosuch/target`"]),
    ("/x/loop", 127, &["it is a link to `link`"]),
    ("/x/nosuch", 127, &["`/x/nosuch` not found in the container"]),
    ("nosuch", 127, &["`nosuch` not found in the container", "hint: ", "PATH, /a/b:/bin"]),
    ("/x/huge", 126, &["execute `/x/huge`", "first line is longer"]),
];

#[test]
fn run_says_why_a_program_cannot_be_executed() {
    require!(Root);
    let env = odd();
    for (program, code, causes) in PROGRAMS {
        let cmd = env.mydocker(["run", "--rm", "-e", "PATH=/a/b:/bin", "odd", program]);
        cmd.run().fails(*code, causes);
    }
    let (theirs, ours) =
        if cfg!(target_arch = "x86_64") { ("arm64", "amd64") } else { ("amd64", "arm64") };
    let foreign = env.mydocker(["run", "--rm", "odd", "/x/foreign"]).run();
    foreign.fails(
        126,
        &[&format!("program for {theirs}"), &format!("machine is {ours}"), "--platform"],
    );
    // As another user, who may not do what root may.
    let cmd = env.mydocker(["run", "--rm", "-u", "5", "odd", "/x/script"]).run();
    cmd.fails(127, &["interpreter `/bin/nosuch`"]);
    assert!(env.containers().is_empty());
}

#[test]
fn exec_says_it_too() {
    require!(Root);
    let env = odd();
    env.mydocker(["run", "-d", "--name", "box", "-e", "PATH=/a/b:/bin", "odd"])
        .args(["sleep", "1000"])
        .ok();
    for (program, code, causes) in PROGRAMS {
        env.mydocker(["exec", "box", program]).run().fails(*code, causes);
    }
    env.mydocker(["rm", "-f", "box"]).ok();
}

#[test]
fn detached_and_started_containers_say_it_too() {
    require!(Root);
    let env = odd();
    for (program, code, causes) in PROGRAMS {
        let cmd = env.mydocker(["run", "-d", "-e", "PATH=/a/b:/bin", "odd", program]);
        cmd.run().fails(*code, causes);
        let id = env.mydocker(["create", "-e", "PATH=/a/b:/bin", "odd", program]).ok();
        // A list of containers, of which one cannot be started.
        env.mydocker(["start", &id[..12]]).run().exits(1).says(causes[0]);
        env.mydocker(["start", "-a", &id[..12]]).run().exits(*code).says(causes[0]);
        let error = env.mydocker(["inspect", "-f", "{{.State.Error}}", &id[..12]]).ok();
        assert!(error.contains(causes[0]), "{error}");
        env.mydocker(["rm", &id[..12]]).ok();
    }
}

#[test]
fn a_mount_without_programs_is_named() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let script = "cp /bin/busybox /mem/sh && exec sleep 1000";
    env.mydocker(["run", "-d", "--name", "box", "--tmpfs", "/mem:noexec", "busybox"])
        .args(["sh", "-c", script])
        .ok();
    crate::support::wait_for("the program", || {
        (env.mydocker(["exec", "box", "ls", "/mem/sh"]).run().code() == Some(0)).then_some(())
    });
    env.mydocker(["exec", "box", "/mem/sh"]).run().fails(126, &["mount with `noexec`"]);
    env.mydocker(["rm", "-f", "box"]).ok();
}

#[test]
fn a_program_that_is_open_for_writing_is_busy() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let script = "cp /bin/busybox /busy && exec 3>>/busy && touch /there && exec sleep 1000 3>&3";
    env.mydocker(["run", "-d", "--name", "box", "busybox", "sh", "-c", script]).ok();
    crate::support::wait_for("the program", || {
        (env.mydocker(["exec", "box", "ls", "/there"]).run().code() == Some(0)).then_some(())
    });
    env.mydocker(["exec", "box", "/busy"]).run().fails(126, &["open for writing"]);
    env.mydocker(["rm", "-f", "box"]).ok();
}

#[test]
fn memory_that_runs_out_is_said_and_written_down() {
    require!(Root, Controller("memory"));
    let env = TestEnv::with_busybox();
    let eat = ["sh", "-c", "x=a; while :; do x=$x$x; done"];
    let limits = ["-m", "16m", "--memory-swap", "16m"];
    let said = "memory was used up";
    let oom = |name: &str| env.mydocker(["inspect", "-f", "{{.State.OOMKilled}}", name]).ok();
    let cmd = env.mydocker(["run", "--name", "front"]).args(limits).arg("busybox").args(eat);
    cmd.run().exits(137).says(said);
    assert_eq!(oom("front"), "true\n");
    let cmd = env.mydocker(["create", "--name", "back"]).args(limits).arg("busybox").args(eat);
    cmd.ok();
    env.mydocker(["start", "-a", "back"]).run().exits(137).says(said);
    assert_eq!(oom("back"), "true\n");
    let cmd = env.mydocker(["run", "-d", "--name", "box"]).args(limits).arg("busybox");
    cmd.args(["sleep", "1000"]).ok();
    env.mydocker(["exec", "box"]).args(eat).run().exits(137).says(said);
    let quiet = env.mydocker(["exec", "box", "sh", "-c", "kill -9 $$"]).run().exits(137);
    assert_eq!(quiet.stderr, "");
    env.mydocker(["rm", "-f", "box"]).ok();
}

/// A program that sets a filter by which its next call is its last.
const FORBIDDEN: &str = "my $f = pack('SCCL', 6, 0, 0, 0x80000000); my $p = pack('Sx6P', 1, $f);
    my ($prctl, $x) = (PRCTL, 0); syscall($prctl, 38, 1, 0, 0, 0); syscall($prctl, 22, 2, $p); print 'survived'";

#[test]
fn a_call_that_the_filter_punishes_is_said() {
    require!(Root, Debian);
    let env = TestEnv::new();
    env.mydocker(["--no-sync", "import", "-q"]).arg(fixtures::path("debian.tar")).ok();
    let number = if cfg!(target_arch = "x86_64") { "157" } else { "167" };
    let program = FORBIDDEN.replace("PRCTL", number);
    let run = env.mydocker(["run", "--rm", "debian", "perl", "-e", &program]).run();
    run.exits(159).prints("").says("SIGSYS").says("seccomp");
    assert!(!Path::new("/core").exists());
}
