//! Text that must not be shown.

use std::fmt;
use std::sync::Once;

/// A password or a token. Neither `{}` nor `{:?}` shows it, so that no log and no error can by accident.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text`. From the first one on, this process leaves no core file, which would hold it, and no other process
    /// of the same user looks into its memory.
    pub fn new(text: impl Into<String>) -> Self {
        static CLOSED: Once = Once::new();
        CLOSED.call_once(|| {
            if let Err(errno) = nix::sys::prctl::set_dumpable(false) {
                log::debug!("prctl PR_SET_DUMPABLE: {errno}");
            }
        });
        Self(text.into())
    }

    /// The text itself, for the one place that sends it.
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_knows_a_secret_leaves_no_core() {
        let secret = Secret::new("hunter2");
        assert_eq!(nix::sys::prctl::get_dumpable(), Ok(false));
        assert_eq!(format!("{secret} {secret:?}"), "[redacted] [redacted]");
    }
}
