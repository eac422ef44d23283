//! The hidden verb by which this program maps an ordinary user's ids into a user namespace from outside.

use super::Outcome;
use crate::runtime::rootless;

/// Map ids into the user namespace of a process
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Its id
    pid: u32,
    /// The user's own id
    uid: u32,
    /// The user's own group's id
    gid: u32,
    /// As themselves, and not from root on
    #[arg(long)]
    same: bool,
}

pub(super) fn run(args: &Args) -> Outcome {
    Ok(if rootless::map_ids(args.pid, args.uid, args.gid, args.same) { 0 } else { 1 })
}
