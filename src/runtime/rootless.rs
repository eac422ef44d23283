//! Ordinary users: a user namespace in which they are root, entered before anything else is done.
//!
//! Inside, the whole program works as it does for root, as far as the ids go that the user has: those that
//! `/etc/subuid` and `/etc/subgid` give, mapped by the setuid programs `newuidmap(1)` and `newgidmap(1)`, which the
//! kernel demands for more ids than one's own; else the user's own id alone, which stands for root.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{Gid, Uid, getgid, getuid, setresgid, setresuid};

use super::init::Init;

/// The hidden verb under which this program maps ids from outside; see [`map_ids`].
pub const MAP_IDS_VERB: &str = "map-ids";

/// Why an ordinary user cannot be root in a namespace.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// This process could not be started a second time.
    #[error("start `/proc/self/exe`")]
    Helper(#[source] io::Error),
    /// The ids could not be mapped.
    #[error("write `{path}`")]
    Map {
        /// The file.
        path: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The kernel lets this user have no user namespace.
    #[error("not root, and this machine gives ordinary users no user namespaces")]
    NoNamespace(#[source] Errno),
    /// The mapped ids could not be taken.
    #[error("become root in the user namespace")]
    SetIds(#[source] Errno),
}

impl Error {
    /// What the user can do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoNamespace(_) => Some(no_namespace_hint()),
            _ => None,
        }
    }
}

fn no_namespace_hint() -> String {
    let reads =
        |path: &str, wanted: &str| fs::read_to_string(path).is_ok_and(|text| text.trim() == wanted);
    let command = if reads("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1") {
        "sysctl kernel.apparmor_restrict_unprivileged_userns=0"
    } else if reads("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        "sysctl kernel.unprivileged_userns_clone=1"
    } else if reads("/proc/sys/user/max_user_namespaces", "0") {
        "sysctl user.max_user_namespaces=15000"
    } else {
        return "run it as root".to_owned();
    };
    format!("run it as root, or let root allow them: {command}")
}

/// How many ids an ordinary user has got.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ids {
    /// A range of them besides the user's own.
    Range,
    /// The user's own alone: files of an image that belong to others than root cannot be made.
    Single,
}

/// Makes this process, which must have one thread, root in a user namespace, and in a mount namespace of its own. The user
/// namespace is that of the first of `others` that lets this user in, else a new one.
pub fn enter(others: impl IntoIterator<Item = Init>) -> Result<Ids, Error> {
    let ids = match others.into_iter().find(|other| join(other).is_ok()) {
        Some(other) => {
            unshare(CloneFlags::CLONE_NEWNS).map_err(Error::NoNamespace)?;
            if other.has_many_users() { Ids::Range } else { Ids::Single }
        }
        None => unshare_with(false)?,
    };
    let (root, wheel) = (Uid::from_raw(0), Gid::from_raw(0));
    setresgid(wheel, wheel, wheel).map_err(Error::SetIds)?;
    setresuid(root, root, root).map_err(Error::SetIds)?;
    Ok(ids)
}

/// As [`enter`], but every id that the user has stays what it is, so that a spec's `hostID` means what it says, and this
/// process stays who it is: it has all the power in there until it executes something.
pub fn enter_as_self() -> Result<Ids, Error> {
    unshare_with(true)
}

/// Joins the user namespace of a process, over which this user has power if it is one that the user has made.
fn join(other: &Init) -> Result<(), Errno> {
    setns(other.pidfd(), CloneFlags::CLONE_NEWUSER)
}

fn unshare_with(same: bool) -> Result<Ids, Error> {
    let (uid, gid) = (getuid(), getgid());
    let mut helper = Command::new("/proc/self/exe")
        .arg(MAP_IDS_VERB)
        .args([std::process::id().to_string(), uid.to_string(), gid.to_string()])
        .args(same.then_some("--same"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(Error::Helper)?;
    let made = unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS);
    if let (Ok(()), Some(stdin)) = (made, &mut helper.stdin) {
        stdin.write_all(b"\n").map_err(Error::Helper)?;
    }
    // Closed, so that a helper that is not needed ends.
    drop(helper.stdin.take());
    let mapped = helper.wait().map_err(Error::Helper)?.success();
    made.map_err(Error::NoNamespace)?;
    let ids = if mapped {
        Ids::Range
    } else {
        let inside = |own: u32| if same { own } else { 0 };
        write("/proc/self/uid_map", &format!("{} {uid} 1", inside(uid.as_raw())))?;
        // Groups that deny could be left otherwise (user_namespaces(7), CVE-2014-8989).
        write("/proc/self/setgroups", "deny")?;
        write("/proc/self/gid_map", &format!("{} {gid} 1", inside(gid.as_raw())))?;
        Ids::Single
    };
    Ok(ids)
}

fn write(path: &'static str, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(|source| Error::Map { path, source })
}

/// Waits for a byte on standard input and then maps the ids of the process `pid` into its new user namespace, from
/// outside, where `newuidmap(1)` has its privilege: from root on, or with `same` as themselves. Says whether that went well.
pub fn map_ids(pid: u32, uid: u32, gid: u32, same: bool) -> bool {
    if io::stdin().read_exact(&mut [0]).is_err() {
        return false;
    }
    let name = user_name(uid);
    let range = |file: &str| {
        subordinate(&fs::read_to_string(file).unwrap_or_default(), uid, name.as_deref())
    };
    let (Some(uids), Some(gids)) = (range("/etc/subuid"), range("/etc/subgid")) else {
        return false;
    };
    let map = |program: &str, own: u32, (first, count): (u32, u32)| {
        let (inside, behind) = if same { (own, first) } else { (0, 1) };
        let arguments = [pid, inside, own, 1, behind, first, count];
        let arguments = arguments.map(|number| number.to_string());
        Command::new(program).args(arguments).status().is_ok_and(|status| status.success())
    };
    map("newuidmap", uid, uids) && map("newgidmap", gid, gids)
}

/// The first range that `/etc/subuid` or `/etc/subgid` gives to a user, by name or by number (`subuid(5)`).
fn subordinate(file: &str, uid: u32, name: Option<&str>) -> Option<(u32, u32)> {
    let number = uid.to_string();
    file.lines().find_map(|line| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let (first, count) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        (owner == number || Some(owner) == name).then_some((first, count)).filter(|_| count > 0)
    })
}

/// What `/etc/passwd` calls a user.
pub fn user_name(uid: u32) -> Option<String> {
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

/// Whether this process has all ids, as it has outside of every user namespace.
pub fn has_all_ids() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Whether this process is an ordinary user's, also where that one has become root of a user namespace beforehand, as with a
/// rootless engine; root of a container, who may be called so there, is none.
pub fn is_ordinary() -> bool {
    let called_root = || std::env::var_os("USER").is_some_and(|user| user == "root");
    !nix::unistd::geteuid().is_root() || (!has_all_ids() && !called_root())
}

/// Whether this process's user namespace has a group of the number `gid`.
pub fn has_group(gid: u32) -> bool {
    let map = fs::read_to_string("/proc/self/gid_map").unwrap_or_default();
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().filter_map(|number| number.parse::<u64>().ok());
        let (first, count) = (numbers.next(), numbers.nth(1));
        let gid = u64::from(gid);
        matches!((first, count), (Some(first), Some(count)) if first <= gid && gid - first < count)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_by_name_and_number() {
        let file = "alice:100000:65536\n1001:300000:1000\nbad\nbob:x:1\ncarol:5:0\n";
        assert_eq!(subordinate(file, 1000, Some("alice")), Some((100_000, 65_536)));
        assert_eq!(subordinate(file, 1001, None), Some((300_000, 1000)));
        assert_eq!(subordinate(file, 1002, Some("bob")), None);
        assert_eq!(subordinate(file, 1003, Some("carol")), None);
    }
}
