//! Downloads that are broken off, and the next process that takes them up.

use nix::sys::signal::Signal;
use sha2::{Digest as _, Sha256};

use crate::fake_registry::{FakeRegistry, Fault};
use crate::made::{noise, serve_image, tar_of};
use crate::support::command::Cmd;
use crate::support::env::TestEnv;

use crate::support::pty::Pty;
use crate::support::require::Need::Root;
use crate::support::wait_for;

const SIZE: usize = 4 << 20;

/// Waits until so many bytes have come of the only blob that is on its way.
fn wait_for_bytes(env: &TestEnv, bytes: u64) {
    wait_for("a partial blob", || {
        let name = env.partial_blobs().pop()?;
        let found = std::fs::metadata(env.root().join("partial").join(name)).ok()?;
        (found.len() >= bytes).then_some(())
    });
}

fn ranges(fake: &FakeRegistry) -> Vec<String> {
    let log = fake.log();
    log.iter().filter_map(|request| request.header("range").map(str::to_owned)).collect()
}

fn assert_blobs_are_right(env: &TestEnv) {
    for name in crate::support::env::names(&env.root().join("blobs/sha256")) {
        let bytes = std::fs::read(env.root().join("blobs/sha256").join(&name)).unwrap();
        let hex: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, name);
    }
}

/// A registry with `app:v1`, whose one layer of noise stops coming after half.
fn stalling() -> (FakeRegistry, String) {
    let fake = FakeRegistry::start();
    let layer = tar_of(&[("noise", &noise(SIZE))]);
    let layers = serve_image(&fake, "app", "v1", &[layer]);
    fake.fault(&layers[0], 1, Fault::Stall(SIZE / 2));
    let name = format!("{}/app:v1", fake.host());
    (fake, name)
}

fn pull(env: &TestEnv, name: &str) -> Cmd {
    env.mydocker(["--no-sync", "pull", name])
}

#[test]
fn a_killed_pull_is_taken_up_where_it_stopped() {
    require!(Root);
    for signal in [Signal::SIGKILL, Signal::SIGINT, Signal::SIGTERM] {
        let env = TestEnv::new();
        let (fake, name) = stalling();
        let first = pull(&env, &name).start();
        wait_for_bytes(&env, SIZE as u64 / 2);
        first.signal(signal);
        assert_ne!(first.finish().code(), Some(0));
        assert!(env.json(&["images"]).is_empty(), "it is not mistaken for an image");
        pull(&env, &name).ok();
        assert_eq!(ranges(&fake), [format!("bytes={}-", SIZE / 2)], "{signal}");
        assert_blobs_are_right(&env);
        env.assert_no_rubbish();
        assert_eq!(std::fs::read(env.rootfs(&name).join("noise")).unwrap(), noise(SIZE));
    }
}

#[test]
fn a_pull_that_fails_leaves_what_it_has_to_the_next() {
    require!(Root);
    let (env, fake) = (TestEnv::new(), FakeRegistry::start());
    let contents: Vec<Vec<u8>> = (1..4).map(|n| noise(SIZE + n)).collect();
    let tars: Vec<_> = contents.iter().map(|bytes| tar_of(&[("noise", bytes)])).collect();
    let layers = serve_image(&fake, "app", "v1", &tars);
    let name = format!("{}/app:v1", fake.host());
    // The last stops half way, for good.
    fake.fault(&layers[2], 1, Fault::Truncate(SIZE / 2));
    fake.fault(&layers[2], 1, Fault::error(403, "DENIED"));
    pull(&env, &name).run().fails(125, &["denied"]);
    assert_eq!(env.partial_blobs().len(), 3);
    let before = fake.log().len();
    pull(&env, &name).ok();
    let log = fake.log().split_off(before);
    let fetched: Vec<_> =
        log.iter().filter(|r| layers.iter().any(|l| r.path.contains(l))).collect();
    assert_eq!(fetched.len(), 1, "what had come is not fetched again: {fetched:?}");
    assert_eq!(fetched[0].header("range"), Some(&*format!("bytes={}-", SIZE / 2)));
    assert_blobs_are_right(&env);
    env.assert_no_rubbish();
}

#[test]
fn what_an_earlier_process_left_is_not_believed() {
    require!(Root);
    let env = TestEnv::new();
    let (fake, name) = stalling();
    let first = pull(&env, &name).start();
    wait_for_bytes(&env, SIZE as u64 / 2);
    first.signal(Signal::SIGKILL);
    drop(first);
    let partial = env.root().join("partial").join(env.partial_blobs().pop().unwrap());
    let mut bytes = std::fs::read(&partial).unwrap();
    bytes[SIZE / 4] ^= 1;
    std::fs::write(&partial, bytes).unwrap();
    pull(&env, &name).ok();
    let layer = fake.log().iter().filter(|request| request.header("range").is_some()).count();
    assert_eq!(layer, 1, "taken up once, then fetched anew");
    assert_blobs_are_right(&env);
    env.assert_no_rubbish();
    assert_eq!(std::fs::read(env.rootfs(&name).join("noise")).unwrap(), noise(SIZE));
}

#[test]
fn a_layer_that_is_wrong_is_not_kept() {
    require!(Root);
    let (env, fake) = (TestEnv::new(), FakeRegistry::start());
    let layers = serve_image(&fake, "app", "v1", &[tar_of(&[("noise", &noise(SIZE))])]);
    let mut wrong = noise(SIZE + 1024);
    wrong.resize(tar_of(&[("noise", &noise(SIZE))]).len(), 0);
    fake.put(&format!("/v2/app/blobs/{}", layers[0]), "application/octet-stream", wrong);
    let name = format!("{}/app:v1", fake.host());
    env.assert_refused(pull(&env, &name), 125, &["digest mismatch"]);
}

#[test]
fn two_pulls_do_not_share_a_partial_blob() {
    require!(Root);
    let env = TestEnv::new();
    let (fake, name) = stalling();
    let first = pull(&env, &name).start();
    wait_for_bytes(&env, SIZE as u64 / 2);
    pull(&env, &name).ok();
    assert_eq!(ranges(&fake), Vec::<String>::new());
    assert_blobs_are_right(&env);
    drop(first);
}

#[test]
fn a_pull_that_is_interrupted_leaves_the_terminal_as_it_was() {
    require!(Root);
    let env = TestEnv::new();
    let (_fake, name) = stalling();
    let mut pty = Pty::start(pull(&env, &name), 24, 100);
    let before = Pty::usual_settings();
    wait_for_bytes(&env, SIZE as u64 / 2);
    pty.expect("Pulling");
    pty.send("\x03");
    assert_eq!(pty.finish(), 130, "{}", pty.transcript());
    assert_eq!(pty.settings(), before);
    let (hidden, shown) =
        (pty.transcript().rfind("\x1b[?25l"), pty.transcript().rfind("\x1b[?25h"));
    assert!(hidden <= shown, "the cursor stays hidden: {}", pty.transcript());
}

#[test]
fn a_layer_that_fails_stops_the_others() {
    require!(Root);
    let (env, fake) = (TestEnv::new(), FakeRegistry::start());
    let (slow, gone) = (tar_of(&[("noise", &noise(SIZE))]), tar_of(&[("gone", b"x")]));
    let layers = serve_image(&fake, "app", "v1", &[slow, gone]);
    fake.fault(&layers[0], 1, Fault::Drip(32 << 10, 50));
    // The second try comes when some of the other layer is here.
    fake.fault(&layers[1], 1, Fault::error(503, ""));
    fake.fault(&layers[1], 1, Fault::error(404, "BLOB_UNKNOWN"));
    let name = format!("{}/app:v1", fake.host());
    pull(&env, &name).run().fails(125, &["blob unknown"]);
    let left = env.partial_blobs().pop().unwrap();
    let left = std::fs::metadata(env.root().join("partial").join(left)).unwrap().len();
    assert!(left < SIZE as u64, "it came to its end");
    pull(&env, &name).ok();
    assert_eq!(ranges(&fake), [format!("bytes={left}-")]);
    env.assert_no_rubbish();
}
