//! What has happened: one line of JSON for each event, in docker's form, in a file that every command appends to.
//!
//! ```text
//! ROOT/events.log      what happens now
//! ROOT/events.log.1    what happened before; it is overwritten by the next one
//! ```
//!
//! There is nobody who would tell others, so whoever changes something writes it down itself: a line in one `write(2)` to a
//! file that is opened to be appended to, which the kernel keeps apart from everybody else's. An event that cannot be
//! written is lost, and fails nothing.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::record::now_with_nanos;
use super::status::Finished;
use super::{Containers, Record};

/// The size at which the file is put aside, in bytes: some thousand events.
const MAX_SIZE: u64 = 1 << 20;
/// The longest line that is written. Labels, which images bring along, are left out of an event that would be longer.
pub(super) const MAX_LINE: usize = 16 << 10;

/// Something that has happened, with docker's names for everything.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Event {
    /// The action once more, for older readers.
    pub status: String,
    /// Of what, for older readers.
    pub id: String,
    /// The image that a container is made from.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub from: String,
    /// What kind of thing it happened to: `container`, `image`, ….
    #[serde(rename = "Type")]
    pub kind: String,
    /// What happened: `start`, `die`, ….
    #[serde(rename = "Action")]
    pub action: String,
    /// What it happened to.
    #[serde(rename = "Actor")]
    pub actor: Actor,
    /// Always `local`.
    pub scope: String,
    /// When, in seconds since 1970.
    pub time: i64,
    /// When, in nanoseconds since 1970.
    #[serde(rename = "timeNano")]
    pub time_nano: i64,
}

/// What something happened to.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Actor {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Its name, its labels, and what else is known of the event.
    #[serde(rename = "Attributes")]
    pub attributes: BTreeMap<String, String>,
}

impl Event {
    /// What has just happened to `id`.
    fn new(kind: &str, action: &str, id: &str, attributes: BTreeMap<String, String>) -> Self {
        let (time, nanos) = now_with_nanos();
        Self {
            status: action.to_owned(),
            id: id.to_owned(),
            from: String::new(),
            kind: kind.to_owned(),
            action: action.to_owned(),
            actor: Actor { id: id.to_owned(), attributes },
            scope: "local".to_owned(),
            time,
            time_nano: time.saturating_mul(1_000_000_000).saturating_add(nanos.into()),
        }
    }

    fn line(&self) -> Vec<u8> {
        // A structure of strings and numbers can always be written as JSON.
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

/// The file of a store's events.
#[derive(Clone, Debug)]
pub struct Journal {
    pub(super) path: PathBuf,
}

impl Journal {
    /// That of the store in `root`.
    pub fn new(root: &Path) -> Self {
        Self { path: root.join("events.log") }
    }

    /// The file that was put aside.
    pub(super) fn before(&self) -> PathBuf {
        self.path.with_extension("log.1")
    }

    /// Writes down what has just happened to something that is no container: `("image", "pull", "busybox:latest", …)`.
    pub fn tell(&self, kind: &str, action: &str, id: &str, attributes: &[(&str, &str)]) {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let event = Event::new(kind, action, id, attributes.iter().map(own).collect());
        let line = event.line();
        if line.len() <= MAX_LINE {
            // Nothing fails for want of its event.
            let _ = self.append(&line);
        }
    }

    fn append(&self, line: &[u8]) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let mut file = options.open(&self.path)?;
        if file.metadata()?.len() >= MAX_SIZE {
            self.put_aside(file)?;
            file = options.open(&self.path)?;
        }
        file.write_all(line)
    }

    /// Puts a file that is full aside. Of all that find it full at a time, one does.
    fn put_aside(&self, full: File) -> io::Result<()> {
        let known = full.metadata()?.ino();
        if let Ok(_lock) = Flock::lock(full, FlockArg::LockExclusiveNonblock)
            && fs::metadata(&self.path)?.ino() == known
        {
            fs::rename(&self.path, self.before())?;
        }
        Ok(())
    }
}

impl Containers {
    /// Writes down how a container has ended.
    pub(super) fn tell_end(&self, record: &Record, finished: Finished) {
        if finished.oom_killed {
            self.tell(record, "oom", &[]);
        }
        let ran = finished.at.saturating_sub(record.since()).max(0).to_string();
        let more = [("execDuration", ran.as_str()), ("exitCode", &finished.code.to_string())];
        self.tell(record, "die", &more);
    }

    /// Writes down that all of one kind was removed that nobody needs, and how many bytes that took.
    pub fn tell_prune(&self, kind: &str, reclaimed: u64) {
        let reclaimed = reclaimed.to_string();
        Journal::new(self.root()).tell(kind, "prune", "", &[("reclaimed", &reclaimed)]);
    }

    /// Writes down what has just happened to a container.
    pub fn tell(&self, record: &Record, action: &str, more: &[(&str, &str)]) {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let mut attributes = record.labels.clone();
        let core = [("image", record.image.as_str()), ("name", record.name.as_str())];
        let core = core.iter().chain(more).map(own);
        attributes.extend(core.clone());
        let mut event = Event::new("container", action, &record.id, attributes);
        event.from.clone_from(&record.image);
        let mut line = event.line();
        if line.len() > MAX_LINE {
            event.actor.attributes = core.collect();
            line = event.line();
        }
        if line.len() <= MAX_LINE {
            // Nothing fails for want of its event.
            let _ = Journal::new(self.root()).append(&line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_that_find_a_file_full_one_puts_it_aside() {
        let folder = std::env::temp_dir().join(format!("mydocker-events-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let journal = Journal::new(&folder);
        let open = || OpenOptions::new().append(true).create(true).open(&journal.path).unwrap();
        open().write_all(b"full").unwrap();
        let (first, second) = (open(), open());
        journal.put_aside(first).unwrap();
        open().write_all(b"new").unwrap();
        journal.put_aside(second).unwrap();
        assert_eq!(fs::read(journal.before()).unwrap(), b"full");
        assert_eq!(fs::read(&journal.path).unwrap(), b"new");
        fs::remove_dir_all(&folder).unwrap();
    }
}
