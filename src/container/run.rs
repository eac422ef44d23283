//! `run`: a container from its creation to its end, watched by the process that made it.

use nix::unistd::Uid;

use super::attach::{self, Signals};
use super::monitor::Watcher;
use super::options::RunOptions;
use super::record::{Containers, Record, now};
use super::status::{Finished, Identity};
use super::{Ending, Error, ids, keep_groups, prepare, streams, volume};
use crate::oci::runtime_spec::Spec;
use crate::runtime::{self, ExitStatus, Groups, Stdio};
use crate::store::Store;

/// Runs a container in the foreground until it ends, and says its exit code.
///
/// `warn` is told what is weaker than it should be because the machine cannot do better.
pub fn run(
    containers: &Containers,
    store: &Store,
    options: &RunOptions,
    warn: &mut dyn FnMut(&str),
) -> Result<u8, Error> {
    let (mut record, mut spec) = prepare::prepare(containers, store, options, true)?;
    match start_and_wait(containers, options, &mut record, &mut spec, warn) {
        Ok((status, oom_killed)) => {
            if let Some(ending) = Ending::of(status, oom_killed) {
                warn(&ending.to_string());
            }
            let code = status.code();
            let finished = Finished { code, at: now(), oom_killed };
            containers.tell_end(&record, finished);
            containers.tell_unmounts(&record);
            finish(containers, &record, options.settings.remove, (code, oom_killed))?;
            Ok(code)
        }
        Err(error) => {
            // A container that never ran leaves nothing behind; that is worth less than the error itself.
            let _ = containers.destroy_with_volumes(&record);
            Err(error)
        }
    }
}

fn finish(
    containers: &Containers,
    record: &Record,
    remove: bool,
    (code, oom_killed): (u8, bool),
) -> Result<(), Error> {
    ids::release(containers.run_folder(), &record.id, record.ids);
    let done = if remove {
        containers.destroy_with_volumes(record)
    } else {
        containers.set_finished(&record.id, code, oom_killed)
    };
    match done {
        // `rm -f` was faster.
        Err(_) if !containers.folder(&record.id).exists() => Ok(()),
        done => done,
    }
}

fn start_and_wait(
    containers: &Containers,
    options: &RunOptions,
    record: &mut Record,
    spec: &mut Spec,
    warn: &mut dyn FnMut(&str),
) -> Result<(ExitStatus, bool), Error> {
    let mut joined = prepare::join(containers, record, spec)?;
    let signals = Signals::new()?;
    let interactive = options.settings.interactive;
    let (stdio, relays) = if options.terminal {
        (Stdio::Inherit, Vec::new())
    } else {
        let streams = streams::open(owner(record, spec), interactive)?;
        (Stdio::Descriptors(streams.inner), streams.relays)
    };
    // The program ends with this process, which is the only one that would know how it ended.
    let runtime_options = runtime::Options {
        stdio,
        idmap_binds: true,
        die_with_parent: true,
        mounts: joined.take_mounts(),
        init: options.settings.init,
        keep_groups: keep_groups::are_kept(record),
        confined: volume::confined(&record.mounts),
        ..runtime::Options::default()
    };
    let mut bundle = prepare::bundle(containers, record, spec);
    if let runtime::Root::Overlay { volatile, .. } = &mut bundle.root {
        *volatile = options.settings.remove;
    }
    let mut process = runtime::run(&bundle, spec, runtime_options)?;
    for warning in process.warnings() {
        warn(&warning.to_string());
    }
    let groups = process.cgroup_directories();
    containers.set_running(&record.id, Identity::of(process.pid()), None, groups)?;
    prepare::write_pid(record, process.pid())?;
    containers.tell(record, "attach", &[]);
    containers.tell_mounts(record);
    containers.tell(record, "start", &[]);
    containers.begin_health(record)?;
    let watcher = Watcher::start(containers, record);
    let console = process.take_console();
    let status = attach::attach(&mut process, &signals, console, relays, interactive);
    let groups = Groups::new(process.cgroup_directories());
    let oom_killed = runtime::Stats::oom_kills(&groups) > 0;
    drop(watcher);
    process.delete()?;
    Ok((status?, oom_killed))
}

/// The user of the program as the host sees it.
fn owner(record: &Record, spec: &Spec) -> Uid {
    let uid = spec.process.as_ref().map_or(0, |process| process.user.uid);
    let first = record.ids.map_or(0, |ids| ids.first);
    Uid::from_raw(first.saturating_add(uid))
}
