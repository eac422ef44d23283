//! What files hold, written by a thread beside the one that makes them.
//!
//! The extractor makes each file, so that names are settled in the archive's order, and hands its descriptor over with
//! what is to be done to it. Whatever becomes of the name meanwhile, it is done to that file and to no other.
//! Half of an extraction's time goes into contents and half into names, so two processors share it well.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use nix::errno::Errno;
use nix::sys::stat::{Mode, fchmod, fstat, futimens};
use nix::unistd::{Gid, Uid, fchown, write};

use super::chunk::Slice;
use super::confine::confine_writer;
use super::create::{set_xattr, time_spec};
use super::error::Error;
use super::note::{Content, Notes};
use super::tar::{Entry, Time, Xattr};

/// Set-user-ID, set-group-ID and sticky bit: not given at creation, because a change of owner takes them away.
pub(super) const SPECIAL_BITS: u32 = 0o7000;

/// How many steps are handed over at once, to wake nobody for each small file. What waits keeps files open.
const BATCH: usize = 64;
/// And how many bytes: fewer than there are in the buffers that go round, or all would wait for each other.
const BATCH_BYTES: usize = 128 << 10;
/// How many batches wait.
const BATCHES: usize = 2;

/// What is done to a file, one step after the other, one file after the other.
enum Step {
    /// A file that was just made, and its path for errors.
    Open(OwnedFd, Vec<u8>),
    /// Its next bytes.
    Data(Slice),
    /// There are no more; what else its entry says.
    Close(Attributes),
}

/// What an entry says of a file beside its name and contents.
pub(super) struct Attributes {
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: Time,
    xattrs: Vec<Xattr>,
    /// The entry's number, counted from 1.
    entry: u64,
}

impl Attributes {
    pub(super) fn of(entry: &mut Entry, number: u64) -> Self {
        let Entry { mode, uid, gid, mtime, .. } = *entry;
        Self { mode, uid, gid, mtime, xattrs: std::mem::take(&mut entry.xattrs), entry: number }
    }
}

/// What a new file is known to have.
#[derive(Clone, Copy)]
pub(super) struct Created {
    /// Its owner and group, if that is certain.
    pub(super) own: Option<(u32, u32)>,
    /// Whether it got the mode that it was created with.
    pub(super) exact_modes: bool,
}

/// The extractor's end.
pub(super) struct Writer {
    sender: SyncSender<Vec<Step>>,
    batch: Vec<Step>,
    bytes: usize,
}

/// The writer has stopped, with an error that it will tell itself.
#[derive(Debug)]
pub(super) struct Stopped;

/// A way from an extractor to a writer.
pub(super) fn writer() -> (Writer, Steps) {
    let (sender, receiver) = sync_channel(BATCHES);
    (Writer { sender, batch: Vec::with_capacity(BATCH), bytes: 0 }, Steps(receiver))
}

impl Writer {
    pub(super) fn open(&mut self, file: OwnedFd, path: &[u8]) -> Result<(), Stopped> {
        self.step(Step::Open(file, path.to_vec()))
    }

    pub(super) fn data(&mut self, data: Slice) -> Result<(), Stopped> {
        self.bytes += data.bytes().len();
        self.step(Step::Data(data))
    }

    pub(super) fn close(&mut self, attributes: Attributes) -> Result<(), Stopped> {
        self.step(Step::Close(attributes))
    }

    fn step(&mut self, step: Step) -> Result<(), Stopped> {
        self.batch.push(step);
        if self.batch.len() < BATCH && self.bytes < BATCH_BYTES { Ok(()) } else { self.flush() }
    }

    /// Hands over what is left, at the end.
    pub(super) fn flush(&mut self) -> Result<(), Stopped> {
        self.bytes = 0;
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH));
        self.sender.send(batch).map_err(|_| Stopped)
    }
}

/// The writer's end.
pub(super) struct Steps(Receiver<Vec<Step>>);

impl Steps {
    /// Does what comes until the extractor has gone, on a thread of its own that is shut in for good if there are `walls`.
    /// Returns how many extended attributes the file system could not hold.
    pub(super) fn write(
        self,
        mut notes: Option<Notes<'_>>,
        created: Created,
        walls: bool,
    ) -> Result<u64, Error> {
        if walls {
            confine_writer().map_err(|errno| Error::Confine(errno.into()))?;
        }
        let mut dropped_xattrs = 0;
        let mut file = None;
        for step in self.0.into_iter().flatten() {
            match (step, &file) {
                (Step::Open(opened, path), _) => file = Some((opened, path)),
                (Step::Data(data), Some((file, path))) => {
                    write_all(file, data.bytes(), path)?;
                    if let Some(notes) = &mut notes {
                        notes.hasher.update(data.bytes());
                    }
                }
                (Step::Close(attributes), Some((open, path))) => {
                    let content = match &mut notes {
                        Some(notes) => Content::Dense(notes.hasher.finish()),
                        None => Content::None,
                    };
                    let notes = notes.as_ref();
                    dropped_xattrs += settle(open, &attributes, content, notes, created, path)?;
                    file = None;
                }
                (Step::Data(_) | Step::Close(_), None) => {}
            }
        }
        Ok(dropped_xattrs)
    }
}

fn write_all(file: &OwnedFd, mut data: &[u8], path: &[u8]) -> Result<(), Error> {
    while !data.is_empty() {
        match write(file, data) {
            Ok(count) => data = data.get(count..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::entry("write file", path, errno)),
        }
    }
    Ok(())
}

/// Gives a file that has its contents all that its entry says of it, and notes it. Returns how many extended attributes the
/// file system could not hold.
///
/// A file must be noted before it is closed: until then its inode number belongs to it, whoever removes its name.
pub(super) fn settle(
    file: &OwnedFd,
    attributes: &Attributes,
    content: Content,
    notes: Option<&Notes<'_>>,
    created: Created,
    path: &[u8],
) -> Result<u64, Error> {
    let failed = |action| move |errno| Error::entry(action, path, errno);
    let Attributes { mode, uid, gid, mtime, ref xattrs, entry } = *attributes;
    if created.own != Some((uid, gid)) {
        fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .map_err(failed("change owner of"))?;
    }
    if !created.exact_modes || mode & SPECIAL_BITS != 0 {
        fchmod(file, Mode::from_bits_truncate(mode)).map_err(failed("change mode of"))?;
    }
    let mut dropped = 0;
    for (name, value) in xattrs {
        // After the change of owner, which takes capabilities away.
        dropped +=
            set_xattr(name, path, |name| crate::sys::xattr::fsetxattr(file.as_fd(), name, value))?;
    }
    let time = time_spec(mtime);
    futimens(file, &time, &time).map_err(failed("set times of"))?;
    if let Some(notes) = notes {
        let stat = fstat(file).map_err(failed("look at"))?;
        notes.made(&stat, entry, content, xattrs);
    }
    Ok(dropped)
}
