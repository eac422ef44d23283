//! `--group-add keep-groups`, podman's: the supplementary groups of an ordinary user come along into the container.
//!
//! Inside they have no names, as the user namespace knows no numbers for them, but the kernel goes on asking for them when
//! a file is opened.

use nix::unistd::geteuid;

use super::{Error, Record};
use crate::runtime::rootless::has_all_ids;

/// Podman's name for them, where others name a group.
const KEEP: &str = "keep-groups";

/// Whether they are asked for among the groups that a user names.
///
/// # Errors
/// [`Error::Value`] if there are others beside them, or if it is root who asks.
pub(super) fn asked_for(groups: &[String]) -> Result<bool, Error> {
    let refuse = |why| Err(Error::Value { what: "group", value: KEEP.to_owned(), why });
    match groups {
        groups if !groups.iter().any(|group| group == KEEP) => Ok(false),
        [_] if caller_is_root() => refuse(
            "it is for ordinary users: with root's groups, the host's files would be within reach",
        ),
        [_] => Ok(true),
        _ => refuse("no other groups can be added beside it"),
    }
}

/// Whether a program that is about to be started in a container keeps the caller's groups. Another caller may start it than
/// the one who has made it.
pub(super) fn are_kept(record: &Record) -> bool {
    record.settings.keep_groups && !caller_is_root()
}

/// Whether this process is root, and not only within a user namespace.
fn caller_is_root() -> bool {
    has_all_ids() && geteuid().is_root()
}
