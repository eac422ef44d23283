//! The files and directories of control groups.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::{Pid, Uid};

use super::MOUNT_POINT;
use super::settings::Setting;
use crate::runtime::error::Error;

/// How long removal waits for the last tasks to be gone, and between looking.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_micros(500);

pub(super) fn failed(action: &'static str, path: &Path, error: &io::Error) -> Error {
    let source = Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
    Error::Cgroup { action, path: path.to_owned(), source }
}

/// Gives a group and those of its files to `uid` that the kernel names.
pub(super) fn delegate(directory: &Path, uid: Uid) -> Result<(), Error> {
    const LIST: &str = "/sys/kernel/cgroup/delegate";
    const USUAL: &str = "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n";
    let list = fs::read_to_string(LIST).unwrap_or_else(|_| USUAL.to_owned());
    let files = list.lines().map(|file| directory.join(file));
    for path in std::iter::once(directory.to_owned()).chain(files) {
        match nix::unistd::chown(&path, Some(uid), None) {
            // Not every kernel has all of them.
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(source) => {
                return Err(Error::Cgroup { action: "change the owner of", path, source });
            }
        }
    }
    Ok(())
}

/// Makes a group, which must be new: another container's would lend it its limits and its fate.
pub(super) fn make(directory: &Path) -> Result<(), Error> {
    let made = match fs::create_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent = directory.parent().unwrap_or(directory);
            fs::create_dir_all(parent).and_then(|()| fs::create_dir(directory))
        }
        made => made,
    };
    match made {
        // What a container that was killed together with its watcher has left, as long as nothing is in it.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let again = fs::remove_dir(directory).and_then(|()| fs::create_dir(directory));
            again.map_err(|error| failed("make", directory, &error))
        }
        made => made.map_err(|error| failed("make", directory, &error)),
    }
}

/// Writes what a setting says, into the file that there is.
pub(in crate::runtime) fn apply(directory: &Path, setting: &Setting) -> Result<(), Error> {
    if let Some(usage) = setting.usage {
        let path = directory.join(usage);
        let text = fs::read_to_string(&path).map_err(|error| failed("read", &path, &error))?;
        let number = |text: &str| text.trim().parse::<u64>().ok();
        if number(&text) > number(&setting.value) {
            let field = format!("linux.resources.{}", setting.controller);
            let reason = format!("`{usage}` is {} already", text.trim());
            return Err(Error::Invalid { field, reason });
        }
    }
    match (write(&directory.join(&setting.file), &setting.value), &setting.instead) {
        (Err(Error::Cgroup { source: Errno::ENOENT, .. }), Some((file, value))) => {
            write(&directory.join(file), value)
        }
        (written, _) => written,
    }
}

/// Writes a control file, which takes one write and no truncation.
pub(in crate::runtime) fn write(path: &Path, value: &str) -> Result<(), Error> {
    let file = fs::OpenOptions::new().write(true).open(path);
    file.and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()))
        .map_err(|error| failed("write", path, &error))
}

/// A new cpuset group of version 1 has no processors and takes no process before it has some.
pub(super) fn inherit_cpuset(hierarchy: &Path, directory: &Path) -> Result<(), Error> {
    let below = directory.strip_prefix(hierarchy).unwrap_or(directory);
    let mut group = hierarchy.to_owned();
    for name in below.components() {
        let parent = group.clone();
        group.push(name);
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let path = group.join(file);
            let read = |path: &Path| {
                fs::read_to_string(path).map_err(|error| failed("read", path, &error))
            };
            if read(&path)?.trim().is_empty() {
                write(&path, read(&parent.join(file))?.trim())?;
            }
        }
    }
    Ok(())
}

/// The groups above one, the first of all first.
pub(super) fn above(directory: &Path) -> Vec<&Path> {
    let root = Path::new(MOUNT_POINT);
    let mut above: Vec<&Path> =
        directory.ancestors().skip(1).take_while(|path| path.starts_with(root)).collect();
    above.reverse();
    above
}

/// Hands down to a version 2 group every controller that there is, as far as that is possible.
pub(super) fn enable_all(directory: &Path) {
    let read =
        |group: &Path| fs::read_to_string(group.join("cgroup.controllers")).unwrap_or_default();
    let (all, there) = (read(Path::new(MOUNT_POINT)), read(directory));
    for name in all.split_whitespace().filter(|name| !there.split_whitespace().any(|n| n == *name))
    {
        for group in above(directory) {
            // A limit that needs it says so.
            if write(&group.join("cgroup.subtree_control"), &format!("+{name}")).is_err() {
                break;
            }
        }
    }
}

/// The file by which a group is joined: that of version 1 which takes a thread, if it has one.
pub(in crate::runtime) fn members(directory: &Path) -> PathBuf {
    let tasks = directory.join("tasks");
    if tasks.exists() { tasks } else { directory.join("cgroup.procs") }
}

pub(super) fn move_processes(group: &Path) -> Result<(), Error> {
    let aside = group.join("init");
    match fs::create_dir(&aside) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(failed("make", &aside, &error));
        }
        _ => {}
    }
    let procs = group.join("cgroup.procs");
    let list = fs::read_to_string(&procs).map_err(|error| failed("read", &procs, &error))?;
    for pid in list.lines() {
        match write(&aside.join("cgroup.procs"), pid) {
            // It has ended, or is a kernel thread.
            Ok(()) | Err(Error::Cgroup { source: Errno::ESRCH | Errno::EINVAL, .. }) => {}
            written => return written,
        }
    }
    Ok(())
}

pub(in crate::runtime) fn remove(directory: &Path) -> Result<(), Error> {
    let mut waited = Duration::ZERO;
    loop {
        match fs::remove_dir(directory) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && waited < PATIENCE => {
                if waited.is_zero() {
                    kill_all(directory);
                    remove_children(directory);
                }
                thread::sleep(PAUSE);
                waited += PAUSE;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            removed => return removed.map_err(|error| failed("remove", directory, &error)),
        }
    }
}

fn kill_all(directory: &Path) {
    // Since Linux 5.14, and only in version 2.
    if write(&directory.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    let list = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    for pid in list.lines().filter_map(|pid| pid.parse().ok()) {
        // It may have ended since, which is what is wanted.
        let _ = nix::sys::signal::kill(Pid::from_raw(pid), nix::sys::signal::SIGKILL);
    }
}

/// Groups that the container has made inside its own, as systemd does.
fn remove_children(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir())) {
        remove_children(&entry.path());
        // The removal of the group itself reports what is in the way.
        let _ = fs::remove_dir(entry.path());
    }
}
