//! `verify` and `repair`: a store that is damaged in every way, of which exactly that is found and mended.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use crate::support::command::Cmd;
use crate::support::env::{TestEnv, names};
use crate::support::fixtures;
use crate::support::registry::Registry;
use crate::support::require::Need::{Root, Tool};
use crate::support::tree::{self, Tree};

/// A store with an image of many kinds of files, pulled from a registry, and one that was imported.
struct Damaged {
    env: TestEnv,
    registry: Registry,
    image: String,
    before: Tree,
}

/// What `verify` says of a kind of damage, and what does it to a file.
type Damage<'a> = (&'a str, &'a dyn Fn(&Path));

/// The folders of the store itself, whose times tell what was done in them.
const FOLDERS: [&str; 5] = ["blobs/sha256", "blobs/sha512", "trees", "lists", "rootfs"];

impl Damaged {
    fn new() -> Self {
        let (env, registry) = (TestEnv::with_busybox(), Registry::start());
        let image = registry.image("layered");
        env.mydocker(["--no-sync", "pull", "--quiet", &image]).ok();
        let damaged = Self { before: Tree::default(), env, registry, image };
        assert_eq!(damaged.verify(&["--deep"]), Vec::<String>::new());
        Self { before: damaged.store(), ..damaged }
    }

    /// All of the store but times that only tell that something was exchanged.
    fn store(&self) -> Tree {
        let top = self.env.root();
        tree::read(top)
            .with_xattrs(top)
            .without(&["tmp", "containers", "run", "events.log", ""])
            .without_folders(&FOLDERS)
            .without_times(&["blobs", "lists", "rootfs"])
    }

    /// The problems that are found; looking changes nothing.
    fn verify(&self, args: &[&str]) -> Vec<String> {
        let before = self.store();
        let output = self.env.mydocker(["verify"]).args(args).run();
        let problems: Vec<String> = output.lines().into_iter().map(str::to_owned).collect();
        let output = output.exits(i32::from(!problems.is_empty()));
        assert_eq!(output.stderr, "", "{}", output.report());
        self.store().assert_same(&before);
        problems
    }

    /// Finds exactly the problem that holds these words.
    #[track_caller]
    fn finds(&self, args: &[&str], words: &[&str]) {
        let problems = self.verify(args);
        assert_eq!(problems.len(), 1, "{problems:#?}");
        for word in words {
            assert!(problems[0].contains(word), "no {word:?} in {problems:?}");
        }
    }

    /// Repairs, and sees that one thing was mended, and everything is as it was.
    #[track_caller]
    fn mends(&self, words: &[&str]) {
        let output = self.env.mydocker(["repair"]).run().success();
        assert_eq!(output.lines().len(), 1, "{}", output.report());
        for word in words {
            assert!(output.stdout.contains(word), "no {word:?} in {}", output.report());
        }
        self.is_as_before();
    }

    #[track_caller]
    fn is_as_before(&self) {
        assert_eq!(self.verify(&["--deep"]), Vec::<String>::new());
        // What is mended may have other inodes, and so other numbers of links.
        self.before.clone().without_links().assert_same(&self.store().without_links());
        self.env.mydocker(["repair"]).run().success().prints("");
        self.env.assert_no_rubbish();
        self.env.run(&["busybox", "true"]).success();
    }

    fn blob(&self, digest: &str) -> PathBuf {
        self.env.root().join("blobs").join(digest.replacen(':', "/", 1))
    }

    fn tree(&self) -> PathBuf {
        self.env.rootfs(&self.image).canonicalize().unwrap()
    }

    fn layer(&self) -> String {
        fixtures::layers("layered", "latest").remove(1)
    }

    fn manifest(&self) -> String {
        fixtures::digest("layered", "latest")
    }

    fn config(&self) -> String {
        let manifest: serde_json::Value =
            serde_json::from_slice(&fs::read(self.blob(&self.manifest())).unwrap()).unwrap();
        manifest["config"]["digest"].as_str().unwrap().to_owned()
    }

    /// A regular file of the image, and a directory.
    fn file(&self) -> (PathBuf, String) {
        let mut pending = vec![self.tree()];
        while let Some(folder) = pending.pop() {
            let mut children: Vec<PathBuf> =
                fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
            children.sort();
            for child in children {
                let found = fs::symlink_metadata(&child).unwrap();
                let plain = child.to_str().is_some_and(|path| path.is_ascii());
                use std::os::unix::fs::MetadataExt;
                if plain && found.is_file() && found.len() > 0 && found.nlink() == 1 {
                    let name = child.strip_prefix(self.tree()).unwrap().display().to_string();
                    return (child, format!("/{name}"));
                }
                if found.is_dir() {
                    pending.push(child);
                }
            }
        }
        panic!("no file");
    }
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn blobs_of_every_kind_damaged_in_every_way() {
    require!(Root, Tool("docker-registry"), Tool("getfattr"));
    let store = Damaged::new();
    for (what, digest) in
        [("manifest", store.manifest()), ("config", store.config()), ("layer", store.layer())]
    {
        let path = store.blob(&digest);
        let damage: [(&str, &dyn Fn()); 5] = [
            ("digest mismatch", &|| flip(&path)),
            ("body ended after", &|| {
                let half = fs::metadata(&path).unwrap().len() / 2;
                fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(half).unwrap();
            }),
            ("body is longer", &|| {
                let mut bytes = fs::read(&path).unwrap();
                bytes.push(0);
                fs::write(&path, bytes).unwrap();
            }),
            ("is missing", &|| fs::remove_file(&path).unwrap()),
            ("no regular file", &|| {
                fs::remove_file(&path).unwrap();
                Cmd::new("mkfifo").arg(&path).ok();
            }),
        ];
        for (fault, damage) in damage {
            damage();
            store.finds(&[], &[&store.image, what, &digest, fault]);
            store.finds(&[&store.image], &[&digest]);
            // It affects only its users.
            assert_eq!(store.verify(&["busybox"]), Vec::<String>::new());
            store.env.run(&["busybox", "true"]).success();
            store.mends(&[what, &digest, "fetched again from", store.registry.host().as_str()]);
        }
    }
}

#[test]
fn files_of_a_tree_damaged_in_every_way() {
    require!(Root, Tool("docker-registry"), Tool("getfattr"));
    let store = Damaged::new();
    // Those that even a quick look finds.
    let damage: [Damage<'_>; 5] = [
        ("bytes instead of", &|path| {
            let times = fs::metadata(path).unwrap().modified().unwrap();
            let mut bytes = fs::read(path).unwrap();
            bytes.push(b'x');
            fs::write(path, bytes).unwrap();
            fs::File::open(path).unwrap().set_modified(times).unwrap();
        }),
        ("mode", &|path| fs::set_permissions(path, fs::Permissions::from_mode(0o4711)).unwrap()),
        ("belongs to 12:34", &|path| chown(path, Some(12), Some(34)).unwrap()),
        ("is missing", &|path| {
            let folder = path.parent().unwrap();
            let times = fs::metadata(folder).unwrap().modified().unwrap();
            fs::remove_file(path).unwrap();
            fs::File::open(folder).unwrap().set_modified(times).unwrap();
        }),
        ("modified at", &|path| {
            let time = std::time::SystemTime::UNIX_EPOCH;
            fs::File::open(path).unwrap().set_modified(time).unwrap();
        }),
    ];
    for (fault, damage) in damage {
        let (path, name) = store.file();
        damage(&path);
        store.finds(&[], &[&store.image, &name, fault]);
        assert_eq!(store.verify(&["busybox"]), Vec::<String>::new());
        store.mends(&[&store.image, "tree", "unpacked again"]);
    }
}

#[test]
fn only_a_deep_look_finds_changed_contents_and_attributes() {
    require!(Root, Tool("docker-registry"), Tool("getfattr"), Tool("setfattr"));
    let store = Damaged::new();
    let damage: [Damage<'_>; 2] = [
        ("other content", &|path| {
            let times = fs::metadata(path).unwrap().modified().unwrap();
            flip(path);
            fs::File::open(path).unwrap().set_modified(times).unwrap();
        }),
        ("extended attributes", &|path| {
            Cmd::new("setfattr").args(["-n", "user.more", "-v", "x"]).arg(path).ok();
        }),
    ];
    for (fault, damage) in damage {
        let (path, name) = store.file();
        damage(&path);
        assert_eq!(store.verify(&[]), Vec::<String>::new());
        store.finds(&["--deep"], &[&store.image, &name, fault]);
        store.mends(&[&store.image, "tree", "unpacked again"]);
    }
}

#[test]
fn a_file_too_many_and_a_tree_or_list_or_name_that_is_gone() {
    require!(Root, Tool("docker-registry"), Tool("getfattr"));
    let store = Damaged::new();
    let tree = store.tree();
    let times = fs::metadata(&tree).unwrap().modified().unwrap();
    fs::write(tree.join("planted"), "x").unwrap();
    fs::File::open(&tree).unwrap().set_modified(times).unwrap();
    store.finds(&[], &["/planted", "does not belong here"]);
    store.mends(&["tree", "unpacked again"]);

    fs::remove_dir_all(store.tree()).unwrap();
    let problems = store.verify(&[]);
    assert!(problems.iter().any(|p| p.contains("tree: is missing")), "{problems:?}");
    store.mends(&["tree", "unpacked again"]);

    let name = store.tree().file_name().unwrap().to_owned();
    let list = store.env.root().join("lists").join(&name).join("tree");
    flip(&list);
    store.finds(&[], &[&store.image, "list"]);
    store.mends(&["tree", "unpacked again"]);
    fs::remove_dir_all(store.env.root().join("lists").join(&name)).unwrap();
    store.finds(&[], &[&store.image, "no list"]);
    store.mends(&["tree", "unpacked again"]);

    let link = store.env.rootfs(&store.image);
    fs::remove_file(&link).unwrap();
    store.finds(&[], &["rootfs/", "is missing"]);
    store.mends(&["rootfs/", "leads to its tree again"]);
    fs::remove_file(&link).unwrap();
    symlink("/etc", &link).unwrap();
    store.finds(&[], &["rootfs/", "/etc"]);
    store.mends(&["rootfs/", "leads to its tree again"]);
}

#[test]
fn an_index_that_is_broken() {
    require!(Root, Tool("docker-registry"), Tool("getfattr"));
    let store = Damaged::new();
    let path = store.env.root().join("index.json");
    let images = |env: &TestEnv| {
        let mut found: Vec<String> = env
            .json(&["images", "--no-trunc"])
            .iter()
            .map(|image| format!("{} {} {}", image["Repository"], image["ID"], image["Size"]))
            .collect();
        found.sort();
        found
    };
    let before = images(&store.env);
    let whole = fs::read(&path).unwrap();
    for broken in [Some(&whole[..whole.len() / 2]), Some(b"{}".as_slice()), Some(b""), None] {
        match broken {
            Some(bytes) => fs::write(&path, bytes).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        store.finds(&[], &["index.json"]);
        store.env.mydocker(["images"]).run().fails(125, &["index.json"]);
        let output = store.env.mydocker(["repair"]).run().success();
        assert!(
            output.stdout.contains("index.json: made anew, with 2 entries"),
            "{}",
            output.report()
        );
        assert_eq!(images(&store.env), before);
        assert_eq!(store.verify(&["--deep"]), Vec::<String>::new());
        store.env.run(&["busybox", "true"]).success();
        if let Some(bytes) = broken {
            assert_eq!(fs::read(store.env.root().join("index.json.broken")).unwrap(), bytes);
        }
    }
    fs::remove_file(store.env.root().join("oci-layout")).unwrap();
    store.finds(&[], &["oci-layout", "missing"]);
    store.env.mydocker(["repair"]).ok();
    assert_eq!(store.verify(&[]), Vec::<String>::new());
}

#[test]
fn what_no_registry_has_cannot_be_fetched() {
    require!(Root);
    let env = TestEnv::with_busybox();
    env.mydocker(["import", "-q", "--name", "other"]).arg(fixtures::path("layered")).ok();
    let manifest = fs::read_to_string(env.root().join("index.json")).unwrap();
    let layers = fixtures::layers("layered", "latest");
    assert!(!manifest.contains("mydocker.source"));
    let path = env.root().join("blobs").join(layers[0].replacen(':', "/", 1));
    flip(&path);
    let output = env.mydocker(["repair"]).run().exits(1);
    assert_eq!(output.stdout, "", "{}", output.report());
    assert!(
        output.stderr.contains(&layers[0]) && output.stderr.contains("import"),
        "{}",
        output.report()
    );
    env.mydocker(["repair", "busybox"]).run().success().prints("");
    // As the hint says.
    fs::remove_file(&path).unwrap();
    env.mydocker(["import", "-q", "--name", "other"]).arg(fixtures::path("layered")).ok();
    env.mydocker(["verify", "--deep"]).run().success().prints("");
}

#[test]
fn a_tree_under_a_running_container_is_left_alone() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let run = env.mydocker(["run", "--name", "busy", "busybox", "sleep", "1000"]).start();
    env.wait_until_running("busy");
    let passwd = env.rootfs("busybox").join("etc/passwd");
    fs::set_permissions(&passwd, fs::Permissions::from_mode(0o600)).unwrap();
    let output = env.mydocker(["repair"]).run().exits(1);
    assert!(output.stderr.contains("is running on it"), "{}", output.report());
    env.mydocker(["rm", "-f", "busy"]).ok();
    run.finish().exits(137);
    env.mydocker(["repair"]).run().success();
    env.mydocker(["verify"]).run().success().prints("");
}

#[test]
fn a_tree_under_a_paused_container_is_left_alone() {
    require!(Root);
    let env = TestEnv::with_busybox();
    env.mydocker(["run", "-d", "--name", "held", "busybox", "sleep", "1000"]).ok();
    env.mydocker(["pause", "held"]).ok();
    let passwd = env.rootfs("busybox").join("etc/passwd");
    fs::set_permissions(&passwd, fs::Permissions::from_mode(0o600)).unwrap();
    let output = env.mydocker(["repair"]).run().exits(1);
    assert!(output.stderr.contains("is running on it"), "{}", output.report());
    env.mydocker(["rm", "-f", "held"]).ok();
    env.mydocker(["repair"]).run().success();
}

#[test]
fn a_broken_blob_that_no_image_needs() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let name = "ab".repeat(32);
    let blob = env.root().join("blobs/sha256").join(&name);
    fs::write(&blob, "not what its name says").unwrap();
    let output = env.mydocker(["verify"]).run().exits(1);
    assert!(output.stdout.contains(&name) && output.lines().len() == 1, "{}", output.report());
    env.mydocker(["verify", "busybox"]).run().success();
    let output = env.mydocker(["repair"]).run().success();
    assert!(output.stdout.contains("no image needs it"), "{}", output.report());
    assert!(!blob.exists());
}

#[test]
fn a_file_that_two_trees_share_is_mended_in_both() {
    require!(Root, Tool("docker-registry"));
    let (env, registry) = (TestEnv::new(), Registry::start());
    for tag in ["v1", "v2"] {
        env.mydocker(["pull", "-q", &registry.image(&format!("variants:{tag}"))]).ok();
    }
    let passwd =
        |tag: &str| env.rootfs(&registry.image(&format!("variants:{tag}"))).join("etc/passwd");
    let times = fs::metadata(passwd("v1")).unwrap().modified().unwrap();
    flip(&passwd("v1"));
    fs::File::open(passwd("v1")).unwrap().set_modified(times).unwrap();
    let output = env.mydocker(["verify", "--deep"]).run().exits(1);
    assert_eq!(output.lines().len(), 2, "{}", output.report());
    assert_eq!(env.mydocker(["repair"]).run().success().lines().len(), 2);
    env.mydocker(["verify", "--deep"]).run().success().prints("");
}

#[test]
fn nothing_to_verify() {
    require!(Root);
    let env = TestEnv::new();
    env.mydocker(["verify"]).run().success().prints("");
    assert_eq!(names(env.root()), Vec::<String>::new());
    env.mydocker(["verify", "nosuch"]).run().exits(1);
}
