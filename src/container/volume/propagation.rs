//! Whether mount events can pass from where a bind mount comes from.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::error::VolumeError;
use super::request::Propagation;

/// Refuses a propagation that the mount of `path` cannot have, which would otherwise silently do nothing.
pub(super) fn check(path: &Path, propagation: Propagation) -> Result<(), VolumeError> {
    let wanted: (&[&str], &str) = match propagation {
        Propagation::Private | Propagation::Rprivate => return Ok(()),
        Propagation::Shared | Propagation::Rshared => (&["shared:"], "shared"),
        Propagation::Slave | Propagation::Rslave => (&["shared:", "master:"], "shared or slave"),
    };
    let failed = |path: &Path, source| VolumeError::Io { verb: "open", path: path.into(), source };
    let whole = fs::canonicalize(path).map_err(|source| failed(path, source))?;
    let table = Path::new("/proc/self/mountinfo");
    let text = fs::read(table).map_err(|source| failed(table, source))?;
    let Some((mount_point, tags)) = mount_of(&text, whole.as_os_str().as_bytes()) else {
        return Ok(());
    };
    if tags.iter().any(|tag| wanted.0.iter().any(|wanted| tag.starts_with(wanted))) {
        return Ok(());
    }
    Err(VolumeError::NotShared { path: path.to_owned(), mount_point, wanted: wanted.1 })
}

/// The mount that an absolute path without links is on, and its optional fields (`proc_pid_mountinfo(5)`): the last one of
/// the longest mount point.
fn mount_of(table: &[u8], path: &[u8]) -> Option<(String, Vec<String>)> {
    let mut best: Option<(Vec<u8>, Vec<String>)> = None;
    for line in table.split(|byte| *byte == b'\n') {
        let line = String::from_utf8_lossy(line);
        let mut fields = line.split(' ');
        let Some(mount_point) = fields.nth(4).map(unescape) else { continue };
        let tags = fields.skip(1).take_while(|field| *field != "-").map(str::to_owned).collect();
        let is_below = match path.strip_prefix(mount_point.as_slice()) {
            Some(rest) => rest.is_empty() || rest.starts_with(b"/") || mount_point == b"/",
            None => false,
        };
        if is_below && best.as_ref().is_none_or(|(known, _)| known.len() <= mount_point.len()) {
            best = Some((mount_point, tags));
        }
    }
    best.map(|(mount_point, tags)| (String::from_utf8_lossy(&mount_point).into_owned(), tags))
}

/// A path as the kernel writes it: blanks and backslashes as three octal digits.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let digits = behind.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if first == b'\\' => {
                bytes.push(byte);
                rest = &rest[4..];
            }
            _ => {
                bytes.push(first);
                rest = behind;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mount_counts() {
        let table = b"1 0 8:1 / / rw - ext4 /dev/x rw\n\
            2 1 8:2 / /mnt rw shared:5 - ext4 /dev/y rw\n\
            3 2 8:3 / /mnt/a\\040b rw master:7 propagate_from:2 - ext4 /dev/z rw\n";
        let of = |path: &str| mount_of(table, path.as_bytes());
        assert_eq!(of("/mntx"), Some(("/".to_owned(), vec![])));
        assert_eq!(of("/mnt/q"), Some(("/mnt".to_owned(), vec!["shared:5".to_owned()])));
        let (point, tags) = of("/mnt/a b/c").unwrap();
        assert_eq!((point.as_str(), tags.len()), ("/mnt/a b", 2));
    }
}
