//! The user namespace that the containers of an ordinary user have in common.
//!
//! Namespaces belong to the user namespace that they were made in, and only who is in that has power over them. So that
//! containers can join each other, a command of an ordinary user goes into the user namespace of one that runs, and makes
//! a new one only where there is none.

use std::fs;

use super::{Containers, Record};
use crate::runtime::Init;

/// Processes in user namespaces that a command may go into, the best first: those of the containers `joined`, by name, and
/// then those of all others that have a range of ids.
pub fn neighbours(containers: &Containers, joined: &[String]) -> impl Iterator<Item = Init> {
    let named = joined.iter().filter_map(|name| containers.find(name).ok());
    let named = named.filter_map(|record| process(containers, &record));
    let running = fs::read_dir(containers.run_folder()).into_iter().flatten().flatten();
    let running = running.filter_map(|entry| entry.file_name().into_string().ok());
    let running = running.filter_map(|id| containers.read(&id).ok().flatten());
    let running = running.filter_map(|record| process(containers, &record));
    // With one id alone it may be that there are more by now.
    named.chain(running.filter(Init::has_many_users))
}

/// The containers that `name` has joined, by id, as they have to run when it is started.
pub fn joined_by(containers: &Containers, name: &str) -> Vec<String> {
    let joins = containers.find(name).map(|record| record.joins).unwrap_or_default();
    joins.into_iter().map(|join| join.container).collect()
}

/// A process of a running container that is in the user namespace of who has started it.
fn process(containers: &Containers, record: &Record) -> Option<Init> {
    let status = containers.status(record);
    let running = status.running()?;
    running.monitor.unwrap_or(running.process).find()
}
