//! This program as the init process of a container.

use std::ffi::OsString;
use std::process::ExitCode;

use nix::unistd::Pid;

use super::failure::OWN_ERROR;
use super::output;
use crate::runtime::{INIT_NAME, reap};

/// The program to look after, if this one was called by the name of an init process.
pub(super) fn is_meant(args: &[OsString]) -> Option<Pid> {
    let [name, program] = args else { return None };
    let program = program.to_str()?.parse().ok().filter(|number| *number > 1)?;
    (name == INIT_NAME).then(|| Pid::from_raw(program))
}

/// Stays until the program has ended, and exits as it has.
pub(super) fn main(program: Pid) -> ExitCode {
    match reap(program) {
        Ok(code) => ExitCode::from(code),
        Err(errno) => {
            output::message(&format!("{INIT_NAME}: wait for signals: {}\n", errno.desc()));
            ExitCode::from(OWN_ERROR)
        }
    }
}
