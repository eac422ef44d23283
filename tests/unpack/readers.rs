//! What is accepted is read as GNU tar and Go's archive/tar (in umoci) read it, to the last attribute; what they disagree
//! about is refused. Many more changed archives with `MYDOCKER_TEST_ARCHIVES=10000`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::archive::{Header, Tar};
use crate::differential::umoci;
use crate::support::{Scratch, extract_into, have, picture};

/// Another reader of archives.
#[derive(Clone, Copy, Debug)]
enum Reader {
    Gnu,
    Go,
}

const BOTH: [Reader; 2] = [Reader::Gnu, Reader::Go];

/// What GNU tar makes of an archive; `None` if it refuses or warns.
fn gnu_tar(scratch: &Scratch, tar: &[u8]) -> Option<PathBuf> {
    let (file, dest) = (scratch.path("gnu.tar"), scratch.dir("gnu"));
    fs::write(&file, tar).unwrap();
    let options = ["-p", "--same-owner", "--numeric-owner", "--xattrs", "--xattrs-include=*"];
    let mut command = Command::new("tar");
    command.args(options).arg("-C").arg(&dest).arg("-xf").arg(&file);
    command.output().unwrap().status.success().then_some(dest)
}

/// A tree without its root, of which no archive here speaks.
fn lines(root: &Path) -> Vec<String> {
    picture(root).into_iter().filter(|line| !line.starts_with(' ')).collect()
}

/// Whether the archive is accepted, in which case all three have made the same of it.
#[track_caller]
fn accepted(what: &str, tar: &[u8], readers: &[Reader]) -> bool {
    let scratch = Scratch::new();
    let ours = scratch.dir("ours");
    if extract_into(tar, &ours).is_err() {
        return false;
    }
    let ours = lines(&ours);
    let keep = |why: &str| -> ! {
        let name = format!("mydocker-{}.tar", what.replace(' ', "-"));
        let kept = std::env::temp_dir().join(name);
        fs::write(&kept, tar).unwrap();
        panic!("{what}: {why}; kept as {}\n{}", kept.display(), ours.join("\n"));
    };
    for reader in readers {
        let theirs = match reader {
            Reader::Gnu => gnu_tar(&scratch, tar),
            Reader::Go => umoci(&scratch, &[tar.to_vec()]),
        };
        let Some(theirs) = theirs else { keep(&format!("{reader:?} refuses it")) };
        let theirs = lines(&theirs);
        if ours != theirs {
            keep(&format!("{reader:?} makes of it\n{}\nand we", theirs.join("\n")));
        }
    }
    true
}

fn base256(header: &mut Header, offset: usize, length: usize, value: i64) {
    let fill = if value < 0 { 0xff } else { 0 };
    let mut field = vec![fill; length];
    field[length - 8..].copy_from_slice(&value.to_be_bytes());
    field[0] |= 0x80;
    header.bytes(offset, &field);
}

/// Archives that umoci takes for none of a layer. What global headers say of owners and times is applied, as GNU tar does;
/// docker passes over them.
fn gnu_samples() -> Vec<(&'static str, Vec<u8>)> {
    let global: &[(&str, &[u8])] = &[("mtime", b"77"), ("uid", b"9"), ("gid", b"3")];
    let global = || Tar::new().extended(b'g', global);
    let stored = [&[b'a'; 512][..], &[b'b'; 100]].concat();
    let mut old = Header::new(b'S', "s");
    old.gnu().size(612).octal(386, 12, 1024).octal(398, 12, 512);
    old.octal(410, 12, 4096).octal(422, 12, 100).octal(434, 12, 5000).octal(446, 12, 0);
    old.octal(483, 12, 5000);
    vec![
        ("contiguous", Tar::new().header(&Header::new(b'7', "f")).end()),
        ("global", global().file("f", b"").end()),
        ("global and own", global().file("e", b"").pax(&[("uid", b"10")]).file("f", b"").end()),
        ("old sparse", Tar::new().header(&old).data(&stored).file("after", b"x").end()),
    ]
}

/// Archives in every dialect.
fn samples() -> Vec<(&'static str, Vec<u8>)> {
    [plain_samples(), number_samples(), pax_samples(), long_name_samples(), sparse_samples()]
        .concat()
}

/// Adds a file and the end.
fn file(tar: Tar) -> Vec<u8> {
    tar.file("f", b"content").end()
}

fn plain_samples() -> Vec<(&'static str, Vec<u8>)> {
    let mut v7 = Header::new(0, "d/");
    v7.bytes(257, &[0; 8]).mode(0o755);
    let mut v7_file = Header::new(0, "d/f");
    v7_file.bytes(257, &[0; 8]).bytes(345, b"junk, not a prefix").size(2);
    let mut prefix = Header::new(b'0', &"n".repeat(100));
    prefix.bytes(345, b"d");
    let two = Tar::new().dir("d").file("d/f", b"1").file("d/f", b"2");
    vec![
        ("plain", file(Tar::new().dir("d").symlink("l", "f").fifo("p").device("c", 1, 3))),
        ("v7", Tar::new().header(&v7).header(&v7_file).data(b"v7").end()),
        ("prefix", Tar::new().dir("d").header(&prefix).end()),
        ("a file twice", two.clone().end()),
        ("hard links", two.hardlink("h", "d/f").hardlink("./i", "h").end()),
        ("a link with a size", {
            let tar = Tar::new().file("f", b"x");
            tar.header(Header::new(b'1', "h").link("f").size(99)).end()
        }),
    ]
}

fn number_samples() -> Vec<(&'static str, Vec<u8>)> {
    let odd = |offset: usize, bytes: &[u8]| {
        Tar::new().header(Header::new(b'0', "f").bytes(offset, bytes)).end()
    };
    let mut binary = Header::new(b'0', "f");
    binary.gnu();
    base256(&mut binary, 124, 12, 3);
    base256(&mut binary, 136, 12, 1 << 33);
    base256(&mut binary, 108, 8, 4_000_000_000);
    let mut before_1970 = Header::new(b'0', "f");
    base256(before_1970.gnu(), 136, 12, -5);
    let mut signed = Header::new(b'0', "\u{e9}t\u{e9}").block();
    let sum = u32::from_str_radix(std::str::from_utf8(&signed[148..154]).unwrap(), 8).unwrap();
    signed[148..154].copy_from_slice(format!("{:06o}", sum - 4 * 256).as_bytes());
    vec![
        ("binary numbers", Tar::new().header(&binary).data(b"abc").end()),
        ("binary time", Tar::new().header(&before_1970).end()),
        ("a signed checksum", Tar(signed.to_vec()).end()),
        ("spaces around", odd(100, b"  0644 \0")),
        ("a space behind", odd(100, b"0000644 ")),
        ("no end of a number", odd(136, b"014037505000")),
        ("mode with a type", odd(100, b"0100644\0")),
        ("an owner's name", odd(265, b"somebody")),
        ("one block at the end", [file(Tar::new()), vec![]].concat()[..1536].to_vec()),
        ("no end", Tar::new().file("f", b"content").0),
        ("bytes behind the end", [file(Tar::new()), vec![b'z'; 700]].concat()),
    ]
}

fn pax_samples() -> Vec<(&'static str, Vec<u8>)> {
    let sized = |pax: &[u8], header: u64, data: &[u8]| {
        let tar = Tar::new().pax(&[("size", pax)]);
        tar.header(Header::new(b'0', "f").size(header)).data(data).file("g", b"").end()
    };
    vec![
        ("size 5 for 0", sized(b"5", 0, b"hello")),
        ("size 5 for 1000", sized(b"5", 1000, b"hello")),
        ("size 0 for 512", sized(b"0", 512, b"")),
        ("size 5 for 5", sized(b"5", 5, b"hello")),
        ("a comment", file(Tar::new().pax(&[("comment", b"any=thing\n")]))),
        ("times", file(Tar::new().pax(&[("mtime", b"12.3456789014"), ("atime", b"5.5")]))),
        ("a time before 1970", file(Tar::new().pax(&[("mtime", b"-3.25")]))),
        ("no records", file(Tar::new().raw_extended(b'x', b""))),
        ("a path", file(Tar::new().pax(&[("path", b"not\xff utf-8 \x1b \"'\\")]))),
        ("a target", {
            let target = "t".repeat(150);
            Tar::new().pax(&[("linkpath", target.as_bytes())]).symlink("l", "x").end()
        }),
        ("attributes", {
            let records: &[(&str, &[u8])] =
                &[("SCHILY.xattr.user.a", b"\0=\n"), ("SCHILY.xattr.user.b", b"b")];
            file(Tar::new().pax(records))
        }),
    ]
}

fn long_name_samples() -> Vec<(&'static str, Vec<u8>)> {
    let long = |flag: u8, name: &[u8]| {
        let data = [name, b"\0"].concat();
        let mut header = Header::new(flag, "././@LongLink");
        header.gnu().size(data.len() as u64);
        Tar::new().header(&header).data(&data).0
    };
    let gnu_link =
        |name: &str| Tar::new().header(Header::new(b'2', name).gnu().link("short")).end();
    vec![
        ("long name", [long(b'L', &[b'n'; 150]), file(Tar::new())].concat()),
        ("long target", [long(b'K', &[b't'; 150]), gnu_link("l")].concat()),
        ("both", [long(b'L', &[b'n'; 150]), long(b'K', &[b't'; 150]), gnu_link("l")].concat()),
        (
            "both turned",
            [long(b'K', &[b't'; 150]), long(b'L', &[b'n'; 150]), gnu_link("l")].concat(),
        ),
    ]
}

fn sparse_samples() -> Vec<(&'static str, Vec<u8>)> {
    let sparse = |records: &[(&str, &[u8])], data: &[u8]| {
        let header = Header::new(b'0', "GNUSparseFile.0/s").size(data.len() as u64).clone();
        Tar::new().pax(records).header(&header).data(data).file("after", b"x").end()
    };
    let stored = [&[b'a'; 512][..], &[b'b'; 100]].concat();
    let mut map = b"3\n1024\n512\n4096\n100\n5000\n0\n".to_vec();
    map.resize(512, 0);
    vec![
        (
            "sparse 0.0",
            sparse(
                &[
                    ("path", b"s"),
                    ("GNU.sparse.size", b"5000"),
                    ("GNU.sparse.numblocks", b"3"),
                    ("GNU.sparse.offset", b"1024"),
                    ("GNU.sparse.numbytes", b"512"),
                    ("GNU.sparse.offset", b"4096"),
                    ("GNU.sparse.numbytes", b"100"),
                    ("GNU.sparse.offset", b"5000"),
                    ("GNU.sparse.numbytes", b"0"),
                ],
                &stored,
            ),
        ),
        (
            "sparse 0.1",
            sparse(
                &[
                    ("GNU.sparse.name", b"s"),
                    ("GNU.sparse.size", b"5000"),
                    ("GNU.sparse.numblocks", b"3"),
                    ("GNU.sparse.map", b"1024,512,4096,100,5000,0"),
                ],
                &stored,
            ),
        ),
        (
            "sparse 1.0",
            sparse(
                &[
                    ("GNU.sparse.major", b"1"),
                    ("GNU.sparse.minor", b"0"),
                    ("GNU.sparse.name", b"s"),
                    ("GNU.sparse.realsize", b"5000"),
                ],
                &[&map[..], &stored].concat(),
            ),
        ),
    ]
}

#[test]
fn every_dialect_is_read_as_others_read_it() {
    if !have("umoci") {
        return;
    }
    for (what, tar) in samples() {
        assert!(accepted(what, &tar, &BOTH), "{what} is refused");
    }
    for (what, tar) in gnu_samples() {
        assert!(accepted(what, &tar, &[Reader::Gnu]), "{what} is refused");
    }
}

#[test]
fn archives_that_are_joined_end_where_the_first_one_ends() {
    if !have("umoci") {
        return;
    }
    let (one, other) = (Tar::new().file("f", b"1").end(), Tar::new().file("g", b"2").end());
    assert!(accepted("joined", &[one, other].concat(), &BOTH));
}

#[test]
fn what_readers_disagree_about_is_refused() {
    if !have("umoci") {
        return;
    }
    let wanted = std::env::var("MYDOCKER_TEST_ARCHIVES").ok().and_then(|text| text.parse().ok());
    let samples = samples();
    let mut state = 7_u64;
    let mut below = |n: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % n
    };
    let mut good = 0;
    for number in 0..wanted.unwrap_or(150) {
        let (what, tar) = &samples[below(samples.len())];
        let mut tar = tar.clone();
        for _ in 0..=below(2) {
            let at = below(tar.len().min(2048));
            // Names and kinds are left alone: what they may be is another question.
            if at % 512 < 100
                || [156..257, 345..500].iter().any(|names| names.contains(&(at % 512)))
            {
                continue;
            }
            tar[at] = [0, b' ', b'0', b'1', b'7', b'9', b'-', b'=', b'\n', 0x80, 0xff][below(11)];
        }
        good += usize::from(accepted(
            &format!("{number}, a changed {what}"),
            &with_checksums(&tar),
            &BOTH,
        ));
    }
    assert!(good > 0);
}

/// Writes the right checksum into everything that looks like a header.
fn with_checksums(tar: &[u8]) -> Vec<u8> {
    let mut tar = tar.to_vec();
    for block in tar.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    tar
}
