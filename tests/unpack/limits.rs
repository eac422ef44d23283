//! Layers that ask for too much end in an error that says of what, in little time and memory.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use flate2::Compression as Level;
use flate2::write::GzEncoder;
use mydocker::unpack::{Compression, Destination, Error, Limits, extract, unpack_layer};

use crate::archive::{Header, Tar, record};
use crate::support::{Scratch, chain, unpack};

fn limited(limits: &Limits, tar: impl Read + Send) -> String {
    let scratch = Scratch::new();
    let dest = File::open(scratch.dir("d")).unwrap();
    match extract(tar, &Destination::new(dest.as_fd(), limits)) {
        Ok(layer) => format!("{} entries", layer.entries()),
        Err(error) => chain(&error),
    }
}

#[test]
fn every_limit_has_a_name() {
    let few = Limits {
        entries: 3,
        bytes: 3000,
        directories: 3,
        whiteouts: 3,
        extension: 600,
        ..Limits::default()
    };
    let four = |each: &dyn Fn(Tar, usize) -> Tar| (0..4).fold(Tar::new(), each).end();
    let cases = [
        ("entries", four(&|tar, i| tar.file(&format!("f{i}"), b""))),
        ("directories", Tar::new().file("a/b/c/d/e/f", b"").end()),
        ("bytes", Tar::new().header(Header::new(b'0', "f").size(3001)).end()),
        (
            "bytes in an extension header",
            Tar::new().pax(&[("comment", &[b'c'; 600])]).file("f", b"").end(),
        ),
        ("whiteouts", Tar::new().hardlink("a", "x/y").end()),
    ];
    for (what, tar) in cases {
        let tight =
            if what == "whiteouts" { Limits { whiteouts: 0, ..few.clone() } } else { few.clone() };
        let message = limited(&tight, &tar[..]);
        assert!(
            message.starts_with("layer exceeds the limit of") && message.ends_with(what),
            "{message}"
        );
    }
    let xattr = |i: usize| record("SCHILY.xattr.user.x", &vec![b'x'; i]);
    let tar = Tar::new()
        .raw_extended(b'x', &xattr(500))
        .dir("a")
        .raw_extended(b'x', &xattr(500))
        .dir("b")
        .end();
    let tight = Limits { directory_xattrs: 800, ..Limits::default() };
    assert!(limited(&tight, &tar[..]).ends_with("bytes of extended attributes of directories"));
    // The same directory again does not count twice.
    let tar = Tar::new()
        .raw_extended(b'x', &xattr(500))
        .dir("a")
        .raw_extended(b'x', &xattr(500))
        .dir("a")
        .end();
    assert_eq!(limited(&tight, &tar[..]), "2 entries");
}

#[test]
fn what_is_to_stay_free_stays_free() {
    let tight = Limits { free: u64::MAX, ..Limits::default() };
    let message = limited(&tight, &Tar::new().file("f", b"").end()[..]);
    assert!(
        message.contains("bytes are free, and 18446744073709551615 are to stay so"),
        "{message}"
    );
}

/// The target that security researchers like best: an extension header of gibibytes in a few mebibytes, PAX and GNU.
#[test]
fn extension_headers_are_bombs_that_do_not_go_off() {
    for flag in *b"xgLK" {
        let mut extension = Header::new(flag, "e");
        extension.size(8 << 30);
        let bomb = bomb(&extension.block(), 32 << 20);
        let scratch = Scratch::new();
        let dest = File::open(scratch.dir("d")).unwrap();
        let limits = Limits::default();
        let dest = Destination::new(dest.as_fd(), &limits);
        let result = unpack_layer(&bomb[..], Compression::Gzip, None, &dest);
        let what = "bytes in an extension header";
        assert!(matches!(result, Err(Error::Limit { what: found, .. }) if found == what));
    }
}

#[test]
fn sizes_that_lie() {
    let huge =
        Header::new(b'0', "f").bytes(124, b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff").clone();
    let message = limited(&Limits::default(), &Tar::new().header(&huge).end()[..]);
    assert!(message.contains("limit of 1099511627776 bytes"), "{message}");
    for flag in *b"xgLK" {
        let mut extension = Header::new(flag, "e");
        extension.size(8 << 30);
        let zeros = std::io::repeat(0).take(8 << 30);
        let message = limited(&Limits::default(), (&extension.block()[..]).chain(zeros));
        assert!(message.contains("bytes in an extension header"), "{message}");
    }
    let sparse: &[(&str, &[u8])] = &[
        ("GNU.sparse.size", b"9223372036854775807"),
        ("GNU.sparse.map", b"0,512,9223372036854775807,0"),
    ];
    let tar = Tar::new().pax(sparse).file("s", &[1; 512]).end();
    assert!(limited(&Limits::default(), &tar[..]).contains("bytes"));
}

/// gzip of `head` and then as many zeros.
fn bomb(head: &[u8], zeros: u64) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Level::best());
    encoder.write_all(head).unwrap();
    std::io::copy(&mut std::io::repeat(0).take(zeros), &mut encoder).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn bombs_end_at_the_limits() {
    let limits = Limits { bytes: 8 << 20, ..Limits::default() };
    let file = Tar::new().header(Header::new(b'0', "f").size(1 << 30)).0;
    for compressed in [bomb(&file, 64 << 20), bomb(&Tar::new().end(), 64 << 20)] {
        let scratch = Scratch::new();
        let dest = File::open(scratch.dir("d")).unwrap();
        let result = unpack_layer(
            &compressed[..],
            Compression::Gzip,
            None,
            &Destination::new(dest.as_fd(), &limits),
        );
        assert!(matches!(result, Err(Error::Limit { what: "bytes", .. })));
    }
}

#[test]
fn many_empty_gzip_members() {
    let empty = GzEncoder::new(Vec::new(), Level::fast()).finish().unwrap();
    let mut compressed = empty.repeat(100_000);
    compressed.extend(bomb(&Tar::new().file("f", b"x").end(), 0));
    let scratch = Scratch::new();
    let dest = File::open(scratch.dir("d")).unwrap();
    let limits = Limits::default();
    let result = unpack_layer(
        &compressed[..],
        Compression::Gzip,
        None,
        &Destination::new(dest.as_fd(), &limits),
    );
    assert_eq!(result.unwrap().0.entries(), 1);
}

#[test]
fn repeated_opaque_whiteouts_cost_nothing() {
    let lower = (0..5000).fold(Tar::new(), |tar, i| tar.file(&format!("d/{i}"), b"")).end();
    let time = |times: usize| {
        let upper = (0..times).fold(Tar::new(), |tar, _| tar.file("d/.wh..wh..opq", b"")).end();
        let scratch = Scratch::new();
        let start = Instant::now();
        let root = unpack(&scratch, &[lower.clone(), upper]).unwrap();
        assert_eq!(std::fs::read_dir(root.join("d")).unwrap().count(), 0);
        start.elapsed()
    };
    // A walk over the directory for each would take minutes.
    let (one, many) = (time(1), time(20_000));
    assert!(many < one + Duration::from_secs(20), "{one:?} {many:?}");
}

#[test]
fn depth_has_an_end_even_through_links() {
    let scratch = Scratch::new();
    let step = "d".repeat(200);
    // Each link leads 2000 bytes deeper than the one before, and no name is long.
    let deep = [step.as_str(); 10].join("/");
    let tar = (0..10).fold(Tar::new(), |tar, i| {
        let base = if i == 0 { String::new() } else { format!("/l{}/", i - 1) };
        tar.pax(&[("linkpath", format!("{base}{deep}").as_bytes())])
            .symlink(&format!("l{i}"), "x")
            .file(&format!("l{i}/f"), b"")
    });
    let error = unpack(&scratch, &[tar.end()]).unwrap_err();
    assert!(error.to_string().contains("longer than 4095 bytes"), "{error}");
}
