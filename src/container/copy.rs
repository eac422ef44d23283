//! A container's files, open for those who copy them in or out.
//!
//! They are reached by a process of this program that is among them ([`crate::runtime::visit`]), so that no name that a
//! container has a say in is ever looked up on the host (CVE-2018-15664). Of a container that does not run, the mounts are
//! made for as long as somebody copies, by the runtime that would also start it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, OFlag};
use nix::unistd::pipe2;

use super::freeze::Frozen;
use super::ids::{self, IdRange};
use super::monitor::{self, Failed};
use super::prepare::{self, has_own_users};
use super::status::{Identity, Status};
use super::{Containers, Error, Hold, Record, volume};
use crate::oci::runtime_spec::linux::{IdMapping, Linux, NamespaceKind};
use crate::oci::runtime_spec::{Process, Spec};
use crate::runtime::{self, ExitStatus, Init, Visitor};

/// How long a container may take to be running, or not.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(2);
/// The most that a visiting process can have to say, in bytes.
const MAX_REPORT: u64 = 64 << 10;

/// A container's files.
#[derive(Debug)]
pub struct Files {
    init: Init,
    _frozen: Option<Frozen>,
    _mounted: Option<Mounted>,
}

/// Opens the files of the container that `text` means.
///
/// `warn` is told if it cannot be held still.
///
/// # Errors
/// What keeps its mounts from being made.
pub fn open_files(
    containers: &Containers,
    text: &str,
    hold: Hold,
    warn: &mut dyn FnMut(&str),
) -> Result<Files, Error> {
    let end = Instant::now() + PATIENCE;
    loop {
        let record = containers.find(text)?;
        let opened = match containers.status(&record) {
            Status::Running(running) => {
                let frozen = match hold {
                    Hold::Frozen => frozen(containers, &record, warn)?,
                    Hold::Running => None,
                };
                let init = running.process.find();
                init.map(|init| Files { init, _frozen: frozen, _mounted: None })
            }
            Status::Paused(running) => {
                running.process.find().map(|init| Files { init, _frozen: None, _mounted: None })
            }
            Status::Restarting(..) => None,
            Status::Created | Status::Exited(_) => match mount(containers, &record) {
                // Somebody was faster, and is starting it.
                Err(Error::Running(_)) => None,
                mounted => Some(mounted?),
            },
        };
        match opened {
            Some(files) => return Ok(files),
            None if Instant::now() < end => thread::sleep(PAUSE),
            None => return Err(Error::NotRunning(record.name)),
        }
    }
}

/// Whether somebody must be root of some kind to open its files: those of a container that does not run.
pub fn needs_mounts(containers: &Containers, text: &str) -> Result<bool, Error> {
    let record = containers.find(text)?;
    Ok(containers.status(&record).running().is_none())
}

fn frozen(
    containers: &Containers,
    record: &Record,
    warn: &mut dyn FnMut(&str),
) -> Result<Option<Frozen>, Error> {
    match Frozen::new(containers, &record.id) {
        Ok(frozen) => Ok(Some(frozen)),
        Err(Error::CannotFreeze(_)) => {
            warn("the container cannot be held still: what it changes now may be copied by half");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The mounts of a container that does not run: a process that would become its program, and never does.
#[derive(Debug)]
struct Mounted {
    process: runtime::Process,
    containers: Containers,
    id: String,
    ids: Option<IdRange>,
    /// Nobody starts it meanwhile.
    _lock: Flock<File>,
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // It waits, and has nothing to lose. What is left of it is empty.
        let _ = self.process.kill(libc::SIGKILL);
        let _ = self.process.wait();
        let _ = self.process.delete();
        ids::release(self.containers.run_folder(), &self.id, self.ids);
    }
}

fn mount(containers: &Containers, record: &Record) -> Result<Files, Error> {
    let lock = monitor::lock(containers, record)?;
    let mut spec = containers.spec(&record.id)?;
    prepare::check_root(&spec)?;
    let ids = if has_own_users(&spec) {
        Some(ids::claim(containers.run_folder(), &record.id)?)
    } else {
        None
    };
    let (root, owner) = (containers.clone(), record.id.clone());
    let release = |error| {
        ids::release(root.run_folder(), &owner, ids);
        error
    };
    reduce(&mut spec, ids);
    let confined = volume::confined(&record.mounts);
    let mut bundle = prepare::bundle(containers, record, &spec);
    bundle.id = format!("{}-files", record.id);
    let options = runtime::Options { idmap_binds: true, confined, ..runtime::Options::default() };
    let process = match runtime::create(&bundle, &spec, options) {
        // The same again, from a copy of this program that the container cannot overwrite.
        Err(runtime::Error::Unsealed) => {
            return Err(runtime::seal().err().unwrap_or(runtime::Error::Unsealed))
                .map_err(|error| release(error).into());
        }
        created => created.map_err(release)?,
    };
    let identity = Identity::of(process.pid());
    let mounted = Mounted {
        process,
        containers: containers.clone(),
        id: record.id.clone(),
        ids,
        _lock: lock,
    };
    let init = identity.find().ok_or(runtime::Error::ChildEnded)?;
    Ok(Files { init, _frozen: None, _mounted: Some(mounted) })
}

/// Leaves of a specification what its files need: the root, and what is mounted there from the host.
fn reduce(spec: &mut Spec, ids: Option<IdRange>) {
    let mut linux = spec.linux.take().unwrap_or_default();
    // Where it has no users of its own, or another container's, the owners on disk are what it would see.
    linux.namespaces.retain(|namespace| match namespace.kind {
        NamespaceKind::User => ids.is_some() && namespace.path.is_none(),
        kind => kind == NamespaceKind::Mount,
    });
    if let Some(IdRange { first, .. }) = ids {
        let old = linux.uid_mappings.first().map_or(0, |mapping| mapping.host_id);
        volume::shift_owners(spec, old, first);
    }
    let mapping = ids.map(|ids| IdMapping { container_id: 0, host_id: ids.first, size: ids.size });
    let mappings: Vec<IdMapping> = mapping.into_iter().collect();
    spec.linux = Some(Linux {
        namespaces: linux.namespaces,
        uid_mappings: mappings.clone(),
        gid_mappings: mappings,
        ..Linux::default()
    });
    spec.mounts.retain(crate::oci::runtime_spec::Mount::is_bind);
    // It is never executed.
    let nothing = Process { args: vec!["-".into()], cwd: "/".into(), ..Process::default() };
    spec.process = Some(nothing);
    (spec.hostname, spec.domainname, spec.hooks) = (None, None, None);
}

/// A process that is among a container's files.
#[derive(Debug)]
pub struct Visit {
    visitor: Visitor,
    report: File,
}

impl Files {
    /// Has a process of its own do `work` among the files, with one end of a pipe and the root directory.
    ///
    /// # Errors
    /// When there is no such process to be had.
    pub fn visit(
        &self,
        pipe: OwnedFd,
        work: impl FnOnce(OwnedFd, Result<OwnedFd, Error>) -> Result<(), Failed>,
    ) -> Result<Visit, Error> {
        let (report, write) = pipe2(OFlag::O_CLOEXEC).map_err(|errno| Error::Io {
            verb: "make",
            path: "a pipe".into(),
            source: errno.into(),
        })?;
        let visitor = runtime::visit(&self.init, [pipe, write], |[pipe, write], root| {
            let Err(failed) = work(pipe, root.map_err(Error::from)) else { return 0 };
            let text = serde_json::to_vec(&failed).unwrap_or_default();
            // Whoever wanted to know may be gone.
            let _ = File::from(write).write_all(&text);
            1
        })?;
        Ok(Visit { visitor, report: report.into() })
    }
}

impl Visit {
    /// Waits for its end.
    ///
    /// # Errors
    /// What kept it from doing its work.
    pub fn end(self) -> Result<(), Error> {
        let mut text = Vec::new();
        let read = self.report.take(MAX_REPORT).read_to_end(&mut text);
        let status = self.visitor.wait()?;
        if status == ExitStatus::Exited(0) {
            return Ok(());
        }
        let failed = read.ok().and_then(|_| serde_json::from_slice(&text).ok());
        Err(Error::Visit(failed.unwrap_or_else(|| Failed {
            cause: "the process among the container's files was ended".to_owned(),
            code: 1,
            ..Failed::default()
        })))
    }
}
