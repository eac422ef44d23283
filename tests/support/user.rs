//! An ordinary user of this machine.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::chown;
use std::path::PathBuf;

use super::command::Cmd;
use super::env::{TestEnv, copy_program};

/// The user that every Linux has, and who owns nothing.
const NOBODY: u32 = 65_534;

/// What the kernel and `/etc/subuid` allow an ordinary user.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Allowed {
    /// A user namespace with further ids.
    ManyIds,
    /// A user namespace with the user's own id alone.
    OneId,
    /// No user namespace.
    NoNamespace,
}

/// A user with a home, a store and a copy of the program of their own.
#[derive(Debug)]
pub struct User {
    allowed: Allowed,
    groups: Vec<u32>,
    home: PathBuf,
    program: PathBuf,
}

impl User {
    /// A user who may have this much, in the folder of `env`.
    pub fn new(env: &TestEnv, allowed: Allowed) -> Self {
        let (home, copy) = (env.folder().join("nobody"), env.folder().join("mydocker"));
        fs::create_dir(&home).unwrap();
        chown(&home, Some(NOBODY), Some(NOBODY)).unwrap();
        // The build folder may be for its owner alone.
        copy_program(&copy);
        fs::write(env.folder().join("ids"), format!("{NOBODY}:300000:65536\n")).unwrap();
        Self { allowed, groups: Vec::new(), home, program: copy }
    }

    /// The same user, who is in these groups as well.
    pub fn in_groups(self, groups: &[u32]) -> Self {
        Self { groups: groups.to_vec(), ..self }
    }

    /// The user's store.
    pub fn root(&self) -> PathBuf {
        self.home.join("store")
    }

    /// Where the user's running containers are written down.
    pub fn run(&self) -> PathBuf {
        self.home.join("run")
    }

    /// The program, about to be run by this user with `args`.
    pub fn mydocker(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Cmd {
        self.cmd(&self.program).args(args)
    }

    /// A script of the shell, about to be run by this user; `$0` in it is the program.
    pub fn sh(&self, script: &str) -> Cmd {
        self.cmd("sh").args(["-c", script]).arg(&self.program)
    }

    fn cmd(&self, program: impl AsRef<OsStr>) -> Cmd {
        let groups: Vec<String> = self.groups.iter().map(ToString::to_string).collect();
        let groups = match groups.is_empty() {
            true => "--clear-groups".to_owned(),
            false => format!("--groups={}", groups.join(",")),
        };
        let nobody = format!("setpriv --reuid=65534 --regid=65534 {groups} --");
        let script = match self.allowed {
            // Only as seen from here: the machine's own files stay as they are.
            Allowed::ManyIds => {
                format!(
                    "mount --bind ../ids /etc/subuid && mount --bind ../ids /etc/subgid && exec {nobody} \"$@\""
                )
            }
            Allowed::OneId => {
                format!(
                    "mount --bind /dev/null /etc/subuid && mount --bind /dev/null /etc/subgid && exec {nobody} \"$@\""
                )
            }
            // In a user namespace in which no further one may be made.
            Allowed::NoNamespace => format!(
                "exec {nobody} unshare --user --map-user=1000 --map-group=1000 --keep-caps \
                 sh -c 'echo 0 >/proc/sys/user/max_user_namespaces && exec \"$@\"' sh \"$@\""
            ),
        };
        let cmd = Cmd::new("unshare").args(["--mount", "sh", "-c", &script, "sh"]);
        let cmd = cmd.arg(program).current_dir(&self.home);
        cmd.env("HOME", &self.home)
            .env("MYDOCKER_ROOT", self.root())
            .env("MYDOCKER_RUN", self.run())
    }
}
