//! `--debug`: decisions on standard error, and nothing at all without it.

use log::{LevelFilter, Log, Metadata, Record};

use super::output;

struct Logger;

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Libraries below log headers and addresses, which may hold secrets; only this program's own words are shown.
        metadata.target().starts_with(env!("CARGO_PKG_NAME"))
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            output::message(&format!("mydocker: debug: {}\n", record.args()));
        }
    }

    fn flush(&self) {}
}

/// Turns messages on if `debug`.
pub(super) fn init(debug: bool) {
    if debug && log::set_logger(&Logger).is_ok() {
        log::set_max_level(LevelFilter::Debug);
    }
}
