//! Containers as users know them: options to runtime-spec, records, the terminal, the end.

mod attach;
mod error;
mod files;
mod freeze;
mod ids;
mod layer;
mod names;
mod options;
mod record;
mod run;
mod spec;
mod streams;
mod usage;
mod user;

use std::time::{Duration, Instant};

pub use attach::{Signals, attach};
pub use error::Error;
pub use freeze::{HOLD_VERB, hold};
pub use ids::IdRange;
pub use layer::{Hold, Layer, Started, open_layer};
pub use options::{MIN_MEMORY, Network, RootSource, RunOptions, UserNamespace, Volume};
pub use record::{Containers, Finished, Record, Running, Status, now};
pub use run::run;
pub use streams::Relay;
pub use usage::VolumeUsage;

/// How long a killed container may take to be gone.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// Removes a container; one that runs is killed first if `force`.
pub fn remove(containers: &Containers, text: &str, force: bool) -> Result<(), Error> {
    let record = containers.find(text)?;
    if let Status::Running(running) = containers.status(&record) {
        if !force {
            return Err(Error::Running(text.to_owned()));
        }
        kill(containers, &record, running)?;
    }
    containers.remove(&record)
}

fn kill(containers: &Containers, record: &Record, running: Running) -> Result<(), Error> {
    let failed = |errno: nix::errno::Errno| Error::Io {
        verb: "kill",
        path: format!("/proc/{}", running.pid).into(),
        source: errno.into(),
    };
    let pidfd =
        crate::sys::pidfd::pidfd_open(nix::unistd::Pid::from_raw(running.pid)).map_err(failed)?;
    // The descriptor holds one process; that it is still the container's is known only once it is open.
    let end = Instant::now() + KILL_TIMEOUT;
    while let Status::Running(_) = containers.status(record) {
        let _ = crate::sys::pidfd::pidfd_send_signal(&pidfd, libc::SIGKILL);
        if Instant::now() > end {
            return Err(Error::Running(record.id.clone()));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
