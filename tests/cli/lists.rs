//! `images`, `inspect`, `rmi`, `ps`, `rm`, `version` and `info`.

use std::fs;

use crate::support::command::Cmd;
use crate::support::env::{TestEnv, copy_program, names};
use crate::support::fixtures;
use crate::support::require::Need::{Root, Tool};

#[test]
fn an_empty_store() {
    require!(Root);
    let env = TestEnv::new();
    env.mydocker(["images"])
        .run()
        .success()
        .prints("REPOSITORY   TAG   IMAGE ID   CREATED   SIZE\n");
    assert_eq!(env.json(&["images"]).len(), 0);
    let header = "CONTAINER ID   IMAGE   COMMAND   CREATED   STATUS   PORTS   NAMES\n";
    env.mydocker(["ps", "-a"]).run().success().prints(header);
    assert_eq!(env.json(&["ps", "-a"]).len(), 0);
}

#[test]
fn images_in_a_table_and_as_json() {
    require!(Root);
    let env = TestEnv::with_busybox();
    env.mydocker(["import", "--name", "example.org/team/app:1.2"])
        .arg(fixtures::path("layered"))
        .ok();
    let table = env.mydocker(["images"]).ok();
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(table.lines().any(|line| line.starts_with("example.org/team/app   1.2 ")), "{table}");
    let images = env.json(&["images", "busybox"]);
    assert_eq!(images.len(), 1);
    for (key, value) in [("Repository", "busybox"), ("Tag", "latest")] {
        assert_eq!(images[0][key], value);
    }
    assert_eq!(images[0]["ID"].as_str().unwrap().len(), 12);
    assert_eq!(env.mydocker(["images", "-q"]).ok().lines().count(), 2);
    assert_eq!(names(&env.root().join("rootfs")), ["busybox", "example.org+team+app:1.2"]);
}

#[test]
fn inspect() {
    require!(Root);
    let env = TestEnv::new();
    env.mydocker(["import", "--name", "inspected"]).arg(fixtures::path("layered")).ok();
    let text = env.mydocker(["inspect", "inspected"]).ok();
    let all: serde_json::Value = serde_json::from_str(&text).unwrap();
    let image = &all[0];
    assert_eq!(image["Architecture"], fixtures::architecture());
    assert_eq!(
        image["RootFS"]["Layers"].as_array().unwrap().len(),
        fixtures::layers("layered", "latest").len()
    );
    assert_eq!(image["Descriptor"]["digest"], fixtures::digest("layered", "latest"));
    assert_eq!(image["RepoTags"], serde_json::json!(["inspected:latest"]));
}

#[test]
fn inspect_what_is_not_there() {
    require!(Root);
    let env = TestEnv::with_busybox();
    env.assert_refused(env.mydocker(["inspect", "nosuch"]), 125, &["nosuch", "no such image"]);
}

#[test]
fn rmi_takes_an_image_and_its_layers_away() {
    require!(Root);
    let env = TestEnv::new();
    let before = env.mydocker(["images"]).ok();
    env.mydocker(["import", "--name", "short-lived"]).arg(fixtures::path("layered")).ok();
    env.mydocker(["rmi", "short-lived"]).ok();
    assert_eq!(env.mydocker(["images"]).ok(), before);
    for folder in ["blobs/sha256", "trees", "rootfs", "tmp"] {
        assert_eq!(names(&env.root().join(folder)), Vec::<String>::new(), "{folder}");
    }
}

#[test]
fn rmi_keeps_what_other_images_have_too() {
    require!(Root);
    let env = TestEnv::new();
    for tag in ["v1", "v2"] {
        let layout = env.folder().join(tag);
        let source = format!("oci:{}:{tag}", fixtures::path("variants").display());
        let skopeo =
            Cmd::new("skopeo").args(["--insecure-policy", "copy", "--quiet", "--preserve-digests"]);
        skopeo.arg(source).arg(format!("oci:{}:{tag}", layout.display())).ok();
        env.mydocker(["import", "--name", tag]).arg(&layout).ok();
    }
    env.mydocker(["rmi", "v1"]).ok();
    env.run(&["v2", "sh", "-c", "test -s /variant && ls /bin/busybox"])
        .success()
        .prints("/bin/busybox\n");
}

#[test]
fn rmi_of_one_of_two_names() {
    require!(Root);
    let env = TestEnv::with_busybox();
    env.mydocker(["import", "--name", "other"]).arg(fixtures::path("busybox.tar")).ok();
    env.mydocker(["rmi", "other"]).ok();
    env.run(&["busybox", "true"]).success();
    assert_eq!(names(&env.root().join("rootfs")), ["busybox"]);
}

#[test]
fn rmi_of_an_image_in_use() {
    require!(Root);
    let env = TestEnv::with_busybox();
    env.mydocker(["run", "--name", "user", "busybox", "true"]).ok();
    let before = env.store();
    env.mydocker(["rmi", "busybox"]).run().fails(1, &["busybox", "in use", "mydocker rm"]);
    env.store().assert_same(&before);
    env.mydocker(["rm", "user"]).ok();
    env.mydocker(["rmi", "busybox"]).ok();
}

#[test]
fn rmi_while_a_container_starts() {
    require!(Root);
    let env = TestEnv::new();
    for round in 0..20 {
        env.mydocker(["import", "--quiet"]).arg(fixtures::path("busybox.tar")).ok();
        let run = env.mydocker(["run", "--pull", "never", "--rm", "busybox", "cat", "/etc/passwd"]);
        let run = run.start();
        std::thread::sleep(std::time::Duration::from_millis(round));
        env.mydocker(["rmi", "--force", "busybox"]).ok();
        // Either it was too late, or the image stays as long as the container.
        let ended = run.finish();
        match ended.code() {
            Some(0) => assert!(ended.stdout.starts_with("root:"), "{}", ended.report()),
            _ => drop(ended.fails(125, &["busybox"])),
        }
        env.mydocker(["prune", "-a", "-f"]).ok();
    }
    env.assert_no_rubbish();
}

#[test]
fn rmi_of_what_is_not_there() {
    require!(Root);
    let env = TestEnv::with_busybox();
    env.assert_refused(env.mydocker(["rmi", "nosuch"]), 1, &["nosuch", "no such image"]);
    let output = env.mydocker(["rmi", "-f", "nosuch", "busybox"]).run().success();
    assert!(output.says("no such image: nosuch").stdout.contains("Untagged: busybox"));
}

#[test]
fn containers_in_a_table_and_as_json() {
    require!(Root);
    let env = TestEnv::with_busybox();
    env.mydocker(["run", "--name", "three", "busybox", "sh", "-c", "exit 3"]).run().exits(3);
    assert_eq!(env.json(&["ps"]).len(), 0);
    let all = env.json(&["ps", "-a"]);
    for (key, value) in [("Names", "three"), ("Image", "busybox"), ("State", "exited")] {
        assert_eq!(all[0][key], value);
    }
    assert!(all[0]["Status"].as_str().unwrap().starts_with("Exited (3) "), "{all:?}");
    let table = env.mydocker(["ps", "-a"]).ok();
    assert!(
        table.contains("three") && table.contains("\"sh -c exit 3\"") || table.contains("\"sh -c"),
        "{table}"
    );
    env.mydocker(["rm", "three"]).run().success().prints("three\n");
    assert_eq!(env.json(&["ps", "-a"]).len(), 0);
}

#[test]
fn a_running_container_is_listed_and_not_removed_without_force() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let run = env.mydocker(["run", "--name", "busy", "busybox", "sleep", "1000"]).start();
    env.wait_until_running("busy");
    assert_eq!(env.json(&["ps"])[0]["Names"], "busy");
    env.mydocker(["rm", "busy"]).run().fails(1, &["busy", "running", "rm -f"]);
    env.mydocker(["rm", "-f", "busy"]).ok();
    run.finish().exits(137);
    assert_eq!(env.containers(), Vec::<String>::new());
}

#[test]
fn two_who_remove_the_same_container() {
    require!(Root);
    let env = TestEnv::with_busybox();
    // It removes itself when it ends, and is killed by who wants it removed.
    for _ in 0..5 {
        let run =
            env.mydocker(["run", "--rm", "--name", "twice", "busybox", "sleep", "1000"]).start();
        env.wait_until_running("twice");
        env.mydocker(["rm", "-f", "twice"]).ok();
        run.finish().exits(137);
        assert_eq!(env.containers(), Vec::<String>::new());
    }
}

#[test]
fn a_name_that_is_taken() {
    require!(Root);
    let env = TestEnv::with_busybox();
    env.mydocker(["run", "--name", "taken", "busybox", "true"]).ok();
    env.mydocker(["run", "--name", "taken", "busybox", "true"])
        .run()
        .fails(125, &["taken", "in use"]);
    assert_eq!(env.containers().len(), 1);
}

#[test]
fn a_name_that_is_none() {
    require!(Root);
    let env = TestEnv::with_busybox();
    for name in ["", "a/b", "../x", "a b", "-x", ".x", "a\nb"] {
        let output = env
            .mydocker(["run", "--rm"])
            .arg(format!("--name={name}"))
            .args(["busybox", "true"])
            .run();
        output.exits(125);
        assert_eq!(env.containers(), Vec::<String>::new(), "{name:?}");
    }
}

#[test]
fn rm_of_what_is_not_there() {
    require!(Root);
    let env = TestEnv::with_busybox();
    env.assert_refused(env.mydocker(["rm", "nosuch"]), 1, &["nosuch", "no such container"]);
    // As docker and podman have it: what is not there is as good as removed.
    env.mydocker(["create", "--name", "there", "busybox", "true"]).ok();
    let output = env.mydocker(["rm", "-f", "nosuch", "there"]).run().success();
    assert_eq!(output.says("no such container: nosuch").stdout, "there\n");
}

#[test]
fn a_broken_image_does_not_hide_the_others() {
    require!(Root);
    let env = TestEnv::with_busybox();
    env.mydocker(["import", "--name", "broken"]).arg(fixtures::path("layered")).ok();
    let digest = fixtures::digest("layered", "latest").replacen(':', "/", 1);
    fs::write(env.root().join("blobs").join(digest), "{").unwrap();
    let output = env.mydocker(["images"]).run().success().says("broken");
    assert!(output.stdout.contains("busybox"), "{}", output.report());
    env.run(&["busybox", "true"]).success();
    env.mydocker(["rmi", "broken"]).ok();
}

#[test]
fn version() {
    let env = TestEnv::new();
    let wanted = format!("mydocker version {}", env!("CARGO_PKG_VERSION"));
    assert!(env.mydocker(["version"]).ok().starts_with(&wanted));
    assert_eq!(env.json(&["version"])[0]["Version"], env!("CARGO_PKG_VERSION"));
    assert!(env.mydocker(["--version"]).ok().contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn info() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let info = &env.json(&["info"])[0];
    assert_eq!(info["Images"], 1);
    assert_eq!(info["StoreRoot"], env.root().to_str().unwrap());
    assert!(env.mydocker(["info"]).ok().contains("KernelVersion: "));
}

#[test]
fn nothing_is_needed_on_the_target() {
    require!(Root, Tool("chroot"));
    let env = TestEnv::new();
    let root = env.folder().join("empty");
    fs::create_dir(&root).unwrap();
    copy_program(&root.join("mydocker"));
    let output = Cmd::new("chroot").arg(&root).args(["/mydocker", "version"]).run().success();
    assert!(output.stdout.starts_with("mydocker version"), "{}", output.report());
    Cmd::new("chroot").arg(&root).args(["/mydocker", "--root", "/store", "images"]).ok();
}
