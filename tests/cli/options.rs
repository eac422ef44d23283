//! Options of `run` and `create` that change what a container is like.

use crate::support::env::TestEnv;
use crate::support::require::Need::Root;

#[test]
fn names_and_their_servers() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let options =
        ["--add-host", "db:10.0.0.5", "--add-host", "six:[fe80::1]", "--domainname", "yp.example"];
    let text = env.sh_with(&options, "tail -n 2 /etc/hosts; cat /proc/sys/kernel/domainname");
    assert_eq!(text, "10.0.0.5\tdb\nfe80::1\tsix\nyp.example\n");
    let options = ["--dns", "9.9.9.9", "--dns-search", "a.example", "--dns-option", "ndots:2"];
    let text = env.sh_with(&options, "cat /etc/resolv.conf");
    assert_eq!(text, "nameserver 9.9.9.9\nsearch a.example\noptions ndots:2\n");
    assert_eq!(env.sh("cat /etc/resolv.conf"), "");
}

#[test]
fn what_is_given_twice_counts_as_it_is_given_last() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let options = ["-h", "first", "-h", "last", "-e", "A=1", "-e", "B=2", "--rm", "--read-only"];
    let text = env.sh_with(&options, "hostname; echo $A $B; touch /x 2>/dev/null || echo held");
    assert_eq!(text, "last\n1 2\nheld\n");
    assert_eq!(env.sh_with(&["--rm", "--sig-proxy=false", "--sig-proxy"], "echo ran"), "ran\n");
}

#[test]
fn no_value_says_more_in_a_file_than_it_is_meant_to() {
    require!(Root);
    let env = TestEnv::with_busybox();
    for options in [
        ["--add-host", "db\n6.6.6.6 evil:10.0.0.5"],
        ["--dns", "9.9.9.9\nnameserver 6.6.6.6"],
        ["--dns-search", "a\nnameserver 6.6.6.6"],
        ["--dns-option", "a\nnameserver 6.6.6.6"],
        ["--hostname", "a\n6.6.6.6 evil"],
        ["--domainname", "a\nb"],
    ] {
        let output = env.run(&[options[0], options[1], "busybox", "true"]);
        output.fails(125, &["invalid"]);
    }
    assert_eq!(env.containers(), Vec::<String>::new());
    // A label is data, and stays what it is.
    let label = "a=x\ny\"z";
    env.mydocker(["create", "--name", "web", "--label", label, "busybox", "true"]).ok();
    let shown = env.mydocker(["inspect", "-f", "{{json .Config.Labels}}", "web"]).ok();
    assert_eq!(shown, "{\"a\":\"x\\ny\\\"z\"}\n");
    env.mydocker(["rm", "web"]).ok();
}

#[test]
fn environment_from_a_file() {
    require!(Root);
    let env = TestEnv::with_busybox();
    std::fs::write(env.folder().join("vars"), "# no\nA=file\nB=x=y \nCOPIED\n").unwrap();
    let cmd = env.mydocker(["run", "--rm", "--env-file", "vars", "-e", "A=option", "busybox"]);
    let cmd = cmd.args(["sh", "-c", "echo \"$A|$B|$COPIED|$SECRET\""]);
    cmd.env("COPIED", "c").env("SECRET", "s").run().success().prints("option|x=y |c|\n");
    env.run(&["--env-file", "nosuch", "busybox", "true"]).fails(125, &["nosuch", "no such file"]);
}

#[test]
fn proxies_are_passed_on_only_when_asked_for() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let run = |options: &[&str]| {
        let cmd = env.mydocker(["run", "--rm"]).args(options).args(["busybox", "sh", "-c"]);
        let cmd = cmd.arg("echo \"$http_proxy|$HTTPS_PROXY|$no_proxy|$SECRET\"");
        let cmd = cmd.env("http_proxy", "http://a:1").env("HTTPS_PROXY", "http://b:2");
        cmd.env("no_proxy", "localhost").env("SECRET", "s").ok()
    };
    assert_eq!(run(&[]), "|||\n");
    assert_eq!(run(&["--http-proxy=false"]), "|||\n");
    assert_eq!(run(&["--http-proxy"]), "http://a:1|http://b:2|localhost|\n");
    assert_eq!(run(&["--http-proxy=true", "-e", "http_proxy=own"]), "own|http://b:2|localhost|\n");
}

#[test]
fn capabilities_groups_and_privileges() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let show = |options: &[&str], name: &str| {
        let text = env.sh_with(options, &format!("grep ^{name}: /proc/self/status"));
        text.split_whitespace().last().unwrap().to_owned()
    };
    assert_eq!(show(&["--cap-drop", "ALL"], "CapBnd"), "0000000000000000");
    assert_eq!(show(&["--cap-drop", "all", "--cap-add", "kill"], "CapEff"), "0000000000000020");
    let usual = u64::from_str_radix(&show(&[], "CapBnd"), 16).unwrap();
    let more = u64::from_str_radix(&show(&["--cap-add", "NET_RAW"], "CapBnd"), 16).unwrap();
    assert_eq!(more, usual | 1 << 13);
    env.run(&["--cap-add", "NOSUCH", "busybox", "true"]).fails(125, &["capability", "NOSUCH"]);
    assert_eq!(show(&["--security-opt", "no-new-privileges"], "NoNewPrivs"), "1");
    assert_eq!(show(&[], "NoNewPrivs"), "0");
    env.run(&["--security-opt", "nosuch", "busybox", "true"])
        .fails(125, &["invalid security option", "nosuch"]);
    let groups = env.sh_with(&["--group-add", "777"], "id -G");
    assert!(groups.split_whitespace().any(|gid| gid == "777"), "{groups}");
    env.run(&["--group-add", "nosuch", "busybox", "true"]).fails(125, &["no such group", "nosuch"]);
}

#[test]
fn memory_file_systems() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let text = env.sh_with(&["--shm-size", "1m"], "df -k /dev/shm | tail -n 1");
    assert!(text.contains(" 1024 "), "{text}");
    let text =
        env.sh_with(&["--tmpfs", "/scratch:size=2m,mode=1777"], "grep ' /scratch ' /proc/mounts");
    for option in ["tmpfs", "nosuid", "nodev", "noexec", "size=2048k"] {
        assert!(text.contains(option), "no {option} in {text}");
    }
    env.run(&["--tmpfs", "/", "busybox", "true"]).fails(125, &["tmpfs"]);
}

#[test]
fn limits_of_processes_and_kernel_parameters() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let text = env.sh_with(
        &["--ulimit", "nofile=100:200", "--ulimit", "core=0"],
        "ulimit -Sn; ulimit -Hn; ulimit -c",
    );
    assert_eq!(text, "100\n200\n0\n");
    env.run(&["--ulimit", "nofile=2:1", "busybox", "true"]).fails(125, &["ulimit", "nofile=2:1"]);
    assert_eq!(env.sh_with(&["--oom-score-adj", "500"], "cat /proc/self/oom_score_adj"), "500\n");
    let sysctl = "net.ipv4.ip_forward=1";
    assert_eq!(env.sh_with(&["--sysctl", sysctl], "cat /proc/sys/net/ipv4/ip_forward"), "1\n");
    env.run(&["--sysctl", "novalue", "busybox", "true"]).fails(125, &["--sysctl", "novalue"]);
}

#[test]
fn pull_never_and_always() {
    require!(Root);
    let env = TestEnv::with_busybox();
    env.run(&["--pull", "never", "busybox", "true"]).success();
    env.run(&["--pull", "never", "nosuch", "true"]).fails(125, &["nosuch", "no such image"]);
    // What is pulled always is pulled although it is there: from a registry that there is not.
    env.mydocker(["import", "--name", "localhost:1/busybox"])
        .arg(crate::support::fixtures::path("busybox.tar"))
        .ok();
    env.run(&["localhost:1/busybox", "true"]).success();
    env.run(&["--pull", "always", "localhost:1/busybox", "true"]).fails(125, &["localhost:1"]);
}
