//! `--systemd-cgroup`: systemd makes the control groups, on a machine where it is the first process.

use serde_json::{Value, json};

use crate::support::command::{Cmd, Output};
use crate::support::fixtures;
use crate::support::require::Need::{Root, Service, Tool};
use crate::support::systemd::Machine;

/// A machine with a bundle in `/b`.
struct Host {
    machine: Machine,
    user: bool,
}

/// What every script begins with: `leave` runs a command that leaves a process behind, which must not hold the streams;
/// `cg CONTROLLER FILE PID` shows a file of the group that a process is in, of either version; `unit PID` shows its unit.
const SETUP: &str = "oci='mydocker-oci --systemd-cgroup'
leave() { \"$@\" </dev/null >out 2>&1; code=$?; cat out; return $code; }
cg() {
  p=$(cat /proc/$3/cgroup | grep -E \"^0::|[:,]$1[:,]\" | tail -n1 | cut -d: -f3-)
  cat /sys/fs/cgroup$p/$2 2>/dev/null || cat /sys/fs/cgroup/$1$p/$2
}
unit() {
  busctl call org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager GetUnitByPID u $1
}
cd /b\n";

impl Host {
    fn new(user: bool) -> Self {
        let host = Self { machine: Machine::boot(), user };
        let make = "mkdir -p /b/rootfs/bin /b/rootfs/dev /b/rootfs/proc /b/rootfs/sys && cd /b/rootfs/bin && \
            cp /bin/busybox . && for name in cat sh sleep; do ln -s busybox $name; done; chown -R user /b";
        host.machine.sh(make).ok();
        host
    }

    fn cmd(&self, script: &str) -> Cmd {
        let script = format!("{SETUP}{script}");
        if self.user { self.machine.sh_as_user(&script) } else { self.machine.sh(&script) }
    }

    #[track_caller]
    fn ok(&self, script: &str) -> String {
        self.cmd(script).ok()
    }

    fn run(&self, script: &str) -> Output {
        self.cmd(script).run()
    }

    /// Writes a configuration of a container that sleeps, changed by `change`.
    fn configure(&self, change: impl FnOnce(&mut Value)) {
        let options = if self.user { "" } else { "--userns-host" };
        self.ok(&format!("rm -f config.json; mydocker-oci spec {options} -- sleep 1000"));
        let mut spec = serde_json::from_str(&self.ok("cat config.json")).unwrap();
        change(&mut spec);
        // As text of the script, in which it has no quotes of the shell's.
        let text = spec.to_string().replace('\'', "\\u0027");
        self.ok(&format!("echo '{text}' >config.json"));
    }

    /// A property of a unit, as systemd has it.
    fn property(&self, unit: &str, name: &str) -> String {
        let user = if self.user { "--user " } else { "" };
        self.ok(&format!("systemctl {user}show -P {name} {unit}")).trim_end().to_owned()
    }
}

const LIMITS: &str = r#"{ "pids": { "limit": 55 }, "memory": { "limit": 67108864 },
    "cpu": { "quota": 50000, "period": 100000 }, "devices": [{ "allow": false, "access": "rwm" }] }"#;

#[test]
fn a_container_is_a_scope_that_systemd_knows_the_limits_of() {
    require!(Root, Service("systemd"));
    let host = Host::new(false);
    host.configure(|spec| {
        spec["linux"]["cgroupsPath"] = json!("one-two.slice:engine:1f");
        spec["linux"]["resources"] = serde_json::from_str(LIMITS).unwrap();
        spec["annotations"] = json!({ "org.systemd.property.TimeoutStopSec": "uint64 7" });
    });
    host.ok("leave $oci create --pid-file pid box");
    let unit = "engine-1f.scope";
    for (name, value) in [
        ("ControlGroup", "/one.slice/one-two.slice/engine-1f.scope"),
        ("Slice", "one-two.slice"),
        ("Delegate", "yes"),
        ("TasksMax", "55"),
        ("MemoryMax", "67108864"),
        ("CPUQuotaPerSecUSec", "500ms"),
        ("TimeoutStopUSec", "7s"),
        ("ActiveState", "active"),
    ] {
        assert_eq!(host.property(unit, name), value, "{name}");
    }
    assert_eq!(host.ok("cg pids pids.max $(cat pid)"), "55\n");
    host.ok("$oci start box");
    // What systemd writes again when it is told to read its units is the same.
    host.ok("systemctl daemon-reload");
    let forbidden = "$oci exec box sh -c 'busybox mknod /dev/kmsg c 1 11; echo x >/dev/kmsg; echo x >/dev/null && echo null'";
    let ran = host.run(forbidden);
    assert_eq!(
        (ran.stdout.as_str(), ran.stderr.contains("not permitted")),
        ("null\n", true),
        "{ran:?}"
    );
    // A further process is in the same unit for systemd.
    host.ok("leave $oci exec --detach --pid-file other box sleep 1000");
    let object = "o \"/org/freedesktop/systemd1/unit/engine_2d1f_2escope\"\n";
    assert_eq!(host.ok("unit $(cat pid); unit $(cat other)"), object.repeat(2));
    host.ok("$oci update --pids-limit 44 --memory 32m --cpu-quota 20000 box");
    assert_eq!(host.ok("cg pids pids.max $(cat pid)"), "44\n");
    assert_eq!(host.property(unit, "TasksMax"), "44");
    assert_eq!(host.property(unit, "MemoryMax"), "33554432");
    assert_eq!(host.property(unit, "CPUQuotaPerSecUSec"), "200ms");
    host.ok("$oci pause box");
    assert!(host.ok("$oci state box").contains("\"paused\""));
    host.ok("$oci resume box; $oci delete --force box");
    assert_eq!(host.property(unit, "LoadState"), "not-found");
    assert_eq!(host.ok("find /sys/fs/cgroup -name '*engine-1f*'"), "");
}

#[test]
fn units_come_and_go_with_their_containers() {
    require!(Root, Service("systemd"));
    let host = Host::new(false);
    // A name that goes without saying; `+` is none of a unit's characters.
    host.configure(|spec| spec["annotations"] = json!({ "org.systemd.property.KillSignal": "9" }));
    host.ok("leave $oci run --detach --pid-file pid one+1");
    let unit = r"'mydocker-one\x2b1.scope'";
    assert_eq!(host.property(unit, "Slice"), "system.slice");
    // systemd ends a container as it does any unit.
    host.ok(&format!("systemctl stop {unit}"));
    assert!(host.ok("$oci state one+1").contains("\"stopped\""));
    host.ok("$oci delete one+1");
    // A unit that is there is somebody's: it stays, and what was made beside it does not.
    host.configure(|spec| spec["linux"]["cgroupsPath"] = json!(":taken:1"));
    host.ok("systemd-run --quiet --scope --unit taken-1 sleep 1000 >/dev/null 2>&1 &");
    host.machine.wait_until("systemctl is-active taken-1.scope");
    let ran = host.run("$oci create box").fails(1, &["taken-1.scope", "UnitExists"]);
    assert!(ran.stderr.contains("have systemd make the unit"), "{ran:?}");
    assert_eq!(host.property("taken-1.scope", "ActiveState"), "active");
    host.run("$oci state box").fails(1, &["does not exist"]);
    // What systemd or this runtime cannot take is refused before anything is there.
    for (path, cause) in [
        ("/a/path", "slice:prefix:name"),
        ("a--b.slice:x:y", "cannot be the name of a slice"),
        (":x:y z", "cannot be the name of a unit"),
    ] {
        host.configure(|spec| spec["linux"]["cgroupsPath"] = json!(path));
        host.run("$oci create box").fails(1, &[cause]);
    }
    host.configure(|spec| {
        spec["annotations"] = json!({ "org.systemd.property.OnFailure": "['poweroff.target']" });
    });
    host.run("$oci create box")
        .fails(1, &["unsupported `annotations.org.systemd.property.OnFailure`"]);
    // A container whose program cannot be executed leaves no unit.
    host.configure(|spec| {
        spec["linux"]["cgroupsPath"] = json!(":none:1");
        spec["process"]["args"] = json!(["/nowhere"]);
    });
    host.run("$oci run box").fails(127, &["not found"]);
    assert_eq!(host.property("none-1.scope", "LoadState"), "not-found");
    // Where systemd does not answer, that is said, with what else there is.
    host.configure(|_| ());
    let none = "DBUS_SYSTEM_BUS_ADDRESS=unix:path=/nowhere unshare -m sh -c 'mount --bind /mnt /run/systemd; $0 \"$@\"' $oci";
    host.run(&format!("{none} create box"))
        .fails(1, &["connect to systemd by `/nowhere`", "cgroupfs"]);
    // But where only the bus is not there, systemd is reached without.
    host.ok(
        "DBUS_SYSTEM_BUS_ADDRESS=unix:path=/nowhere leave $oci run --detach box; $oci delete --force box",
    );
}

#[test]
fn an_ordinary_user_has_scopes_of_its_own_manager() {
    require!(Root, Service("systemd"));
    let host = Host::new(true);
    // Version 1 gives ordinary users no groups of controllers; the virtual machine has version 2.
    let limits = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    host.configure(|spec| {
        spec["linux"]["cgroupsPath"] = json!("user.slice:engine:2f");
        spec["linux"]["resources"] =
            if limits { json!({ "pids": { "limit": 55 } }) } else { json!({}) };
    });
    host.ok("leave $oci run --detach --pid-file pid box");
    let unit = "engine-2f.scope";
    assert_eq!(
        host.property(unit, "ControlGroup"),
        "/user.slice/user-1000.slice/user@1000.service/user.slice/engine-2f.scope"
    );
    if limits {
        assert_eq!(host.property(unit, "TasksMax"), "55");
        assert_eq!(host.ok("cg pids pids.max $(cat pid)"), "55\n");
        host.ok("$oci update --pids-limit 44 box");
        assert_eq!(host.property(unit, "TasksMax"), "44");
        // Only from below its own manager may a user move a process into the scope.
        let show = "$oci exec box cat /proc/self/cgroup";
        assert_eq!(host.ok(&format!("systemd-run --user --quiet --scope {show}")), "0::/\n");
        let ran = host.run(show).says("stays in the caller's").success();
        assert_ne!(ran.stdout, "0::/\n");
    }
    host.ok("$oci delete --force box");
    assert_eq!(host.property(unit, "LoadState"), "not-found");
}

/// Options that lend the machine a program of this one's with what it is linked to: both are the same Debian.
fn lent(programs: &[&str]) -> Vec<String> {
    let mut files: Vec<String> = programs.iter().map(|program| (*program).to_owned()).collect();
    let linked = Cmd::new("ldd").args(programs).ok();
    let libraries = linked.lines().filter_map(|line| line.split(" => ").nth(1)?.split(' ').next());
    files.extend(libraries.map(str::to_owned));
    files.sort();
    files.dedup();
    let mount = |file: &String| {
        let source = std::fs::canonicalize(file).unwrap();
        ["-v".to_owned(), format!("{}:{file}:ro", source.display())]
    };
    files.iter().flat_map(mount).collect()
}

#[test]
fn podman_has_systemd_make_the_groups() {
    require!(Root, Service("systemd"), Tool("podman"), Tool("conmon"));
    let mut options = lent(&["/usr/bin/podman", "/usr/bin/conmon"]);
    let archive = format!("{}:/busybox.tar:ro", fixtures::path("busybox.tar").display());
    options.extend(["-v", "/etc/containers:/etc/containers:ro", "-v", &archive].map(str::to_owned));
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let machine = Machine::boot_with(&options);
    let setup = "printf '[containers]\\ndefault_ulimits=[\"nofile=1024:1024\",\"nproc=1024:1024\"]\\n' >/root/conf
        export CONTAINERS_CONF=/root/conf
        podman() {
            command podman --storage-driver vfs --events-backend file --cgroup-manager systemd --runtime /usr/bin/mydocker-oci \"$@\"
        }\n";
    let sh = |script: &str| machine.sh(&format!("{setup}{script}")).timeout(120).ok();
    sh("podman import --quiet /busybox.tar localhost/busybox");
    let id =
        sh("podman run -d --network none --memory 64m --name box localhost/busybox sleep 1000");
    let unit = format!("libpod-{}.scope", id.trim_end());
    let show = |names: &str| sh(&format!("systemctl show -P {names} {unit}"));
    assert_eq!(show("Slice"), "machine.slice\n");
    assert_eq!(show("MemoryMax"), "67108864\n");
    assert_eq!(sh("podman exec box sh -c 'echo $((6 * 7))'"), "42\n");
    sh("podman pause box; podman unpause box; podman rm --force --time 0 box");
    assert_eq!(show("LoadState"), "not-found\n");
}
