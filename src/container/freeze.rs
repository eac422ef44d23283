//! Keeping a container's processes still while its files are read.
//!
//! Another process of this program does it, and waits for this one to close a pipe: however this one ends, the container
//! goes on. It has a session of its own, so that what the user types at a terminal does not reach it.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::Error;
use super::record::Containers;
use super::status::{Running, Status};
use crate::runtime::Groups;

/// The hidden verb of the process that holds a container still.
pub const HOLD_VERB: &str = "hold-container";

/// Where control groups are mounted.
const CGROUPS: &str = "/sys/fs/cgroup";
/// How long freezing may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a group that new processes join is emptied before the attempt ends.
const MAX_ROUNDS: usize = 1000;

/// A container whose processes stand still until this is dropped.
#[derive(Debug)]
pub(super) struct Frozen {
    holder: Child,
    hold: Option<ChildStdin>,
}

impl Frozen {
    /// Has the container `id` frozen.
    pub(super) fn new(containers: &Containers, id: &str) -> Result<Self, Error> {
        let failed = |source| Error::Io { verb: "start", path: "/proc/self/exe".into(), source };
        let mut command = Command::new("/proc/self/exe");
        command.arg("--root").arg(containers.root()).arg(HOLD_VERB).arg(id);
        command.env("MYDOCKER_RUN", containers.run_folder());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut holder = command.spawn().map_err(failed)?;
        let (hold, answer) = (holder.stdin.take(), holder.stdout.take());
        let mut frozen = Self { holder, hold };
        let mut said = String::new();
        let mut answer = answer.ok_or_else(|| Error::CannotFreeze(id.to_owned()))?;
        let mut byte = [0; 1];
        while !said.ends_with('\n') && answer.read(&mut byte).map_err(failed)? == 1 {
            said.push(char::from(byte[0]));
        }
        if said == "frozen\n" {
            return Ok(frozen);
        }
        frozen.hold = None;
        Err(Error::CannotFreeze(id.chars().take(12).collect()))
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.hold = None;
        let _ = self.holder.wait();
    }
}

/// Freezes the container `id`, calls `frozen`, and thaws it when the standard input ends. This is what the process
/// that holds a container still does.
pub fn hold(containers: &Containers, id: &str, frozen: impl FnOnce()) -> Result<(), Error> {
    let cannot = || Error::CannotFreeze(id.chars().take(12).collect());
    let record = containers.find(id)?;
    let (Status::Running(running) | Status::Paused(running)) = containers.status(&record) else {
        return Err(cannot());
    };
    // A leader of a process group cannot leave its session; a process that was just started is none.
    let _ = nix::unistd::setsid();
    let group = Freezer::of(&running, &record.id).ok_or_else(cannot)?;
    let done = group.freeze();
    if done.is_ok() {
        frozen();
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
    }
    group.thaw()?;
    done.map_err(|_| cannot())
}

/// What a container can be held still with.
enum Freezer {
    /// The container's own groups, and whether they stood still already.
    Own(Groups, bool),
    /// Version 1, of a container that is in none of the freezer's groups: one is made for as long as it is needed.
    Borrowed(Borrowed),
}

struct Borrowed {
    folder: PathBuf,
    members: PathBuf,
    home: PathBuf,
}

impl Freezer {
    /// That of the container `id` alone.
    fn of(running: &Running, id: &str) -> Option<Self> {
        if running.groups.can_freeze() {
            let was_frozen = running.groups.is_frozen();
            return Some(Self::Own(running.groups.clone(), was_frozen));
        }
        Borrowed::of(running.process.pid, id).map(Self::Borrowed)
    }

    fn freeze(&self) -> Result<(), Error> {
        match self {
            Self::Own(_, true) => Ok(()),
            Self::Own(groups, false) => Ok(groups.freeze()?),
            Self::Borrowed(group) => {
                group.freeze().map_err(|source| group.failed("freeze", source))
            }
        }
    }

    fn thaw(&self) -> Result<(), Error> {
        match self {
            Self::Own(_, true) => Ok(()),
            Self::Own(groups, false) => Ok(groups.thaw()?),
            Self::Borrowed(group) => group.thaw().map_err(|source| group.failed("thaw", source)),
        }
    }
}

impl Borrowed {
    /// For the container `id`, whose first process is `pid`.
    fn of(pid: i32, id: &str) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let below = |mount: &str, path: &str| {
            Path::new(CGROUPS).join(mount).join(path.trim_start_matches('/'))
        };
        let (mut home, mut members) = (None, None);
        for line in text.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            match controllers {
                "" => {}
                "freezer" => home = Some(below("freezer", path)),
                // A group of the container's alone.
                _ if Path::new(path).file_name().is_some_and(|name| name == id) => {
                    members = Some(below(controllers, path));
                }
                _ => {}
            }
        }
        let folder = below("freezer", "mydocker").join(id);
        Some(Self { folder, members: members?, home: home? })
    }

    fn failed(&self, verb: &'static str, source: io::Error) -> Error {
        Error::Io { verb, path: self.folder.clone(), source }
    }

    fn freeze(&self) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        // Whoever joins stands still at once, and so makes no children that would have to be moved too.
        fs::write(self.folder.join("freezer.state"), "FROZEN")?;
        move_all(&self.members, &self.folder, || all_are_in(&self.members, &self.folder))?;
        self.wait_until_frozen()
    }

    fn thaw(&self) -> io::Result<()> {
        if !self.folder.exists() {
            return Ok(());
        }
        fs::write(self.folder.join("freezer.state"), "THAWED")?;
        move_all(&self.folder, &self.home, || fs::remove_dir(&self.folder).is_ok())
    }

    fn wait_until_frozen(&self) -> io::Result<()> {
        let end = Instant::now() + PATIENCE;
        while fs::read_to_string(self.folder.join("freezer.state"))?.trim_end() != "FROZEN" {
            if Instant::now() > end {
                return Err(io::ErrorKind::TimedOut.into());
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

/// Moves the members of one group into another until `done`.
fn move_all(from: &Path, to: &Path, done: impl Fn() -> bool) -> io::Result<()> {
    for _ in 0..MAX_ROUNDS {
        for pid in fs::read_to_string(from.join("cgroup.procs"))?.lines() {
            match fs::write(to.join("cgroup.procs"), pid) {
                // It has ended meanwhile.
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                moved => moved?,
            }
        }
        if done() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(1));
    }
    Err(io::ErrorKind::TimedOut.into())
}

fn all_are_in(members: &Path, group: &Path) -> bool {
    let read = |folder: &Path| fs::read_to_string(folder.join("cgroup.procs"));
    let (Ok(members), Ok(inside)) = (read(members), read(group)) else { return false };
    let inside: std::collections::BTreeSet<&str> = inside.lines().collect();
    members.lines().all(|pid| inside.contains(pid))
}
