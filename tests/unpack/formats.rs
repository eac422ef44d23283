//! Tar's dialects: what is understood, and what is refused because readers would understand it differently.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;

use mydocker::unpack::{Destination, Limits, extract};

use crate::archive::{Header, Tar, record};
use crate::support::{Scratch, chain, extract_into, shape};

#[track_caller]
fn good(tar: Vec<u8>) -> (Scratch, PathBuf) {
    let scratch = Scratch::new();
    let dest = scratch.dir("d");
    if let Err(error) = extract_into(&tar, &dest) {
        panic!("{}", chain(&error));
    }
    (scratch, dest)
}

#[track_caller]
fn bad(what: &str, tar: &[u8]) -> String {
    let scratch = Scratch::new();
    let dest = scratch.dir("d");
    match extract_into(tar, &dest) {
        Ok(_) => panic!("{what} was accepted: {:?}", shape(&dest)),
        Err(error) => chain(&error),
    }
}

#[test]
fn every_kind_of_entry() {
    let xattrs: &[(&str, &[u8])] = &[
        ("mtime", b"1600000001.123456789"),
        ("SCHILY.xattr.user.a", b"\0binary\n"),
        ("SCHILY.xattr.security.selinux", b"dropped"),
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ("SCHILY.xattr.user.overlay.opaque", b"y"),
    ];
    let tar = Tar::new()
        .header(Header::new(b'5', "./").mode(0o750))
        .header(Header::new(b'5', "dir/").mode(0o1777).owner(7, 8).mtime(5))
        .pax(xattrs)
        .header(Header::new(b'0', "dir/file").mode(0o6755).owner(1000, 2000).size(5))
        .data(b"hello")
        .header(Header::new(b'0', "secret").mode(0))
        .hardlink("hard", "./dir/../dir/file")
        .header(Header::new(b'2', "soft").link("dir/file").owner(3, 4))
        .hardlink("hard-to-soft", "/soft")
        .header(Header::new(b'3', "null").mode(0o666).device(1, 3))
        .header(Header::new(b'4', "block").mode(0o660).owner(0, 6).device(259, 1_048_575))
        .fifo("fifo")
        .end();
    let (_scratch, d) = good(tar);
    let meta = |name: &str| fs::symlink_metadata(d.join(name)).unwrap();
    assert_eq!(meta("").mode(), 0o40750);
    assert_eq!((meta("dir").mode(), meta("dir").uid(), meta("dir").gid()), (0o41777, 7, 8));
    assert_eq!(meta("dir").mtime(), 5);
    let file = meta("dir/file");
    assert_eq!((file.mode(), file.uid(), file.gid()), (0o10_6755, 1000, 2000));
    assert_eq!((file.mtime(), file.mtime_nsec()), (1_600_000_001, 123_456_789));
    assert_eq!((file.nlink(), file.ino()), (2, meta("hard").ino()));
    assert_eq!(meta("secret").mode(), 0o10_0000);
    assert_eq!(
        (meta("soft").uid(), meta("soft").gid(), meta("soft").mtime()),
        (3, 4, 1.6e9 as i64)
    );
    assert_eq!(meta("soft").ino(), meta("hard-to-soft").ino());
    assert_eq!((meta("null").mode(), meta("null").rdev()), (0o2_0666, libc::makedev(1, 3)));
    assert_eq!(meta("block").rdev(), libc::makedev(259, 1_048_575));
    assert!(meta("fifo").file_type().is_fifo());
    let lines = crate::support::picture(&d);
    let line = lines.iter().find(|line| line.starts_with("dir/file ")).unwrap();
    assert!(line.ends_with(r" user.a=\x00binary\n"), "{line}");
}

#[test]
fn capabilities_and_acls() {
    // VFS_CAP_REVISION_2 with cap_net_raw permitted and effective.
    let capability: &[u8] = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    // Version 2: user::rwx, user:1:rwx, group::r-x, mask::rwx, other::r-x.
    let entry = |tag: u16, perm: u16, id: u32| {
        [&tag.to_le_bytes()[..], &perm.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    let acl = [
        2_u32.to_le_bytes().to_vec(),
        entry(1, 7, u32::MAX),
        entry(2, 7, 1),
        entry(4, 5, u32::MAX),
        entry(0x10, 7, u32::MAX),
        entry(0x20, 5, u32::MAX),
    ]
    .concat();
    let tar = Tar::new()
        .pax(&[("SCHILY.xattr.system.posix_acl_default", &acl)])
        .header(Header::new(b'5', "d").mode(0o755))
        .pax(&[("SCHILY.xattr.security.capability", capability)])
        .header(Header::new(b'0', "d/ping").mode(0o755).owner(5, 5))
        .pax(&[("SCHILY.xattr.system.posix_acl_access", &acl)])
        .header(Header::new(b'0', "d/acl").mode(0o775))
        .end();
    let (_scratch, d) = good(tar);
    let lines = crate::support::picture(&d);
    let shown = |name: &str| lines.iter().find(|line| line.starts_with(name)).unwrap().clone();
    assert!(shown("d ").contains("system.posix_acl_default="), "{lines:#?}");
    assert!(shown("d/ping").contains("security.capability=\\x01"), "{lines:#?}");
    assert!(!shown("d/ping").contains("posix_acl"), "the default ACL was inherited: {lines:#?}");
    assert!(shown("d/acl").contains("system.posix_acl_access="), "{lines:#?}");
}

#[test]
fn extended_attributes_that_no_file_can_have() {
    let long_name = format!("SCHILY.xattr.user.{}", "n".repeat(251));
    let cases: [(&str, &str, Vec<u8>); 4] = [
        ("no namespace", "SCHILY.xattr.x", b"v".to_vec()),
        ("name of 256 bytes", &long_name, b"v".to_vec()),
        ("value beyond 64 KiB", "SCHILY.xattr.user.x", vec![b'v'; (64 << 10) + 1]),
        ("name that is a namespace", "SCHILY.xattr.user.", b"v".to_vec()),
    ];
    for (what, keyword, value) in cases {
        for kind in [b'0', b'5'] {
            bad(what, &Tar::new().pax(&[(keyword, &value)]).header(&Header::new(kind, "f")).end());
        }
    }
    // What is in no namespace that belongs into a tree is left out.
    for name in [
        "system.posix_acl",
        "security.ima",
        "security.evm",
        "security.selinux",
        "security.apparmor",
        "trusted.overlay.redirect",
        "trusted.overlay.metacopy",
        "trusted.overlay.origin",
        "user.overlay.redirect",
        "user.overlay.metacopy",
    ] {
        let keyword = &*format!("SCHILY.xattr.{name}");
        let tar = Tar::new().pax(&[(keyword, b"/x")]).file("f", b"");
        let (_scratch, d) = good(tar.pax(&[(keyword, b"/x")]).dir("d").end());
        let lines = crate::support::picture(&d);
        assert!(!lines.join(" ").contains('='), "{keyword}: {lines:?}");
    }
}

#[test]
fn long_names_and_odd_names() {
    let long = format!("{}/f", vec!["d".repeat(200); 20].join("/"));
    let odd: &[u8] = b"not\xff utf-8 \x1b[31m \"'\\ \n";
    let mut ustar = Header::new(b'0', &"n".repeat(100));
    ustar.bytes(345, &[b'p'; 155]);
    let tar = Tar::new()
        .file(&long, b"pax")
        .pax(&[("path", odd)])
        .header(&Header::new(b'0', "ignored"))
        .header(Header::new(b'L', "././@LongLink").gnu().size(151))
        .data(&[&[b'g'; 150][..], b"\0"].concat())
        .header(Header::new(b'K', "././@LongLink").gnu().size(201))
        .data(&[&[b't'; 200][..], b"\0"].concat())
        .header(Header::new(b'2', "short").gnu())
        .header(&ustar)
        .end();
    let (_scratch, d) = good(tar);
    assert_eq!(fs::read(d.join(&long)).unwrap(), b"pax");
    let name: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(odd);
    assert!(d.join(name).exists());
    assert_eq!(fs::read_link(d.join("g".repeat(150))).unwrap().as_os_str().len(), 200);
    assert!(d.join("p".repeat(155)).join("n".repeat(100)).exists());
    let most = format!("{}x", "a/".repeat(2047));
    let (_scratch, d) = good(Tar::new().file(&most, b"deep").end());
    assert_eq!(fs::read(d.join(most.replacen("a/", "", 20)).as_path()).ok(), None);
    bad("a path of 4096 bytes", &Tar::new().file(&format!("{}xx", "a/".repeat(2047)), b"").end());
    bad("a name of 256 bytes", &Tar::new().file(&"x".repeat(256), b"").end());
    let control = bad("NUL", &Tar::new().file(&format!("\x1b[31m/{}", "x".repeat(256)), b"").end());
    assert!(!control.contains('\x1b'), "{control:?}");
}

#[test]
fn sizes_and_numbers() {
    let base256 = |header: &mut Header, offset: usize, length: usize, value: u64| {
        let mut field = vec![0; length];
        field[length - 8..].copy_from_slice(&value.to_be_bytes());
        field[0] |= 0x80;
        header.bytes(offset, &field);
    };
    let mut header = Header::new(b'0', "f");
    header.gnu();
    base256(&mut header, 124, 12, 3);
    base256(&mut header, 136, 12, 1 << 33);
    header.bytes(108, b"\x80\0\0\0\xff\xff\xff\xfe");
    let (_scratch, d) = good(Tar::new().header(&header).data(b"abc").end());
    let meta = d.join("f").metadata().unwrap();
    assert_eq!((meta.size(), meta.mtime(), meta.uid()), (3, 1 << 33, u32::MAX - 1));
    let mut negative = Header::new(b'0', "f");
    negative.bytes(136, &[0xff; 12]);
    let (_scratch, d) = good(Tar::new().header(&negative).end());
    assert_eq!(d.join("f").metadata().unwrap().mtime(), -1);
    for (what, offset, bytes) in [
        ("negative size", 124, &b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"[..]),
        ("size above 2^63", 124, b"\x80\0\0\0\x80\0\0\0\0\0\0\0"),
        ("other base-256 marker", 124, b"\xc0\0\0\0\0\0\0\0\0\0\0\0"),
        ("owner -1", 108, b"\x80\0\0\0\xff\xff\xff\xff"),
        ("negative owner", 108, b"\xff\xff\xff\xff\xff\xff\xff\xfe"),
        ("letters", 100, b"0000x44\0"),
        ("blank", 124, b"            "),
        ("decimal", 124, b"00000000008\0"),
        ("negative octal", 124, b"-0000000001\0"),
    ] {
        bad(what, &Tar::new().header(Header::new(b'0', "f").bytes(offset, bytes)).end());
    }
    for (major, minor) in [(4096, 0), (0, 1 << 20)] {
        bad("device out of range", &Tar::new().device("d", major, minor).end());
    }
    let message = bad("overlayfs' whiteout", &Tar::new().device("d", 0, 0).end());
    assert!(message.contains("character device 0:0"), "{message}");
    good(Tar::new().header(Header::new(b'4', "d").device(0, 0)).end());
}

#[test]
fn checksums() {
    let mut block = Header::new(b'0', "f").block();
    block[0] = b'g';
    bad("a wrong checksum", &Tar(block.to_vec()).end());
    // Signed sums, as early tars on machines with signed characters wrote them.
    let mut header = Header::new(b'0', "f");
    header.bytes(0, b"\xe9t\xe9");
    let mut block = header.block();
    let unsigned = u32::from_str_radix(std::str::from_utf8(&block[148..154]).unwrap(), 8).unwrap();
    block[148..154].copy_from_slice(format!("{:06o}", unsigned - 512).as_bytes());
    let (_scratch, d) = good(Tar(block.to_vec()).end());
    assert_eq!(fs::read_dir(d).unwrap().count(), 1);
}

#[test]
fn the_end_of_an_archive() {
    let tar = Tar::new().file("f", b"x");
    let scratch = Scratch::new();
    let complete = |name: &str, tar: &[u8]| {
        extract_into(tar, &scratch.dir(name)).map(|layer| layer.end_marker()).map_err(|e| chain(&e))
    };
    assert_eq!(complete("two blocks", &tar.clone().end()), Ok(true));
    let one = [&tar.0[..], &[0; 512]].concat();
    assert_eq!(complete("one block", &one), Ok(true));
    assert_eq!(complete("none", &tar.0), Ok(false));
    assert_eq!(complete("nothing", b""), Ok(false));
    let trailing = [&tar.clone().end()[..], b"padding that only the digest counts"].concat();
    assert_eq!(complete("trailing", &trailing), Ok(true));
    bad("a lone block of zeros", &[&tar.0[..], &[0; 512], &tar.0].concat());
    for cut in [1, 100, 511, 513, 600] {
        bad(&format!("cut at {cut}"), &tar.0[..cut]);
    }
    for flag in *b"xgLK" {
        let extension = Tar::new().header(Header::new(flag, "e").size(600));
        bad("cut extension", &extension.0);
    }
    for flag in *b"xLK" {
        let data = if flag == b'x' { record("a", b"b") } else { b"x\0".to_vec() };
        bad("extension at the end", &Tar::new().raw_extended(flag, &data).end());
        bad("extension at the stream's end", &Tar::new().raw_extended(flag, &data).0);
    }
}

#[test]
fn pax_records_override_headers() {
    let sized = |pax: &[u8], header: u64, data: &[u8]| {
        let tar = Tar::new().pax(&[("size", pax)]);
        tar.header(Header::new(b'0', "f").size(header)).data(data).file("g", b"").end()
    };
    for (pax, header) in [(&b"5"[..], 0), (b"5", 1000), (b"5", 5)] {
        let (_scratch, d) = good(sized(pax, header, b"hello"));
        assert_eq!(shape(&d), ["f=hello", "g="]);
    }
    let (_scratch, d) = good(sized(b"0", 512, b""));
    assert_eq!(shape(&d), ["f=", "g="]);
    let (_scratch, d) = good(sized(b"", 5, b"hello"));
    assert_eq!(shape(&d), ["f=hello", "g="]);
    let tar = Tar::new().extended(b'g', &[("mtime", b"77"), ("uid", b"9"), ("comment", b"c")]);
    let tar = tar.file("f", b"").pax(&[("uid", b"10"), ("gid", b"")]).file("g", b"").end();
    let (_scratch, d) = good(tar);
    let owner = |name: &str| d.join(name).metadata().unwrap().uid();
    assert_eq!((owner("f"), owner("g")), (9, 10));
    assert_eq!(d.join("f").metadata().unwrap().mtime(), 77);
}

#[test]
fn extensions_that_readers_disagree_about() {
    let file = |tar: Tar| tar.file("f", b"").end();
    let path = record("path", b"p");
    let raw = |data: &[u8]| file(Tar::new().raw_extended(b'x', data));
    for (what, tar) in [
        ("x x", file(Tar::new().raw_extended(b'x', &path).raw_extended(b'x', &path))),
        ("L L", file(Tar::new().raw_extended(b'L', b"a\0").raw_extended(b'L', b"b\0"))),
        ("K K", file(Tar::new().raw_extended(b'K', b"a\0").raw_extended(b'K', b"b\0"))),
        ("L x", file(Tar::new().raw_extended(b'L', b"a\0").raw_extended(b'x', &path))),
        ("x L", file(Tar::new().raw_extended(b'x', &path).raw_extended(b'L', b"a\0"))),
        ("x g", file(Tar::new().raw_extended(b'x', &path).extended(b'g', &[("a", b"b")]))),
        ("global path", file(Tar::new().extended(b'g', &[("path", b"p")]))),
        ("global size", file(Tar::new().extended(b'g', &[("size", b"0")]))),
        ("global xattr", file(Tar::new().extended(b'g', &[("SCHILY.xattr.user.a", b"b")]))),
        ("empty long name", file(Tar::new().raw_extended(b'L', b"\0"))),
        ("long name with more behind", file(Tar::new().raw_extended(b'L', b"a\0b"))),
        ("no equals sign", raw(b"7 path\n")),
        ("no newline", raw(b"8 path=p")),
        ("length too short", raw(b"5 path=p\n")),
        ("length too long", raw(b"90 path=p\n")),
        ("no length", raw(b"path=p\n")),
        ("NUL in path", raw(&record("path", b"a\0b"))),
        ("NULs behind", raw(&[&path[..], b"\0\0"].concat())),
        ("negative size", raw(&record("size", b"-1"))),
        ("hexadecimal size", raw(&record("size", b"0x1"))),
        ("size above 2^63", raw(&record("size", b"9223372036854775808"))),
        ("owner above 2^32", raw(&record("uid", b"4294967296"))),
        ("owner -1", raw(&record("uid", b"4294967295"))),
        ("xattr without namespace", raw(&record("SCHILY.xattr.x", b"1"))),
        ("xattr without name", raw(&record("SCHILY.xattr.", b"1"))),
        (
            "xattr name of 256",
            raw(&record(&format!("SCHILY.xattr.user.{}", "x".repeat(251)), b"1")),
        ),
        ("xattr value", raw(&record("SCHILY.xattr.user.x", &vec![b'v'; (64 << 10) + 1]))),
    ] {
        bad(what, &tar);
    }
}

#[test]
fn entries_that_readers_disagree_about() {
    for kind in *b"23456" {
        let mut header = Header::new(kind, "e");
        header.link("t").size(512);
        bad("a size without data", &Tar::new().header(&header).data(&[1; 512]).end());
    }
    let sized = Tar::new().file("t", b"").header(Header::new(b'1', "h").link("t").size(99)).end();
    let (_scratch, d) = good(sized);
    assert_eq!(shape(&d), ["h=", "t="]);
    let pax = Tar::new().file("t", b"").pax(&[("size", b"3")]).hardlink("h", "t").data(b"abc");
    bad("a hard link with data", &pax.end());
    bad("a file with a slash", &Tar::new().file("f/", b"").end());
    bad("a link to nothing", &Tar::new().symlink("l", "").end());
    for kind in *b"MVDNXA89z" {
        bad("an unknown kind", &Tar::new().header(&Header::new(kind, "x")).end());
    }
    let mut v7 = Header::new(0, "v7dir/");
    v7.bytes(257, &[0; 8]);
    let mut file = Header::new(0, "v7dir/f");
    file.bytes(257, &[0; 8]).bytes(345, b"junk, not a prefix").size(2);
    let (_scratch, d) = good(Tar::new().header(&v7).header(&file).data(b"v7").end());
    assert_eq!(shape(&d), ["v7dir/", "v7dir/f=v7"]);
    let mut odd = Header::new(b'0', "f");
    bad("a device number that is none", &Tar::new().header(odd.bytes(331, b"-")).end());
    let mut prefixed = Header::new(b'0', "f");
    prefixed.gnu().bytes(345, b"prefix");
    bad("GNU magic with a prefix", &Tar::new().header(&prefixed).end());
}

/// An old GNU sparse header.
fn old_sparse(extents: &[(u64, u64)], stored: u64, real: u64, more: bool) -> Header {
    let mut header = Header::new(b'S', "s");
    header.gnu().size(stored);
    for (i, (offset, length)) in extents.iter().enumerate() {
        header.octal(386 + i * 24, 12, *offset).octal(398 + i * 24, 12, *length);
    }
    header.octal(483, 12, real);
    header.0[482] = u8::from(more);
    header
}

#[test]
fn sparse_files() {
    let mut expected = vec![0; 5000];
    expected[1024..1536].fill(b'a');
    expected[4096..4196].fill(b'b');
    let data = [&[b'a'; 512][..], &[b'b'; 100]].concat();
    let extents = [(1024, 512), (4096, 100), (5000, 0)];
    let old = Tar::new().header(&old_sparse(&extents, 612, 5000, false)).data(&data);
    let pax = |records: &[(&str, &[u8])], data: &[u8]| {
        let header = Header::new(b'0', "GNUSparseFile.0/s").size(data.len() as u64).clone();
        Tar::new().pax(records).header(&header).data(data)
    };
    let v00 = pax(
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
        &data,
    );
    let v01 = pax(
        &[
            ("GNU.sparse.name", b"s"),
            ("GNU.sparse.size", b"5000"),
            ("GNU.sparse.numblocks", b"3"),
            ("GNU.sparse.map", b"1024,512,4096,100,5000,0"),
        ],
        &data,
    );
    let mut map = b"3\n1024\n512\n4096\n100\n5000\n0\n".to_vec();
    map.resize(512, 0);
    let one: &[(&str, &[u8])] = &[
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"s"),
        ("GNU.sparse.realsize", b"5000"),
    ];
    let v10 = pax(one, &[&map[..], &data].concat());
    for (what, tar) in [("old", old), ("0.0", v00), ("0.1", v01), ("1.0", v10)] {
        let (_scratch, d) = good(tar.file("after", b"").end());
        assert_eq!(fs::read(d.join("s")).unwrap(), expected, "{what}");
        assert!(d.join("after").exists(), "{what}");
    }
    let mut second = [0; 512];
    second[..12].copy_from_slice(b"00000010000\0");
    second[12..24].copy_from_slice(b"00000000144\0");
    second[24..36].copy_from_slice(b"00000011610\0");
    second[36..48].copy_from_slice(b"00000000000\0");
    let first = old_sparse(&[(1024, 512)], 612, 5000, true);
    let extended = Tar::new().header(&first).data(&second).data(&data).file("after", b"").end();
    let (_scratch, d) = good(extended);
    assert_eq!(fs::read(d.join("s")).unwrap(), expected);

    let endless = Tar::new().header(&first).data(&[&[0; 504][..], &[1; 8]].concat());
    let many = [b"1000000000\n".as_slice(), &b"0\n0\n".repeat(100)].concat();
    let no_map: &[(&str, &[u8])] = &[("GNU.sparse.name", b"s"), ("GNU.sparse.realsize", b"5")];
    let version: &[(&str, &[u8])] = &[("GNU.sparse.major", b"2"), ("GNU.sparse.minor", b"0")];
    for (what, tar) in [
        ("overlap", Tar::new().header(&old_sparse(&[(512, 512), (600, 100)], 612, 5000, false))),
        ("descending", Tar::new().header(&old_sparse(&[(4096, 512), (0, 100)], 612, 5000, false))),
        ("behind the end", Tar::new().header(&old_sparse(&[(4096, 612)], 612, 4500, false))),
        ("a hole at the end", Tar::new().header(&old_sparse(&[(0, 612)], 612, 5000, false))),
        ("less than stored", Tar::new().header(&old_sparse(&[(0, 512)], 612, 5000, false))),
        ("unaligned", Tar::new().header(&old_sparse(&[(0, 100), (512, 512)], 612, 5000, false))),
        ("endless", endless),
        ("many", pax(one, &many)),
        ("no map", pax(no_map, &data)),
        ("version 2", pax(version, &data)),
        ("map without end", pax(one, &[b'1'; 1024])),
    ] {
        bad(what, &tar.data(&data).end());
    }
}

#[test]
fn a_chain_of_sparse_maps_has_an_end() {
    let first = Tar::new().header(&old_sparse(&[(0, 512)], 512, 1 << 30, true));
    let tar = (0..200_u64).fold(first, |tar, block| {
        let mut more = Header([0; 512]);
        for pair in 0..21 {
            let at = usize::try_from(24 * pair).unwrap();
            more.octal(at, 12, 10_000 + block * 21 + pair).octal(at + 12, 12, 0);
        }
        more.bytes(504, b"\x01");
        tar.data(&more.0)
    });
    let few = Limits { extents: 4000, ..Limits::default() };
    let scratch = Scratch::new();
    let dest = fs::File::open(scratch.dir("d")).unwrap();
    let error = extract(&tar.end()[..], &Destination::new(dest.as_fd(), &few)).unwrap_err();
    assert!(chain(&error).contains("too many extents"), "{}", chain(&error));
}
