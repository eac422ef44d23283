//! The last steps before the program: who runs it, and what it may do.

use nix::errno::Errno;
use nix::sys::stat::{Mode, umask};

use super::agent::{self, Listener};
use super::{At, Done};
use crate::oci::capability::Capability;
use crate::runtime::error::Step;
use crate::runtime::plan::PlannedProcess;
use crate::sys::caps::capset;
use crate::sys::process;
use crate::sys::schedule;
use crate::sys::seccomp::{Instruction, set_mode_filter};

/// Becomes the user of the program, with no more privileges than the spec gives.
///
/// The order matters: the bounding set is cut while there is a capability to do it by; the filter comes last, as it may
/// forbid what the other steps need, but before the capability goes that it takes to set one without `no_new_privs`.
pub(super) fn assume(
    process: &PlannedProcess,
    die_with_parent: bool,
    (filter, flags): &(Vec<Instruction>, u32),
    agent: Option<&Listener<'_>>,
) -> Done {
    let sets = &process.capabilities;
    if let Some(domain) = process.personality {
        schedule::personality(domain).during(Step::Personality)?;
    }
    if let Some((mode, nodes)) = &process.memory_policy {
        schedule::set_mempolicy(*mode, nodes).during(Step::MemoryPolicy)?;
    }
    umask(Mode::from_bits_truncate(process.umask));
    cut_bounding_set(sets.bounding.bits())?;
    set_groups(process, process.groups.as_deref().unwrap_or_default())?;
    process::set_keepcaps(true).during(Step::UserId)?;
    process::setresgid(process.gid).during(Step::UserId)?;
    process::setresuid(process.uid).during(Step::UserId)?;
    if die_with_parent {
        // Behind the change of user, which would clear it.
        process::set_pdeathsig(libc::SIGKILL).during(Step::ParentDeath)?;
    }
    if process.no_new_privileges {
        process::set_no_new_privs().during(Step::NoNewPrivileges)?;
    }
    if !filter.is_empty() {
        if process.uid != 0 && !process.no_new_privileges {
            let admin = 1 << Capability::SYS_ADMIN.number();
            let permitted = sets.permitted.bits() | admin;
            capset(admin, permitted, 0).during(Step::Capabilities)?;
        }
        match agent {
            None => set_mode_filter(filter, *flags).during(Step::Seccomp)?,
            Some(agent) => agent::set_filter(filter, *flags, agent).during(Step::Seccomp)?,
        }
    }
    let [effective, permitted, inheritable] =
        [&sets.effective, &sets.permitted, &sets.inheritable].map(|set| set.bits());
    capset(effective, permitted, inheritable).during(Step::Capabilities)?;
    for capability in sets.ambient.iter() {
        process::ambient_raise(capability.number()).during(Step::Ambient)?;
    }
    Ok(())
}

/// Takes everything out of the bounding set that is not in `keep`, also what has no name here yet.
fn cut_bounding_set(keep: u64) -> Done {
    for capability in 0..64 {
        if keep & (1 << capability) == 0 {
            match process::capbset_drop(capability) {
                // The kernel has none of this number, nor of any that is greater.
                Err(Errno::EINVAL) => break,
                dropped => dropped.during(Step::Bounding)?,
            }
        }
    }
    Ok(())
}

/// Sets the supplementary groups, unless those of the caller are kept. An ordinary user's user namespace may not
/// (`user_namespaces(7)`), which is of no matter as long as nothing but the primary group is asked for.
pub(super) fn set_groups(planned: &PlannedProcess, groups: &[u32]) -> Done {
    let Some(own) = &planned.groups else { return Ok(()) };
    match process::setgroups(groups) {
        Err(Errno::EPERM) if own.len() < 2 => Ok(()),
        set => set.during(Step::Groups),
    }
}
