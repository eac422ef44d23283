//! Layers on top of each other: whiteouts, replacements, links across layers, times.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::archive::{Header, Tar};
use crate::support::{Scratch, chain, shape, unpack};

fn base() -> Vec<u8> {
    Tar::new()
        .dir("etc")
        .file("etc/a", b"a1")
        .file("etc/b", b"b1")
        .dir("etc/sub")
        .file("etc/sub/c", b"c1")
        .dir("usr")
        .dir("usr/lib")
        .file("usr/lib/x", b"x1")
        .symlink("lib", "usr/lib")
        .symlink("abs", "/usr/lib")
        .end()
}

#[track_caller]
fn merged(layers: &[Vec<u8>]) -> Vec<String> {
    let scratch = Scratch::new();
    match unpack(&scratch, layers) {
        Ok(root) => shape(&root),
        Err(error) => panic!("{}", chain(&error)),
    }
}

#[track_caller]
fn over_base(upper: Tar, expected: &[&str]) {
    assert_eq!(merged(&[base(), upper.end()]), expected);
}

const LIBS: [&str; 5] = ["abs -> /usr/lib", "lib -> usr/lib", "usr/", "usr/lib/", "usr/lib/x=x1"];

fn with_libs(etc: &[&'static str]) -> Vec<&'static str> {
    [&LIBS[..1], etc, &LIBS[1..]].concat()
}

#[test]
fn whiteouts_hide_what_is_below() {
    let all = ["etc/", "etc/a=a1", "etc/b=b1", "etc/sub/", "etc/sub/c=c1"];
    over_base(Tar::new(), &with_libs(&all));
    over_base(Tar::new().file("etc/.wh.a", b""), &with_libs(&[all[0], all[2], all[3], all[4]]));
    over_base(Tar::new().file("etc/.wh.sub", b""), &with_libs(&all[..3]));
    over_base(Tar::new().file(".wh.etc", b""), &with_libs(&[]));
    over_base(Tar::new().file("etc/.wh..wh..opq", b""), &with_libs(&all[..1]));
    over_base(Tar::new().file("etc/sub/.wh..wh..opq", b""), &with_libs(&all[..4]));
    over_base(Tar::new().file("none/.wh.a", b"").file("etc/.wh.none", b""), &with_libs(&all));
    over_base(Tar::new().dir("etc/.wh.a"), &with_libs(&[all[0], all[2], all[3], all[4]]));
    let opaque_root = merged(&[base(), Tar::new().file(".wh..wh..opq", b"").file("n", b"").end()]);
    assert_eq!(opaque_root, ["n="]);
}

#[test]
fn whiteouts_leave_their_own_layer_alone_in_any_order() {
    let mine = || Tar::new().dir("etc").file("etc/a", b"a2").file("etc/new", b"n");
    let opaque = "etc/.wh..wh..opq";
    let expected = with_libs(&["etc/", "etc/a=a2", "etc/new=n"]);
    over_base(mine().file(opaque, b""), &expected);
    over_base(Tar(Tar::new().file(opaque, b"").0.into_iter().chain(mine().0).collect()), &expected);
    over_base(mine().file(".wh.etc", b""), &expected);
    over_base(
        Tar(Tar::new().file(".wh.etc", b"").0.into_iter().chain(mine().0).collect()),
        &expected,
    );
    let rest =
        with_libs(&["etc/", "etc/a=a2", "etc/b=b1", "etc/new=n", "etc/sub/", "etc/sub/c=c1"]);
    over_base(mine().file("etc/.wh.a", b"").file("etc/.wh.new", b""), &rest);
    // A whiteout in a directory that the same layer replaces has nothing to hide any more.
    over_base(
        Tar::new().file("etc/sub/.wh.c", b"").file("etc/sub", b"file"),
        &with_libs(&["etc/", "etc/a=a1", "etc/b=b1", "etc/sub=file"]),
    );
}

#[test]
fn whiteouts_follow_links_of_the_lower_layers() {
    let expected: Vec<_> = with_libs(&["etc/", "etc/a=a1", "etc/b=b1", "etc/sub/", "etc/sub/c=c1"]);
    let without_x = &expected[..expected.len() - 1];
    over_base(Tar::new().file("lib/.wh.x", b""), without_x);
    over_base(Tar::new().file("abs/.wh..wh..opq", b""), without_x);
    // A link that this layer makes a directory of does not lead anywhere.
    let upper = Tar::new().dir("lib").file("lib/.wh.x", b"");
    let shape = merged(&[base(), upper.end()]);
    assert!(shape.contains(&"usr/lib/x=x1".to_owned()) && shape.contains(&"lib/".to_owned()));
    // What this layer puts where the link leads is not hidden.
    let upper = Tar::new().file("lib/.wh.x", b"").file("usr/lib/x", b"x2");
    assert!(merged(&[base(), upper.end()]).contains(&"usr/lib/x=x2".to_owned()));
}

#[test]
fn malformed_whiteouts_are_refused() {
    for name in
        [".wh.", "etc/.wh.", ".wh..", "etc/.wh...", ".wh..wh.x", "etc/.wh.y/z", "etc/.wh..wh.plnk"]
    {
        let scratch = Scratch::new();
        let error = unpack(&scratch, &[base(), Tar::new().file(name, b"").end()]).unwrap_err();
        assert!(error.to_string().starts_with("refuse entry"), "{name}: {error}");
    }
    let aufs =
        Tar::new().dir(".wh..wh.plnk").file(".wh..wh.plnk/123.456", b"").file(".wh..wh.aufs", b"");
    assert_eq!(merged(&[aufs.file("f", b"").end()]), ["f="]);
}

#[test]
fn kinds_change_between_layers() {
    let lower =
        || Tar::new().dir("d").file("d/in", b"").file("f", b"f").symlink("l", "d").fifo("p");
    for (what, upper, expected) in [
        ("dir to file", Tar::new().file("d", b"x"), vec!["d=x", "f=f", "l -> d", "p!"]),
        ("dir to link", Tar::new().symlink("d", "f"), vec!["d -> f", "f=f", "l -> d", "p!"]),
        (
            "file to dir",
            Tar::new().dir("f").file("f/g", b""),
            vec!["d/", "d/in=", "f/", "f/g=", "l -> d", "p!"],
        ),
        (
            "link to dir",
            Tar::new().dir("l").file("l/g", b""),
            vec!["d/", "d/in=", "f=f", "l/", "l/g=", "p!"],
        ),
        (
            "through link",
            Tar::new().file("l/g", b""),
            vec!["d/", "d/g=", "d/in=", "f=f", "l -> d", "p!"],
        ),
        (
            "through file",
            Tar::new().file("f/g", b""),
            vec!["d/", "d/in=", "f/", "f/g=", "l -> d", "p!"],
        ),
        ("fifo to file", Tar::new().file("p", b"p"), vec!["d/", "d/in=", "f=f", "l -> d", "p=p"]),
    ] {
        assert_eq!(merged(&[lower().end(), upper.clone().end()]), expected, "{what}");
        let together = Tar([lower().0, upper.0].concat());
        assert_eq!(merged(&[together.end()]), expected, "{what}, in one layer");
    }
}

#[test]
fn implied_directories_follow_links_below() {
    let upper = Tar::new().file("lib/y", b"y").file("lib/deep/z", b"z").file("abs/w", b"w");
    let lines = merged(&[base(), upper.end()]);
    let expected = with_libs(&["etc/", "etc/a=a1", "etc/b=b1", "etc/sub/", "etc/sub/c=c1"]);
    let mut expected: Vec<_> = expected.iter().map(|line| (*line).to_owned()).collect();
    let more = ["usr/lib/deep/", "usr/lib/deep/z=z", "usr/lib/w=w", "usr/lib/x=x1", "usr/lib/y=y"];
    expected.pop();
    expected.extend(more.map(str::to_owned));
    assert_eq!(lines, expected);
    let dangling = Tar::new().symlink("l", "not/there").end();
    let lines = merged(&[dangling, Tar::new().file("l/f", b"f").end()]);
    assert_eq!(lines, ["l -> not/there", "not/", "not/there/", "not/there/f=f"]);
}

#[test]
fn hard_links_across_layers() {
    let scratch = Scratch::new();
    let upper = Tar::new().hardlink("new", "etc/a").hardlink("again", "new").hardlink("l", "lib/x");
    let root = unpack(&scratch, &[base(), upper.end()]).unwrap();
    let inode = |name: &str| root.join(name).symlink_metadata().unwrap().ino();
    assert_eq!(inode("etc/a"), inode("new"));
    assert_eq!(inode("etc/a"), inode("again"));
    assert_eq!(inode("usr/lib/x"), inode("l"));

    // A rename, as some builders write it.
    let lines =
        merged(&[base(), Tar::new().hardlink("etc/z", "etc/a").file("etc/.wh.a", b"").end()]);
    assert!(lines.contains(&"etc/z=a1".to_owned()) && !lines.contains(&"etc/a=a1".to_owned()));
    // Replaced before it could be made.
    let lines = merged(&[base(), Tar::new().hardlink("n", "etc/a").file("n", b"mine").end()]);
    assert!(lines.contains(&"n=mine".to_owned()) && lines.contains(&"etc/a=a1".to_owned()));
    let lines = merged(&[base(), Tar::new().hardlink("n", "etc/a").file("n/f", b"").end()]);
    assert!(lines.contains(&"n/f=".to_owned()));
    // A new file of the target's name is another file.
    let lines = merged(&[base(), Tar::new().hardlink("n", "etc/a").file("etc/a", b"a2").end()]);
    assert!(lines.contains(&"n=a1".to_owned()) && lines.contains(&"etc/a=a2".to_owned()));

    for (what, upper) in [
        ("nowhere", Tar::new().hardlink("n", "etc/none")),
        ("a directory", Tar::new().hardlink("n", "etc")),
        ("itself", Tar::new().hardlink("n", "n")),
        ("later", Tar::new().hardlink("n", "m").file("m", b"")),
        ("through a file", Tar::new().hardlink("n", "etc/a/b")),
    ] {
        let scratch = Scratch::new();
        assert!(unpack(&scratch, &[base(), upper.end()]).is_err(), "{what}");
    }
    let scratch = Scratch::new();
    let upper = Tar::new().hardlink("n", "none/file");
    let error = unpack(&scratch, &[base(), upper.end()]).unwrap_err();
    let expected = "link `n` to `none/file`: no such file in this layer or below";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn directories_end_with_the_metadata_of_their_uppermost_entry() {
    let dir = |name: &str, mode, owner, mtime| {
        let mut header = Header::new(b'5', name);
        header.mode(mode).owner(owner, owner).mtime(mtime);
        header
    };
    let lower = Tar::new()
        .header(&dir(".", 0o755, 0, 1))
        .pax(&[("SCHILY.xattr.user.lower", b"1")])
        .header(&dir("both", 0o700, 1, 10))
        .file("both/f", b"")
        .header(&dir("kept", 0o2750, 2, 20))
        .file("kept/f", b"")
        .header(&dir("hidden", 0o755, 3, 30))
        .file("hidden/f", b"")
        .header(&dir("real", 0o755, 4, 40))
        .symlink("link", "real");
    let upper = Tar::new()
        .pax(&[("SCHILY.xattr.user.upper", b"2")])
        .header(&dir("both", 0o1755, 5, 50))
        .file("both/g", b"")
        .file("kept/g", b"")
        .file("hidden/.wh.f", b"")
        .file("link/g", b"")
        .header(&dir("new", 0o711, 6, 60));
    let scratch = Scratch::new();
    let root = unpack(&scratch, &[lower.end(), upper.end()]).unwrap();
    for (name, mode, owner, mtime) in [
        ("", 0o755, 0, 1),
        ("both", 0o1755, 5, 50),
        ("kept", 0o2750, 2, 20),
        ("hidden", 0o755, 3, 30),
        ("real", 0o755, 4, 40),
        ("new", 0o711, 6, 60),
    ] {
        let meta = fs::symlink_metadata(root.join(name)).unwrap();
        let seen = (meta.mode() & 0o7777, meta.uid(), meta.gid(), meta.mtime());
        assert_eq!(seen, (mode, owner, owner, mtime), "{name}");
    }
    let lines = crate::support::picture(&root);
    let both = lines.iter().find(|line| line.starts_with("both ")).unwrap();
    assert!(both.contains("user.upper=2") && !both.contains("user.lower"), "{both}");
}

#[test]
fn a_later_entry_of_the_same_name_wins() {
    let tar = Tar::new()
        .header(Header::new(b'5', "d").mode(0o700))
        .file("d/f", b"1")
        .header(Header::new(b'5', "d").mode(0o711).mtime(9))
        .file("d/f", b"22")
        .file("x", b"x")
        .hardlink("y", "x")
        .file("x", b"new");
    let scratch = Scratch::new();
    let root = unpack(&scratch, &[tar.end()]).unwrap();
    assert_eq!(shape(&root), ["d/", "d/f=22", "x=new", "y=x"]);
    let meta = root.join("d").metadata().unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.mtime()), (0o711, 9));
}
