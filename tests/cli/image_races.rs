//! Commands that meet each other on one image, and a store that nobody may write to.
//!
//! `MYDOCKER_TEST_RACES` is how many commands there are.

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::disk::SmallDisk;
use crate::support::command::Cmd;
use crate::support::env::{TestEnv, names, program};
use crate::support::fixtures;
use crate::support::registry::Registry;
use crate::support::require::Need::{Loop, Root, Tool};
use crate::support::wait_for;

#[test]
fn pull_rmi_prune_run_and_repair_of_one_image_at_once() {
    require!(Root, Tool("docker-registry"));
    let (env, registry) = (TestEnv::new(), Registry::start());
    let (one, same) = (registry.image("busybox"), registry.image("busybox:docker"));
    let wanted = std::env::var("MYDOCKER_TEST_RACES").ok().and_then(|text| text.parse().ok());
    let commands = AtomicU32::new(wanted.unwrap_or(150));
    let gone = ["no such image", "was removed by another command meanwhile"].as_slice();
    let lines: [(&[&str], &[&str]); 9] = [
        (&["pull", "-q", &one], &[]),
        (&["pull", "-q", &same], &[]),
        (&["run", "--rm", &one, "true"], gone),
        (&["run", "--rm", &same, "true"], gone),
        (&["rmi", &one], &["no such image", "in use"]),
        (&["rmi", &same], &["no such image", "in use"]),
        (&["prune", "-a", "-f"], &[]),
        (&["tag", &one, "again"], gone),
        (&["verify", "--deep"], &[]),
    ];
    let race = |seed: usize| {
        let (mut at, mut wrong) = (seed, Vec::new());
        let left = |n: u32| n.checked_sub(1);
        while commands.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left).is_ok() {
            // Each worker goes through them in an order of its own.
            at += [1, 2, 4, 5, 7][seed % 5];
            let (words, errors) = lines[at % lines.len()];
            let output = env.mydocker(words).run();
            // What is removed while it is looked at is missing, which is no damage.
            let looked = words[0] == "verify" && output.code() == Some(1);
            let fine = output.code() == Some(0)
                || errors.iter().any(|error| output.stderr.contains(error))
                || looked;
            if !fine {
                wrong.push(output.report());
            }
        }
        wrong
    };
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..5).map(|seed| scope.spawn(move || race(seed))).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    env.mydocker(["verify", "--deep"]).run().success().prints("");
    assert!(env.containers().is_empty() && env.running().is_empty());
    env.mydocker(["pull", "-q", &one]).ok();
    env.mydocker(["run", "--rm", &one, "true"]).ok();
    env.mydocker(["import", "-q"]).arg(fixtures::path("busybox.tar")).ok();
    env.assert_no_rubbish();
}

#[test]
fn a_layer_that_is_removed_before_it_is_opened_is_fetched() {
    require!(Root, Tool("docker-registry"), Tool("strace"));
    let (env, registry) = (TestEnv::new(), Registry::start());
    let image = registry.image("busybox");
    env.mydocker(["pull", "-q", &image]).ok();
    let layer = fixtures::layers("busybox", "latest").remove(0).replacen(':', "/", 1);
    // To the command it cannot be opened, and is gone from the first, second or third time on that it looks for it.
    for look in 1..4 {
        for folder in ["trees", "lists"] {
            for name in names(&env.root().join(folder)) {
                fs::remove_dir_all(env.root().join(folder).join(name)).unwrap();
            }
        }
        let mut cmd = Cmd::new("strace").args(["-f", "-o", "/dev/null", "-e", "trace=%file", "-P"]);
        cmd = cmd
            .arg(env.root().join("blobs").join(&layer))
            .args(["-e", "inject=openat:error=ENOENT"]);
        cmd = cmd.args(["-e", &format!("inject=statx:error=ENOENT:when={look}+")]).arg(program());
        cmd.args(["pull", "-q", &image]).env("MYDOCKER_ROOT", env.root()).ok();
        env.mydocker(["verify", "--deep"]).ok();
    }
}

#[test]
fn a_store_that_is_read_only_is_read_and_not_changed() {
    require!(Root, Loop, Tool("mke2fs"), Tool("docker-registry"));
    let (disk, registry) = (SmallDisk::new(16), Registry::start());
    let env = TestEnv::with_root(&disk.path().join("store"));
    let image = registry.image("layered");
    env.mydocker(["pull", "-q", &image]).ok();
    let id = env.json(&["images"])[0]["ID"].as_str().unwrap().to_owned();
    // A process that another test is about to start has, until then, the files that are open here.
    wait_for("a file system that nobody writes to", || {
        let remounted = Cmd::new("mount").args(["-o", "remount,ro"]).arg(disk.path()).run();
        (remounted.code() == Some(0)).then_some(())
    });
    let before = env.store();
    let archive = env.folder().join("archive.tar");
    for words in [
        &["images"][..],
        &["inspect", &id],
        &["history", &id],
        &["verify", "--deep"],
        &["df"],
        &["inventory"],
        &["ps", "-a"],
        &["save", "-o", archive.to_str().unwrap(), &id],
        // All of it is there.
        &["pull", "-q", &image],
        &["repair"],
    ] {
        env.mydocker(words).ok();
    }
    for words in [
        &["pull", "-q", &registry.image("busybox")][..],
        &["import", archive.to_str().unwrap(), "--name", "other"],
        &["tag", &id, "other"],
        &["rmi", &id],
        &["prune", "-a", "-f"],
        &["create", &id, "true"],
    ] {
        let output = env.mydocker(words).run();
        assert!(matches!(output.code(), Some(1 | 125)), "{}", output.report());
        assert!(output.stderr.contains("read-only file system"), "{}", output.report());
    }
    before.assert_same(&env.store());
}
