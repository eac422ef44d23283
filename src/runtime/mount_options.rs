//! Mount options, as `mount(8)` and the runtime-spec write them.

use crate::sys::mount::{self, Attributes, Propagation};

/// Options, sorted by what they are about.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct MountOptions {
    /// `bind`, or `rbind` (true).
    pub bind: Option<bool>,
    /// Attributes to set on the mount.
    pub set: Attributes,
    /// Attributes to clear on the mount.
    pub clear: Attributes,
    /// Attributes to set on it and on all below it.
    pub set_recursive: Attributes,
    /// Attributes to clear on it and on all below it.
    pub clear_recursive: Attributes,
    /// Propagation types to give it, in this order; true for all below it as well.
    pub propagation: Vec<(Propagation, bool)>,
    /// `idmap`, or `ridmap` (true).
    pub idmap: Option<bool>,
    /// Whether it changes what is mounted there already.
    pub remount: bool,
    /// Whether a new tmpfs gets what the directory had before.
    pub copy_up: bool,
    /// What the filesystem itself is told.
    pub data: Vec<String>,
}

/// Options that promise what is not done here, and must not be mistaken for a filesystem's own.
const UNSUPPORTED: [&str; 3] = ["copy-symlink", "dest-nofollow", "src-nofollow"];

/// What is said of options that are about how `mount(8)` is called, or are the default of everything made here, or mean
/// nothing to kernels any more.
const IGNORED: &str = "passed over: the default, or without meaning here";
const RECURSIVE: &str = "for the mount and all below it";
const SUPER: &str = "of a new filesystem; a bind mount keeps what it is of";

/// The options that are not a filesystem's own, and what there is to say of each.
pub(super) const OPTIONS: &[(&str, &str)] = &[
    ("async", IGNORED),
    ("atime", ""),
    ("auto", IGNORED),
    ("bind", ""),
    ("defaults", IGNORED),
    ("dev", ""),
    ("diratime", ""),
    ("dirsync", SUPER),
    ("exec", ""),
    ("idmap", "by the mount's own mappings, else by those of the user namespace"),
    ("iversion", IGNORED),
    ("lazytime", SUPER),
    ("loud", IGNORED),
    ("mand", IGNORED),
    ("noatime", ""),
    ("noauto", IGNORED),
    ("nodev", ""),
    ("nodiratime", ""),
    ("noexec", ""),
    ("noiversion", IGNORED),
    ("nolazytime", SUPER),
    ("nomand", IGNORED),
    ("norelatime", ""),
    ("nostrictatime", ""),
    ("nosuid", ""),
    ("nosymfollow", ""),
    ("nouser", IGNORED),
    ("_netdev", IGNORED),
    ("private", ""),
    ("ratime", RECURSIVE),
    ("rbind", ""),
    ("rdev", RECURSIVE),
    ("rdiratime", RECURSIVE),
    ("relatime", ""),
    ("remount", "changes the attributes of what is mounted there already"),
    ("rexec", RECURSIVE),
    ("ridmap", RECURSIVE),
    ("rnoatime", RECURSIVE),
    ("rnodev", RECURSIVE),
    ("rnodiratime", RECURSIVE),
    ("rnoexec", RECURSIVE),
    ("rnorelatime", RECURSIVE),
    ("rnostrictatime", RECURSIVE),
    ("rnosuid", RECURSIVE),
    ("rnosymfollow", RECURSIVE),
    ("ro", ""),
    ("rprivate", RECURSIVE),
    ("rrelatime", RECURSIVE),
    ("rro", RECURSIVE),
    ("rrw", RECURSIVE),
    ("rshared", RECURSIVE),
    ("rslave", RECURSIVE),
    ("rstrictatime", RECURSIVE),
    ("rsuid", RECURSIVE),
    ("rsymfollow", RECURSIVE),
    ("runbindable", RECURSIVE),
    ("rw", ""),
    ("shared", ""),
    ("silent", IGNORED),
    ("slave", ""),
    ("strictatime", ""),
    ("suid", ""),
    ("symfollow", ""),
    ("sync", SUPER),
    ("tmpcopyup", "of a tmpfs: what the directory had before is copied into it"),
    ("unbindable", ""),
];

impl MountOptions {
    /// Sorts `options`; the error is an option that is not honoured.
    pub(super) fn parse(options: &[String]) -> Result<Self, String> {
        let mut parsed = Self::default();
        for option in options {
            let option = option.as_str();
            if UNSUPPORTED.contains(&option) {
                return Err(option.to_owned());
            }
            if is_ignored(option) || parsed.mode(option) || parsed.attribute(option) {
                continue;
            }
            parsed.data.push(option.to_owned());
        }
        Ok(parsed)
    }

    fn mode(&mut self, option: &str) -> bool {
        let (name, recursive) = match option.strip_prefix('r') {
            Some(name @ ("private" | "shared" | "slave" | "unbindable" | "bind" | "idmap")) => {
                (name, true)
            }
            _ => (option, false),
        };
        match name {
            "private" => self.propagation.push((mount::PRIVATE, recursive)),
            "shared" => self.propagation.push((mount::SHARED, recursive)),
            "slave" => self.propagation.push((mount::SLAVE, recursive)),
            "unbindable" => self.propagation.push((mount::UNBINDABLE, recursive)),
            "bind" => self.bind = Some(recursive || self.bind == Some(true)),
            "idmap" => self.idmap = Some(recursive),
            "remount" => self.remount = true,
            "tmpcopyup" => self.copy_up = true,
            _ => return false,
        }
        true
    }

    fn attribute(&mut self, option: &str) -> bool {
        if let Some((set, clear)) = attribute(option) {
            self.set = (self.set & !clear) | set;
            self.clear = (self.clear & !set) | clear;
            return true;
        }
        let recursive = match option {
            // `relatime` itself begins with an r.
            "rrelatime" => attribute("relatime"),
            _ => option.strip_prefix('r').and_then(attribute),
        };
        let Some((set, clear)) = recursive else { return false };
        self.set_recursive = (self.set_recursive & !clear) | set;
        self.clear_recursive = (self.clear_recursive & !set) | clear;
        true
    }
}

fn is_ignored(option: &str) -> bool {
    OPTIONS.iter().any(|(name, remark)| *name == option && *remark == IGNORED)
}

/// What an option sets and clears. A kind of access time clears the others, as the kernel demands.
fn attribute(option: &str) -> Option<(Attributes, Attributes)> {
    Some(match option {
        "ro" => (mount::RDONLY, 0),
        "rw" => (0, mount::RDONLY),
        "nosuid" => (mount::NOSUID, 0),
        "suid" => (0, mount::NOSUID),
        "nodev" => (mount::NODEV, 0),
        "dev" => (0, mount::NODEV),
        "noexec" => (mount::NOEXEC, 0),
        "exec" => (0, mount::NOEXEC),
        "nosymfollow" => (mount::NOSYMFOLLOW, 0),
        "symfollow" => (0, mount::NOSYMFOLLOW),
        "nodiratime" => (mount::NODIRATIME, 0),
        "diratime" => (0, mount::NODIRATIME),
        "noatime" => (mount::NOATIME, mount::ATIME),
        "strictatime" => (mount::STRICTATIME, mount::ATIME),
        "relatime" | "atime" | "nostrictatime" | "norelatime" => (0, mount::ATIME),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[&str]) -> MountOptions {
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        MountOptions::parse(&options).unwrap()
    }

    #[test]
    fn later_options_win() {
        let parsed = parse(&["ro", "nosuid", "rw", "strictatime", "mode=755"]);
        assert_eq!(parsed.set, mount::NOSUID | mount::STRICTATIME);
        assert_eq!(parsed.clear, mount::RDONLY | mount::ATIME);
        assert_eq!(parsed.data, ["mode=755"]);
    }

    #[test]
    fn an_r_in_front_is_recursive() {
        let parsed = parse(&["rbind", "rro", "rnosuid", "relatime", "rprivate", "ridmap"]);
        assert_eq!(parsed.bind, Some(true));
        assert_eq!(parsed.set_recursive, mount::RDONLY | mount::NOSUID);
        assert_eq!(parsed.clear, mount::ATIME);
        assert_eq!(parsed.propagation, [(mount::PRIVATE, true)]);
        assert_eq!(parsed.idmap, Some(true));
        assert!(parsed.data.is_empty());
    }

    #[test]
    fn every_option_of_the_list_is_known() {
        for (option, remark) in OPTIONS {
            let parsed = parse(&[option]);
            assert_eq!(parsed.data.is_empty(), *remark != SUPER, "{option}");
            let nothing = parsed == MountOptions::default();
            assert!(!nothing || *remark == IGNORED, "{option}");
        }
    }

    #[test]
    fn promises_that_are_not_kept_are_refused() {
        let options = ["copy-symlink".to_owned()];
        assert_eq!(MountOptions::parse(&options), Err("copy-symlink".to_owned()));
    }
}
