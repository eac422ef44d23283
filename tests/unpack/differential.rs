//! The same archives through other programs: GNU tar, Python's tarfile, umoci.

use std::fs;
use std::path::Path;
use std::process::Command;

use mydocker::unpack::pack;

use crate::archive::{Header, Tar};
use crate::support::{Scratch, assert_same, chain, extract_into, have, picture, run, unpack};

/// A tree with about everything that a tree can hold.
fn make_tree(root: &Path) {
    let script = r#"
        set -e; umask 022
        mkdir -p usr/bin usr/lib/deep/er etc empty "sp ace"
        cp -a /usr/share/doc/tar usr/doc 2>/dev/null || true
        head -c 300000 /dev/urandom > usr/bin/big; chmod 4755 usr/bin/big
        printf x > "sp ace/$(printf 'n\303\244me')"
        printf y > "$(printf 'bad\377name')"
        ln usr/bin/big usr/bin/again; ln -s ../bin/big usr/lib/link; ln -s /etc/passwd etc/abs
        ln usr/lib/link usr/lib/link2
        mkfifo etc/fifo; mknod etc/null c 1 3; mknod etc/sda b 8 0
        chown 1000:2000 etc/fifo; chown -h 5:6 usr/lib/link; chown 7:8 empty; chmod 1777 empty
        chmod 2755 etc; : > etc/secret; chmod 0 etc/secret
        truncate -s 1M etc/sparse; printf mid | dd of=etc/sparse bs=1 seek=300000 conv=notrunc 2>/dev/null
        printf e >> etc/sparse
        d=long; for i in 1 2 3 4 5 6 7; do d=$d/$(printf '%0120d' $i); done; mkdir -p $d
        : > $d/file; ln -s $(printf '%0200d' 7) longlink
        touch -h -d '2001-02-03 04:05:06.123456789' usr/lib/link etc/null usr/bin/big
        find . -type d -exec touch -d '2002-03-04 05:06:07' {} +
    "#;
    run(Command::new("sh").arg("-c").arg(script).current_dir(root));
}

#[test]
fn gnu_tar_writes_and_reads_the_same() {
    let scratch = Scratch::new();
    let tree = scratch.dir("tree");
    make_tree(&tree);
    for (i, format) in [
        &["--format=gnu"][..],
        &["--format=gnu", "--sparse"],
        &["--format=pax"],
        &["--format=pax", "--sparse", "--sparse-version=0.0"],
        &["--format=pax", "--sparse", "--sparse-version=0.1"],
        &["--format=pax", "--sparse", "--sparse-version=1.0"],
        &["--format=gnu", "--numeric-owner", "--blocking-factor=1"],
    ]
    .iter()
    .enumerate()
    {
        let tar = scratch.path("t.tar");
        run(Command::new("tar")
            .args(*format)
            .args(["-C", tree.to_str().unwrap(), "-cf"])
            .arg(&tar)
            .arg("."));
        let (ours, theirs) = (scratch.dir(&format!("ours{i}")), scratch.dir(&format!("theirs{i}")));
        extract_into(&fs::read(&tar).unwrap(), &ours).unwrap();
        let options = ["-p", "--same-owner", "--numeric-owner", "--xattrs", "-C"];
        run(Command::new("tar").args(options).arg(&theirs).arg("-xf").arg(&tar));
        assert_same(&picture(&ours), &picture(&theirs), &format!("{format:?}"));
    }
    let sparse = fs::metadata(scratch.path("ours1/etc/sparse")).unwrap();
    assert!(std::os::unix::fs::MetadataExt::blocks(&sparse) < 200, "holes were filled");
}

#[test]
fn python_writes_the_same() {
    let scratch = Scratch::new();
    let tree = scratch.dir("tree");
    make_tree(&tree);
    for format in ["USTAR_FORMAT", "GNU_FORMAT", "PAX_FORMAT"] {
        let script = format!(
            "import tarfile,sys\nt=tarfile.open(sys.argv[2],'w',format=tarfile.{format})\n\
             t.add(sys.argv[1],'.',filter=lambda i: None if '{format}'[0]=='U' and max(len(n.encode('utf8','surrogateescape')) for n in (i.name,i.linkname))>99 else i)\nt.close()"
        );
        let tar = scratch.path("t.tar");
        run(Command::new("python3").arg("-c").arg(script).arg(&tree).arg(&tar));
        let (ours, theirs) =
            (scratch.dir(&format!("o{format}")), scratch.dir(&format!("t{format}")));
        extract_into(&fs::read(&tar).unwrap(), &ours).unwrap();
        run(Command::new("tar")
            .args(["-p", "--same-owner", "--numeric-owner", "-C"])
            .arg(&theirs)
            .arg("-xf")
            .arg(&tar));
        assert_same(&picture(&ours), &picture(&theirs), format);
    }
}

#[test]
fn what_is_packed_comes_back() {
    let scratch = Scratch::new();
    let tree = scratch.dir("tree");
    make_tree(&tree);
    run(Command::new("setfattr").args(["-n", "user.note", "-v", "a\nb"]).arg(tree.join("usr")));
    run(Command::new("setcap").args(["cap_net_raw+ep"]).arg(tree.join("usr/bin/big")));
    run(Command::new("touch").args(["-d", "1960-01-01 00:00:00.25"]).arg(tree.join("etc/secret")));
    run(Command::new("chown").args(["3000000000:4000000000"]).arg(tree.join("etc/secret")));
    let mut tar = Vec::new();
    let dir = fs::File::open(&tree).unwrap();
    pack(std::os::fd::AsFd::as_fd(&dir), &mut tar).unwrap();
    let (ours, theirs) = (scratch.dir("ours"), scratch.dir("theirs"));
    extract_into(&tar, &ours).unwrap();
    assert_same(&picture(&ours), &picture(&tree), "packed");
    fs::write(scratch.path("t.tar"), &tar).unwrap();
    let options = ["-p", "--same-owner", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-C"];
    run(Command::new("tar").args(options).arg(&theirs).arg("-xf").arg(scratch.path("t.tar")));
    assert_same(&picture(&theirs), &picture(&tree), "packed, for GNU tar");
    let mut again = Vec::new();
    pack(std::os::fd::AsFd::as_fd(&dir), &mut again).unwrap();
    assert!(tar == again, "packing is not reproducible");
    fs::write(tree.join(".wh.x"), "").unwrap();
    let error = pack(std::os::fd::AsFd::as_fd(&dir), &mut Vec::new()).unwrap_err();
    assert!(error.to_string().starts_with("refuse entry `.wh.x`"), "{error}");
}

/// Builds an image layout of uncompressed layers for umoci.
fn layout(dir: &Path, layers: &[Vec<u8>]) {
    let digest = |bytes: &[u8]| mydocker::oci::digest::Digest::sha256(bytes);
    let put = |bytes: &[u8]| {
        fs::write(dir.join("blobs/sha256").join(digest(bytes).encoded()), bytes).unwrap();
        format!("\"digest\":\"{}\",\"size\":{}", digest(bytes), bytes.len())
    };
    fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let ids: Vec<_> = layers.iter().map(|layer| format!("\"{}\"", digest(layer))).collect();
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        ids.join(",")
    );
    let config = put(config.as_bytes());
    let layers: Vec<_> = layers
        .iter()
        .map(|layer| {
            format!(r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar",{}}}"#, put(layer))
        })
        .collect();
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json",{config}}},"layers":[{}]}}"#,
        layers.join(",")
    );
    let manifest = put(manifest.as_bytes());
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json",{manifest},"annotations":{{"org.opencontainers.image.ref.name":"t"}}}}]}}"#
    );
    fs::write(dir.join("index.json"), index).unwrap();
}

/// What umoci makes of the layers; `None` if it refuses them.
pub(crate) fn umoci(scratch: &Scratch, layers: &[Vec<u8>]) -> Option<std::path::PathBuf> {
    let (image, bundle) = (scratch.dir("image"), scratch.path("bundle"));
    layout(&image, layers);
    let image = format!("{}:t", image.display());
    let output =
        Command::new("umoci").args(["unpack", "--image", &image]).arg(&bundle).output().unwrap();
    output.status.success().then(|| bundle.join("rootfs"))
}

#[test]
fn umoci_makes_the_same_of_layers() {
    if !have("umoci") {
        return;
    }
    let root = || Tar::new().dir(".");
    let dir = |tar: Tar, name: &str, mtime| tar.header(Header::new(b'5', name).mtime(mtime));
    let base = dir(dir(root(), "a", 10), "b", 20)
        .file("a/f", b"f")
        .file("b/g", b"g")
        .symlink("l", "a")
        .symlink("abs", "/b")
        .hardlink("h", "a/f")
        .end();
    let uppers = [
        root().file("a/new", b"n"),
        root().file("l/new", b"n"),
        root().file("abs/new", b"n").file("abs/.wh.g", b""),
        root().dir("l").file("l/f", b""),
        root().file(".wh.a", b""),
        root().file("a/.wh..wh..opq", b"").file("a/z", b"z"),
        root().file("a/z", b"z").file("a/.wh..wh..opq", b""),
        root().file("a/.wh.f", b"").file("a/f", b"again"),
        root().file("a", b"file"),
        root().symlink("a", "b").file("a/x", b"x"),
        root().hardlink("n", "b/g").file("b/.wh.g", b""),
        root().hardlink("n", "abs/g").hardlink("m", "n"),
        root().dir("h").file("h/i", b""),
        root().fifo("a/f").device("b/g", 5, 1),
        root().file("x/../../y", b"clean"),
        root().symlink("up", "../../..").file("up/in", b"in"),
        root().symlink("d", "not/there").file("d/f", b"f"),
        root().file("a/f", b"1").file("a/f", b"2"),
    ];
    for (i, upper) in uppers.into_iter().enumerate() {
        // An entry of its own for every directory, so that no time is left to chance.
        let scratch = Scratch::new();
        let layers = [base.clone(), upper.end()];
        let theirs = umoci(&scratch, &layers).unwrap_or_else(|| panic!("umoci refuses {i}"));
        let ours = match unpack(&scratch, &layers) {
            Ok(ours) => ours,
            Err(error) => panic!("{i}: {}", chain(&error)),
        };
        // Directories that neither layer describes get the time of the day from umoci, and so does a root that is
        // reached through a link.
        let lines = |root: &Path| -> Vec<String> {
            let implied = |line: &str| [" ", "not", "l/", "d/"].iter().any(|n| line.starts_with(n));
            picture(root).into_iter().filter(|line| !implied(line)).collect()
        };
        assert_same(&lines(&ours), &lines(&theirs), &format!("case {i}"));
        assert_eq!(crate::support::shape(&ours), crate::support::shape(&theirs), "case {i}");
    }
}
