//! Devices of the host, and how much of them may be used.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::json;

use crate::limited::Limited;
use crate::support::command::Cmd;
use crate::support::env::TestEnv;
use crate::support::require::Need::{Loop, Root};

#[test]
fn a_device_is_handed_over() {
    require!(Root, Loop);
    let env = TestEnv::with_busybox();
    let script = "stat -c '%F %t:%T %a' /dev/loop-control; dd if=/dev/loop-control of=/dev/null count=0 2>&1 && echo opened";
    let wanted = format!(
        "character special file a:ed {:o}\nopened\n",
        fs::metadata("/dev/loop-control").unwrap().mode() & 0o777
    );
    for userns in ["private", "host"] {
        let shown = env.sh_with(&["--userns", userns, "--device", "/dev/loop-control"], script);
        assert_eq!(shown.replace("0+0 records in\n0+0 records out\n", ""), wanted, "{userns}");
        let shown = env.sh_with(&["--userns", userns], "ls /dev/loop-control 2>&1; true");
        assert!(shown.contains("No such file"), "{shown}");
    }
    let shown =
        env.sh_with(&["--device", "/dev/loop-control:/dev/a/b"], "stat -c '%t:%T' /dev/a/b");
    assert_eq!(shown, "a:ed\n");
}

#[test]
fn a_device_can_be_used_only_as_its_rule_says() {
    require!(Root, Loop);
    let env = TestEnv::with_busybox();
    let script = "(echo x >/dev/full) 2>&1; (: </dev/loop-control) 2>&1 && echo read; (: >>/dev/loop-control) 2>&1 && echo write; true";
    for userns in ["private", "host"] {
        let with = |device: &str| env.sh_with(&["--userns", userns, "--device", device], script);
        let shown = with("/dev/loop-control:r");
        assert!(shown.contains("\nread\n") && !shown.contains("\nwrite\n"), "{userns}: {shown}");
        assert!(shown.contains("loop-control: Operation not permitted"), "{userns}: {shown}");
        let shown = with("/dev/loop-control:/dev/loop-control:w");
        assert!(shown.contains("\nwrite\n") && !shown.contains("\nread\n"), "{userns}: {shown}");
        let shown = with("/dev/loop-control");
        assert!(shown.contains("\nwrite\n") && shown.contains("\nread\n"), "{userns}: {shown}");
    }
    // A rule alone lets a node be used that its own root makes.
    let script = "mknod /dev/k c 10 237 && (: </dev/k) 2>&1 && echo read";
    let options = ["--userns", "host", "--cap-add", "MKNOD"];
    let allowed = [&options[..], &["--device-cgroup-rule", "c 10:* rm"]].concat();
    assert_eq!(env.sh_with(&allowed, script), "read\n");
    let shown = env.sh_with(&options, &format!("{script}; true"));
    assert!(shown.contains("not permitted"), "{shown}");
}

#[test]
fn a_folder_of_devices_is_handed_over() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let folder = format!("/dev/mydocker-test-{}", std::process::id());
    fs::create_dir_all(format!("{folder}/sub")).unwrap();
    for (name, number) in [("a", "11"), ("sub/b", "3")] {
        Cmd::new("mknod").args([&format!("{folder}/{name}"), "c", "1", number]).ok();
    }
    fs::write(format!("{folder}/text"), "").unwrap();
    std::os::unix::fs::symlink("a", format!("{folder}/link")).unwrap();
    let script = "cd /dev/all && find . | sort | tr '\\n' ' '; stat -c '%t:%T' a sub/b";
    let shown = env.sh_with(&["--device", &format!("{folder}:/dev/all")], script);
    assert_eq!(shown, ". ./a ./sub ./sub/b 1:b\n1:3\n");
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn what_is_no_device() {
    require!(Root);
    let _alone = alone();
    let env = TestEnv::with_busybox();
    let with = |device: &str| env.run(&["--device", device, "busybox", "true"]);
    with("/dev/nosuch").fails(125, &["open device `/dev/nosuch`", "no such file"]);
    with("/etc/passwd").exits(125).says("/etc/passwd");
    with("/etc:/dev/etc").fails(125, &["invalid device `/etc`", "neither a device"]);
    with("/dev/kmsg:/etc/kmsg").exits(125).says("below /dev");
    with("kmsg").exits(125).says("absolute path");
    with("nosuch.example/gpu=0").fails(125, &["nosuch.example/gpu=0", "/etc/cdi"]);
    env.run(&["--gpus", "all", "busybox", "true"]).exits(125).says("nvidia.com/gpu=all");
    env.run(&["--gpus", "many", "busybox", "true"]).exits(125).says("many");
    env.run(&["--device-cgroup-rule", "z 1:1 r", "busybox", "true"]).exits(125).says("z 1:1 r");
}

/// For one test at a time: a broken specification is named to all who ask for a device that no other has.
static CDI: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    CDI.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A CDI specification that goes when this is dropped.
struct CdiFile(PathBuf);

impl CdiFile {
    fn new(name: &str, text: &str) -> Self {
        let folder = PathBuf::from("/var/run/cdi");
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for CdiFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn devices_by_the_names_that_their_vendors_give() {
    require!(Root);
    let _alone = alone();
    let env = TestEnv::with_busybox();
    let library = env.folder().join("lib");
    fs::write(&library, "driver\n").unwrap();
    let hook = env.folder().join("hooked");
    let vendor = format!("test{}.example", std::process::id());
    let text = json!({
        "cdiVersion": "0.6.0", "kind": format!("{vendor}/log"),
        "containerEdits": { "env": ["VENDOR=yes", "PATH=/vendor:/bin"] },
        "devices": [
            { "name": "0", "containerEdits": {
                "deviceNodes": [{ "path": "/dev/log0", "hostPath": "/dev/kmsg", "permissions": "r" }],
                "mounts": [{ "hostPath": library, "containerPath": "/usr/lib/driver", "options": ["ro", "nosuid", "nodev", "bind"] }],
                "hooks": [{ "hookName": "createRuntime", "path": "/usr/bin/touch", "args": ["touch", hook] }],
                "additionalGids": [4242],
            } },
            { "name": "none", "containerEdits": {} },
        ],
    });
    let file = CdiFile::new(&format!("{vendor}.json"), &text.to_string());
    let script = "stat -c '%t:%T' /dev/log0; cat /usr/lib/driver; (echo >/usr/lib/driver) 2>/dev/null || echo ro; \
                  echo $VENDOR $PATH; id -G | tr ' ' '\\n' | grep 4242";
    let device = format!("{vendor}/log=0");
    let shown = env.sh_with(&["--device", &device], script);
    assert_eq!(shown, "1:b\ndriver\nro\nyes /vendor:/bin\n4242\n");
    assert!(hook.exists());
    let none = format!("{vendor}/log=none");
    assert_eq!(
        env.sh_with(&["--device", &none], "echo $VENDOR; ls /dev/log0 2>&1 | wc -l"),
        "yes\n1\n"
    );
    let missing = format!("{vendor}/log=7");
    env.run(&["--device", &missing, "busybox", "true"]).fails(125, &[&missing]);
    // Two that claim the same device.
    let second = CdiFile::new(&format!("{vendor}-2.json"), &text.to_string());
    env.run(&["--device", &device, "busybox", "true"]).fails(125, &["more than one"]);
    drop(second);
    fs::write(&file.0, "{").unwrap();
    env.run(&["--device", &device, "busybox", "true"]).fails(125, &["malformed", &vendor]);
}

#[test]
fn devices_of_a_specification_in_yaml() {
    require!(Root);
    let _alone = alone();
    let env = TestEnv::with_busybox();
    let vendor = format!("yaml{}.example", std::process::id());
    let text = format!(
        "---\ncdiVersion: 0.5.0\nkind: {vendor}/log\ndevices:\n- name: \"0\"\n  containerEdits:\n    deviceNodes:\n    \
         - path: /dev/log0\n      hostPath: /dev/kmsg\n      fileMode: 0640\n      permissions: r\ncontainerEdits:\n  env:\n  \
         - VENDOR=yes # indeed\n"
    );
    let file = CdiFile::new(&format!("{vendor}.yaml"), &text);
    let device = format!("{vendor}/log=0");
    let shown = env.sh_with(&["--device", &device], "stat -c '%t:%T %a' /dev/log0; echo $VENDOR");
    assert_eq!(shown, "1:b 640\nyes\n");
    let run = || env.run(&["--device", &device, "busybox", "true"]);
    fs::write(&file.0, text.replace("name:", "name: &all")).unwrap();
    run().fails(125, &["malformed", &vendor, "line 5", "anchors"]);
    fs::write(&file.0, "a: [").unwrap();
    run().fails(125, &["malformed", &vendor]);
}

/// A block device of the host that can be throttled: a loop device has a queue of its own.
fn block_device() -> Option<String> {
    let names = ["vda", "sda", "nvme0n1", "loop0"];
    names.map(|name| format!("/dev/{name}")).into_iter().find(|path| fs::metadata(path).is_ok())
}

#[test]
fn block_devices_are_throttled() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let facts = env.json(&["info"]).remove(0);
    let has = |name: &str| facts["CgroupControllers"].as_array().unwrap().contains(&json!(name));
    let Some(device) = block_device().filter(|_| has("blkio") || has("io")) else { return };
    let number = fs::metadata(&device).unwrap().rdev();
    let number = format!("{}:{}", nix::sys::stat::major(number), nix::sys::stat::minor(number));
    let option = |value: &str| format!("{device}:{value}");
    let (bytes, operations) = (option("1mb"), option("77"));
    let options = [
        ["--device-read-bps", &bytes],
        ["--device-write-bps", &bytes],
        ["--device-read-iops", &operations],
        ["--device-write-iops", &operations],
    ];
    let limited = Limited::start(&env, &options.concat());
    if has("io") {
        let max = limited.value("io", "", "io.max");
        for part in [&number, "rbps=1048576", "wbps=1048576", "riops=77", "wiops=77"] {
            assert!(max.contains(part), "no {part} in {max}");
        }
    } else {
        let value =
            |name: &str| limited.value("blkio", &format!("blkio.throttle.{name}_device"), "");
        assert_eq!(value("read_bps"), format!("{number} 1048576"));
        assert_eq!(value("write_bps"), format!("{number} 1048576"));
        assert_eq!(value("read_iops"), format!("{number} 77"));
        assert_eq!(value("write_iops"), format!("{number} 77"));
    }
}

#[test]
fn throttles_that_make_no_sense() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let with = |option: &str, value: &str| env.run(&[option, value, "busybox", "true"]);
    with("--device-read-bps", "/dev/null:1mb").fails(125, &["/dev/null", "no block device"]);
    with("--device-write-iops", "/dev/nosuch:1").fails(125, &["/dev/nosuch", "no such file"]);
    with("--device-read-bps", "/dev/null").exits(125).says("--device-read-bps");
    with("--blkio-weight", "9").exits(125).says("10 to 1000");
    with("--blkio-weight-device", "/dev/null:5000").exits(125).says("10 to 1000");
}
