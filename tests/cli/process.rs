//! The first process: its exit status, its orphans, its descriptors.

use crate::support::env::TestEnv;
use crate::support::require::Need::Root;

#[test]
fn the_exit_code_is_the_programs_own() {
    require!(Root);
    let env = TestEnv::with_busybox();
    for code in [0, 1, 3, 125, 126, 127, 255] {
        env.run(&["busybox", "sh", "-c", &format!("exit {code}")]).exits(code);
    }
}

#[test]
fn a_program_that_a_signal_ends() {
    require!(Root);
    let env = TestEnv::with_busybox();
    // A shell says 128 and the signal's number. The command behind it keeps busybox from becoming the inner shell.
    env.run(&["busybox", "sh", "-c", "sh -c 'kill -9 $$'; exit $?"]).exits(137);
    env.run(&["busybox", "sh", "-c", "sh -c 'kill -15 $$'; exit $?"]).exits(143);
}

#[test]
fn the_first_process_killed_from_outside() {
    use nix::sys::signal::{Signal, kill};
    require!(Root);
    let env = TestEnv::with_busybox();
    let run = env.mydocker(["run", "--name", "victim", "busybox", "sleep", "1000"]).start();
    let pid = env.wait_until_running("victim");
    kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    run.finish().exits(137);
    assert_eq!(env.json(&["ps", "-a"])[0]["State"], "exited");
}

#[test]
fn no_such_command() {
    require!(Root);
    let env = TestEnv::with_busybox();
    env.run(&["busybox", "nosuchcommand"]).fails(127, &["nosuchcommand", "hint:"]);
    env.run(&["busybox", "/no/such/command"]).fails(127, &["/no/such/command"]);
    assert_eq!(env.containers(), Vec::<String>::new());
}

#[test]
fn a_command_that_cannot_be_executed() {
    require!(Root);
    let env = TestEnv::with_busybox();
    env.run(&["busybox", "/etc/passwd"]).fails(126, &["/etc/passwd", "permission denied"]);
    env.run(&["busybox", "/etc"]).fails(126, &["/etc"]);
}

#[test]
fn a_file_that_is_no_program() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let path = env.folder().join("text");
    // Written by another process, so that nobody here can have it open for writing.
    let script = "echo just text >\"$1\"; chmod 755 \"$1\"";
    crate::support::command::Cmd::new("sh").args(["-c", script, "sh"]).arg(&path).ok();
    let volume = format!("{}:/text", path.display());
    env.run(&["-v", &volume, "busybox", "/text"]).fails(126, &["/text", "exec format error"]);
}

#[test]
fn a_command_is_looked_for_in_the_containers_path() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let script =
        "printf '#!/bin/sh\\necho found\\n' >/opt-tool; chmod 755 /opt-tool; PATH=/ opt-tool";
    assert_eq!(env.sh(script), "found\n");
    env.run(&["-e", "PATH=/nowhere", "busybox", "ls"]).fails(127, &["ls"]);
}

#[test]
fn orphans_are_reaped() {
    require!(Root);
    let env = TestEnv::with_busybox();
    // Each inner shell leaves a child behind that ends soon after. None may stay a zombie, whoever is the first process.
    let script = "for n in 1 2 3 4 5; do (sleep 0.2 &) ; done; sleep 1; ps -o stat | grep -c Z";
    let output = env.run(&["busybox", "sh", "-c", script]);
    assert_eq!(output.stdout, "0\n", "{}", output.report());
}

#[test]
fn what_is_left_running_ends_with_the_first_process() {
    require!(Root);
    let env = TestEnv::with_busybox();
    // If it did not, it would hold standard output open, and this test would hang and fail.
    env.run(&["busybox", "sh", "-c", "sleep 1000 & sleep 1000 & exit 4"]).exits(4);
}

#[test]
fn the_process_list_is_the_containers_own() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let output = env.sh("ps -o pid,comm | tail -n +2 | wc -l");
    let count: u32 = output.trim().parse().unwrap();
    assert!(count <= 5, "{count} processes");
}

#[test]
fn no_descriptor_of_the_host_is_inside() {
    require!(Root);
    let env = TestEnv::with_busybox();
    // ls has opened the folder itself as the fourth.
    assert_eq!(env.sh("exec ls /proc/self/fd"), "0\n1\n2\n3\n");
    // One that the caller leaves open does not come through either.
    let mydocker = crate::support::env::program();
    let script = format!(
        "exec 7</etc/shadow 8</; '{}' run --rm busybox ls /proc/self/fd",
        mydocker.display()
    );
    let cmd = crate::support::command::Cmd::new("sh").args(["-c", &script]);
    let cmd = cmd.env("MYDOCKER_ROOT", env.root()).env("MYDOCKER_RUN", env.folder().join("run"));
    cmd.run().success().prints("0\n1\n2\n3\n");
}

#[test]
fn the_caller_may_stand_in_a_folder_that_is_gone() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let mydocker = crate::support::env::program();
    let script = format!(
        "mkdir gone; cd gone; rmdir ../gone; '{}' run --rm busybox sh -c 'pwd; ls -a /proc/self/cwd | head -n 3'",
        mydocker.display()
    );
    let cmd =
        crate::support::command::Cmd::new("sh").args(["-c", &script]).current_dir(env.folder());
    let cmd = cmd.env("MYDOCKER_ROOT", env.root()).env("MYDOCKER_RUN", env.folder().join("run"));
    let output = cmd.run().success();
    assert!(output.stdout.starts_with("/\n"), "{}", output.report());
}

#[test]
fn signals_and_mask_are_the_usual_ones() {
    require!(Root);
    let env = TestEnv::with_busybox();
    // Not by way of a shell, which sets some for itself.
    let output =
        env.run(&["busybox", "grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"]).success();
    for line in output.lines() {
        let set = u64::from_str_radix(line.split_whitespace().last().unwrap(), 16).unwrap();
        // 32 and 33 are the C library's own: posix_spawn(3) ignores them in every process that it starts.
        assert_eq!(set & !(0b11 << 31), 0, "{}", output.report());
    }
    assert_eq!(env.sh("umask"), "0022\n");
}
