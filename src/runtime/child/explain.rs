//! A look at a program that could not be executed.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open, readlink};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::unistd::{AccessFlags, access, read};

use crate::runtime::explain::{Cause, FIRST_LINE, HEAD, HOST, Head, look, shown};
use crate::runtime::plan::PlannedProcess;

/// Why `execve(2)` has failed with `errno`, if the files tell.
pub(super) fn explain(process: &PlannedProcess, errno: Errno) -> Option<Cause> {
    match errno {
        Errno::ENOENT | Errno::ENOTDIR => {
            let there = process.candidates.iter().find_map(|path| missing(path));
            there.or_else(|| not_in_path(process))
        }
        Errno::EACCES => process.candidates.iter().find_map(|path| denied(path)),
        Errno::ENOEXEC => process.candidates.iter().find_map(|path| malformed(path)),
        Errno::ETXTBSY => Some(Cause::Busy),
        _ => None,
    }
}

fn not_in_path(process: &PlannedProcess) -> Option<Cause> {
    if process.program().contains('/') {
        return None;
    }
    let folders = process.candidates.iter().map(|path| {
        let path = path.to_bytes();
        path.get(..path.iter().rposition(|b| *b == b'/')?)
    });
    let folders: Vec<&[u8]> = folders.collect::<Option<_>>()?;
    Some(Cause::NotInPath(shown(&folders.join(&b':'))))
}

/// What a file that is there lacks, so that the kernel says that there is none.
fn missing(path: &CStr) -> Option<Cause> {
    let Some(file) = place(path) else {
        // A link, that leads nowhere.
        let target = readlink(path).ok()?.into_vec();
        return Some(Cause::Link(shown(&target)));
    };
    drop(file);
    match look(&head(path)?) {
        Head::Script(interpreter, true) => Some(Cause::CarriageReturn(shown(&interpreter))),
        Head::Script(interpreter, false) | Head::Elf(_, Some(interpreter)) => {
            let absent = place(&CString::new(interpreter.clone()).ok()?).is_none();
            if absent {
                return Some(Cause::Interpreter(shown(&interpreter)));
            }
            // An interpreter that is there, and lacks its own.
            match look(&head(&CString::new(interpreter).ok()?)?) {
                Head::Elf(_, Some(loader)) => Some(Cause::Interpreter(shown(&loader))),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Why a file that is there may not be executed.
fn denied(path: &CStr) -> Option<Cause> {
    if let Some(cause) = may_not(path) {
        return Some(cause);
    }
    let Head::Script(interpreter, _) = look(&head(path)?) else { return None };
    let cause = may_not(&CString::new(interpreter.clone()).ok()?);
    cause.map(|_| Cause::InterpreterPermission(shown(&interpreter)))
}

fn may_not(path: &CStr) -> Option<Cause> {
    let file = place(path)?;
    let mode = fstat(&file).ok()?.st_mode;
    match SFlag::from_bits_truncate(mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFDIR => return Some(Cause::Directory),
        SFlag::S_IFREG => {}
        _ => return Some(Cause::Special),
    }
    if fstatvfs(&file).is_ok_and(|found| found.flags().contains(FsFlags::ST_NOEXEC)) {
        return Some(Cause::Noexec);
    }
    access(path, AccessFlags::X_OK).is_err().then_some(Cause::Permission(mode & 0o7777))
}

/// What is wrong with the content of a file.
fn malformed(path: &CStr) -> Option<Cause> {
    place(path)?;
    let found = look(&head(path)?);
    let found = match found {
        // What is interpreted, is what is wrong.
        Head::Script(interpreter, _) if interpreter.len() >= FIRST_LINE - 2 => {
            return Some(Cause::FirstLine);
        }
        Head::Script(interpreter, _) => look(&head(&CString::new(interpreter).ok()?)?),
        found => found,
    };
    match found {
        Head::Empty => Some(Cause::Empty),
        Head::Elf(machine, _) if machine != HOST => Some(Cause::Architecture(machine)),
        _ => Some(Cause::Format),
    }
}

/// The file, as a place: opening it so has no effect on whatever it is.
fn place(path: &CStr) -> Option<OwnedFd> {
    open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).ok()
}

/// The first bytes of a regular file. Nobody waits for a pipe's other end, or becomes a terminal's.
fn head(path: &CStr) -> Option<Vec<u8>> {
    let looked = fstat(place(path)?).ok()?;
    if looked.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFREG.bits() {
        return None;
    }
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let file = nix::fcntl::openat(AT_FDCWD, path, flags, Mode::empty()).ok()?;
    let found = fstat(&file).ok()?;
    if (found.st_dev, found.st_ino) != (looked.st_dev, looked.st_ino) {
        return None;
    }
    let mut bytes = vec![0; HEAD];
    let count = read(&file, &mut bytes).ok()?;
    bytes.truncate(count);
    Some(bytes)
}
