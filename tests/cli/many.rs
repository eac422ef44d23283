//! Many containers at once, and what is left of them: nothing.

use crate::support::env::{TestEnv, lives};
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
