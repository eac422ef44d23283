//! The list of a tree: it says what was unpacked, it finds every change, and no rotten list gets past its reader.

use std::fs::{self, File, FileTimes};
use std::io::{Cursor, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use mydocker::oci::digest::{DiffId, Digest};
use mydocker::unpack::list::{
    Change, Depth, Difference, ListError, ListReader, ListedLayer, Origin, Origins, Record,
    RecordKind, compare, write_list,
};
use mydocker::unpack::{Compression, Destination, Limits, merge, unpack_layer};

use crate::archive::{Header, Tar};
use crate::support::{Scratch, run};

/// Unpacks layers, lowest first, into `scratch/root`, and writes the list.
fn listed(scratch: &Scratch, layers: &[Vec<u8>]) -> Vec<u8> {
    let root = File::open(scratch.dir("root")).unwrap();
    let (origins, limits) = (Origins::new(), Limits::default());
    let mut listed = Vec::new();
    for (number, tar) in (0..).zip(layers) {
        let upper = File::open(scratch.dir(&format!("layer{number}"))).unwrap();
        let origins = Some((&origins, number));
        let dest = Destination { origins, ..Destination::new(upper.as_fd(), &limits) };
        let (layer, diff_id) = unpack_layer(&tar[..], Compression::None, None, &dest).unwrap();
        merge(root.as_fd(), upper.as_fd(), &layer).unwrap();
        listed.push(ListedLayer { diff_id, files: layer.files() });
    }
    let mut list = Vec::new();
    write_list(root.as_fd(), &listed, origins, &mut list).unwrap();
    list
}

fn read(list: &[u8]) -> Result<Vec<Record>, ListError> {
    let mut reader = ListReader::new(Cursor::new(list))?;
    let mut records = Vec::new();
    while let Some(record) = reader.next_record()? {
        records.push(record);
    }
    Ok(records)
}

fn differences(root: &Path, list: &[u8], depth: Depth) -> Vec<String> {
    let root = File::open(root).unwrap();
    let mut found = Vec::new();
    let report = |Difference { path, change }: Difference| {
        found.push(format!("{} {change}", String::from_utf8_lossy(&path)));
    };
    compare(root.as_fd(), ListReader::new(Cursor::new(list)).unwrap(), depth, report).unwrap();
    found
}

/// Two layers with one of everything.
fn sample() -> [Vec<u8>; 2] {
    let base = Tar::new()
        .dir("a")
        .file("a/x", b"first")
        .file("a.b", b"second")
        .hardlink("hard", "a/x")
        .symlink("soft", "a/x")
        .fifo("fifo")
        .device("device", 1, 3)
        .file("gone", b"")
        .file("replaced", b"old");
    let base = base
        .pax(&[("SCHILY.xattr.user.x", b"value"), ("mtime", b"1.000000005")])
        .header(Header::new(b'0', "attributed").mode(0o4755).owner(7, 8));
    let upper = Tar::new().file("replaced", b"new").hardlink("late", "a.b").file(".wh.gone", b"");
    [base.end(), upper.end()]
}

fn record<'a>(records: &'a [Record], path: &str) -> &'a Record {
    records.iter().find(|record| record.path == path.as_bytes()).unwrap()
}

#[test]
fn a_list_says_what_was_unpacked() {
    let scratch = Scratch::new();
    let layers = sample();
    let list = listed(&scratch, &layers);
    let records = read(&list).unwrap();
    let paths: Vec<_> =
        records.iter().map(|record| String::from_utf8(record.path.clone()).unwrap()).collect();
    let expected = "|a|a/x|a.b|attributed|device|fifo|hard|late|replaced|soft";
    assert_eq!(paths.join("|"), expected);
    let reader = ListReader::new(Cursor::new(&list)).unwrap();
    let diff_ids = layers.each_ref().map(|tar| DiffId::new(Digest::sha256(tar)));
    let found: Vec<_> = reader.layers().iter().map(|layer| layer.diff_id.clone()).collect();
    assert_eq!(found, diff_ids);
    assert_eq!(reader.layers().iter().map(|layer| layer.files).collect::<Vec<_>>(), [5, 2]);

    let x = record(&records, "a/x");
    let digest = *blake3_of(b"first");
    assert_eq!(x.kind, RecordKind::File { size: 5, digest, sparse: false });
    assert_eq!((x.origin, x.linked), (Some(Origin { layer: 0, entry: 1 }), false));
    let hard = record(&records, "hard");
    assert_eq!((&hard.kind, hard.origin, hard.linked), (&x.kind, x.origin, true));
    let replaced = record(&records, "replaced");
    assert_eq!(replaced.origin, Some(Origin { layer: 1, entry: 0 }));
    // A hard link to a file of the layer below is that layer's file.
    let late = record(&records, "late");
    assert_eq!((late.origin, late.linked), (Some(Origin { layer: 0, entry: 2 }), true));
    assert_eq!(record(&records, "soft").kind, RecordKind::Symlink { target: b"a/x".to_vec() });
    assert_eq!(record(&records, "fifo").kind, RecordKind::Fifo);
    assert_eq!(record(&records, "device").kind, RecordKind::Character { major: 1, minor: 3 });
    let attributed = record(&records, "attributed");
    assert_eq!(attributed.xattrs, [(b"user.x".to_vec(), b"value".to_vec())]);
    assert_eq!((attributed.mode, attributed.uid, attributed.gid), (0o4755, 7, 8));
    assert_eq!(attributed.mtime, (1, 5));
    for depth in [Depth::Metadata, Depth::Contents] {
        assert_eq!(differences(&scratch.path("root"), &list, depth), [""; 0]);
    }
}

/// The digest by the reference implementation's own program would need that program; the crate itself is the reference.
fn blake3_of(data: &[u8]) -> &'static [u8; 32] {
    Box::leak(Box::new(*blake3::hash(data).as_bytes()))
}

#[test]
fn a_file_written_again_comes_from_the_entry_that_wrote_it_last() {
    let scratch = Scratch::new();
    let again = Tar::new().file("f", b"1").file("f", b"2").file("g", b"3").file("f", b"4");
    let records = read(&listed(&scratch, &[again.clone().end(), again.end()])).unwrap();
    for (path, entry, data) in [("f", 3, b"4"), ("g", 2, b"3")] {
        let record = record(&records, path);
        assert_eq!(record.origin, Some(Origin { layer: 1, entry }), "{path}");
        let digest = *blake3_of(data);
        assert_eq!(record.kind, RecordKind::File { size: 1, digest, sparse: false }, "{path}");
    }
}

#[test]
fn every_change_is_found() {
    type Damage = fn(&Path);
    let cases: &[(&str, bool, Damage)] = &[
        ("a.b has other content", true, |root| fs_write_same_time(&root.join("a.b"), b"SECOND")),
        ("a.b has 7 bytes instead of 6", false, |root| {
            fs_write_same_time(&root.join("a.b"), b"seconds");
        }),
        ("attributed has mode 0755 instead of 4755", false, |root| {
            fs::set_permissions(root.join("attributed"), fs::Permissions::from_mode(0o755))
                .unwrap();
        }),
        ("a belongs to 9:0 instead of 0:0", false, |root| {
            chown(root.join("a"), Some(9), None).unwrap();
        }),
        ("replaced was modified at 9.000000000 instead of 1600000000.000000000", false, |root| {
            set_time(&root.join("replaced"), 9);
        }),
        ("fifo is missing", false, |root| fs::remove_file(root.join("fifo")).unwrap()),
        ("added does not belong here", false, |root| fs::write(root.join("added"), "").unwrap()),
        ("fifo is another kind of file", false, |root| {
            fs::remove_file(root.join("fifo")).unwrap();
            fs::write(root.join("fifo"), "").unwrap();
        }),
        ("device is another device", false, |root| {
            fs::remove_file(root.join("device")).unwrap();
            run(Command::new("mknod").arg(root.join("device")).args(["c", "1", "1"]));
        }),
        ("soft points elsewhere", false, |root| {
            fs::remove_file(root.join("soft")).unwrap();
            symlink("b", root.join("soft")).unwrap();
        }),
        ("hard is no longer linked to its other name", false, |root| {
            fs::remove_file(root.join("hard")).unwrap();
            fs::write(root.join("hard"), "first").unwrap();
        }),
        ("attributed has other extended attributes", true, |root| {
            run(Command::new("setfattr")
                .args(["-n", "user.x", "-v", "v"])
                .arg(root.join("attributed")));
        }),
    ];
    for (expected, deep, damage) in cases {
        let scratch = Scratch::new();
        let list = listed(&scratch, &sample());
        let root = scratch.path("root");
        damage(&root);
        let (quick, thorough) = (
            differences(&root, &list, Depth::Metadata),
            differences(&root, &list, Depth::Contents),
        );
        assert!(thorough.iter().any(|line| line == expected), "{expected}: {thorough:?}");
        let found = quick.iter().any(|line| line == expected);
        assert_eq!(found, !deep, "{expected}: {quick:?}");
    }
}

fn set_time(path: &Path, seconds: u64) {
    let time = UNIX_EPOCH + Duration::from_secs(seconds);
    File::open(path).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
}

fn fs_write_same_time(path: &Path, data: &[u8]) {
    let before = fs::metadata(path).unwrap().modified().unwrap();
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(data, 0).unwrap();
    file.set_times(FileTimes::new().set_modified(before)).unwrap();
}

#[test]
fn what_lies_in_a_missing_directory_is_missing_too() {
    let scratch = Scratch::new();
    let list = listed(&scratch, &sample());
    fs::remove_dir_all(scratch.path("root/a")).unwrap();
    let found = differences(&scratch.path("root"), &list, Depth::Metadata);
    assert!(found.contains(&"a is missing".to_owned()), "{found:?}");
    assert!(found.contains(&"a/x is missing".to_owned()), "{found:?}");
}

#[test]
fn a_tree_deeper_than_descriptors_go_is_listed_and_compared() {
    let scratch = Scratch::new();
    let mut tar = Tar::new();
    for depth in [1, 70, 700] {
        tar = tar.file(&format!("{}f", "d/".repeat(depth)), b"deep");
        tar = tar.file(&format!("{}z", "d/".repeat(depth)), b"deep");
    }
    let list = listed(&scratch, &[tar.end()]);
    assert_eq!(read(&list).unwrap().len(), 1 + 700 + 6);
    assert_eq!(differences(&scratch.path("root"), &list, Depth::Contents), [""; 0]);
}

#[test]
fn the_digest_of_a_sparse_file_does_not_depend_on_where_its_holes_are() {
    let scratch = Scratch::new();
    let pax: &[(&str, &[u8])] = &[
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"sparse"),
        ("GNU.sparse.realsize", b"1000000"),
    ];
    let mut data = b"2\n500000\n5\n1000000\n0\n".to_vec();
    data.resize(512, 0);
    data.extend_from_slice(b"stuff");
    let list = listed(&scratch, &[Tar::new().pax(pax).file("GNUSparseFile.0/sparse", &data).end()]);
    let records = read(&list).unwrap();
    let kind = &record(&records, "sparse").kind;
    assert!(matches!(kind, RecordKind::File { size: 1_000_000, sparse: true, .. }), "{kind:?}");
    let path = scratch.path("root/sparse");
    let before = fs::metadata(&path).unwrap().modified().unwrap();
    // The same bytes, without any hole.
    let mut content = Vec::new();
    let mut file = File::options().read(true).write(true).open(&path).unwrap();
    file.read_to_end(&mut content).unwrap();
    file.rewind().unwrap();
    file.write_all(&content).unwrap();
    file.set_times(FileTimes::new().set_modified(before)).unwrap();
    assert_eq!(differences(&scratch.path("root"), &list, Depth::Contents), [""; 0]);
    file.write_all_at(b"x", 999_999).unwrap();
    file.set_times(FileTimes::new().set_modified(before)).unwrap();
    let found = differences(&scratch.path("root"), &list, Depth::Contents);
    assert_eq!(found, ["sparse has other content"]);
}

#[test]
fn a_rotten_list_is_an_error() {
    let scratch = Scratch::new();
    let list = listed(&scratch, &sample());
    for at in 0..list.len() {
        assert!(read(&list[..at]).is_err(), "cut off at {at}");
        let mut rotten = list.clone();
        rotten[at] ^= 0x10;
        let error = read(&rotten).unwrap_err();
        assert!(matches!(error, ListError::Corrupt { .. }), "{at}: {error}");
    }
    assert!(read(&[list.clone(), list].concat()).is_err());
}

#[test]
fn a_forged_list_makes_no_reader_panic_and_names_nothing_outside() {
    let scratch = Scratch::new();
    let list = listed(&scratch, &sample());
    let body = &list[..list.len() - 32];
    let sealed = |body: &[u8]| [body, blake3_of(body)].concat();
    assert!(read(&sealed(body)).is_ok());
    for at in 16..body.len() {
        for value in [0, 1, 0x2e, 0x2f, 0x7f, 0x80, 0xff] {
            let mut forged = body.to_vec();
            forged[at] = value;
            let Ok(records) = read(&sealed(&forged)) else { continue };
            for record in records {
                let path = String::from_utf8_lossy(&record.path).into_owned();
                assert!(
                    !path.starts_with('/') && !path.split('/').any(|name| name == ".."),
                    "{path}"
                );
            }
        }
        let _ = read(&sealed(&body[..at]));
    }
}

#[test]
fn an_unreadable_tree_is_a_difference_and_no_error() {
    let scratch = Scratch::new();
    let list = listed(&scratch, &sample());
    let root = scratch.path("root");
    run(Command::new("mount").args(["-t", "tmpfs", "none"]).arg(root.join("a")));
    let mut found = Vec::new();
    let report = |difference: Difference| found.push(difference);
    let reader = ListReader::new(Cursor::new(&list)).unwrap();
    let compared = compare(File::open(&root).unwrap().as_fd(), reader, Depth::Contents, report);
    run(Command::new("umount").arg(root.join("a")));
    compared.unwrap();
    let unreadable = found
        .iter()
        .any(|found| found.path == b"a" && matches!(found.change, Change::Unreadable(_)));
    assert!(unreadable, "{found:?}");
}
