//! `-v` with paths, `--mount`, `--tmpfs`: what is mounted, how, and what is refused.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use crate::support::command::Cmd;
use crate::support::env::{TestEnv, names};
use crate::support::mounted::Mounted;
use crate::support::program::write_program;
use crate::support::require::Need::{Root, Tool};
use crate::support::wait_for;

/// A folder of the test's own with a file in it.
fn folder(env: &TestEnv, name: &str) -> PathBuf {
    let folder = env.folder().join(name);
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("file"), format!("{name}\n")).unwrap();
    folder
}

fn bind(source: &Path, rest: &str) -> String {
    format!("type=bind,src={},{rest}", source.display())
}

#[test]
fn a_missing_source_is_made_for_v_and_refused_by_mount() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let missing = env.folder().join("a/b");
    env.run(&["--mount", &bind(&missing, "dst=/x"), "busybox", "true"])
        .fails(125, &["bind source path does not exist", "a/b", "hint:"]);
    assert!(!missing.exists());
    env.sh_with(&["-v", &format!("{}:/x", missing.display())], "touch /x/y");
    assert_eq!(names(&missing), ["y"]);
    assert_eq!(fs::metadata(&missing).unwrap().permissions().mode() & 0o777, 0o755);
    assert_eq!(env.containers(), Vec::<String>::new());
}

#[test]
fn what_cannot_be_understood_is_refused_in_words() {
    require!(Root);
    let env = TestEnv::with_busybox();
    for (option, value, why) in [
        ("--mount", "type=nfs,dst=/x", "bind, volume, tmpfs and image"),
        ("--mount", "type=bind,src=/etc", "target is required"),
        ("--mount", "type=bind,dst=/x", "source is required"),
        ("--mount", "type=bind,src=/etc,dst=/x,nosuch=1", "unexpected key `nosuch`"),
        ("--mount", "type=tmpfs,dst=/x,bind-propagation=shared", "not for mounts of type tmpfs"),
        ("--mount", "type=tmpfs,src=aa,dst=/x", "not for mounts of type tmpfs"),
        ("--mount", "dst=/x,readonly=perhaps", "true or false"),
        ("--mount", "type=bind,src=/etc,dst=/x,bind-recursive=readonly", "needs readonly"),
        ("--mount", "dst=/x,volume-opt=type=nfs", "type=nfs"),
        ("--mount", "dst=/x,volume-driver=nfs", "driver `nfs` not found"),
        ("--mount", "dst=/x,volume-subpath=../y", "without `..`"),
        ("-v", "/etc:/x:sideways", "unknown option `sideways`"),
        ("-v", "/etc:/x:ro,rw", "contradicts"),
        ("-v", "/etc:/", "the root itself"),
        ("-v", "/etc:x", "absolute path"),
        ("-v", "a:b:c:d", "too many colons"),
        ("-v", ":/x", "empty section"),
        ("-v", "vol:/x:shared", "not for mounts of type volume"),
        ("-v", "/etc:/x:nocopy", "not for mounts of type bind"),
        ("-v", "a/b:/x", "begins with / or ."),
        ("-v", "x:/y", "two characters"),
        ("--tmpfs", "/x:bind", "none of a tmpfs"),
        ("--volumes-from", "nosuch", "no such container"),
        ("--volumes-from", "x:sideways", "unknown option"),
    ] {
        let output = env.run(&[option, value, "busybox", "true"]);
        let code = if value == "nosuch" { 1 } else { 125 };
        output.fails(code, &[why]);
    }
    let twice = env.run(&["-v", "/etc:/x", "--mount", "type=tmpfs,dst=/y/../x", "busybox", "true"]);
    twice.fails(125, &["duplicate mount point: /x"]);
    env.run(&["-v", "/etc:/x", "--tmpfs", "/x/", "busybox", "true"]).fails(125, &["duplicate"]);
    assert_eq!(env.containers(), Vec::<String>::new());
    assert_eq!(names(&env.root().join("volumes")), Vec::<String>::new());
}

#[test]
fn options_without_meaning_here_are_taken() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let source = folder(&env, "source");
    for options in ["z", "Z", "cached", "delegated", "consistent,rw", "rw,z,private"] {
        let volume = format!("{}:/x:{options}", source.display());
        assert_eq!(env.sh_with(&["-v", &volume], "cat /x/file"), "source\n", "{options}");
    }
    let mount = bind(&source, "dst=/x,consistency=cached");
    assert_eq!(env.sh_with(&["--mount", &mount], "cat /x/file"), "source\n");
}

#[test]
fn read_only_reaches_what_is_mounted_below() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let source = folder(&env, "source");
    let _below = Mounted::tmpfs(&source.join("below"));
    let script = "touch /x/new 2>/dev/null && echo top; touch /x/below/new 2>/dev/null && echo below; \
        grep -q ' /x/below ' /proc/mounts && echo mounted; true";
    // What lies below is a tmpfs, which cannot be mapped before Linux 6.3.
    let with = |rest: &str| {
        let mount = bind(&source, &format!("dst=/x{rest}"));
        env.sh_with(&["--userns", "host", "--mount", &mount], script)
    };
    assert_eq!(with(""), "top\nbelow\nmounted\n");
    assert_eq!(with(",readonly"), "mounted\n");
    assert_eq!(with(",readonly,bind-recursive=readonly"), "mounted\n");
    assert_eq!(with(",readonly,bind-recursive=writable"), "below\nmounted\n");
    assert_eq!(with(",bind-recursive=disabled"), "top\nbelow\n");
    assert_eq!(with(",bind-nonrecursive"), "top\nbelow\n");
    for options in ["ro", "rro"] {
        let volume = format!("{}:/x:{options}", source.display());
        assert_eq!(env.sh_with(&["-v", &volume], script), "mounted\n", "{options}");
    }
}

#[test]
fn mounts_that_come_later_are_seen_by_slaves() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let source = folder(&env, "source");
    let late = source.join("late");
    // Of a private mount there is nothing to hear.
    let _own = Mounted::tmpfs(&source);
    Cmd::new("mount").arg("--make-private").arg(&source).ok();
    fs::create_dir(&late).unwrap();
    for kind in ["rslave", "shared"] {
        let refused =
            env.run(&["-v", &format!("{}:/x:{kind}", source.display()), "busybox", "true"]);
        refused.fails(125, &["which is not a shared", source.to_str().unwrap(), "--make-shared"]);
    }
    Cmd::new("mount").arg("--make-shared").arg(&source).ok();
    for (kind, userns, sees) in [
        ("rprivate", "private", false),
        ("rslave", "private", true),
        ("slave", "host", true),
        ("rshared", "private", true),
        ("rshared", "host", true),
    ] {
        let volume = format!("{}:/x:{kind}", source.display());
        let args = [
            "run", "-d", "--name", kind, "--userns", userns, "-v", &volume, "busybox", "sleep",
            "1000",
        ];
        env.mydocker(args).ok();
        let mounted = Mounted::tmpfs(&late);
        fs::write(late.join("new"), "").unwrap();
        let seen = env.mydocker(["exec", kind, "ls", "/x/late"]).ok();
        assert_eq!(seen == "new\n", sees, "{kind} {userns}: {seen:?}");
        drop(mounted);
        let tags = env.mydocker(["exec", kind, "grep", " /x rw", "/proc/self/mountinfo"]).ok();
        let host = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let group =
            host.lines().find(|line| line.contains(&format!(" {} ", source.display()))).unwrap();
        let group = group.split(' ').nth(6).unwrap();
        // Only without a user namespace do mounts come out.
        assert_eq!(
            tags.contains(group),
            kind == "rshared" && userns == "host",
            "{kind}: {tags} {group}"
        );
        env.mydocker(["rm", "-f", kind]).ok();
    }
}

#[test]
fn file_systems_in_memory() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let line = |options: &[&str], at: &str| {
        env.sh_with(options, &format!("grep ' {at} ' /proc/mounts; stat -c %a {at}"))
    };
    let text = line(&["--mount", "type=tmpfs,dst=/t,tmpfs-size=2m,tmpfs-mode=0710"], "/t");
    for part in ["rw,nosuid,nodev,noexec", "size=2048k", "mode=710", "\n710\n"] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    assert!(line(&["--mount", "type=tmpfs,dst=/t,readonly"], "/t").contains("tmpfs ro,"));
    assert!(line(&["--tmpfs", "/t"], "/t").ends_with("1777\n"));
    let exec = "cp /bin/busybox /t/true; /t/true && echo ran; mount -o remount,exec /t; true";
    assert_eq!(env.sh_with(&["--tmpfs", "/t:exec,size=8m"], exec), "ran\n");
    assert_eq!(env.sh_with(&["--tmpfs", "/t:size=8m,rprivate"], exec), "");
    let owner = env.sh_with(&["--tmpfs", "/t:uid=5,gid=6,mode=750"], "stat -c %u:%g:%a /t");
    assert_eq!(owner, "5:6:750\n");
    let copied = env.sh_with(&["--tmpfs", "/etc:tmpcopyup"], "head -n 1 /etc/passwd");
    assert!(copied.starts_with("root:"), "{copied}");
}

#[test]
fn an_images_tree_is_mounted_read_only() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let image = folder(&env, "made");
    fs::create_dir(image.join("sub")).unwrap();
    fs::write(image.join("sub/x"), "deep\n").unwrap();
    symlink("/etc", image.join("out")).unwrap();
    env.mydocker(["import", "-q", "--name", "made"]).arg(&image).ok();
    let mount = "type=image,src=made,dst=/m";
    let script =
        "cat /m/file; stat -c %u /m/file; touch /m/y; mount -o remount,rw /m; touch /m/y; true";
    assert_eq!(env.sh_with(&["--mount", mount], script), "made\n0\n");
    assert_eq!(names(&env.rootfs("made")), ["file", "out", "sub"]);
    let sub = format!("{mount},image-subpath=sub");
    assert_eq!(env.sh_with(&["--mount", &sub], "cat /m/x"), "deep\n");
    let out = env.run(&["--mount", &format!("{mount},image-subpath=out"), "busybox", "true"]);
    out.fails(125, &["out"]);
    env.run(&["--mount", mount, "--cap-add", "SYS_ADMIN", "busybox", "true"])
        .fails(125, &["made", "CAP_SYS_ADMIN"]);
    env.run(&["--mount", "type=image,src=nosuch,dst=/m", "busybox", "true"])
        .fails(125, &["no such image: nosuch"]);
    // Its image is in use.
    env.mydocker(["create", "--name", "user", "--mount", mount, "busybox", "cat", "/m/file"]).ok();
    env.mydocker(["rmi", "made"]).run().exits(1).says("in use");
    env.mydocker(["prune", "-af"]).ok();
    assert_eq!(env.mydocker(["start", "-a", "user"]).ok(), "made\n");
    env.mydocker(["rm", "user"]).ok();
    env.mydocker(["rmi", "made"]).ok();
}

#[test]
fn an_owner_is_matched_without_changing_anything() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let source = folder(&env, "source");
    for path in [source.clone(), source.join("file")] {
        chown(path, Some(1000), Some(1001)).unwrap();
    }
    fs::write(source.join("roots"), "").unwrap();
    fs::set_permissions(&source, fs::Permissions::from_mode(0o700)).unwrap();
    let shown = "stat -c %u:%g /x /x/file /x/roots; touch /x/new; stat -c %u:%g /x/new; rm /x/new";
    let run = |more: &[&str], mode: &str, script: &str| {
        let volume = format!("{}:/x{mode}", source.display());
        env.sh_with(&[more, &["-v", &volume]].concat(), script)
    };
    assert_eq!(run(&[], "", shown), "1000:1001\n1000:1001\n0:0\n0:0\n");
    assert_eq!(run(&[], ":owner=keep", shown), run(&[], "", shown));
    for mode in [":owner=match", ":U"] {
        assert_eq!(run(&[], mode, shown), "0:0\n0:0\n1000:1001\n0:0\n", "{mode}");
        let user = ["-u", "33:34"];
        assert_eq!(run(&user, mode, "stat -c %u:%g /x /x/roots; touch /x/new"), "33:34\n0:0\n");
        let new = fs::metadata(source.join("new")).unwrap();
        assert_eq!((new.uid(), new.gid()), (1000, 1001), "{mode}");
        fs::remove_file(source.join("new")).unwrap();
    }
    let host = ["--userns", "host", "-u", "33:34"];
    assert_eq!(run(&host, ":owner=match", "touch /x/new; stat -c %u:%g /x/new"), "33:34\n");
    assert_eq!(fs::metadata(source.join("new")).unwrap().uid(), 1000);
    let mount = bind(&source, "dst=/x,owner=match");
    assert_eq!(env.sh_with(&["--mount", &mount], "stat -c %u /x"), "0\n");
    let file = fs::metadata(source.join("file")).unwrap();
    assert_eq!((file.uid(), file.gid()), (1000, 1001));
    // A container that is started later may have other ids then.
    let volume = format!("{}:/x:owner=match", source.display());
    let create = [
        "create", "--name", "later", "-u", "5:6", "-v", &volume, "busybox", "stat", "-c", "%u:%g",
        "/x",
    ];
    env.mydocker(create).ok();
    for _ in 0..2 {
        let range = || fs::read_dir(env.folder().join("run/.ids")).is_ok();
        assert_eq!(env.mydocker(["start", "-a", "later"]).ok(), "5:6\n");
        wait_for("the ids to be given back", || (!range()).then_some(()));
        let config = names(&env.root().join("containers")).pop().unwrap();
        let config = env.root().join("containers").join(config).join("config.json");
        // As if another container had them now.
        let text = fs::read_to_string(&config).unwrap();
        let spec: serde_json::Value = serde_json::from_str(&text).unwrap();
        let first = spec["linux"]["uidMappings"][0]["hostID"].as_u64().unwrap();
        let slot = (first - 0x8_0000) / 0x1_0000;
        fs::create_dir_all(env.folder().join("run/.ids")).unwrap();
        symlink("x".repeat(64), env.folder().join(format!("run/.ids/{slot}"))).unwrap();
        assert_eq!(env.mydocker(["start", "-a", "later"]).ok(), "5:6\n");
        let tar = env.mydocker(["cp", "later:/x/file", "-"]).ok();
        // Owner and group in the header of a tar.
        assert!(tar.contains("\x000000005\x000000006\0"), "{tar:?}");
        fs::remove_dir_all(env.folder().join("run/.ids")).unwrap();
    }
    env.mydocker(["rm", "later"]).ok();
}

#[test]
fn a_file_system_that_cannot_map_owners_is_named_once() {
    require!(Root);
    let env = TestEnv::with_busybox();
    for name in ["lower", "upper", "work"] {
        fs::create_dir(env.folder().join(name)).unwrap();
    }
    let at = env.folder().join("overlay");
    let path = |name: &str| env.folder().join(name).display().to_string();
    let options =
        format!("lowerdir={},upperdir={},workdir={}", path("lower"), path("upper"), path("work"));
    let _overlay = Mounted::new(&["-t", "overlay", "-o", &options, "none"], &at);
    fs::write(at.join("file"), "").unwrap();
    let volume = format!("{}:/x", at.display());
    let mount = bind(&at, "dst=/y");
    let output =
        env.run(&["-v", &volume, "--mount", &mount, "busybox", "stat", "-c", "%u", "/x/file"]);
    let output = output.success().prints("65534\n");
    let warned = output.stderr.matches("cannot map owners").count();
    assert_eq!(warned, 1, "{}", output.report());
    assert!(output.stderr.contains(at.to_str().unwrap()));
    let refused = env.run(&["-v", &format!("{volume}:owner=match"), "-u", "7", "busybox", "true"]);
    refused.fails(125, &["overlay"]);
}

#[test]
fn the_hosts_root_and_what_the_kernel_mounts_in_it_are_shown_as_they_are() {
    require!(Root);
    let env = TestEnv::with_busybox();
    // As snapd has them: files that stand for namespaces.
    let shown = folder(&env, "shown");
    let namespace = shown.join("namespace");
    fs::write(&namespace, "").unwrap();
    Cmd::new("mount").args(["--bind", "/proc/self/ns/net"]).arg(&namespace).ok();
    let path = env.folder().display().to_string();
    let script =
        format!("cat /host{path}/shown/file; test -e /host{path}/shown/namespace && echo there");
    let run = env.run(&["-v", "/:/host:ro", "busybox", "sh", "-c", &script]);
    Cmd::new("umount").arg(&namespace).ok();
    assert_eq!(run.success().stdout, "shown\nthere\n");
}

#[test]
fn the_modes_of_mount_points_are_not_those_of_what_is_mounted() {
    require!(Root);
    let env = TestEnv::new();
    let root = env.folder().join("root");
    for name in ["bin", "proc", "sys", "dev", "dev/shm", "dev/mqueue"] {
        fs::create_dir_all(root.join(name)).unwrap();
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(0o700)).unwrap();
    }
    fs::set_permissions(root.join("bin"), fs::Permissions::from_mode(0o755)).unwrap();
    write_program(&root.join("bin/busybox"), fs::read("/bin/busybox").unwrap());
    let root = root.display().to_string();
    let run = |args: &[&str]| {
        env.run(&[&["--rootfs", root.as_str(), "/bin/busybox"], args].concat()).success().stdout
    };
    let shown = run(&["stat", "-c", "%a", "/proc", "/sys", "/dev", "/dev/shm", "/dev/mqueue"]);
    assert_eq!(shown, "555\n555\n755\n1777\n1777\n");
    assert!(run(&["readlink", "/proc/self/fd/0"]).contains("null"));
}

#[test]
fn inner_mounts_lie_in_outer_ones_and_the_users_come_first() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let (outer, inner) = (folder(&env, "outer"), folder(&env, "inner"));
    let (outer, inner) = (outer.display().to_string(), inner.display().to_string());
    let args = ["-v", &format!("{inner}:/a/b/c"), "-v", &format!("{outer}:/a"), "--tmpfs", "/a/b"];
    let text = env.sh_with(&args, "cat /a/file /a/b/c/file; ls /a/b");
    assert_eq!(text, "outer\ninner\nc\n");
    let hosts = format!("{inner}/file:/etc/hosts");
    let shm = format!("{outer}:/dev/shm");
    let text = env.sh_with(
        &["-v", &hosts, "-v", &shm],
        "cat /etc/hosts /dev/shm/file; grep -c ' /dev/shm ' /proc/mounts",
    );
    assert_eq!(text, "inner\nouter\n1\n");
    for place in ["/proc", "/proc/sys", "/sys/kernel"] {
        env.run(&["-v", &format!("{outer}:{place}"), "busybox", "true"]).fails(125, &[place]);
        env.run(&["-v", &format!("vol:{place}"), "busybox", "true"]).fails(125, &[place]);
    }
    // Nothing of the kernel's was copied into it.
    assert_eq!(names(&env.root().join("volumes/vol/_data")), Vec::<String>::new());
}

#[test]
fn a_subpath_stays_in_its_volume() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let canary = folder(&env, "canary");
    env.sh_with(
        &["-v", "vol:/v"],
        "mkdir -p /v/a/b /v/real; echo b >/v/a/b/x; echo r >/v/real/x; ln -s real /v/in",
    );
    let data = env.root().join("volumes/vol/_data");
    symlink(&canary, data.join("out")).unwrap();
    symlink("../../../..", data.join("up")).unwrap();
    let mount = |subpath: &str| format!("src=vol,dst=/s,volume-subpath={subpath}");
    assert_eq!(env.sh_with(&["--mount", &mount("a/b")], "cat /s/x"), "b\n");
    assert_eq!(env.sh_with(&["--mount", &mount("in")], "cat /s/x"), "r\n");
    for bad in ["out", "up", "nosuch", "a/b/x/y"] {
        env.run(&["--mount", &mount(bad), "busybox", "true"]).fails(125, &[bad]);
    }
    let shown =
        env.mydocker(["create", "--name", "c", "--mount", &mount("a/b"), "busybox", "true"]).ok();
    assert_eq!(shown.trim().len(), 64);
    let source = env.mydocker(["inspect", "-f", "{{json .Mounts}}", "c"]).ok();
    assert!(source.contains("_data/a/b\""), "{source}");
    // What is at the place when it is looked up counts, also for who only copies.
    env.mydocker(["cp", "c:/s/x", "-"]).run().success();
    fs::rename(data.join("a/b"), data.join("a/old")).unwrap();
    symlink(&canary, data.join("a/b")).unwrap();
    env.mydocker(["cp", "c:/s/file", "-"]).run().fails(1, &["a/b"]);
    env.mydocker(["start", "-a", "c"]).run().fails(125, &["a/b"]);
    env.mydocker(["rm", "c"]).ok();
}

#[test]
fn no_exchange_leads_a_subpath_out_of_its_volume() {
    require!(Root, Tool("python3"));
    // CVE-2021-25741: another container with the volume exchanges the folder for a link while it is looked up.
    let env = TestEnv::with_busybox();
    let canary = folder(&env, "canary");
    env.sh_with(&["-v", "vol:/v"], "mkdir /v/a; echo inside >/v/a/file");
    let data = env.root().join("volumes/vol/_data");
    symlink(&canary, data.join("link")).unwrap();
    let script = "import ctypes, sys\nc = ctypes.CDLL(None)\na, b = sys.argv[1].encode(), sys.argv[2].encode()\n\
        while True: c.renameat2(-100, a, -100, b, 2)";
    let racer = Cmd::new("python3").args(["-c", script]).arg(data.join("a")).arg(data.join("link"));
    let racer = racer.timeout(600).start();
    let mut seen = 0;
    for _ in 0..60 {
        let mount = ["--mount", "src=vol,dst=/s,volume-subpath=a"];
        let output = env.run(&[mount[0], mount[1], "busybox", "cat", "/s/file"]);
        match output.code() {
            Some(0) => {
                assert_eq!(output.stdout, "inside\n", "{}", output.report());
                seen += 1;
            }
            _ => drop(output.fails(125, &["/a`"])),
        }
    }
    drop(racer);
    assert!(seen > 0, "it was never there");
}
