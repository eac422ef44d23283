//! Programs that the tests make for others to execute.

#![allow(unreachable_pub)]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Makes an executable file of `content`.
///
/// A child writes it: a descriptor for writing that this process had, be it for a moment, could be in a child that another
/// test is just starting, and execve(2) refuses a file that anybody has open for writing (ETXTBSY).
pub fn write_program(path: &Path, content: impl AsRef<[u8]>) {
    let mut install = Command::new("install");
    // Not /dev/stdin: a machine without udev has none.
    install.args(["-m", "755", "/proc/self/fd/0"]).arg(path).stdin(Stdio::piped());
    let mut child = install.spawn().unwrap();
    child.stdin.take().unwrap().write_all(content.as_ref()).unwrap();
    assert!(child.wait().unwrap().success(), "{}", path.display());
}
