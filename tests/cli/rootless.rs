//! Ordinary users.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};

use crate::support::command::Cmd;
use crate::support::env::{TestEnv, program};
use crate::support::fixtures;
use crate::support::require::Need::{Root, Tool};
use crate::support::tree;
use crate::support::user::{Allowed, User};
use crate::support::wait_for;

#[test]
fn an_image_is_imported_and_run() {
    require!(Root, Tool("setpriv"), Tool("newuidmap"));
    let env = TestEnv::new();
    let user = User::new(&env, Allowed::ManyIds);
    user.mydocker(["import"]).arg(fixtures::path("busybox.tar")).ok();
    let run = |args: &[&str]| user.mydocker(["run", "--rm", "busybox"]).args(args).run().success();
    run(&["id", "-u"]).prints("0\n");
    user.mydocker(["container", "run", "--rm", "busybox", "id", "-u"])
        .run()
        .success()
        .prints("0\n");
    run(&["sh", "-c", "touch /x && chown 33:33 /x && stat -c %u:%g /x"]).prints("33:33\n");
}

#[test]
fn all_that_layers_can_hold_but_devices() {
    require!(Root, Tool("setpriv"), Tool("newuidmap"));
    let env = TestEnv::new();
    let user = User::new(&env, Allowed::ManyIds);
    let import =
        user.mydocker(["import", "--name", "layered"]).arg(fixtures::path("layered")).run();
    // Device nodes are root's alone; an image with some either comes without them or is refused with the reason.
    match import.code() {
        Some(0) => {
            let tree = user.root().join("rootfs/layered").canonicalize().unwrap();
            assert_eq!(fs::metadata(tree.join("meta/owner-1000-1000")).unwrap().uid(), 300_999);
        }
        _ => drop(import.fails(125, &["special/"])),
    }
}

#[test]
fn one_id_is_enough_for_an_image_that_is_all_roots() {
    require!(Root, Tool("setpriv"));
    let env = TestEnv::new();
    let user = User::new(&env, Allowed::OneId);
    user.mydocker(["import"]).arg(fixtures::path("busybox.tar")).run().success();
    let output = user.mydocker(["run", "--rm", "busybox", "id", "-u"]).run();
    output.success().prints("0\n");
}

#[test]
fn one_id_is_not_enough_for_other_owners() {
    require!(Root, Tool("setpriv"));
    let env = TestEnv::new();
    let user = User::new(&env, Allowed::OneId);
    let import =
        user.mydocker(["import", "--name", "layered"]).arg(fixtures::path("layered")).run();
    import.fails(125, &["/etc/subuid"]);
    assert!(tree::read(&user.root().join("trees")).len() <= 1);
}

#[test]
fn no_user_namespaces() {
    require!(Root, Tool("setpriv"));
    let env = TestEnv::new();
    let user = User::new(&env, Allowed::NoNamespace);
    let root = env.folder().join("root");
    fs::create_dir(&root).unwrap();
    Cmd::new("tar").arg("-xf").arg(fixtures::path("busybox.tar")).arg("-C").arg(&root).ok();
    let run =
        user.mydocker(["run", "--rm", "--rootfs"]).arg(&root).args(["/bin/busybox", "true"]).run();
    run.fails(125, &["not root", "user namespaces", "hint:"]);
}

#[test]
fn a_store_of_somebody_else() {
    require!(Root, Tool("setpriv"));
    let env = TestEnv::with_busybox();
    let user = User::new(&env, Allowed::OneId);
    user.mydocker(["images", "--root"])
        .arg(env.root())
        .run()
        .fails(125, &["permission denied", "--root"]);
}

#[test]
fn limits_that_nobody_has_delegated_are_refused() {
    require!(Root, Tool("setpriv"), Tool("newuidmap"));
    let env = TestEnv::new();
    let user = User::new(&env, Allowed::ManyIds);
    user.mydocker(["import"]).arg(fixtures::path("busybox.tar")).ok();
    for limit in [["-m", "64m"], ["--cpus", "0.5"], ["--pids-limit", "50"]] {
        let run = user.mydocker(["run", "--rm"]).args(limit).args(["busybox", "true"]).run();
        run.fails(125, &["run busybox", "cgroup"]);
    }
}

#[test]
fn a_container_runs_on_and_is_joined() {
    require!(Root, Tool("setpriv"), Tool("newuidmap"));
    let env = TestEnv::new();
    let user = User::new(&env, Allowed::ManyIds);
    user.mydocker(["import"]).arg(fixtures::path("busybox.tar")).ok();
    user.mydocker(["run", "-d", "--name", "on", "busybox", "sleep", "1000"]).ok();
    let first = user.mydocker(["exec", "on", "cat", "/proc/1/comm"]).run();
    first.success().prints("sleep\n");
    user.mydocker(["exec", "on", "sh", "-c", "exit 3"]).run().exits(3);
    // What it writes to is the user's own, and can be opened by name inside, whoever one is there.
    for options in ["", "-u 33"] {
        let script = format!(
            "$0 exec {options} on sh -c 'id -u >/dev/stdout; echo x 2>&1' | cat >out; cat out"
        );
        let id = if options.is_empty() { "0" } else { "33" };
        user.sh(&script).run().success().prints(&format!("{id}\nx\n"));
        let script = format!("$0 exec {options} on sh -c 'id -u >/dev/stdout' >out 2>&1; cat out");
        user.sh(&script).run().success().prints(&format!("{id}\n"));
    }
    user.mydocker(["rm", "-f", "on"]).ok();
    assert_eq!(user.mydocker(["ps", "-aq"]).ok(), "");
}

#[test]
fn the_groups_of_the_caller_are_kept_on_request() {
    require!(Root, Tool("setpriv"), Tool("newuidmap"));
    let env = TestEnv::new();
    let user = User::new(&env, Allowed::ManyIds).in_groups(&[54_321]);
    user.mydocker(["import"]).arg(fixtures::path("busybox.tar")).ok();
    let file = env.folder().join("of-the-group");
    fs::write(&file, "read\n").unwrap();
    chown(&file, Some(0), Some(54_321)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let volume = format!("{}:/file", file.display());
    let options = ["-v", &volume, "busybox", "cat", "/file"];
    let keep = ["--group-add", "keep-groups"];
    let run = |more: &[&str]| user.mydocker(["run", "--rm"]).args(more).args(options).run();
    run(&[]).exits(1).says("Permission denied");
    run(&keep).success().prints("read\n");
    let asks = |more: &[&str]| {
        let detached = ["run", "-d", "--name", "box", "-v", &volume];
        user.mydocker(detached).args(more).args(["busybox", "sleep", "1000"]).ok();
        let asked = user.mydocker(["exec", "box", "cat", "/file"]).run();
        // Root's own are no ordinary user's, and stay outside.
        let of_root = wait_for("root to have limited the program", || {
            let cmd = Cmd::new("setpriv").args(["--groups=0,54321", "--"]).arg(program());
            let cmd = cmd.args(["exec", "box", "cat", "/file"]);
            let cmd = cmd.env("MYDOCKER_ROOT", user.root()).env("MYDOCKER_RUN", user.run());
            let ran = cmd.run();
            // Without CAP_SYS_RESOURCE, root can do so only until the program has become the other user.
            (!ran.stderr.contains("set the resource limit")).then_some(ran)
        });
        of_root.exits(1).says("Permission denied");
        user.mydocker(["rm", "-f", "box"]).ok();
        asked
    };
    asks(&[]).exits(1).says("Permission denied");
    asks(&keep).success().prints("read\n");
    run(&["--group-add", "keep-groups", "--group-add", "7"]).fails(125, &["keep-groups", "beside"]);
}

#[test]
fn the_groups_of_root_are_not_kept() {
    require!(Root);
    let env = TestEnv::with_busybox();
    env.run(&["--group-add", "keep-groups", "busybox", "true"])
        .fails(125, &["keep-groups", "ordinary users"]);
}

#[test]
fn containers_join_each_other() {
    require!(Root, Tool("setpriv"), Tool("newuidmap"));
    for allowed in [Allowed::ManyIds, Allowed::OneId] {
        let env = TestEnv::new();
        let user = User::new(&env, allowed);
        user.mydocker(["import"]).arg(fixtures::path("busybox.tar")).ok();
        let first = ["run", "-d", "--name", "first", "busybox", "sh", "-c"];
        user.mydocker(first).arg("echo mark >/dev/shm/mark; exec sleep 1000").ok();
        let kinds = ["ipc", "net", "pid", "user", "uts"];
        let links = "for n in ipc net pid user uts; do readlink /proc/self/ns/$n; done";
        let theirs = user.mydocker(["exec", "first", "sh", "-c", links]).ok();
        for (option, kind) in
            [("--ipc", "ipc"), ("--network", "net"), ("--pid", "pid"), ("--uts", "uts")]
        {
            let run = ["run", "--rm", option, "container:first", "busybox", "sh", "-c", links];
            let own = user.mydocker(run).ok();
            for (at, (own, theirs)) in own.lines().zip(theirs.lines()).enumerate() {
                let shared = kinds[at] == kind || kinds[at] == "user";
                assert_eq!(own == theirs, shared, "{option}: {own} {theirs}");
            }
        }
        let memory = ["run", "--rm", "--ipc", "container:first", "busybox", "cat", "/dev/shm/mark"];
        user.mydocker(memory).run().success().prints("mark\n");
        let second = ["run", "-d", "--name", "second", "--userns", "container:first"];
        let second = user.mydocker(second).args(["--pid", "container:first", "busybox"]);
        second.args(["sleep", "2000"]).ok();
        let seen = "ps | grep -c '[s]leep [12]000'";
        let exec = user.mydocker(["exec", "second", "sh", "-c", seen]).run();
        exec.success().prints("2\n");
        user.mydocker(["stop", "-t", "0", "second"]).ok();
        user.mydocker(["stop", "-t", "0", "first"]).ok();
        let start = user.mydocker(["start", "second"]).run();
        start.fails(1, &["first is not running"]);
        user.mydocker(["start", "first"]).ok();
        user.mydocker(["start", "second"]).ok();
        user.mydocker(["exec", "second", "sh", "-c", seen]).run().success().prints("2\n");
        user.mydocker(["rm", "-f", "first", "second"]).ok();
    }
}
