//! `diff`, `export` and `commit`: what a container has made of its image.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::command::Cmd;
use crate::support::env::{TestEnv, names};
use crate::support::fixtures;
use crate::support::require::Need::{Root, Tool};
use crate::support::tree;
use crate::support::user::{Allowed, User};
use crate::support::wait_for;

/// Changes of every kind.
const CHANGES: &str = "echo new >/new && ln /new /hard && ln -s /nowhere /sym && mkfifo /fifo
    rm /bin/ls && rm -r /usr && mkdir /usr && echo fresh >/usr/fresh
    mkdir -p /deep/er && echo x >/deep/er/x && chmod 4755 /deep/er/x && chown -R 5:6 /deep/er
    chmod 700 /home && echo more >>/etc/passwd && touch -d @1000000000 /tmp
    rm /bin/cat && mkdir /bin/cat && echo in >/bin/cat/in && rm -r /var && ln -s /tmp /var
    mkdir /odd && touch \"/odd/$(printf 'a\\nb')\" && dd if=/dev/zero of=/hole bs=1 count=1 seek=3000000 2>/dev/null";

/// A container `changed` with all of them.
fn changed() -> TestEnv {
    let env = TestEnv::with_busybox();
    env.mydocker(["run", "--name", "changed", "busybox", "sh", "-ec", CHANGES]).ok();
    env
}

/// What a container of `image` sees, as GNU tar unpacks its export.
fn exported(env: &TestEnv, container: &str) -> tree::Tree {
    let (archive, folder) = (env.folder().join("export.tar"), env.folder().join("exported"));
    env.mydocker(["export", container, "-o"]).arg(&archive).run().success().prints("");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir(&folder).unwrap();
    let tar = Cmd::new("tar").args(["--xattrs", "--xattrs-include=*", "-xpf"]);
    tar.arg(&archive).arg("-C").arg(&folder).ok();
    tree::read(&folder)
}

#[test]
fn diff_of_every_kind_of_change() {
    require!(Root);
    let env = changed();
    let shown = env.mydocker(["diff", "changed"]).ok();
    let lines: Vec<&str> = shown.lines().collect();
    for line in [
        "A /new",
        "A /hard",
        "A /sym",
        "A /fifo",
        "C /bin",
        "D /bin/ls",
        "C /usr",
        "A /usr/fresh",
        "A /deep",
        "A /deep/er",
        "A /deep/er/x",
        "C /home",
        "C /etc",
        "C /etc/passwd",
        "C /tmp",
        "C /bin/cat",
        "A /bin/cat/in",
        "C /var",
        "A /odd/a\\nb",
        "A /hole",
    ] {
        assert!(lines.contains(&line), "no {line} in\n{shown}");
    }
    // What was in a directory that was made anew.
    assert!(lines.iter().any(|line| line.starts_with("D /usr/")), "{shown}");
    for absent in ["/", "/proc", "/etc/hosts", "/etc/resolv.conf", "/root", "/dev"] {
        assert!(!lines.iter().any(|line| line[2..] == *absent), "{absent} in\n{shown}");
    }
    let json = env.json(&["diff", "changed"]);
    assert_eq!(json.len(), lines.len());
    assert!(json.contains(&json!({ "Kind": "D", "Path": "/bin/ls" })));
}

#[test]
fn a_container_that_changed_nothing_differs_in_nothing() {
    require!(Root);
    let env = TestEnv::with_busybox();
    env.mydocker(["run", "--name", "idle", "busybox", "true"]).ok();
    env.mydocker(["diff", "idle"]).run().success().prints("");
    let id = env.mydocker(["commit", "idle", "same"]).ok();
    assert!(id.starts_with("sha256:"), "{id}");
    let layers = |name: &str| env.mydocker(["inspect", "--format", "json", name]).ok();
    let layers = |name: &str| -> Value {
        serde_json::from_str::<Value>(&layers(name)).unwrap()["RootFS"]["Layers"].clone()
    };
    assert_eq!(layers("same"), layers("busybox"));
    assert_eq!(env.json(&["history", "same"])[0]["Size"], "0B");
}

#[test]
fn what_was_only_made_to_mount_something_on_is_no_change() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let root = env.folder().join("bare");
    fs::create_dir_all(root.join("bin")).unwrap();
    for name in ["busybox", "sh"] {
        fs::copy(env.rootfs("busybox").join("bin/busybox"), root.join("bin").join(name)).unwrap();
    }
    env.mydocker(["import", "-q"]).arg(&root).ok();
    env.mydocker(["run", "--name", "idle", "bare", "busybox", "true"]).ok();
    // It has them all the same.
    assert!(
        env.root().join("containers").join(&env.containers()[0]).join("upper/etc/hosts").exists()
    );
    env.mydocker(["diff", "idle"]).run().success().prints("");
    env.mydocker(["rm", "idle"]).ok();
    let script = "busybox mkdir /etc/own; busybox rmdir /etc/own; echo x >/etc/new";
    let volume = format!("{}:/data:ro", root.display());
    env.mydocker(["run", "--name", "busy", "-v", &volume, "bare", "sh", "-c", script]).ok();
    env.mydocker(["diff", "busy"]).run().success().prints("A /data\nA /etc\nA /etc/new\n");
    env.mydocker(["commit", "busy", "made"]).ok();
    assert_eq!(names(&env.rootfs("made").join("etc")), ["new"]);
    assert_eq!(names(&env.rootfs("made")), ["bin", "data", "etc"]);
}

#[test]
fn an_export_is_what_the_container_sees() {
    require!(Root);
    let env = changed();
    let exported = exported(&env, "changed");
    // A commit goes through a layer and its extraction, an export does not.
    env.mydocker(["commit", "changed", "committed"]).ok();
    let tree = tree::read(&env.rootfs("committed").canonicalize().unwrap());
    // What was made to mount something on is seen, and is not committed.
    let made = ["", "etc/hostname", "etc/hosts", "etc/resolv.conf"];
    // The trees of images share files.
    let exported = exported.without(&made);
    tree.without(&made).without_links().assert_same(&exported.clone().without_links());
    for folder in [env.folder().join("exported"), env.rootfs("committed")] {
        let inode = |name: &str| fs::metadata(folder.join(name)).unwrap().ino();
        assert_eq!(inode("new"), inode("hard"));
    }
}

#[test]
fn a_committed_image_runs_with_what_changed() {
    require!(Root);
    let env = changed();
    env.mydocker([
        "commit",
        "-a",
        "somebody",
        "-m",
        "a remark",
        "-c",
        "ENV A=1 B='two words'",
        "-c",
        "CMD [\"busybox\", \"cat\", \"/new\"]",
        "-c",
        "LABEL x=y",
        "-c",
        "EXPOSE 80",
        "changed",
        "team/made:1",
    ])
    .ok();
    env.run(&["team/made:1"]).success().prints("new\n");
    let script = "test ! -e /bin/ls && test ! -e /usr/share && cat /usr/fresh && echo $A $B";
    // Its own cat became a directory.
    let script = script.replace("cat", "busybox cat");
    env.run(&["team/made:1", "sh", "-c", &script]).success().prints("fresh\n1 two words\n");
    let text = env.mydocker(["inspect", "--format", "json", "team/made:1"]).ok();
    let image: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(image["Author"], "somebody");
    assert_eq!(image["Config"]["Labels"], json!({ "x": "y" }));
    assert_eq!(image["Config"]["ExposedPorts"], json!({ "80/tcp": {} }));
    let step = &env.json(&["history", "--no-trunc", "team/made:1"])[0];
    assert_eq!(step["Comment"], "a remark");
    assert!(step["CreatedBy"].as_str().unwrap().starts_with("sh -ec "), "{step}");
    env.assert_no_rubbish();
}

#[test]
fn the_image_starts_as_its_container_did() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let options = ["-e", "GIVEN=yes", "-w", "/tmp", "-u", "7:8"];
    let cmd = env.mydocker(["run", "--name", "started"]).args(options);
    cmd.args(["busybox", "sh", "-c", "echo $GIVEN $(pwd) $(id -u):$(id -g) $HOSTNAME"]).ok();
    env.mydocker(["commit", "started", "as-before"]).ok();
    let output = env.run(&["--hostname", "other", "as-before"]).success();
    output.prints("yes /tmp 7:8 other\n");
}

#[test]
fn umoci_and_skopeo_find_the_layers_right() {
    require!(Root, Tool("skopeo"), Tool("umoci"));
    let env = changed();
    env.mydocker(["commit", "changed", "made"]).ok();
    let archive = env.folder().join("made.tar");
    env.mydocker(["save", "--format", "oci-archive", "made", "-o"]).arg(&archive).ok();
    let target = format!("oci:{}:copy", env.folder().join("copy").display());
    let source = format!("oci-archive:{}", archive.display());
    Cmd::new("skopeo").args(["--insecure-policy", "copy", "--quiet", &source, &target]).ok();
    // Decompressed by skopeo, which compares every DiffID.
    let docker = format!("docker-archive:{}:made:1", env.folder().join("docker.tar").display());
    Cmd::new("skopeo").args(["--insecure-policy", "copy", "--quiet", &source, &docker]).ok();
    let bundle = env.folder().join("bundle");
    let image = format!("{}:copy", env.folder().join("copy").display());
    Cmd::new("umoci").args(["unpack", "--image", &image]).arg(&bundle).timeout(120).ok();
    let theirs = tree::read(&bundle.join("rootfs"));
    let ours = tree::read(&env.rootfs("made").canonicalize().unwrap());
    // No layer says anything about the root itself.
    theirs.without(&[""]).without_links().assert_same(&ours.without(&[""]).without_links());
}

#[test]
fn a_commit_on_a_commit() {
    require!(Root);
    let env = TestEnv::with_busybox();
    env.mydocker(["run", "--name", "one", "busybox", "sh", "-c", "echo 1 >/one; rm /bin/ls"]).ok();
    env.mydocker(["commit", "one", "first"]).ok();
    env.mydocker(["run", "--name", "two", "first", "sh", "-c", "echo 2 >/bin/ls; rm /one"]).ok();
    let id = env.mydocker(["commit", "two"]).ok();
    let script = "cat /bin/ls; test ! -e /one";
    env.run(&[id.trim(), "sh", "-c", script]).success().prints("2\n");
    assert_eq!(env.json(&["images"]).len(), 3);
}

#[test]
fn a_running_container_stands_still_while_it_is_committed() {
    require!(Root);
    let env = TestEnv::with_busybox();
    // Two files that are never seen to differ by more than one, unless the container runs on between the reading of the
    // one and of the other; which takes a while, with a file between them that cannot be packed.
    let script = "dd if=/dev/urandom of=/tmp/ab bs=1M count=8 2>/dev/null; i=0
        while :; do i=$((i+1)); echo $i >/tmp/a; echo $i >/tmp/b; done";
    let run = env.mydocker(["run", "--name", "busy", "busybox", "sh", "-c", script]).start();
    env.wait_until_running("busy");
    let upper = env.root().join("containers").join(&env.containers()[0]).join("upper/tmp");
    wait_for("both files", || upper.join("b").exists().then_some(()));
    for _ in 0..3 {
        env.mydocker(["commit", "busy", "still"]).ok();
        let tree = env.rootfs("still").canonicalize().unwrap();
        let read = |name: &str| {
            let text = fs::read_to_string(tree.join("tmp").join(name)).unwrap_or_default();
            text.trim().parse::<i64>().ok()
        };
        // The shell may have been stopped between the two writes, or between opening and writing.
        if let (Some(a), Some(b)) = (read("a"), read("b")) {
            assert!(a == b || a == b + 1, "{a} {b}");
        }
    }
    // And it goes on afterwards.
    let before = fs::read_to_string(upper.join("a")).unwrap();
    wait_for("a container that goes on", || {
        (fs::read_to_string(upper.join("a")).unwrap() != before).then_some(())
    });
    // What moves while it is read may end early, and that is said.
    let moving = env.mydocker(["commit", "-p=false", "busy", "moving"]).run();
    if moving.code() != Some(0) {
        moving.fails(125, &["unexpected end of file"]);
    }
    env.mydocker(["rm", "-f", "busy"]).ok();
    run.finish().exits(137);
}

/// Whether the control group of a process stands still.
fn is_frozen(pid: i32) -> bool {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    groups.lines().any(|line| {
        let path = line.splitn(3, ':').nth(2).unwrap();
        let read = |file: String| fs::read_to_string(file).unwrap_or_default();
        read(format!("/sys/fs/cgroup/freezer{path}/freezer.state")).trim() == "FROZEN"
            || read(format!("/sys/fs/cgroup{path}/cgroup.events")).contains("frozen 1")
    })
}

#[test]
fn a_paused_container_stays_paused() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let script = "echo x >/new; exec sleep 1000";
    env.mydocker(["run", "-d", "--name", "held", "busybox", "sh", "-c", script]).ok();
    let new = env.root().join("containers").join(&env.containers()[0]).join("upper/new");
    wait_for("the file", || new.exists().then_some(()));
    env.mydocker(["pause", "held"]).ok();
    env.mydocker(["commit", "held", "still"]).ok();
    let diff = env.mydocker(["diff", "held"]).run().success();
    diff.prints("A /new\n");
    let status = env.mydocker(["inspect", "--format", "{{.State.Status}}", "held"]).run();
    status.success().prints("paused\n");
    assert!(env.rootfs("still").join("new").exists());
    env.mydocker(["rm", "-f", "held"]).ok();
}

#[test]
fn a_container_goes_on_when_who_holds_it_is_killed() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let run = env.mydocker(["run", "--name", "held", "busybox", "sleep", "1000"]).start();
    let pid = env.wait_until_running("held");
    // A pipe that nobody reads keeps the export from ending.
    let fifo = env.folder().join("fifo");
    Cmd::new("mkfifo").arg(&fifo).ok();
    let reader = fs::OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
    let export = env.mydocker(["export", "held", "-o"]).arg(&fifo).start();
    wait_for("a container that stands still", || is_frozen(pid).then_some(()));
    export.signal(nix::sys::signal::Signal::SIGKILL);
    assert_eq!(export.finish().code(), None);
    wait_for("a container that goes on", || (!is_frozen(pid)).then_some(()));
    drop(reader);
    env.mydocker(["rm", "-f", "held"]).ok();
    run.finish().exits(137);
}

#[test]
fn what_a_container_wrote_leads_nowhere() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let canary = env.folder().join("canary");
    fs::create_dir(&canary).unwrap();
    fs::write(canary.join("secret"), "secret").unwrap();
    env.mydocker(["run", "--name", "hostile", "busybox", "true"]).ok();
    let upper = env.root().join("containers").join(&env.containers()[0]).join("upper");
    // As a container could have left it, or one that found a way to write here: links out of the layer, a directory of
    // the image replaced by a link, names that make whiteouts.
    std::os::unix::fs::symlink(&canary, upper.join("etc2")).unwrap();
    fs::remove_dir_all(upper.join("usr")).ok();
    std::os::unix::fs::symlink(&canary, upper.join("usr")).unwrap();
    let exported = exported(&env, "hostile");
    assert!(!format!("{exported:?}").contains("secret"));
    env.mydocker(["commit", "hostile", "safe"]).ok();
    let tree = env.rootfs("safe").canonicalize().unwrap();
    assert_eq!(fs::read_link(tree.join("usr")).unwrap(), canary);
    fs::write(upper.join(".wh.bin"), "").unwrap();
    let cmd = env.mydocker(["commit", "hostile", "unsafe"]);
    env.assert_refused(cmd, 125, &["hostile", ".wh.bin", "whiteout"]);
    assert_eq!(names(&canary), ["secret"]);
}

#[test]
fn a_container_in_a_folder_of_the_host_has_no_layer() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let root = env.rootfs("busybox").canonicalize().unwrap();
    let copy = env.folder().join("copy");
    Cmd::new("cp").arg("-a").arg(&root).arg(&copy).ok();
    env.mydocker(["run", "--name", "folder", "--rootfs"]).arg(&copy).arg("true").ok();
    for verb in ["diff", "export", "commit"] {
        let cmd = env.mydocker([verb, "folder"]);
        env.assert_refused(cmd, 125, &["folder", "no layer"]);
    }
    env.assert_refused(env.mydocker(["diff", "nosuch"]), 1, &["nosuch", "no such container"]);
    env.assert_refused(env.mydocker(["commit", "-c", "RUN x", "folder"]), 125, &["RUN"]);
    assert!(Path::new(&copy).exists());
}

#[test]
fn an_ordinary_user_does_all_that_too() {
    require!(Root, Tool("setpriv"), Tool("newuidmap"));
    let env = TestEnv::new();
    let user = User::new(&env, Allowed::ManyIds);
    user.mydocker(["import", "-q"]).arg(fixtures::path("busybox.tar")).ok();
    let script = "rm /bin/ls; touch /x; chown 33:34 /x";
    user.mydocker(["run", "--name", "changed", "busybox", "sh", "-c", script]).ok();
    let shown = user.mydocker(["diff", "changed"]).run().success();
    shown.prints("C /bin\nD /bin/ls\nA /x\n");
    user.mydocker(["commit", "changed", "made"]).ok();
    let script = "test ! -e /bin/ls; stat -c %u:%g /x";
    let output = user.mydocker(["run", "--rm", "made", "sh", "-c", script]).run();
    output.success().prints("33:34\n");
    let exported = user.mydocker(["export", "changed"]).run().success();
    assert!(exported.stdout.contains("bin/busybox"));
    user.mydocker(["verify", "--deep"]).run().success().prints("");
    user.mydocker(["df", "-v"]).ok();
    user.mydocker(["rm", "changed"]).ok();
    user.mydocker(["prune", "-af"]).ok();
    assert_eq!(names(&user.root().join("trees")), Vec::<String>::new());
}
