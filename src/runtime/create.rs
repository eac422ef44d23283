//! Making a container that outlives the command: its folder first, then its process, then what is written down of both.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::container::Container;
use super::error::Error;
use super::groups::Groups;
use super::init::start_time;
use super::options::{Bundle, Options, Root};
use super::process::{self, Process};
use super::state::{Entry, Record, States};
use crate::oci::runtime_spec::linux::NamespaceKind;
use crate::oci::runtime_spec::{self, Spec};

impl Container {
    /// Makes a container, which waits to be started by [`Self::start`], also of another process.
    ///
    /// # Errors
    /// Nothing is left behind when it fails.
    pub fn create(
        states: &States,
        bundle: &Bundle,
        spec: &Spec,
        options: Options,
    ) -> Result<(Self, Process), Error> {
        let entry = states.create(&bundle.id)?;
        let made = entry.listen().and_then(|listener| {
            process::create(bundle, spec, Options { start: Some(listener), ..options })
        });
        Self::written(entry, bundle, spec, made)
    }

    /// Makes a container and starts it at once.
    ///
    /// # Errors
    /// Nothing is left behind when it fails.
    pub fn run(
        states: &States,
        bundle: &Bundle,
        spec: &Spec,
        options: Options,
    ) -> Result<(Self, Process), Error> {
        let entry = states.create(&bundle.id)?;
        let made = process::run(bundle, spec, options);
        Self::written(entry, bundle, spec, made)
    }

    fn written(
        entry: Entry,
        bundle: &Bundle,
        spec: &Spec,
        made: Result<Process, Error>,
    ) -> Result<(Self, Process), Error> {
        let undo = |error| {
            // What went wrong first is what counts.
            let _ = entry.remove();
            error
        };
        let process = made.map_err(undo)?;
        let record = record(bundle, spec, &process);
        match entry.write_spec(spec).and_then(|()| entry.write(&record)) {
            Ok(()) => Ok((Self { entry, record }, process)),
            Err(error) => Err(undo(process.abandon(error))),
        }
    }
}

fn record(bundle: &Bundle, spec: &Spec, process: &Process) -> Record {
    let rootfs = match &bundle.root {
        Root::Overlay { lower, .. } => lower.clone(),
        Root::Directory => {
            let path = spec.root.as_ref().map(|root| root.path.as_str()).unwrap_or_default();
            bundle.directory.join(path)
        }
    };
    let hooks = spec.hooks.clone().unwrap_or_default();
    let pids = spec.linux.as_ref().and_then(|linux| linux.namespace(NamespaceKind::Pid));
    Record {
        shares_pids: pids.is_none_or(|namespace| namespace.path.is_some()),
        oci_version: runtime_spec::VERSION.to_owned(),
        id: bundle.id.clone(),
        pid: process.pid().as_raw(),
        // One that has ended at once, which this process has not waited for yet, is found to have by any other number.
        start_time: start_time(process.pid()).unwrap_or_default(),
        bundle: bundle.directory.clone(),
        rootfs,
        created: OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default(),
        annotations: spec.annotations.clone(),
        groups: Groups::new(process.cgroup_directories()),
        unit: process.unit(),
        class: process.class(),
        hooks: runtime_spec::Hooks {
            poststart: hooks.poststart,
            poststop: hooks.poststop,
            ..runtime_spec::Hooks::default()
        },
    }
}
