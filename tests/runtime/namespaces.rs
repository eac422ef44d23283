//! Namespaces that are new, joined, and shared; clocks and network interfaces in them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::bundle::Bundle;

/// A container that goes on until it is dropped, for others to join.
struct Running {
    _bundle: Bundle,
    child: Child,
    pid: i32,
}

impl Running {
    fn new(mut bundle: Bundle) -> Self {
        // Its number on the host: that of the runtime's only child.
        bundle.set("/process/args", json!(["/bin/sh", "-c", "echo ready; sleep 60"]));
        let mut child = bundle.command().stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        let children = format!("/proc/{0}/task/{0}/children", child.id());
        let pid = fs::read_to_string(children).unwrap().trim().parse().unwrap();
        Self { _bundle: bundle, child, pid }
    }

    fn namespace(&self, name: &str) -> String {
        format!("/proc/{}/ns/{name}", self.pid)
    }

    fn identity(&self, name: &str) -> String {
        fs::read_link(self.namespace(name)).unwrap().to_str().unwrap().to_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ =
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid), nix::sys::signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// Adds a namespace, or gives one a path.
fn namespace(bundle: &mut Bundle, kind: &str, path: Option<&str>) {
    let list = bundle.spec["linux"]["namespaces"].as_array_mut().unwrap();
    list.retain(|namespace| namespace["type"] != kind);
    let mut entry = json!({"type": kind});
    if let Some(path) = path {
        entry["path"] = json!(path);
    }
    list.push(entry);
}

const KINDS: [(&str, &str); 7] = [
    ("cgroup", "cgroup"),
    ("ipc", "ipc"),
    ("network", "net"),
    ("pid", "pid"),
    ("time", "time"),
    ("user", "user"),
    ("uts", "uts"),
];

#[test]
fn every_kind_of_namespace_can_be_joined() {
    let mut first = Bundle::new("");
    namespace(&mut first, "time", None);
    let first = Running::new(first);
    for (kind, name) in KINDS {
        let script = format!("readlink /proc/self/ns/{name}");
        let mut bundle = match kind {
            "user" => Bundle::new(&script),
            // With a user namespace of its own, the container could not show what it has no power over.
            _ => Bundle::without_user_namespace(&script),
        };
        bundle.set("/hostname", Value::Null);
        bundle.set("/linux/sysctl", json!({}));
        namespace(&mut bundle, kind, Some(&first.namespace(name)));
        assert_eq!(bundle.output().trim(), first.identity(name), "{kind}");
    }
    // All of them together, as the containers of a pod have them.
    let names: Vec<&str> = KINDS.iter().map(|(_, name)| *name).collect();
    let script = format!("for n in {}; do readlink /proc/self/ns/$n; done; id -u", names.join(" "));
    let mut bundle = Bundle::new(&script);
    bundle.set("/hostname", Value::Null);
    bundle.set("/linux/sysctl", json!({}));
    for (kind, name) in KINDS {
        namespace(&mut bundle, kind, Some(&first.namespace(name)));
    }
    let expected: Vec<String> = names.iter().map(|name| first.identity(name)).collect();
    assert_eq!(bundle.output(), format!("{}\n0\n", expected.join("\n")));
}

#[test]
fn a_mount_namespace_can_be_joined() {
    // A namespace with the host's filesystems, as its maker sees them.
    let mut holder = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", "echo ready; exec sleep 60"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let path = format!("/proc/{}/ns/mnt", holder.id());
    let mut bundle = Bundle::without_user_namespace("readlink /proc/self/ns/mnt; cat /etc/mark");
    fs::write(bundle.root().join("etc/mark"), "mine\n").unwrap();
    namespace(&mut bundle, "mount", Some(&path));
    let expected = fs::read_link(&path).unwrap();
    let output = bundle.output();
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert_eq!(output, format!("{}\nmine\n", expected.display()));
}

#[test]
fn what_is_no_namespace_of_its_kind_is_refused() {
    for (kind, path) in [
        ("network", "/proc/self/ns/uts"),
        ("user", "/proc/self/ns/uts"),
        ("mount", "/proc/self/ns/uts"),
        ("time", "/proc/self/ns/uts"),
        ("uts", "/dev/null"),
        ("uts", "/no/such/file"),
        ("uts", "relative"),
    ] {
        let mut bundle = Bundle::new("true");
        bundle.set("/hostname", Value::Null);
        namespace(&mut bundle, kind, Some(path));
        let refusal = bundle.refusal();
        assert!(refusal.contains(path), "{refusal}");
    }
}

#[test]
fn clocks_can_be_ahead_of_the_hosts() {
    let uptime = || {
        let text = fs::read_to_string("/proc/uptime").unwrap();
        text.split('.').next().unwrap().parse::<i64>().unwrap()
    };
    for new in [Bundle::new, Bundle::without_user_namespace] {
        let mut bundle =
            new("cat /proc/uptime; readlink /proc/self/ns/time; cat /proc/self/timens_offsets");
        namespace(&mut bundle, "time", None);
        bundle.set(
            "/linux/timeOffsets",
            json!({"boottime": {"secs": 1_000_000, "nanosecs": 5}, "monotonic": {"secs": 7}}),
        );
        let output = bundle.output();
        let mut lines = output.lines();
        let inside: i64 = lines.next().unwrap().split('.').next().unwrap().parse().unwrap();
        // A second may have passed meanwhile.
        assert!((999_900..1_000_600).contains(&(inside - uptime())), "{output}");
        let own = fs::read_link("/proc/self/ns/time").unwrap();
        assert_ne!(lines.next(), own.to_str());
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let offsets: Vec<Vec<String>> = lines.map(words).collect();
        assert_eq!(offsets, [["monotonic", "7", "0"], ["boottime", "1000000", "5"]]);
    }
    let mut bundle = Bundle::new("true");
    bundle.set("/linux/timeOffsets", json!({"monotonic": {"secs": 7}}));
    assert!(bundle.refusal().contains("`linux.timeOffsets`: it needs a new time namespace"));
    namespace(&mut bundle, "time", None);
    bundle.set("/linux/timeOffsets", json!({"realtime": {"secs": 7}}));
    assert!(bundle.refusal().contains("`linux.timeOffsets.realtime`"));
}

fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A pair of interfaces that goes away with the test.
struct Veth(String);

impl Veth {
    fn new(tag: &str) -> Self {
        let name = format!("md{tag}{}", std::process::id() % 100_000);
        ip(&format!("link add {name}a type veth peer name {name}b"));
        Self(name)
    }
}

impl Drop for Veth {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "del", &format!("{}b", self.0)]).output();
    }
}

#[test]
fn network_interfaces_move_in_with_their_addresses() {
    let show = "/bin/busybox ip -o addr show dev";
    for new in [Bundle::new, Bundle::without_user_namespace] {
        let veth = Veth::new("x");
        let name = format!("{}a", veth.0);
        ip(&format!("address add 192.0.2.7/24 dev {name}"));
        ip(&format!("address add 2001:db8::7/64 dev {name} nodad"));
        ip(&format!("link set {name} mtu 1400"));
        let mut bundle = new(&format!(
            "{show} inner; cat /sys/class/net/inner/mtu; /bin/busybox ip link show inner | grep -c ,UP"
        ));
        let mut devices = json!({});
        devices[&name] = json!({"name": "inner"});
        bundle.set("/linux/netDevices", devices.clone());
        let output = bundle.output();
        for part in ["inet 192.0.2.7/24", "inet6 2001:db8::7/64", "\n1400\n1\n"] {
            assert!(output.contains(part), "{output}");
        }
        // It was the container's, and went away with it.
        assert!(
            !Command::new("ip").args(["link", "show", &name]).output().unwrap().status.success()
        );
    }
    let veth = Veth::new("y");
    let mut bundle = Bundle::new("ls /sys/class/net");
    for (value, message) in [
        (json!({"no-such-link": {}}), "move the network interface `no-such-link`: no such device"),
        (json!({format!("{}a", veth.0): {"name": "lo"}}), "file exists"),
        (json!({format!("{}a", veth.0): {"name": "a/b"}}), "it is no name of an interface"),
    ] {
        bundle.set("/linux/netDevices", value);
        let refusal = bundle.refusal();
        assert!(refusal.contains(message), "{refusal}");
        // What could not be moved is still there.
        ip(&format!("link show {}a", veth.0));
    }
    let mut devices = json!({});
    devices[format!("{}a", veth.0)] = json!({"name": "lo%d"});
    bundle.set("/linux/netDevices", devices.clone());
    assert_eq!(bundle.output(), "lo\nlo0\n");
    bundle.spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "network");
    bundle.set("/linux/sysctl", json!({}));
    assert!(bundle.refusal().contains("it needs a network namespace"));
}
