//! The options of `run` about what its caller is attached to.

use super::container_options::parse;
use super::failure::Failure;
use crate::container::{Attachment, DetachKeys};

/// What the caller is attached to, and how they leave.
#[derive(Debug, clap::Args)]
pub(super) struct AttachArgs {
    /// Stream to be attached to: STDIN, STDOUT or STDERR [default: all, standard input with -i]
    #[arg(short, long, value_name = "STREAM", ignore_case = true)]
    attach: Vec<StandardStream>,
    /// Keys that leave it running, as in ctrl-p,ctrl-q
    #[arg(long, value_name = "KEYS", value_parser = parse::<DetachKeys>)]
    detach_keys: Option<DetachKeys>,
    /// Pass signals on; with =false, they leave it running
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", action = clap::ArgAction::Set)]
    sig_proxy: bool,
}

/// The option of `create` about what its caller would be attached to: with docker, too, all that follows is whether the
/// program's input ends with that of the first client.
#[derive(Debug, clap::Args)]
pub(super) struct CreateAttachArgs {
    /// Stream that start -a is for: STDIN, STDOUT or STDERR; without STDIN, input does not end with a client's
    #[arg(short, long, value_name = "STREAM", ignore_case = true)]
    attach: Vec<StandardStream>,
}

impl CreateAttachArgs {
    /// Whether standard input is one of the streams.
    pub(super) fn has_input(&self) -> bool {
        has(&self.attach, StandardStream::Input)
    }
}

/// A standard stream, by docker's name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
enum StandardStream {
    #[value(name = "STDIN")]
    Input,
    #[value(name = "STDOUT")]
    Output,
    #[value(name = "STDERR")]
    Error,
}

impl AttachArgs {
    /// Whether the caller may go before the container does, so that it needs a monitor.
    pub(super) fn may_leave(&self) -> bool {
        !self.attach.is_empty() || self.detach_keys.is_some() || !self.sig_proxy
    }

    pub(super) fn check(&self, detach: bool, what: &str) -> Result<(), Failure> {
        if detach && !self.attach.is_empty() {
            let hint = "a detached container is attached to nothing: leave one of them out";
            return Err(Failure::new(what, "conflicting options: -a and -d", hint));
        }
        Ok(())
    }

    /// Whether standard input is one of the streams.
    pub(super) fn has_input(&self) -> bool {
        self.has(StandardStream::Input)
    }

    fn has(&self, stream: StandardStream) -> bool {
        has(&self.attach, stream)
    }

    /// How the caller is attached to a container that has been made, with an input or a terminal or not.
    pub(super) fn attachment(self, interactive: bool, terminal: bool) -> Attachment {
        Attachment {
            interactive: interactive && self.has_input(),
            output: self.has(StandardStream::Output),
            error: self.has(StandardStream::Error),
            terminal,
            sig_proxy: self.sig_proxy,
            detach_keys: self.detach_keys.unwrap_or_default(),
        }
    }
}

/// Without any that is named, all are meant.
fn has(streams: &[StandardStream], stream: StandardStream) -> bool {
    streams.is_empty() || streams.contains(&stream)
}
