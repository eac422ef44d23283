//! A further process of a container: what is known before it is cloned.

use std::os::fd::OwnedFd;

use nix::sched::{CloneFlags, CpuSet};

use super::{Agent, PlannedProcess};
use crate::runtime::error::{Step, Warning};

/// What to do, in the order in which the child does it.
#[derive(Debug)]
pub(in crate::runtime) struct ExecPlan {
    /// The `tasks` files of the version 1 groups to join; a version 2 group it is cloned into.
    pub groups: Vec<OwnedFd>,
    /// Whether it stays in the caller's version 2 group instead.
    pub outside: bool,
    /// The container's first process, whose namespaces are joined.
    pub init: OwnedFd,
    /// Those that are not this process's own. The PID namespace is not among them: the child is born there.
    pub namespaces: CloneFlags,
    /// The first process's root, where its mount namespace is this process's own.
    pub root: Option<OwnedFd>,
    /// Whether there is a user namespace among them, even if the parent has joined it already.
    pub become_root: bool,
    pub stdio: Option<[OwnedFd; 3]>,
    pub preserve_fds: u32,
    pub no_new_keyring: bool,
    /// The processors that it has once it is in its groups.
    pub processors: Option<CpuSet>,
    /// The agent that decides on its system calls, and the container's state, which that is told.
    pub agent: Option<(Agent, String)>,
    pub process: PlannedProcess,
}

impl ExecPlan {
    /// What is weaker than asked.
    pub(in crate::runtime) fn warnings(&self) -> Vec<Warning> {
        let outside = self.outside.then_some(Warning::OutsideCgroup);
        self.process.warnings().into_iter().chain(outside).collect()
    }

    /// What the object of a failed step is called.
    pub(in crate::runtime) fn object(&self, step: Step, _: u32) -> String {
        let process = &self.process;
        match step {
            Step::ApparmorProfile => quoted(process.apparmor.as_deref()),
            Step::ChangeDirectory | Step::UnsafeDirectory => {
                quoted(Some(&format!("/{}", process.cwd.to_string_lossy())))
            }
            Step::Execute => quoted(Some(&process.program())),
            Step::SelinuxLabel => quoted(process.selinux.as_deref()),
            _ => String::new(),
        }
    }
}

fn quoted(text: Option<&str>) -> String {
    text.map(|text| format!("`{text}`")).unwrap_or_default()
}
