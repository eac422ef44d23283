//! `mydocker run`: options, the image's configuration, what is written where.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::support::command::Cmd;
use crate::support::env::{TestEnv, names};
use crate::support::fixtures;
use crate::support::registry::Registry;
use crate::support::require::Need::{Root, Tool};

/// A store with an image of busybox that has this configuration, called `configured`.
fn with_config(config: &str) -> TestEnv {
    let env = TestEnv::new();
    let layout = env.folder().join("layout");
    Cmd::new("cp").arg("-r").arg(fixtures::path("busybox")).arg(&layout).ok();
    let image = format!("{}:latest", layout.display());
    let options: Vec<&str> = config.split('\n').filter(|option| !option.is_empty()).collect();
    Cmd::new("umoci").args(["config", "--image", &image]).args(options).ok();
    env.mydocker(["import", "--name", "configured"]).arg(&layout).ok();
    env
}

#[test]
fn a_command_of_an_image() {
    require!(Root);
    let env = TestEnv::with_busybox();
    env.run(&["busybox", "echo", "hello"]).success().prints("hello\n");
}

#[test]
fn a_missing_image_is_pulled() {
    require!(Root, Tool("docker-registry"));
    let (env, registry) = (TestEnv::new(), Registry::start());
    let name = registry.image("busybox");
    env.run(&[&name, "echo", "hello"]).success().prints("hello\n");
    let before = registry.requests().len();
    env.run(&[&name, "echo", "hello"]).success().prints("hello\n");
    assert_eq!(registry.requests().len(), before, "a run of an image that is there asks nobody");
}

#[test]
fn an_image_by_its_id() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let id = env.json(&["images"])[0]["ID"].as_str().unwrap().to_owned();
    env.run(&[&id, "true"]).success();
}

#[test]
fn the_images_own_command() {
    require!(Root, Tool("umoci"));
    let env = with_config("--config.cmd=echo\n--config.cmd=from the image");
    env.run(&["configured"]).success().prints("from the image\n");
    env.run(&["configured", "echo", "other"]).success().prints("other\n");
}

#[test]
fn the_images_entry_point() {
    require!(Root, Tool("umoci"));
    let env = with_config("--config.entrypoint=echo\n--config.entrypoint=entry\n--config.cmd=cmd");
    env.run(&["configured"]).success().prints("entry cmd\n");
    env.run(&["configured", "argument"]).success().prints("entry argument\n");
}

#[test]
fn another_entry_point_drops_the_images_command() {
    require!(Root, Tool("umoci"));
    let env = with_config("--config.entrypoint=false\n--config.cmd=cmd");
    env.run(&["--entrypoint", "echo", "configured"]).success().prints("\n");
    env.run(&["--entrypoint", "echo", "configured", "a"]).success().prints("a\n");
    env.run(&["--entrypoint", "", "configured", "echo", "b"]).success().prints("b\n");
}

#[test]
fn the_images_environment_user_and_folder() {
    require!(Root, Tool("umoci"));
    let env = with_config(
        "--config.env=FROM_IMAGE=yes\n--config.user=www-data\n--config.workingdir=/var/www\n--config.cmd=sh",
    );
    let script = "echo $FROM_IMAGE; id -un; pwd";
    env.run(&["configured", "sh", "-c", script]).success().prints("yes\nwww-data\n/var/www\n");
    let options =
        ["-e", "FROM_IMAGE=no", "-u", "0", "-w", "/tmp", "configured", "sh", "-c", script];
    env.run(&options).success().prints("no\nroot\n/tmp\n");
}

#[test]
fn an_image_without_a_command() {
    require!(Root, Tool("umoci"));
    let env = with_config("--clear=config.cmd\n--clear=config.entrypoint");
    env.run(&["configured"]).fails(125, &["command"]);
}

#[test]
fn arguments_arrive_untouched() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let odd = [
        "",
        " ",
        "a b",
        "'",
        "\"",
        "\\",
        "$HOME",
        "a\nb",
        "\t",
        "*",
        "--rm",
        "-it",
        "\u{e4}\u{20ac}",
        "`id`",
        ";",
    ];
    let script = "for a in \"$@\"; do printf '%s\\0' \"$a\"; done";
    let output = env
        .mydocker(["run", "--rm", "busybox", "sh", "-c", script, "sh"])
        .args(odd)
        .run()
        .success();
    let arrived: Vec<&str> = output.stdout.split_terminator('\0').collect();
    assert_eq!(arrived, odd);
}

#[test]
fn arguments_that_are_not_utf_8_are_refused_and_not_mangled() {
    use std::os::unix::ffi::OsStrExt;
    require!(Root);
    let env = TestEnv::with_busybox();
    // A runtime-spec is JSON, which cannot hold them.
    let argument = std::ffi::OsStr::from_bytes(b"\xff\xfe");
    env.mydocker(["run", "--rm", "busybox", "echo"]).arg(argument).run().fails(125, &["utf-8"]);
}

#[test]
fn options_behind_the_image_belong_to_the_command() {
    require!(Root);
    let env = TestEnv::with_busybox();
    env.run(&["busybox", "echo", "--rm", "-h", "--help", "--", "x"])
        .success()
        .prints("--rm -h --help -- x\n");
}

#[test]
fn the_environment() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let cmd = env.mydocker([
        "run",
        "--rm",
        "-e",
        "A=1",
        "-e",
        "B=two words",
        "-e",
        "A=3",
        "-e",
        "EMPTY=",
        "busybox",
    ]);
    let output = cmd.args(["env"]).env("SECRET", "of the host").run().success();
    let mut lines = output.lines();
    lines.sort_unstable();
    let hostname = lines.iter().find(|line| line.starts_with("HOSTNAME=")).expect("HOSTNAME");
    assert_eq!(hostname.len(), "HOSTNAME=".len() + 12);
    let others: Vec<&&str> = lines.iter().filter(|line| !line.starts_with("HOSTNAME=")).collect();
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(others, [&"A=3", &"B=two words", &"EMPTY=", &"HOME=/root", &path]);
}

#[test]
fn a_variable_of_the_caller_only_when_asked_for() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let cmd = || env.mydocker(["run", "--rm", "-e", "ASKED", "-e", "ABSENT", "busybox", "env"]);
    let output = cmd().env("ASKED", "for").env("OTHER", "not").run().success();
    assert!(output.stdout.contains("ASKED=for\n"), "{}", output.report());
    assert!(
        !output.stdout.contains("OTHER") && !output.stdout.contains("ABSENT"),
        "{}",
        output.report()
    );
}

#[test]
fn the_working_directory_is_made_if_missing() {
    require!(Root);
    let env = TestEnv::with_busybox();
    assert_eq!(env.sh_with(&["-w", "/usr/bin"], "pwd"), "/usr/bin\n");
    assert_eq!(
        env.sh_with(&["-w", "/made/for/it"], "pwd; ls -d /made/for"),
        "/made/for/it\n/made/for\n"
    );
}

#[test]
fn users_and_groups() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let ids = "echo $(id -u):$(id -g) $(id -G)";
    for (user, wanted) in [
        ("0", "0:0 0 10"),
        ("root", "0:0 0 10"),
        ("www-data", "33:33 33"),
        ("33", "33:33 33"),
        ("1234", "1234:0 0"),
        ("1234:5678", "1234:5678 5678"),
        ("www-data:users", "33:100 100"),
        ("0:0", "0:0 0"),
    ] {
        assert_eq!(env.sh_with(&["-u", user], ids).trim_end(), wanted, "{user}");
    }
}

#[test]
fn a_user_that_is_not_there() {
    require!(Root);
    let env = TestEnv::with_busybox();
    for user in [
        "nobody-knows",
        "-1",
        "4294967295",
        "4294967296",
        "1:",
        ":1",
        "0x0",
        "1:nogroup-knows",
        " 0",
    ] {
        env.run(&["-u", user, "busybox", "true"]).fails(125, &[]);
    }
}

#[test]
fn the_home_folder_follows_the_user() {
    require!(Root);
    let env = TestEnv::with_busybox();
    assert_eq!(env.sh_with(&["-u", "www-data"], "echo $HOME"), "/var/www\n");
    assert_eq!(env.sh_with(&["-u", "1234"], "echo $HOME"), "/\n");
}

#[test]
fn the_host_name() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let script = "hostname; cat /etc/hostname; grep -c box /etc/hosts";
    assert_eq!(env.sh_with(&["-h", "box"], script), "box\nbox\n1\n");
    let made_up = env.sh("hostname");
    assert!(
        made_up.trim_end().len() == 12 && made_up.trim_end().bytes().all(|b| b.is_ascii_hexdigit()),
        "{made_up}"
    );
}

#[test]
fn what_a_container_writes_is_its_own() {
    require!(Root);
    let env = TestEnv::with_busybox();
    env.sh("echo mine >/etc/mine; rm /etc/passwd");
    assert_eq!(env.sh("ls /etc/mine 2>/dev/null; ls /etc/passwd"), "/etc/passwd\n");
}

#[test]
fn a_read_only_root() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let script = "touch /x 2>&1; touch /etc/hosts 2>&1; echo still >/dev/null; echo fine >/dev/shm/x && cat /dev/shm/x";
    let output = env.sh_with(&["--read-only"], script);
    assert_eq!(output.matches("Read-only file system").count(), 2, "{output}");
    assert!(output.ends_with("fine\n"), "{output}");
}

#[test]
fn a_volume_is_the_hosts_folder() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let folder = env.folder().join("a volume");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("in"), "from the host\n").unwrap();
    let volume = format!("{}:/deep/inside", folder.display());
    assert_eq!(
        env.sh_with(&["-v", &volume], "cat /deep/inside/in; echo back >/deep/inside/out"),
        "from the host\n"
    );
    let out = folder.join("out");
    assert_eq!(fs::read_to_string(&out).unwrap(), "back\n");
    assert_eq!(
        fs::metadata(&out).unwrap().uid(),
        0,
        "root inside writes as root on a folder that was handed in"
    );
}

#[test]
fn a_read_only_volume() {
    require!(Root);
    let env = TestEnv::with_busybox();
    fs::write(env.folder().join("file"), "whole\n").unwrap();
    let volume = format!("{}:/file:ro", env.folder().join("file").display());
    let output = env.sh_with(
        &["-v", &volume],
        "cat /file; echo x >/file; mount -o remount,rw /file; echo x >/file; true",
    );
    assert_eq!(output, "whole\n");
    assert_eq!(fs::read_to_string(env.folder().join("file")).unwrap(), "whole\n");
}

#[test]
fn a_volume_relative_to_the_working_directory() {
    require!(Root);
    let env = TestEnv::with_busybox();
    fs::write(env.folder().join("here"), "here\n").unwrap();
    assert_eq!(env.sh_with(&["-v", "./here:/there"], "cat /there"), "here\n");
}

#[test]
fn a_volume_on_a_symbolic_link_stays_inside() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let (root, volume) = (env.folder().join("root"), env.folder().join("volume"));
    for folder in [&root, &volume] {
        fs::create_dir(folder).unwrap();
    }
    Cmd::new("tar").arg("-xf").arg(fixtures::path("busybox.tar")).arg("-C").arg(&root).ok();
    let outside = env.folder().join("outside");
    fs::create_dir(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, root.join("link")).unwrap();
    fs::write(volume.join("file"), "inside\n").unwrap();
    let volume = format!("{}:/link", volume.display());
    let cmd = env.mydocker(["run", "--rm", "-v", &volume, "--rootfs"]).arg(&root);
    cmd.args(["cat", "/link/file"]).run();
    assert_eq!(names(&outside), Vec::<String>::new());
}

#[test]
fn a_folder_instead_of_an_image() {
    require!(Root);
    let env = TestEnv::new();
    let root = env.folder().join("root");
    fs::create_dir(&root).unwrap();
    Cmd::new("tar").arg("-xf").arg(fixtures::path("busybox.tar")).arg("-C").arg(&root).ok();
    let run = |script: &str| {
        env.mydocker(["run", "--rm", "--rootfs"])
            .arg(&root)
            .args(["sh", "-c", script])
            .run()
            .success()
    };
    run("echo kept >/kept; pwd").prints("/\n");
    run("cat /kept").prints("kept\n");
    assert_eq!(fs::read_to_string(root.join("kept")).unwrap(), "kept\n");
    assert_eq!(fs::metadata(root.join("kept")).unwrap().uid(), 0);
}

#[test]
fn standard_input_arrives_only_when_asked_for() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let cat = |options: &[&str]| {
        env.mydocker(["run", "--rm"])
            .args(options)
            .args(["busybox", "cat"])
            .input("through\n")
            .run()
            .success()
            .stdout
    };
    assert_eq!(cat(&["-i"]), "through\n");
    assert_eq!(cat(&[]), "");
}

#[test]
fn a_megabyte_each_way() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let text: String = (0..100_000).map(|n| format!("line {n:06}\n")).collect();
    let output =
        env.mydocker(["run", "--rm", "-i", "busybox", "cat"]).input(text.clone()).run().success();
    assert!(output.stdout == text, "{} bytes came back", output.stdout.len());
}

#[test]
fn the_two_outputs_are_kept_apart() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let output = env.run(&["busybox", "sh", "-c", "echo out; echo err >&2"]).success();
    assert_eq!((&*output.stdout, &*output.stderr), ("out\n", "err\n"));
}

#[test]
fn a_container_that_is_removed_leaves_nothing() {
    require!(Root);
    let env = TestEnv::with_busybox();
    env.sh("mkdir -p /a/b/c; mknod /a/fifo p; chmod 000 /a/b; ln -s /etc /a/link");
    assert_eq!(env.containers(), Vec::<String>::new());
    assert_eq!(names(&env.root().join("containers/.names")), Vec::<String>::new());
    assert_eq!(env.running(), Vec::<String>::new());
}

#[test]
fn many_at_once() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let runs: Vec<_> = (0..16)
        .map(|n| env.mydocker(["run", "--rm", "busybox", "sh", "-c", &format!("exit {n}")]).start())
        .collect();
    for (code, run) in (0..).zip(runs) {
        run.finish().exits(code);
    }
    assert_eq!(env.containers(), Vec::<String>::new());
}
