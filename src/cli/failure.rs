//! From an error to what a user reads: the verb, the object, the cause, and what to do.

use std::error::Error as StdError;
use std::fmt::Write as _;
use std::process::ExitCode;

use crate::container::monitor::Failed;
use crate::{container, image, oci, registry, runtime, store};

use super::output;
use super::template::TemplateError;

/// The exit code of docker and podman for an error of their own.
pub(super) const OWN_ERROR: u8 = 125;

/// An error on its way to the user.
#[derive(Debug)]
pub(super) struct Failure {
    what: String,
    cause: String,
    hint: Option<String>,
    code: u8,
}

impl Failure {
    /// Something that the command line itself has wrong.
    pub(super) fn new(what: &str, cause: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            what: what.to_owned(),
            cause: cause.into(),
            hint: Some(hint.into()),
            code: OWN_ERROR,
        }
    }

    /// The same with the exit code of an error of this program's own, whatever docker would give it.
    pub(super) fn into_own(self) -> Self {
        self.with_code(OWN_ERROR)
    }

    /// The same with another exit code.
    pub(super) fn with_code(self, code: u8) -> Self {
        Self { code, ..self }
    }

    /// The same, which is said but does not count if `tolerated`, as when `--force` finds nothing to remove.
    pub(super) fn tolerated(self, tolerated: bool) -> Self {
        if tolerated { self.with_code(0) } else { self }
    }

    /// Whether the verb succeeds all the same.
    pub(super) fn is_tolerated(&self) -> bool {
        self.code == 0
    }

    /// The same for another process of this program, which knows what was being done.
    pub(super) fn into_failed(self, code: u8) -> Failed {
        Failed { cause: self.cause, hint: self.hint, code, busy: false }
    }

    /// Prints the message and says the exit code.
    pub(super) fn report(&self) -> ExitCode {
        let mut text = format!("mydocker: {}: {}\n", self.what, self.cause);
        if let Some(hint) = &self.hint {
            let _ = writeln!(text, "hint: {hint}");
        }
        output::message(&text);
        ExitCode::from(self.code)
    }
}

/// Says what was being done when an error came up: `pull nosuch`.
pub(super) trait While<T> {
    fn doing(self, what: &str) -> Result<T, Failure>;
}

/// What an error knows beside its text.
trait Advice: StdError + 'static {
    fn advice(&self) -> Option<String> {
        None
    }

    fn exit_code(&self) -> u8 {
        OWN_ERROR
    }
}

impl Advice for image::Error {
    fn advice(&self) -> Option<String> {
        self.hint()
    }
}

impl Advice for image::LimitError {}

impl Advice for container::Error {
    fn advice(&self) -> Option<String> {
        self.hint()
    }

    fn exit_code(&self) -> u8 {
        container::Error::exit_code(self)
    }
}

impl Advice for container::TopError {
    fn advice(&self) -> Option<String> {
        Some("as in `-ef`, `aux`, `-o pid,user,args`, or podman's `pid user args`".to_owned())
    }
}

impl Advice for container::VolumeError {
    fn advice(&self) -> Option<String> {
        self.hint()
    }

    fn exit_code(&self) -> u8 {
        container::VolumeError::exit_code(self)
    }
}

impl Advice for registry::Error {
    fn advice(&self) -> Option<String> {
        self.hint()
    }
}

impl Advice for registry::LoginKeyError {
    fn advice(&self) -> Option<String> {
        Some("a registry is HOST[:PORT], as in ghcr.io or localhost:5000".to_owned())
    }
}

impl Advice for store::Error {
    fn advice(&self) -> Option<String> {
        let denied = matches!(self.errno(), Some(libc::EACCES | libc::EPERM));
        denied.then(|| "run it as root, or give another store with --root DIR".to_owned())
    }
}

impl Advice for oci::reference::ReferenceError {
    fn advice(&self) -> Option<String> {
        Some(
            "an image is named [REGISTRY/]REPOSITORY[:TAG][@DIGEST], as in busybox:1.36".to_owned(),
        )
    }
}

impl Advice for runtime::Error {
    fn advice(&self) -> Option<String> {
        self.hint()
    }
}

impl Advice for runtime::rootless::Error {
    fn advice(&self) -> Option<String> {
        self.hint()
    }
}

impl Advice for oci::platform::PlatformError {}

impl Advice for image::InstructionError {}

impl Advice for TemplateError {
    fn advice(&self) -> Option<String> {
        Some("as in '{{.ID}}' or '{{json .}}'; `json` alone shows all fields".to_owned())
    }
}

impl<T, E: Advice> While<T> for Result<T, E> {
    fn doing(self, what: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure {
            what: what.to_owned(),
            cause: chain(&error),
            hint: error.advice(),
            code: error.exit_code(),
        })
    }
}

/// An error and its causes, joined as `a: b: c`. A wrapper that only repeats its cause is named once.
pub(super) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut last = text.clone();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next =
            match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error) {
                Some(errno) => words(nix::errno::Errno::from_raw(errno)),
                None => match error.downcast_ref::<nix::errno::Errno>() {
                    Some(errno) => words(*errno),
                    None => error.to_string(),
                },
            };
        if next != last && !next.is_empty() {
            text = format!("{text}: {next}");
            last = next;
        }
        cause = error.source();
    }
    text
}

/// What the kernel says, in the words of `strerror(3)` and as part of a sentence.
fn words(errno: nix::errno::Errno) -> String {
    let text = errno.desc();
    let mut chars = text.chars();
    let rest_is_lower = text.chars().nth(1).is_some_and(char::is_lowercase);
    match chars.next() {
        Some(first) if rest_is_lower => first.to_lowercase().chain(chars).collect(),
        _ => text.to_owned(),
    }
}

/// What is wrong with a command line, or the help that was asked for.
pub(super) fn usage(error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind;
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            output::data(&error.render().to_string());
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            output::message(&error.render().to_string());
            ExitCode::from(OWN_ERROR)
        }
        _ => {
            let rendered = error.render().to_string();
            let text = rendered.strip_prefix("error: ").unwrap_or(&rendered);
            let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
            let first = lines.next().unwrap_or("the command line is wrong").to_owned();
            let rest: Vec<&str> = lines.collect();
            let find = |prefix| rest.iter().find_map(|line| line.strip_prefix(prefix));
            let (tip, usage) = (find("tip: "), find("Usage: "));
            let tip = unknown_verb(error).and_then(missing_verb).or(tip);
            let mut text = format!("mydocker: {first}\n");
            if let Some(usage) = usage {
                let _ = writeln!(text, "usage: {usage}");
            }
            let _ = writeln!(text, "hint: {}", tip.unwrap_or("--help shows the options"));
            output::message(&text);
            ExitCode::from(OWN_ERROR)
        }
    }
}

/// The verb that there is not.
fn unknown_verb(error: &clap::Error) -> Option<&str> {
    match error.get(clap::error::ContextKind::InvalidSubcommand) {
        Some(clap::error::ContextValue::String(verb)) => Some(verb),
        _ => None,
    }
}

/// What to do without a verb that docker or podman has.
fn missing_verb(verb: &str) -> Option<&'static str> {
    Some(match verb {
        "build" | "builder" | "buildx" => {
            "nothing is built here: `load`, `import` and `pull` take what buildah and docker build"
        }
        "network" => {
            "there is no bridge network yet: `run --network` knows none, host and container:NAME"
        }
        "checkpoint" | "compose" | "config" | "context" | "generate" | "kube" | "machine"
        | "manifest" | "node" | "play" | "plugin" | "pod" | "secret" | "service" | "stack"
        | "swarm" | "trust" => "docker or podman has it, mydocker has not",
        _ => return None,
    })
}
