//! `mydocker cp`.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use super::failure::{Failure, While};
use super::{Global, Outcome, enter_user_namespace, output};
use crate::container::monitor::Failed;
use crate::container::{
    self, CopyError, Files, Hold, Source, find_destination, find_directory, find_source, open_files,
};
use crate::image::{self, Laid, Laying, Owners};

/// Copy files between a container and the host
///
/// SRC and DST are a path on this machine, or CONTAINER:PATH, or - for a tar archive on standard input or output. A
/// directory is copied with its name into a directory that is there, and under the name DST where nothing is; SRC/. is
/// what is in it.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Keep the owners' numbers, instead of root inside and yourself outside
    #[arg(short, long)]
    archive: bool,
    /// Copy what a symbolic link leads to
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Say nothing on a terminal
    #[arg(short, long)]
    quiet: bool,
    /// What to copy
    #[arg(value_name = "[CONTAINER:]SRC|-")]
    source: OsString,
    /// Where to
    #[arg(value_name = "[CONTAINER:]DST|-")]
    destination: OsString,
}

/// One end of a copy.
enum End {
    Container(String, Vec<u8>),
    Here(Vec<u8>),
    Stream,
}

impl End {
    /// As docker tells them apart: a colon makes a container's path, unless the text begins as a path does.
    fn new(text: &OsString) -> Self {
        let bytes = text.as_bytes();
        if bytes == b"-" {
            return Self::Stream;
        }
        let colon = bytes.iter().position(|byte| *byte == b':');
        match colon.filter(|_| !matches!(bytes, [b'/' | b'.', ..])) {
            Some(at) => {
                let (name, path) = (bytes.get(..at), bytes.get(at + 1..));
                let name = String::from_utf8_lossy(name.unwrap_or_default()).into_owned();
                Self::Container(name, path.unwrap_or_default().to_vec())
            }
            None => Self::Here(bytes.to_vec()),
        }
    }
}

pub(super) fn run(global: &Global, args: &Args) -> Outcome {
    // Whatever goes wrong, docker's code for it is this one.
    copy(global, args).map_err(|failure| failure.with_code(1))
}

fn copy(global: &Global, args: &Args) -> Outcome {
    let (source, destination) = (args.source.display(), args.destination.display());
    let what = format!("cp {source} {destination}");
    let wrong = |cause: &str| {
        let hint =
            "one of both is a path of a container: cp CONTAINER:PATH DIR, cp FILE CONTAINER:PATH";
        Err(Failure::new(&what, cause, hint))
    };
    if args.source.is_empty() || args.destination.is_empty() {
        return wrong("a path must not be empty");
    }
    let (from, to) = (End::new(&args.source), End::new(&args.destination));
    let laid = match (&from, &to) {
        (End::Container(..), End::Container(..)) => {
            return wrong("copying between containers is not supported");
        }
        (End::Container(name, path), End::Stream) => {
            Copy::open(global, args, name, Hold::Running, &what)?.write_stream(path)?;
            global.tell_container(name, "archive-path", &[]);
            return Ok(0);
        }
        (End::Container(name, path), End::Here(local)) => {
            let laid =
                Copy::open(global, args, name, Hold::Frozen, &what)?.take_out(path, local)?;
            global.tell_container(name, "archive-path", &[]);
            laid
        }
        (End::Stream, End::Container(name, path)) => {
            Copy::open(global, args, name, Hold::Running, &what)?.fill_from_stream(path)?;
            global.tell_container(name, "extract-to-dir", &[]);
            return Ok(0);
        }
        (End::Here(local), End::Container(name, path)) => {
            let copy = Copy::open(global, args, name, Hold::Frozen, &what)?;
            let bytes = copy.put_in(local, path)?;
            global.tell_container(name, "extract-to-dir", &[]);
            Laid { bytes, ..Laid::default() }
        }
        _ => return wrong("neither of both is a path of a container"),
    };
    for name in &laid.left_out {
        output::warning(&format!("{what}: left out `{name}`, which is a device"));
    }
    // As docker: nothing is said unless somebody is there to read it.
    if !args.quiet && io::stdout().is_terminal() && io::stderr().is_terminal() {
        let size = output::size(laid.bytes);
        output::message(&format!("Successfully copied {size} to {destination}\n"));
    }
    Ok(0)
}

struct Copy<'a> {
    files: Files,
    args: &'a Args,
    what: &'a str,
}

impl<'a> Copy<'a> {
    fn open(
        global: &Global,
        args: &'a Args,
        name: &str,
        hold: Hold,
        what: &'a str,
    ) -> Result<Self, Failure> {
        let containers = global.containers().doing(what)?;
        // The mounts of a container that runs belong to the user namespace that it was started in.
        if !nix::unistd::geteuid().is_root()
            && container::needs_mounts(&containers, name).doing(what)?
        {
            enter_user_namespace(global, |_| Vec::new())?;
        }
        let mut warn = |text: &str| output::warning(&format!("{what}: {text}"));
        let files = open_files(&containers, name, hold, &mut warn).doing(what)?;
        Ok(Self { files, args, what })
    }

    /// From the container to standard output.
    fn write_stream(&self, path: &[u8]) -> Result<(), Failure> {
        let (pipe, visit) = self.read(path)?;
        let mut archive = File::from(pipe);
        // What it is matters to nobody who gets the archive.
        let _ = archive.read(&mut [0]);
        let copied = io::copy(&mut archive, &mut io::stdout().lock());
        drop(archive);
        visit.end().doing(self.what)?;
        let copied = copied.and_then(|_| io::stdout().flush());
        let failed = |source| image::Error::Io { verb: "write", path: "-".into(), source };
        copied.map_err(failed).doing(self.what)
    }

    /// From the container to a path of the host.
    fn take_out(&self, path: &[u8], local: &[u8]) -> Result<Laid, Failure> {
        let (pipe, visit) = self.read(path)?;
        let mut archive = File::from(pipe);
        let mut kind = [0];
        let laid = match archive.read_exact(&mut kind) {
            Ok(()) => self.lay(archive, path, local, kind == [b'd']),
            // It has something to say.
            Err(_) => Ok(Laid::default()),
        };
        match (visit.end().doing(self.what), laid) {
            // The end of what it wrote to, it does not take for an error.
            (Ok(()), laid) => laid,
            (Err(failure), _) => Err(failure),
        }
    }

    fn lay(
        &self,
        archive: File,
        path: &[u8],
        local: &[u8],
        is_directory: bool,
    ) -> Result<Laid, Failure> {
        let host = host().doing(self.what)?;
        let base = container::base(path);
        let found = find_destination(host.as_fd(), &absolute(local), &base, is_directory);
        let found = found.map_err(container::Error::from).doing(self.what)?;
        let laying = Laying {
            dir: found.dir.as_fd(),
            strip: &found.strip,
            under: &found.under,
            owners: if self.args.archive { Owners::Archive } else { Owners::Caller },
            follow: false,
            harmless: true,
        };
        let laid = image::lay_from(archive, &laying, &shown(local)).doing(self.what)?;
        if !is_directory && !laid.left_out.is_empty() {
            let path = String::from_utf8_lossy(path).into_owned();
            let error = container::Error::from(CopyError::Special { path, kind: "device" });
            return Err(error).doing(self.what);
        }
        Ok(laid)
    }

    /// Has a process among the container's files pack what is at `path`: first a byte that says whether it is a directory,
    /// then the archive.
    fn read(&self, path: &[u8]) -> Result<(OwnedFd, container::Visit), Failure> {
        let (read, write) = pipe().doing(self.what)?;
        let follow = self.args.follow_link;
        let visit = self.files.visit(write, |pipe, root| {
            let root = begin(root)?;
            let source = find_source(root.as_fd(), path, follow).map_err(container::Error::from);
            let source = told(source)?;
            // If nobody reads it, there is nobody to pack it for.
            let _ = nix::unistd::write(&pipe, if source.is_directory { b"d" } else { b"f" });
            let Source { dir, name, base, .. } = source;
            told(image::pack_to(dir.as_fd(), &name, &base, pipe, &shown(path))).map(drop)
        });
        Ok((read, visit.doing(self.what)?))
    }

    /// From a path of the host into the container; says how many bytes.
    fn put_in(&self, local: &[u8], path: &[u8]) -> Result<u64, Failure> {
        let host = host().doing(self.what)?;
        let source = find_source(host.as_fd(), &absolute(local), self.args.follow_link);
        let source = source.map_err(container::Error::from).doing(self.what)?;
        let owners = if self.args.archive { Owners::Archive } else { Owners::Root };
        let (read, write) = pipe().doing(self.what)?;
        let (base, is_directory) = (source.base.clone(), source.is_directory);
        let visit = self.files.visit(read, |pipe, root| {
            let root = begin(root)?;
            let found = find_destination(root.as_fd(), path, &base, is_directory);
            let found = told(found.map_err(container::Error::from))?;
            lay_inside(pipe, found.dir.as_fd(), [&found.strip, &found.under], owners, path)
        });
        let visit = visit.doing(self.what)?;
        let Source { dir, name, base, .. } = source;
        let packed = image::pack_to(dir.as_fd(), &name, &base, write, &shown(local));
        visit.end().doing(self.what)?;
        packed.doing(self.what)
    }

    /// From standard input into a directory of the container.
    fn fill_from_stream(&self, path: &[u8]) -> Result<(), Failure> {
        let (read, write) = pipe().doing(self.what)?;
        let visit = self.files.visit(read, |pipe, root| {
            let root = begin(root)?;
            let dir = find_directory(root.as_fd(), path).map_err(container::Error::from);
            lay_inside(pipe, told(dir)?.as_fd(), [b"", b""], Owners::Archive, path)
        });
        let visit = visit.doing(self.what)?;
        let passed = image::unpack_to(io::stdin(), write, Path::new("-"));
        visit.end().doing(self.what)?;
        passed.doing(self.what)
    }
}

/// What the process among the container's files does first: it gives up all that its work does not need.
fn begin(root: Result<OwnedFd, container::Error>) -> Result<OwnedFd, Failed> {
    let root = told(root)?;
    told(image::only_files())?;
    Ok(root)
}

fn lay_inside(
    pipe: OwnedFd,
    dir: BorrowedFd<'_>,
    [strip, under]: [&[u8]; 2],
    owners: Owners,
    path: &[u8],
) -> Result<(), Failed> {
    // This process sees nothing but the container: its links lead nowhere else.
    let laying = Laying { dir, strip, under, owners, follow: true, harmless: false };
    told(image::lay_from(File::from(pipe), &laying, &shown(path))).map(drop)
}

/// An error in words, for the process that waits.
fn told<T, E>(result: Result<T, E>) -> Result<T, Failed>
where
    Result<T, E>: While<T>,
{
    result.doing("").map_err(|failure| failure.into_failed(1))
}

/// A pipe, closed for programs.
fn pipe() -> Result<(OwnedFd, OwnedFd), container::Error> {
    pipe2(OFlag::O_CLOEXEC).map_err(|errno| container::Error::Io {
        verb: "make",
        path: "a pipe".into(),
        source: errno.into(),
    })
}

/// The host's root directory.
fn host() -> Result<OwnedFd, container::Error> {
    let path = PathBuf::from("/");
    let opened = File::open(&path).map(OwnedFd::from);
    opened.map_err(|source| container::Error::Io { verb: "open", path, source })
}

/// A path of the host from its root, with what its end says of it.
fn absolute(path: &[u8]) -> Vec<u8> {
    if path.starts_with(b"/") {
        return path.to_vec();
    }
    let here = std::env::current_dir().unwrap_or_else(|_| "/".into());
    [here.as_os_str().as_bytes(), b"/", path].concat()
}

fn shown(path: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(path.to_vec()))
}
