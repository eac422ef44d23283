//! Commands that meet each other on a few containers: whatever the order, nothing hangs, nothing is left, and no command
//! ends in another error than its documentation says.
//!
//! `MYDOCKER_TEST_RACES` is how many commands there are, `MYDOCKER_TEST_SEED` what they are.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::support::env::{TestEnv, names};
use crate::support::require::Need::Root;
use crate::support::wait_for;

const NAMES: [&str; 4] = ["web", "log", "mix", "own"];
const WORKERS: u32 = 6;

/// Numbers that are the same for the same seed: those of `xorshift32`.
struct Random(u32);

impl Random {
    fn below(&mut self, most: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0 % most
    }

    fn of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(u32::try_from(words.len()).unwrap()) as usize]
    }
}

fn number(name: &str) -> Option<u32> {
    std::env::var(name).ok()?.parse().ok()
}

/// The next command, and the errors that it may end in, beside success.
fn command(random: &mut Random) -> (Vec<String>, &'static [&'static str]) {
    const GONE: &str = "no such container";
    let name = random.of(&NAMES);
    // Some end by themselves, some are started again, some go when they end.
    let script = random.of(&["exec sleep 1000", "sleep 0.05; exit 3", "exit 0"]);
    let kind = random.of(&["--restart=no", "--restart=on-failure:2", "--restart=always", "--rm"]);
    let run = ["run", "-d", "--stop-signal", "KILL", "--name", name, kind];
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    match random.below(20) {
        0..6 => {
            // One that is removed before it was started is none that could be; `rm` of another command is not refused.
            let line = [&run[..], &["busybox", "sh", "-c", script]].concat();
            (words(&line), &["is in use by container", GONE])
        }
        6 | 7 => (words(&["rm", name]), &[GONE, "is running"]),
        8..10 => (words(&["rm", "-f", name]), &[GONE]),
        10 | 11 => (words(&["stop", "-t", "0", name]), &[GONE]),
        12 => (words(&["kill", name]), &[GONE, "is not running", "no such process"]),
        13 | 14 => (words(&["restart", "-t", "0", name]), &[GONE, "is paused"]),
        15 => (words(&["start", name]), &[GONE, "is paused"]),
        16 | 17 => {
            let running = &[GONE, "is not running", "is paused"];
            (words(&["exec", name, "true"]), running)
        }
        18 => (words(&["pause", name]), &[GONE, "is not running", "is paused", "no such"]),
        _ => (words(&["unpause", name]), &[GONE, "is not paused", "no such"]),
    }
}

fn race(env: &TestEnv, seed: u32, commands: &AtomicU32) -> Vec<String> {
    let (mut random, mut wrong) = (Random(seed), Vec::new());
    while commands.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok()
    {
        let (words, errors) = command(&mut random);
        // A command that hangs is killed, and fails the test.
        let output = env.mydocker(&words).run();
        let said = output.stderr.to_lowercase();
        let fine = output.code() == Some(0)
            || errors.iter().any(|error| said.contains(error))
            // Killed with its container, or by `exec`'s program's being killed.
            || (words[0] == "exec" && output.code() == Some(137) && said.is_empty());
        if !fine {
            wrong.push(format!("{words:?}\n{}", output.report()));
        }
    }
    wrong
}

#[test]
fn commands_that_meet_each_other() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let commands = AtomicU32::new(number("MYDOCKER_TEST_RACES").unwrap_or(300));
    let seed = number("MYDOCKER_TEST_SEED").unwrap_or(20_261_124);
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let race = |worker: u32| race(&env, seed.wrapping_mul(worker + 1) | 1, &commands);
        let workers: Vec<_> =
            (0..WORKERS).map(|worker| scope.spawn(move || race(worker))).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "seed {seed}: {}\n{}", wrong.len(), wrong.join("\n"));
    let ids = env.containers();
    if !ids.is_empty() {
        env.mydocker(["rm", "-f"]).args(&ids).ok();
    }
    assert_nothing_left(&env, &ids);
}

/// Asserts that no container of the store is left, nor anything of one.
#[track_caller]
pub fn assert_nothing_left(env: &TestEnv, ids: &[String]) {
    assert_eq!(env.containers(), Vec::<String>::new());
    wait_for("no monitor", || env.monitors().is_empty().then_some(()));
    let run = env.folder().join("run");
    wait_for("an empty run folder", || names(&run).is_empty().then_some(()));
    assert_eq!(names(&env.root().join("containers/.names")), Vec::<String>::new());
    assert_eq!(names(&env.root().join("containers/tmp")), Vec::<String>::new());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let own = env.folder().to_string_lossy().into_owned();
    assert!(!mounts.contains(&own), "{mounts}");
    let groups = crate::support::env::groups();
    let left: Vec<_> =
        groups.iter().filter(|group| ids.iter().any(|id| group.ends_with(id))).collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(env.processes(), Vec::<i32>::new());
}
