//! Random archives: whatever is in them, the tree is the one that a plain model of the rules gives.

use std::collections::BTreeMap;

use crate::archive::Tar;
use crate::support::{Canary, Scratch, chain, shape, unpack};

/// A generator that gives the same archives every time (Knuth's MMIX constants).
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }
}

/// How many archives to try: many more with `MYDOCKER_TEST_SEEDS=100000`, best on a tmpfs.
fn seeds(usual: u64) -> u64 {
    let wanted = std::env::var("MYDOCKER_TEST_SEEDS").ok();
    wanted.map_or(usual, |wanted| wanted.parse().unwrap())
}

#[derive(Clone, Debug)]
enum Node {
    Dir(BTreeMap<String, Node>),
    File(String),
    Link(String),
}

/// The rules, on maps: nothing is cached, nothing is resolved twice in the same way.
#[derive(Debug)]
struct Model {
    root: Node,
}

type Path = Vec<String>;

impl Model {
    fn new() -> Self {
        Self { root: Node::Dir(BTreeMap::new()) }
    }

    fn at(&mut self, path: &[String]) -> Option<&mut Node> {
        let mut node = &mut self.root;
        for name in path {
            let Node::Dir(children) = node else { return None };
            node = children.get_mut(name)?;
        }
        Some(node)
    }

    /// Where a directory's name leads; makes what is missing.
    fn walk(&mut self, dir: &str) -> Option<Path> {
        let mut done: Path = Vec::new();
        let mut rest: Vec<String> = dir.split('/').rev().map(str::to_owned).collect();
        let mut links = 0;
        while let Some(name) = rest.pop() {
            match name.as_str() {
                "" | "." => continue,
                ".." => {
                    done.pop();
                    continue;
                }
                _ => {}
            }
            let Some(Node::Dir(children)) = self.at(&done) else { return None };
            match children.get(&name) {
                Some(Node::Dir(_)) => done.push(name),
                Some(Node::Link(target)) => {
                    links += 1;
                    if links > 40 {
                        return None;
                    }
                    if target.starts_with('/') {
                        done.clear();
                    }
                    rest.extend(target.split('/').rev().map(str::to_owned));
                }
                _ => {
                    children.insert(name.clone(), Node::Dir(BTreeMap::new()));
                    done.push(name);
                }
            }
        }
        Some(done)
    }

    /// Puts a file somewhere; `None` where links go round in circles.
    fn put(&mut self, name: &str, node: Node) -> Option<()> {
        let (dir, base) = name.rsplit_once('/').unwrap_or(("", name));
        let dir = self.walk(dir)?;
        let Some(Node::Dir(children)) = self.at(&dir) else { return None };
        if !matches!((children.get(base), &node), (Some(Node::Dir(_)), Node::Dir(_))) {
            children.insert(base.to_owned(), node);
        }
        Some(())
    }

    fn shape(&self) -> Vec<String> {
        fn lines(node: &Node, path: &str, out: &mut Vec<String>) {
            let Node::Dir(children) = node else { return };
            for (name, child) in children {
                let path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
                match child {
                    Node::Dir(_) => out.push(format!("{path}/")),
                    Node::File(data) => out.push(format!("{path}={data}")),
                    Node::Link(target) => out.push(format!("{path} -> {target}")),
                }
                lines(child, &path, out);
            }
        }
        let mut out = Vec::new();
        lines(&self.root, "", &mut out);
        out
    }
}

const NAMES: [&str; 12] =
    ["a", "b", "c", "a/b", "a/c", "b/a", "b/c", "a/b/c", "b/a/c", "c/c", "a/b/c/a", "c/a/b"];
const TARGETS: [&str; 12] =
    ["a", "b", "/", "..", "/a", "/b/c", "../b", "c/a", "a/../b", "../../..", ".", "/c"];

/// A layer with everything in it that a layer of a stack can have.
pub(crate) fn random_layer(seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let mut tar = Tar::new();
    for i in 0..random.below(14) + 2 {
        let name = random.pick(&NAMES);
        let (dir, base) = name.rsplit_once('/').unwrap_or(("", name));
        tar = match random.below(9) {
            0..=3 => tar.file(name, format!("{seed} {i}").as_bytes()),
            4 => tar.dir(name),
            5 => tar.symlink(name, random.pick(&TARGETS)),
            6 => tar.hardlink(name, random.pick(&NAMES)),
            7 => tar.file(&format!("{dir}/.wh.{base}"), b""),
            _ => tar.file(&format!("{dir}/.wh..wh..opq"), b""),
        };
    }
    tar.end()
}

#[test]
fn one_layer_is_what_the_model_says() {
    let canary = Canary::new();
    let outside = canary.path();
    for seed in 0..seeds(300) {
        let mut random = Random(seed);
        let mut model = Model::new();
        let mut tar = Tar::new();
        let mut circles = false;
        for i in 0..random.below(14) + 2 {
            let name = random.pick(&NAMES);
            let node = match random.below(5) {
                0 | 1 => Node::File(format!("{i}")),
                2 => Node::Dir(BTreeMap::new()),
                _ if random.below(8) == 0 => Node::Link(outside.clone()),
                _ => Node::Link(random.pick(&TARGETS).to_owned()),
            };
            tar = match &node {
                Node::File(data) => tar.file(name, data.as_bytes()),
                Node::Dir(_) => tar.dir(name),
                Node::Link(target) => tar.symlink(name, target),
            };
            if model.put(name, node).is_none() {
                circles = true;
                break;
            }
        }
        let scratch = Scratch::new();
        match unpack(&scratch, &[tar.end()]) {
            Ok(root) => {
                assert!(!circles, "seed {seed}");
                assert_eq!(shape(&root), model.shape(), "seed {seed}");
            }
            Err(error) => assert!(circles, "seed {seed}: {}", chain(&error)),
        }
    }
    canary.check("random archives");
}

/// A random archive of files, directories and whiteouts, applied to the model: whiteouts first, then what is new.
fn upper(random: &mut Random, model: &mut Model) -> Tar {
    let mut tar = Tar::new();
    let mut news = Vec::new();
    for i in 0..random.below(10) + 1 {
        let name = random.pick(&NAMES);
        let (dir, base) = name.rsplit_once('/').unwrap_or(("", name));
        let slash = if dir.is_empty() { "" } else { "/" };
        let path: Path = dir.split('/').filter(|n| !n.is_empty()).map(str::to_owned).collect();
        match random.below(6) {
            0 | 1 => {
                tar = tar.file(&format!("{dir}{slash}.wh.{base}"), b"");
                if let Some(Node::Dir(children)) = model.at(&path) {
                    children.remove(base);
                }
            }
            2 => {
                tar = tar.file(&format!("{dir}{slash}.wh..wh..opq"), b"");
                if let Some(Node::Dir(children)) = model.at(&path) {
                    children.clear();
                }
            }
            3 => {
                tar = tar.dir(name);
                news.push((name, Node::Dir(BTreeMap::new())));
            }
            _ => {
                tar = tar.file(name, format!("{i}").as_bytes());
                news.push((name, Node::File(format!("{i}"))));
            }
        }
    }
    for (name, node) in news {
        model.put(name, node).unwrap();
    }
    tar
}

#[test]
fn layers_are_what_the_model_says() {
    for seed in 0..seeds(200) {
        let mut random = Random(seed << 20);
        let mut model = Model::new();
        let layers: Vec<_> = (0..4).map(|_| upper(&mut random, &mut model).end()).collect();
        let scratch = Scratch::new();
        let root = unpack(&scratch, &layers).unwrap_or_else(|e| panic!("{seed}: {}", chain(&e)));
        assert_eq!(shape(&root), model.shape(), "seed {seed}");
    }
}
