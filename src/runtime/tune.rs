//! What the parent changes of the first process while that waits, as only it has the privilege.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sched::setns;
use nix::unistd::Pid;

use super::error::Error;
use super::plan::{NetDevice, PlannedProcess};
use crate::sys::clone;
use crate::sys::netlink::{Address, Link, Socket};
use crate::sys::schedule::{ioprio_set, sched_setattr};

/// Sets what the plan says of scheduling.
pub(super) fn schedule(process: &PlannedProcess, pid: Pid) -> Result<(), Error> {
    let error = |action| move |source| Error::Process { action, pid: pid.as_raw(), source };
    if let Some(attr) = process.scheduler {
        sched_setattr(pid, attr).map_err(error("set `process.scheduler` of"))?;
    }
    if let Some((class, level)) = process.io_priority {
        ioprio_set(pid, class, level).map_err(error("set `process.ioPriority` of"))?;
    }
    Ok(())
}

/// Connections to this process's network namespace and to the container's.
struct Namespaces {
    here: Socket,
    there: Socket,
    file: File,
}

/// Moves network interfaces into the process's network namespace.
pub(super) fn move_devices(devices: &[NetDevice], pid: Pid) -> Result<(), Error> {
    if devices.is_empty() {
        return Ok(());
    }
    let namespaces = connect(pid)?;
    devices.iter().try_for_each(|device| {
        move_device(device, &namespaces).map_err(|source| Error::Path {
            action: "move the network interface",
            path: device.outside.clone().into(),
            source,
        })
    })
}

fn connect(pid: Pid) -> Result<Namespaces, Error> {
    let open = |name: String| {
        let path = PathBuf::from(name);
        File::open(&path).map_err(|error| Error::Path {
            action: "open",
            path,
            source: Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)),
        })
    };
    let (own, file) = (open("/proc/self/ns/net".to_owned())?, open(format!("/proc/{pid}/ns/net"))?);
    let kind = clone::flags(clone::NEWNET);
    let here = Socket::open();
    let there = setns(&file, kind).and_then(|()| Socket::open());
    let back = setns(&own, kind);
    let error =
        |source| Error::Process { action: "join the network of", pid: pid.as_raw(), source };
    back.map_err(error)?;
    Ok(Namespaces { here: here.map_err(error)?, there: there.map_err(error)?, file })
}

/// Moves an interface together with its addresses that are there for good and for the whole world, which it loses on the
/// way, and takes it into service.
fn move_device(device: &NetDevice, namespaces: &Namespaces) -> Result<(), Errno> {
    let Namespaces { here, there, file } = namespaces;
    let named = |links: &[Link], name: &str| {
        links.iter().find(|link| link.name == name).map(|link| link.index)
    };
    let index = named(&here.links()?, &device.outside).ok_or(Errno::ENODEV)?;
    let kept =
        |address: &Address| address.index == index && address.scope == 0 && address.is_permanent();
    let addresses: Vec<Address> = here.addresses()?.into_iter().filter(kept).collect();
    let before = there.links()?;
    // The kernel looks for this only when the interface is there already, and cannot come back then.
    if named(&before, &device.inside).is_some() {
        return Err(Errno::EEXIST);
    }
    here.move_link(index, file.as_fd(), &device.inside)?;
    let moved = there.links()?.into_iter().find(|link| !before.contains(link));
    let moved = moved.ok_or(Errno::ENODEV)?.index;
    for address in &addresses {
        match there.add_address(moved, address) {
            Err(Errno::EEXIST) => {}
            added => added?,
        }
    }
    there.set_up(moved)
}
