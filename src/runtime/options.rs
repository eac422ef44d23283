//! What a container is made from, and what its maker decides.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// Where a container's files are.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// The container's name, which also names its control group.
    pub id: String,
    /// The bundle's directory: relative paths of the spec start here.
    pub directory: PathBuf,
    /// What the root filesystem is made of.
    pub root: Root,
}

/// What the root filesystem is made of.
#[derive(Clone, Debug)]
pub enum Root {
    /// The spec's `root.path`, bind-mounted: what is written stays there.
    Directory,
    /// An overlay: what is written goes into a layer of the container's own.
    Overlay {
        /// An image's tree; it is never written to.
        lower: PathBuf,
        /// A directory with `upper/` and `work/`.
        layer: PathBuf,
        /// Whether the layer is thrown away with the container, and so need not be flushed to disk when it ends. After a
        /// crash of the machine, a volatile layer cannot be mounted again.
        volatile: bool,
    },
}

/// The standard streams of the program.
#[derive(Debug, Default)]
pub enum Stdio {
    /// The caller's own.
    #[default]
    Inherit,
    /// Input, output and error.
    Descriptors([OwnedFd; 3]),
}

/// What the caller decides, and no spec.
#[derive(Debug, Default)]
pub struct Options {
    /// The standard streams, if the program does not get a terminal.
    pub stdio: Stdio,
    /// Mounts that the caller has made, by the destination of the spec's mount that each of them stands for.
    pub mounts: Vec<(String, OwnedFd)>,
    /// The control group under which the container's is made, if the spec does not name one; `mydocker` unless given.
    pub cgroup_parent: Option<PathBuf>,
    /// Whether bind mounts and a root directory show the owners on disk as they are to the user namespace's root, where
    /// the spec does not say so mount by mount. Where a filesystem cannot, a bind mount goes without, with a warning.
    pub idmap_binds: bool,
    /// Folders whose content others may change: the source of a bind mount that is below one is looked for there without
    /// being led out by links, whoever exchanges what on the way (CVE-2021-25741 and its like).
    pub confined: Vec<PathBuf>,
    /// Whether systemd makes the control group: `cgroupsPath` is then `slice:prefix:name`.
    pub systemd_cgroup: bool,
    /// Whether the program is killed when this one ends.
    pub die_with_parent: bool,
    /// Whether the program is the child of an init process, which passes signals on to it and reaps orphans. Who starts
    /// containers so calls [`super::reap`] where it is called by the name [`super::INIT_NAME`].
    pub init: bool,
    /// A listening socket on which another process says when to start; see [`super::state::Entry::listen`].
    pub start: Option<OwnedFd>,
    /// How many descriptors from 3 on the program inherits from the caller, all of which must be open.
    pub preserve_fds: u32,
    /// Whether the program keeps the caller's supplementary groups, and gets none of its own.
    pub keep_groups: bool,
    /// Whether the program keeps the caller's session keyring.
    pub no_new_keyring: bool,
    /// Whether the root is moved over the old one and entered by `chroot(2)`, for hosts that run from an initial ramdisk,
    /// which `pivot_root(2)` cannot leave.
    pub no_pivot: bool,
    /// Whether the mount table shows the mounts in the spec's order, whoever has made them, which costs a little.
    pub mounts_in_order: bool,
    /// Whether the container gets a group in every version 1 hierarchy, as who watches, pauses or changes it later needs;
    /// else only in those that a limit needs.
    pub every_controller: bool,
}
