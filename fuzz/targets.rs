//! What hostile bytes are thrown at, by `make fuzz` with libFuzzer and by `tests/fuzz.rs` without it.
//!
//! Each function takes any bytes and must come back: no panic, no endless work, nothing outside its folder touched.

#![allow(dead_code, unreachable_pub, clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::{Cursor, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use mydocker::oci::image_config::ImageConfig;
use mydocker::oci::manifest::Document;
use mydocker::oci::media_type::{OCI_INDEX, OCI_MANIFEST};
use mydocker::oci::platform::Platform;
use mydocker::sys::remove_tree::remove_tree;
use mydocker::unpack::list::{Depth, ListReader, Origins, compare, write_list};
use mydocker::unpack::{Compression, Destination, Limits, decoder, extract, merge};

/// A tar archive becomes a tree: as one layer, and on top of itself as a second. What stands beside the tree stays as it
/// is, the tree has a list that it fits, and all of it can be removed.
pub fn tar(data: &[u8]) {
    unpack(data);
    // Most of what a fuzzer changes is caught by the checksum; behind it begins what is worth trying.
    unpack(&with_checksums(data));
}

fn unpack(data: &[u8]) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let beside = Beside::get();
    let name = NEXT.fetch_add(1, Ordering::Relaxed).to_string();
    let folder = beside.0.join(&name);
    let sub = |name: &str| {
        let path = folder.join(name);
        fs::create_dir(&path).unwrap();
        File::open(path).unwrap()
    };
    fs::create_dir(&folder).unwrap();
    let limits = Limits { entries: 2000, bytes: 8 << 20, directories: 2000, ..Limits::default() };
    let root = sub("root");
    let origins = Origins::new();
    let mut whole = true;
    for (number, name) in [(0, "one"), (1, "two")] {
        let upper = sub(name);
        let origins = Some((&origins, number));
        // Without the walls, which would hide that the extractor let something out.
        let dest =
            Destination { origins, walls: false, ..Destination::new(upper.as_fd(), &limits) };
        let merged =
            extract(data, &dest).and_then(|layer| merge(root.as_fd(), upper.as_fd(), &layer));
        whole &= merged.is_ok();
    }
    if whole {
        let mut list = Vec::new();
        write_list(root.as_fd(), &[], origins, &mut list).unwrap_or_else(|error| panic!("{error}"));
    }
    let parent = File::open(&beside.0).unwrap();
    remove_tree(parent.as_fd(), name.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
    beside.check();
}

/// A manifest: parsed, and the same when it is written and parsed again.
pub fn manifest(data: &[u8]) {
    document(data, Some(OCI_MANIFEST));
    document(data, None);
}

/// An index: parsed, and searched for a platform.
pub fn index(data: &[u8]) {
    document(data, Some(OCI_INDEX));
    document(data, None);
}

fn document(data: &[u8], declared: Option<&str>) {
    match Document::parse(data, declared) {
        Ok(Document::Manifest(manifest)) => {
            let written = serde_json::to_vec(&manifest).unwrap();
            let again = Document::parse(&written, declared).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(again, Document::Manifest(manifest));
        }
        Ok(Document::Index(index)) => {
            let platform = Platform::host();
            assert!(index.candidates(&platform).len() <= index.manifests.len());
            index.platforms();
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// An image configuration.
pub fn config(data: &[u8]) {
    if let Ok(config) = serde_json::from_slice::<ImageConfig>(data) {
        assert!(!format!("{config:?}").is_empty());
    }
}

/// A packed stream; the first byte says how it is packed. It comes to an end, and within a bound of its output.
pub fn decompress(data: &[u8]) {
    const MOST: u64 = 1 << 20;
    let Some((kind, packed)) = data.split_first() else { return };
    let compression = match kind % 5 {
        0 => Compression::Gzip,
        1 => Compression::Zstd,
        2 => Compression::Xz,
        3 => Compression::Bzip2,
        _ => Compression::sniff(packed),
    };
    if let Ok(reader) = decoder(compression, packed)
        && let Ok(copied) = std::io::copy(&mut reader.take(MOST), &mut std::io::sink())
    {
        assert!(copied <= MOST);
    }
}

/// The list of a tree: as it is, and with the digest that makes it whole. Whatever it says, comparing an empty tree with it
/// ends.
pub fn tree_list(data: &[u8]) {
    list(data);
    let body = &data[..data.len().saturating_sub(32)];
    list(&[body, blake3::hash(body).as_bytes()].concat());
}

fn list(data: &[u8]) {
    let Ok(mut reader) = ListReader::new(Cursor::new(data)) else { return };
    let mut last: Option<Vec<u8>> = None;
    while let Ok(Some(record)) = reader.next_record() {
        assert!(!record.path.split(|b| *b == b'/').any(|name| name == b".."));
        assert!(last.is_none_or(|last| last != record.path));
        last = Some(record.path);
    }
    let Ok(reader) = ListReader::new(Cursor::new(data)) else { return };
    let empty = File::open(Beside::get().0.join("empty")).unwrap();
    let mut differences = 0_u64;
    let _ = compare(empty.as_fd(), reader, Depth::Contents, |_| differences += 1);
}

/// Writes the right checksum into everything that a tar reader takes for a header.
fn with_checksums(data: &[u8]) -> Vec<u8> {
    let mut data = data.to_vec();
    let mut at = 0;
    while let Some(block) = data.get_mut(at..at + 512) {
        at += 512;
        if block.iter().all(|b| *b == 0) {
            continue;
        }
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        let size = block[124..136].iter().filter(|b| b.is_ascii_digit());
        let size = size
            .fold(0_usize, |size, b| size.saturating_mul(8).saturating_add(usize::from(b - b'0')));
        if block[124] < 0x80 {
            at = at.saturating_add(size.div_ceil(512).saturating_mul(512));
        }
    }
    data
}

/// The folder that trees are made in, with files that nothing may touch.
struct Beside(PathBuf, Vec<String>);

impl Beside {
    fn get() -> &'static Self {
        static BESIDE: OnceLock<Beside> = OnceLock::new();
        BESIDE.get_or_init(|| {
            let folder = std::env::temp_dir().join(format!("mydocker-fuzz-{}", std::process::id()));
            fs::create_dir_all(folder.join("canary/d")).unwrap();
            fs::create_dir_all(folder.join("empty")).unwrap();
            fs::write(folder.join("canary/f"), "secret").unwrap();
            let before = picture(&folder.join("canary"));
            Self(folder, before)
        })
    }

    fn check(&self) {
        assert_eq!(picture(&self.0.join("canary")), self.1, "something got out");
    }
}

fn picture(folder: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for path in [folder.to_owned(), folder.join("d"), folder.join("f")] {
        let found = fs::symlink_metadata(&path).unwrap();
        let times = (found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec());
        let what = (found.mode(), found.uid(), found.gid(), found.nlink(), found.len());
        lines.push(format!("{} {times:?} {what:?}", path.as_os_str().as_bytes().escape_ascii()));
    }
    lines.push(fs::read_to_string(folder.join("f")).unwrap());
    lines
}
