//! Further programs in a container: as the first one, and no more than that.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::{Value, json};

use crate::bundle::{PROGRAM, Ran, fields};
use crate::commands::{Container, until};
use crate::program::write_program;

fn container() -> Container {
    Container::started("while :; do sleep 0.05; done")
}

#[test]
fn a_program_is_in_everything_that_the_first_one_is_in() {
    let container = container();
    let kinds = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"];
    let script = format!(
        "for p in 1 self; do for n in {}; do readlink /proc/$p/ns/$n; done; cat /proc/$p/cgroup; \
         grep -E '^(Cap|Seccomp|NoNewPrivs|Groups)' /proc/$p/status; done",
        kinds.join(" ")
    );
    let ran = container.exec(&[], &["sh", "-c", &script]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
    let lines: Vec<&str> = ran.out.lines().collect();
    let (first, second) = lines.split_at(lines.len() / 2);
    assert_eq!(first, second);
    assert!(first.iter().any(|line| line.starts_with("Seccomp:\t2")), "{first:?}");
    let outside = fs::read_link("/proc/self/ns/pid").unwrap();
    assert!(!first.contains(&outside.to_str().unwrap()));
}

#[test]
fn exit_codes_and_errors_are_told_apart() {
    let container = container();
    assert_eq!(container.exec(&[], &["sh", "-c", "exit 7"]).code, 7);
    assert_eq!(container.exec(&[], &["sh", "-c", "kill -9 $$"]).code, 137);
    let ran = container.exec(&[], &["no-such-program"]);
    let expected = "mydocker: executable file `no-such-program` not found in the container: no such file or directory\n";
    assert_eq!((ran.code, ran.err.as_str()), (255, expected));
    let ran = container.exec(&[], &[]);
    assert_eq!(ran.code, 255, "{ran:?}");
}

#[test]
fn options_change_what_the_container_says() {
    let container = container();
    let script = "id; pwd; echo $A $PATH; grep -E '^(CapEff|CapInh|NoNewPrivs)' /proc/self/status";
    let ran = container.exec(
        &["--user", "5:6", "-g", "7", "--cwd", "/tmp", "--env", "A=b", "--no-new-privs"],
        &["sh", "-c", script],
    );
    assert_eq!(ran.code, 0, "{ran:?}");
    let mut lines = ran.out.lines();
    assert_eq!(lines.next(), Some("uid=5 gid=6 groups=6,7"));
    assert_eq!(lines.next(), Some("/tmp"));
    assert!(lines.next().unwrap().starts_with("b /"));
    let status = fields(&ran.out, &["CapEff", "CapInh", "NoNewPrivs"]);
    assert_eq!(
        status,
        [("CapInh", "0000000000000000"), ("CapEff", "0000000000000000"), ("NoNewPrivs", "1")]
    );
    let ran = container.exec(&["--cap", "CAP_NET_RAW"], &["grep", "CapEff", "/proc/self/status"]);
    let bits = u64::from_str_radix(ran.out.split_whitespace().last().unwrap(), 16).unwrap();
    assert_ne!(bits & 1 << 13, 0, "{ran:?}");
    let ran = container.exec(&["--cap", "CAP_TELEPORT"], &["true"]);
    assert_eq!(ran.code, 255, "{ran:?}");
}

#[test]
fn a_process_can_come_as_json() {
    let container = container();
    let file = container.bundle.directory.join("process.json");
    let process = json!({
        "args": ["sh", "-c", "id -u; pwd; echo $X; ulimit -n; exit 4"], "cwd": "/etc", "env": ["X=y", "PATH=/bin"],
        "user": {"uid": 9, "gid": 9}, "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 88}],
    });
    fs::write(&file, process.to_string()).unwrap();
    let ran = container.exec(&["--process", file.to_str().unwrap()], &[]);
    assert_eq!((ran.code, ran.out.as_str()), (4, "9\n/etc\ny\n77\n"), "{ran:?}");
}

#[test]
fn a_program_runs_on_the_processors_that_it_names() {
    let container = container();
    let file = container.bundle.directory.join("process.json");
    let exec = |affinity: Value| {
        let process = json!({
            "args": ["grep", "Cpus_allowed_list", "/proc/self/status"], "cwd": "/", "env": ["PATH=/bin"],
            "user": {"uid": 0, "gid": 0}, "execCPUAffinity": affinity,
        });
        fs::write(&file, process.to_string()).unwrap();
        container.exec(&["--process", file.to_str().unwrap()], &[])
    };
    let ran = exec(json!({"initial": "0", "final": "0-0"}));
    assert_eq!(ran.out, "Cpus_allowed_list:\t0\n", "{ran:?}");
    // Wherever it has started.
    if std::thread::available_parallelism().unwrap().get() > 1 {
        let ran = exec(json!({"initial": "0", "final": "1"}));
        assert_eq!(ran.out, "Cpus_allowed_list:\t1\n", "{ran:?}");
    }
    for (affinity, field) in
        [(json!({"initial": "x"}), "initial"), (json!({"final": "3-1"}), "final")]
    {
        let ran = exec(affinity);
        assert!(ran.err.contains(&format!("process.execCPUAffinity.{field}")), "{ran:?}");
    }
}

#[test]
fn a_detached_program_outlives_the_command() {
    let container = container();
    let file = container.bundle.directory.join("pid");
    let mut command = container.command(&["exec", "--detach", "--pid-file"]);
    command.arg(&file).arg(&container.bundle.id).args(["sh", "-c", "echo x >/tmp/there; sleep 60"]);
    // No pipe, which the program would hold open.
    let null = std::process::Stdio::null;
    fs::set_permissions(container.bundle.root().join("tmp"), PermissionsExt::from_mode(0o1777))
        .unwrap();
    assert!(command.stdout(null()).stderr(null()).status().unwrap().success());
    until("its file", || container.bundle.root().join("tmp/there").exists());
    let pid: i32 = fs::read_to_string(&file).unwrap().parse().unwrap();
    let listed = container.run(&["ps", "--format", "json"]).out;
    let listed: Vec<i32> = serde_json::from_str(&listed).unwrap();
    assert!(listed.contains(&pid), "{listed:?} {pid}");
    container.ok(&["delete", "--force"]);
}

#[test]
fn a_working_directory_cannot_be_one_of_the_hosts() {
    let container = container();
    for number in 3..14 {
        for pid in ["self", "1"] {
            let cwd = format!("/proc/{pid}/fd/{number}");
            let mut command = Command::new("/bin/sh");
            command.args(["-c", "exec 7</ 9</etc; exec \"$0\" \"$@\"", PROGRAM]);
            let exec = container.command(&["exec", "--cwd", &cwd, &container.bundle.id, "ls", "."]);
            let ran = Ran::from(command.args(exec.get_args()).output().unwrap());
            assert_eq!((ran.code, ran.out.as_str()), (255, ""), "{cwd} {ran:?}");
        }
    }
    assert_eq!(container.exec(&["--cwd", "/no/such"], &["true"]).code, 255);
}

#[test]
fn no_descriptor_comes_along_but_those_asked_for() {
    let container = container();
    let list = |options: &[&str]| {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "exec 3</etc/passwd 7</ 9</etc; exec \"$0\" \"$@\"", PROGRAM]);
        let mut exec = container.command(&["exec"]);
        exec.args(options).arg(&container.bundle.id);
        exec.args([
            "sh",
            "-c",
            "for fd in /proc/self/fd/*; do echo ${fd##*/} $(readlink $fd); done",
        ]);
        Ran::from(command.args(exec.get_args()).output().unwrap())
    };
    for (options, preserved) in [(&[][..], false), (&["--preserve-fds", "1"][..], true)] {
        let ran = list(options);
        assert_eq!(ran.code, 0, "{ran:?}");
        assert_eq!(ran.out.contains("3 /etc/passwd"), preserved, "{ran:?}");
        assert!(!ran.out.contains("socket:") && !ran.out.contains("/etc\n"), "{ran:?}");
    }
}

#[test]
fn the_program_itself_cannot_be_overwritten() {
    let before = fs::read(PROGRAM).unwrap();
    let mut bundle = crate::bundle::Bundle::without_user_namespace("sleep 60");
    write_program(&bundle.root().join("evil"), "#!/proc/self/exe\n");
    bundle.set("/process/args", json!(["/bin/sh", "-c", "
        while :; do for exe in /proc/[0-9]*/exe; do
            case $(readlink $exe) in */busybox) ;; *) (echo x >$exe) 2>/dev/null && echo written;; esac
        done; done"]));
    let container = Container { bundle };
    container.create(&[]);
    container.ok(&["start"]);
    for _ in 0..20 {
        container.exec(&[], &["/evil"]);
    }
    assert!(!container.output().contains("written"), "{}", container.output());
    assert!(fs::read(PROGRAM).unwrap() == before);
}

#[test]
fn a_container_that_calls_something_else_its_terminals_gets_none() {
    let mut container = Container::new("while :; do sleep 0.05; done");
    container.bundle.spec["mounts"]
        .as_array_mut()
        .unwrap()
        .retain(|mount| mount["destination"] != "/dev/pts");
    container.create(&[]);
    container.ok(&["start"]);
    container.exec(&[], &["sh", "-c", "mkdir -p /dev/pts; echo trap >/dev/pts/ptmx"]);
    let ran = container.exec(&["--tty"], &["tty"]);
    assert!(ran.code == 255 && ran.err.contains("open a terminal"), "{ran:?}");
}

#[test]
fn a_terminal_is_one_of_the_containers() {
    let container = container();
    let ran = container.exec(&["--tty"], &["sh", "-c", "tty; exit 5"]);
    assert_eq!((ran.code, ran.out.as_str()), (5, "/dev/pts/0\r\n"), "{ran:?}");
}

#[test]
fn a_group_below_the_containers_can_be_joined() {
    let container = container();
    let ran = container.exec(&["--cgroup", "/../../other"], &["true"]);
    assert!(ran.code == 255 && ran.err.contains("`..`"), "{ran:?}");
    let state: Value = container.state();
    let text = fs::read_to_string(format!("/proc/{}/cgroup", state["pid"])).unwrap();
    let line = text.lines().find(|line| line.contains(":pids:") || line.starts_with("0::/my"));
    let group = line.unwrap().rsplit(':').next().unwrap();
    let root =
        if line.unwrap().starts_with("0::") { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/pids" };
    let below = format!("{root}{group}/below");
    fs::create_dir(&below).unwrap();
    let controller = if root.ends_with("pids") { "pids:/below" } else { "/below" };
    let ran = container.exec(&["--cgroup", controller], &["cat", "/proc/self/cgroup"]);
    assert!(ran.code == 0 && ran.out.contains("/below"), "{ran:?}");
}
