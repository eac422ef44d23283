//! Archives that want out of their directory.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::archive::{Header, Tar};
use crate::support::{Canary, Scratch, chain, shape, unpack};

/// What a later entry may be that goes through a link.
fn later(name: &str, canary: &str) -> Vec<(&'static str, Tar)> {
    let tar = Tar::new();
    let slash = name.rfind('/').unwrap();
    vec![
        ("file", tar.clone().file(name, b"evil")),
        ("dir", tar.clone().header(Header::new(b'5', name).mode(0o4777).owner(1, 1).mtime(1))),
        ("symlink", tar.clone().symlink(name, "evil")),
        ("hard link", tar.clone().hardlink(name, &format!("{canary}/f"))),
        ("hard link through", tar.clone().hardlink("x", name)),
        ("fifo", tar.clone().fifo(name)),
        ("device", tar.clone().device(name, 1, 1)),
        ("whiteout", tar.clone().file(&format!("{}/.wh.f", &name[..slash]), b"")),
        ("opaque", tar.clone().file(&format!("{}/.wh..wh..opq", &name[..slash]), b"")),
        ("deep", tar.file(&format!("{name}/exploit/foo/bar"), b"evil")),
    ]
}

#[test]
fn nothing_leaves_through_a_link() {
    let canary = Canary::new();
    let outside = canary.path();
    let up = format!("{}{outside}", "../".repeat(12));
    let targets = [
        outside.clone(),
        up,
        "..".to_owned(),
        "../..".to_owned(),
        "/".to_owned(),
        "/proc/self/cwd".to_owned(),
        "/proc/self/cwd/..".to_owned(),
        "/proc/self/root".to_owned(),
        format!("/proc/self/root{outside}"),
        "dangling/nowhere".to_owned(),
        "l".to_owned(),
        "second".to_owned(),
    ];
    for target in &targets {
        let links = Tar::new().symlink("second", &outside).symlink("l", target);
        for (what, tar) in later("l/f", &outside) {
            let one = [links.clone().0, tar.0.clone()].concat();
            let together = vec![Tar(one).end()];
            let apart = vec![links.clone().end(), tar.clone().end()];
            for layers in [together, apart] {
                let scratch = Scratch::new();
                let result = unpack(&scratch, &layers);
                canary.check(&format!("{target} {what}: {:?}", result.map_err(|e| chain(&e))));
            }
        }
    }
}

#[test]
fn names_that_climb_stay_inside() {
    let canary = Canary::new();
    let outside = canary.path();
    for name in [
        format!("{outside}/f"),
        format!("..{outside}/f"),
        format!("{}{outside}/f", "../".repeat(12)),
        format!("a/{}{outside}/f", "../".repeat(12)),
        format!("/proc/self/root{outside}/f"),
    ] {
        for (what, tar) in later(&name, &outside) {
            let scratch = Scratch::new();
            let result = unpack(&scratch, &[tar.end()]);
            canary.check(&format!("{name} {what}: {:?}", result.map_err(|e| chain(&e))));
        }
    }
}

#[test]
fn hard_links_name_files_of_the_tree_only() {
    let canary = Canary::new();
    let outside = canary.path();
    for link in [
        format!("{outside}/f"),
        format!("../../../../../../../../../..{outside}/f"),
        "f".to_owned(),
        "dir".to_owned(),
        "x".to_owned(),
        "s/f".to_owned(),
        "/".to_owned(),
        ".".to_owned(),
        "..".to_owned(),
        "later".to_owned(),
    ] {
        let tar = Tar::new()
            .dir("dir")
            .symlink("s", &outside)
            .hardlink("x", &link)
            .file("x", b"overwritten")
            .file("later", b"");
        let scratch = Scratch::new();
        let result = unpack(&scratch, &[tar.end()]);
        canary.check(&format!("{link}: {:?}", result.map_err(|e| chain(&e))));
    }
}

#[test]
fn a_link_to_a_link_takes_no_metadata_from_its_header() {
    let canary = Canary::new();
    let tar = Tar::new()
        .symlink("s", &format!("{}/f", canary.path()))
        .header(Header::new(b'1', "h").link("s").mode(0o4777).owner(1, 1));
    let scratch = Scratch::new();
    let root = unpack(&scratch, &[tar.end()]).unwrap();
    canary.check("hard link to a symbolic link");
    let (s, h) = (root.join("s").symlink_metadata(), root.join("h").symlink_metadata());
    assert_eq!(s.unwrap().ino(), h.unwrap().ino());
}

#[test]
fn metadata_does_not_follow_links() {
    let canary = Canary::new();
    let inside = format!("{}/d", canary.path());
    let xattr: &[(&str, &[u8])] = &[("SCHILY.xattr.user.x", b"1")];
    for kind in [b'5', b'0', b'2', b'6'] {
        let tar = Tar::new().symlink("d", &inside);
        let tar = if matches!(kind, b'5' | b'0') { tar.pax(xattr) } else { tar };
        let mut header = Header::new(kind, "d");
        header.mode(0o4777).owner(1, 1).mtime(1);
        if kind == b'2' {
            header.link("elsewhere");
        }
        let layers = vec![Tar::new().symlink("d", &inside).end(), tar.header(&header).end()];
        let scratch = Scratch::new();
        unpack(&scratch, &layers).unwrap();
        canary.check("metadata");
    }
}

#[test]
fn the_root_stays_what_it_is() {
    let canary = Canary::new();
    let outside = canary.path();
    for name in [".", "./", "/", "//", "./.", "a/..", "..", "../.."] {
        for kind in [b'0', b'1', b'2', b'3', b'6'] {
            let mut header = Header::new(kind, name);
            header.link(&outside);
            let scratch = Scratch::new();
            let tar = Tar::new().header(&header).file("f", b"").end();
            assert!(unpack(&scratch, &[tar]).is_err(), "{name} {}", char::from(kind));
            canary.check(name);
        }
        let scratch = Scratch::new();
        let tar = Tar::new().header(Header::new(b'5', name).mode(0o700)).end();
        let root = unpack(&scratch, &[tar]).unwrap();
        assert_eq!(root.metadata().unwrap().mode() & 0o7777, 0o700, "{name}");
    }
    let scratch = Scratch::new();
    assert!(unpack(&scratch, &[Tar::new().file("", b"").end()]).is_err());
}

#[test]
fn links_that_never_end() {
    let scratch = Scratch::new();
    let tar = Tar::new().symlink("a", "b").symlink("b", "a").file("a/f", b"");
    let error = unpack(&scratch, &[tar.end()]).unwrap_err();
    assert!(chain(&error).contains("Too many levels of symbolic links"), "{}", chain(&error));
    let chain_of = |n: usize| {
        let tar = (0..n).fold(Tar::new().dir("d0"), |tar, i| {
            tar.symlink(&format!("d{}", i + 1), &format!("d{i}"))
        });
        tar.file(&format!("d{n}/f"), b"x").end()
    };
    let (forty, more) = (Scratch::new(), Scratch::new());
    let root = unpack(&forty, &[chain_of(40)]).unwrap();
    assert_eq!(fs::read(root.join("d0/f")).unwrap(), b"x");
    assert!(unpack(&more, &[chain_of(41)]).is_err());
}

#[test]
fn what_a_name_leads_to_is_never_remembered_too_long() {
    let canary = Canary::new();
    let outside = canary.path();
    let start = || Tar::new().dir("a").dir("a/b").file("a/b/f1", b"1");
    let file = |tar: Tar| tar.file("a/b/f2", b"2").end();
    let cases = [
        ("link", file(start().symlink("a/b", &outside))),
        ("link above", file(start().symlink("a", "/"))),
        ("link to the same", file(start().symlink("a", "a").symlink("a", "x"))),
        ("file above", file(start().file("a", b""))),
        ("again", file(start().file("a/b", b"").dir("a/b"))),
        ("through", file(start().symlink("l", "a/b").file("l/f3", b"").symlink("l", &outside))),
    ];
    for (what, tar) in cases {
        let scratch = Scratch::new();
        let root = unpack(&scratch, &[tar]).unwrap();
        canary.check(what);
        let reached = fs::symlink_metadata(root.join("a"));
        assert!(reached.is_ok(), "{what}: {:?}", shape(&root));
    }
    let scratch = Scratch::new();
    let tar = start().symlink("a/b", "/elsewhere").file("a/b/f2", b"2").end();
    let root = unpack(&scratch, &[tar]).unwrap();
    assert_eq!(shape(&root), ["a/", "a/b -> /elsewhere", "elsewhere/", "elsewhere/f2=2"]);
}

#[test]
fn names_of_book_keeping_mean_nothing() {
    let canary = Canary::new();
    let outside = canary.path();
    let names = [".complete", "diff", "upper", "work", "merged", "link", "staging0", "root"];
    let tar = names.iter().fold(Tar::new(), |tar, name| tar.symlink(name, &outside));
    let tar = tar.file("../staging1/x", b"inside").end();
    let scratch = Scratch::new();
    let root = unpack(&scratch, &[tar.clone(), tar]).unwrap();
    canary.check("book-keeping");
    assert_eq!(fs::read(root.join("staging1/x")).unwrap(), b"inside");
}

#[test]
fn a_slash_behind_a_link_does_not_lead_through_it() {
    let canary = Canary::new();
    let outside = canary.path();
    for target in [outside.clone(), "/".to_owned(), "..".to_owned(), "/proc/self/root/".to_owned()]
    {
        for kind in [b'0', b'1', b'2', b'3', b'5', b'6'] {
            for name in ["l/", "l//", "l/.", "./l/"] {
                let mut header = Header::new(kind, name);
                header.mode(0o4777).owner(1, 1).mtime(1).link("l/");
                let link = Tar::new().symlink("l", &target);
                let together = vec![link.clone().header(&header).end()];
                let apart = vec![link.end(), Tar::new().header(&header).end()];
                for layers in [together, apart] {
                    let result = unpack(&Scratch::new(), &layers);
                    let kind = char::from(kind);
                    canary.check(&format!(
                        "{kind} {name} -> {target}: {:?}",
                        result.map_err(|e| chain(&e))
                    ));
                }
            }
        }
    }
}

#[test]
fn hard_links_end_at_the_root_of_the_tree_whatever_chain_of_links_they_go_through() {
    let canary = Canary::new();
    let outside = canary.path();
    let up = format!("{}{}", "../".repeat(20), outside.trim_start_matches('/'));
    for first in [outside.clone(), up, "/proc/self/cwd".to_owned()] {
        let chained = (1..12).fold(Tar::new().symlink("l0", &first), |tar, i| {
            tar.symlink(&format!("l{i}"), &format!("l{}", i - 1))
        });
        let tar = chained
            .hardlink("x", "l11/f")
            .file("x", b"overwritten")
            .hardlink("y", "l11")
            .header(Header::new(b'1', "z").link("l11/../f").mode(0o4777).owner(1, 1));
        let scratch = Scratch::new();
        let result = unpack(&scratch, &[tar.end()]);
        canary.check(&format!("{first}: {:?}", result.map_err(|e| chain(&e))));
    }
}
