//! How a container is held back: `--privileged` and `--security-opt`.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::Error;
use crate::oci::capability::CapabilitySet;
use crate::oci::runtime_spec::Spec;
use crate::oci::runtime_spec::seccomp::Seccomp;
use crate::runtime::seccomp::{Profile, default_seccomp};
use crate::runtime::{self, defaults};

/// The largest seccomp profile that is read, in bytes. Docker's own has 20 KB.
const MAX_PROFILE: u64 = 1 << 20;

/// What holds a container back, where that is not the usual.
#[derive(Clone, Debug, Default)]
pub struct Security {
    /// Whether nothing holds it back: every capability and device, no system call filter, and no path that is hidden or
    /// cannot be written.
    pub(super) privileged: bool,
    /// Which system calls it may make.
    seccomp: Filter,
    /// The AppArmor profile that its program gets.
    apparmor: Option<String>,
    /// Whether no program gains privileges by being executed.
    no_new_privileges: bool,
    /// Paths that read as empty, beside the usual ones.
    mask: Vec<String>,
    /// Paths that are neither hidden nor protected, although they usually are; `*` at the end stands for all below.
    unmask: Vec<String>,
    /// Whether no path is hidden or protected.
    unmask_all: bool,
    /// Whether it may make groups below its own control group.
    writable_cgroups: bool,
}

#[derive(Clone, Debug, Default)]
enum Filter {
    /// This program's own.
    #[default]
    Usual,
    Profile(Box<Profile>),
    Unconfined,
}

impl Security {
    /// The usual, or nothing at all.
    pub fn new(privileged: bool) -> Self {
        Self { privileged, ..Self::default() }
    }

    /// Sets what one `--security-opt` says; a later one wins over an earlier.
    ///
    /// # Errors
    /// [`Error::Value`] for what there is not, here or on this machine; what is wrong with a seccomp profile.
    pub fn set(&mut self, option: &str) -> Result<(), Error> {
        // Docker's older form has a colon.
        let (name, value) = match option.split_once(['=', ':']) {
            Some((name, value)) => (name, Some(value)),
            None => (option, None),
        };
        let refuse = |why| {
            let value = option.chars().take(256).collect();
            Error::Value { what: "security option", value, why }
        };
        match (name, value) {
            ("seccomp", Some("unconfined")) => self.seccomp = Filter::Unconfined,
            ("seccomp", Some("builtin")) => self.seccomp = Filter::Usual,
            ("seccomp", Some(path)) if !path.is_empty() => {
                self.seccomp = Filter::Profile(Box::new(read_profile(Path::new(path))?));
            }
            ("no-new-privileges", value) => {
                self.no_new_privileges =
                    is_true(value).ok_or_else(|| refuse("expected true or false"))?;
            }
            ("apparmor", Some("unconfined")) => self.apparmor = None,
            ("apparmor", Some(_)) if !runtime::probe().apparmor => {
                return Err(refuse("AppArmor is off on this machine"));
            }
            ("apparmor", Some(profile)) if !profile.is_empty() => {
                self.apparmor = Some(profile.to_owned());
            }
            ("label", Some("disable")) => {}
            ("label", Some(_)) if !runtime::probe().selinux => {
                return Err(refuse("SELinux is off on this machine"));
            }
            ("label", Some(_)) => {
                return Err(refuse("containers get no SELinux label; there is label=disable"));
            }
            ("mask", Some(paths)) => self.mask.extend(absolute(paths).ok_or_else(no_path(option))?),
            ("unmask", Some("ALL" | "all")) | ("systempaths", Some("unconfined")) => {
                self.unmask_all = true;
            }
            ("unmask", Some(paths)) => {
                self.unmask.extend(absolute(paths).ok_or_else(no_path(option))?);
            }
            ("writable-cgroups", value) => {
                self.writable_cgroups =
                    is_true(value).ok_or_else(|| refuse("expected true or false"))?;
            }
            _ => {
                return Err(refuse(
                    "there are seccomp=FILE|unconfined, no-new-privileges, apparmor=PROFILE|unconfined, label=disable, \
                     mask=PATHS, unmask=ALL|PATHS, systempaths=unconfined and writable-cgroups",
                ));
            }
        }
        Ok(())
    }

    /// The capabilities that the container has unless the user adds or drops some.
    pub(super) fn usual_capabilities(&self) -> CapabilitySet {
        if self.privileged { CapabilitySet::all() } else { defaults::capabilities() }
    }

    fn policy(&self, capabilities: &CapabilitySet) -> Option<Seccomp> {
        match &self.seccomp {
            Filter::Usual if self.privileged => None,
            Filter::Usual => Some(default_seccomp(capabilities)),
            Filter::Profile(profile) => Some(profile.policy(capabilities)),
            Filter::Unconfined => None,
        }
    }

    /// Changes the specification of a container with these capabilities.
    pub(super) fn apply(&self, spec: &mut Spec, capabilities: &CapabilitySet) {
        if let Some(process) = &mut spec.process {
            process.no_new_privileges = self.no_new_privileges;
            process.apparmor_profile.clone_from(&self.apparmor);
        }
        let writable =
            |mount: &&mut crate::oci::runtime_spec::Mount| match mount.destination.as_str() {
                "/sys" => self.privileged,
                "/sys/fs/cgroup" => self.privileged || self.writable_cgroups,
                _ => false,
            };
        for mount in spec.mounts.iter_mut().filter(writable) {
            mount.options.retain(|option| option != "ro");
        }
        let linux = spec.linux.get_or_insert_default();
        linux.seccomp = self.policy(capabilities);
        let all = self.privileged || self.unmask_all;
        let kept = |path: &String| !all && !self.unmask.iter().any(|known| covers(known, path));
        linux.masked_paths = defaults::masked_paths().into_iter().filter(kept).collect();
        linux.readonly_paths = defaults::readonly_paths().into_iter().filter(kept).collect();
        linux.masked_paths.extend(self.mask.iter().cloned());
    }
}

/// Whether a path that was given, with `*` at its end for all below, is or has `path`.
fn covers(given: &str, path: &str) -> bool {
    match given.strip_suffix('*') {
        Some(beginning) => path.starts_with(beginning),
        None => given.trim_end_matches('/') == path,
    }
}

fn is_true(value: Option<&str>) -> Option<bool> {
    match value {
        None | Some("true" | "1") => Some(true),
        Some("false" | "0") => Some(false),
        Some(_) => None,
    }
}

/// Absolute paths with colons between them.
fn absolute(paths: &str) -> Option<Vec<String>> {
    let good = |path: &&str| path.starts_with('/') && path.len() > 1 && !path.contains('\0');
    let paths: Vec<&str> = paths.split(':').collect();
    paths.iter().all(good).then(|| paths.into_iter().map(str::to_owned).collect())
}

fn no_path(option: &str) -> impl Fn() -> Error {
    let value: String = option.chars().take(256).collect();
    move || Error::Value {
        what: "security option",
        value: value.clone(),
        why: "expected absolute paths with colons between them",
    }
}

fn read_profile(path: &Path) -> Result<Profile, Error> {
    let failed = |source| Error::Io { verb: "read", path: path.to_owned(), source };
    let mut text = String::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_PROFILE).read_to_string(&mut text).map_err(failed)?;
    Profile::parse(&text).map_err(|source| Error::Profile { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(options: &[&str], privileged: bool) -> Spec {
        let mut security = Security::new(privileged);
        options.iter().for_each(|option| security.set(option).unwrap());
        let mut spec = Spec { mounts: defaults::mounts(), ..Spec::default() };
        spec.process = Some(crate::oci::runtime_spec::Process::default());
        security.apply(&mut spec, &security.usual_capabilities());
        spec
    }

    #[test]
    fn paths_are_hidden_and_shown() {
        let paths = |options: &[&str]| {
            let linux = applied(options, false).linux.unwrap();
            (linux.masked_paths, linux.readonly_paths)
        };
        let (usual_masked, usual_readonly) = (defaults::masked_paths(), defaults::readonly_paths());
        assert_eq!(paths(&[]), (usual_masked.clone(), usual_readonly.clone()));
        assert_eq!(paths(&["unmask=ALL"]), (vec![], vec![]));
        assert_eq!(paths(&["systempaths=unconfined"]), (vec![], vec![]));
        let (masked, readonly) = paths(&["unmask=/proc/keys:/proc/sys", "mask=/a:/b"]);
        assert_eq!(masked.len(), usual_masked.len() - 1 + 2);
        assert_eq!(readonly.len(), usual_readonly.len() - 1);
        let (masked, readonly) = paths(&["unmask=/proc/*"]);
        assert!(masked.iter().all(|path| path.starts_with("/sys/")) && readonly.is_empty());
    }

    #[test]
    fn what_holds_a_container_back() {
        let ro = |spec: &Spec, path: &str| {
            let mount = spec.mounts.iter().find(|mount| mount.destination == path).unwrap();
            mount.options.iter().any(|option| option == "ro")
        };
        let usual = applied(&[], false);
        assert!(usual.linux.as_ref().unwrap().seccomp.is_some() && ro(&usual, "/sys"));
        let cgroups = applied(&["writable-cgroups"], false);
        assert!(!ro(&cgroups, "/sys/fs/cgroup") && ro(&cgroups, "/sys"));
        let privileged = applied(&["no-new-privileges"], true);
        assert!(privileged.linux.as_ref().unwrap().seccomp.is_none() && !ro(&privileged, "/sys"));
        assert!(privileged.process.unwrap().no_new_privileges);
        assert!(!applied(&["no-new-privileges:false"], false).process.unwrap().no_new_privileges);
        for bad in
            ["", "nosuch", "seccomp", "seccomp=", "no-new-privileges=x", "mask=a", "unmask=/:b"]
        {
            assert!(Security::default().set(bad).is_err(), "{bad}");
        }
    }
}
