//! What a test needs of the machine. A test that cannot run says why, and fails where none may be skipped.

use std::io::Write as _;
use std::path::Path;

use super::{command::Cmd, fixtures};

/// Something that not every machine has.
#[derive(Clone, Copy, Debug)]
pub enum Need {
    /// A cgroup controller, by its name in `/proc/cgroups`.
    Controller(&'static str),
    /// The Debian image, whose making needs root and a package mirror.
    Debian,
    /// A file of a package that is not there everywhere.
    #[allow(dead_code, reason = "only those of engines need one")]
    File(&'static str),
    /// Loop devices, to mount a file as a disk.
    Loop,
    /// Being root.
    Root,
    /// The image of a service, whose making needs root and a package mirror.
    Service(&'static str),
    /// A program in `PATH`.
    Tool(&'static str),
}

impl Need {
    /// What is missing.
    pub fn missing(self) -> Option<String> {
        match self {
            Self::Controller(name) => {
                let all = std::fs::read_to_string("/proc/cgroups").unwrap_or_default();
                let enabled =
                    |line: &str| line.starts_with(&format!("{name}\t")) && line.ends_with('1');
                (!all.lines().any(enabled)).then(|| format!("the cgroup controller {name}"))
            }
            Self::Debian => {
                let there = fixtures::folder().join("debian/index.json").exists();
                (!there).then(|| "the Debian image: debootstrap did not run".to_owned())
            }
            Self::File(path) => (!Path::new(path).exists()).then(|| path.to_owned()),
            Self::Loop => {
                let there = Path::new("/dev/loop-control").exists();
                (!there).then(|| "loop devices".to_owned())
            }
            Self::Root => (!nix::unistd::geteuid().is_root()).then(|| "being root".to_owned()),
            Self::Service(name) => {
                let there = fixtures::folder().join(name).join("index.json").exists();
                (!there).then(|| format!("the image of {name}: its packages could not be had"))
            }
            Self::Tool(name) => {
                let found =
                    Cmd::new("sh").args(["-c", "command -v \"$1\"", "sh", name]).run().code()
                        == Some(0);
                (!found).then(|| format!("the program {name}"))
            }
        }
    }
}

/// Says that a test is skipped; fails it where no test may be.
///
/// # Panics
/// If `MYDOCKER_TEST_NO_SKIP` is set.
pub fn skip(missing: &str) {
    let thread = std::thread::current();
    let text = format!("skipped: {} needs {missing}", thread.name().unwrap_or("a test"));
    assert!(std::env::var_os("MYDOCKER_TEST_NO_SKIP").is_none(), "{text}");
    // Not by a macro, whose output the test harness keeps to itself.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Leaves the test unless the machine has everything that it needs.
#[macro_export]
macro_rules! require {
    ($($need:expr),+ $(,)?) => {
        for need in [$($need),+] {
            if let Some(missing) = need.missing() {
                $crate::support::require::skip(&missing);
                return;
            }
        }
    };
}
