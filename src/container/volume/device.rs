//! `volume create -o`: the options of docker's driver `local`, of which one kind is taken: a folder of the host that stands
//! for the volume's content (`type=none`, `o=bind`, `device=/path`).
//!
//! Docker mounts whatever is named where the volume lies, and unmounts it with its last container. Here, nobody is there
//! to do the latter; a folder needs neither.

use std::collections::BTreeMap;
use std::path::Path;

use super::Volume;
use super::error::MountFault;

/// The options of a volume, each given as `NAME=VALUE`.
///
/// # Errors
/// [`MountFault::DriverOption`].
pub fn parse_options<T: AsRef<str>>(given: &[T]) -> Result<BTreeMap<String, String>, MountFault> {
    let mut options = BTreeMap::new();
    for text in given.iter().map(AsRef::as_ref) {
        let refuse = |why| MountFault::DriverOption { option: text.to_owned(), why };
        let (name, value) = text.split_once('=').ok_or_else(|| refuse("expected NAME=VALUE"))?;
        match name {
            "type" if matches!(value, "none" | "bind") => {}
            "type" => return Err(refuse("a volume can be a folder of the host, with type=none")),
            "o" => check_mount_options(value).map_err(refuse)?,
            "device" => check_device(value).map_err(refuse)?,
            _ => return Err(refuse("there are type, o and device")),
        }
        options.insert(name.to_owned(), value.to_owned());
    }
    let is_bind = options.get("o").is_some_and(|o| words(o).any(is_bind));
    let is_whole = is_bind && options.contains_key("device");
    if !options.is_empty() && !is_whole {
        let option = given.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(",");
        let why = "a folder of the host is type=none, o=bind and device=/path";
        return Err(MountFault::DriverOption { option, why });
    }
    Ok(options)
}

fn check_mount_options(value: &str) -> Result<(), &'static str> {
    // All volumes are `nosuid` and `nodev`.
    let known = |word: &str| is_bind(word) || matches!(word, "ro" | "rw" | "nosuid" | "nodev");
    if words(value).all(known) {
        return Ok(());
    }
    Err("there are bind, rbind, ro, rw, nosuid and nodev")
}

fn check_device(value: &str) -> Result<(), &'static str> {
    let path = Path::new(value);
    let plain = path.components().all(|part| part.as_os_str() != "..");
    if path.is_absolute() && plain && !value.contains('\0') {
        return Ok(());
    }
    Err("it must be an absolute path without `..`")
}

fn is_bind(word: &str) -> bool {
    matches!(word, "bind" | "rbind")
}

fn words(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').filter(|word| !word.is_empty())
}

impl Volume {
    /// The folder of the host that stands for its content.
    pub fn device(&self) -> Option<&Path> {
        self.options.get("device").map(Path::new)
    }

    /// Whether it can only be read.
    pub(super) fn is_read_only(&self) -> bool {
        let options = self.options.get("o").map_or("", String::as_str);
        words(options).filter(|word| matches!(*word, "ro" | "rw")).last() == Some("ro")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_the_host_and_nothing_else() {
        let good = ["type=none", "o=bind,ro", "device=/srv/data"];
        let options = parse_options(&good).unwrap();
        assert_eq!(options["device"], "/srv/data");
        assert!(parse_options(&["o=rbind", "device=/"]).is_ok());
        assert!(parse_options::<&str>(&[]).unwrap().is_empty());
        for bad in [
            &["type=none"][..],
            &["device=/a"],
            &["type=none", "o=bind"],
            &["type=none", "o=ro", "device=/a"],
            &["type=tmpfs", "o=bind", "device=/a"],
            &["type=nfs", "o=addr=10.0.0.1", "device=:/a"],
            &["o=bind", "device=a"],
            &["o=bind", "device=/a/../b"],
            &["o=bind,suid", "device=/a"],
            &["o=bind", "device=/a", "size=1g"],
            &["x"],
        ] {
            assert!(parse_options(bad).is_err(), "{bad:?}");
        }
    }
}
