//! How a container ended that did not end by itself, where that can be known.

use std::fmt;

use crate::runtime::ExitStatus;

/// What ended a program.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Ending {
    /// The kernel, as its control group had no memory left.
    OutOfMemory,
    /// The kernel, for a system call that its filter answers with death.
    SystemCall,
}

impl Ending {
    /// Tells by how it ended, and whether any process of its group was killed for want of memory.
    pub(super) fn of(status: ExitStatus, out_of_memory: bool) -> Option<Self> {
        match status {
            ExitStatus::Signaled(libc::SIGSYS) => Some(Self::SystemCall),
            _ if out_of_memory => Some(Self::OutOfMemory),
            _ => None,
        }
    }

    /// Its number in a monitor's message.
    pub(super) fn number(self) -> u8 {
        match self {
            Self::OutOfMemory => 1,
            Self::SystemCall => 2,
        }
    }

    pub(super) fn from_number(number: u8) -> Option<Self> {
        [Self::OutOfMemory, Self::SystemCall].into_iter().find(|ending| ending.number() == number)
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OutOfMemory => {
                "a process of the container was killed, as its memory was used up; --memory sets the limit"
            }
            Self::SystemCall => {
                "the program was ended by SIGSYS, for a call that its system call filter (seccomp) forbids"
            }
        })
    }
}
