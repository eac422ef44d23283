//! Compressed streams: whole ones of every form, and broken ones of every length.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use mydocker::oci::digest::{DiffId, Digest};
use mydocker::unpack::{Compression, Destination, Error, Layer, Limits, decoder, unpack_layer};

use crate::archive::Tar;
use crate::support::{Scratch, chain, have, picture};

fn compress(command: &[&str], data: &[u8]) -> Vec<u8> {
    let mut child = Command::new(command[0])
        .args(&command[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let data = data.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&data).unwrap());
    let mut out = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut out).unwrap();
    writer.join().unwrap();
    assert!(child.wait().unwrap().success());
    out
}

fn unpacked(
    compression: Compression,
    data: &[u8],
    diff_id: Option<&DiffId>,
) -> Result<(Layer, DiffId), Error> {
    let scratch = Scratch::new();
    let dest = File::open(scratch.dir("d")).unwrap();
    unpack_layer(data, compression, diff_id, &Destination::new(dest.as_fd(), &Limits::default()))
}

/// Something that compresses, but not to nothing.
fn sample() -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 60) as u8
    };
    let noise: Vec<u8> = (0..12_000).map(|_| next()).collect();
    Tar::new().dir("d").file("d/noise", &noise).file("d/text", &b"text ".repeat(2000)).end()
}

const PROGRAMS: [(Compression, &[&str]); 9] = [
    (Compression::Gzip, &["gzip", "-c"]),
    (Compression::Gzip, &["pigz", "-c", "-b", "128"]),
    (Compression::Zstd, &["zstd", "-c"]),
    (Compression::Zstd, &["zstd", "-c", "--no-check", "--ultra", "-22"]),
    (Compression::Xz, &["xz", "-c"]),
    (Compression::Xz, &["xz", "-c", "--check=sha256", "--block-size=4096"]),
    (Compression::Xz, &["xz", "-c", "--check=crc32"]),
    (Compression::Xz, &["xz", "-c", "--check=none"]),
    (Compression::Bzip2, &["bzip2", "-c"]),
];

#[test]
fn whole_streams() {
    let tar = sample();
    let expected = DiffId::new(Digest::sha256(&tar));
    for (compression, command) in PROGRAMS.into_iter().filter(|(_, command)| have(command[0])) {
        let one = compress(command, &tar);
        let (head, tail) = tar.split_at(5000);
        let two = [compress(command, head), compress(command, tail)].concat();
        for stream in [one, two] {
            assert_eq!(Compression::sniff(&stream), compression);
            let (layer, diff_id) = unpacked(compression, &stream, Some(&expected)).unwrap();
            assert_eq!((layer.entries(), diff_id), (3, expected.clone()), "{command:?}");
        }
    }
}

#[test]
fn cut_streams_are_errors() {
    let tar = sample();
    for (compression, command) in PROGRAMS.into_iter().filter(|(_, command)| have(command[0])) {
        let whole = compress(command, &tar);
        let last = [whole.len() - 1, whole.len() - 4, 1, 5, 11, 13];
        for cut in (512..whole.len()).step_by(512).chain(last) {
            let result = unpacked(compression, &whole[..cut], None);
            assert!(
                matches!(result, Err(Error::Read(_))),
                "{command:?} {cut}: {:?}",
                result.map(|_| ())
            );
        }
        assert!(unpacked(compression, b"", None).is_err(), "{command:?} of nothing");
        let garbage = [&whole[..], b"garbage"].concat();
        assert!(unpacked(compression, &garbage, None).is_err(), "{command:?} with garbage");
    }
    for cut in (0..tar.len() - 512).step_by(512) {
        assert!(unpacked(Compression::None, &tar[..cut], None).is_err(), "tar {cut}");
    }
}

#[test]
fn gzip_headers() {
    let tar = sample();
    let deflated = compress(&["gzip", "-cn"], &tar)[10..].to_vec();
    let member = |flags: u8, fields: &[u8]| {
        [&[0x1f, 0x8b, 8, flags, 1, 2, 3, 4, 0, 255], fields, &deflated[..]].concat()
    };
    let fields = b"\x05\0extraname\0comment\0";
    let mut crc = flate2::Crc::new();
    crc.update(&member(0x1e, fields)[..10 + fields.len()]);
    let sum = &crc.sum().to_le_bytes()[..2];
    let all = [&fields[..], sum].concat();
    assert!(unpacked(Compression::Gzip, &member(0x1e, &all), None).is_ok());
    assert!(unpacked(Compression::Gzip, &member(1, b""), None).is_ok());
    assert!(
        unpacked(Compression::Gzip, &member(0x1e, &[&fields[..], b"xx"].concat()), None).is_err()
    );
    assert!(unpacked(Compression::Gzip, &member(0x20, b""), None).is_err());
    assert!(unpacked(Compression::Gzip, &member(8, &[b'n'; 100_000]), None).is_err());
}

#[test]
fn corrupt_streams_are_errors() {
    let tar = sample();
    let checked = PROGRAMS.into_iter().filter(|(_, command)| {
        !command.contains(&"--no-check") && !command.contains(&"--check=none")
    });
    for (compression, command) in checked.filter(|(_, command)| have(command[0])) {
        let whole = compress(command, &tar);
        for place in (20..whole.len()).step_by(101) {
            let mut broken = whole.clone();
            broken[place] ^= 0x10;
            let id = DiffId::new(Digest::sha256(&tar));
            if let Ok((layer, _)) = unpacked(compression, &broken, Some(&id)) {
                assert_eq!(layer.entries(), 3, "{command:?} {place}");
            }
            let mut out = Vec::new();
            let result =
                decoder(compression, &broken[..]).and_then(|mut r| r.read_to_end(&mut out));
            // A flag that only the decoder's own book-keeping sees may change; the data may not.
            assert!(result.is_err() || out == tar, "{command:?} {place}");
        }
    }
}

#[test]
fn what_may_follow_and_what_may_not() {
    let tar = sample();
    let gzip = compress(&["gzip", "-c"], &tar);
    let padded = [&gzip[..], &[0; 700]].concat();
    assert!(unpacked(Compression::Gzip, &padded, None).is_ok());
    let twice = [&gzip[..], &[0; 700], &gzip].concat();
    assert!(unpacked(Compression::Gzip, &twice, None).is_err());
    if have("zstd") {
        let zstd = compress(&["zstd", "-c"], &tar);
        let skippable =
            [&b"\x50\x2a\x4d\x18\x05\0\0\0hello"[..], &zstd, b"\x5f\x2a\x4d\x18\0\0\0\0"].concat();
        assert_eq!(Compression::sniff(&skippable), Compression::Zstd);
        assert!(unpacked(Compression::Zstd, &skippable, None).is_ok());
        let long = compress(&["zstd", "-c", "--long=31", "--ultra", "-22"], &tar);
        assert!(matches!(unpacked(Compression::Zstd, &long, None), Err(Error::Read(_))));
        let asks = b"\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00";
        assert!(matches!(unpacked(Compression::Zstd, asks, None), Err(Error::Read(_))));
    }
    if have("xz") {
        let xz = compress(&["xz", "-c"], &tar);
        assert!(unpacked(Compression::Xz, &[&xz[..], &[0; 8], &xz].concat(), None).is_ok());
        assert!(unpacked(Compression::Xz, &[&xz[..], &[0; 3]].concat(), None).is_err());
        let long = compress(&["xz", "-c", "--lzma2=dict=256MiB"], &tar);
        let message = chain(&unpacked(Compression::Xz, &long, None).err().unwrap());
        assert!(message.contains("128 MiB"), "{message}");
    }
}

#[test]
fn the_diff_id_is_judged_on_the_whole_stream() {
    let tar = [&sample()[..], &[0; 9216], b"trailing bytes"].concat();
    let gzip = compress(&["gzip", "-c"], &tar);
    let right = DiffId::new(Digest::sha256(&tar));
    let wrong = DiffId::new(Digest::sha256(&sample()));
    assert_eq!(unpacked(Compression::Gzip, &gzip, Some(&right)).unwrap().1, right);
    let error = unpacked(Compression::Gzip, &gzip, Some(&wrong)).unwrap_err();
    let shown = format!("layer has the wrong diff id: expected {wrong}, got {right}");
    assert_eq!(error.to_string(), shown);
}

#[test]
fn a_failed_layer_leaves_nothing_open() {
    let open = || fs::read_dir("/proc/self/fd").unwrap().count();
    let gzip = compress(&["gzip", "-c"], &sample());
    let before = open();
    for i in 0..500 {
        let cut = gzip.len() * i / 500;
        assert!(unpacked(Compression::Gzip, &gzip[..cut], None).is_err());
    }
    // Other tests run beside this one and open files of their own.
    assert!(open() < before + 100);
}

#[test]
fn a_reader_that_fails_is_heard() {
    struct Broken(usize);
    impl Read for Broken {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            self.0 += 1;
            match self.0 {
                1 => Err(std::io::ErrorKind::Interrupted.into()),
                2 => Ok(buf.len().min(5)),
                _ => Err(std::io::Error::other("the line is dead")),
            }
        }
    }
    let scratch = Scratch::new();
    let dest = File::open(scratch.dir("d")).unwrap();
    let result = unpack_layer(
        Broken(0),
        Compression::None,
        None,
        &Destination::new(dest.as_fd(), &Limits::default()),
    );
    assert_eq!(chain(&result.err().unwrap()), "read layer: the line is dead");
    assert_eq!(picture(&scratch.path("d")).len(), 1);
}
