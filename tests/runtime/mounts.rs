//! Mount options, propagation, and mappings of single mounts.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

use serde_json::{Value, json};

use crate::bundle::Bundle;

fn add(bundle: &mut Bundle, mount: Value) {
    bundle.spec["mounts"].as_array_mut().unwrap().push(mount);
}

fn tmpfs(destination: &str, options: &[&str]) -> Value {
    json!({"type": "tmpfs", "source": "tmpfs", "destination": destination, "options": options})
}

#[test]
fn a_tmpfs_can_begin_with_what_was_there() {
    for new in [Bundle::new, Bundle::without_user_namespace] {
        let mut bundle = new(
            "cd /data; cat file deep/er/file; readlink link; stat -c '%a %u:%g' file deep; [ -p pipe ] && echo pipe; \
             (echo x >new) 2>/dev/null; echo $?",
        );
        let data = bundle.root().join("data");
        fs::create_dir_all(data.join("deep/er")).unwrap();
        fs::write(data.join("file"), "one\n").unwrap();
        fs::set_permissions(data.join("file"), fs::Permissions::from_mode(0o4751)).unwrap();
        fs::write(data.join("deep/er/file"), "two\n").unwrap();
        chown(data.join("deep"), Some(3), Some(4)).unwrap();
        // What leads out of the container leads nowhere: a link stays one.
        symlink("/etc/shadow", data.join("link")).unwrap();
        nix::unistd::mkfifo(&data.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        add(&mut bundle, tmpfs("/data", &["nosuid", "tmpcopyup", "ro", "size=1m"]));
        let out = bundle.output();
        assert_eq!(out, "one\ntwo\n/etc/shadow\n4751 0:0\n755 3:4\npipe\n1\n");
        // More than fits is an error, and not a part of it.
        fs::write(data.join("big"), vec![1; 2 << 20]).unwrap();
        let refusal = bundle.refusal();
        assert!(
            refusal.contains(
                "copy what is below the mount `tmpfs` on `/data`: no space left on device"
            ),
            "{refusal}"
        );
    }
    let mut bundle = Bundle::new("true");
    bundle.bind("/etc".as_ref(), "/etc", &["tmpcopyup"]);
    assert!(bundle.refusal().contains("unsupported `mounts["));
}

#[test]
fn a_remount_changes_what_is_there() {
    let mut bundle = Bundle::new(
        "(echo x >/v/new) 2>/dev/null; echo $?; grep ' /v ' /proc/self/mountinfo | cut -d' ' -f6",
    );
    add(&mut bundle, tmpfs("/v", &["nosuid"]));
    add(&mut bundle, json!({"destination": "/v", "options": ["remount", "ro", "noexec"]}));
    assert_eq!(bundle.output(), "1\nro,nosuid,noexec,relatime\n");
}

#[test]
fn attributes_hold_for_the_mount_or_for_all_below_it() {
    let mut bundle = Bundle::without_user_namespace(
        "for m in /top /top/below /all /all/below; do grep \" $m \" /proc/self/mountinfo | cut -d' ' -f6; done",
    );
    let source = bundle.directory.join("source");
    fs::create_dir_all(source.join("below")).unwrap();
    let mount = |source: &str, to: &std::path::Path, flags| {
        nix::mount::mount(Some(source), to, Some("tmpfs"), flags, None::<&str>).unwrap();
    };
    mount("tmpfs", &source, nix::mount::MsFlags::empty());
    fs::create_dir(source.join("below")).unwrap();
    mount("tmpfs", &source.join("below"), nix::mount::MsFlags::MS_NOSUID);
    bundle.bind(&source, "/top", &["ro", "noatime", "nodev"]);
    bundle.bind(
        &source,
        "/all",
        &["rro", "rnoatime", "rnodiratime", "rsuid", "rnoexec", "rnosymfollow"],
    );
    let ran = bundle.run();
    for mounted in [source.join("below"), source.clone()] {
        nix::mount::umount(&mounted).unwrap();
    }
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
    let all = "ro,noexec,noatime,nodiratime,nosymfollow";
    let expected = format!("ro,nodev,noatime\nrw,nosuid,relatime\n{all}\n{all}\n");
    assert_eq!(ran.out, expected);
}

#[test]
fn options_of_the_filesystem_are_its_own() {
    let mut bundle = Bundle::new(
        "stat -c '%a %u' /v; grep ' /v ' /proc/self/mountinfo | cut -d' ' -f6-; head -c 2m /dev/zero 2>&1 >/v/x; stat -c %s /v/x",
    );
    add(
        &mut bundle,
        tmpfs(
            "/v",
            &[
                "mode=0750",
                "uid=7",
                "size=1m",
                "sync",
                "dirsync",
                "silent",
                "iversion",
                "strictatime",
            ],
        ),
    );
    let out = bundle.output();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!((lines[0], lines.last().copied()), ("750 7", Some("1048576")), "{out}");
    assert!(lines[1].contains("rw,sync,dirsync") && lines[1].starts_with("rw -"), "{out}");
    add(&mut bundle, tmpfs("/w", &["no-such-option"]));
    assert!(bundle.refusal().contains("mount `tmpfs` on `/w`: invalid argument"));
}

#[test]
fn propagation_is_the_specs() {
    let tags = |root: Option<&str>, options: &[&str]| {
        let mut bundle = Bundle::without_user_namespace(
            "for m in / /v; do /bin/busybox awk -v m=$m '$5 == m {print m, $7}' /proc/self/mountinfo | cut -d: -f1; done",
        );
        if let Some(root) = root {
            bundle.set("/linux/rootfsPropagation", json!(root));
        }
        let source = bundle.directory.join("source");
        fs::create_dir_all(&source).unwrap();
        bundle.bind(&source, "/v", options);
        bundle.output()
    };
    assert_eq!(tags(None, &[]), "/ -\n/v -\n");
    assert_eq!(tags(Some("shared"), &[]), "/ shared\n/v -\n");
    assert_eq!(tags(Some("rshared"), &[]), "/ shared\n/v shared\n");
    assert_eq!(tags(None, &["rshared"]), "/ -\n/v shared\n");
    assert_eq!(tags(Some("unbindable"), &["unbindable"]), "/ unbindable\n/v unbindable\n");
    let mut bundle = Bundle::new("true");
    bundle.set("/linux/rootfsPropagation", json!("sideways"));
    assert!(bundle.refusal().contains("`linux.rootfsPropagation`"));
}

#[test]
fn a_mount_can_have_mappings_of_its_own() {
    for (new, shift) in
        [(Bundle::new as fn(&str) -> Bundle, 100_000), (Bundle::without_user_namespace, 0)]
    {
        let mut bundle = new("stat -c '%u:%g' /v/root /v/other; touch /v/new");
        let source = bundle.directory.join("source");
        fs::create_dir(&source).unwrap();
        for (name, id) in [("root", 0), ("other", 7)] {
            fs::write(source.join(name), "").unwrap();
            chown(source.join(name), Some(id), Some(id)).unwrap();
        }
        fs::set_permissions(&source, fs::Permissions::from_mode(0o777)).unwrap();
        // 0 on disk is 5 of the container, and 7 on disk is its root.
        let map = json!([
            {"containerID": 0, "hostID": 5 + shift, "size": 1}, {"containerID": 7, "hostID": shift, "size": 1}
        ]);
        let mut mount = json!({"type": "none", "source": source, "destination": "/v", "options": ["bind", "idmap"]});
        mount["uidMappings"] = map.clone();
        mount["gidMappings"] = map;
        add(&mut bundle, mount);
        assert_eq!(bundle.output(), "5:5\n0:0\n");
        assert_eq!(fs::metadata(source.join("new")).unwrap().uid(), 7);
        let last = bundle.spec["mounts"].as_array().unwrap().len() - 1;
        bundle.set(&format!("/mounts/{last}/gidMappings"), json!([]));
        assert!(bundle.refusal().contains(&format!("`mounts[{last}].gidMappings`")));
    }
    let mut bundle = Bundle::without_user_namespace("true");
    bundle.bind("/etc".as_ref(), "/v", &["idmap"]);
    assert!(bundle.refusal().contains("`idmap` needs mappings, or a user namespace"));
}
