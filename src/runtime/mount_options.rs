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
    /// What the filesystem itself is told.
    pub data: Vec<String>,
}

/// Options that promise what is not done here, and must not be mistaken for a filesystem's own.
const UNSUPPORTED: [&str; 4] = ["tmpcopyup", "copy-symlink", "dest-nofollow", "src-nofollow"];

/// Options that are about how `mount(8)` is called, or are the default of everything made here.
const IGNORED: [&str; 6] = ["defaults", "async", "noauto", "auto", "nouser", "_netdev"];

impl MountOptions {
    /// Sorts `options`; the error is an option that is not honoured.
    pub(super) fn parse(options: &[String]) -> Result<Self, String> {
        let mut parsed = Self::default();
        for option in options {
            let option = option.as_str();
            if UNSUPPORTED.contains(&option) {
                return Err(option.to_owned());
            }
            if IGNORED.contains(&option) || parsed.mode(option) || parsed.attribute(option) {
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
    fn promises_that_are_not_kept_are_refused() {
        let options = ["tmpcopyup".to_owned()];
        assert_eq!(MountOptions::parse(&options), Err("tmpcopyup".to_owned()));
    }
}
