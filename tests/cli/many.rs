//! Many containers at once, and what is left of them: nothing.

use crate::races::assert_nothing_left;
use crate::support::env::{TestEnv, groups, lives, private_memory};
use crate::support::require::Need::Root;

#[test]
fn a_test_that_ends_early_leaves_nothing_that_runs() {
    require!(Root);
    let env = TestEnv::with_busybox();
    env.mydocker(["run", "-d", "--name", "web", "busybox", "sleep", "1000"]).ok();
    let processes = [env.wait_until_running("web"), env.monitors()[0]];
    drop(env);
    for pid in processes {
        assert!(!lives(pid), "{pid}");
    }
}

#[test]
fn two_hundred_containers_are_small_and_leave_nothing() {
    require!(Root);
    const COUNT: usize = 200;
    const AT_A_TIME: usize = 8;
    let env = TestEnv::with_busybox();
    let ids: Vec<String> = std::thread::scope(|scope| {
        let start = |_| {
            let start = || env.mydocker(["run", "-d", "busybox", "sleep", "1000"]).ok();
            let ids = (0..COUNT / AT_A_TIME).map(|_| start().trim().to_owned());
            ids.collect::<Vec<_>>()
        };
        let workers: Vec<_> = (0..AT_A_TIME).map(|n| scope.spawn(move || start(n))).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    assert_eq!(env.mydocker(["ps", "-q"]).ok().lines().count(), COUNT);
    let monitors = env.monitors();
    assert_eq!(monitors.len(), COUNT);
    for pid in &monitors {
        let private = private_memory(*pid);
        assert!(private < 1024, "{private} kB");
    }
    let most = groups().iter().filter(|group| ids.iter().any(|id| group.ends_with(id))).count();
    assert!(most >= COUNT, "{most} groups, by which it is known that they would be found");
    let removed = env.mydocker(["rm", "-f"]).args(&ids).timeout(120).ok();
    assert_eq!(removed.lines().count(), COUNT);
    assert_nothing_left(&env, &ids);
    assert!(!monitors.iter().any(|pid| lives(*pid)));
}

#[test]
fn all_containers_can_be_stopped_and_started() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let ids: Vec<String> = ["a", "b", "c"]
        .iter()
        .map(|name| {
            let cmd = env.mydocker(["create", "--stop-signal", "KILL", "--name", name]);
            cmd.args(["busybox", "sleep", "1000"]).ok().trim().to_owned()
        })
        .collect();
    env.mydocker(["start", "a"]).ok();
    let others = format!("{}\n{}\n", ids[1], ids[2]);
    assert_eq!(env.mydocker(["start", "--all"]).ok(), others, "those that did not run, in order");
    assert_eq!(env.running().len(), 3);
    assert_eq!(env.mydocker(["stop", "--all"]).ok(), format!("{}\n{others}", ids[0]));
    assert_eq!(env.mydocker(["stop", "--all"]).ok(), "");
    env.mydocker(["start", "--all", "a"]).run().fails(125, &["--all"]);
    env.mydocker(["rm"]).args(&ids).ok();
}
