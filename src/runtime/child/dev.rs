//! What `/dev` has beside the nodes that the parent has made.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::unistd::symlinkat;

use super::place::{self, Kind};
use super::{At, Child, Done};
use crate::runtime::error::Step;
use crate::runtime::plan::LINKS;
use crate::sys::mount;

impl Child<'_> {
    /// The symbolic links, and the devices that are bind-mounted.
    pub(super) fn fill_dev(&mut self, root: &OwnedFd) -> Done {
        if !self.plan.own_dev {
            return Ok(());
        }
        let dev = place::open_strict(root.as_fd(), c"dev").at(Step::DeviceLink, 0)?;
        for (index, (name, target)) in LINKS.iter().enumerate() {
            match symlinkat(*target, &dev, *name) {
                // A mount of the spec's is there already.
                Err(Errno::EEXIST) => {}
                made => made.at(Step::DeviceLink, index)?,
            }
        }
        for (index, device) in self.plan.device_binds.iter().enumerate() {
            let place = place::find_or_make(root.as_fd(), &device.destination, Kind::File, true);
            let place = place.at(Step::Device, index)?;
            mount::move_mount(device.mount.as_fd(), place.as_fd()).at(Step::Device, index)?;
        }
        Ok(())
    }
}

/// Shows the terminal as `/dev/console`, by its descriptor.
pub(super) fn bind_console(root: BorrowedFd<'_>, terminal: BorrowedFd<'_>) -> Done {
    let place = place::find_or_make(root, c"dev/console", Kind::File, true);
    let place = place.during(Step::ConsoleDevice)?;
    let clone = mount::open_tree_clone(terminal, c"", false).during(Step::ConsoleDevice)?;
    mount::move_mount(clone.as_fd(), place.as_fd()).during(Step::ConsoleDevice)
}
