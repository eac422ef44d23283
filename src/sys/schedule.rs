//! When and where a process runs: `sched_setattr(2)`, `ioprio_set(2)`, `set_mempolicy(2)`, `personality(2)`.

use nix::errno::Errno;
use nix::unistd::Pid;

use super::check;

/// `struct sched_attr` of Linux 5.3 (`SCHED_ATTR_SIZE_VER1`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[allow(missing_docs)]
pub struct SchedAttr {
    pub size: u32,
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
    pub util_min: u32,
    pub util_max: u32,
}

/// Sets the scheduling policy of a process. The size is filled in.
///
/// # Errors
/// What `sched_setattr(2)` reports: `EINVAL` for values that the policy does not take, `EPERM` without `CAP_SYS_NICE` or in
/// a version 1 control group that has no real-time budget, `EBUSY` for a deadline that cannot be kept.
pub fn sched_setattr(pid: Pid, attr: SchedAttr) -> Result<(), Errno> {
    let size = u32::try_from(size_of::<SchedAttr>()).unwrap_or_default();
    let attr = SchedAttr { size, ..attr };
    // SAFETY: `attr` outlives the call, and has the size that it names.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, pid.as_raw(), &raw const attr, 0) })?;
    Ok(())
}

/// Sets the class (`IOPRIO_CLASS_*`) and the level in it by which a process reads and writes.
///
/// # Errors
/// What `ioprio_set(2)` reports: `EINVAL` for an unknown class or level, `EPERM` for the real-time class without privilege.
pub fn ioprio_set(pid: Pid, class: u32, level: u32) -> Result<(), Errno> {
    const IOPRIO_WHO_PROCESS: i32 = 1;
    const IOPRIO_CLASS_SHIFT: u32 = 13;
    let priority = class << IOPRIO_CLASS_SHIFT | level;
    // SAFETY: no memory is passed.
    check(unsafe {
        libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, pid.as_raw(), priority)
    })?;
    Ok(())
}

/// Chooses the memory nodes of this thread: a mode (`MPOL_*`, flags included) and a mask of nodes, 64 a word.
///
/// # Errors
/// What `set_mempolicy(2)` reports: `EINVAL` for nodes that the mode does not take or the machine does not have, `ENOSYS`
/// from a kernel without NUMA.
pub fn set_mempolicy(mode: u32, nodes: &[u64]) -> Result<(), Errno> {
    // The kernel counts from one.
    let most = if nodes.is_empty() { 0 } else { nodes.len() * 64 + 1 };
    // SAFETY: the kernel reads `most - 1` bits from the mask, all of which are in the slice.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, nodes.as_ptr(), most) })?;
    Ok(())
}

/// Sets the kind of kernel that this process sees: `PER_*`.
///
/// # Errors
/// What `personality(2)` reports.
pub fn personality(domain: u32) -> Result<(), Errno> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::syscall(libc::SYS_personality, domain) })?;
    Ok(())
}
