//! Names of entries: cleaned, split, and told apart from whiteouts.
//!
//! Source: image-spec, `layer.md`, "Whiteouts".

use super::error::Error;
use super::limits::{MAX_NAME, MAX_PATH};

/// What begins the name of a whiteout.
pub(super) const WHITEOUT: &[u8] = b".wh.";
/// The whiteout that hides everything in its directory.
pub(super) const OPAQUE: &[u8] = b".wh..wh..opq";
/// Directories in which aufs, docker's first storage, kept its own books. They stand in the root of old layers and
/// never were part of an image; docker leaves them out, and so does this program.
const AUFS: [&[u8]; 3] = [b".wh..wh.aufs", b".wh..wh.orph", b".wh..wh.plnk"];

/// What an entry's name means.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Target<'a> {
    /// The root of the tree.
    Root,
    /// A file in a directory.
    File { dir: &'a [u8], name: &'a [u8] },
    /// A file of the layers below that is to be hidden.
    Whiteout { dir: &'a [u8], name: &'a [u8] },
    /// A directory whose content in the layers below is to be hidden.
    Opaque { dir: &'a [u8] },
    /// Nothing that belongs to the tree.
    Aufs,
}

/// Writes `name` to `clean` as a path from the root: without leading, trailing or double slashes, without `.`, and
/// with each `..` taking away what is before it, though never the root.
///
/// This is done to the text alone, as docker and umoci do it, so that `a/../b` is `b` also where `a` is a link.
pub(super) fn clean(name: &[u8], clean: &mut Vec<u8>) -> Result<(), Error> {
    clean.clear();
    if name.contains(&0) {
        return Err(Error::name(name, "a name may not hold a NUL"));
    }
    for component in name.split(|b| *b == b'/') {
        match component {
            b"" | b"." => {}
            b".." => clean.truncate(clean.iter().rposition(|b| *b == b'/').unwrap_or(0)),
            _ if component.len() > MAX_NAME => {
                return Err(Error::name(name, "a component is longer than 255 bytes"));
            }
            _ => {
                if !clean.is_empty() {
                    clean.push(b'/');
                }
                clean.extend_from_slice(component);
            }
        }
        if clean.len() > MAX_PATH {
            return Err(Error::name(name, "it is longer than 4095 bytes"));
        }
    }
    Ok(())
}

/// Splits a clean path before its last component; both parts are empty for the root.
pub(super) fn split(clean: &[u8]) -> (&[u8], &[u8]) {
    match clean.iter().rposition(|b| *b == b'/') {
        Some(slash) => (&clean[..slash], &clean[slash + 1..]),
        None => (b"", clean),
    }
}

/// Tells what a clean path means.
pub(super) fn target(clean: &[u8]) -> Result<Target<'_>, Error> {
    let (dir, name) = split(clean);
    if name.is_empty() {
        return Ok(Target::Root);
    }
    if !clean.windows(WHITEOUT.len()).any(|window| window == WHITEOUT) {
        return Ok(Target::File { dir, name });
    }
    let first = clean.split(|b| *b == b'/').next().unwrap_or_default();
    if AUFS.contains(&first) {
        return Ok(Target::Aufs);
    }
    if dir.split(|b| *b == b'/').any(|component| component.starts_with(WHITEOUT)) {
        return Err(Error::name(clean, "a whiteout is no directory"));
    }
    if name == OPAQUE {
        return Ok(Target::Opaque { dir });
    }
    match name.strip_prefix(WHITEOUT) {
        None => Ok(Target::File { dir, name }),
        Some(b"" | b"." | b"..") => Err(Error::name(clean, "the whiteout names no file")),
        // The prefix is reserved, so that no layer below can hold such a file.
        Some(hidden) if hidden.starts_with(WHITEOUT) => {
            Err(Error::name(clean, "the whiteout hides a whiteout"))
        }
        Some(hidden) => Ok(Target::Whiteout { dir, name: hidden }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(name: &[u8]) -> Vec<u8> {
        let mut out = b"old".to_vec();
        clean(name, &mut out).unwrap();
        out
    }

    #[test]
    fn names_are_cleaned_as_text() {
        let table: [(&[u8], &[u8]); 10] = [
            (b"a/b", b"a/b"),
            (b"./a//b/", b"a/b"),
            (b"/a", b"a"),
            (b"a/../b", b"b"),
            (b"a/b/../../c", b"c"),
            (b"../../etc/passwd", b"etc/passwd"),
            (b"a/../..", b""),
            (b".", b""),
            (b"/", b""),
            (b"...", b"..."),
        ];
        for (name, expected) in table {
            assert_eq!(cleaned(name), expected, "{}", name.escape_ascii());
        }
        let mut out = Vec::new();
        assert!(clean(b"a\0b", &mut out).is_err());
        assert!(clean(&[b'a'; 256], &mut out).is_err());
        assert!(clean(&b"a/".repeat(2049), &mut out).is_err());
        assert!(clean(&b"a/".repeat(2047), &mut out).is_ok());
    }

    #[test]
    fn whiteouts() {
        let file = |dir: &'static [u8], name: &'static [u8]| Target::File { dir, name };
        assert_eq!(target(b"a/b").unwrap(), file(b"a", b"b"));
        assert_eq!(target(b"a.wh.b").unwrap(), file(b"", b"a.wh.b"));
        assert_eq!(target(b"").unwrap(), Target::Root);
        assert_eq!(target(b"a/.wh.b").unwrap(), Target::Whiteout { dir: b"a", name: b"b" });
        assert_eq!(target(b".wh..wh..opq").unwrap(), Target::Opaque { dir: b"" });
        assert_eq!(target(b".wh....").unwrap(), Target::Whiteout { dir: b"", name: b"..." });
        assert_eq!(target(b".wh..wh.plnk/x").unwrap(), Target::Aufs);
        for bad in ["x/.wh.", ".wh..", ".wh...", ".wh..wh.x", "x/.wh..wh.plnk", "x/.wh.y/z"] {
            assert!(target(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
