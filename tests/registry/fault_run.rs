//! Five hundred pulls over a network at its worst: each ends right or with an honest error, and no store is the worse
//! for it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use mydocker::image::{self, Error, PullOptions, Silent};
use mydocker::oci::reference::Reference;
use mydocker::registry::Client;
use mydocker::store::{Durability, Store};

use crate::User;
use crate::chaos::Chaos;
use crate::fake_registry::{FakeRegistry, digest};
use crate::made::{noise, serve_image, tar_of};

const WORKERS: u64 = 5;
const PULLS: usize = 100;
const LAYERS: usize = 20;

/// What an error is honest about.
fn kind(error: &Error) -> &'static str {
    match error {
        Error::Registry(_) => "registry",
        Error::Layer { source, .. } => match source {
            mydocker::unpack::Error::Read(_) => "registry, in a layer",
            _ => "a layer that makes no sense",
        },
        Error::Blob { .. } => "wrong bytes",
        Error::Config { .. } | Error::Document { .. } => "a document that makes no sense",
        Error::LayerCount { .. } | Error::NoSuchPlatform { .. } => "a wrong document",
        other => panic!("{other:?}"),
    }
}

/// Asserts that what is in the store is what it is called, and that nothing of a pull is left but what may be resumed.
fn check(store: &Store, expect: bool, name: &str) {
    let root = store.root();
    let names = |folder: &str| -> Vec<String> {
        let entries = fs::read_dir(root.join(folder)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    for blob in names("blobs/sha256") {
        let bytes = fs::read(root.join("blobs/sha256").join(&blob)).unwrap();
        assert_eq!(digest(&bytes), format!("sha256:{blob}"));
    }
    assert_eq!(names("tmp"), Vec::<String>::new());
    let (images, broken) = image::list(store).unwrap();
    assert!(broken.is_empty(), "{broken:?}");
    assert_eq!(images.len(), usize::from(expect));
    assert_eq!(names("trees").len(), usize::from(expect));
    if expect {
        assert_eq!(names("partial"), Vec::<String>::new());
        let tree = image::find(store, name).unwrap().tree(store).unwrap();
        for at in 0..LAYERS {
            assert_eq!(fs::read(tree.join(format!("file-{at}"))).unwrap(), content(at));
        }
    }
}

fn content(at: usize) -> Vec<u8> {
    noise(500 + at * 700)
}

/// One store and one user, pulling again and again.
fn pull_again_and_again(
    seed: u64,
    fake: &FakeRegistry,
    folder: &Path,
    ends: &Mutex<BTreeMap<&'static str, u32>>,
) {
    let mut user = User::new();
    user.options.progress_timeout = Duration::from_millis(150);
    user.options.longest_wait = Duration::from_millis(20);
    user.options.tries = 3;
    let chaos = Chaos::start(format!("127.0.0.1:{}", fake.port()).parse().unwrap(), seed, 40_000);
    let reference: Reference = format!("{}/app:v1", chaos.host()).parse().unwrap();
    let store = Store::open(&folder.join(seed.to_string()), Durability::Unflushed).unwrap();
    let limits = mydocker::image::Limits::default();
    let options = PullOptions { reference: reference.clone(), platform: None, parallel: 4, limits };
    for _ in 0..PULLS {
        // A client each time, as if it were a process.
        let client = Client::new(user.options.clone()).unwrap();
        let result = image::pull(&store, &client, &options, &Silent);
        let end = result.as_ref().map_or_else(kind, |_| "right");
        *ends.lock().unwrap().entry(end).or_default() += 1;
        check(&store, result.is_ok(), &reference.familiar());
        if result.is_ok() {
            image::remove(&store, &reference.familiar(), &|| Some(Vec::new()), false).unwrap();
        }
    }
    assert!(chaos.faults() > PULLS as u64, "{}", chaos.faults());
}

#[test]
fn five_hundred_pulls_over_a_network_at_its_worst() {
    if !nix::unistd::geteuid().is_root() {
        assert!(std::env::var_os("MYDOCKER_TEST_NO_SKIP").is_none(), "needs root");
        println!("skipped: unpacking needs root");
        return;
    }
    let fake = FakeRegistry::start();
    let layers: Vec<Vec<u8>> =
        (0..LAYERS).map(|at| tar_of(&[(&format!("file-{at}"), &content(at))])).collect();
    serve_image(&fake, "app", "v1", &layers);
    let (folder, ends) = (User::new(), Mutex::default());
    thread::scope(|scope| {
        for seed in 1..=WORKERS {
            let (fake, folder, ends) = (&fake, &folder.home, &ends);
            scope.spawn(move || pull_again_and_again(seed, fake, folder, ends));
        }
    });
    let ends = ends.into_inner().unwrap();
    println!("{ends:?}");
    let right = ends["right"];
    assert!(right > 100, "some must go well: {ends:?}");
    assert!(ends.len() > 1, "and some must not: {ends:?}");
}
