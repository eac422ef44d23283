//! The class of service of a container's processes: a directory of the `resctrl` filesystem.
//!
//! Sources: runtime-spec, `config-linux.md#intelrdt`; the kernel's `filesystems/resctrl.rst`. All of it goes by a descriptor
//! of the filesystem's root.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstatat, mkdirat};
use nix::sys::statfs::{FsType, fstatfs};
use nix::unistd::{Pid, UnlinkatFlags, unlinkat};
use serde::{Deserialize, Serialize};

use super::error::Error;
use crate::oci::runtime_spec::IntelRdt;

const MOUNT_POINT: &str = "/sys/fs/resctrl";
/// `linux/magic.h`
const MAGIC: FsType = FsType(0x0765_5821);
/// What the root has beside classes.
const NO_CLASSES: [&str; 6] = [".", "..", "info", "mon_data", "mon_groups", ""];
/// The longest `schemata` that is read.
const MAX_SCHEMATA: u64 = 1 << 16;

/// A container's class, by which it is found again.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Class {
    /// Its directory below the root; empty is the root itself.
    directory: PathBuf,
    /// Whether it goes with the container.
    own: bool,
    /// The container's group of what is counted.
    monitor: Option<PathBuf>,
}

/// A class that is to be.
#[derive(Debug)]
pub(super) struct Planned {
    root: File,
    class: Class,
    /// What is set in it.
    lines: Vec<String>,
    /// Whether it may be made where it is not there.
    make: bool,
}

fn invalid(field: &str, reason: String) -> Error {
    Error::Invalid { field: format!("linux.intelRdt{field}"), reason }
}

impl Planned {
    /// Works out which class the container is in. Makes nothing, but must find the filesystem.
    pub(super) fn new(rdt: &IntelRdt, id: &str) -> Result<Self, Error> {
        let root = open_root()?;
        Self::at(root, rdt, id)
    }

    fn at(root: File, rdt: &IntelRdt, id: &str) -> Result<Self, Error> {
        let name = rdt.clos_id.as_deref().unwrap_or(id);
        if name != "/" && (NO_CLASSES.contains(&name) || name.contains(['/', '\n'])) {
            return Err(invalid(".closID", format!("`{name}` cannot be the name of a class")));
        }
        let directory = PathBuf::from(name.trim_start_matches('/'));
        let monitor = rdt.enable_monitoring == Some(true);
        let monitor = monitor.then(|| directory.join("mon_groups").join(id));
        let lines = lines(rdt)?;
        let make = rdt.clos_id.is_none() || !lines.is_empty();
        Ok(Self { root, class: Class { directory, own: false, monitor }, lines, make })
    }

    /// Puts a process into the class, which is made if need be.
    pub(super) fn join(mut self, pid: Pid, named: bool) -> Result<Class, Error> {
        let made = self.make()?;
        self.class.own = made && !named;
        let root = self.root.as_fd();
        // What is to be undone is what was made here.
        let mut new = Class { own: made, monitor: None, ..self.class.clone() };
        let joined = self.set().and_then(|()| {
            if let Some(monitor) = &self.class.monitor {
                let mode = Mode::from_bits_truncate(0o755);
                mkdirat(root, monitor, mode).map_err(failed("make", monitor))?;
                new.monitor = Some(monitor.clone());
            }
            self.class.add_at(root, pid)
        });
        if joined.is_err() {
            // Why it could not be used counts more than whether all of it went away.
            let _ = new.remove_at(root);
        }
        joined.map(|()| self.class)
    }

    /// Makes the directory, and says whether it was not there.
    fn make(&self) -> Result<bool, Error> {
        let directory = &self.class.directory;
        if directory.as_os_str().is_empty() {
            return Ok(false);
        }
        if !self.make {
            // To be in a class without changing it, it must be there.
            let there = fstatat(&self.root, directory, AtFlags::AT_SYMLINK_NOFOLLOW);
            return there.map(|_| false).map_err(failed("find", directory));
        }
        match mkdirat(&self.root, directory, Mode::from_bits_truncate(0o755)) {
            Err(Errno::EEXIST) => self.compare().map(|()| false),
            made => made.map(|()| true).map_err(failed("make", directory)),
        }
    }

    /// A class that others are in as well is not changed by this container.
    fn compare(&self) -> Result<(), Error> {
        let path = self.class.directory.join("schemata");
        let mut text = String::new();
        let file = open(self.root.as_fd(), &path, OFlag::O_RDONLY)?;
        let read = file.take(MAX_SCHEMATA).read_to_string(&mut text);
        read.map_err(|error| {
            failed("read", &path)(Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
        })?;
        let holds: Vec<_> = text.lines().filter_map(parse).collect();
        for line in &self.lines {
            let (name, wanted) = parse(line).unwrap_or_default();
            let found = holds.iter().find(|(there, _)| *there == name).map(|(_, found)| found);
            if found.is_none_or(|found| wanted.iter().any(|one| !found.contains(one))) {
                let class = self.class.directory.display();
                return Err(invalid(
                    ".closID",
                    format!("`{class}` is there, and has other values than `{line}`"),
                ));
            }
        }
        Ok(())
    }

    fn set(&self) -> Result<(), Error> {
        self.class.set_at(self.root.as_fd(), &self.lines)
    }
}

impl Class {
    /// Puts a further process into it.
    ///
    /// # Errors
    /// When the class is gone.
    pub(super) fn add(&self, pid: Pid) -> Result<(), Error> {
        self.add_at(open_root()?.as_fd(), pid)
    }

    fn add_at(&self, root: BorrowedFd<'_>, pid: Pid) -> Result<(), Error> {
        for directory in std::iter::once(&self.directory).chain(&self.monitor) {
            write(root, &directory.join("tasks"), &pid.to_string())?;
        }
        Ok(())
    }

    /// Sets other values in it.
    ///
    /// # Errors
    /// What the kernel says of the values.
    pub(super) fn set(&self, rdt: &IntelRdt) -> Result<(), Error> {
        self.set_at(open_root()?.as_fd(), &lines(rdt)?)
    }

    fn set_at(&self, root: BorrowedFd<'_>, lines: &[String]) -> Result<(), Error> {
        if lines.is_empty() {
            return Ok(());
        }
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        write(root, &self.directory.join("schemata"), &text)
    }

    /// Removes what is of the container alone.
    ///
    /// # Errors
    /// When it does not go away.
    pub(super) fn remove(&self) -> Result<(), Error> {
        self.remove_at(open_root()?.as_fd())
    }

    fn remove_at(&self, root: BorrowedFd<'_>) -> Result<(), Error> {
        let own =
            Some(&self.directory).filter(|directory| self.own && !directory.as_os_str().is_empty());
        for directory in self.monitor.iter().chain(own) {
            match unlinkat(root, directory, UnlinkatFlags::RemoveDir) {
                Err(Errno::ENOENT) => {}
                removed => removed.map_err(failed("remove", directory))?,
            }
        }
        Ok(())
    }
}

fn open_root() -> Result<File, Error> {
    let is_resctrl =
        |root: &File| fstatfs(root).is_ok_and(|found| found.filesystem_type() == MAGIC);
    File::open(MOUNT_POINT)
        .ok()
        .filter(is_resctrl)
        .ok_or_else(|| invalid("", format!("there is no `resctrl` filesystem on {MOUNT_POINT}")))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(Errno) -> Error {
    let path = Path::new(MOUNT_POINT).join(path);
    move |source| Error::Path { action, path, source }
}

fn open(root: BorrowedFd<'_>, path: &Path, flags: OFlag) -> Result<File, Error> {
    let flags = flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    openat(root, path, flags, Mode::empty()).map(File::from).map_err(failed("open", path))
}

fn write(root: BorrowedFd<'_>, path: &Path, text: &str) -> Result<(), Error> {
    let written = open(root, path, OFlag::O_WRONLY)?.write_all(text.as_bytes());
    written.map_err(|error| {
        failed("write", path)(Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
    })
}

/// What is written to `schemata`, in the specification's order.
fn lines(rdt: &IntelRdt) -> Result<Vec<String>, Error> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let bandwidth = given(&rdt.mem_bw_schema);
    if bandwidth.as_ref().is_some_and(|line| !line.starts_with("MB:") || line.contains('\n')) {
        return Err(invalid(
            ".memBwSchema",
            "it is not one line that begins with `MB:`".to_owned(),
        ));
    }
    if rdt.schemata.iter().any(|line| line.contains('\n')) {
        return Err(invalid(".schemata", "an item is more than one line".to_owned()));
    }
    // Bandwidth is not for this one to say.
    let caches = given(&rdt.l3_cache_schema).unwrap_or_default();
    let caches = caches.lines().filter(|line| !line.starts_with("MB:")).map(str::to_owned);
    Ok(caches
        .chain(bandwidth)
        .chain(rdt.schemata.iter().cloned())
        .filter(|line| !line.trim().is_empty())
        .collect())
}

/// A line's resource, and the number of each of its domains with what is set there: parts of caches in hexadecimal digits,
/// bandwidth in others. The kernel shows them with leading blanks and zeros.
fn parse(line: &str) -> Option<(&str, Vec<(&str, u64)>)> {
    let (name, values) = line.trim().split_once(':')?;
    let base = if name.starts_with('L') { 16 } else { 10 };
    let domains = values.split(';').filter(|domain| !domain.trim().is_empty()).map(|domain| {
        let (number, value) = domain.split_once('=')?;
        Some((number.trim(), u64::from_str_radix(value.trim(), base).ok()?))
    });
    Some((name.trim(), domains.collect::<Option<_>>()?))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A folder that looks like the filesystem, with the class `there`.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir()
                .join(format!("mydocker-resctrl-{}-{name}", std::process::id()));
            let folder = Self(path);
            fs::create_dir_all(folder.0.join("mon_groups")).unwrap();
            folder.fill("there");
            folder.fill("");
            folder
        }

        /// Puts into a class what the kernel puts there.
        fn fill(&self, class: &str) {
            fs::create_dir_all(self.0.join(class).join("mon_groups")).unwrap();
            fs::write(
                self.0.join(class).join("schemata"),
                "    MB:0=  20;1= 100\n    L3:0=007ff;1=0001f\n",
            )
            .unwrap();
            fs::write(self.0.join(class).join("tasks"), "").unwrap();
        }

        fn read(&self, path: &str) -> String {
            fs::read_to_string(self.0.join(path)).unwrap()
        }

        fn plan(&self, json: &str) -> Result<Planned, Error> {
            let root = File::open(&self.0).unwrap();
            Planned::at(root, &serde_json::from_str(json).unwrap(), "box")
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_class_that_is_there_is_joined_and_stays() {
        let folder = Folder::new("there");
        for json in [
            r#"{"closID":"there"}"#,
            r#"{"closID":"there","l3CacheSchema":"L3:0=7ff"}"#,
            r#"{"closID":"there","memBwSchema":"MB:1=100;0=20"}"#,
            r#"{"closID":"/"}"#,
        ] {
            let plan = folder.plan(json).unwrap();
            let class = plan.join(Pid::from_raw(7), true).unwrap();
            let tasks = class.directory.join("tasks");
            assert_eq!(folder.read(tasks.to_str().unwrap()), "7", "{json}");
            class.remove_at(File::open(&folder.0).unwrap().as_fd()).unwrap();
            assert!(folder.0.join("there").exists());
            folder.fill("there");
        }
    }

    #[test]
    fn a_class_with_other_values_is_refused() {
        let folder = Folder::new("other");
        for json in [
            r#"{"closID":"there","l3CacheSchema":"L3:0=7f"}"#,
            r#"{"closID":"there","l3CacheSchema":"L3:2=7ff"}"#,
            r#"{"closID":"there","memBwSchema":"MB:0=100"}"#,
            r#"{"closID":"there","schemata":["L2:0=f"]}"#,
        ] {
            let error = folder.plan(json).unwrap().join(Pid::from_raw(7), true).unwrap_err();
            assert!(error.to_string().contains("has other values"), "{error}");
        }
        assert_eq!(folder.read("there/tasks"), "");
        // To be in one without values, it must be there.
        assert!(folder.plan(r#"{"closID":"new"}"#).unwrap().join(Pid::from_raw(7), true).is_err());
        assert!(!folder.0.join("new").exists());
    }

    #[test]
    fn a_class_of_its_own_comes_and_goes() {
        let folder = Folder::new("own");
        let plan = folder.plan(r#"{"l3CacheSchema":"L3:0=1\nMB:0=9","memBwSchema":"MB:0=8","schemata":["L2:0=f"]}"#).unwrap();
        assert!(plan.make().unwrap());
        folder.fill("box");
        fs::write(folder.0.join("box/schemata"), "").unwrap();
        plan.set().unwrap();
        assert_eq!(folder.read("box/schemata"), "L3:0=1\nMB:0=8\nL2:0=f\n");
        // The kernel would have put the files there: without them it cannot be used, and so does not stay.
        let other = folder.plan("{}").unwrap();
        fs::remove_dir_all(folder.0.join("box")).unwrap();
        assert!(other.join(Pid::from_raw(7), false).is_err());
        assert!(!folder.0.join("box").exists());
        let class = Class { directory: "box".into(), own: true, monitor: None };
        fs::create_dir(folder.0.join("box")).unwrap();
        class.remove_at(File::open(&folder.0).unwrap().as_fd()).unwrap();
        assert!(!folder.0.join("box").exists() && folder.0.join("there").exists());
    }

    #[test]
    fn what_is_counted_is_in_a_group_of_the_containers() {
        let folder = Folder::new("monitor");
        let plan = folder.plan(r#"{"closID":"there","enableMonitoring":true}"#).unwrap();
        assert_eq!(plan.class.monitor.as_deref(), Some(Path::new("there/mon_groups/box")));
        let plan = folder.plan(r#"{"closID":"/","enableMonitoring":true}"#).unwrap();
        assert_eq!(plan.class.monitor.as_deref(), Some(Path::new("mon_groups/box")));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let folder = Folder::new("bad");
        for bad in [
            r#"{"closID":""}"#,
            r#"{"closID":".."}"#,
            r#"{"closID":"a/b"}"#,
            r#"{"closID":"info"}"#,
            r#"{"memBwSchema":"L3:0=1"}"#,
            r#"{"memBwSchema":"MB:0=1\nL3:0=1"}"#,
            r#"{"schemata":["L3:0=1\nMB:0=1"]}"#,
        ] {
            assert!(folder.plan(bad).is_err(), "{bad}");
        }
    }
}
