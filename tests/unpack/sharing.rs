//! Files of a layer that another tree has: linked where they are what the layer wrote, and written where they are not.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Cursor;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use mydocker::oci::digest::{DiffId, Digest};
use mydocker::unpack::list::{Depth, ListReader, ListedLayer, Origins, compare, write_list};
use mydocker::unpack::{
    Compression, Destination, Donor, Error, Layer, Limits, merge, replay_layer, unpack_layer,
};

use crate::archive::{Header, Tar};
use crate::random::random_layer;
use crate::support::{Scratch, assert_same, picture};

/// A tree with its list and the headers of its layers.
#[derive(Debug)]
struct Image {
    root: PathBuf,
    list: Vec<u8>,
    headers: Vec<PathBuf>,
}

impl Image {
    fn donor(&self) -> Donor {
        let root = File::open(&self.root).unwrap();
        Donor::new(root.into(), ListReader::new(Cursor::new(&self.list)).unwrap(), |_| true)
            .unwrap()
    }

    #[track_caller]
    fn assert_whole(&self) {
        let root = File::open(&self.root).unwrap();
        let list = ListReader::new(Cursor::new(&self.list)).unwrap();
        let mut found = Vec::new();
        compare(root.as_fd(), list, Depth::Contents, |difference| found.push(difference)).unwrap();
        assert!(found.is_empty(), "{found:?}");
    }

    fn inode(&self, path: &str) -> u64 {
        self.root.join(path).symlink_metadata().unwrap().ino()
    }
}

/// How a layer is unpacked.
#[derive(Clone, Copy, Debug)]
enum How<'a> {
    Alone,
    Links(&'a Donor),
    Replay(&'a Donor, &'a Image),
}

fn make(scratch: &Scratch, name: &str, layers: &[Vec<u8>], how: How<'_>) -> Image {
    try_make(scratch, name, layers, how).unwrap()
}

fn try_make(
    scratch: &Scratch,
    name: &str,
    layers: &[Vec<u8>],
    how: How<'_>,
) -> Result<Image, Error> {
    let root_path = scratch.dir(name);
    let root = File::open(&root_path).unwrap();
    let (origins, limits) = (Origins::new(), Limits::default());
    let (mut listed, mut headers) = (Vec::new(), Vec::new());
    for (number, tar) in (0..).zip(layers) {
        let upper = File::open(scratch.dir(&format!("{name}-{number}"))).unwrap();
        let diff_id = DiffId::new(Digest::sha256(tar));
        let header_path = scratch.path(format!("{name}-headers-{number}"));
        let header_file = File::create_new(&header_path).unwrap();
        let mut dest = Destination::new(upper.as_fd(), &limits);
        dest.origins = Some((&origins, number));
        dest.headers = Some(&header_file);
        let layer: Layer = match how {
            How::Replay(donor, image)
                if donor.layer(&diff_id).is_some_and(|l| donor.is_complete(l)) =>
            {
                let theirs = donor.layer(&diff_id).unwrap();
                dest.donor = Some((donor, theirs));
                dest.headers = None;
                let kept = &image.headers[theirs as usize];
                fs::copy(kept, &header_path).unwrap();
                replay_layer(File::open(kept).unwrap(), &dest)?
            }
            _ => {
                if let How::Links(donor) | How::Replay(donor, _) = how {
                    dest.donor = donor.layer(&diff_id).map(|layer| (donor, layer));
                }
                unpack_layer(&tar[..], Compression::None, Some(&diff_id), &dest)?.0
            }
        };
        merge(root.as_fd(), upper.as_fd(), &layer)?;
        listed.push(ListedLayer { diff_id, files: layer.files() });
        headers.push(header_path);
    }
    let mut list = Vec::new();
    write_list(root.as_fd(), &listed, origins, &mut list).unwrap();
    Ok(Image { root: root_path, list, headers })
}

/// A picture without the number of names, which sharing changes.
fn unlinked_picture(image: &Image) -> Vec<String> {
    // A word such as `2xd/a`: the number of names, and the first of them.
    let unlinked = |word: &str| match word.split_once('x') {
        Some((count, first)) if count.parse::<u64>().is_ok() => first.to_owned(),
        _ => word.to_owned(),
    };
    let lines = picture(&image.root);
    lines.iter().map(|line| line.split(' ').map(unlinked).collect::<Vec<_>>().join(" ")).collect()
}

fn base() -> Vec<u8> {
    let tar = Tar::new()
        .dir("d")
        .file("d/a", b"one")
        .file("d/b", b"two")
        .hardlink("c", "d/a")
        .symlink("s", "d")
        .file("s/through", b"a link")
        .fifo("p")
        .pax(&[("SCHILY.xattr.user.x", b"v"), ("mtime", b"5.000000001")])
        .header(Header::new(b'0', "x").mode(0o4711).owner(3, 4));
    tar.end()
}

#[test]
fn a_layer_is_replayed_from_another_tree_with_its_files_linked() {
    let scratch = Scratch::new();
    let (one, two) = (Tar::new().file("own", b"1").end(), Tar::new().file("d/own", b"2").end());
    let first = make(&scratch, "first", &[base(), one], How::Alone);
    let donor = first.donor();
    let layers = [base(), two];
    let second = make(&scratch, "second", &layers, How::Replay(&donor, &first));
    for path in ["d/a", "d/b", "c", "d/through", "x"] {
        assert_eq!(second.inode(path), first.inode(path), "{path}");
    }
    assert_eq!(second.inode("c"), second.inode("d/a"));
    let alone = make(&scratch, "alone", &layers, How::Alone);
    assert_same(&unlinked_picture(&second), &unlinked_picture(&alone), "replayed and unpacked");
    assert_eq!(second.list, alone.list);
    second.assert_whole();
    first.assert_whole();
}

#[test]
fn what_an_upper_layer_has_replaced_or_hidden_is_not_lent() {
    let scratch = Scratch::new();
    let upper = Tar::new().file("d/a", b"mine").file("d/.wh.b", b"").end();
    let first = make(&scratch, "first", &[base(), upper], How::Alone);
    let donor = first.donor();
    let diff_id = DiffId::new(Digest::sha256(&base()));
    assert!(!donor.is_complete(donor.layer(&diff_id).unwrap()));
    let second = make(&scratch, "second", &[base()], How::Replay(&donor, &first));
    assert_eq!(fs::read(second.root.join("d/a")).unwrap(), b"one");
    assert_eq!(fs::read(second.root.join("d/b")).unwrap(), b"two");
    assert_ne!(second.inode("d/a"), first.inode("d/a"));
    // The other name of what has been replaced is still that file.
    assert_eq!(second.inode("c"), second.inode("d/a"));
    assert_eq!(second.inode("x"), first.inode("x"));
    let alone = make(&scratch, "alone", &[base()], How::Alone);
    assert_eq!(second.list, alone.list);
}

#[test]
fn what_is_no_longer_as_it_was_is_not_lent() {
    type Damage = fn(&std::path::Path);
    let damages: [(&str, Damage); 4] = [
        ("size", |path| fs::write(path, "longer").unwrap()),
        ("mode", |path| fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap()),
        ("gone", |path| fs::remove_file(path).unwrap()),
        ("kind", |path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        }),
    ];
    for (what, damage) in damages {
        let scratch = Scratch::new();
        let first = make(&scratch, "first", &[base()], How::Alone);
        damage(&first.root.join("d/b"));
        let donor = first.donor();
        // Without a blob there is nothing to make the file of.
        let replayed = try_make(&scratch, "replayed", &[base()], How::Replay(&donor, &first));
        assert!(replayed.is_err(), "{what}");
        let second = make(&scratch, "second", &[base()], How::Links(&donor));
        assert_eq!(fs::read(second.root.join("d/b")).unwrap(), b"two", "{what}");
        assert_eq!(second.inode("d/a"), first.inode("d/a"), "{what}");
        second.assert_whole();
    }
}

#[test]
fn removing_one_tree_leaves_the_other_whole() {
    let scratch = Scratch::new();
    let first = make(&scratch, "first", &[base()], How::Alone);
    let second = make(&scratch, "second", &[base()], How::Replay(&first.donor(), &first));
    let donor = first.donor();
    fs::remove_dir_all(&first.root).unwrap();
    second.assert_whole();
    // A donor that goes away while it is asked is no donor.
    let third = make(&scratch, "third", &[base()], How::Links(&donor));
    third.assert_whole();
}

#[test]
fn headers_that_have_rotted_are_an_error() {
    let scratch = Scratch::new();
    let first = make(&scratch, "first", &[base()], How::Alone);
    let donor = first.donor();
    let whole = fs::read(&first.headers[0]).unwrap();
    let limits = Limits::default();
    let replay = |name: String, headers: &[u8]| {
        let dir = File::open(scratch.dir(&name)).unwrap();
        let dest =
            Destination { donor: Some((&donor, 0)), ..Destination::new(dir.as_fd(), &limits) };
        replay_layer(headers, &dest)
    };
    assert!(replay("whole".to_owned(), &whole).is_ok());
    for at in 0..whole.len() {
        assert!(replay(format!("cut{at}"), &whole[..at]).is_err(), "cut off at {at}");
        let mut rotten = whole.clone();
        rotten[at] ^= 0x10;
        let _ = replay(format!("rotten{at}"), &rotten);
    }
}

#[test]
fn sharing_changes_nothing_about_a_tree() {
    let mut lent = BTreeSet::new();
    for seed in 0..150 {
        let scratch = Scratch::new();
        let layers = [random_layer(seed), random_layer(seed + 1000), random_layer(seed + 2000)];
        let Ok(first) = try_make(&scratch, "first", &layers[..2], How::Alone) else { continue };
        let donor = first.donor();
        let others = [layers[1].clone(), layers[0].clone(), layers[2].clone()];
        let alone = try_make(&scratch, "alone", &others, How::Alone);
        let shared = try_make(&scratch, "shared", &others, How::Replay(&donor, &first));
        match (alone, shared) {
            (Ok(alone), Ok(shared)) => {
                let what = format!("seed {seed}");
                assert_same(&unlinked_picture(&shared), &unlinked_picture(&alone), &what);
                assert_eq!(shared.list, alone.list, "{what}");
                lent.extend(donor.layer(&DiffId::new(Digest::sha256(&layers[0]))));
            }
            (alone, shared) => assert_eq!(alone.is_err(), shared.is_err(), "seed {seed}"),
        }
        first.assert_whole();
    }
    assert!(!lent.is_empty());
}
