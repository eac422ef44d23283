//! Which unit a container becomes, and where that puts its control group: `cgroupsPath` as `slice:prefix:name`.
//!
//! Sources: runc's `docs/systemd.md`, `systemd.unit(5)`, `systemd.slice(5)`.

use std::path::PathBuf;

use super::bus::Manager;
use crate::runtime::error::Error;

/// The longest name of a unit (`systemd.unit(5)`).
const MAX_NAME: usize = 255;
/// What a unit is called after where no prefix is given.
const PREFIX: &str = "mydocker";

/// A scope below a slice.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Place {
    /// `machine-one.slice`
    pub slice: String,
    /// `mydocker-box.scope`
    pub scope: String,
}

fn invalid(reason: String) -> Error {
    Error::Invalid { field: "linux.cgroupsPath".to_owned(), reason }
}

impl Place {
    /// What a `cgroupsPath` says, or what goes without saying.
    pub(super) fn parse(path: Option<&str>, id: &str, manager: Manager) -> Result<Self, Error> {
        let (slice, prefix, name) = match path.filter(|path| !path.is_empty()) {
            None => ("", PREFIX, escape(id)),
            Some(path) => match path.split(':').collect::<Vec<_>>()[..] {
                [slice, prefix, name] if !name.is_empty() => (slice, prefix, name.to_owned()),
                _ => return Err(invalid(format!("`{path}` is not `slice:prefix:name`"))),
            },
        };
        let slice = match (slice, manager) {
            ("", Manager::System) => "system.slice",
            ("", Manager::User) => "user.slice",
            (slice, _) => slice,
        };
        let scope = match prefix {
            "" => format!("{name}.scope"),
            prefix => format!("{prefix}-{name}.scope"),
        };
        if name.ends_with(".slice") {
            return Err(invalid(format!("`{name}` is a slice, in which no process can be")));
        }
        for unit in [slice, &scope] {
            if unit.len() > MAX_NAME || !unit.bytes().all(is_plain) {
                return Err(invalid(format!("`{unit}` cannot be the name of a unit")));
            }
        }
        Ok(Self { slice: slice.to_owned(), scope })
    }

    /// Where the group is below that of the manager: slices are in each other by the parts of their names.
    pub(super) fn path(&self) -> Result<PathBuf, Error> {
        let wrong = || invalid(format!("`{}` cannot be the name of a slice", self.slice));
        let name = self.slice.strip_suffix(".slice").ok_or_else(wrong)?;
        let mut path = PathBuf::new();
        if name != "-" {
            let mut above = String::new();
            for part in name.split('-') {
                if part.is_empty() {
                    return Err(wrong());
                }
                above.push_str(part);
                path.push(format!("{above}.slice"));
                above.push('-');
            }
        }
        path.push(&self.scope);
        Ok(path)
    }
}

/// What a unit's name may be made of. A quote, which would end a rule about signals, is not among it.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte)
}

/// A container's name as a part of a unit's, as `systemd-escape(1)` writes what is not plain.
fn escape(id: &str) -> String {
    id.bytes().fold(String::new(), |mut name, byte| {
        if is_plain(byte) {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("\\x{byte:02x}"));
        }
        name
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: &str, manager: Manager) -> Result<PathBuf, Error> {
        Place::parse(Some(path), "one+two", manager)?.path()
    }

    #[test]
    fn a_place_is_a_slice_and_a_scope() {
        for (path, is) in [
            ("", "system.slice/mydocker-one\\x2btwo.scope"),
            ("::box", "system.slice/box.scope"),
            (":docker:1f", "system.slice/docker-1f.scope"),
            ("machine.slice:libpod:1f", "machine.slice/libpod-1f.scope"),
            ("a-b-c.slice:p:n", "a.slice/a-b.slice/a-b-c.slice/p-n.scope"),
            ("-.slice:p:n", "p-n.scope"),
        ] {
            assert_eq!(at(path, Manager::System).unwrap(), PathBuf::from(is), "{path}");
        }
        assert_eq!(at(":p:n", Manager::User).unwrap(), PathBuf::from("user.slice/p-n.scope"));
    }

    #[test]
    fn what_is_no_place_is_refused() {
        let long = format!("::{}", "x".repeat(250));
        for path in [
            "/a/path",
            "a:b",
            "a.slice:b:",
            "a.slice:b:c:d",
            "a:b:c",
            "-a.slice:b:c",
            "a--b.slice:b:c",
            "a-.slice:b:c",
            ".slice:b:c",
            "../a.slice:b:c",
            "a.slice:b:../c",
            "a.slice:b:c d",
            "a.slice:b:c'",
            ":b:c.slice",
            &long,
        ] {
            assert!(at(path, Manager::System).is_err(), "{path}");
        }
    }
}
