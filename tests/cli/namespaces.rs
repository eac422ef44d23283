//! Whose namespaces a container is in.

use std::fs;

use crate::support::env::TestEnv;
use crate::support::require::Need::Root;

/// A store with a running container `first` that was made with `options`.
fn with_first(options: &[&str]) -> TestEnv {
    let env = TestEnv::with_busybox();
    let run = env.mydocker(["run", "-d", "--name", "first"]).args(options);
    run.args(["busybox", "sh", "-c", "echo mark >/dev/shm/mark; sleep 1000"]).ok();
    env
}

/// What `readlink` says of one's namespaces of these kinds.
fn links(kinds: &str) -> String {
    format!("for n in {kinds}; do readlink /proc/self/ns/$n; done")
}

fn host(kind: &str) -> String {
    let link = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
    format!("{}\n", link.to_str().unwrap())
}

#[test]
fn namespaces_of_the_host_on_request() {
    require!(Root);
    let env = TestEnv::with_busybox();
    for (option, kind) in
        [("--pid", "pid"), ("--ipc", "ipc"), ("--uts", "uts"), ("--cgroupns", "cgroup")]
    {
        for userns in ["private", "host"] {
            let options = [option, "host", "--userns", userns];
            assert_eq!(env.sh_with(&options, &links(kind)), host(kind), "{option} {userns}");
            assert_eq!(env.sh_with(&[option, "private"], "echo ok"), "ok\n");
            assert_ne!(env.sh_with(&["--userns", userns], &links(kind)), host(kind), "{option}");
        }
        env.run(&[option, "nosuch", "busybox", "true"]).exits(125).says("nosuch");
    }
}

#[test]
fn what_shows_a_namespace_of_the_hosts() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let own = std::process::id();
    let script = format!(
        "test -d /proc/{own} && echo host; (echo 1 >/proc/sys/kernel/core_uses_pid) 2>&1; true"
    );
    let shown = env.sh_with(&["--pid", "host"], &script);
    assert!(shown.starts_with("host\n") && shown.contains("Read-only"), "{shown}");
    assert!(!env.sh(&script).contains("host"));
    let name = nix::unistd::gethostname().unwrap().into_string().unwrap();
    let shown = env.sh_with(&["--uts", "host"], "hostname; echo $HOSTNAME; cat /etc/hostname");
    assert_eq!(shown, format!("{name}\n{name}\n{name}\n"));
    env.run(&["--uts", "host", "--hostname", "x", "busybox", "true"])
        .fails(125, &["conflicting", "--hostname"]);
    let mark = format!("/dev/shm/mydocker-test-{own}");
    fs::write(&mark, "shared\n").unwrap();
    let shown = env.sh_with(&["--ipc", "host"], &format!("cat {mark}"));
    assert_eq!(
        (shown.as_str(), env.sh(&format!("test -e {mark} || echo none")).as_str()),
        ("shared\n", "none\n")
    );
    fs::remove_file(&mark).unwrap();
    assert_eq!(env.sh_with(&["--ipc", "none"], "ls /dev | grep -c shm; true"), "0\n");
}

#[test]
fn a_process_that_outlives_the_program_in_the_hosts_pid_namespace_is_killed() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let script = "sleep 4242 & echo $!; exit 3";
    let output = env.run(&["--pid", "host", "busybox", "sh", "-c", script]).exits(3);
    let pid: i32 = output.stdout.trim_end().parse().unwrap();
    let cmdline = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    assert!(!cmdline.contains("4242"), "{pid} lives");
}

#[test]
fn namespaces_of_another_container() {
    require!(Root);
    for userns in [&[][..], &["--userns", "host"]] {
        let env = with_first(userns);
        let all = "cgroup ipc net pid user uts";
        let theirs = env.mydocker(["exec", "first", "sh", "-c", &links(all)]).ok();
        let theirs: Vec<&str> = theirs.lines().collect();
        for (at, option) in [(1, "--ipc"), (2, "--network"), (3, "--pid"), (5, "--uts")] {
            let options = [&[option, "container:first"], userns].concat();
            let own = env.sh_with(&options, &links(all));
            for (number, own) in own.lines().enumerate() {
                // With any of its namespaces goes the user namespace that they belong to.
                let shared = number == at || number == 4;
                assert_eq!(theirs[number] == own, shared, "{option} {own}");
            }
        }
        let options =
            [&["--pid", "container:first", "--network", "container:first"], userns].concat();
        let shown = env.sh_with(&options, "ps | grep -c '[s]leep 1000'; ls /sys/class/net; id -u");
        assert_eq!(shown, "1\nlo\n0\n");
        env.mydocker(["rm", "-f", "first"]).ok();
    }
}

#[test]
fn memory_and_names_are_shared_with_the_namespace() {
    require!(Root);
    let env = with_first(&["--hostname", "one", "--add-host", "db:10.9.8.7"]);
    let script = "cat /dev/shm/mark && echo more >/dev/shm/more && stat -f -c %T /dev/shm";
    assert_eq!(env.sh_with(&["--ipc", "container:first"], script), "mark\ntmpfs\n");
    assert_eq!(env.mydocker(["exec", "first", "cat", "/dev/shm/more"]).ok(), "more\n");
    assert_eq!(
        env.sh_with(&["--uts", "container:first"], "hostname; echo $HOSTNAME"),
        "one\none\n"
    );
    let shown = env.sh_with(&["--network", "container:first"], "hostname; grep db /etc/hosts");
    assert_eq!(shown, "one\n10.9.8.7\tdb\n");
    let options = ["--network", "container:first", "--hostname", "two"];
    env.run(&[&options[..], &["busybox", "true"]].concat()).fails(125, &["conflicting"]);
    // Files that both can write belong to the same users.
    let options = ["--userns", "container:first"];
    assert_eq!(
        env.sh_with(&options, "readlink /proc/self/ns/user"),
        env.mydocker(["exec", "first", "readlink", "/proc/self/ns/user"]).ok()
    );
    env.mydocker(["rm", "-f", "first"]).ok();
}

#[test]
fn a_container_that_joins_another_is_one_like_any_other() {
    require!(Root);
    let env = with_first(&[]);
    let options = ["run", "-d", "--name", "second", "--pid", "container:first", "busybox"];
    env.mydocker(options).args(["sh", "-c", "echo out >/dev/stdout; sleep 1000"]).ok();
    let shown = env
        .mydocker(["inspect", "-f", "{{.HostConfig.PidMode}} {{.HostConfig.UsernsMode}}", "second"])
        .ok();
    let id = env.mydocker(["inspect", "-f", "{{.Id}}", "first"]).ok();
    let id = id.trim_end();
    assert_eq!(shown, format!("container:{id} container:{id}\n"));
    assert_eq!(
        env.mydocker(["exec", "second", "sh", "-c", "echo x >/dev/stdout; id -u"]).ok(),
        "x\n0\n"
    );
    assert_eq!(env.mydocker(["logs", "second"]).ok(), "out\n");
    env.mydocker(["stop", "-t", "0", "second"]).ok();
    // The first one has other ids and other namespaces at its next start; those are joined.
    env.mydocker(["restart", "-t", "0", "first"]).ok();
    env.mydocker(["start", "second"]).ok();
    let shown = env.mydocker(["exec", "second", "readlink", "/proc/self/ns/pid"]).ok();
    assert_eq!(shown, env.mydocker(["exec", "first", "readlink", "/proc/self/ns/pid"]).ok());
    env.mydocker(["rm", "-f", "second"]).ok();
    env.mydocker(["stop", "-t", "0", "first"]).ok();
    env.run(&["--pid", "container:first", "busybox", "true"]).fails(125, &["first is not running"]);
    env.mydocker(["rm", "first"]).ok();
    assert_eq!(env.containers(), Vec::<String>::new());
}

#[test]
fn what_cannot_be_shared_is_said_in_words() {
    require!(Root);
    let env = with_first(&[]);
    env.mydocker(["run", "-d", "--name", "open", "--userns", "host", "busybox", "sleep", "1000"])
        .ok();
    let with = |options: &[&str]| env.run(&[options, &["busybox", "true"]].concat());
    with(&["--pid", "container:nosuch"]).fails(125, &["no such container", "nosuch"]);
    with(&["--pid", "container:first", "--userns", "private"])
        .fails(125, &["leave out --userns private"]);
    with(&["--pid", "container:open"]).fails(125, &["--userns host"]);
    with(&["--pid", "container:open", "--userns", "host"]).success();
    with(&["--pid", "container:open", "--ipc", "container:first"]).fails(125, &["different users"]);
    with(&["--userns", "container:open"]).fails(125, &["no user namespace"]);
    for unknown in ["keep-id", "keep-id:uid=7", "nomap", "0:1:2"] {
        let refused = with(&["--userns", unknown]).exits(125);
        refused.says(unknown).says("`private`, `host` and `container:NAME`");
    }
    with(&["--userns", "auto"]).success();
    with(&["--cgroupns", "container:first"]).exits(125).says("--cgroupns");
    env.mydocker(["rm", "-f", "first", "open"]).ok();
}
