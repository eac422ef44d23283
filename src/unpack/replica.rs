//! The tree of an image that another image begins with: linked as a whole, as its list tells.
//!
//! This is cheaper than going through its layers' headers once more ([`super::replay_layer`]): nothing is parsed, moved or
//! merged, and files are linked on several threads.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstatat, futimens, mkdirat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, linkat};

use super::list::{ListError, ListReader, Origins, Record, RecordKind, file_kind, mtime};
use super::note::{Content, made};
use super::path::split;
use crate::sys::fs::{PATH_DIRECTORY, READ_DIRECTORY, open_beneath};
use crate::sys::xattr::fsetxattr;

/// How many threads link. More would wait for the file system's journal.
const LINKERS: usize = 4;
/// How many files of a directory are linked at a time, by one thread.
const BATCH: usize = 256;

/// Files of one directory.
struct Batch {
    dir: Vec<u8>,
    files: Vec<Record>,
}

/// Makes `dest`, an empty directory, what `list` says of the tree in `donor`: directories are made, all else is linked, and
/// noted in `origins`. Both must be on the same mount.
///
/// # Errors
/// What is wrong with the list, or with the first file that is not what it says. What has been made then is to be removed.
pub fn replicate(
    donor: BorrowedFd<'_>,
    mut list: ListReader<impl Read>,
    dest: BorrowedFd<'_>,
    origins: &Origins,
) -> Result<(), ListError> {
    let linkers = thread::available_parallelism().map_or(1, usize::from).min(LINKERS);
    let (sender, receiver) = sync_channel(2 * linkers);
    let receiver = Mutex::new(receiver);
    let directories = thread::scope(|scope| {
        let link = || link_all(donor, dest, &receiver, origins);
        let start = |_| thread::Builder::new().spawn_scoped(scope, link).ok();
        let threads: Vec<_> = (0..linkers).filter_map(start).collect();
        if threads.is_empty() {
            return Err(ListError::tree(b"", Errno::EAGAIN));
        }
        let made = make_directories(&mut list, dest, &sender);
        drop(sender);
        for thread in threads {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        made
    })?;
    // When nothing is made in them any more. Those further down come first, as a mode may keep its owner out.
    for directory in directories.iter().rev() {
        describe(dest, directory).map_err(|errno| ListError::tree(&directory.path, errno))?;
    }
    Ok(())
}

/// Makes the directories, in the list's order, and hands everything else over; returns the directories.
fn make_directories(
    list: &mut ListReader<impl Read>,
    dest: BorrowedFd<'_>,
    linkers: &SyncSender<Batch>,
) -> Result<Vec<Record>, ListError> {
    let mut directories = Vec::new();
    let mut open: Vec<Batch> = Vec::new();
    let mut parent: Option<(Vec<u8>, OwnedFd)> = None;
    while let Some(record) = list.next_record()? {
        let (dir, name) = split(&record.path);
        while open.last().is_some_and(|batch| !record.path.is_empty() && batch.dir != dir) {
            if !hand_over(open.pop(), linkers) {
                return Ok(directories);
            }
        }
        if record.kind != RecordKind::Directory {
            let Some(batch) = open.last_mut() else { continue };
            batch.files.push(record);
            if batch.files.len() >= BATCH {
                let full =
                    Batch { dir: batch.dir.clone(), files: std::mem::take(&mut batch.files) };
                if !hand_over(Some(full), linkers) {
                    return Ok(directories);
                }
            }
            continue;
        }
        if !name.is_empty() {
            let failed = |errno| ListError::tree(&record.path, errno);
            let fd = match parent.take() {
                Some((path, fd)) if path == dir => fd,
                _ => open_beneath(dest, dir, PATH_DIRECTORY).map_err(failed)?,
            };
            mkdirat(&fd, name, Mode::S_IRWXU).map_err(failed)?;
            parent = Some((dir.to_vec(), fd));
        }
        open.push(Batch { dir: record.path.clone(), files: Vec::new() });
        directories.push(record);
    }
    while let Some(batch) = open.pop() {
        hand_over(Some(batch), linkers);
    }
    Ok(directories)
}

/// Returns `false` if nobody takes anything any more, because all have failed.
fn hand_over(batch: Option<Batch>, linkers: &SyncSender<Batch>) -> bool {
    match batch.filter(|batch| !batch.files.is_empty()) {
        Some(batch) => linkers.send(batch).is_ok(),
        None => true,
    }
}

fn link_all(
    donor: BorrowedFd<'_>,
    dest: BorrowedFd<'_>,
    batches: &Mutex<Receiver<Batch>>,
    origins: &Origins,
) -> Result<(), ListError> {
    loop {
        let next = batches.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Batch { dir, files }) = next else { return Ok(()) };
        let open = |root| {
            open_beneath(root, &dir, PATH_DIRECTORY).map_err(|errno| ListError::tree(&dir, errno))
        };
        let (from, to) = (open(donor)?, open(dest)?);
        for record in files {
            link(&record, &from, &to, origins)
                .map_err(|errno| ListError::tree(&record.path, errno))?;
        }
    }
}

fn link(record: &Record, from: &OwnedFd, to: &OwnedFd, origins: &Origins) -> nix::Result<()> {
    let (_, name) = split(&record.path);
    linkat(from, name, to, name, AtFlags::empty())?;
    let stat = fstatat(to, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    if !is(record, &stat) {
        return Err(Errno::ESTALE);
    }
    // One more name of a file has been noted with the first.
    let Some(origin) = record.origin.filter(|_| !record.linked) else { return Ok(()) };
    let content = match record.kind {
        RecordKind::File { digest, sparse: true, .. } => Content::Sparse(digest),
        RecordKind::File { digest, .. } => Content::Dense(digest),
        _ => Content::None,
    };
    origins.note(made(&stat, origin, content, !record.xattrs.is_empty()));
    Ok(())
}

/// Whether a file is what its record says, as far as stat(2) tells.
fn is(record: &Record, stat: &FileStat) -> bool {
    let kind = file_kind(stat.st_mode);
    let same_kind = match record.kind {
        RecordKind::File { size, .. } => {
            kind == SFlag::S_IFREG && u64::try_from(stat.st_size) == Ok(size)
        }
        RecordKind::Symlink { .. } => kind == SFlag::S_IFLNK,
        RecordKind::Block { .. } => kind == SFlag::S_IFBLK,
        RecordKind::Character { .. } => kind == SFlag::S_IFCHR,
        RecordKind::Fifo => kind == SFlag::S_IFIFO,
        RecordKind::Directory => false,
    };
    // Nobody can set the mode of a symbolic link.
    let mode = kind == SFlag::S_IFLNK || stat.st_mode & 0o7777 == record.mode;
    let owner = (stat.st_uid, stat.st_gid) == (record.uid, record.gid);
    same_kind && mode && owner && mtime(stat) == record.mtime
}

fn describe(dest: BorrowedFd<'_>, directory: &Record) -> nix::Result<()> {
    let Record { path, mode, uid, gid, mtime, xattrs, .. } = directory;
    let fd = open_beneath(dest, path, READ_DIRECTORY)?;
    fchown(&fd, Some(Uid::from_raw(*uid)), Some(Gid::from_raw(*gid)))?;
    fchmod(&fd, Mode::from_bits_truncate(*mode))?;
    for (name, value) in xattrs {
        fsetxattr(fd.as_fd(), name, value)?;
    }
    let time = TimeSpec::new(mtime.0, mtime.1.into());
    futimens(&fd, &time, &time)
}
