//! An agent that decides on system calls (`SCMP_ACT_NOTIFY`).

use std::io::Read as _;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg};
use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::commands::Container;

/// What the runtime sends: the container process state, and the descriptor.
fn receive(stream: &mut UnixStream) -> (Value, OwnedFd) {
    let mut buffer = vec![0; 64 << 10];
    let mut control = nix::cmsg_space!([i32; 2]);
    let mut slices = [std::io::IoSliceMut::new(&mut buffer)];
    let message = recvmsg::<UnixAddr>(
        stream.as_raw_fd(),
        &mut slices,
        Some(&mut control),
        MsgFlags::MSG_CMSG_CLOEXEC,
    );
    let message = message.unwrap();
    let mut descriptors = Vec::new();
    for control in message.cmsgs().unwrap() {
        if let ControlMessageOwned::ScmRights(list) = control {
            descriptors.extend(list);
        }
    }
    let length = message.bytes;
    assert_eq!(descriptors.len(), 1);
    let mut text = buffer[..length].to_vec();
    // Nothing comes behind: the connection ends.
    stream.read_to_end(&mut text).unwrap();
    // SAFETY: the kernel has just made the descriptor for us.
    #[allow(unsafe_code)]
    let listener = unsafe { OwnedFd::from_raw_fd(descriptors[0]) };
    (serde_json::from_slice(&text).unwrap(), listener)
}

/// `struct seccomp_notif` and `struct seccomp_notif_resp` (seccomp_unotify(2)).
#[repr(C)]
#[derive(Default)]
struct Notification {
    id: u64,
    pid: u32,
    flags: u32,
    number: i32,
    architecture: u32,
    instruction: u64,
    arguments: [u64; 6],
}

#[repr(C)]
struct Response {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

/// Answers `count` calls with this error number; the numbers of the calls.
#[allow(unsafe_code)]
fn answer(listener: &OwnedFd, count: usize, errno: i32) -> Vec<i64> {
    let mut calls = Vec::new();
    for _ in 0..count {
        let mut notification = Notification::default();
        // SAFETY: the structures are those that these two requests read and write.
        let received =
            unsafe { libc::ioctl(listener.as_raw_fd(), 0xc050_2100, &raw mut notification) };
        assert_eq!(received, 0, "{}", std::io::Error::last_os_error());
        calls.push(notification.number.into());
        let mut response = Response { id: notification.id, value: 0, error: -errno, flags: 0 };
        // SAFETY: as above.
        let sent = unsafe { libc::ioctl(listener.as_raw_fd(), 0xc018_2101, &raw mut response) };
        assert_eq!(sent, 0, "{}", std::io::Error::last_os_error());
    }
    calls
}

fn listen(directory: &Path) -> (UnixListener, String) {
    let path = directory.join("agent");
    (UnixListener::bind(&path).unwrap(), path.to_str().unwrap().to_owned())
}

fn policy(path: &str) -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path, "listenerMetadata": "for \"you\"",
        "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"],
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}]
    })
}

#[test]
fn an_agent_decides_on_calls() {
    for new in [Bundle::new, Bundle::without_user_namespace] {
        let mut bundle = new("mkdir /tmp/x; ls /proc/self/task | wc -l; ls /proc/self/fd | wc -l");
        let (listener, path) = listen(&bundle.directory);
        bundle.set("/linux/seccomp", policy(&path));
        bundle.set("/annotations", json!({"key": "value"}));
        let id = bundle.id.clone();
        let agent = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let (state, listener) = receive(&mut stream);
            (state, answer(&listener, 1, libc::EMEDIUMTYPE))
        });
        let ran = bundle.run();
        let (state, calls) = agent.join().unwrap();
        assert!(ran.err.contains("Wrong medium type"), "{ran:?}");
        // Nothing of the hand-over is left in the program: one thread, and no more descriptors than `ls` has by itself.
        assert_eq!(ran.out, "1\n4\n", "{ran:?}");
        assert!(calls == [libc::SYS_mkdir] || calls == [libc::SYS_mkdirat], "{calls:?}");
        assert_eq!(state["fds"], json!(["seccompFd"]));
        assert_eq!(state["metadata"], "for \"you\"");
        assert_eq!(state["state"]["id"], json!(id));
        assert_eq!(state["state"]["annotations"]["key"], "value");
        assert_eq!(state["pid"], state["state"]["pid"]);
        assert!(state["pid"].as_i64().unwrap() > 1, "{state}");
    }
}

#[test]
fn an_agent_decides_on_calls_of_further_programs() {
    let mut container = Container::new("while :; do sleep 0.05; done");
    let (listener, path) = listen(&container.bundle.directory);
    container.bundle.set("/linux/seccomp", policy(&path));
    let agent = std::thread::spawn(move || {
        let next = || receive(&mut listener.accept().unwrap().0);
        let (first, _held) = next();
        let (second, calls) = next();
        (first, second, answer(&calls, 1, libc::EMEDIUMTYPE))
    });
    container.create(&[]);
    container.ok(&["start"]);
    let ran = container.exec(&[], &["mkdir", "/tmp/x"]);
    assert!(ran.err.contains("Wrong medium type"), "{ran:?}");
    let (first, second, calls) = agent.join().unwrap();
    assert!(calls == [libc::SYS_mkdir] || calls == [libc::SYS_mkdirat], "{calls:?}");
    // The program's own number, and the state of the container, whose first process is another one.
    assert_eq!(second["state"]["status"], "running");
    assert_eq!(second["state"]["pid"], first["pid"]);
    assert!(second["pid"].as_i64() > first["pid"].as_i64(), "{first} {second}");
}

#[test]
fn even_the_calls_before_the_program_are_left_to_it() {
    let mut bundle = Bundle::new("true");
    let (listener, path) = listen(&bundle.directory);
    let mut policy = policy(&path);
    // What the runtime itself does behind the filter.
    policy["syscalls"][0]["names"] = json!(["capset", "close", "futex", "munmap"]);
    bundle.set("/linux/seccomp", policy);
    let agent = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (_, listener) = receive(&mut stream);
        answer(&listener, 1, libc::EPERM)
    });
    let refusal = bundle.refusal();
    assert!(refusal.contains("set the capabilities: operation not permitted"), "{refusal}");
    assert_eq!(agent.join().unwrap(), [libc::SYS_capset]);
}

#[test]
fn without_an_agent_there_is_no_container() {
    let mut bundle = Bundle::new("true");
    let (listener, path) = listen(&bundle.directory);
    drop(listener);
    bundle.set("/linux/seccomp", policy(&path));
    let refusal = bundle.refusal();
    assert!(refusal.contains("connect to the seccomp agent at"), "{refusal}");
    bundle.set("/linux/seccomp/listenerMetadata", Value::Null);
    bundle.set("/linux/seccomp/listenerPath", Value::Null);
    assert!(bundle.refusal().contains("`linux.seccomp.listenerPath`"));
    bundle.set("/linux/seccomp/listenerMetadata", json!("x"));
    assert!(bundle.refusal().contains("`linux.seccomp.listenerMetadata`"));
    // Without a call to decide on, nobody is asked.
    bundle.set("/linux/seccomp/syscalls", json!([]));
    bundle.set("/linux/seccomp/listenerPath", json!("/no/such/socket"));
    bundle.output();
}
