//! System calls that a default container may not make. This test program itself is mounted into the container and runs
//! there, to make them.

use std::process::Command;

use serde_json::json;

use crate::bundle::Bundle;

/// Runs inside, when it is told to, and prints each call with its error number.
#[test]
#[allow(unsafe_code)]
fn probe() {
    if std::env::var_os("MYDOCKER_PROBE").is_none() {
        return;
    }
    let call = |name: &str, number: i64, arguments: [u64; 5]| {
        let [a, b, c, d, e] = arguments;
        // SAFETY: the calls are refused before they look at their arguments, or take numbers alone.
        let returned = unsafe { libc::syscall(number, a, b, c, d, e) };
        let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or_default();
        println!("probe {name} {}", if returned < 0 { errno } else { 0 });
    };
    let one = |a: u64| [a, 0, 0, 0, 0];
    let stream = 1;
    call("af_unix", libc::SYS_socket, [1, stream, 0, 0, 0]);
    call("af_alg", libc::SYS_socket, [38, 5, 0, 0, 0]);
    call("af_alg_high_bits", libc::SYS_socket, [0x1_0000_0026, 5, 0, 0, 0]);
    call("af_vsock", libc::SYS_socket, [40, stream, 0, 0, 0]);
    call("af_vsock_high_bits", libc::SYS_socket, [0xffff_ffff_0000_0028, stream, 0, 0, 0]);
    call("af_packet", libc::SYS_socket, [17, 3, 0, 0, 0]);
    call("tiocsti", libc::SYS_ioctl, [0, 0x5412, 0, 0, 0]);
    call("tiocsti_high_bits", libc::SYS_ioctl, [0, 0x1_0000_5412, 0, 0, 0]);
    call("unshare_user", libc::SYS_unshare, one(0x1000_0000));
    call("clone_user", libc::SYS_clone, one(0x1000_0011));
    call("clone3", libc::SYS_clone3, one(0));
    call("mount", libc::SYS_mount, one(0));
    call("fsopen", libc::SYS_fsopen, one(0));
    call("setns", libc::SYS_setns, [0, 0, 0, 0, 0]);
    call("bpf", libc::SYS_bpf, one(0));
    call("perf_event_open", libc::SYS_perf_event_open, one(0));
    call("keyctl", libc::SYS_keyctl, one(0));
    call("add_key", libc::SYS_add_key, one(0));
    call("io_uring_setup", libc::SYS_io_uring_setup, one(1));
    call("userfaultfd", libc::SYS_userfaultfd, one(0));
    call("open_by_handle_at", libc::SYS_open_by_handle_at, one(0));
    call("kexec_load", libc::SYS_kexec_load, one(0));
    call("personality", libc::SYS_personality, one(0x4_0000));
    call("unknown", 9999, one(0));
    #[cfg(target_arch = "x86_64")]
    call("x32_getpid", 0x4000_0000 + libc::SYS_getpid, one(0));
}

#[test]
fn refused_system_calls() {
    let mut bundle = Bundle::new("");
    let program = std::env::current_exe().unwrap();
    bundle.bind(&program, "/probe", &["ro"]);
    bundle.set("/process/args", json!(["/probe", "--exact", "probe::probe", "--nocapture"]));
    bundle.set("/process/env", json!(["MYDOCKER_PROBE=1"]));
    let out = bundle.output();
    let found: Vec<&str> = out.lines().filter_map(|line| line.strip_prefix("probe ")).collect();
    let (eperm, enosys, eafnosupport) = (libc::EPERM, libc::ENOSYS, libc::EAFNOSUPPORT);
    let mut expected = vec![
        ("af_unix", 0),
        ("af_alg", eafnosupport),
        ("af_alg_high_bits", eafnosupport),
        ("af_vsock", eafnosupport),
        ("af_vsock_high_bits", eafnosupport),
        ("af_packet", eafnosupport),
        ("tiocsti", eperm),
        ("tiocsti_high_bits", eperm),
        ("unshare_user", eperm),
        ("clone_user", eperm),
        ("clone3", enosys),
        ("mount", eperm),
        ("fsopen", eperm),
        ("setns", eperm),
        ("bpf", eperm),
        ("perf_event_open", eperm),
        ("keyctl", eperm),
        ("add_key", eperm),
        ("io_uring_setup", eperm),
        ("userfaultfd", eperm),
        ("open_by_handle_at", eperm),
        ("kexec_load", eperm),
        ("personality", eperm),
        ("unknown", enosys),
    ];
    if cfg!(target_arch = "x86_64") {
        expected.push(("x32_getpid", enosys));
    }
    let expected: Vec<String> = expected.iter().map(|(name, e)| format!("{name} {e}")).collect();
    assert_eq!(found, expected, "{out}");
}

#[test]
fn a_filter_of_the_specs_own() {
    let mut bundle = Bundle::new(
        "mkdir /tmp/x; echo $?; kill -0 1; echo $?; kill -9 77 2>&1 | grep -c 'ermitted'",
    );
    let policy = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X32"],
        "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28},
            {"names": ["kill"], "action": "SCMP_ACT_ERRNO",
             "args": [{"index": 1, "value": 9, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 77, "op": "SCMP_CMP_EQ"}]},
            {"names": ["no_such_call"], "action": "SCMP_ACT_KILL"}
        ]
    });
    bundle.set("/linux/seccomp", policy);
    let ran = bundle.run();
    assert_eq!(ran.out, "1\n0\n1\n", "{ran:?}");
    assert!(ran.err.contains("No space left"), "{ran:?}");
    bundle.set("/linux/seccomp/syscalls/0/action", json!("SCMP_ACT_KILL_PROCESS"));
    assert!(bundle.refusal().contains("KillProcess is an action that returns no error number"));
    bundle.set("/linux/seccomp/syscalls/0/errnoRet", serde_json::Value::Null);
    bundle.set("/process/args", json!(["/bin/mkdir", "/tmp/y"]));
    assert_eq!(bundle.run().code, 128 + libc::SIGSYS);
}

#[test]
fn the_caller_is_out_of_reach() {
    // A process of the container is not the host's root, even where it can see the host's processes.
    let mut bundle = Bundle::new("");
    let namespaces = bundle.spec["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "pid");
    let pid = std::process::id();
    bundle.set(
        "/process/args/2",
        json!(format!(
            "ls /proc/{pid}/root/ 2>&1 | grep -c denied; kill -0 {pid} 2>&1 | grep -c ermitted"
        )),
    );
    assert_eq!(bundle.output(), "1\n1\n");
    assert!(Command::new("true").status().unwrap().success());
}
