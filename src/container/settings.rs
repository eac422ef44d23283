//! What is kept of a user's wishes for as long as the container is there: how it is logged, stopped and started again.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Error;
use crate::oci::image_config::Healthcheck;

/// How long a container may take to end after its stop signal, in seconds, unless the user says otherwise: docker's.
pub const STOP_TIMEOUT: i64 = 10;
/// The size at which a log file is put aside, in bytes.
const LOG_SIZE: u64 = 10_000_000;
/// How many log files there are.
const LOG_FILES: u32 = 3;

/// A container's settings.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Settings {
    /// Whether it is started again when it has ended.
    pub restart: RestartPolicy,
    /// Its log; none where `None`, as for a container that runs in the foreground.
    pub log: Option<LogOptions>,
    /// The signal that asks it to end, by number.
    pub stop_signal: Option<i32>,
    /// How long it may take to end then, in seconds; as long as it likes where negative.
    pub stop_timeout: Option<i64>,
    /// Whether its program has an init process.
    pub init: bool,
    /// Whether its programs keep the supplementary groups of the ordinary user who starts them.
    pub keep_groups: bool,
    /// Whether nothing holds it back.
    pub privileged: bool,
    /// Whether it is removed when it ends.
    pub remove: bool,
    /// Whether its program has a standard input that stays open.
    pub interactive: bool,
    /// Whether that ends with the first client's.
    pub stdin_once: bool,
    /// How it is probed, in what the image and the user say of it.
    pub health: Option<Healthcheck>,
    /// The file that the number of its first process is written to.
    pub pid_file: Option<PathBuf>,
}

impl Settings {
    /// The signal that asks it to end: `SIGTERM` unless the image or the user says otherwise.
    pub fn stop_signal(&self) -> i32 {
        self.stop_signal.unwrap_or(libc::SIGTERM)
    }
}

/// Whether a container is started again when it has ended: docker's policies.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Never.
    #[default]
    No,
    /// When its exit code is not 0, at most so many times; without end where that is 0.
    OnFailure(u32),
    /// Always, also after a reboot, unless somebody has stopped it just now.
    Always,
    /// Always, but not after a reboot if somebody had stopped it.
    UnlessStopped,
}

impl RestartPolicy {
    /// Whether a container that ended with `code`, after it was started again `count` times, is started once more.
    pub fn restarts(self, code: u8, count: u32) -> bool {
        match self {
            Self::No => false,
            Self::OnFailure(most) => code != 0 && (most == 0 || count < most),
            Self::Always | Self::UnlessStopped => true,
        }
    }

    /// Docker's name for it, without the number.
    pub fn name(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::OnFailure(_) => "on-failure",
            Self::Always => "always",
            Self::UnlessStopped => "unless-stopped",
        }
    }
}

impl fmt::Display for RestartPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnFailure(most @ 1..) => write!(f, "on-failure:{most}"),
            policy => f.write_str(policy.name()),
        }
    }
}

impl FromStr for RestartPolicy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse = || Error::Value {
            what: "restart policy",
            value: text.to_owned(),
            why: "there are no, on-failure[:N], always and unless-stopped",
        };
        match text.split_once(':') {
            None => match text {
                "" | "no" => Ok(Self::No),
                "on-failure" => Ok(Self::OnFailure(0)),
                "always" => Ok(Self::Always),
                "unless-stopped" => Ok(Self::UnlessStopped),
                _ => Err(refuse()),
            },
            Some(("on-failure", most)) => most.parse().map(Self::OnFailure).map_err(|_| refuse()),
            Some(_) => Err(refuse()),
        }
    }
}

/// The bounds of a log.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LogOptions {
    /// The size at which the file is put aside, in bytes.
    pub max_size: u64,
    /// How many files there are at most, the current one included.
    pub max_file: u32,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { max_size: LOG_SIZE, max_file: LOG_FILES }
    }
}

impl LogOptions {
    /// The bounds with `NAME=VALUE` set.
    ///
    /// # Errors
    /// [`Error::Value`] for what is no option of docker's `json-file`, or has no value that can work.
    pub fn set(&mut self, option: &str) -> Result<(), Error> {
        let refuse = |why| Err(Error::Value { what: "log option", value: option.to_owned(), why });
        match option.split_once('=') {
            Some(("max-size", "-1")) => self.max_size = u64::MAX,
            Some(("max-size", size)) => match parse_size(size) {
                Some(size @ 1..) => self.max_size = size,
                _ => return refuse("expected a number with k, m or g behind it, as in 10m"),
            },
            Some(("max-file", count)) => match count.parse() {
                Ok(count @ 1..=1000) => self.max_file = count,
                _ => return refuse("expected a number from 1 to 1000"),
            },
            _ => return refuse("there are max-size=BYTES and max-file=NUMBER"),
        }
        Ok(())
    }
}

/// Bytes with decimal units, as docker counts logs.
fn parse_size(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &lower[digits.len()..] {
        "" | "b" => 1,
        "k" | "kb" => 1000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000_u64,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// Bytes with docker's units for all else, which are powers of 1024; `None` if it is no such number.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &lower[digits.len()..] {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1_u64 << 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// The number of a signal that is given as `TERM`, `SIGTERM`, `15` or `RTMIN+3`.
///
/// # Errors
/// [`Error::Value`] for anything else.
pub fn parse_signal(text: &str) -> Result<i32, Error> {
    const FIRST_REAL_TIME: i32 = 34;
    const LAST: i32 = 64;
    let refuse = || Error::Value {
        what: "signal",
        value: text.chars().take(32).collect(),
        why: "expected a name as in SIGTERM, or a number from 1 to 64",
    };
    if let Ok(number) = text.parse::<i32>() {
        return if (1..=LAST).contains(&number) { Ok(number) } else { Err(refuse()) };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |text: &str| text.parse::<u8>().ok().map(i32::from);
    let number = match (name, name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (_, Some(""), _) => Some(FIRST_REAL_TIME),
        (_, Some(more), _) => {
            more.strip_prefix('+').and_then(real_time).map(|more| FIRST_REAL_TIME + more)
        }
        (_, _, Some("")) => Some(LAST),
        (_, _, Some(less)) => less.strip_prefix('-').and_then(real_time).map(|less| LAST - less),
        _ => nix::sys::signal::Signal::from_str(&format!("SIG{name}"))
            .ok()
            .map(|signal| signal as i32),
    };
    number.filter(|number| (1..=LAST).contains(number)).ok_or_else(refuse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restart_policies() {
        for (text, policy) in [
            ("no", RestartPolicy::No),
            ("on-failure", RestartPolicy::OnFailure(0)),
            ("on-failure:3", RestartPolicy::OnFailure(3)),
            ("always", RestartPolicy::Always),
            ("unless-stopped", RestartPolicy::UnlessStopped),
        ] {
            assert_eq!(text.parse::<RestartPolicy>().unwrap(), policy);
            assert_eq!(policy.to_string(), text);
        }
        for bad in ["yes", "always:1", "on-failure:", "on-failure:x", "on-failure:-1"] {
            assert!(bad.parse::<RestartPolicy>().is_err(), "{bad}");
        }
        let thrice = RestartPolicy::OnFailure(3);
        assert!(thrice.restarts(1, 2) && !thrice.restarts(1, 3) && !thrice.restarts(0, 0));
        assert!(RestartPolicy::OnFailure(0).restarts(1, 1000));
    }

    #[test]
    fn log_options() {
        let set = |option: &str| {
            let mut options = LogOptions::default();
            options.set(option).map(|()| (options.max_size, options.max_file))
        };
        assert_eq!(set("max-size=10k").unwrap(), (10_000, 3));
        assert_eq!(set("max-size=-1").unwrap(), (u64::MAX, 3));
        assert_eq!(set("max-file=1").unwrap(), (10_000_000, 1));
        for bad in ["max-size=0", "max-size=", "max-size=99999999999g", "max-file=0", "labels=a"] {
            assert!(set(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn signals_by_name_and_number() {
        for (text, number) in [
            ("TERM", 15),
            ("SIGKILL", 9),
            ("sigint", 2),
            ("1", 1),
            ("RTMIN+3", 37),
            ("SIGRTMAX-1", 63),
        ] {
            assert_eq!(parse_signal(text).unwrap(), number, "{text}");
        }
        for bad in ["", "0", "65", "-1", "SIG", "NOSUCH", "RTMIN+99", "RTMIN3", "SIGSIGTERM"] {
            assert!(parse_signal(bad).is_err(), "{bad}");
        }
    }
}
