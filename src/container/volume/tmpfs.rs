//! Options of a file system in memory, as docker takes them: those of `mount(8)` and of `tmpfs(5)`, and no others.

/// What a mount of its own may be like.
const FLAGS: [&str; 27] = [
    "async",
    "atime",
    "defaults",
    "dev",
    "diratime",
    "dirsync",
    "exec",
    "mand",
    "noatime",
    "nodev",
    "nodiratime",
    "noexec",
    "nomand",
    "norelatime",
    "nostrictatime",
    "nosuid",
    "private",
    "relatime",
    "ro",
    "rprivate",
    "rw",
    "strictatime",
    "suid",
    "sync",
    "tmpcopyup",
    "notmpcopyup",
    "noswap",
];
/// What the file system itself is told.
const KEYS: [&str; 8] =
    ["gid", "huge", "inode64", "mode", "mpol", "nr_blocks", "nr_inodes", "size"];

/// Whether an option of `--tmpfs` is one of a file system in memory, and asks for nothing else to be mounted instead.
pub(in super::super) fn is_option(option: &str) -> bool {
    match option.split_once('=') {
        Some((key, value)) => (KEYS.contains(&key) || key == "uid") && !value.is_empty(),
        None => FLAGS.contains(&option),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_mount_something_else_is_no_option() {
        for good in ["size=64m", "mode=1777", "uid=5", "exec", "rprivate", "tmpcopyup"] {
            assert!(is_option(good), "{good}");
        }
        for bad in ["bind", "rbind", "remount", "size", "size=", "source=x", "nosuch", "lowerdir=/"]
        {
            assert!(!is_option(bad), "{bad}");
        }
    }
}
