//! Hooks: programs of the host that the spec wants run at points of the life cycle.
//!
//! Specification: runtime-spec, `config.md#posix-platform-hooks` and `runtime.md`. A hook gets the environment that the
//! spec gives it and nothing else, `/` as its working directory, and the container's state on its standard input.

use std::io::Write as _;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::error::{Error, HookOutcome};
use super::process::Bundle;
use crate::oci::runtime_spec::{Hook, Spec, VERSION};

/// How often a hook with a time limit is looked after.
const POLL: Duration = Duration::from_millis(5);

/// The state of a container as JSON (runtime-spec, `runtime.md#state`). `pid` goes in as it is.
pub(super) fn state(bundle: &Bundle, spec: &Spec, status: &str, pid: &str) -> String {
    let annotations = serde_json::to_string(&spec.annotations).unwrap_or_else(|_| "{}".to_owned());
    let text = |text: &str| serde_json::Value::from(text).to_string();
    format!(
        r#"{{"ociVersion":"{VERSION}","id":{},"status":"{status}","pid":{pid},"bundle":{},"annotations":{annotations}}}"#,
        text(&bundle.id),
        text(&bundle.directory.to_string_lossy()),
    )
}

/// Runs hooks one after the other, until one fails.
pub(super) fn run(stage: &'static str, hooks: &[Hook], state: &str) -> Result<(), Error> {
    hooks.iter().try_for_each(|hook| {
        run_one(hook, state).map_err(|outcome| Error::Hook {
            stage,
            path: hook.path.clone(),
            outcome,
        })
    })
}

/// Runs one hook.
pub(super) fn run_one(hook: &Hook, state: &str) -> Result<(), HookOutcome> {
    let spawn = |error: std::io::Error| {
        HookOutcome::Spawn(Errno::from_raw(error.raw_os_error().unwrap_or(libc::EINVAL)))
    };
    let mut command = Command::new(&hook.path);
    if let Some((name, arguments)) = hook.args.split_first() {
        command.arg0(name).args(arguments);
    }
    command.env_clear().current_dir("/").stdin(Stdio::piped());
    command.envs(hook.env.iter().filter_map(|entry| entry.split_once('=')));
    let mut child = command.spawn().map_err(spawn)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A hook need not read its standard input.
        let _ = stdin.write_all(state.as_bytes());
    }
    let status = match hook.timeout {
        None => child.wait().map_err(spawn)?,
        Some(seconds) => wait_until(&mut child, Duration::from_secs(seconds.into()))?,
    };
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(HookOutcome::Failed(code)),
        (None, signal) => Err(HookOutcome::Signaled(signal.unwrap_or_default())),
    }
}

fn wait_until(child: &mut Child, limit: Duration) -> Result<std::process::ExitStatus, HookOutcome> {
    let begun = Instant::now();
    while begun.elapsed() < limit {
        if let Ok(Some(status)) = child.try_wait() {
            return Ok(status);
        }
        std::thread::sleep(POLL);
    }
    // It may have ended by itself just now; either way, nothing of it is left.
    let _ = child.kill();
    let _ = child.wait();
    Err(HookOutcome::TimedOut)
}
