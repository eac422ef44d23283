//! Why a container could not be made, and what was weaker than asked.

use std::fmt;
use std::path::PathBuf;

use nix::errno::Errno;

use super::explain::Cause;
use super::systemd::BusError;

/// Why a container could not be made, started, or cleaned up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A control group could not be made, changed or removed.
    #[error("{action} cgroup file `{path}`")]
    Cgroup {
        /// The verb.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        #[source]
        source: Errno,
    },
    /// The child ended without a word, killed most likely.
    #[error("the container's first process ended while it was set up")]
    ChildEnded,
    /// The kernel made no child.
    #[error("clone a process into new namespaces")]
    Clone {
        /// Why not: `ENOSPC` for too many namespaces, `EPERM` where user namespaces are forbidden.
        #[source]
        source: Errno,
    },
    /// A limit that this machine cannot apply.
    #[error("this machine has no `{controller}` cgroup controller, which `{setting}` needs{hint}")]
    Controller {
        /// The controller.
        controller: String,
        /// The setting.
        setting: String,
        /// What can be done, or nothing.
        hint: &'static str,
    },
    /// There is one with this id already.
    #[error("container with given ID already exists: `{id}`")]
    Exists {
        /// The id.
        id: String,
    },
    /// A file of a container's state could not be read or written.
    #[error("{action} `{path}`")]
    File {
        /// The verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A hook did not end well.
    #[error("{stage} hook `{path}` {outcome}")]
    Hook {
        /// When it ran: `createRuntime`.
        stage: &'static str,
        /// The program.
        path: String,
        /// What it did.
        outcome: HookOutcome,
    },
    /// A filesystem that cannot show its files with other owners.
    #[error("map the owners of `{path}` for a user namespace")]
    Idmap {
        /// What was to be mounted.
        path: PathBuf,
        /// Why not: `EINVAL` where the filesystem cannot, `EPERM` without `CAP_SYS_ADMIN`.
        #[source]
        source: Errno,
    },
    /// A field of the spec has a value that makes no sense.
    #[error("invalid `{field}`: {reason}")]
    Invalid {
        /// The field.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A container that was made without `process` was started, and has ended with that.
    #[error("nothing to start in container `{id}`: config.json has no `process`")]
    NoProcess {
        /// The id.
        id: String,
    },
    /// There is no container with this id.
    #[error("container `{id}` does not exist")]
    NoContainer {
        /// The id.
        id: String,
    },
    /// The program is there and cannot be executed.
    #[error("execute `{program}`{}", behind(cause.as_ref()))]
    NotExecutable {
        /// The program.
        program: String,
        /// Why, as far as its file tells.
        cause: Option<Cause>,
        /// Why not.
        #[source]
        source: Errno,
    },
    /// There is no such program in the container.
    #[error("{}", not_found(program, cause.as_ref()))]
    NotFound {
        /// The program.
        program: String,
        /// Why, as far as there is a file that tells.
        cause: Option<Cause>,
        /// What was reported.
        #[source]
        source: Errno,
    },
    /// What is written down of a container cannot be understood.
    #[error("parse `{path}`")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
    /// A path of the host could not be opened or used.
    #[error("{action} `{path}`")]
    Path {
        /// The verb.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// Why not.
        #[source]
        source: Errno,
    },
    /// A process could not be signalled, waited for or changed.
    #[error("{action} process {pid}")]
    Process {
        /// The verb.
        action: &'static str,
        /// Its number.
        pid: i32,
        /// Why not.
        #[source]
        source: Errno,
    },
    /// A step of the child's failed.
    #[error("{step}{}{object}", if object.is_empty() { "" } else { " " })]
    Setup {
        /// Which.
        step: Step,
        /// On what.
        object: String,
        /// Why.
        #[source]
        source: Errno,
    },
    /// A container is in another state than is needed.
    #[error("cannot {action} container `{id}`: {reason}")]
    Status {
        /// The verb.
        action: &'static str,
        /// The id.
        id: String,
        /// Why not, as engines look for it: `container not running`.
        reason: &'static str,
    },
    /// systemd did not make, change or end a unit.
    #[error("have systemd {action} the unit `{unit}`")]
    Systemd {
        /// The verb.
        action: &'static str,
        /// Its name.
        unit: String,
        /// Why not.
        #[source]
        source: BusError,
    },
    /// The parent and the child do not understand each other any more.
    #[error("talk to the container's first process")]
    Talk {
        /// Why not.
        #[source]
        source: Errno,
    },
    /// The program's own file could be overwritten through `/proc/<pid>/exe` (CVE-2019-5736).
    #[error("the container could overwrite this program: it must run from a sealed copy")]
    Unsealed,
    /// The spec has a field that is not honoured.
    #[error("unsupported `{field}`")]
    Unsupported {
        /// The field.
        field: String,
    },
}

impl Error {
    /// What the user can do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Clone { source: Errno::EPERM | Errno::ENOSPC } => Some(
                "may this user make user namespaces, and how many? See user.max_user_namespaces"
                    .to_owned(),
            ),
            Self::Idmap { .. } => Some(
                "its file system cannot do it; --userns host works without, and protects less"
                    .to_owned(),
            ),
            Self::NotFound { cause: Some(cause), .. }
            | Self::NotExecutable { cause: Some(cause), .. } => Some(cause.hint()),
            Self::Setup { step: Step::ApparmorProfile, source: Errno::ENOENT, .. } => Some(
                "no profile of this name is loaded: `aa-status` lists them, `apparmor_parser -r FILE` loads them"
                    .to_owned(),
            ),
            Self::NotFound { .. } => {
                Some("paths are those of the container: `/` is its root directory".to_owned())
            }
            Self::NotExecutable { source: Errno::EACCES, .. } => Some(
                "it, or a folder on the way to it, lacks the permission to be executed".to_owned(),
            ),
            _ => None,
        }
    }

    /// The exit code that docker gives to such an error.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotFound { .. } => 127,
            Self::NotExecutable { .. } => 126,
            _ => 125,
        }
    }
}

fn behind(cause: Option<&Cause>) -> String {
    cause.map(|cause| format!(": {cause}")).unwrap_or_default()
}

fn not_found(program: &str, cause: Option<&Cause>) -> String {
    match cause {
        None | Some(Cause::NotInPath(_)) => {
            format!("executable file `{program}` not found in the container")
        }
        Some(cause) => format!("execute `{program}`: {cause}"),
    }
}

/// What a hook did.
#[derive(Debug)]
#[non_exhaustive]
pub enum HookOutcome {
    /// It ended with a status that is not 0.
    Failed(i32),
    /// It was killed by a signal.
    Signaled(i32),
    /// It could not be run.
    Spawn(Errno),
    /// It took longer than it may.
    TimedOut,
}

impl fmt::Display for HookOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(status) => write!(f, "ended with status {status}"),
            Self::Signaled(signal) => write!(f, "was killed by signal {signal}"),
            Self::Spawn(errno) => write!(f, "could not be run: {errno}"),
            Self::TimedOut => f.write_str("took too long"),
        }
    }
}

/// What the machine forced to be weaker than asked. The caller says it, once.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Warning {
    /// Capabilities that no one here knows were asked for.
    Capabilities(Vec<String>),
    /// A label that the machine has no security module for.
    #[allow(missing_docs)]
    Label { module: &'static str, label: String },
    /// There is no control group that could be written, and no limit that would need one.
    NoCgroup,
    /// A bind mount shows the owners on disk, as its filesystem cannot map them: the path of its source.
    NotIdmapped(PathBuf),
    /// A further program is in its caller's control group, as this user may move none into the container's.
    OutsideCgroup,
    /// A seccomp architecture whose calls end the process, as its numbers are not known here.
    SeccompArchitecture(String),
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Capabilities(names) => {
                write!(f, "unknown capabilities are not granted: {}", names.join(", "))
            }
            Self::Label { module, label } => {
                write!(f, "{module} is off on this machine: `{label}` is not applied")
            }
            Self::NoCgroup => {
                f.write_str("no writable cgroup: the container stays in the caller's")
            }
            Self::NotIdmapped(path) => write!(
                f,
                "the filesystem of `{}` cannot map owners: root in the container is nobody there",
                path.display()
            ),
            Self::OutsideCgroup => f.write_str(
                "this user cannot move the program into the container's cgroup: it stays in the caller's",
            ),
            Self::SeccompArchitecture(name) => {
                write!(f, "system calls of `{name}` are refused")
            }
        }
    }
}

macro_rules! steps {
    ($($(#[$doc:meta])* $name:ident = $words:literal,)*) => {
        /// What the child was doing. The words are a verb, to be followed by the object.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        #[non_exhaustive]
        #[repr(u8)]
        #[allow(missing_docs)]
        pub enum Step { $($(#[$doc])* $name,)* }

        impl Step {
            const ALL: &[Self] = &[$(Self::$name,)*];

            fn words(self) -> &'static str {
                match self { $(Self::$name => $words,)* }
            }
        }
    };
}

steps! {
    Ambient = "raise an ambient capability",
    ApparmorProfile = "set the AppArmor profile",
    AttachLayer = "attach the container's layer",
    AttachRoot = "attach the root filesystem",
    Bounding = "limit the bounding capabilities",
    Capabilities = "set the capabilities",
    CgroupNamespace = "make a cgroup namespace",
    ChangeDirectory = "change the working directory to",
    CloseDescriptors = "close the caller's descriptors",
    Console = "open a terminal",
    ConsoleDevice = "bind the terminal to `/dev/console`",
    CopyUp = "copy what is below the mount",
    Device = "make the device",
    DeviceLink = "make the symbolic link",
    Directory = "find or make the working directory",
    Domainname = "set the domain name",
    Execute = "execute",
    Groups = "set the groups",
    Hook = "run a hook",
    Hostname = "set the host name",
    Init = "start the init process",
    JoinCgroup = "join the control group of",
    JoinNamespaces = "join the container's namespaces",
    Keyring = "make a session keyring",
    Loopback = "take the loopback interface into service",
    Mask = "mask",
    MaskSource = "make an empty filesystem for masked paths",
    MemoryPolicy = "set the memory policy",
    Mount = "mount",
    MountPoint = "make the mount point of",
    MountRefused = "refuse to mount over a path of proc or sysfs:",
    NoNewPrivileges = "forbid new privileges",
    Overlay = "mount an overlay on",
    ParentDeath = "ask for a signal when the parent ends",
    Personality = "set the personality",
    PivotRoot = "make it the root:",
    PrivateProc = "mount a proc of the runtime's own",
    Processors = "set the processors of the program",
    Propagation = "set the mount propagation of",
    ReadonlyPath = "make read-only",
    ReadonlyRoot = "make the root read-only",
    Seccomp = "set the system call filter",
    SelinuxLabel = "set the SELinux label",
    Session = "start a session",
    SharedRoot = "take the root to the caller's mount namespace",
    Signals = "reset the signals",
    Stdio = "set the standard streams",
    Sysctl = "set the kernel parameter",
    Talk = "talk to the parent",
    UmountOldRoot = "detach the host's filesystems",
    UnsafeDirectory = "enter the working directory, which is outside of the container:",
    UserId = "set the user and group ids",
}

impl Step {
    /// The step that has this number on the wire.
    pub(super) fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}
