//! A container's control groups, found again: who is in them, freezing, other limits, removal.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::cgroup::{self, MOUNT_POINT, Setting};
use super::error::Error;
use super::host::CgroupVersion;
use crate::oci::runtime_spec::linux::Resources;
use crate::sys::pidfd::{pidfd_open, pidfd_send_signal};

/// How long freezing may take, and between looking.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(1);
/// How often a version 1 group that does not freeze is let go for a moment: a task that waits for one which is frozen
/// already must get its turn.
const THAW_EVERY: u32 = 50;

/// The directories of a container's groups, one a hierarchy.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Groups(Vec<PathBuf>);

/// A group below a container's, as [`super::ExecOptions`] joins it.
#[derive(Clone, Debug)]
pub struct Below {
    /// The version 1 controllers that it is for; of version 2, it is for all.
    pub controllers: Vec<String>,
    /// Its path below the container's.
    pub name: PathBuf,
    /// The group itself.
    pub groups: Groups,
}

impl Groups {
    /// The groups with these directories, as [`super::Process::cgroup_directories`] tells them.
    pub fn new(directories: Vec<PathBuf>) -> Self {
        Self(directories)
    }

    /// The directories.
    pub fn directories(&self) -> &[PathBuf] {
        &self.0
    }

    /// Of which version they are.
    pub(super) fn version(&self) -> CgroupVersion {
        match self.0.first() {
            None => CgroupVersion::None,
            Some(directory) if directory.join("tasks").exists() => CgroupVersion::V1,
            Some(_) => CgroupVersion::V2,
        }
    }

    /// The version 1 controller of one of the directories.
    pub(super) fn controller_of(&self, directory: &Path) -> Option<&'static str> {
        let below = directory.strip_prefix(MOUNT_POINT).ok()?;
        let name = below.components().next()?.as_os_str();
        cgroup::V1_CONTROLLERS.into_iter().chain(["cpuacct"]).find(|known| name == *known)
    }

    /// The directory with the files of `controller`: of version 2, the only one.
    pub(super) fn directory(&self, controller: &str) -> Option<&Path> {
        let found = match self.version() {
            CgroupVersion::V2 => self.0.first(),
            _ => self.0.iter().find(|directory| self.controller_of(directory) == Some(controller)),
        };
        found.map(PathBuf::as_path)
    }

    /// The processes in them, and in groups below.
    ///
    /// # Errors
    /// When a list cannot be read. Groups that are gone have no processes.
    pub fn processes(&self) -> Result<Vec<Pid>, Error> {
        let mut found = Vec::new();
        let directory = self.directory("freezer").or(self.0.first().map(PathBuf::as_path));
        if let Some(directory) = directory {
            collect(directory, &mut found)?;
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// Sends a signal to each process, none of which can make another one meanwhile.
    ///
    /// # Errors
    /// What [`Self::processes`] reports.
    pub fn kill(&self, signal: i32) -> Result<(), Error> {
        if signal == libc::SIGKILL
            && self.version() == CgroupVersion::V2
            // Since Linux 5.14.
            && self.0.iter().all(|group| cgroup::write(&group.join("cgroup.kill"), "1").is_ok())
        {
            return Ok(());
        }
        let was_frozen = self.is_frozen();
        // Where there is nothing to freeze them with, they are signalled on the run.
        let frozen = was_frozen || self.freeze().is_ok();
        let pids = self.processes();
        for pid in pids.iter().flatten() {
            // It may have ended since, which is as well.
            let _ = pidfd_open(*pid).and_then(|pidfd| pidfd_send_signal(pidfd, signal));
        }
        if frozen && (!was_frozen || signal == libc::SIGKILL) {
            self.thaw()?;
        }
        pids.map(drop)
    }

    /// Makes a group below them, in one hierarchy, for a process all of whose descendants are to be found again; `None`
    /// where there is none to make one in.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn make_below(&self, name: &str) -> Result<Option<Below>, Error> {
        let one = match self.version() {
            CgroupVersion::None => None,
            CgroupVersion::V2 => self.0.first(),
            // A new group of `cpuset` takes no process before it is filled in.
            CgroupVersion::V1 => {
                let is = |directory: &&PathBuf, wanted| self.controller_of(directory) == wanted;
                let freezer = self.0.iter().find(|directory| is(directory, Some("freezer")));
                freezer.or_else(|| self.0.iter().find(|d| !is(d, Some("cpuset")) && !is(d, None)))
            }
        };
        let Some(one) = one else { return Ok(None) };
        let directory = one.join(name);
        fs::create_dir(&directory).map_err(|error| Error::Cgroup {
            action: "make",
            path: directory.clone(),
            source: Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)),
        })?;
        let controllers = match self.version() {
            CgroupVersion::V1 => self.controller_of(one).map(str::to_owned).into_iter().collect(),
            _ => Vec::new(),
        };
        Ok(Some(Below { controllers, name: name.into(), groups: Self(vec![directory]) }))
    }

    /// Whether there is a freezer to hold them with.
    pub fn can_freeze(&self) -> bool {
        self.directory("freezer").is_some_and(|directory| {
            ["cgroup.freeze", "freezer.state"].iter().any(|file| directory.join(file).exists())
        })
    }

    /// Whether they are held.
    pub fn is_frozen(&self) -> bool {
        let Some(directory) = self.directory("freezer") else { return false };
        let read = |file: &str| fs::read_to_string(directory.join(file)).unwrap_or_default();
        match self.version() {
            CgroupVersion::V2 => read("cgroup.freeze").trim() == "1",
            _ => matches!(read("freezer.state").trim(), "FROZEN" | "FREEZING"),
        }
    }

    /// Holds every process where it is, and waits until none runs.
    ///
    /// # Errors
    /// `ETIMEDOUT` if one does not stop; then none is held. [`Error::Controller`] where there is no freezer.
    pub fn freeze(&self) -> Result<(), Error> {
        let directory = self.freezer()?;
        let frozen = match self.version() {
            CgroupVersion::V2 => freeze_v2(directory),
            _ => freeze_v1(directory),
        };
        frozen.inspect_err(|_| {
            // That it could not be held is what counts.
            let _ = self.thaw();
        })
    }

    /// Lets every process go on.
    ///
    /// # Errors
    /// When the group is gone, or there is no freezer.
    pub fn thaw(&self) -> Result<(), Error> {
        let directory = self.freezer()?;
        match self.version() {
            CgroupVersion::V2 => cgroup::write(&directory.join("cgroup.freeze"), "0"),
            _ => cgroup::write(&directory.join("freezer.state"), "THAWED"),
        }
    }

    fn freezer(&self) -> Result<&Path, Error> {
        self.directory("freezer").ok_or_else(|| {
            cgroup::missing(&Setting::new("freezer", "freezer.state", String::new()))
        })
    }

    /// Changes limits; those that `resources` does not speak of stay.
    ///
    /// # Errors
    /// When a limit makes no sense, or the machine or the container has no group for it.
    pub fn update(&self, resources: &Resources) -> Result<(), Error> {
        let settings = self.settings(resources)?;
        let mut refused: Vec<&Setting> = Vec::new();
        for setting in &settings {
            match self.set(setting) {
                // Memory may never be more than memory and swap, so which of two new values goes first depends on the old.
                Err(Error::Cgroup { source: Errno::EINVAL | Errno::EBUSY, .. })
                    if setting.controller == "memory" || setting.controller == "cpu" =>
                {
                    refused.push(setting);
                }
                set => set?,
            }
        }
        refused.into_iter().try_for_each(|setting| self.set(setting))
    }

    /// What limits come to in their files.
    pub(super) fn settings(&self, resources: &Resources) -> Result<Vec<Setting>, Error> {
        match self.version() {
            CgroupVersion::V1 => cgroup::v1(resources),
            _ => cgroup::v2(resources),
        }
    }

    fn set(&self, setting: &Setting) -> Result<(), Error> {
        let directory = self.directory(setting.controller);
        let directory = directory.ok_or_else(|| cgroup::missing(setting))?;
        match cgroup::apply(directory, setting) {
            Err(Error::Cgroup { source: Errno::ENOENT, .. }) if setting.optional => Ok(()),
            Err(Error::Cgroup { source: Errno::ENOENT, .. }) => Err(cgroup::missing(setting)),
            written => written,
        }
    }

    /// Removes them. What is still in them is killed.
    ///
    /// # Errors
    /// When one does not go away.
    pub fn delete(&self) -> Result<(), Error> {
        let mut result = Ok(());
        // One that stays does not keep the others.
        for directory in &self.0 {
            result = result.and(cgroup::remove(directory));
        }
        result
    }
}

fn collect(directory: &Path, found: &mut Vec<Pid>) -> Result<(), Error> {
    let failed = |path: &Path, error: &io::Error| Error::Cgroup {
        action: "read",
        path: path.to_owned(),
        source: Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)),
    };
    let path = directory.join("cgroup.procs");
    let text = match fs::read_to_string(&path) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => {
            return Ok(());
        }
        read => read.map_err(|error| failed(&path, &error))?,
    };
    found.extend(text.lines().filter_map(|line| line.parse().ok()).map(Pid::from_raw));
    let entries = fs::read_dir(directory).map_err(|error| failed(directory, &error))?;
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir())) {
        collect(&entry.path(), found)?;
    }
    Ok(())
}

fn timed_out(path: PathBuf) -> Error {
    Error::Cgroup { action: "wait for", path, source: Errno::ETIMEDOUT }
}

fn freeze_v2(directory: &Path) -> Result<(), Error> {
    cgroup::write(&directory.join("cgroup.freeze"), "1")?;
    let path = directory.join("cgroup.events");
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let text = fs::read_to_string(&path).unwrap_or_default();
        if text.lines().any(|line| line == "frozen 1") {
            return Ok(());
        }
        thread::sleep(PAUSE);
    }
    Err(timed_out(path))
}

fn freeze_v1(directory: &Path) -> Result<(), Error> {
    let path = directory.join("freezer.state");
    let begun = Instant::now();
    let mut looks = 0;
    while begun.elapsed() < PATIENCE {
        if looks % THAW_EVERY == THAW_EVERY - 1 {
            cgroup::write(&path, "THAWED")?;
            thread::sleep(PAUSE);
        }
        // Each write also catches what has come into the group since the last one.
        cgroup::write(&path, "FROZEN")?;
        if fs::read_to_string(&path).is_ok_and(|state| state.trim() == "FROZEN") {
            return Ok(());
        }
        looks += 1;
        thread::sleep(PAUSE);
    }
    Err(timed_out(path))
}
