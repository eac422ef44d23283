//! What is left when a command is killed, and when the disk is full.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::disk::SmallDisk;
use crate::support::command::Cmd;
use crate::support::env::{self, TestEnv};
use crate::support::registry::Registry;
use crate::support::require::Need::{Loop, Root, Tool};
use crate::support::{fixtures, tree};

/// How many moments of a pull are tried.
const MOMENTS: u32 = 20;

#[test]
fn a_killed_pull_leaves_a_store_in_which_the_next_one_succeeds() {
    require!(Root, Tool("docker-registry"));
    let registry = Registry::start();
    let name = registry.image("layered");
    let whole = TestEnv::new();
    let started = Instant::now();
    whole.mydocker(["pull", &name]).ok();
    let usual = started.elapsed();
    let wanted = tree::read(&whole.rootfs(&name).canonicalize().unwrap());

    for moment in 0..MOMENTS {
        let env = TestEnv::new();
        let pull = env.mydocker(["pull", &name]).start();
        std::thread::sleep(usual * moment / MOMENTS + Duration::from_millis(1));
        pull.signal(Signal::SIGKILL);
        drop(pull);
        // What has a name is whole; mostly nothing has one.
        if env.rootfs(&name).exists() {
            tree::read(&env.rootfs(&name).canonicalize().unwrap()).assert_same(&wanted);
        }
        for image in
            if env.root().join("index.json").exists() { env.json(&["images"]) } else { Vec::new() }
        {
            env.mydocker(["run", "--rm", image["ID"].as_str().unwrap(), "/no/such/program"])
                .run()
                .exits(127);
        }
        env.mydocker(["pull", &name]).ok();
        tree::read(&env.rootfs(&name).canonicalize().unwrap()).assert_same(&wanted);
        // If all was there already, that pull wrote nothing; the next who writes sweeps.
        env.mydocker(["import", "--quiet"]).arg(fixtures::path("busybox.tar")).ok();
        env.assert_no_rubbish();
    }
}

#[test]
fn a_killed_import_leaves_a_store_in_which_the_next_one_succeeds() {
    require!(Root);
    let env = TestEnv::new();
    for moment in 0..MOMENTS {
        let import =
            env.mydocker(["import", "--name", "layered"]).arg(fixtures::path("layered")).start();
        std::thread::sleep(Duration::from_millis(u64::from(moment) * 5));
        import.signal(Signal::SIGKILL);
        drop(import);
    }
    env.mydocker(["import", "--name", "layered"]).arg(fixtures::path("layered")).ok();
    env.assert_no_rubbish();
    assert!(env.rootfs("layered").join("etc/last").is_file());
}

#[test]
fn the_work_of_a_pull_under_way_is_not_swept() {
    require!(Root, Tool("docker-registry"));
    let (env, registry) = (TestEnv::new(), Registry::start());
    let slow = env.mydocker(["pull", &registry.image("layered")]).start();
    // While it works, others come and go, each of which sweeps.
    let mut others = 0;
    let mut slow = slow;
    while !slow.has_ended() {
        env.mydocker(["pull", &registry.image(&format!("variants:v{}", others % 8 + 1))]).ok();
        others += 1;
    }
    slow.finish().success();
    env.assert_no_rubbish();
}

#[test]
fn a_terminated_pull_cleans_up_or_leaves_it_to_the_next() {
    require!(Root, Tool("docker-registry"));
    let (env, registry) = (TestEnv::new(), Registry::start());
    let pull = env.mydocker(["pull", &registry.image("layered")]).start();
    std::thread::sleep(Duration::from_millis(30));
    pull.signal(Signal::SIGINT);
    let code = pull.finish().code();
    assert!(matches!(code, None | Some(0 | 130)), "{code:?}");
    env.mydocker(["pull", &registry.image("layered")]).ok();
    env.assert_no_rubbish();
}

#[test]
fn a_full_disk_is_an_error_that_says_so() {
    require!(Root, Loop, Tool("docker-registry"), Tool("mke2fs"));
    let (disk, registry) = (SmallDisk::new(8), Registry::start());
    let env = TestEnv::with_root(&disk.path().join("store"));
    env.mydocker(["import", "--quiet"]).arg(fixtures::path("busybox.tar")).ok();
    let before = env.store();
    // Two megabytes that do not compress, packed and unpacked, do not fit beside busybox.
    let output = env.mydocker(["pull", &registry.image("variants:v1")]).run();
    output.fails(125, &["no space left on device", "hint:"]);
    env.store().assert_same(&before);
    env.assert_no_rubbish();
    // What was there still works.
    env.run(&["busybox", "true"]).success();
}

#[test]
fn a_full_disk_while_importing() {
    require!(Root, Loop, Tool("mke2fs"));
    let disk = SmallDisk::new(3);
    let env = TestEnv::with_root(&disk.path().join("store"));
    let output = env.mydocker(["import"]).arg(fixtures::path("busybox.tar")).run();
    output.fails(125, &["no space left on device"]);
    assert_eq!(env::names(&env.root().join("trees")), Vec::<String>::new());
    env.assert_no_rubbish();
}

#[test]
fn what_makes_room_works_on_a_full_disk() {
    require!(Root, Loop, Tool("mke2fs"));
    let disk = SmallDisk::new(16);
    let env = TestEnv::with_root(&disk.path().join("store"));
    let import = |name: &str, image: &str| {
        env.mydocker(["import", "--quiet", "--name", name]).arg(fixtures::path(image)).ok();
    };
    import("layered", "layered");
    import("busybox", "busybox.tar");
    let container = env.mydocker(["create", "busybox", "true"]).ok();
    let full = |command: &[&str]| {
        let filling = disk.path().join("filling");
        let filled =
            Cmd::new("dd").arg("if=/dev/zero").arg(format!("of={}", filling.display())).run();
        assert!(filled.stderr.contains("No space left"), "{filled:?}");
        let (_, trees) = (env.mydocker(command).ok(), env.root().join("trees"));
        std::fs::remove_file(&filling).unwrap();
        env.mydocker(["verify", "--deep"]).ok();
        env.assert_no_rubbish();
        env::names(&trees).len()
    };
    assert_eq!(full(&["rmi", "layered"]), 1);
    assert_eq!(full(&["rm", container.trim()]), 1);
    assert_eq!(full(&["image", "prune", "--all", "--force"]), 0);
    import("busybox", "busybox.tar");
    assert_eq!(full(&["prune", "--all", "--force"]), 0);
}
