//! Volumes: made, filled, shared, listed, removed.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::env::{TestEnv, names};
use crate::support::require::Need::{Root, Tool};
use crate::support::tree;
use crate::support::user::{Allowed, User};
use crate::support::wait_for;

/// The folder with a volume's content.
fn data(env: &TestEnv, name: &str) -> PathBuf {
    env.root().join("volumes").join(name).join("_data")
}

fn volumes(env: &TestEnv) -> Vec<String> {
    let all = env.mydocker(["volume", "ls", "-q"]).ok();
    all.lines().map(str::to_owned).collect()
}

/// A store with busybox and the image `full`, in which `script` was run, and whose configuration has `change`.
fn image(script: &str, change: &str) -> TestEnv {
    let env = TestEnv::with_busybox();
    env.mydocker(["run", "--name", "maker", "busybox", "sh", "-c", script]).ok();
    env.mydocker(["commit", "-c", change, "maker", "full"]).ok();
    env.mydocker(["rm", "maker"]).ok();
    env
}

const FULL: &str = "mkdir -m 1770 /data /data/deep; cd /data; chown 5:6 .; echo one >a; ln a b; ln -s /etc/passwd link; \
    mkfifo -m 640 pipe; cp /bin/busybox suid; chown 7:8 suid; chmod 4755 suid; echo x >deep/x; chmod 0 deep/x; \
    dd if=/dev/zero of=hole bs=1 count=1 seek=8388607 2>/dev/null; touch -d '2001-02-03 04:05:06' deep a";

#[test]
fn what_is_written_to_a_volume_outlives_its_containers() {
    require!(Root);
    let env = TestEnv::with_busybox();
    env.sh_with(&["-v", "db:/data"], "echo kept >/data/x; chown 33:33 /data/x");
    assert_eq!(env.sh_with(&["-v", "db:/other:ro"], "cat /other/x"), "kept\n");
    let read_only = env.run(&["-v", "db:/data:ro", "busybox", "touch", "/data/y"]).exits(1);
    read_only.says("Read-only file system");
    assert_eq!(fs::metadata(data(&env, "db").join("x")).unwrap().uid(), 33);
    assert_eq!(volumes(&env), ["db"]);
    // A container that was only made finds it as well, under whichever ids it gets.
    env.mydocker(["create", "--name", "later", "-v", "db:/data", "busybox", "cat", "/data/x"]).ok();
    assert_eq!(env.mydocker(["start", "-a", "later"]).ok(), "kept\n");
    env.mydocker(["rm", "-v", "later"]).ok();
    assert_eq!(volumes(&env), ["db"]);
}

#[test]
fn a_new_volume_begins_as_the_images_folder() {
    require!(Root, Tool("fallocate"));
    let env = image(FULL, "LABEL x=y");
    let hole = env.rootfs("full").join("data/hole");
    crate::support::command::Cmd::new("fallocate").arg("--dig-holes").arg(hole).ok();
    // Where it comes from is a hard link farm: the copy must not be one with it.
    let before = tree::read(&env.rootfs("full").join("data"));
    env.run(&["-v", "vol:/data", "full", "true"]).success();
    let copy = data(&env, "vol");
    tree::read(&copy).assert_same(&before);
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o7777, 0o1770);
    assert_eq!(fs::metadata(&copy).unwrap().gid(), 6);
    assert!(fs::metadata(copy.join("hole")).unwrap().blocks() < 1000, "the hole was filled");
    fs::write(copy.join("a"), "two\n").unwrap();
    assert_eq!(fs::read_to_string(copy.join("b")).unwrap(), "two\n");
    assert_eq!(fs::read_to_string(env.rootfs("full").join("data/a")).unwrap(), "one\n");
    // What is there already stays: nothing is copied a second time.
    fs::remove_file(copy.join("b")).unwrap();
    let text =
        env.run(&["-v", "vol:/data", "full", "sh", "-c", "cat /data/a; ls /data/b"]).exits(1);
    assert_eq!(text.stdout, "two\n");
    env.run(&["-v", "none:/data:nocopy", "full", "ls", "/data"]).success().prints("");
    env.run(&["-v", "new:/nosuch", "full", "ls", "/nosuch"]).success().prints("");
    // Nothing is left of the work.
    assert_eq!(names(&copy.join("..")), [".lock", "_data", "volume.json"]);
}

#[test]
fn attributes_are_copied_too() {
    require!(Root, Tool("getfattr"), Tool("setfattr"), Tool("setcap"));
    let env = TestEnv::new();
    let root = env.folder().join("root");
    fs::create_dir_all(root.join("data")).unwrap();
    fs::copy("/proc/self/exe", root.join("data/program")).unwrap();
    let script = "setfattr -n user.remark -v hello data/program; setfattr -n user.top -v x data; \
        setcap cap_net_raw+ep data/program";
    crate::support::command::Cmd::new("sh").args(["-c", script]).current_dir(&root).ok();
    env.mydocker(["import", "-q", "--name", "full"]).arg(&root).ok();
    env.mydocker(["create", "-v", "vol:/data", "full", "x"]).ok();
    let (copy, from) = (data(&env, "vol"), env.rootfs("full").join("data"));
    let wanted = tree::read(&from).with_xattrs(&from);
    tree::read(&copy).with_xattrs(&copy).assert_same(&wanted);
    assert!(format!("{wanted:?}").contains("security.capability"), "{wanted:?}");
}

#[test]
fn a_half_copied_volume_is_copied_again() {
    require!(Root);
    let env = image("mkdir /data; echo 1 >/data/a; echo 2 >/data/b", "LABEL x=y");
    let run = || env.run(&["-v", "vol:/data", "full", "sh", "-c", "cd /data; cat *"]).success();
    env.mydocker(["volume", "create", "vol"]).ok();
    let folder = env.root().join("volumes/vol");
    // Killed while it was copied: nothing of that counts.
    fs::create_dir(folder.join("_copying")).unwrap();
    fs::write(folder.join("_copying/rubbish"), "").unwrap();
    run().prints("1\n2\n");
    assert_eq!(names(&folder), [".lock", "_data", "volume.json"]);
    // Killed while what was copied was moved to its place: the rest follows.
    fs::create_dir(folder.join("_copied")).unwrap();
    fs::rename(folder.join("_data/b"), folder.join("_copied/b")).unwrap();
    run().prints("1\n2\n");
    assert_eq!(names(&folder), [".lock", "_data", "volume.json"]);
}

#[test]
fn first_uses_at_the_same_time_see_the_whole() {
    require!(Root);
    let script = "mkdir /data; for i in $(seq 200); do echo $i >/data/$i; done";
    let env = image(script, "LABEL x=y");
    for round in 0..3 {
        let volume = format!("vol{round}:/data");
        let start = || {
            let cmd = env.mydocker(["run", "--rm", "-v", &volume, "full"]);
            cmd.args(["sh", "-c", "ls /data | wc -l; cat /data/200"]).start()
        };
        let all: Vec<_> = (0..6).map(|_| start()).collect();
        for running in all {
            running.finish().success().prints("200\n200\n");
        }
    }
}

#[test]
fn volumes_of_an_image_are_the_containers_own() {
    require!(Root);
    let env = image("mkdir /data; echo seed >/data/x", "VOLUME /data /data/../other");
    // They go with `--rm`, also when a name is given elsewhere.
    env.run(&["full", "sh", "-c", "cat /data/x; echo mine >/data/x"]).success().prints("seed\n");
    assert_eq!(volumes(&env), Vec::<String>::new());
    env.mydocker(["run", "--name", "one", "full", "sh", "-c", "echo one >/data/x"]).ok();
    assert_eq!(volumes(&env).len(), 2);
    env.mydocker(["run", "--name", "two", "-v", "named:/data", "full", "true"]).ok();
    assert_eq!(volumes(&env).len(), 4, "one for /other, and the named one");
    let tmpfs = env.run(&["--tmpfs", "/data", "full", "grep", " /data ", "/proc/mounts"]);
    assert!(tmpfs.success().stdout.starts_with("tmpfs /data tmpfs"));
    // Without -v they stay, and a container that has them from another keeps them.
    let from = env.run(&["--volumes-from", "one", "busybox", "cat", "/data/x"]).success();
    from.prints("one\n");
    assert_eq!(volumes(&env).len(), 4);
    env.mydocker([
        "create",
        "--name",
        "heir",
        "--volumes-from",
        "one:ro",
        "busybox",
        "sh",
        "-c",
        "echo x >/data/x",
    ])
    .ok();
    env.mydocker(["rm", "-v", "one"]).ok();
    env.mydocker(["start", "-a", "heir"]).run().exits(1).says("Read-only file system");
    env.mydocker(["rm", "-v", "heir"]).ok();
    env.mydocker(["rm", "two"]).ok();
    let left = volumes(&env);
    assert_eq!(left.len(), 2, "{left:?}");
    env.mydocker(["volume", "prune", "-f"]).ok();
    assert_eq!(volumes(&env), ["named"]);
}

#[test]
fn a_container_that_never_was_leaves_no_volume() {
    require!(Root);
    let env = image("mkdir /data", "VOLUME /data");
    env.run(&["full", "nosuch"]).fails(127, &["nosuch"]);
    env.mydocker(["run", "-d", "full", "nosuch"]).run().fails(127, &["nosuch"]);
    env.run(&["-u", "nobodyknows", "full", "true"]).fails(125, &["nobodyknows"]);
    assert_eq!(volumes(&env), Vec::<String>::new());
    env.mydocker(["run", "-d", "--rm", "--name", "short", "full", "true"]).ok();
    env.mydocker(["wait", "short"]).run();
    crate::support::wait_for("the volume to go", || volumes(&env).is_empty().then_some(()));
}

#[test]
fn no_image_leads_a_volume_out_of_its_tree() {
    require!(Root);
    // CVE-2022-23648: what is copied is found as if the image were the root.
    let change = "VOLUME /x /up/../../../y /rel";
    let env = image("ln -s /etc /x; ln -s ../../../../../etc /y; ln -s / /rel", change);
    let shown = "ls /etc/passwd; cat /x/passwd | head -n 1; ls /y/passwd";
    let output = env.run(&["full", "sh", "-c", shown]).success();
    assert!(output.stdout.contains("root:x:0:0"), "{}", output.report());
    let host = fs::read_to_string("/etc/passwd").unwrap().lines().count();
    let inside = env.run(&["full", "wc", "-l", "/x/passwd"]).success().stdout;
    assert_ne!(inside.split_whitespace().next().unwrap(), host.to_string());
    // A link of the volume's own is not followed by whoever fills or removes it.
    let canary = env.folder().join("canary");
    fs::create_dir(&canary).unwrap();
    fs::write(canary.join("f"), "secret").unwrap();
    env.mydocker(["volume", "create", "trap"]).ok();
    symlink(&canary, data(&env, "trap").join("link")).unwrap();
    env.run(&["-v", "trap:/etc", "busybox", "true"]).success();
    env.mydocker(["volume", "rm", "trap"]).ok();
    assert_eq!(names(&canary), ["f"]);
}

#[test]
fn a_volume_in_use_stays() {
    require!(Root);
    let env = TestEnv::with_busybox();
    env.mydocker(["create", "--name", "user", "-v", "vol:/v", "busybox", "true"]).ok();
    let refused = env.mydocker(["volume", "rm", "vol"]).run();
    refused.fails(1, &["volume rm vol: volume vol is in use by user (", "hint:"]);
    env.mydocker(["volume", "rm", "-f", "vol"]).run().fails(1, &["in use"]);
    env.mydocker(["volume", "prune", "-af"]).run().success().prints("Total reclaimed space: 0B\n");
    env.mydocker(["rm", "user"]).ok();
    env.mydocker(["volume", "rm", "vol"]).run().success().prints("vol\n");
    let events =
        env.mydocker(["events", "--since", "0", "--until", "0s", "-f", "type=volume"]).ok();
    let actions: Vec<&str> = events.lines().map(|line| line.split(' ').nth(2).unwrap()).collect();
    assert_eq!(actions, ["create", "prune", "destroy"], "{events}");
    env.mydocker(["volume", "rm", "vol"]).run().fails(1, &["no such volume: vol"]);
    env.mydocker(["volume", "rm", "-f", "vol"]).run().success();
    env.mydocker(["volume", "rm", "../containers"]).run().fails(1, &["no such volume"]);
    assert_eq!(names(&env.root().join("tmp")), Vec::<String>::new());
}

/// Whether a process waits for a lock of a file (`proc_locks(5)`).
fn waits_for_a_lock(pid: Pid) -> bool {
    let locks = fs::read_to_string("/proc/locks").unwrap();
    let pid = pid.to_string();
    locks.lines().any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.contains(&"->") && words.contains(&pid.as_str())
    })
}

#[test]
fn a_volume_that_was_replaced_while_its_lock_was_awaited_is_looked_up_again() {
    require!(Root);
    let env = TestEnv::with_busybox();
    env.mydocker(["volume", "create", "vol"]).ok();
    // What its remover does, step by step.
    let folder = env.root().join("volumes/vol");
    let held = Flock::lock(File::open(&folder).unwrap(), FlockArg::LockExclusive).unwrap();
    let maker = env.mydocker(["create", "--name", "user", "-v", "vol:/etc", "busybox", "true"]);
    let maker = maker.start();
    let pid = maker.pid();
    wait_for("the maker to wait for the lock", || waits_for_a_lock(pid).then_some(()));
    let old = env.folder().join("old");
    fs::rename(&folder, &old).unwrap();
    env.mydocker(["volume", "create", "vol"]).ok();
    drop(held);
    maker.finish().success();
    assert_eq!(names(&old.join("_data")), Vec::<String>::new());
    assert!(data(&env, "vol").join("passwd").exists());
    env.mydocker(["rm", "user"]).ok();
}

#[test]
fn removing_and_using_at_the_same_time_ends_in_one_of_both() {
    require!(Root);
    let env = image("mkdir /data; echo seed >/data/x", "LABEL x=y");
    for _ in 0..15 {
        let cmd = env.mydocker(["run", "--rm", "-v", "vol:/data", "full", "cat", "/data/x"]);
        let (user, other) = (cmd.start(), env.mydocker(["volume", "rm", "-f", "vol"]).start());
        user.finish().success().prints("seed\n");
        let removed = other.finish();
        assert!(matches!(removed.code(), Some(0 | 1)), "{}", removed.report());
        assert!(
            removed.code() == Some(0) || removed.stderr.contains("in use"),
            "{}",
            removed.report()
        );
    }
}

#[test]
fn volume_create_ls_and_inspect_speak_dockers_language() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let create = |args: &[&str]| env.mydocker(["volume", "create"]).args(args).ok();
    assert_eq!(
        create(&["--label", "tier=db", "--label", "plain", "-d", "local", "data"]),
        "data\n"
    );
    assert_eq!(create(&["data"]), "data\n", "one that is there stays");
    assert_eq!(create(&["--name", "older"]), "older\n");
    let anonymous = create(&[]).trim().to_owned();
    assert_eq!(anonymous.len(), 64);
    let table = env.mydocker(["volume", "ls", "-f", "name=dat"]).ok();
    assert_eq!(table, "DRIVER   VOLUME NAME\nlocal    data\n");
    env.mydocker(["create", "--name", "user", "-v", "older:/x", "busybox", "true"]).ok();
    let ls = |filter: &str| env.mydocker(["volume", "ls", "-q", "--filter", filter]).ok();
    assert_eq!(ls("label=tier=db"), "data\n");
    assert_eq!(ls("label=plain"), "data\n");
    assert_eq!(ls("label=tier=web"), "");
    assert_eq!(ls("dangling=false"), "older\n");
    assert!(ls("dangling=true").contains(&anonymous) && ls("driver=local").lines().count() == 3);
    env.mydocker(["volume", "ls", "-f", "nosuch=1"]).run().fails(125, &["filter", "nosuch=1"]);
    let names = env.mydocker(["volume", "ls", "--format", "{{.Name}} {{.Driver}}"]).ok();
    assert!(names.contains("data local\n"), "{names}");
    let row = &env.json(&["volume", "ls", "--filter", "name=data"])[0];
    assert_eq!((&row["Scope"], &row["Labels"]), (&"local".into(), &"plain=,tier=db".into()));
    let shown = env.mydocker(["volume", "inspect", "data"]).ok();
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown[0]["Mountpoint"], data(&env, "data").to_str().unwrap());
    assert_eq!(shown[0]["Labels"]["tier"], "db");
    assert_eq!(shown[0]["Driver"], "local");
    assert!(shown[0]["CreatedAt"].as_str().unwrap().ends_with('Z'));
    let point = env.mydocker(["volume", "inspect", "-f", "{{.Mountpoint}}", "older"]).ok();
    assert_eq!(point.trim(), data(&env, "older").to_str().unwrap());
    env.mydocker(["inspect", "--type", "volume", "data"]).run().success();
    env.mydocker(["volume", "inspect", "nosuch"]).run().exits(1).says("no such volume: nosuch");
    for (bad, why) in
        [("a", "two characters"), ("../x", "letters"), ("-x/y", ""), (".new-1", "letters")]
    {
        env.mydocker(["volume", "create", "--", bad]).run().fails(125, &[why]);
    }
    env.mydocker(["volume", "create", "-d", "nfs", "x1"])
        .run()
        .fails(125, &["driver `nfs` not found"]);
    env.mydocker(["volume", "create", "-o", "type=nfs", "x1"]).run().fails(125, &["type=nfs"]);
}

#[test]
fn a_folder_of_the_host_stands_for_a_volume() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let folder = env.folder().join("folder");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("file"), "of the host\n").unwrap();
    let device = format!("device={}", folder.display());
    let create = ["volume", "create", "--opt", "type=none", "-o", "o=bind", "-o", &device, "data"];
    env.mydocker(create).run().success().prints("data\n");
    let script = "cat /etc/file && echo inside >/etc/made; ls /etc/passwd 2>/dev/null; id -u";
    // Nothing of the image is copied into it.
    assert_eq!(env.sh_with(&["-v", "data:/etc"], script), "of the host\n0\n");
    assert_eq!(fs::read_to_string(folder.join("made")).unwrap(), "inside\n");
    let shown = env.mydocker(["volume", "inspect", "-f", "{{json .Options}}", "data"]).ok();
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((&shown["o"], shown["device"].as_str()), (&"bind".into(), folder.to_str()));
    // By --mount, and to be read only.
    let fixed = format!(
        "type=volume,src=fixed,dst=/x,volume-opt=type=none,\"volume-opt=o=bind,ro\",volume-opt={device}"
    );
    let script = "cat /x/file; echo x >/x/y || echo refused";
    let run = env.run(&["--mount", &fixed, "busybox", "sh", "-c", script]).success();
    assert_eq!(run.stdout, "of the host\nrefused\n");
    let run = env.run(&["-v", "fixed:/x:rw", "busybox", "sh", "-c", script]).success();
    assert_eq!(run.stdout, "of the host\nrefused\n");
    let subpath = ["--mount", "src=data,dst=/x,volume-subpath=sub", "busybox", "ls", "/x"];
    std::os::unix::fs::symlink("/etc", folder.join("sub")).unwrap();
    env.run(&subpath).exits(125);
    // It is the volume that goes.
    env.mydocker(["volume", "rm", "data", "fixed"]).ok();
    assert!(folder.join("file").exists());
    fs::remove_dir_all(&folder).unwrap();
    env.mydocker(create).ok();
    env.run(&["-v", "data:/x", "busybox", "true"]).fails(125, &["bind source", "folder"]);
    let refused = |options: &[&str], why: &str| {
        let create = env.mydocker(["volume", "create", "refused"]).args(options);
        create.run().fails(125, &[why]);
    };
    refused(&["-o", "type=tmpfs", "-o", "device=tmpfs"], "type=tmpfs");
    refused(&["-o", "o=bind,suid", "-o", "device=/x"], "nosuid");
    refused(&["-o", "o=bind", "-o", "device=x"], "absolute");
    refused(&["-o", "device=/x"], "o=bind");
}

#[test]
fn volume_prune_takes_what_nobody_has_named() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let create = |args: &[&str]| env.mydocker(["volume", "create"]).args(args).ok();
    create(&["--label", "keep", "named"]);
    create(&["other"]);
    let anonymous = create(&[]).trim().to_owned();
    fs::write(data(&env, &anonymous).join("big"), vec![1; 1 << 20]).unwrap();
    let refused = env.mydocker(["volume", "prune"]).input("n\n").run();
    refused.success().prints("").says("anonymous local volumes");
    let pruned = env.mydocker(["volume", "prune"]).input("y\n").ok();
    assert!(
        pruned.starts_with(&format!("Deleted Volumes:\n{anonymous}\n\nTotal reclaimed space: 1.0")),
        "{pruned}"
    );
    env.mydocker(["volume", "prune", "-af", "--filter", "label!=keep"]).ok();
    assert_eq!(volumes(&env), ["named"]);
    env.mydocker(["volume", "prune", "-f", "--filter", "all=1"]).ok();
    assert_eq!(volumes(&env), Vec::<String>::new());
    env.mydocker(["volume", "prune", "-f", "--filter", "until=1h"]).run().fails(125, &["filter"]);
}

#[test]
fn what_was_left_by_a_killed_maker_goes_with_prune() {
    require!(Root);
    let env = TestEnv::with_busybox();
    env.mydocker(["volume", "create", "vol"]).ok();
    let rubbish = env.root().join("volumes/.new-0123456789abcdef");
    fs::create_dir(&rubbish).unwrap();
    assert_eq!(volumes(&env), ["vol"]);
    crate::support::command::Cmd::new("touch").args(["-d", "1 hour ago"]).arg(&rubbish).ok();
    env.mydocker(["volume", "prune", "-f"]).ok();
    assert!(!rubbish.exists());
    assert_eq!(volumes(&env), ["vol"]);
}

#[test]
fn inspect_shows_mounts_as_docker_does() {
    require!(Root);
    let env = image("mkdir /data", "VOLUME /auto");
    let folder = env.folder().join("host");
    let bind = format!("{}:/bind:ro,rslave", env.folder().display());
    // Of a mount that is no slave, nothing could be heard.
    env.run(&["-v", &bind, "busybox", "true"]);
    let bind = format!("{}:/bind:ro", folder.display());
    let args = ["create", "--name", "all", "-v", &bind, "-v", "vol:/data", "--mount"];
    env.mydocker(args).args(["type=tmpfs,dst=/mem", "full", "true"]).ok();
    let shown = env.mydocker(["inspect", "-f", "{{json .Mounts}}", "all"]).ok();
    let shown: Vec<Value> = serde_json::from_str(&shown).unwrap();
    let by = |destination: &str| shown.iter().find(|m| m["Destination"] == destination).unwrap();
    let bind = by("/bind");
    assert_eq!((&bind["Type"], &bind["RW"]), (&"bind".into(), &false.into()));
    assert_eq!((&bind["Mode"], &bind["Propagation"]), (&"ro".into(), &"rprivate".into()));
    assert_eq!(bind["Source"], folder.to_str().unwrap());
    let volume = by("/data");
    assert_eq!((&volume["Name"], &volume["Driver"]), (&"vol".into(), &"local".into()));
    assert_eq!((&volume["Type"], &volume["RW"]), (&"volume".into(), &true.into()));
    assert_eq!(volume["Source"], data(&env, "vol").to_str().unwrap());
    assert_eq!(by("/auto")["Name"].as_str().unwrap().len(), 64);
    assert_eq!((&by("/mem")["Type"], &by("/mem")["Source"]), (&"tmpfs".into(), &"".into()));
    let binds = env.mydocker(["inspect", "-f", "{{json .HostConfig.Binds}}", "all"]).ok();
    assert_eq!(binds, format!("[\"{}:/bind:ro\",\"vol:/data\"]\n", folder.display()));
    env.mydocker(["rm", "-v", "all"]).ok();
}

#[test]
fn an_ordinary_user_has_volumes() {
    require!(Root, Tool("setpriv"), Tool("newuidmap"));
    let env = TestEnv::new();
    let user = User::new(&env, Allowed::ManyIds);
    user.mydocker(["import"]).arg(crate::support::fixtures::path("busybox.tar")).ok();
    let run = |args: &[&str]| {
        user.mydocker(["run", "--rm", "-v", "vol:/etc", "busybox"]).args(args).run()
    };
    run(&["sh", "-c", "chown 33:33 /etc/group; echo x >/etc/new"]).success();
    run(&["sh", "-c", "stat -c %u /etc/group; cat /etc/new"]).success().prints("33\nx\n");
    let path = user.root().join("volumes/vol/_data/group");
    assert_eq!(fs::metadata(path).unwrap().uid(), 300_032);
    user.mydocker(["volume", "ls", "-q"]).run().success().prints("vol\n");
    // The user's own folder is root's inside anyway; to map it otherwise takes more than the user may do.
    let own = |more: &[&str]| {
        let cmd = user.mydocker(["run", "--rm", "-v", "./own:/x:owner=match"]).args(more);
        cmd.args(["busybox", "stat", "-c", "%u", "/x"]).run()
    };
    own(&[]).success().prints("0\n");
    own(&["-u", "33"]).fails(125, &["own", "user 33", "hint:"]);
    user.mydocker(["volume", "rm", "vol"]).run().success().prints("vol\n");
}
