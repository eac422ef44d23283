//! Containers over a reboot: which are started again, and how all are stopped before.
//!
//! Nobody is there to remember but the records: `boot` is the boot a container was started in last, `stopped` says that
//! somebody has stopped it since, and `shut_down` that it was the machine which did.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::lifecycle::{remove, start, stop};
use super::record::boot_id;
use super::settings::RestartPolicy;
use super::status::Status;
use super::{Containers, Error, Record};

/// So many containers are stopped at a time.
const AT_A_TIME: usize = 64;

/// What has become of a container at boot, for whoever asked: that it was started, with what is weaker than it should be.
pub type Booted = Result<Vec<String>, Error>;

/// Starts the containers that their restart policies want to run, in the order in which they were made, and removes those
/// that were to be removed when they end. Doing it twice does no more than doing it once.
///
/// `report` is told of each; one that fails does not keep the others.
///
/// # Errors
/// When the containers cannot be listed.
pub fn boot(
    containers: &Containers,
    root: &Path,
    mut report: impl FnMut(&Record, Booted),
) -> Result<(), Error> {
    let (records, broken) = containers.list()?;
    for record in records.iter().rev() {
        let status = containers.status(record);
        if record.settings.remove && is_left_over(record, &status) {
            match remove(containers, &record.id, false, true) {
                Ok(()) | Err(Error::NoSuchContainer(_)) => {}
                Err(error) => report(record, Err(error)),
            }
        } else if is_due(record, &status) {
            match start(containers, root, record, false) {
                Ok(None) => {}
                Ok(Some(started)) => report(record, Ok(started.warnings)),
                Err(error) => report(record, Err(error)),
            }
        }
    }
    // A record that cannot be read is none that could be started, and told of as such.
    broken.into_iter().next().map_or(Ok(()), Err)
}

fn is_left_over(record: &Record, status: &Status) -> bool {
    matches!(status, Status::Exited(_)) && record.boot != boot_id()
}

/// Docker's rules, but that `always` respects what a user has stopped in this very boot, and `on-failure` at all.
fn is_due(record: &Record, status: &Status) -> bool {
    // What was never started waits for its user, and what runs needs nothing.
    let Status::Exited(finished) = status else { return false };
    let by_user = record.stopped && !record.shut_down;
    match record.settings.restart {
        RestartPolicy::Always => !by_user || record.boot != boot_id(),
        RestartPolicy::No => false,
        RestartPolicy::OnFailure(_) => {
            !by_user && record.settings.restart.restarts(finished.code, record.restarts)
        }
        RestartPolicy::UnlessStopped => !by_user,
    }
}

/// Stops all containers that run, the newest first, each as `stop` does. Their policies will start them again with the next
/// [`boot`].
///
/// `report` is told of those that cannot be stopped.
///
/// # Errors
/// When the containers cannot be listed.
pub fn shut_down(
    containers: &Containers,
    mut report: impl FnMut(&Record, Error),
) -> Result<(), Error> {
    let (mut records, _) = containers.list()?;
    records.retain(|record| containers.status(record).running().is_some());
    let next = AtomicUsize::new(0);
    // Each may take as long as it may. All of them together take no longer than the slowest.
    let work = || {
        let mut failed = Vec::new();
        while let Some(record) = records.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = shut_down_one(containers, record) {
                failed.push((record, error));
            }
        }
        failed
    };
    let failed = thread::scope(|scope| {
        let start = |_| thread::Builder::new().spawn_scoped(scope, work).ok();
        let workers: Vec<_> = (1..records.len().min(AT_A_TIME)).filter_map(start).collect();
        // A worker that panicked has stopped what it could.
        let others = workers.into_iter().flat_map(|worker| worker.join().unwrap_or_default());
        work().into_iter().chain(others).collect::<Vec<_>>()
    });
    failed.into_iter().for_each(|(record, error)| report(record, error));
    Ok(())
}

fn shut_down_one(containers: &Containers, record: &Record) -> Result<(), Error> {
    let marked = containers.modify(&record.id, |record| {
        record.shut_down |= !record.stopped;
        (record.stopped, record.again) = (true, false);
    });
    match marked.and_then(|record| stop(containers, &record, None, None)) {
        // It was to be removed at its end.
        Err(Error::NoSuchContainer(_)) => Ok(()),
        done => done,
    }
}
