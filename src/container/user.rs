//! Who the program runs as: `USER`, `--user` and the container's own `/etc/passwd` and `/etc/group`.
//!
//! The two files belong to the image and are hostile: they are read as bounded bytes and never through the C library,
//! which would load programs of the image's choice.

use std::fs::File;
use std::io::Read;
use std::os::fd::BorrowedFd;

use nix::fcntl::OFlag;

use super::Error;
use crate::sys::fs::open_in_root;

/// The most that is read of `/etc/passwd` or `/etc/group`, in bytes, as with containerd.
const MAX_FILE: u64 = 10 << 20;
/// The largest id: the kernel keeps the one above it for "no id".
const MAX_ID: u32 = u32::MAX - 1;

/// The identity of a container's first process, as the container sees it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct User {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary group ids, with the primary one among them: without it a file that denies its group could be
    /// read by a member (CVE-2022-36109).
    pub additional_gids: Vec<u32>,
    /// Home directory.
    pub home: String,
}

/// The bytes of a tree's `/etc/passwd` and `/etc/group`.
#[derive(Clone, Debug, Default)]
pub(super) struct UserDatabase {
    passwd: Vec<u8>,
    group: Vec<u8>,
}

impl UserDatabase {
    /// Reads both files of the tree in `root`. One that is missing is empty.
    ///
    /// # Errors
    /// A file that is no regular file, or larger than 10 MiB (CVE-2024-9676: a FIFO that never ends).
    pub(super) fn read(root: BorrowedFd<'_>) -> Result<Self, Error> {
        Ok(Self { passwd: read_file(root, "etc/passwd")?, group: read_file(root, "etc/group")? })
    }

    /// The identity that `user` stands for: `name`, `uid`, `name:group`, `uid:gid`; empty for root.
    ///
    /// Digits are always a number and never looked up as a name (CVE-2016-3697), and what is neither a known name nor
    /// a number in range is an error, never root (CVE-2024-40635).
    pub(super) fn resolve(&self, user: &str) -> Result<User, Error> {
        let (name, group) = match user.split_once(':') {
            Some((name, group)) => (name, Some(group)),
            None => (user, None),
        };
        let unknown = |what: &'static str, name: &str| Error::NoSuchUser {
            what,
            name: name.chars().take(64).collect(),
        };
        let account = match name {
            "" if user.is_empty() => self.account(|account| account.uid == 0).or(Some(ROOT)),
            name if is_number(name) => {
                let uid = number(name).ok_or_else(|| unknown("user", name))?;
                let found = self.account(|account| account.uid == uid);
                Some(found.unwrap_or(Account { name: b"", uid, gid: 0, home: b"/" }))
            }
            name => self.account(|account| account.name == name.as_bytes()),
        };
        let account = account.ok_or_else(|| unknown("user", name))?;
        let mut gid = account.gid;
        let mut additional_gids = Vec::new();
        match group {
            Some(group) if is_number(group) => {
                gid = number(group).ok_or_else(|| unknown("group", group))?;
            }
            Some(group) => {
                gid = self.group_named(group).ok_or_else(|| unknown("group", group))?;
            }
            None if !account.name.is_empty() => additional_gids = self.memberships(account.name),
            None => {}
        }
        if !additional_gids.contains(&gid) {
            additional_gids.insert(0, gid);
        }
        let home = std::str::from_utf8(account.home).ok().filter(|home| home.starts_with('/'));
        let home = home.unwrap_or("/").to_owned();
        Ok(User { uid: account.uid, gid, additional_gids, home })
    }

    fn account(&self, wanted: impl Fn(&Account<'_>) -> bool) -> Option<Account<'_>> {
        lines(&self.passwd).filter_map(Account::parse).find(wanted)
    }

    /// The number of a group that is given by its name or number.
    ///
    /// # Errors
    /// [`Error::NoSuchUser`] for what is neither.
    pub(super) fn group(&self, group: &str) -> Result<u32, Error> {
        let found = if is_number(group) { number(group) } else { self.group_named(group) };
        let name = || group.chars().take(64).collect();
        found.ok_or_else(|| Error::NoSuchUser { what: "group", name: name() })
    }

    fn group_named(&self, name: &str) -> Option<u32> {
        lines(&self.group)
            .map(fields)
            .find(|fields| fields.first() == Some(&name.as_bytes()))
            .and_then(|fields| number(std::str::from_utf8(fields.get(2)?).ok()?))
    }

    fn memberships(&self, user: &[u8]) -> Vec<u32> {
        let mut gids = Vec::new();
        for line in lines(&self.group).map(fields) {
            let (Some(gid), Some(members)) = (line.get(2), line.get(3)) else { continue };
            if members.split(|b| *b == b',').any(|member| member == user) {
                let gid = std::str::from_utf8(gid).ok().and_then(number);
                gids.extend(gid.filter(|gid| !gids.contains(gid)));
            }
        }
        gids
    }
}

struct Account<'a> {
    name: &'a [u8],
    uid: u32,
    gid: u32,
    home: &'a [u8],
}

const ROOT: Account<'static> = Account { name: b"root", uid: 0, gid: 0, home: b"/root" };

impl<'a> Account<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let fields = fields(line);
        let id = |at: usize| number(std::str::from_utf8(fields.get(at)?).ok()?);
        let home = fields.get(5).copied().filter(|home| !home.is_empty()).unwrap_or(b"/");
        Some(Self { name: fields.first()?, uid: id(2)?, gid: id(3)?, home })
    }
}

fn lines(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    file.split(|b| *b == b'\n').filter(|line| !line.is_empty() && line[0] != b'#')
}

fn fields(line: &[u8]) -> Vec<&[u8]> {
    line.split(|b| *b == b':').collect()
}

/// Whether `text` is meant as a number: it has no letter that a name would have.
fn is_number(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '+')
        && text[1..].bytes().all(|b| b.is_ascii_digit())
}

fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|id| digits && *id <= MAX_ID)
}

fn read_file(root: BorrowedFd<'_>, path: &'static str) -> Result<Vec<u8>, Error> {
    let failed = |source: std::io::Error| Error::UserFile { path, source };
    // A FIFO must not keep anybody waiting.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = match open_in_root(root, path.as_bytes(), flags) {
        Ok(file) => File::from(file),
        Err(nix::errno::Errno::ENOENT | nix::errno::Errno::ENOTDIR) => return Ok(Vec::new()),
        Err(errno) => return Err(failed(errno.into())),
    };
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(failed(std::io::Error::from_raw_os_error(libc::EINVAL)));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(failed(std::io::Error::from_raw_os_error(libc::EFBIG)));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database() -> UserDatabase {
        UserDatabase {
            passwd: b"root:x:0:0:root:/root:/bin/sh\nbob:x:1000:100::/home/bob:/bin/sh\n\
                1000:x:0:0::/:\n4294967296:x:0:0::/:\n-1:x:0:0::/:\n+0:x:0:0::/:\n0x0:x:7:7::/:\nbroken\n"
                .to_vec(),
            group: b"root:x:0:\nwheel:x:10:root,bob\nusers:x:100:\naudio:x:63:bob\nbad\n".to_vec(),
        }
    }

    fn resolve(user: &str) -> Option<(u32, u32, Vec<u32>)> {
        let found = database().resolve(user).ok()?;
        Some((found.uid, found.gid, found.additional_gids))
    }

    #[test]
    fn users_and_groups() {
        assert_eq!(resolve(""), Some((0, 0, vec![0, 10])));
        assert_eq!(resolve("root"), Some((0, 0, vec![0, 10])));
        assert_eq!(resolve("bob"), Some((1000, 100, vec![100, 10, 63])));
        assert_eq!(resolve("1000"), Some((1000, 100, vec![100, 10, 63])));
        assert_eq!(resolve("bob:wheel"), Some((1000, 10, vec![10])));
        assert_eq!(resolve("5:6"), Some((5, 6, vec![6])));
        assert_eq!(resolve("4294967294"), Some((4_294_967_294, 0, vec![0])));
        assert_eq!(database().resolve("bob").unwrap().home, "/home/bob");
        assert_eq!(database().resolve("77").unwrap().home, "/");
        assert_eq!(UserDatabase::default().resolve("").unwrap().uid, 0);
    }

    #[test]
    fn what_is_no_user_is_never_root() {
        for bad in [
            "4294967295",
            "4294967296",
            "-1",
            "+0",
            " 1",
            "1 ",
            "1:",
            ":1",
            "a:b:c",
            "nobody",
            "bob:nogroup",
            "bob:4294967295",
            "\u{0661}",
            "bob\n",
            "root\0",
        ] {
            assert_eq!(resolve(bad), None, "{bad:?}");
        }
        assert_eq!(resolve("0x0"), Some((7, 7, vec![7])), "a name, and not the number zero");
    }
}
