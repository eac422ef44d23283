//! What an engine asks for with a container: its terminal, hooks, descriptors, and the program's other name and user.

use std::fs;
use std::io::{IoSliceMut, Read as _, Write as _};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg};
use serde_json::{Value, json};

use crate::bundle::{Bundle, PROGRAM, Ran};
use crate::commands::{Container, FOR_EVER, until};

#[test]
fn the_terminal_goes_to_who_asked_for_it() {
    let mut container = Container::new("tty; read line; echo got $line; sleep 60");
    container.bundle.set("/process/terminal", json!(true));
    container.bundle.set("/process/consoleSize", json!({"height": 33, "width": 111}));
    let refused = container.try_create(&[]);
    assert!(refused.code == 1 && refused.err.contains("--console-socket"), "{refused:?}");
    let path = container.bundle.directory.join("console");
    let listener = UnixListener::bind(&path).unwrap();
    container.create(&["--console-socket", path.to_str().unwrap()]);
    container.ok(&["start"]);
    let mut terminal = fs::File::from(receive(&listener));
    terminal.write_all(b"line\n").unwrap();
    let mut text = String::new();
    until("the answer", || {
        let mut buffer = [0; 256];
        let read = terminal.read(&mut buffer).unwrap();
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
        text.contains("got line")
    });
    assert!(text.contains("/dev/pts/0") || text.contains("/dev/console"), "{text}");
    let ran = container
        .command(&["exec", "--tty", "--detach"])
        .args(["--console-socket"])
        .arg(&path)
        .arg(&container.bundle.id)
        .args(["stty", "size"])
        .output();
    assert_eq!(Ran::from(ran.unwrap()).code, 0);
    let mut terminal = fs::File::from(receive(&listener));
    let mut buffer = [0; 64];
    let read = terminal.read(&mut buffer).unwrap();
    assert!(read > 0);
}

/// The descriptor that somebody sends.
fn receive(listener: &UnixListener) -> OwnedFd {
    let (stream, _) = listener.accept().unwrap();
    let mut buffer = [0; 256];
    let mut control = nix::cmsg_space!([i32; 4]);
    let mut slices = [IoSliceMut::new(&mut buffer)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message =
        recvmsg::<UnixAddr>(stream.as_raw_fd(), &mut slices, Some(&mut control), flags).unwrap();
    assert!(message.bytes > 0);
    let mut received = message.cmsgs().unwrap().filter_map(|message| match message {
        ControlMessageOwned::ScmRights(fds) => Some(fds),
        _ => None,
    });
    let fds = received.next().unwrap();
    assert_eq!(fds.len(), 1);
    // SAFETY: it has just been received, and nobody else knows it.
    #[allow(unsafe_code)]
    unsafe {
        OwnedFd::from_raw_fd(fds[0])
    }
}

#[test]
fn hooks_of_each_command_run_with_it() {
    let mut container = Container::new(FOR_EVER);
    let log = container.bundle.directory.join("log");
    fs::write(&log, "").unwrap();
    let hook = |name: &str| {
        let script = format!("echo {name} $(cat) >>{}", log.display());
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}])
    };
    let names = ["createRuntime", "poststart", "poststop"];
    let hooks: Value = names.iter().map(|name| ((*name).to_owned(), hook(name))).collect();
    container.bundle.set("/hooks", hooks);
    let expect = |count: usize, status: &str| {
        let text = fs::read_to_string(&log).unwrap();
        assert_eq!(text.lines().count(), count, "{text}");
        let (name, state) = text.lines().last().unwrap().split_once(' ').unwrap();
        assert_eq!(name, names[count - 1]);
        let state: Value = serde_json::from_str(state).unwrap();
        assert_eq!(state["status"], status, "{state}");
    };
    container.create(&[]);
    expect(1, "creating");
    container.ok(&["start"]);
    expect(2, "running");
    container.ok(&["delete", "--force"]);
    expect(3, "stopped");
    // One that fails behind the start ends the container, and one behind the end is only told.
    let fails = json!([{"path": "/bin/false"}]);
    container.bundle.set("/hooks", json!({"poststart": fails, "poststop": fails}));
    container.create(&[]);
    let ran = container.run(&["start"]);
    assert!(ran.code == 1 && ran.err.contains("poststart hook `/bin/false`"), "{ran:?}");
    until("the end", || container.status() == "stopped");
    let ran = container.run(&["delete"]);
    assert!(ran.code == 0 && ran.err.contains("warning: poststop hook `/bin/false`"), "{ran:?}");
}

#[test]
fn a_hook_may_give_commands_itself() {
    let mut container = Container::new(FOR_EVER);
    let states = container.states();
    let hook = |command: &str| {
        let script =
            format!("{PROGRAM} oci --root {} {command} {}", states.display(), container.bundle.id);
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"], "timeout": 60}])
    };
    let hooks = json!({"poststart": hook("update --pids-limit 40")});
    container.bundle.set("/hooks", hooks);
    container.create(&[]);
    container.ok(&["start"]);
    let stats: Value = serde_json::from_str(&container.ok(&["events", "--stats"])).unwrap();
    assert_eq!(stats["data"]["pids"]["limit"], 40);
    container.ok(&["delete", "--force"]);
    // While it is being made there is nothing yet that a command could be about.
    let script = format!(
        "! {PROGRAM} oci --root {} delete --force {}",
        states.display(),
        container.bundle.id
    );
    let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin"], "timeout": 60}]);
    container.bundle.set("/hooks", json!({"createRuntime": hook}));
    let ran = container.try_create(&[]);
    assert!(ran.code == 0 && ran.err.contains("another command is at work on it"), "{ran:?}");
    assert_eq!(container.status(), "created");
}

#[test]
fn descriptors_are_inherited_only_if_asked_for() {
    let script =
        "for fd in /proc/self/fd/*; do echo ${fd##*/} $(readlink $fd); done; echo end; sleep 60";
    for (preserved, expected) in [(0, false), (2, true)] {
        let container = Container::new(script);
        let number = preserved.to_string();
        let bundle = &container.bundle;
        fs::write(bundle.directory.join("config.json"), bundle.spec.to_string()).unwrap();
        let out = fs::File::create(bundle.directory.join("out")).unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "exec 3</etc/passwd 4</etc/group 7</etc; exec \"$@\"", "sh", PROGRAM]);
        command.args(["oci", "--root"]).arg(container.states()).args(["create", "--preserve-fds"]);
        command.args([&number, "--bundle"]).arg(&bundle.directory).arg(&bundle.id);
        assert!(command.stdin(Stdio::null()).stdout(out).status().unwrap().success());
        container.ok(&["start"]);
        until("output", || container.output().ends_with("end\n"));
        let text = container.output();
        for path in ["/etc/passwd", "/etc/group"] {
            assert_eq!(text.contains(path), expected, "{text}");
        }
        assert!(!text.contains("socket:") && !text.contains("states"), "{text}");
        assert!(!text.lines().any(|line| line.ends_with("/etc")), "{text}");
    }
    let container = Container::new(script);
    let ran = container.try_create(&["--preserve-fds", "40"]);
    assert!(ran.code == 1 && ran.err.contains("preserve descriptor"), "{ran:?}");
}

#[test]
fn the_name_of_the_program_makes_it_the_runtime() {
    let container = Container::started(FOR_EVER);
    let link = container.bundle.directory.join("mydocker-oci");
    std::os::unix::fs::symlink(PROGRAM, &link).unwrap();
    let mut command = Command::new(&link);
    command.arg("--root").arg(container.states()).args(["state", &container.bundle.id]);
    assert_eq!(Ran::from(command.output().unwrap()).out, container.ok(&["state"]));
    let version = Ran::from(Command::new(&link).arg("--version").output().unwrap());
    assert!(version.out.starts_with("mydocker-oci version "), "{version:?}");
    let features = Ran::from(Command::new(&link).arg("features").output().unwrap());
    let features: Value = serde_json::from_str(&features.out).unwrap();
    assert_eq!(features["linux"]["cgroup"]["v2"], true);
}

#[test]
fn run_leaves_a_container_behind_if_told_to() {
    let container = Container::new("exit 3");
    let bundle = &container.bundle;
    fs::write(bundle.directory.join("config.json"), bundle.spec.to_string()).unwrap();
    let ran = container.run(&["run", "--keep", "--bundle", bundle.directory.to_str().unwrap()]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert_eq!(container.status(), "stopped");
    container.ok(&["delete"]);
    let container = Container::new("sleep 60");
    let bundle = &container.bundle;
    fs::write(bundle.directory.join("config.json"), bundle.spec.to_string()).unwrap();
    let mut command = container.command(&["run", "--detach", "--bundle"]);
    command.arg(&bundle.directory).arg(&bundle.id).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(command.status().unwrap().success());
    assert_eq!(container.status(), "running");
}

#[test]
fn an_ordinary_user_can_do_all_this() {
    let bundle = Bundle::new("");
    let directory = bundle.directory.join("nobody");
    let script = "set -e; cd \"$1\"; mkdir run; export XDG_RUNTIME_DIR=$1/run; oci=$1/mydocker-oci
        \"$oci\" spec --rootless -- sleep 60
        \"$oci\" create one </dev/null >out 2>&1
        \"$oci\" state one | grep -q created; \"$oci\" start one
        \"$oci\" exec one sh -c 'id -u; cat /proc/self/uid_map; exit 4' && exit 1 || test $? = 4
        \"$oci\" kill one KILL
        while \"$oci\" state one | grep -q running; do sleep 0.1; done
        \"$oci\" delete one; \"$oci\" list -q";
    fs::create_dir(&directory).unwrap();
    fs::rename(bundle.root(), directory.join("rootfs")).unwrap();
    let run = |program: &str, args: &[&str]| {
        let mut command = Command::new(program);
        Ran::from(command.args(args).arg(&directory).stdin(Stdio::null()).output().unwrap())
    };
    run("install", &["-m", "755", PROGRAM, "-t"]);
    fs::rename(directory.join("mydocker"), directory.join("mydocker-oci")).unwrap();
    run("chown", &["-R", "65534:65534"]);
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", script, "sh"];
    let ran = run("setpriv", &nobody);
    assert_eq!(ran.code, 0, "{ran:?}");
    let map: Vec<&str> = ran.out.split_whitespace().collect();
    assert_eq!(map, ["0", "0", "65534", "1"], "{ran:?}");
}
