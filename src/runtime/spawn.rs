//! The clone itself, with the namespaces that are joined instead of made.
//!
//! Most namespaces of the host's cannot be joined from within a new user namespace, and a PID namespace not by oneself at
//! all: so this process joins them, has its child there, and goes back. From another user or mount namespace there is no
//! way back: those are joined by a helper, which has the child in this process's place and ends.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sched::{setns, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::Pid;

use super::child;
use super::error::Error;
use super::plan::{Join, Plan};
use super::protocol::{self, ParentEnd};
use super::rootless;
use crate::sys::clone::{self, Clone, Namespaces};
use crate::sys::pidfd::pidfd_wait;
use crate::sys::socket;

/// Namespaces that cannot be left again.
const ONE_WAY: Namespaces = clone::NEWUSER | clone::NEWNS;

/// Makes the container's first process, which walks through `plan`, in the control group open as `cgroup`.
pub(super) fn clone_child(
    plan: &Plan,
    cgroup: Option<BorrowedFd<'_>>,
) -> Result<(Pid, OwnedFd, ParentEnd), Error> {
    let (parent, child) = protocol::pair().map_err(|source| Error::Talk { source })?;
    let one_way = plan.joins.iter().any(|join| join.kind & ONE_WAY != 0);
    // An ordinary user has no power over the host's namespaces, and so there is no way back to any of them.
    let no_return = !plan.joins.is_empty() && !rootless::has_all_ids();
    let cloned =
        if one_way || no_return { clone_by_helper(plan, cgroup) } else { clone_here(plan, cgroup) };
    match cloned? {
        Clone::Parent(pid, pidfd) => Ok((pid, pidfd, parent)),
        Clone::Child => {
            drop(parent);
            child::run(plan, child)
        }
    }
}

fn clone_here(plan: &Plan, cgroup: Option<BorrowedFd<'_>>) -> Result<Clone, Error> {
    let mut borrowed = Vec::with_capacity(plan.joins.len() + 1);
    let joined = plan.joins.iter().try_for_each(|join| borrow(join, &mut borrowed));
    let joined = joined.and_then(|()| offset_time(plan, Some(&mut borrowed)));
    let cloned = joined.and_then(|()| {
        clone::clone3(plan.namespaces, cgroup).map_err(|source| Error::Clone { source })
    });
    if matches!(cloned, Ok(Clone::Child)) {
        return cloned;
    }
    for Borrowed { own, kind } in &borrowed {
        setns(own, clone::flags(*kind)).map_err(|source| Error::Path {
            action: "return from the namespaces of",
            path: plan.joins.iter().map(|join| join.path.as_str()).collect(),
            source,
        })?;
    }
    cloned
}

/// A namespace that this process was in before it borrowed another.
struct Borrowed {
    own: File,
    kind: Namespaces,
}

fn borrow(join: &Join, borrowed: &mut Vec<Borrowed>) -> Result<(), Error> {
    let name = match join.kind {
        clone::NEWCGROUP => "cgroup",
        clone::NEWIPC => "ipc",
        clone::NEWNET => "net",
        clone::NEWPID => "pid",
        clone::NEWTIME => "time",
        clone::NEWUTS => "uts",
        _ => return Err(failed(join, Errno::EINVAL)),
    };
    let own = own(name)?;
    setns(&join.file, clone::flags(join.kind)).map_err(|source| failed(join, source))?;
    borrowed.push(Borrowed { own, kind: join.kind });
    Ok(())
}

fn own(name: &str) -> Result<File, Error> {
    let path = PathBuf::from(format!("/proc/self/ns/{name}"));
    File::open(&path).map_err(|error| io_error("open", path, &error))
}

fn failed(join: &Join, source: Errno) -> Error {
    Error::Path { action: "join namespace", path: join.path.clone().into(), source }
}

fn io_error(action: &'static str, path: PathBuf, error: &std::io::Error) -> Error {
    Error::Path { action, path, source: Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)) }
}

/// Makes the time namespace that the next child is in. Its clocks can only be set as long as nobody is in it, and so not by
/// a child that was cloned into it.
fn offset_time(plan: &Plan, borrowed: Option<&mut Vec<Borrowed>>) -> Result<(), Error> {
    let Some(offsets) = &plan.time_offsets else { return Ok(()) };
    let path = PathBuf::from("/proc/self/timens_offsets");
    let own = own("time")?;
    unshare(clone::flags(clone::NEWTIME)).map_err(|source| Error::Path {
        action: "make a time namespace for",
        path: path.clone(),
        source,
    })?;
    if let Some(borrowed) = borrowed {
        borrowed.push(Borrowed { own, kind: clone::NEWTIME });
    }
    let file = File::options().write(true).open(&path);
    file.and_then(|mut file| file.write_all(offsets.as_bytes()))
        .map_err(|error| io_error("write", path, &error))
}

/// What the helper has to say: 0 and the process, or the number of the join that failed, from 1, or past all of them for
/// what comes behind; and the error.
const MESSAGE: usize = 8;

fn clone_by_helper(plan: &Plan, cgroup: Option<BorrowedFd<'_>>) -> Result<Clone, Error> {
    let talk = |source| Error::Talk { source };
    let flags = SockFlag::SOCK_CLOEXEC;
    let pair = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags);
    let (here, there) = pair.map_err(talk)?;
    let helper = clone::clone3(0, None).map_err(|source| Error::Clone { source })?;
    let Clone::Parent(_, helper) = helper else {
        drop(here);
        return help(plan, cgroup, &there);
    };
    drop(there);
    let mut message = [0; MESSAGE];
    let received = socket::receive(&here, &mut message);
    // Its end says nothing that it has not said.
    let _ = pidfd_wait(&helper);
    let (length, descriptors) = received.map_err(talk)?;
    if length != MESSAGE {
        return Err(Error::ChildEnded);
    }
    let [number, value] = halves(message);
    match (number, descriptors.into_iter().next()) {
        (0, Some(pidfd)) => Ok(Clone::Parent(Pid::from_raw(value), pidfd)),
        (number, _) => {
            let source = Errno::from_raw(value);
            let join = usize::try_from(number - 1).ok().and_then(|at| plan.joins.get(at));
            Err(join.map_or(Error::Clone { source }, |join| failed(join, source)))
        }
    }
}

fn halves([a, b, c, d, e, f, g, h]: [u8; MESSAGE]) -> [i32; 2] {
    [i32::from_ne_bytes([a, b, c, d]), i32::from_ne_bytes([e, f, g, h])]
}

/// In the helper: joins everything and has the child. Only the child returns.
fn help(plan: &Plan, cgroup: Option<BorrowedFd<'_>>, parent: &OwnedFd) -> Result<Clone, Error> {
    let (number, value, pidfd) = match join_all(plan) {
        Err((number, errno)) => (number + 1, errno as i32, None),
        Ok(()) => match offset_time(plan, None)
            .map_err(|_| Errno::EPERM)
            .and_then(|()| clone::clone3_sibling(plan.namespaces, cgroup))
        {
            Ok(Clone::Child) => return Ok(Clone::Child),
            Ok(Clone::Parent(pid, pidfd)) => (0, pid.as_raw(), Some(pidfd)),
            Err(errno) => (plan.joins.len() + 1, errno as i32, None),
        },
    };
    let number = i32::try_from(number).unwrap_or(i32::MAX);
    let mut message = number.to_ne_bytes().to_vec();
    message.extend_from_slice(&value.to_ne_bytes());
    let descriptors: Vec<BorrowedFd<'_>> = pidfd.iter().map(AsFd::as_fd).collect();
    // If the parent is gone, nobody wants to know.
    let _ = socket::send(parent, &message, &descriptors);
    clone::exit(0)
}

/// Joins the user namespace when everything is joined that the caller's own privilege suffices for; what is left may belong
/// to that user namespace. The mount namespace comes last, as names mean something else behind it.
fn join_all(plan: &Plan) -> Result<(), (usize, Errno)> {
    let join = |(number, join): (usize, &Join)| {
        setns(&join.file, clone::flags(join.kind)).map_err(|errno| (number, errno))
    };
    let all = || plan.joins.iter().enumerate();
    let of = |kind: Namespaces| all().filter(move |(_, join)| join.kind & kind != 0);
    let mut rest = Vec::new();
    for one in all().filter(|(_, join)| join.kind & ONE_WAY == 0) {
        match join(one) {
            Err((_, Errno::EPERM)) => rest.push(one),
            joined => joined?,
        }
    }
    let mounts = of(clone::NEWNS).next();
    let entered = mounts.is_some_and(|one| join(one).is_ok());
    of(clone::NEWUSER).try_for_each(join)?;
    rest.into_iter().try_for_each(join)?;
    mounts.filter(|_| !entered).map_or(Ok(()), join)
}
