//! `kill`: a signal for a container's first process.

use std::str::FromStr as _;

use clap::Args;
use nix::sys::signal::Signal;

use super::OciError;
use crate::runtime::{Container, States};

#[derive(Args, Debug)]
pub(super) struct KillArgs {
    /// To every process of the container
    #[arg(short, long)]
    all: bool,
    /// The container's name
    #[arg(value_name = "CONTAINER")]
    id: String,
    /// The signal's name or number
    #[arg(default_value = "SIGTERM", value_name = "SIGNAL")]
    signal: String,
}

pub(super) fn run(states: &States, args: &KillArgs) -> Result<(), OciError> {
    let signal = number(&args.signal)
        .ok_or_else(|| OciError::Usage(format!("there is no signal `{}`", args.signal)))?;
    // Nothing that is written down changes, so that nobody who does change it is waited for.
    Ok(Container::open(states, &args.id)?.kill(signal, args.all)?)
}

/// The number of a signal: `9`, `KILL`, `sigkill`, `RTMIN+3`.
fn number(text: &str) -> Option<i32> {
    const LAST: i32 = 64;
    if let Ok(number) = text.parse() {
        return (1..=LAST).contains(&number).then_some(number);
    }
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    // As kill(1) counts them, from the first that the C library leaves to programs.
    let real_time = |prefix: &str, base: i32| {
        let offset = name.strip_prefix(prefix)?;
        let offset = if offset.is_empty() { 0 } else { offset.parse().ok()? };
        Some(base + offset).filter(|number| (libc::SIGRTMIN()..=LAST).contains(number))
    };
    let named = Signal::from_str(&format!("SIG{name}")).ok().map(|signal| signal as i32);
    named
        .or_else(|| real_time("RTMIN", libc::SIGRTMIN()))
        .or_else(|| real_time("RTMAX", libc::SIGRTMAX()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_name_and_number() {
        let good = [("9", 9), ("KILL", 9), ("sigterm", 15), ("SIGRTMIN+3", 37), ("RTMAX-1", 63)];
        for (text, expected) in good {
            assert_eq!(number(text), Some(expected), "{text}");
        }
        for bad in ["", "0", "65", "-9", "SIGNOTHING", "RTMIN+40", "RTMINx"] {
            assert_eq!(number(bad), None, "{bad}");
        }
    }
}
