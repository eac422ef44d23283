//! Who owns what, on disk and inside.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};

use serde_json::json;

use crate::bundle::Bundle;

#[test]
fn files_keep_their_owners_on_disk() {
    let mut bundle = Bundle::new(
        "id -u; stat -c '%u:%g' /etc/old; echo x >/etc/new; chown 5:6 /etc/new; chown 7:8 /etc/old; rm /tmp/gone; ls /tmp | wc -l",
    );
    fs::write(bundle.root().join("etc/old"), "old").unwrap();
    fs::write(bundle.root().join("tmp/gone"), "").unwrap();
    chown(bundle.root().join("etc/old"), Some(3), Some(4)).unwrap();
    let layer = bundle.overlay();
    assert_eq!(bundle.output(), "0\n3:4\n0\n");
    let owner = |path: std::path::PathBuf| {
        let found = fs::metadata(path).unwrap();
        (found.uid(), found.gid())
    };
    assert_eq!(owner(layer.join("upper/etc/new")), (5, 6));
    assert_eq!(owner(layer.join("upper/etc/old")), (7, 8));
    // The tree is as it was.
    assert_eq!(owner(bundle.root().join("etc/old")), (3, 4));
    assert!(bundle.root().join("tmp/gone").exists());
    // And so is the process: an ordinary user outside.
    let mut bundle = Bundle::new("cat /proc/self/uid_map; sleep 0.01");
    bundle.overlay();
    assert_eq!(bundle.output().split_whitespace().collect::<Vec<_>>(), ["0", "100000", "65536"]);
}

#[test]
fn bind_mounts_show_the_owners_on_disk() {
    let mut bundle =
        Bundle::new("stat -c %u /v/a; echo x >/v/b; (echo x >/r/b) 2>/dev/null; echo $?");
    let source = bundle.directory.join("volume");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("a"), "").unwrap();
    bundle.bind(&source, "/v", &["nosuid", "nodev"]);
    bundle.bind(&source, "/r", &["rro"]);
    assert_eq!(bundle.output(), "0\n1\n");
    assert_eq!(fs::metadata(source.join("b")).unwrap().uid(), 0);
}

#[test]
fn a_filesystem_that_cannot_map_owners_is_used_as_it_is_and_said() {
    let mut bundle = Bundle::new("stat -c %u /v");
    bundle.bind("/proc/sys/kernel".as_ref(), "/v", &["ro"]);
    let ran = bundle.run();
    assert_eq!((ran.code, ran.out.as_str()), (0, "65534\n"), "{ran:?}");
    assert_eq!(
        ran.err,
        "mydocker: warning: the filesystem of `/proc/sys/kernel` cannot map owners: root in the container is nobody there\n"
    );
    // Asked for by the spec, it is an error.
    let last = bundle.spec["mounts"].as_array().unwrap().len() - 1;
    bundle.set(&format!("/mounts/{last}/options"), json!(["rbind", "ridmap"]));
    assert!(
        bundle.refusal().contains(
            "map the owners of `/proc/sys/kernel` for a user namespace: invalid argument"
        )
    );
}

#[test]
fn without_a_user_namespace_the_same_overlay_works() {
    let mut bundle = Bundle::without_user_namespace(
        "echo x >/etc/new; rm /etc/old; readlink /proc/self/ns/user",
    );
    fs::write(bundle.root().join("etc/old"), "old").unwrap();
    let layer = bundle.overlay();
    let host = fs::read_link("/proc/self/ns/user").unwrap();
    assert_eq!(bundle.output().trim(), host.to_str().unwrap());
    assert!(layer.join("upper/etc/new").exists());
    assert!(layer.join("upper/etc/old").symlink_metadata().is_ok());
}
