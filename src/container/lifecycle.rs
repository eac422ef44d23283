//! What is done to containers that exist: stop, kill, restart, wait, pause, remove.
//!
//! Each works on what [`Containers::status`] says now, and looks again after each step: a container may end, or be started
//! again by its policy, at any moment.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::monitor::{self, Event, Request, Started};
use super::settings::STOP_TIMEOUT;
use super::status::{Identity, Running, Status};
use super::{Containers, Error, Record, volume};
use crate::runtime::{self, Init};

/// How long a killed container may take to be gone.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two looks at a container whose monitor is about to write something down.
const PAUSE: Duration = Duration::from_millis(2);

/// Starts a container by a monitor of its own; `None` if it runs already, or somebody else was faster.
///
/// # Errors
/// [`Error::Paused`], and what keeps it from starting.
pub fn start(
    containers: &Containers,
    root: &Path,
    record: &Record,
    attach: bool,
) -> Result<Option<Started>, Error> {
    let end = Instant::now() + KILL_TIMEOUT;
    loop {
        match containers.status(record) {
            Status::Running(_) | Status::Restarting(..) => return Ok(None),
            Status::Paused(_) => return Err(Error::Paused(record.name.clone())),
            Status::Created | Status::Exited(_) => {}
        }
        match monitor::start(containers, root, &record.id, attach) {
            // Another monitor is about to start it, or about to end itself.
            Err(Error::NotStarted(failed)) if failed.busy && Instant::now() < end => {
                thread::sleep(PAUSE);
            }
            started => return started.map(Some),
        }
    }
}

/// Removes a container; one that runs is killed first if `force`. With `volumes`, those that nobody has named go too,
/// unless another container has them.
pub fn remove(
    containers: &Containers,
    text: &str,
    force: bool,
    volumes: bool,
) -> Result<(), Error> {
    let record = containers.find(text)?;
    // Ending it may take two of them.
    let deadline = Instant::now() + KILL_TIMEOUT * 3;
    loop {
        if containers.status(&record).running().is_some() {
            if !force {
                return Err(Error::Running(text.to_owned()));
            }
            mark_stopped(containers, &record.id)?;
            end(containers, &record, None, libc::SIGKILL, Some(KILL_TIMEOUT))?;
        }
        match remove_ended(containers, &record) {
            // Somebody else has started it meanwhile.
            Err(Error::Running(_)) if force && Instant::now() < deadline => {}
            removed => {
                removed?;
                break;
            }
        }
    }
    if volumes { volume::remove_anonymous(containers, &record) } else { Ok(()) }
}

/// Removes a container that is not running, and keeps it from being started meanwhile.
fn remove_ended(containers: &Containers, record: &Record) -> Result<(), Error> {
    let end = Instant::now() + KILL_TIMEOUT;
    loop {
        match monitor::lock(containers, record) {
            Ok(_lock) => {
                if let Some(running) = containers.read_running(&record.id) {
                    // Whoever watched it was killed, and has left its control groups. One that stays is empty.
                    let _ = running.groups.delete();
                    monitor::remove_socket(containers.run_folder(), &record.id);
                }
                return containers.destroy(record);
            }
            // Its monitor was faster, as it is with `--rm`.
            Err(Error::NoSuchContainer(_)) => return containers.destroy(record),
            // It has written down the end, and is about to end itself.
            Err(Error::Running(_))
                if containers.status(record).running().is_none() && Instant::now() < end =>
            {
                thread::sleep(PAUSE);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Asks a container to end with `signal`, its own stop signal unless given, and kills it `timeout` seconds later; never if
/// that is negative.
///
/// # Errors
/// [`Error::Unkillable`] if it does not even end then.
pub fn stop(
    containers: &Containers,
    record: &Record,
    signal: Option<i32>,
    timeout: Option<i64>,
) -> Result<(), Error> {
    if containers.status(record).running().is_none() {
        return Ok(());
    }
    mark_stopped(containers, &record.id)?;
    let signal = signal.unwrap_or_else(|| record.settings.stop_signal());
    end(containers, record, None, signal, patience(record, timeout))?;
    containers.tell(record, "stop", &[]);
    Ok(())
}

fn patience(record: &Record, timeout: Option<i64>) -> Option<Duration> {
    let seconds = timeout.or(record.settings.stop_timeout).unwrap_or(STOP_TIMEOUT);
    u64::try_from(seconds).ok().map(Duration::from_secs)
}

/// Writes down that somebody has stopped it, which its policy respects. One that is removed meanwhile is stopped too.
fn mark_stopped(containers: &Containers, id: &str) -> Result<(), Error> {
    match containers.modify(id, |record| (record.stopped, record.again) = (true, false)) {
        Err(Error::NoSuchContainer(_)) => Ok(()),
        modified => modified.map(drop),
    }
}

/// Ends the program that runs now, or `first` alone, and returns when it is written down how it ended, or another one runs.
fn end(
    containers: &Containers,
    record: &Record,
    mut first: Option<Identity>,
    signal: i32,
    patience: Option<Duration>,
) -> Result<(), Error> {
    let mut asked = false;
    let mut deadline = patience.map(|patience| Instant::now() + patience);
    let mut killed = false;
    let mut monitor = None;
    loop {
        let record = &containers.read(&record.id)?.unwrap_or_else(|| record.clone());
        let status = containers.status(record);
        let Some(running) = status.running() else {
            let monitor = monitor.and_then(Identity::find);
            monitor.iter().for_each(|monitor| let_finish(containers, record, monitor));
            return Ok(());
        };
        monitor = running.monitor;
        if first.is_some_and(|first| running.process.pid != 0 && running.process != first) {
            return Ok(());
        }
        if !asked && running.process.pid != 0 {
            (first, asked) = (Some(running.process), true);
            send(containers, record, running, signal)?;
        }
        if matches!(status, Status::Restarting(..)) {
            monitor::poke(containers, &record.id);
            thread::sleep(PAUSE * 5);
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            if killed {
                return Err(Error::Unkillable(record.name.clone()));
            }
            // What it did not do on being asked, it does now.
            send(containers, record, running, libc::SIGKILL)?;
            (killed, deadline) = (true, Some(Instant::now() + KILL_TIMEOUT));
        }
        let left =
            deadline.map_or(KILL_TIMEOUT, |end| end.saturating_duration_since(Instant::now()));
        match running.process.find() {
            Some(process) => drop(process.wait(left.min(Duration::from_secs(1)))),
            None => thread::sleep(PAUSE),
        }
    }
}

/// Waits for a monitor that may have something to remove yet. One without its lock is seeing off clients that do not read.
fn let_finish(containers: &Containers, record: &Record, monitor: &Init) {
    let end = Instant::now() + KILL_TIMEOUT;
    while Instant::now() < end
        && !monitor.wait(PAUSE * 50)
        && matches!(monitor::lock(containers, record), Err(Error::Running(_)))
    {}
}

/// Sends a signal to the first process; one that is held gets it when it is let go, as a stop means that it is.
fn send(
    containers: &Containers,
    record: &Record,
    running: &Running,
    signal: i32,
) -> Result<(), Error> {
    let Some(process) = running.process.find() else { return Ok(()) };
    // Its end is told by somebody else, and comes behind this.
    containers.tell(record, "kill", &[("signal", &signal.to_string())]);
    // It may have ended this instant; then it needs no signal.
    let _ = process.kill(signal);
    if running.groups.is_frozen() { let_go(running) } else { Ok(()) }
}

/// Lets processes that are held go on. Groups that are gone meanwhile hold nobody.
fn let_go(running: &Running) -> Result<(), Error> {
    match running.groups.thaw() {
        Err(runtime::Error::Cgroup { source: Errno::ENOENT | Errno::ENODEV, .. }) => Ok(()),
        thawed => Ok(thawed?),
    }
}

/// Sends a signal to a container's first process. One that ends it is a stop by the user, so that no policy starts it
/// again.
///
/// # Errors
/// [`Error::NotRunning`] if it does not run.
pub fn kill(containers: &Containers, record: &Record, signal: i32) -> Result<(), Error> {
    let not_running = || Error::NotRunning(record.name.clone());
    let status = containers.status(record);
    let running = status.running().ok_or_else(not_running)?;
    let ends = signal == libc::SIGKILL || signal == record.settings.stop_signal();
    if ends {
        mark_stopped(containers, &record.id)?;
    }
    if matches!(status, Status::Restarting(..)) {
        monitor::poke(containers, &record.id);
        return Ok(());
    }
    let process = running.process.find().ok_or_else(not_running)?;
    containers.tell(record, "kill", &[("signal", &signal.to_string())]);
    process.kill(signal)?;
    // What is held would not even die.
    if ends && running.groups.is_frozen() { let_go(running) } else { Ok(()) }
}

/// Stops a container, as [`stop`] does, and starts it again; returns when its program is executed.
///
/// # Errors
/// What keeps it from ending or from starting.
pub fn restart(
    containers: &Containers,
    root: &Path,
    record: &Record,
    signal: Option<i32>,
    timeout: Option<i64>,
) -> Result<(), Error> {
    let watched = match containers.status(record) {
        Status::Running(running) | Status::Paused(running) if running.monitor.is_some() => {
            Some(running.process).filter(|process| process.pid != 0)
        }
        _ => None,
    };
    let Some(process) = watched else {
        stop(containers, record, signal, timeout)?;
        start(containers, root, record, false)?;
        containers.tell(record, "restart", &[]);
        return Ok(());
    };
    // Its own monitor starts it again, and so keeps its log, its clients' way to it, and `--rm` for later.
    containers.modify(&record.id, |record| (record.again, record.stopped) = (true, false))?;
    let signal = signal.unwrap_or_else(|| record.settings.stop_signal());
    end(containers, record, Some(process), signal, patience(record, timeout))?;
    let record = containers.find(&record.id)?;
    if record.again && containers.status(&record).running().is_none() {
        // It had ended for good before anybody could be asked to start it again.
        start(containers, root, &record, false)?;
        containers.tell(&record, "restart", &[]);
        return Ok(());
    }
    match (containers.status(&record), record.error) {
        (Status::Running(_), _) => Ok(()),
        (_, Some(cause)) => {
            let failed = monitor::Failed { cause, code: 127, ..monitor::Failed::default() };
            Err(Error::NotStarted(failed))
        }
        // It has run, and ended by itself.
        _ => Ok(()),
    }
}

/// Waits until a container has ended, and says its exit code; that of one that has ended already at once.
pub fn wait(containers: &Containers, record: &Record) -> Result<u8, Error> {
    loop {
        let record = match containers.read(&record.id)? {
            Some(record) => record,
            None => return Err(Error::NoSuchContainer(record.id.clone())),
        };
        let running = match containers.status(&record) {
            Status::Created => return Ok(0),
            Status::Exited(finished) => return Ok(finished.code),
            Status::Paused(running) | Status::Restarting(_, running) | Status::Running(running) => {
                running
            }
        };
        if running.monitor.is_some_and(Identity::lives) {
            if let Some(code) = until_told(containers, &record.id) {
                return Ok(code);
            }
        } else if let Some(process) = running.process.find() {
            process.wait(Duration::from_secs(60));
        }
        thread::sleep(PAUSE);
    }
}

/// The exit code as the monitor tells it, which it also does of a container that is then removed.
fn until_told(containers: &Containers, id: &str) -> Option<u8> {
    let connection = monitor::connect(containers, id).ok()?;
    connection.send(&Request::Wait).ok()?;
    loop {
        if let Event::Ended(code, _) = connection.receive().ok()?? {
            return Some(code);
        }
    }
}

/// Holds every process of a container where it is.
///
/// # Errors
/// [`Error::NotRunning`] if it does not run.
pub fn pause(containers: &Containers, record: &Record) -> Result<(), Error> {
    match containers.status(record) {
        Status::Running(running) => {
            running.groups.freeze().map_err(|error| match running.process.lives() {
                true => Error::Runtime(error),
                // Its groups are gone with it.
                false => Error::NotRunning(record.name.clone()),
            })?;
            // The groups of a container have the same names with each start, and what is held may be another start, which
            // nobody would let go.
            if !is_still(containers, record, &running) {
                let_go(&running)?;
                return Err(Error::NotRunning(record.name.clone()));
            }
            containers.tell(record, "pause", &[]);
            Ok(())
        }
        Status::Paused(_) => Err(Error::Paused(record.name.clone())),
        _ => Err(Error::NotRunning(record.name.clone())),
    }
}

/// Whether a container's program is still the one that it was.
fn is_still(containers: &Containers, record: &Record, running: &Running) -> bool {
    let Ok(Some(record)) = containers.read(&record.id) else { return false };
    let status = containers.status(&record);
    status.running().is_some_and(|now| now.process == running.process && now.process.lives())
}

/// Lets the processes of a container go on.
///
/// # Errors
/// [`Error::NotPaused`] if they are not held.
pub fn unpause(containers: &Containers, record: &Record) -> Result<(), Error> {
    match containers.status(record) {
        Status::Paused(running) => {
            running.groups.thaw().map_err(|error| match running.process.lives() {
                true => Error::Runtime(error),
                false => Error::NotPaused(record.name.clone()),
            })?;
            containers.tell(record, "unpause", &[]);
            Ok(())
        }
        _ => Err(Error::NotPaused(record.name.clone())),
    }
}
