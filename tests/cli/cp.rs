//! `cp`: files between a container and the host.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use crate::support::command::Cmd;
use crate::support::env::{TestEnv, names};
use crate::support::fixtures;
use crate::support::require::Need::{Root, Tool};
use crate::support::user::{Allowed, User};
use crate::support::wait_for;

/// What lies on either side before a copy.
const FILES: &str = "mkdir -p w/dir/sub w/there && cd w && echo one >file && echo two >dir/two && \
    echo deep >dir/sub/deep && ln -s file link && ln -s dir dirlink && ln -s nowhere dangling && \
    echo old >other && ln -s other tofile && ln -s there tothere";

/// A container `box` in the given state, with those files in `/w`, and a folder `w` of the host's with the same.
fn sides(running: bool) -> TestEnv {
    let env = TestEnv::with_busybox();
    let script = format!("cd / && {FILES}; {}", if running { "exec sleep 1000" } else { "exit" });
    if running {
        env.mydocker(["run", "-d", "--name", "box", "busybox", "sh", "-c", &script]).ok();
        wait_for("the files", || {
            let look = env.mydocker(["exec", "box", "ls", "/w/tothere"]).run();
            (look.code() == Some(0)).then_some(())
        });
    } else {
        env.mydocker(["run", "--name", "box", "busybox", "sh", "-c", &script]).ok();
    }
    Cmd::new("sh").args(["-c", FILES]).current_dir(env.folder()).ok();
    env
}

/// Removes the container; nothing is left of what copies took.
fn end(env: &TestEnv) {
    env.mydocker(["rm", "-f", "box"]).ok();
    let left = names(&env.folder().join("run"));
    assert!(left.iter().all(|name| !name.starts_with(".ids")), "{left:?}");
}

/// Every path below a folder and what is in it, as a line.
const LIST: &str = "cd \"$1\" && find . | sort | while read -r p; do \
    if [ -L \"$p\" ]; then echo \"$p -> $(readlink \"$p\")\"; \
    elif [ -d \"$p\" ]; then echo \"$p/\"; else echo \"$p: $(cat \"$p\")\"; fi; done";

/// The lines that are new, or part of the error.
type Expected = Result<&'static [&'static str], &'static str>;

/// Source, destination, and what is new or other at the destination's side: or what the error says. `W` is the folder.
const RULES: &[(&str, &str, Expected)] = &[
    // A file to a file, to a folder, through links.
    ("W/file", "W/new", Ok(&["./new: one"])),
    ("W/file", "W/other", Ok(&["./other: one"])),
    ("W/file", "W/there", Ok(&["./there/file: one"])),
    ("W/file", "W/there/", Ok(&["./there/file: one"])),
    ("W/file", "W/there/.", Ok(&["./there/file: one"])),
    ("W/file", "W/tothere", Ok(&["./there/file: one"])),
    ("W/file", "W/tofile", Ok(&["./other: one"])),
    ("W/file", "W/dangling", Ok(&["./nowhere: one"])),
    ("W/file", "W/dir/../new", Ok(&["./new: one"])),
    ("W/file", "W/nosuch/", Err("no such directory")),
    ("W/file", "W/nosuch/new", Err("could not find")),
    ("W/file", "W/other/new", Err("not a directory")),
    ("W/file", "W/other/", Err("not a directory")),
    ("W/file/", "W/new", Err("not a directory")),
    ("W/nosuch", "W/new", Err("could not find the file")),
    // A folder to a name, into a folder, its content alone.
    ("W/dir", "W/new", Ok(&["./new/", "./new/sub/", "./new/sub/deep: deep", "./new/two: two"])),
    ("W/dir/", "W/new/", Ok(&["./new/", "./new/sub/", "./new/sub/deep: deep", "./new/two: two"])),
    (
        "W/dir",
        "W/there",
        Ok(&[
            "./there/dir/",
            "./there/dir/sub/",
            "./there/dir/sub/deep: deep",
            "./there/dir/two: two",
        ]),
    ),
    ("W/dir/.", "W/there", Ok(&["./there/sub/", "./there/sub/deep: deep", "./there/two: two"])),
    ("W/dir/.", "W/new", Ok(&["./new/", "./new/sub/", "./new/sub/deep: deep", "./new/two: two"])),
    ("W/dir", "W/other", Err("cannot copy a directory")),
    ("W/dir", "W/nosuch/new", Err("could not find")),
    // Links are copied as such, unless their end says that a folder is meant.
    ("W/link", "W/there", Ok(&["./there/link -> file"])),
    ("W/dangling", "W/there", Ok(&["./there/dangling -> nowhere"])),
    ("W/dirlink", "W/new", Ok(&["./new -> dir"])),
    (
        "W/dirlink/",
        "W/there",
        Ok(&[
            "./there/dirlink/",
            "./there/dirlink/sub/",
            "./there/dirlink/sub/deep: deep",
            "./there/dirlink/two: two",
        ]),
    ),
    ("W/dirlink/two", "W/new", Ok(&["./new: two"])),
    ("-L W/link", "W/there", Ok(&["./there/link: one"])),
    ("-L W/dangling", "W/there", Err("could not find")),
    (
        "-L W/dirlink",
        "W/new",
        Ok(&["./new/", "./new/sub/", "./new/sub/deep: deep", "./new/two: two"]),
    ),
];

/// Copies by every rule, and compares what has become of the destination's folder.
fn hold_the_rules(running: bool, inwards: bool) {
    require!(Root);
    let env = sides(running);
    let host = env.folder().join("w");
    let (inside, outside) = ("box:/w".to_owned(), host.to_str().unwrap().to_owned());
    let (from, to) = if inwards { (&outside, &inside) } else { (&inside, &outside) };
    let list = || -> Vec<String> {
        let listed = if !inwards {
            Cmd::new("sh").args(["-c", LIST, "sh", "w"]).current_dir(env.folder()).ok()
        } else if running {
            env.mydocker(["exec", "box", "sh", "-c", LIST, "sh", "/w"]).ok()
        } else {
            let copy = env.folder().join("seen");
            let _ = fs::remove_dir_all(&copy);
            env.mydocker(["cp", "box:/w"]).arg(&copy).ok();
            Cmd::new("sh").args(["-c", LIST, "sh", "seen"]).current_dir(env.folder()).ok()
        };
        listed.lines().map(str::to_owned).collect()
    };
    let before = list();
    // Puts the folder back as it was.
    let reset = "cd / && rm -rf w && ";
    for (source, destination, expected) in RULES {
        let source = source.replace('W', from);
        let destination = destination.replace('W', to);
        let shown = format!("cp {source} {destination}");
        let output = env.mydocker(["cp"]).args(source.split(' ')).arg(&destination).run();
        match expected {
            Ok(new) => {
                let output = output.success();
                assert_eq!((&*output.stdout, &*output.stderr), ("", ""), "{shown}");
                let after = list();
                let new: Vec<&str> = new.to_vec();
                let found: Vec<&str> =
                    after.iter().filter(|line| !before.contains(line)).map(|s| &**s).collect();
                assert_eq!(found, new, "{shown}");
            }
            Err(cause) => {
                let output = output.fails(1, &["cp ", cause]);
                assert_eq!(list(), before, "{shown}: {}", output.report());
                continue;
            }
        }
        if !inwards {
            fs::remove_dir_all(&host).unwrap();
            Cmd::new("sh").args(["-c", FILES]).current_dir(env.folder()).ok();
        } else if running {
            env.mydocker(["exec", "box", "sh", "-c", &format!("{reset}{FILES}")]).ok();
        } else {
            let script = format!("{reset}{FILES}");
            env.mydocker(["rm", "box"]).ok();
            env.mydocker(["run", "--name", "box", "busybox", "sh", "-c", &script]).ok();
        }
    }
    end(&env);
}

#[test]
fn the_rules_hold_out_of_a_running_container() {
    hold_the_rules(true, false);
}

#[test]
fn the_rules_hold_into_a_running_container() {
    hold_the_rules(true, true);
}

#[test]
fn the_rules_hold_out_of_a_stopped_container() {
    hold_the_rules(false, false);
}

#[test]
fn the_rules_hold_into_a_stopped_container() {
    hold_the_rules(false, true);
}

#[test]
fn what_a_command_line_can_mean() {
    require!(Root);
    let env = sides(false);
    let fails = |args: &[&str], causes: &[&str]| {
        drop(env.mydocker(["cp"]).args(args).run().fails(1, causes));
    };
    fails(&["w/file", "w/new"], &["neither", "container"]);
    fails(&["box:/w/file", "box:/w/new"], &["between containers is not supported"]);
    fails(&["nosuch:/w/file", "."], &["no such container: nosuch"]);
    fails(&["", "box:/w"], &["must not be empty"]);
    fails(&["-", "box:/w/file"], &["not a directory"]);
    fails(&["-", "box:/nosuch"], &["could not find"]);
    // A path of the host may have a colon, if it begins as a path.
    fs::write(env.folder().join("a:b"), "colon").unwrap();
    env.mydocker(["cp", "./a:b", "box:/w/"]).ok();
    env.mydocker(["cp", "box:w/a:b", "."]).ok();
    fails(&["a:b", "box:/w"], &["between containers"]);
    // A container that was never started, by the first digits of its id.
    let id = env.mydocker(["create", "busybox", "true"]).ok();
    let target = format!("{}:/new", &id[..8]);
    env.mydocker(["cp", "w/file", &target]).ok();
    env.mydocker(["start", &id[..8]]).ok();
    env.mydocker(["wait", &id[..8]]).ok();
    env.mydocker(["cp", "-q", &target, "got"]).ok();
    assert_eq!(fs::read_to_string(env.folder().join("got")).unwrap(), "one\n");
    env.mydocker(["rm", &id[..8]]).ok();
    end(&env);
}

#[test]
fn archives_on_standard_input_and_output() {
    require!(Root, Tool("tar"), Tool("xz"));
    for running in [true, false] {
        let env = sides(running);
        let listed = |path: &str| {
            let script = "\"$0\" cp \"$1\" - | tar t";
            let program = crate::support::env::program();
            let cmd = env.mydocker(["x"]).into_command();
            let mut sh = Cmd::new("sh").args(["-c", script]).arg(&program).arg(path);
            for (name, value) in cmd.get_envs() {
                sh = sh.env(name, value.unwrap());
            }
            sh.current_dir(env.folder()).ok()
        };
        assert_eq!(listed("box:/w/file"), "file\n");
        assert_eq!(listed("box:/w/dir"), "dir/\ndir/sub/\ndir/sub/deep\ndir/two\n");
        assert_eq!(listed("box:/w/dir/."), "./\nsub/\nsub/deep\ntwo\n");
        assert_eq!(listed("box:/w/link"), "link\n");
        Cmd::new("chown").args(["-R", "7:8", "w/dir"]).current_dir(env.folder()).ok();
        for packing in ["--xz", "--gzip", "--no-auto-compress"] {
            let packed =
                Cmd::new("tar").args(["-c", packing, "-f", "packed.tar", "dir/two", "link"]);
            packed.current_dir(env.folder().join("w")).ok();
            let archive = fs::read(env.folder().join("w/packed.tar")).unwrap();
            env.mydocker(["cp", "-", "box:/w/there"]).input(archive).run().success().prints("");
            let _ = fs::remove_dir_all(env.folder().join("back"));
            env.mydocker(["cp", "-a", "box:/w/there/.", "back"]).ok();
            let two = env.folder().join("back/dir/two");
            assert_eq!(fs::read_to_string(&two).unwrap(), "two\n");
            // The archive says who owns what.
            assert_eq!((two.metadata().unwrap().uid(), two.metadata().unwrap().gid()), (7, 8));
            assert!(env.folder().join("back/link").is_symlink());
        }
        let bad =
            env.mydocker(["cp", "-", "box:/w"]).input("no archive at all, and no end".repeat(99));
        bad.run().fails(1, &["cp -", "malformed tar"]);
        env.mydocker(["cp", "box:/w/nosuch", "-"]).run().fails(1, &["could not find"]);
        end(&env);
    }
}

#[test]
fn a_name_that_leads_out_of_the_folder_is_refused() {
    require!(Root, Tool("python3"));
    let env = sides(true);
    let script = "import io,sys,tarfile
tar = tarfile.open(fileobj=sys.stdout.buffer, mode='w|')
entry = tarfile.TarInfo('a/../../escaped')
entry.size = 1
tar.addfile(entry, io.BytesIO(b'x'))
tar.close()";
    let cmd = std::process::Command::new("python3").args(["-c", script]).output().unwrap();
    env.mydocker(["cp", "-", "box:/w"]).input(cmd.stdout).run().fails(1, &["leads out"]);
    env.mydocker(["exec", "box", "ls", "/escaped"]).run().exits(1);
    end(&env);
}

#[test]
fn owners_and_modes() {
    require!(Root);
    let env = sides(true);
    let made = "cd /w && chown 5:6 file && chmod 640 file && chown -R 5:6 dir && chmod 711 dir";
    env.mydocker(["exec", "box", "sh", "-c", made]).ok();
    let at = |name: &str| {
        let found = fs::symlink_metadata(env.folder().join(name)).unwrap();
        (found.uid(), found.gid(), found.mode() & 0o7777)
    };
    env.mydocker(["cp", "box:/w/file", "plain"]).ok();
    env.mydocker(["cp", "-a", "box:/w/file", "archived"]).ok();
    env.mydocker(["cp", "--archive", "box:/w/dir", "folder"]).ok();
    assert_eq!((at("plain"), at("archived")), ((0, 0, 0o640), (5, 6, 0o640)));
    assert_eq!((at("folder"), at("folder/two").0), ((5, 6, 0o711), 5));
    // Into the container: root's there, or who it was here.
    let file = env.folder().join("w/file");
    chown(&file, Some(1234), Some(1235)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o751)).unwrap();
    let seen = |name: &str| env.mydocker(["exec", "box", "stat", "-c", "%u:%g %a", name]).ok();
    env.mydocker(["cp", "w/file", "box:/w/plain"]).ok();
    env.mydocker(["cp", "-a", "w/file", "box:/w/archived"]).ok();
    assert_eq!(seen("/w/plain"), "0:0 751\n");
    assert_eq!(seen("/w/archived"), "1234:1235 751\n");
    // A folder that is there is as it was.
    env.mydocker(["exec", "box", "sh", "-c", "chmod 1777 /w/there && chown 9:9 /w/there"]).ok();
    env.mydocker(["cp", "w/dir/.", "box:/w/there"]).ok();
    assert_eq!(seen("/w/there"), "9:9 1777\n");
    // Times come along.
    let time = "touch -d @1000000000 /w/dir/two /w/dir";
    env.mydocker(["exec", "box", "sh", "-c", time]).ok();
    env.mydocker(["cp", "box:/w/dir", "timed"]).ok();
    for name in ["timed", "timed/two"] {
        assert_eq!(fs::metadata(env.folder().join(name)).unwrap().mtime(), 1_000_000_000);
    }
    end(&env);
}

#[test]
fn what_could_harm_the_host_stays_inside() {
    require!(Root, Tool("setfattr"));
    let env = sides(true);
    let made = "cd /w && cp /bin/busybox setid && chmod 6755 setid && mkfifo dir/fifo && \
        (nc -lU dir/socket >/dev/null 2>&1 & sleep 0.2); true";
    env.mydocker(["exec", "box", "sh", "-c", made]).ok();
    let inside = format!("/proc/{}/root/w/setid", env.wait_until_running("box"));
    Cmd::new("setfattr").args(["-n", "user.note", "-v", "x", &inside]).ok();
    env.mydocker(["cp", "-a", "box:/w/setid", "."]).ok();
    let attributes = Cmd::new("getfattr").args(["-d", "setid"]).current_dir(env.folder()).ok();
    assert_eq!(attributes, "");
    assert_eq!(fs::metadata(env.folder().join("setid")).unwrap().mode() & 0o7777, 0o755);
    // Nobody opens a pipe, and nobody waits for its other end.
    env.mydocker(["cp", "box:/w/dir", "out"]).ok();
    let kind = fs::symlink_metadata(env.folder().join("out/fifo")).unwrap().mode() & libc::S_IFMT;
    assert_eq!(kind, libc::S_IFIFO);
    env.mydocker(["cp", "w/file", "box:/w/dir/fifo"]).run().fails(1, &["named pipe"]);
    env.mydocker(["cp", "box:/dev/null", "device"]).run().fails(1, &["/dev/null", "device"]);
    assert!(!env.folder().join("device").exists());
    env.mydocker(["cp", "box:/dev", "devices"]).run().success().says("devices/null");
    assert!(!env.folder().join("devices/null").exists());
    // Files that the kernel makes up are none of the container's.
    for path in ["/proc/self/environ", "/proc/1/root/etc/passwd", "/sys/kernel", "/proc"] {
        let from = format!("box:{path}");
        env.mydocker(["cp", &from, "made-up"]).run().fails(1, &["cp box:"]);
        assert!(!env.folder().join("made-up").exists(), "{path}");
    }
    env.mydocker(["exec", "box", "ln", "-s", "/proc/self/root/etc", "/w/magic"]).ok();
    env.mydocker(["cp", "box:/w/magic/passwd", "made-up"]).run().fails(1, &["cp box:"]);
    env.mydocker(["cp", "-L", "box:/w/magic", "made-up"]).run().fails(1, &["cp box:"]);
    end(&env);
}

#[test]
fn mounts_of_a_running_container_are_included() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let shared = env.folder().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::write(shared.join("from-host"), "host").unwrap();
    let volume = format!("{}:/vol", shared.display());
    let script = "echo t >/mem/file; exec sleep 1000";
    env.mydocker(["run", "-d", "--name", "box", "-v", &volume, "--tmpfs", "/mem", "busybox"])
        .args(["sh", "-c", script])
        .ok();
    wait_for("the file", || {
        (env.mydocker(["exec", "box", "ls", "/mem/file"]).run().code() == Some(0)).then_some(())
    });
    env.mydocker(["cp", "box:/mem", "mem"]).ok();
    env.mydocker(["cp", "box:/vol/from-host", "mem/copy"]).ok();
    assert_eq!(fs::read_to_string(env.folder().join("mem/file")).unwrap(), "t\n");
    assert_eq!(fs::read_to_string(env.folder().join("mem/copy")).unwrap(), "host");
    env.mydocker(["cp", "mem/file", "box:/vol/new"]).ok();
    env.mydocker(["cp", "mem/copy", "box:/mem/new"]).ok();
    // Root inside is root in a folder of root's.
    assert_eq!(fs::metadata(shared.join("new")).unwrap().uid(), 0);
    env.mydocker(["exec", "box", "cat", "/mem/new"]).run().success().prints("host");
    // A file that something is mounted on is written to.
    env.mydocker(["cp", "mem/copy", "box:/etc/hosts"]).ok();
    env.mydocker(["exec", "box", "cat", "/etc/hosts"]).run().success().prints("host");
    // What hangs in a stopped container is there as well.
    env.mydocker(["stop", "-t", "0", "box"]).ok();
    env.mydocker(["cp", "mem/copy", "box:/vol/later"]).ok();
    assert_eq!(fs::read_to_string(shared.join("later")).unwrap(), "host");
    end(&env);
}

#[test]
fn named_volumes_are_included() {
    require!(Root);
    let env = TestEnv::with_busybox();
    fs::write(env.folder().join("file"), "x").unwrap();
    for options in [&["--userns", "private"][..], &["--userns", "host"]] {
        let create = env.mydocker(["create", "--name", "box", "-v", "data:/data"]).args(options);
        create.args(["busybox", "cat", "/data/file"]).ok();
        env.mydocker(["cp", "file", "box:/data/"]).ok();
        env.mydocker(["start", "-a", "box"]).run().success().prints("x");
        env.mydocker(["cp", "box:/data/file", "back"]).ok();
        assert_eq!(fs::read_to_string(env.folder().join("back")).unwrap(), "x");
        env.mydocker(["run", "--rm", "-v", "data:/v", "busybox", "stat", "-c", "%u", "/v/file"])
            .run()
            .success()
            .prints("0\n");
        env.mydocker(["rm", "box"]).ok();
        env.mydocker(["volume", "rm", "data"]).ok();
    }
}

#[test]
fn of_a_container_with_anothers_users_too() {
    require!(Root);
    let env = TestEnv::with_busybox();
    fs::write(env.folder().join("file"), "x").unwrap();
    env.mydocker(["run", "-d", "--name", "other", "busybox", "sleep", "1000"]).ok();
    let create = env.mydocker(["create", "--name", "box", "--network", "container:other"]);
    create.args(["busybox", "stat", "-c", "%u", "/file"]).ok();
    env.mydocker(["cp", "file", "box:/file"]).ok();
    env.mydocker(["start", "-a", "box"]).run().success().prints("0\n");
    env.mydocker(["cp", "box:/file", "back"]).ok();
    env.mydocker(["rm", "-f", "other", "box"]).ok();
}

#[test]
fn read_only_means_read_only() {
    require!(Root);
    let env = TestEnv::with_busybox();
    fs::write(env.folder().join("file"), "x").unwrap();
    let run = ["run", "-d", "--name", "box", "--read-only", "--tmpfs", "/mem", "busybox"];
    env.mydocker(run).args(["sleep", "1000"]).ok();
    env.mydocker(["cp", "file", "box:/etc/"]).run().fails(1, &["read-only file system"]);
    env.mydocker(["cp", "file", "box:/mem/"]).ok();
    env.mydocker(["cp", "box:/etc/passwd", "out"]).ok();
    env.mydocker(["stop", "-t", "0", "box"]).ok();
    env.mydocker(["cp", "file", "box:/etc/"]).run().fails(1, &["read-only file system"]);
    assert!(!env.rootfs("busybox").join("etc/file").exists());
    end(&env);
}

#[test]
fn a_running_container_stands_still_meanwhile() {
    require!(Root);
    let env = TestEnv::with_busybox();
    // Two files at the ends of many always have the same number, or the first is one ahead.
    let script = "mkdir /w; cd /w; for n in $(seq 300); do head -c 20000 /dev/zero >m$n; done
        i=0; while :; do i=$((i+1)); echo $i >a.new; mv a.new a; echo $i >z.new; mv z.new z; done";
    env.mydocker(["run", "-d", "--name", "box", "busybox", "sh", "-c", script]).ok();
    wait_for("the numbers", || {
        (env.mydocker(["exec", "box", "ls", "/w/z"]).run().code() == Some(0)).then_some(())
    });
    for round in 0..5 {
        let out = env.folder().join(format!("out{round}"));
        env.mydocker(["cp", "box:/w"]).arg(&out).ok();
        let number = |name: &str| -> u64 {
            fs::read_to_string(out.join(name)).unwrap().trim().parse().unwrap()
        };
        let ahead = number("a").checked_sub(number("z"));
        assert!(matches!(ahead, Some(0 | 1)), "round {round}: {ahead:?}");
    }
    assert_eq!(env.json(&["ps"])[0]["State"], "running");
    env.mydocker(["pause", "box"]).ok();
    env.mydocker(["cp", "box:/w/a", "."]).ok();
    assert_eq!(env.json(&["ps"])[0]["State"], "paused");
    end(&env);
}

#[test]
fn a_stopped_container_is_not_started_while_it_is_copied() {
    require!(Root);
    let env = sides(false);
    fs::write(env.folder().join("w/packed"), "x").unwrap();
    let tar = Cmd::new("tar").args(["-c", "packed", "-f", "archive.tar"]);
    tar.current_dir(env.folder().join("w")).ok();
    let (read, mut write) = std::io::pipe().unwrap();
    let mut command = env.mydocker(["cp", "-", "box:/w"]).into_command();
    command.stdin(read);
    let mut child = command.spawn().unwrap();
    drop(command);
    // It has the container's mounts by now, or will in a moment; then `start` waits for its end.
    wait_for("the copying process's mounts", || {
        let runs = names(&env.folder().join("run/.ids"));
        (!runs.is_empty()).then_some(())
    });
    let mut start = env.mydocker(["start", "box"]).start();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(!start.has_ended());
    let archive = fs::read(env.folder().join("w/archive.tar")).unwrap();
    std::io::Write::write_all(&mut write, &archive).unwrap();
    drop(write);
    assert!(child.wait().unwrap().success());
    start.finish().success();
    env.mydocker(["wait", "box"]).ok();
    env.mydocker(["cp", "box:/w/packed", "."]).ok();
    end(&env);
}

#[test]
fn an_ordinary_user_copies_too() {
    require!(Root, Tool("setpriv"), Tool("newuidmap"));
    let env = TestEnv::new();
    let user = User::new(&env, Allowed::ManyIds);
    user.mydocker(["import", "-q"]).arg(fixtures::path("busybox.tar")).ok();
    let home = user.root().parent().unwrap().to_owned();
    user.mydocker(["run", "-d", "--name", "box", "busybox", "sleep", "1000"]).ok();
    for state in ["running", "stopped"] {
        fs::write(home.join("file"), state).unwrap();
        chown(home.join("file"), Some(65_534), Some(65_534)).unwrap();
        user.mydocker(["cp", "file", "box:/tmp/in"]).ok();
        user.mydocker(["cp", "box:/tmp/in", state]).ok();
        let copy = fs::metadata(home.join(state)).unwrap();
        assert_eq!(copy.uid(), 65_534, "{state}");
        assert_eq!(fs::read_to_string(home.join(state)).unwrap(), state);
        user.mydocker(["stop", "-t", "0", "box"]).ok();
    }
    user.mydocker(["rm", "box"]).ok();
}

/// A secret of the host's, and its path, which the container also has, with another content.
fn canary(env: &TestEnv) -> (std::path::PathBuf, String) {
    let folder = env.folder().join("canary");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("file"), "the host's secret\n").unwrap();
    let path = folder.to_str().unwrap().to_owned();
    (folder, path)
}

fn assert_unharmed(canary: &Path) {
    assert_eq!(names(canary), ["file"]);
    assert_eq!(fs::read_to_string(canary.join("file")).unwrap(), "the host's secret\n");
}

/// CVE-2018-15664, CVE-2019-10152, CVE-2019-18466, CVE-2021-41089: a path whose parts change between folder and link while
/// it is used.
#[test]
fn a_path_that_turns_into_a_link_leads_nowhere_else() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let (folder, path) = canary(&env);
    let script = format!(
        "mkdir -p /w/real '{path}'; echo inside >'{path}/file'; echo inside >/w/real/file
        mv /w/real /w/x; while :; do
            mv /w/x /w/y; ln -s '{path}' /w/x; rm /w/x; ln -s ../../../../../..{path} /w/x; rm /w/x; mv /w/y /w/x
        done"
    );
    env.mydocker(["run", "-d", "--name", "box", "busybox", "sh", "-c", &script]).ok();
    fs::write(env.folder().join("new"), "new").unwrap();
    let archive = Cmd::new("tar").args(["-cf", "new.tar", "new"]).current_dir(env.folder());
    archive.ok();
    let archive = fs::read(env.folder().join("new.tar")).unwrap();
    let (mut out, mut into) = (0, 0);
    for _ in 0..40 {
        // Streams, for which the container runs on.
        let read = env.mydocker(["cp", "box:/w/x/file", "-"]).run();
        assert!(!read.stdout.contains("secret"), "{}", read.report());
        out += usize::from(read.code() == Some(0));
        let wrote = env.mydocker(["cp", "-", "box:/w/x"]).input(archive.clone()).run();
        into += usize::from(wrote.code() == Some(0));
        // And frozen at any moment.
        let _ = fs::remove_file(env.folder().join("got"));
        let read = env.mydocker(["cp", "-L", "box:/w/x/file", "got"]).run();
        if read.code() == Some(0) {
            assert_eq!(fs::read_to_string(env.folder().join("got")).unwrap(), "inside\n");
        }
        env.mydocker(["cp", "new", "box:/w/x/"]).run();
        assert_unharmed(&folder);
    }
    assert!(out > 0 && into > 0, "read {out} times, written {into} times");
    end(&env);
}

/// Links that lie there, absolute, relative, in the middle, at the end, behind a slash.
#[test]
fn links_out_of_the_container_lead_into_it() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let (folder, path) = canary(&env);
    let script = format!(
        "mkdir -p /w; ln -s '{path}' /w/abs; ln -s ../../../../..{path} /w/rel; ln -s '{path}/file' /w/file
        ln -s '{path}/nosuch' /w/new; ln -s / /w/root; mkdir /w/dir; ln -s '{path}' /w/dir/sub"
    );
    env.mydocker(["run", "--name", "box", "busybox", "sh", "-c", &script]).ok();
    fs::write(env.folder().join("plain"), "plain").unwrap();
    for (from, is_there) in [
        ("abs/", false),
        ("rel/", false),
        ("abs/file", false),
        ("-L file", false),
        ("root/.", true),
    ] {
        let (option, from) = from.split_once(' ').unwrap_or(("-q", from));
        let from = format!("box:/w/{from}");
        let _ = fs::remove_dir_all(env.folder().join("out"));
        fs::create_dir(env.folder().join("out")).unwrap();
        let output = env.mydocker(["cp", option, &from, "out"]).run();
        assert_eq!(output.code() == Some(0), is_there, "{}", output.report());
    }
    assert!(env.folder().join("out/bin/busybox").exists());
    for to in ["abs", "abs/", "rel/x", "file", "new", "dir/sub/x"] {
        let to = format!("box:/w/{to}");
        env.mydocker(["cp", "plain", &to]).run();
        assert_unharmed(&folder);
    }
    end(&env);
}

/// A copy onto the host follows no link that lies in its way, whoever put it there.
#[test]
fn links_on_the_host_below_the_destination_are_not_followed() {
    require!(Root);
    let env = sides(true);
    let (folder, _) = canary(&env);
    let out = env.folder().join("out");
    fs::create_dir_all(out.join("dir")).unwrap();
    symlink(&folder, out.join("dir/sub")).unwrap();
    let output = env.mydocker(["cp", "box:/w/dir", "out"]).run();
    output.fails(1, &["cannot overwrite non-directory with directory"]);
    assert_unharmed(&folder);
    // A link in the place of a file is replaced.
    fs::remove_dir_all(&out).unwrap();
    fs::create_dir_all(out.join("dir")).unwrap();
    symlink(folder.join("file"), out.join("dir/two")).unwrap();
    env.mydocker(["cp", "box:/w/dir", "out"]).ok();
    assert_unharmed(&folder);
    assert_eq!(fs::read_to_string(out.join("dir/two")).unwrap(), "two\n");
    // Neither does a file take the place of a folder, nor a folder that of a file.
    fs::remove_file(out.join("dir/two")).unwrap();
    fs::create_dir(out.join("dir/two")).unwrap();
    let output = env.mydocker(["cp", "box:/w/dir", "out"]).run();
    output.fails(1, &["cannot overwrite directory with non-directory"]);
    end(&env);
}

/// CVE-2019-14271: what a container has is never executed or loaded for a copy.
#[test]
fn nothing_of_the_container_is_executed() {
    require!(Root, Tool("strace"));
    let env = sides(true);
    let hostile = "cd / && for f in bin/tar bin/gzip bin/cp lib/libnss_files.so.2 lib/libc.so.6 etc/ld.so.preload; do
        mkdir -p ${f%/*}; rm -f $f; printf '#!/bin/sh\\ntouch /executed\\n' >$f; chmod 755 $f; done";
    env.mydocker(["exec", "box", "sh", "-c", hostile]).ok();
    let cmd = env.mydocker(["x"]).into_command();
    let trace = env.folder().join("trace");
    for args in [["box:/w/dir", "out"], ["w/dir", "box:/w/new"]] {
        let mut strace =
            Cmd::new("strace").args(["-f", "-e", "trace=execve,execveat,mmap", "-y", "-o"]);
        strace = strace.arg(&trace).arg(crate::support::env::program()).arg("cp").args(args);
        for (name, value) in cmd.get_envs() {
            strace = strace.env(name, value.unwrap());
        }
        strace.current_dir(env.folder()).ok();
        let trace = fs::read_to_string(&trace).unwrap();
        let program = crate::support::env::program();
        for line in trace.lines().filter(|line| line.contains("exec") || line.contains("PROT_EXEC"))
        {
            let own = line.contains(program.to_str().unwrap())
                || line.contains("/proc/self/exe")
                || line.contains("MAP_ANONYMOUS")
                || line.contains("+++")
                || line.contains("memfd");
            assert!(own, "{line}");
        }
    }
    env.mydocker(["exec", "box", "ls", "/executed"]).run().exits(1);
    end(&env);
}
