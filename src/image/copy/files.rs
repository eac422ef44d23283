//! Files by name, from a folder or from an archive that is read in place.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::OFlag;

use crate::image::Error;
use crate::sys::fs::open_beneath;
use crate::sys::random::getrandom;
use crate::unpack::{self, Compression, Limits, Member};

/// The most files that an archive of images may hold: some thousand images.
const MAX_MEMBERS: u64 = 100_000;
/// The most bytes that their names may have together.
const MAX_NAMES: usize = 16 << 20;

/// Where the files are.
#[derive(Debug)]
pub(super) struct Files {
    path: PathBuf,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Folder(OwnedFd),
    Archive { file: Arc<File>, members: HashMap<Vec<u8>, Member> },
}

impl Files {
    /// The files below the folder `path`.
    pub(super) fn folder(path: &Path) -> Result<Self, Error> {
        let mut options = fs::OpenOptions::new();
        let opened = options.read(true).custom_flags(libc::O_DIRECTORY).open(path);
        let folder = opened.map_err(failed("open", path))?;
        Ok(Self { path: path.to_owned(), kind: Kind::Folder(folder.into()) })
    }

    /// The files in the archive `path`. A packed one is unpacked into a temporary file first, for its parts are wanted
    /// in another order than it has them in.
    pub(super) fn archive(path: &Path) -> Result<Self, Error> {
        let mut file = File::open(path).map_err(failed("open", path))?;
        if !file.metadata().map_err(failed("open", path))?.is_file() {
            let why = "it is not a file";
            return Err(Error::NotAnImage { path: path.display().to_string(), why });
        }
        let mut magic = Vec::new();
        let read = Read::by_ref(&mut file).take(16).read_to_end(&mut magic);
        read.map_err(failed("read", path))?;
        file.seek(SeekFrom::Start(0)).map_err(failed("seek", path))?;
        let compression = Compression::sniff(&magic);
        if compression != Compression::None {
            let mut plain = temporary()?;
            let unpacked = unpack::decoder(compression, file)
                .and_then(|mut tar| io::copy(&mut tar, &mut plain));
            unpacked.map_err(failed("decompress", path))?;
            plain.seek(SeekFrom::Start(0)).map_err(failed("seek", path))?;
            file = plain;
        }
        let members = members(&file, path)?;
        Ok(Self { path: path.to_owned(), kind: Kind::Archive { file: Arc::new(file), members } })
    }

    /// What the user called it.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file `name`, reached over no link and never waited for.
    pub(super) fn open(&self, name: &str) -> io::Result<Section> {
        match &self.kind {
            Kind::Folder(folder) => {
                let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
                let file = File::from(open_beneath(folder.as_fd(), name.as_bytes(), flags)?);
                let metadata = file.metadata()?;
                if !metadata.is_file() {
                    return Err(io::Error::other("it is not a file"));
                }
                Ok(Section { file: Arc::new(file), at: 0, end: metadata.len() })
            }
            Kind::Archive { file, members } => {
                let member = members.get(name.as_bytes()).ok_or(io::ErrorKind::NotFound)?;
                let end = member.offset.saturating_add(member.size);
                Ok(Section { file: Arc::clone(file), at: member.offset, end })
            }
        }
    }

    /// All of the file `name`, which has at most `limit` bytes.
    pub(super) fn read(&self, name: &str, limit: u64) -> Result<Vec<u8>, Error> {
        let path = self.path.join(name);
        let section = self.open(name).map_err(failed("open", &path))?;
        if section.size() > limit {
            let why = "a document in it is too large";
            return Err(Error::NotAnImage { path: self.path.display().to_string(), why });
        }
        let mut bytes = Vec::new();
        section.take(limit).read_to_end(&mut bytes).map_err(failed("read", &path))?;
        Ok(bytes)
    }
}

/// The bytes of one file.
#[derive(Debug)]
pub(super) struct Section {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Section {
    /// How many are left to read.
    pub(super) fn size(&self) -> u64 {
        self.end - self.at
    }

    /// Passes over the first `count` bytes.
    pub(super) fn skip(mut self, count: u64) -> Self {
        self.at = self.at.saturating_add(count).min(self.end);
        self
    }
}

impl Read for Section {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.size()).unwrap_or(usize::MAX).min(buf.len());
        let count = self.file.read_at(&mut buf[..most], self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

fn members(file: &File, path: &Path) -> Result<HashMap<Vec<u8>, Member>, Error> {
    let limits = Limits { entries: MAX_MEMBERS, ..Limits::default() };
    let (mut found, mut names) = (HashMap::new(), 0);
    let looked = unpack::members(file, &limits, |name, member| {
        let name = name.strip_prefix(b"./").unwrap_or(name);
        names += name.len();
        if names <= MAX_NAMES {
            found.insert(name.to_owned(), member);
        }
    });
    looked.map_err(|source| Error::Layer { layer: path.display().to_string(), source })?;
    if names > MAX_NAMES {
        let why = "the names in it are too long";
        return Err(Error::NotAnImage { path: path.display().to_string(), why });
    }
    Ok(found)
}

/// A file without a name, which goes with its last descriptor.
fn temporary() -> Result<File, Error> {
    let folder = std::env::temp_dir();
    let path = unique(&folder)?;
    let mut options = fs::OpenOptions::new();
    let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path);
    let file = file.map_err(failed("create", &path))?;
    fs::remove_file(&path).map_err(failed("remove", &path))?;
    Ok(file)
}

/// A name in `folder` that nobody else has.
pub(super) fn unique(folder: &Path) -> Result<PathBuf, Error> {
    let mut random = [0; 8];
    getrandom(&mut random).map_err(io::Error::from).map_err(failed("name a file in", folder))?;
    Ok(folder.join(format!(".mydocker-{:016x}", u64::from_ne_bytes(random))))
}

/// Puts the verb and the path on an I/O error.
pub(super) fn failed(verb: &'static str, path: &Path) -> impl Fn(io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::Io { verb, path: path.clone(), source }
}
