//! `--privileged` and `--security-opt`.

use std::fs;

use serde_json::Value;

use crate::support::command::Cmd;
use crate::support::env::TestEnv;
use crate::support::require::Need::{Root, Tool};

/// The `linux` part of the specification of a container that is made with `options`.
fn linux(env: &TestEnv, options: &[&str]) -> Value {
    let create = env.mydocker(["create"]).args(options).args(["busybox", "true"]);
    let id = create.ok();
    let path = env.root().join("containers").join(id.trim_end()).join("config.json");
    let spec: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    env.mydocker(["rm", id.trim_end()]).ok();
    spec["linux"].clone()
}

#[test]
fn the_profile_that_is_shown_is_the_one_that_holds() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let profile = env.mydocker(["info", "--seccomp-profile"]).ok();
    fs::write(env.folder().join("usual.json"), &profile).unwrap();
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/src/runtime/seccomp/default.json");
    if let Ok(shipped) = fs::read_to_string(shipped) {
        assert_eq!(profile, shipped);
    }
    let option = ["--security-opt", "seccomp=usual.json"];
    for capabilities in [&[][..], &["--cap-add", "SYS_ADMIN"], &["--cap-drop", "ALL"]] {
        let given = linux(&env, &[capabilities, &option].concat());
        assert_eq!(given["seccomp"], linux(&env, capabilities)["seccomp"]);
    }
    let builtin = linux(&env, &["--security-opt", "seccomp=builtin"]);
    assert_eq!(builtin["seccomp"], linux(&env, &[])["seccomp"]);
}

#[test]
fn system_calls_are_filtered_as_the_profile_says() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let profile = r#"{
        "defaultAction": "SCMP_ACT_ALLOW", "archMap": [
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]}],
        "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28, "args": null},
            {"names": ["symlink", "symlinkat"], "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_KILL"]}},
            {"names": ["rmdir", "unlinkat"], "action": "SCMP_ACT_ERRNO", "includes": {"minKernel": "99.0"}}]}"#;
    fs::write(env.folder().join("p.json"), profile).unwrap();
    let script = "mkdir /x 2>&1; ln -s a /l 2>&1 && echo linked; grep ^Seccomp: /proc/self/status";
    let shown = env.sh_with(&["--security-opt", "seccomp=p.json"], script);
    assert_eq!(
        shown,
        "mkdir: can't create directory '/x': No space left on device\nlinked\nSeccomp:\t2\n"
    );
    let shown = env.sh_with(
        &["--security-opt", "seccomp=p.json", "--cap-drop", "KILL"],
        "ln -s a /l 2>&1; true",
    );
    assert!(shown.contains("not permitted"), "{shown}");
    let options = ["--security-opt", "seccomp=unconfined"];
    assert_eq!(env.sh_with(&options, "grep ^Seccomp: /proc/self/status"), "Seccomp:\t0\n");
    // What is under the filter is also what runs later in the container.
    let options = ["run", "-d", "--name", "long", "--security-opt", "seccomp=p.json"];
    env.mydocker(options).args(["busybox", "sleep", "1000"]).ok();
    env.mydocker(["exec", "long", "mkdir", "/x"]).run().exits(1).says("No space left");
    env.mydocker(["rm", "-f", "long"]).ok();
}

#[test]
fn profiles_that_cannot_be_used() {
    require!(Root);
    let env = TestEnv::with_busybox();
    fs::write(env.folder().join("bad.json"), r#"{"defaultAction":"SCMP_ACT_SMILE"}"#).unwrap();
    let with = |option: &str| env.run(&["--security-opt", option, "busybox", "true"]);
    with("seccomp=bad.json").fails(125, &["seccomp profile", "bad.json", "SCMP_ACT_SMILE"]);
    with("seccomp=nosuch.json").fails(125, &["nosuch.json", "no such file"]);
    assert_eq!(env.containers(), Vec::<String>::new());
}

#[test]
fn what_the_machine_has_not_is_refused_by_name() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let with = |option: &str| env.run(&["--security-opt", option, "busybox", "true"]);
    let facts: Value = env.json(&["info"]).remove(0);
    if facts["AppArmor"] == false {
        with("apparmor=docker-default").fails(125, &["apparmor=docker-default", "AppArmor is off"]);
    }
    if facts["SELinux"] == false {
        with("label=type:container_t").fails(125, &["label=type:container_t", "SELinux is off"]);
    }
    with("apparmor=unconfined").success();
    with("label=disable").success();
    with("label:disable").success();
    with("nosuch=x").fails(125, &["invalid security option", "nosuch=x", "seccomp=FILE"]);
    with("mask=relative").fails(125, &["mask=relative", "absolute paths"]);
}

/// A profile that is loaded until this is dropped.
struct Loaded(String);

impl Loaded {
    fn new(name: &str, rules: &str) -> Self {
        // Paths of a root that was made in another mount namespace have no beginning that AppArmor knows.
        let usual = "file, capability, network, signal, ptrace, mount, umount, pivot_root, unix,";
        let text = format!("profile {name} flags=(attach_disconnected) {{ {usual} {rules} }}\n");
        Cmd::new("apparmor_parser").args(["-K", "-r"]).input(text.clone()).ok();
        Self(text)
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        let _ = Cmd::new("apparmor_parser").args(["-K", "-R"]).input(self.0.clone()).run();
    }
}

#[test]
fn an_apparmor_profile_confines_every_program_of_the_container() {
    require!(Root);
    let env = TestEnv::with_busybox();
    if env.json(&["info"])[0]["AppArmor"] == false {
        // What is said there, another test knows.
        return;
    }
    require!(Tool("apparmor_parser"));
    let name = format!("mydocker-test-{}", std::process::id());
    let _loaded = Loaded::new(&name, "deny /etc/group r, deny /tmp/** w,");
    let script =
        "cat /proc/self/attr/current; cat /etc/passwd | wc -l; cat /etc/group 2>&1; echo x >/tmp/x";
    let confined = format!("apparmor={name}");
    for more in [&[][..], &["--userns", "host"], &["--init"]] {
        let options = [&["--security-opt", &confined], more].concat();
        let shown = env.sh_with(&options, &format!("({script}) 2>&1; true"));
        assert!(shown.starts_with(&format!("{name} (enforce)\n")), "{shown}");
        assert_eq!(shown.matches("ermission denied").count(), 2, "{shown}");
    }
    let run = env.mydocker(["run", "-d", "--name", "box", "--security-opt", &confined, "busybox"]);
    run.args(["sleep", "1000"]).ok();
    let exec = env.mydocker(["exec", "box", "cat", "/proc/self/attr/current"]).ok();
    assert_eq!(exec, format!("{name} (enforce)\n"));
    let shown = env.mydocker(["inspect", "-f", "{{.AppArmorProfile}}", "box"]).ok();
    assert_eq!(shown, format!("{name}\n"));
    env.mydocker(["rm", "-f", "box"]).ok();
    let free = ["--security-opt", &confined, "--security-opt", "apparmor=unconfined"];
    let shown = env.sh_with(&free, "cat /proc/self/attr/current; cat /etc/group >/dev/null");
    assert_eq!(shown, "unconfined\n");
    env.run(&["--security-opt", "apparmor=nosuch", "busybox", "true"])
        .fails(125, &["set the AppArmor profile `nosuch`", "hint:", "apparmor_parser"]);
    assert_eq!(env.containers(), Vec::<String>::new());
}

#[test]
fn paths_are_masked_and_unmasked() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let script =
        "cat /etc/passwd | wc -c; ls /bin | wc -l; (echo 1 >/proc/sys/kernel/core_uses_pid) 2>&1";
    let options = ["--security-opt", "mask=/etc/passwd:/bin/nosuch:/usr"];
    assert!(env.sh_with(&options, "cat /etc/passwd; ls /usr | wc -l").trim_end() == "0");
    let shown = env.sh_with(&[], &format!("{script}; true"));
    assert!(shown.contains("Read-only"), "{shown}");
    let mounts = "grep -c ' /proc/[a-z]' /proc/self/mountinfo; true";
    assert_ne!(env.sh_with(&[], mounts), "0\n");
    for all in ["unmask=ALL", "systempaths=unconfined", "unmask=/proc/*"] {
        assert_eq!(env.sh_with(&["--security-opt", all], mounts), "0\n", "{all}");
    }
}

#[test]
fn a_privileged_container_is_held_back_by_nothing() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let script = "grep -E '^(CapBnd|CapEff|Seccomp):' /proc/self/status | cut -f 2; readlink /proc/self/ns/user; \
                  grep -c ' /proc/[a-z]' /proc/self/mountinfo; mount -t tmpfs none /tmp && echo mounted; \
                  test -w /sys/kernel/mm && echo writable; test -w /sys/fs/cgroup && echo cgroup; \
                  test -c /dev/kmsg -a -c /dev/null -a -L /dev/ptmx && dd if=/dev/kmsg count=0 2>/dev/null && echo device";
    let shown = env.sh_with(&["--privileged"], script);
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("CapPrm:\t")).unwrap();
    let host = fs::read_link("/proc/self/ns/user").unwrap();
    let wanted = format!(
        "{own}\n{own}\n0\n{}\n0\nmounted\nwritable\ncgroup\ndevice\n",
        host.to_str().unwrap()
    );
    assert_eq!(shown, wanted);
    let shown = env.sh_with(&["--privileged"], "ls -l /dev/null; ls /dev | sort | tr '\\n' ' '");
    assert!(shown.contains("crw-rw-rw-"), "{shown}");
    let words: Vec<&str> = shown.split_whitespace().collect();
    for name in fs::read_dir("/dev").unwrap().map(|entry| entry.unwrap()) {
        let kind = name.file_type().unwrap();
        let (name, dev) = (name.file_name(), std::os::unix::fs::FileTypeExt::is_char_device(&kind));
        let name = name.to_str().unwrap();
        assert!(!dev || name == "console" || words.contains(&name), "no {name} in {shown}");
    }
}

#[test]
fn a_privileged_container_can_keep_a_user_namespace() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let script = "grep ^CapEff: /proc/self/status | cut -f 2; readlink /proc/self/ns/user; \
                  mount -t tmpfs none /tmp && echo mounted";
    let shown = env.sh_with(&["--privileged", "--userns", "private"], script);
    let host = fs::read_link("/proc/self/ns/user").unwrap();
    assert!(shown.starts_with("000001ff") && shown.ends_with("mounted\n"), "{shown}");
    assert!(!shown.contains(host.to_str().unwrap()), "{shown}");
}

#[test]
fn control_groups_can_be_made_writable() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let script = "grep ' /sys/fs/cgroup ' /proc/self/mounts | cut -d ' ' -f 4 | cut -d , -f 1";
    assert_eq!(env.sh_with(&[], script), "ro\n");
    assert_eq!(env.sh_with(&["--security-opt", "writable-cgroups=true"], script), "rw\n");
    if env.json(&["info"])[0]["CgroupVersion"] == "2" {
        let made = "mkdir /sys/fs/cgroup/x && rmdir /sys/fs/cgroup/x && echo made";
        assert_eq!(env.sh_with(&["--security-opt", "writable-cgroups"], made), "made\n");
    }
}

/// What an `int $0x80` program gets under `options`.
fn sockets_of_32_bit_programs(env: &TestEnv, options: &[&str]) -> String {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/socketcall.c");
    let program = env.folder().join("sockets");
    Cmd::new("cc").args(["-static", "-no-pie", "-O1", "-o"]).arg(&program).arg(source).ok();
    let volume = format!("{}:/sockets:ro", program.display());
    env.run(&[&["-v", &volume], options, &["busybox", "/sockets"]].concat()).success().stdout
}

#[test]
fn a_profile_can_close_the_way_to_sockets_through_socketcall() {
    require!(Root, Tool("cc"));
    if std::env::consts::ARCH != "x86_64" {
        return;
    }
    let env = TestEnv::with_busybox();
    // What socketcall is asked for lies in memory, where no filter looks, and the C library of 32-bit Debian makes every
    // socket so: with docker as well, it is left open.
    assert_eq!(
        sockets_of_32_bit_programs(&env, &[]),
        "socket inet 0\nsocket alg -97\nsocket vsock -97\nsocketcall inet 0\n"
    );
    let usual = env.mydocker(["info", "--seccomp-profile"]).ok();
    let strict = usual.replace("\"socketcall\", ", "");
    assert_ne!(strict, usual);
    fs::write(env.folder().join("strict.json"), strict).unwrap();
    assert_eq!(
        sockets_of_32_bit_programs(&env, &["--security-opt", "seccomp=strict.json"]),
        "socket inet 0\nsocket alg -97\nsocket vsock -97\nsocketcall inet -97\n"
    );
}
