//! The program, and who runs it.

use std::ffi::CString;

use super::{c_string, schedule};
use crate::oci::runtime_spec::linux::Linux;
use crate::oci::runtime_spec::{Capabilities, ConsoleSize, Process, Rlimit, Spec};
use crate::runtime::error::{Error, Warning};
use crate::runtime::host;
use crate::sys::clone::{self, Namespaces};
use crate::sys::process::StringArray;
use crate::sys::schedule::SchedAttr;

/// Where a program without a slash is looked for when the environment does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The program, and who runs it.
#[derive(Debug)]
pub(in crate::runtime) struct PlannedProcess {
    pub arguments: StringArray,
    pub environment: StringArray,
    /// What to execute, in the order in which to try; nothing where there is no program.
    pub candidates: Vec<CString>,
    /// The working directory, relative to the root; empty for the root itself.
    pub cwd: CString,
    pub uid: u32,
    pub gid: u32,
    /// The supplementary groups; those of the caller where `None`.
    pub groups: Option<Vec<u32>>,
    pub umask: u32,
    pub capabilities: Capabilities,
    /// Number, soft limit, hard limit, name.
    pub rlimits: Vec<(u32, u64, u64, String)>,
    pub no_new_privileges: bool,
    pub apparmor: Option<String>,
    pub selinux: Option<String>,
    pub oom_score_adj: Option<i32>,
    pub scheduler: Option<SchedAttr>,
    /// Class and level.
    pub io_priority: Option<(u32, u32)>,
    /// Mode and nodes.
    pub memory_policy: Option<(u32, Vec<u64>)>,
    pub personality: Option<u32>,
    pub terminal: Option<Option<ConsoleSize>>,
}

impl PlannedProcess {
    pub(in crate::runtime) fn new(spec: &Spec) -> Result<Self, Error> {
        let Some(process) = &spec.process else {
            return Err(Error::Invalid { field: "process".into(), reason: "it is missing".into() });
        };
        let Some(program) = process.args.first().filter(|program| !program.is_empty()) else {
            return Err(invalid("args", "there is no program"));
        };
        let linux = spec.linux.as_ref();
        let candidates = candidates(program, &process.env)?;
        Ok(Self { candidates, ..Self::of(process, linux)? })
    }

    /// What waits in a container that has no program: only `start` needs one (runtime-spec, `config.md#process`).
    pub(super) fn nothing(linux: &Linux) -> Result<Self, Error> {
        Self::of(&Process { cwd: "/".to_owned(), ..Process::default() }, Some(linux))
    }

    /// The same, with the caller's supplementary groups if it is to keep them.
    pub(in crate::runtime) fn keeping_groups(self, keep: bool) -> Self {
        Self { groups: self.groups.filter(|_| !keep), ..self }
    }

    /// All but what there is to execute.
    fn of(process: &Process, linux: Option<&Linux>) -> Result<Self, Error> {
        if process.oom_score_adj.is_some_and(|score| !(-1000..=1000).contains(&score)) {
            return Err(invalid("oomScoreAdj", "it is not between -1000 and 1000"));
        }
        let umask = process.user.umask.unwrap_or(0o022);
        if umask > 0o777 {
            return Err(invalid("user.umask", "it is greater than 0777"));
        }
        for (name, id) in [("uid", process.user.uid), ("gid", process.user.gid)] {
            // To the kernel, -1 means "leave as it is".
            if id == u32::MAX {
                return Err(invalid(&format!("user.{name}"), "4294967295 is no id"));
            }
        }
        let strings = |field: &str, list: &[String]| -> Result<StringArray, Error> {
            let list = list.iter().map(|text| c_string(field, text));
            list.collect::<Result<_, _>>().map(StringArray::new)
        };
        let cwd = match process.cwd.as_str() {
            "/" => CString::default(),
            cwd => super::destination::relative("process.cwd", cwd)?,
        };
        // The primary group is a supplementary one as well: a file that shuts it out must not be opened by having
        // changed it (CVE-2022-36109).
        let mut groups = process.user.additional_gids.clone();
        if !groups.contains(&process.user.gid) {
            groups.insert(0, process.user.gid);
        }
        let set = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let (apparmor, selinux) = (set(&process.apparmor_profile), set(&process.selinux_label));
        if apparmor.is_some() && !host::has_apparmor() {
            return Err(invalid("apparmorProfile", "AppArmor is off on this machine"));
        }
        if selinux.is_some() && !host::has_selinux() {
            return Err(invalid("selinuxLabel", "SELinux is off on this machine"));
        }
        let memory_policy = linux.and_then(|linux| linux.memory_policy.as_ref());
        Ok(Self {
            arguments: strings("process.args", &process.args)?,
            environment: strings("process.env", &environment(&process.env))?,
            candidates: Vec::new(),
            cwd,
            uid: process.user.uid,
            gid: process.user.gid,
            groups: Some(groups),
            umask,
            capabilities: process.capabilities.clone().unwrap_or_default(),
            rlimits: process.rlimits.iter().map(rlimit).collect::<Result<_, _>>()?,
            no_new_privileges: process.no_new_privileges,
            apparmor,
            selinux,
            oom_score_adj: process.oom_score_adj,
            scheduler: process.scheduler.as_ref().map(schedule::scheduler).transpose()?,
            io_priority: process.io_priority.map(schedule::io_priority).transpose()?,
            memory_policy: memory_policy.map(schedule::memory_policy).transpose()?,
            personality: linux.map_or(Ok(None), schedule::personality)?,
            terminal: process.terminal.then_some(process.console_size),
        })
    }

    /// The program's name, for messages.
    pub(in crate::runtime) fn program(&self) -> String {
        let program = self.arguments.strings().first();
        program.map(|program| program.to_string_lossy().into_owned()).unwrap_or_default()
    }

    pub(in crate::runtime) fn warnings(&self) -> Vec<Warning> {
        let sets = &self.capabilities;
        let sets =
            [&sets.bounding, &sets.effective, &sets.inheritable, &sets.permitted, &sets.ambient];
        let mut unknown: Vec<String> =
            sets.iter().flat_map(|set| set.unknown().iter().cloned()).collect();
        unknown.sort_unstable();
        unknown.dedup();
        if unknown.is_empty() { Vec::new() } else { vec![Warning::Capabilities(unknown)] }
    }
}

fn invalid(field: &str, reason: &str) -> Error {
    Error::Invalid { field: format!("process.{field}"), reason: reason.to_owned() }
}

/// The environment as given: an entry without `=` is passed as it is and never filled in from the caller's (CVE-2026-57231).
fn environment(entries: &[String]) -> Vec<String> {
    entries.iter().filter(|entry| !entry.is_empty()).cloned().collect()
}

fn candidates(program: &str, environment: &[String]) -> Result<Vec<CString>, Error> {
    if program.contains('/') {
        return Ok(vec![c_string("process.args", program)?]);
    }
    // Of entries that occur more than once, C libraries take the first.
    let path = environment.iter().find_map(|entry| entry.strip_prefix("PATH="));
    let directories = path.unwrap_or(DEFAULT_PATH).split(':');
    let paths = directories.map(|directory| match directory {
        "" => format!("./{program}"),
        directory => format!("{}/{program}", directory.trim_end_matches('/')),
    });
    paths.map(|path| c_string("process.env", &path)).collect()
}

fn rlimit(limit: &Rlimit) -> Result<(u32, u64, u64, String), Error> {
    let field = || format!("process.rlimits `{}`", limit.kind);
    let number = match limit.kind.as_str() {
        "RLIMIT_AS" => libc::RLIMIT_AS,
        "RLIMIT_CORE" => libc::RLIMIT_CORE,
        "RLIMIT_CPU" => libc::RLIMIT_CPU,
        "RLIMIT_DATA" => libc::RLIMIT_DATA,
        "RLIMIT_FSIZE" => libc::RLIMIT_FSIZE,
        "RLIMIT_LOCKS" => libc::RLIMIT_LOCKS,
        "RLIMIT_MEMLOCK" => libc::RLIMIT_MEMLOCK,
        "RLIMIT_MSGQUEUE" => libc::RLIMIT_MSGQUEUE,
        "RLIMIT_NICE" => libc::RLIMIT_NICE,
        "RLIMIT_NOFILE" => libc::RLIMIT_NOFILE,
        "RLIMIT_NPROC" => libc::RLIMIT_NPROC,
        "RLIMIT_RSS" => libc::RLIMIT_RSS,
        "RLIMIT_RTPRIO" => libc::RLIMIT_RTPRIO,
        "RLIMIT_RTTIME" => libc::RLIMIT_RTTIME,
        "RLIMIT_SIGPENDING" => libc::RLIMIT_SIGPENDING,
        "RLIMIT_STACK" => libc::RLIMIT_STACK,
        _ => {
            return Err(Error::Invalid { field: field(), reason: "there is no such limit".into() });
        }
    };
    if limit.soft > limit.hard {
        let reason = "the soft limit is above the hard one".to_owned();
        return Err(Error::Invalid { field: field(), reason });
    }
    Ok((number, limit.soft, limit.hard, limit.kind.clone()))
}

/// The kernel parameters: only those that belong to a namespace that the container does not share with the host.
pub(super) fn sysctls(
    linux: &Linux,
    has: impl Fn(Namespaces) -> bool,
) -> Result<Vec<(String, CString, String)>, Error> {
    const IPC: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shm_rmid_forced",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
    ];
    let plan = |(name, value): (&String, &String)| {
        let invalid = |reason: &str| Error::Invalid {
            field: format!("linux.sysctl `{name}`"),
            reason: reason.to_owned(),
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if !name.chars().all(plain) || name.split('.').any(str::is_empty) {
            return Err(invalid("it is not a name with dots"));
        }
        let namespace = match name.as_str() {
            name if IPC.contains(&name) || name.starts_with("fs.mqueue.") => clone::NEWIPC,
            name if name.starts_with("net.") => clone::NEWNET,
            "kernel.domainname" => clone::NEWUTS,
            _ => return Err(invalid("it belongs to no namespace")),
        };
        if !has(namespace) {
            return Err(invalid("its namespace is shared with the host"));
        }
        let path = c_string("linux.sysctl", &name.replace('.', "/"))?;
        Ok((name.clone(), path, value.clone()))
    };
    linux.sysctl.iter().map(plan).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_looked_for_in_the_containers_path() {
        let find = |program: &str, environment: &[&str]| {
            let environment: Vec<String> = environment.iter().map(|e| (*e).to_owned()).collect();
            let found = candidates(program, &environment).unwrap();
            found.iter().map(|path| path.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(find("sh", &["PATH=/a/:/b:", "PATH=/c"]), ["/a/sh", "/b/sh", "./sh"]);
        assert_eq!(find("./sh", &["PATH=/a"]), ["./sh"]);
        assert_eq!(find("sh", &[]).len(), 6);
    }

    #[test]
    fn sysctls_of_the_host_are_refused() {
        let check = |name: &str, namespaces: Namespaces| {
            let mut linux = Linux::default();
            linux.sysctl.insert(name.to_owned(), "1".to_owned());
            sysctls(&linux, |kind| namespaces & kind != 0).is_ok()
        };
        assert!(check("net.ipv4.ip_forward", clone::NEWNET));
        assert!(check("kernel.shmmax", clone::NEWIPC));
        assert!(!check("net.ipv4.ip_forward", clone::NEWIPC));
        for name in [
            "kernel.core_pattern",
            "net/../kernel",
            "net..x",
            "../x",
            "kernel.hostname",
            "net.a=1 b",
        ] {
            assert!(!check(name, u64::MAX), "{name}");
        }
    }
}
