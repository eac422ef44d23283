//! The command line of `run` and `create`: what is an option, what is the image, what belongs to the program.

use crate::support::env::TestEnv;
use crate::support::require::Need::Root;

#[test]
fn what_is_behind_the_image_belongs_to_the_program() {
    require!(Root);
    let env = TestEnv::with_busybox();
    for option in ["-c", "-i", "--rm", "-d", "--help", "--nosuch", "-h", "--version", "--"] {
        let output = env.run(&["busybox", "echo", "first", option, "last"]).success();
        assert_eq!(output.stdout, format!("first {option} last\n"));
    }
    env.run(&["busybox", "sh", "-c", "printf %s,%s $0 $1", "-e", "A"]).success().prints("-e,A");
    // Right behind the image as well: then it is the program.
    env.run(&["busybox", "-c", "2"]).exits(127).says("`-c`");
    env.run(&["--", "busybox", "echo", "--"]).success().prints("--\n");
}

#[test]
fn what_is_before_the_image_is_an_option() {
    require!(Root);
    let env = TestEnv::with_busybox();
    env.run(&["--nosuch", "busybox", "true"]).exits(125).says("--nosuch");
    env.run(&["-c", "few", "busybox", "true"]).exits(125).says("few");
    env.mydocker(["create", "--name", "c", "-c", "77", "busybox", "sh", "-c", "exit 7"]).ok();
    let shown = env.mydocker(["inspect", "-f", "{{.HostConfig.CpuShares}} {{json .Args}}", "c"]);
    assert_eq!(shown.ok(), "77 [\"-c\",\"exit 7\"]\n");
    env.mydocker(["rm", "c"]).ok();
    let rootfs = env.rootfs("busybox").canonicalize().unwrap();
    let folder = rootfs.to_str().unwrap();
    env.run(&["--rootfs", folder, "sh", "-c", "echo $0", "-d"]).success().prints("-d\n");
    env.run(&["--rootfs", folder, "-c", "512", "echo", "x"]).success().prints("x\n");
    env.run(&["--rootfs", folder]).exits(125);
}

#[test]
fn what_would_need_a_bridge_is_refused_by_name() {
    require!(Root);
    let env = TestEnv::with_busybox();
    for (option, hint) in [
        ("--expose=80", "--network host"),
        ("--publish=8080:80", "--network host"),
        ("--publish-all", "--network host"),
        ("--ip=10.0.0.2", "--network host"),
        ("--mac-address=02:00:00:00:00:01", "--network host"),
        ("--network-alias=db", "container:NAME"),
    ] {
        let name = option.split('=').next().unwrap();
        env.run(&[option, "busybox", "true"]).fails(125, &[name, "no bridge network yet", hint]);
    }
    env.run(&["-p", "8080:80", "busybox", "true"]).fails(125, &["--publish"]);
    env.run(&["-P", "busybox", "true"]).fails(125, &["--publish-all"]);
    assert_eq!(env.containers(), Vec::<String>::new());
}
