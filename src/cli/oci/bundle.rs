//! What `create`, `run` and `exec` share: the bundle, inherited descriptors, the number that is written down.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::OciError;
use crate::oci::runtime_spec::{MAX_SPEC, Process, Spec};
use crate::runtime::{self, Process as Running};

/// Where descriptors begin that are not standard streams.
const FIRST: u32 = 3;

/// Reads a JSON document of a bounded size.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<T, OciError> {
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| {
        let length = file.metadata()?.len().min(MAX_SPEC);
        text.reserve(usize::try_from(length).unwrap_or_default());
        file.take(MAX_SPEC).read_to_end(&mut text)
    });
    read.map_err(OciError::file("read", path))?;
    let path = path.to_owned();
    serde_json::from_slice(&text).map_err(|source| OciError::Parse { path, source })
}

/// The bundle's directory as an absolute path, and its spec.
pub(super) fn open(directory: &Path) -> Result<(PathBuf, Spec), OciError> {
    let directory = std::path::absolute(directory).map_err(OciError::file("find", directory))?;
    let spec: Spec = read(&directory.join("config.json"))?;
    if !is_version_1(&spec.oci_version) {
        let field = format!("ociVersion `{}`", spec.oci_version);
        return Err(runtime::Error::Unsupported { field }.into());
    }
    Ok((directory, spec))
}

/// Whether it is a version of the specification that only adds to the first one: `1.2.0`, `1.0.2-dev`.
fn is_version_1(version: &str) -> bool {
    let numbers = version.split(['-', '+']).next().unwrap_or_default();
    let numbers: Vec<Option<u32>> = numbers.split('.').map(|number| number.parse().ok()).collect();
    matches!(numbers[..], [Some(1), Some(_), Some(_)])
}

/// How many descriptors the program inherits: those of `--preserve-fds`, behind those of socket activation
/// (`sd_listen_fds(3)`), of which it is told.
///
/// All must be open: else one that this program opens for itself would get the number, and be handed on.
pub(super) fn preserved(preserve_fds: u32, process: Option<&mut Process>) -> Result<u32, OciError> {
    let variable = |name| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    let ours = variable("LISTEN_PID").is_none_or(|pid| pid == std::process::id());
    let listening = variable("LISTEN_FDS").filter(|_| ours).unwrap_or(0);
    let count = preserve_fds.saturating_add(listening);
    for number in FIRST..FIRST.saturating_add(count) {
        let path = PathBuf::from(format!("/proc/self/fd/{number}"));
        fs::symlink_metadata(&path).map_err(OciError::file("preserve descriptor", &path))?;
    }
    if let (Some(process), true) = (process, listening > 0) {
        process.env.push(format!("LISTEN_FDS={listening}"));
        process.env.push("LISTEN_PID=1".to_owned());
    }
    Ok(count)
}

/// Checks that a terminal has somewhere to go, and that a place for one has a terminal.
pub(super) fn check_terminal(
    terminal: bool,
    detach: bool,
    socket: Option<&Path>,
) -> Result<(), OciError> {
    let refuse = |text: &str| Err(OciError::Usage(text.to_owned()));
    match (terminal, detach, socket) {
        (true, true, None) => refuse("a terminal of a detached program needs --console-socket"),
        (false, _, Some(_)) | (_, false, Some(_)) => {
            refuse("--console-socket is for the terminal of a detached program")
        }
        _ => Ok(()),
    }
}

/// Hands on what the caller asked for: the terminal, and the number of the process.
pub(super) fn hand_on(
    process: &Running,
    console: Option<&OwnedFd>,
    socket: Option<&Path>,
    pid_file: Option<&Path>,
) -> Result<(), OciError> {
    if let (Some(console), Some(socket)) = (console, socket) {
        runtime::send_console(socket, console).map_err(OciError::file("connect to", socket))?;
    }
    if let Some(path) = pid_file {
        write_pid(path, process.pid().as_raw()).map_err(OciError::file("write", path))?;
    }
    Ok(())
}

/// All at once: engines wait for the file and read it as soon as it is there.
fn write_pid(path: &Path, pid: i32) -> io::Result<()> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    let new = path.with_file_name(name);
    fs::write(&new, pid.to_string())?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_the_specification() {
        for good in ["1.0.0", "1.2.1", "1.3.0", "1.0.2-dev"] {
            assert!(is_version_1(good), "{good}");
        }
        for bad in ["", "invalid", "1", "1.2", "2.0.0", "0.9.0", "1.x.0", "1.0.0.0"] {
            assert!(!is_version_1(bad), "{bad}");
        }
    }
}
