//! A container's life under its monitor: started, watched, written down, started again.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, OFlag};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::SigSet;
use nix::unistd::{Uid, dup2_stdin, fchown, getpid, pipe2, setsid};

use super::super::ids;
use super::super::log::{Log, Stream};
use super::super::record::{Containers, Record, boot_id, now, replace, to_json};
use super::super::status::{Finished, Identity};
use super::super::volume::{confined, shift_owners};
use super::super::{Ending, Error, keep_groups, prepare};
use super::listener::Listener;
use super::lock::lock;
use super::message::{Client, Event, Failed};
use super::prober::Prober;
use super::watch::{Streams, Watch};
use crate::oci::runtime_spec::Spec;
use crate::oci::runtime_spec::linux::IdMapping;
use crate::runtime::{self, ExitStatus, Process, Stdio};
use crate::sys::process::close_range;

/// How long the first wait before another start is; each is twice the last. Docker's numbers.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// A container that has run so long begins with the first wait again.
const WELL: Duration = Duration::from_secs(10);
/// How long clients that read slowly are waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// A monitor, and the one who started it.
#[derive(Debug)]
pub struct Monitor {
    containers: Containers,
    starter: Option<Client>,
    explain: Explain,
}

/// An error and its causes in the words that users see.
pub type Explain = fn(&(dyn std::error::Error + 'static)) -> String;

/// A monitor with the lock of its container.
struct Life<'a> {
    containers: &'a Containers,
    record: Record,
    spec: Spec,
    listener: Listener,
    clients: Vec<Client>,
    log: Option<Log>,
    /// What ended the program last, where that is known.
    ending: Option<Ending>,
    explain: Explain,
    lock: Flock<File>,
}

/// What follows the end of a program.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Next {
    /// Another start at once, as somebody has asked for it.
    Start,
    /// Another start after a wait, as its policy says.
    StartLater,
    /// Nothing: it has ended for good.
    Nothing,
    /// Somebody has removed it.
    Removed,
}

/// A program that was executed.
struct Begun {
    process: Process,
    streams: Streams,
    at: Instant,
}

impl Monitor {
    /// This process as a monitor: without a terminal, deaf to what ends a session, with its starter at its standard input.
    ///
    /// # Errors
    /// When standard input is no socket.
    pub fn new(containers: Containers, explain: Explain) -> Result<Self, Error> {
        let failed = |source| Error::Monitor { verb: "start", source };
        // What the starter has inherited and not marked would otherwise stay open as long as the container runs, and whoever
        // waits for the other end of a pipe would wait for that.
        close_range(3, u32::MAX).map_err(|errno| failed(errno.into()))?;
        // It leads a session already if it has executed itself anew.
        let _ = setsid();
        // What tells others to end does not keep it from writing down how its container ends.
        SigSet::all().thread_block().map_err(|errno| failed(errno.into()))?;
        let socket = io::stdin().as_fd().try_clone_to_owned().map_err(failed)?;
        let starter = Client::new(socket).map_err(|errno| failed(errno.into()))?;
        Ok(Self { containers, starter: Some(starter), explain })
    }

    /// Tells the starter why there is no container.
    pub fn fail(&mut self, failed: Failed) {
        if let Some(starter) = &mut self.starter {
            // Nobody may be left to be told.
            let _ = starter.tell(&Event::Failed(failed));
        }
    }

    /// Starts the container `id`, and stays with it until it has ended for good.
    ///
    /// # Errors
    /// When it cannot be started the first time. What goes wrong later stands in its record.
    pub fn run(&mut self, id: &str) -> Result<(), Error> {
        let mut life = Life::open(&self.containers, id, self.explain)?;
        let mut warnings = Vec::new();
        let begun = match life.start(&mut warnings) {
            // The same again, from a copy of this program that the container cannot overwrite.
            Err(Error::Runtime(runtime::Error::Unsealed)) => {
                return Err(runtime::seal()
                    .err()
                    .map_or(Error::Runtime(runtime::Error::Unsealed), Error::Runtime));
            }
            begun => begun.inspect_err(|error| life.give_up(error))?,
        };
        if let Some(mut starter) = self.starter.take() {
            let warned = warnings.into_iter().all(|text| starter.tell(&Event::Warning(text)));
            if warned && starter.tell(&Event::Started) {
                life.clients.push(starter);
            }
        }
        // The starter's socket is standard input as well.
        if let Ok(null) = File::open("/dev/null") {
            let _ = dup2_stdin(null);
        }
        if let Some(code) = life.go_on(begun)? {
            life.leave(code);
        }
        Ok(())
    }
}

impl<'a> Life<'a> {
    fn open(containers: &'a Containers, id: &str, explain: Explain) -> Result<Self, Error> {
        let lock = lock(containers, &containers.find(id)?)?;
        let record = containers.modify(id, |record| {
            let boot = boot_id().to_owned();
            // A reboot has taken the range away, as it has everything that runs.
            record.ids = record.ids.filter(|_| record.boot == boot);
            record.boot = boot;
            (record.stopped, record.shut_down) = (false, false);
            (record.again, record.restarts) = (false, 0);
        })?;
        let listener = Listener::open(containers.run_folder(), &record.id)?;
        let spec = containers.spec(&record.id)?;
        let options = record.settings.log;
        let log = options.map(|options| Log::open(containers, &record.id, options)).transpose()?;
        let clients = Vec::new();
        let ending = None;
        Ok(Self { containers, record, spec, listener, clients, log, ending, explain, lock })
    }

    fn start(&mut self, warnings: &mut Vec<String>) -> Result<Begun, Error> {
        let id = self.record.id.clone();
        // `update` may have changed it since the last start.
        self.spec = self.containers.spec(&id)?;
        let mut joined = prepare::join(self.containers, &mut self.record, &mut self.spec)?;
        if joined.ids.is_none() {
            self.claim_ids()?;
        }
        prepare::check_root(&self.spec)?;
        let (stdio, mut streams) = self.streams()?;
        let options = runtime::Options {
            stdio,
            idmap_binds: true,
            every_controller: true,
            mounts: joined.take_mounts(),
            init: self.record.settings.init,
            keep_groups: keep_groups::are_kept(&self.record),
            confined: confined(&self.record.mounts),
            ..runtime::Options::default()
        };
        let bundle = prepare::bundle(self.containers, &self.record, &self.spec);
        let mut process = runtime::run(&bundle, &self.spec, options)?;
        warnings.extend(process.warnings().iter().map(ToString::to_string));
        if let Some(console) = process.take_console() {
            let clone =
                || console.try_clone().map_err(|source| Error::Monitor { verb: "start", source });
            streams.outputs.push((Stream::Stdout, clone()?));
            streams.input = Some(clone()?);
            streams.console = Some(console);
        }
        let begun = Begun { process, streams, at: Instant::now() };
        self.write_down_start(&begun, &id)?;
        Ok(begun)
    }

    fn write_down_start(&mut self, begun: &Begun, id: &str) -> Result<(), Error> {
        let unblocked = begun.streams.unblock();
        unblocked.map_err(|errno| Error::Monitor { verb: "start", source: errno.into() })?;
        let process = Identity::of(begun.process.pid());
        let groups = begun.process.cgroup_directories();
        prepare::write_pid(&self.record, begun.process.pid())?;
        self.containers.set_running(id, process, Some(Identity::of(getpid())), groups)?;
        self.record = self.containers.modify(id, |record| {
            record.started = Some(now());
            record.finished = None;
            record.restarting = false;
            record.error = None;
        })?;
        self.containers.begin_health(&self.record)?;
        self.containers.tell_mounts(&self.record);
        self.containers.tell(&self.record, "start", &[]);
        Ok(())
    }

    /// A range of ids for a container that has a user namespace and none yet.
    fn claim_ids(&mut self) -> Result<(), Error> {
        let id = self.record.id.clone();
        let wanted = prepare::has_own_users(&self.spec);
        let range = match self.record.ids {
            _ if !wanted => None,
            Some(range) => Some(range),
            None => Some(ids::claim(self.containers.run_folder(), &id)?),
        };
        self.record = self.containers.modify(&id, |record| record.ids = range)?;
        let (Some(range), Some(linux)) = (range, self.spec.linux.as_mut()) else { return Ok(()) };
        let mapping = IdMapping { container_id: 0, host_id: range.first, size: range.size };
        if linux.uid_mappings.first() != Some(&mapping) {
            let old = linux.uid_mappings.first().map_or(0, |mapping| mapping.host_id);
            linux.uid_mappings = vec![mapping];
            linux.gid_mappings = vec![mapping];
            shift_owners(&mut self.spec, old, range.first);
            let path = config(self.containers, &id);
            replace(&path, &to_json(&self.spec, &path)?)?;
        }
        Ok(())
    }

    /// Pipes between the program and this process, which belong to the program's user: programs open `/dev/stdout` by name.
    fn streams(&self) -> Result<(Stdio, Streams), Error> {
        let failed = |errno: Errno| Error::Monitor { verb: "make pipes for", source: errno.into() };
        let process = self.spec.process.as_ref();
        let once = self.record.settings.stdin_once;
        let mut streams = Streams { once, ..Streams::default() };
        if process.is_some_and(|process| process.terminal) {
            return Ok((Stdio::Inherit, streams));
        }
        let uid = process.map_or(0, |process| process.user.uid);
        let first = self.record.ids.map_or(0, |ids| ids.first);
        let owner = Uid::from_raw(first.saturating_add(uid));
        let pipe = || -> Result<(OwnedFd, OwnedFd), Error> {
            let (read, write) = pipe2(OFlag::O_CLOEXEC).map_err(failed)?;
            // Both ends are one file.
            fchown(&write, Some(owner), None).map_err(failed)?;
            Ok((read, write))
        };
        let ((stdout, inner_stdout), (stderr, inner_stderr)) = (pipe()?, pipe()?);
        streams.outputs = vec![(Stream::Stdout, stdout), (Stream::Stderr, stderr)];
        let stdin = if self.record.settings.interactive {
            let (read, write) = pipe()?;
            streams.input = Some(write);
            read
        } else {
            let path = PathBuf::from("/dev/null");
            let null = File::open(&path);
            null.map_err(|source| Error::Io { verb: "open", path, source })?.into()
        };
        Ok((Stdio::Descriptors([stdin, inner_stdout, inner_stderr]), streams))
    }

    /// Writes down why there was no start.
    fn give_up(&mut self, error: &Error) {
        let text = (self.explain)(error);
        let mut range = None;
        // Without a record there is nothing to write it into.
        let _ = self.containers.modify(&self.record.id, |record| {
            range = record.ids.take();
            record.error = Some(text);
        });
        ids::release(self.containers.run_folder(), &self.record.id, range);
    }

    /// Stays with the container until it has ended for good. The exit code, unless nobody has to be told because somebody
    /// has removed it.
    fn go_on(&mut self, first: Begun) -> Result<Option<u8>, Error> {
        let mut begun = Some(first);
        let mut wait = FIRST_WAIT;
        loop {
            let (code, oom_killed, ran) = match begun.take() {
                Some(begun) => self.watch(begun)?,
                None => (self.record.finished.map_or(255, |f| f.code), false, Duration::ZERO),
            };
            if ran >= WELL {
                wait = FIRST_WAIT;
            }
            let finished = Finished { code, at: now(), oom_killed };
            self.containers.tell_end(&self.record, finished);
            self.containers.tell_unmounts(&self.record);
            let mut again = match self.write_down_end(finished)? {
                Next::Nothing => return Ok(Some(code)),
                Next::Removed => return Ok(None),
                Next::Start => true,
                Next::StartLater => false,
            };
            see_off(self.farewell(code));
            if !again {
                match self.rest(wait) {
                    Next::Start => again = true,
                    Next::StartLater => {}
                    Next::Nothing | Next::Removed => return self.end().map(|()| Some(code)),
                }
                wait = (wait * 2).min(LONGEST_WAIT);
            }
            begun = match self.start(&mut Vec::new()) {
                Ok(begun) => {
                    if again {
                        self.containers.tell(&self.record, "restart", &[]);
                    }
                    Some(begun)
                }
                Err(Error::NoSuchContainer(_)) => return Ok(None),
                Err(error) => {
                    let (text, code) = ((self.explain)(&error), error.exit_code());
                    self.record = self.containers.modify(&self.record.id, |record| {
                        record.error = Some(text);
                        record.finished = Some(Finished { code, at: now(), oom_killed: false });
                    })?;
                    None
                }
            };
        }
    }

    fn watch(&mut self, begun: Begun) -> Result<(u8, bool, Duration), Error> {
        let Begun { mut process, streams, at } = begun;
        let groups = runtime::Groups::new(process.cgroup_directories());
        let watch = Watch {
            process: &mut process,
            streams,
            listener: &self.listener,
            clients: &mut self.clients,
            log: self.log.as_mut(),
            pending: Vec::new(),
            ending: false,
            prober: Prober::new(self.containers, &self.record, groups.clone()),
        };
        let status: ExitStatus = watch.until_ended()?;
        let oom_killed = runtime::Stats::oom_kills(&groups) > 0;
        self.ending = Ending::of(status, oom_killed);
        // A group that stays is the next start's to complain of.
        let _ = process.delete();
        if let Some(log) = &mut self.log {
            log.finish();
        }
        Ok((status.code(), oom_killed, at.elapsed()))
    }

    /// Writes down the end, and says what follows it.
    fn write_down_end(&mut self, finished: Finished) -> Result<Next, Error> {
        // Nobody can take it for the process that has ended, whose number another one may get.
        let (nobody, own) = (Identity { pid: 0, start_time: 0 }, Identity::of(getpid()));
        self.containers.set_running(&self.record.id, nobody, Some(own), Vec::new())?;
        let mut next = Next::Nothing;
        let written = self.containers.modify(&self.record.id, |record| {
            record.finished = Some(finished);
            if std::mem::take(&mut record.again) {
                next = Next::Start;
            } else if !record.stopped
                && record.settings.restart.restarts(finished.code, record.restarts)
            {
                record.restarts = record.restarts.saturating_add(1);
                next = Next::StartLater;
            }
            record.restarting = next != Next::Nothing;
        });
        match written {
            // `rm -f` was faster.
            Err(Error::NoSuchContainer(_)) => {
                self.containers.forget_process(&self.record.id)?;
                return Ok(Next::Removed);
            }
            written => self.record = written?,
        }
        if next == Next::Nothing {
            self.end()?;
        }
        Ok(next)
    }

    /// The container has ended for good.
    fn end(&mut self) -> Result<(), Error> {
        let id = self.record.id.clone();
        ids::release(self.containers.run_folder(), &id, self.record.ids);
        self.containers.forget_process(&id)?;
        if self.record.settings.remove {
            let removed = self.containers.destroy_with_volumes(&self.record);
            if self.containers.folder(&id).exists() {
                removed?;
            }
        } else if self.record.ids.is_some() || self.record.restarting {
            self.record = self.containers.modify(&id, |record| {
                (record.ids, record.restarting) = (None, false);
            })?;
        }
        Ok(())
    }

    /// Tells clients of the end, and leaves the container to whoever wants to start or remove it.
    fn leave(mut self, code: u8) {
        let slow = self.farewell(code);
        // The socket goes before the lock: another monitor has one at the same place.
        drop(self.listener);
        drop(self.lock);
        see_off(slow);
    }

    /// Tells clients of the end, those too that have come this moment. Those that have not read everything yet are returned.
    fn farewell(&mut self, code: u8) -> Vec<Client> {
        let ended = Event::Ended(code, self.ending);
        let mut clients = std::mem::take(&mut self.clients);
        clients.extend(std::iter::from_fn(|| self.listener.accept()));
        clients.retain_mut(|client| {
            client.hear_wishes() && client.wants.end && client.tell(&ended) && client.lags()
        });
        clients
    }

    /// Waits before another start, unless somebody wants it at once, and says whether it is still wanted.
    fn rest(&mut self, wait: Duration) -> Next {
        let end = Instant::now() + wait;
        loop {
            let wanted = self.containers.read(&self.record.id);
            let Ok(Some(record)) = wanted else { return Next::Removed };
            self.record = record;
            if self.record.again {
                let mut asked = false;
                let take = |record: &mut Record| asked = std::mem::take(&mut record.again);
                let Ok(record) = self.containers.modify(&self.record.id, take) else {
                    return Next::Removed;
                };
                self.record = record;
                if asked {
                    return Next::Start;
                }
            }
            let left = end.saturating_duration_since(Instant::now());
            if self.record.stopped || left.is_zero() {
                return if self.record.stopped { Next::Nothing } else { Next::StartLater };
            }
            let left = u16::try_from(left.as_millis()).unwrap_or(u16::MAX).max(1);
            let mut fds = vec![PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
            fds.extend(self.clients.iter().map(|c| PollFd::new(c.as_fd(), PollFlags::POLLIN)));
            let _ = poll(&mut fds, PollTimeout::from(left));
            while let Some(client) = self.listener.accept() {
                self.clients.push(client);
            }
            // Whatever they say, the record is looked at again. What they want of the program, the next one gets.
            self.clients.retain_mut(Client::hear_wishes);
        }
    }
}

/// Gives clients that read slowly what is left, in their time but not in any time.
fn see_off(mut clients: Vec<Client>) {
    let end = Instant::now() + PATIENCE;
    while !clients.is_empty() && Instant::now() < end {
        let mut fds: Vec<PollFd<'_>> =
            clients.iter().map(|c| PollFd::new(c.as_fd(), PollFlags::POLLOUT)).collect();
        let _ = poll(&mut fds, PollTimeout::from(1000_u16));
        clients.retain_mut(|client| client.flush() && client.lags());
    }
}

fn config(containers: &Containers, id: &str) -> PathBuf {
    containers.folder(id).join("config.json")
}
