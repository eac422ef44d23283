//! What a docker user types, line by line: the program is called `docker` here.
//!
//! The lines are of the kinds that docker's own documentation shows for each verb. Each is run by a shell, in a folder of
//! its own, with an image of busybox or Debian; what it is to do is written beside it.

use std::fs;

use crate::support::command::Cmd;
use crate::support::env::{TestEnv, program};
use crate::support::fixtures;
use crate::support::pty::Pty;
use crate::support::require::Need::{Controller, Debian, Root, Tool};

/// A line, its exit code, and what it prints: the whole of it, or with `…` in front what is in it.
type Line = (&'static str, i32, &'static str);

const RUN: &[Line] = &[
    ("docker run --rm busybox echo hello world", 0, "hello world\n"),
    ("docker run --rm busybox sh -c 'exit 3'", 3, ""),
    ("docker run --rm busybox /nosuch 2>/dev/null", 127, ""),
    ("docker run --rm busybox /etc 2>/dev/null", 126, ""),
    ("docker run --rm --nosuch busybox true 2>/dev/null", 125, ""),
    ("docker run --rm busybox sh -c 'kill -TERM $$; echo on'", 0, "on\n"),
    ("echo piped | docker run -i --rm busybox cat", 0, "piped\n"),
    ("docker run --rm busybox sh -c 'echo out; echo err >&2' 2>/dev/null", 0, "out\n"),
    (
        "docker run --rm -e MYVAR1 --env MYVAR2=foo busybox sh -c 'echo $MYVAR1 $MYVAR2'",
        0,
        "caller foo\n",
    ),
    (
        "printf 'A=1\\n# no\\nB=two words\\n' >env && docker run --rm --env-file env busybox sh -c 'echo $A $B'",
        0,
        "1 two words\n",
    ),
    ("docker run --rm -w /path/to/dir busybox pwd", 0, "/path/to/dir\n"),
    (
        "docker run --rm --entrypoint /bin/echo busybox from the entry point",
        0,
        "from the entry point\n",
    ),
    ("docker run --rm --entrypoint '' busybox echo plain", 0, "plain\n"),
    (
        "docker run --rm -u 1000:50 busybox id -u -n 2>/dev/null; docker run --rm -u 1000:50 busybox sh -c 'id -u; id -g'",
        0,
        "…1000\n50\n",
    ),
    ("docker run --rm -h box.example --name called busybox hostname", 0, "box.example\n"),
    ("docker run --rm --add-host db:10.1.2.3 busybox grep -w db /etc/hosts", 0, "10.1.2.3\tdb\n"),
    (
        "docker run --rm --dns 9.9.9.9 busybox grep nameserver /etc/resolv.conf",
        0,
        "nameserver 9.9.9.9\n",
    ),
    (
        "echo data >f && docker run --rm -v \"$PWD/f:/f:ro\" busybox sh -c 'cat /f; echo x >/f' 2>/dev/null",
        1,
        "data\n",
    ),
    ("docker run --rm -v \"$PWD:/doc\" -w /doc busybox touch made && ls made", 0, "made\n"),
    (
        "docker run --rm --read-only --tmpfs /run busybox sh -c 'touch /run/a && echo yes; touch /b' 2>/dev/null",
        1,
        "yes\n",
    ),
    ("docker run --rm --ulimit nofile=99:100 busybox sh -c 'ulimit -n'", 0, "99\n"),
    (
        "docker run --rm --sysctl net.ipv4.ip_forward=1 busybox cat /proc/sys/net/ipv4/ip_forward",
        0,
        "1\n",
    ),
    ("docker run --rm --cap-drop ALL busybox chown 1:1 /tmp 2>/dev/null", 1, ""),
    (
        "docker run --rm --shm-size 1m busybox df -k /dev/shm | tail -n 1 | awk '{print $2}'",
        0,
        "1024\n",
    ),
    ("docker run --rm --network none busybox sh -c 'ls /sys/class/net'", 0, "lo\n"),
    ("docker run --cidfile cid --rm busybox true && wc -c <cid | tr -d ' '", 0, "64\n"),
    ("docker run --name once busybox true && docker rm once", 0, "once\n"),
];

const LIFE: &[Line] = &[
    (
        "docker run -d --name web -l app=web -e ROLE=front busybox sh -c 'echo up; exec sleep 1000' | wc -c | tr -d ' '",
        0,
        "65\n",
    ),
    (
        "docker ps --filter name=web --format '{{.Names}} {{.Image}} {{.State}}'",
        0,
        "web busybox running\n",
    ),
    ("docker ps -q --no-trunc -f label=app=web | wc -c | tr -d ' '", 0, "65\n"),
    ("docker inspect --format '{{.State.Running}} {{.Config.Labels.app}}' web", 0, "true web\n"),
    (
        "docker inspect -f '{{json .Config.Cmd}}' web",
        0,
        "[\"sh\",\"-c\",\"echo up; exec sleep 1000\"]\n",
    ),
    (
        "for i in 1 2 3 4 5 6 7 8 9; do docker logs web | grep up && break; sleep 0.1; done",
        0,
        "up\n",
    ),
    ("docker exec web sh -c 'echo $ROLE'", 0, "front\n"),
    (
        "docker exec -d web touch /tmp/execWorks && docker exec -i web sh -c 'until [ -e /tmp/execWorks ]; do :; done'",
        0,
        "",
    ),
    ("docker exec -e VAR_A=1 -e VAR_B=2 web env | grep VAR_", 0, "VAR_A=1\nVAR_B=2\n"),
    ("docker exec -w /root web pwd", 0, "/root\n"),
    ("docker exec web sh -c 'exit 9'", 9, ""),
    ("echo some >some && docker cp ./some web:/work && docker exec web cat /work", 0, "some\n"),
    ("docker cp web:/work back && cat back", 0, "some\n"),
    ("docker cp web:/etc - | tar t | grep etc/passwd", 0, "etc/passwd\n"),
    ("tar c some | docker cp - web:/tmp && docker exec web cat /tmp/some", 0, "some\n"),
    ("docker top web | awk 'NR==1 {print $1, $2, $3, $8}'", 0, "UID PID PPID CMD\n"),
    ("docker diff web | grep work", 0, "A /work\n"),
    ("docker stats --no-stream --format '{{.Name}}' web", 0, "web\n"),
    (
        "docker pause web && docker ps --filter status=paused --format '{{.Names}}' && docker unpause web",
        0,
        "web\nweb\nweb\n",
    ),
    ("docker rename web front && docker port front", 0, ""),
    ("docker rm front 2>&1 | grep -c 'is running'", 0, "1\n"),
    (
        "docker commit -m note -c 'ENV A=b' front svendowideit/testimage:version3 | cut -c 1-7",
        0,
        "sha256:\n",
    ),
    ("docker run --rm svendowideit/testimage:version3 sh -c 'cat /work; echo $A'", 0, "some\nb\n"),
    ("docker history -q svendowideit/testimage:version3 | wc -l | tr -d ' '", 0, "2\n"),
    (
        "docker restart -t 0 front && docker inspect -f '{{.State.Status}}' front",
        0,
        "front\nrunning\n",
    ),
    ("docker stop -t 0 front && docker wait front", 0, "front\n137\n"),
    ("docker ps -a --filter exited=137 --format '{{.Names}}'", 0, "front\n"),
    (
        "docker start front && docker kill -s KILL front && docker wait front",
        0,
        "front\nfront\n137\n",
    ),
    ("docker export front | tar t | grep -c '^work$'", 0, "1\n"),
    (
        "docker export front >front.tar && docker import --name flat front.tar >id && docker run --rm flat cat work",
        0,
        "some\n",
    ),
    (
        "docker tag busybox fedora/httpd:version1.0 && docker images | awk '/fedora/ {print $1 \":\" $2}'",
        0,
        "fedora/httpd:version1.0\n",
    ),
    (
        "docker save busybox >busybox.tar && docker rmi fedora/httpd:version1.0 >gone && docker load <busybox.tar",
        0,
        "…busybox",
    ),
    ("docker save busybox | gzip >b.tar.gz && docker load -i b.tar.gz", 0, "…busybox"),
    ("docker rm -f front && docker ps -aq | wc -l | tr -d ' '", 0, "front\n0\n"),
    (
        "docker run -d --rm --name gone busybox true >id; docker wait gone >code 2>&1; sleep 0.3; docker ps -aq",
        0,
        "",
    ),
    (
        "docker create -it --name made busybox true >id && docker start -a made; docker rm made",
        0,
        "made\n",
    ),
    ("docker container prune -f >pruned; docker ps -aq", 0, ""),
];

const DEBIAN: &[Line] = &[
    ("docker run --rm debian cat /etc/os-release | grep -c '^ID=debian'", 0, "1\n"),
    ("docker run --rm debian bash -c 'for i in {1..3}; do echo $i; done'", 0, "1\n2\n3\n"),
    ("docker run --rm -u nobody debian id -un", 0, "nobody\n"),
    ("docker run --rm -u daemon:adm debian sh -c 'id -un; id -gn'", 0, "daemon\nadm\n"),
    ("docker run --rm -e LC_ALL=C debian perl -e 'print 6 * 7'", 0, "42"),
    ("printf '3\\n1\\n2\\n' | docker run --rm -i debian sort", 0, "1\n2\n3\n"),
    ("docker run --rm debian bash -c 'echo hi | tee /dev/stderr' 2>&1 >/dev/null", 0, "hi\n"),
    (
        "docker run --name made debian bash -c 'echo kept >/kept' && docker cp made:/kept - | tar xO && docker rm made",
        0,
        "kept\nmade\n",
    ),
    ("docker run --rm --hostname deb debian bash -c 'echo $HOSTNAME'", 0, "deb\n"),
];

/// A shell's environment in which the program is called `docker`.
fn docker(env: &TestEnv) {
    let bin = env.folder().join("bin");
    fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(program(), bin.join("docker")).unwrap();
    fs::create_dir(env.folder().join("here")).unwrap();
}

fn shell(env: &TestEnv, line: &str) -> Cmd {
    let cmd = env.mydocker(["x"]).into_command();
    let mut sh = Cmd::new("sh").args(["-c", line]).current_dir(env.folder().join("here"));
    for (name, value) in cmd.get_envs() {
        sh = sh.env(name, value.unwrap());
    }
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", env.folder().join("bin").display());
    sh.env("PATH", path).env("MYVAR1", "caller").timeout(120)
}

fn behave(env: &TestEnv, lines: &[Line]) {
    docker(env);
    for (line, code, expected) in lines {
        let output = shell(env, line).run().exits(*code);
        match expected.strip_prefix('…') {
            Some(part) => assert!(output.stdout.contains(part), "{line}\n{}", output.report()),
            None => assert_eq!(output.stdout, *expected, "{line}\n{}", output.report()),
        }
    }
}

#[test]
fn lines_that_run_something() {
    require!(Root);
    behave(&TestEnv::with_busybox(), RUN);
}

#[test]
fn lines_about_a_container_from_its_start_to_its_end() {
    require!(Root, Tool("tar"), Controller("freezer"));
    behave(&TestEnv::with_busybox(), LIFE);
}

#[test]
fn lines_with_debian() {
    require!(Root, Debian);
    let env = TestEnv::new();
    env.mydocker(["--no-sync", "import", "-q"]).arg(fixtures::path("debian.tar")).ok();
    behave(&env, DEBIAN);
}

#[test]
fn lines_with_a_terminal() {
    require!(Root);
    let env = TestEnv::with_busybox();
    docker(&env);
    let mut pty = Pty::start(shell(&env, "docker run -it --name test busybox sh"), 24, 80);
    pty.send("tty; id -u\n");
    pty.expect("/dev/");
    pty.expect("0");
    pty.send("exit 13\n");
    assert_eq!(pty.finish(), 13);
    let mut pty = Pty::start(shell(&env, "docker start -ai test"), 24, 80);
    pty.send("echo again $((40+2))\n");
    pty.expect("again 42");
    pty.send("exit\n");
    assert_eq!(pty.finish(), 0);
    shell(&env, "docker run -dit --name topdemo busybox sh && docker exec topdemo true")
        .run()
        .success();
    let mut pty = Pty::start(shell(&env, "docker attach topdemo"), 24, 80);
    pty.send("echo here $((1+1))\n");
    pty.expect("here 2");
    pty.send("\u{10}\u{11}");
    pty.expect("read escape sequence");
    assert_eq!(pty.finish(), 0);
    shell(&env, "docker rm -f test topdemo").run().success();
}
