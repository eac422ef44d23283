//! Holds the arrows between the modules, as `ARCHITECTURE.md` draws them, and the few rules that no lint can hold.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Every module, and the modules that it may name.
const ARROWS: &[(&str, &[&str])] = &[
    ("cli", &["container", "image", "oci", "registry", "runtime", "store"]),
    ("container", &["oci", "runtime", "store", "sys"]),
    ("image", &["oci", "registry", "store", "sys", "unpack"]),
    ("oci", &[]),
    ("registry", &["oci"]),
    ("runtime", &["oci", "sys"]),
    ("store", &["oci", "sys"]),
    ("sys", &[]),
    ("unpack", &["oci", "sys"]),
];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The code of a file, without its comments.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// The modules that a file names as `crate::module`, also within `use crate::{a, b::c}`.
fn named(code: &str) -> BTreeSet<String> {
    let word = |text: &str| {
        text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>()
    };
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(list) = rest.strip_prefix('{') {
            let mut depth = 1;
            let mut item = String::new();
            for c in list.chars() {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    _ => {}
                }
                if depth == 0 || (depth == 1 && c == ',') {
                    found.insert(word(item.trim()));
                    item.clear();
                    if depth == 0 {
                        break;
                    }
                } else {
                    item.push(c);
                }
            }
        } else {
            found.insert(word(rest));
        }
    }
    found
}

#[test]
fn modules_name_only_those_below_them() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut seen = BTreeSet::new();
    for (module, allowed) in ARROWS {
        seen.insert((*module).to_owned());
        for file in sources(&src.join(module)) {
            for name in named(&code(&file)) {
                let fine = name == *module || name.is_empty() || allowed.contains(&name.as_str());
                assert!(fine, "{}: `{module}` must not know `{name}`", file.display());
            }
        }
    }
    for entry in fs::read_dir(&src).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        assert!(!entry.path().is_dir() || seen.contains(&name), "src/{name} has no arrows drawn");
    }
}

#[test]
fn nothing_is_exported_at_the_root() {
    let lib = code(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs"));
    assert!(!lib.contains("pub use"), "a name at the crate's root would hide an arrow");
}

#[test]
fn unsafe_code_is_in_sys() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for file in sources(&src) {
        if !file.starts_with(src.join("sys")) {
            let found = code(&file).contains("unsafe {");
            assert!(!found, "{} has unsafe code", file.display());
        }
    }
}

#[test]
fn only_the_command_line_prints() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for file in sources(&src) {
        let code = code(&file);
        if file.starts_with(src.join("cli")) {
            continue;
        }
        for macro_name in ["println!", "eprintln!", "print!(", "eprint!("] {
            assert!(!code.contains(macro_name), "{} prints", file.display());
        }
        assert!(!code.contains("clap::"), "{} knows the command line", file.display());
    }
}

#[test]
fn files_can_be_read_in_one_sitting() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for file in sources(&src) {
        let lines = fs::read_to_string(&file).unwrap().lines().count();
        assert!(lines <= 650, "{} has {lines} lines", file.display());
    }
}
