//! Files to and from archives, for those who copy them between a container and the host.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use super::Error;
use crate::unpack::{self, Compression, confine, decoder, pack_files};
pub use crate::unpack::{Laid, Laying, Owners};

/// How much is passed on at a time, in bytes.
const CHUNK: usize = 256 << 10;

/// Writes the file `name` of `dir`, or with an empty name all of `dir`, to the pipe `out`, as an archive that calls it `top`.
///
/// `shown` is its name for messages. Says the sum of the sizes of all files, in bytes. That the pipe's other end is closed is no error here: who closed it knows why.
///
/// # Errors
/// What could not be read.
pub fn pack_to(
    dir: BorrowedFd<'_>,
    name: &[u8],
    top: &[u8],
    out: OwnedFd,
    shown: &Path,
) -> Result<u64, Error> {
    let mut out = BufWriter::with_capacity(CHUNK, File::from(out));
    let packed = pack_files(dir, name, top, &mut out);
    let written = match packed {
        Ok(bytes) => out.flush().map(|()| bytes),
        Err(unpack::Error::Write(source)) => Err(source),
        Err(source) => return Err(Error::Pack { path: shown.to_owned(), source }),
    };
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(0),
        written => written.map_err(|source| Error::Pack {
            path: shown.to_owned(),
            source: unpack::Error::Write(source),
        }),
    }
}

/// Lays the archive that comes out of a pipe into a directory.
///
/// # Errors
/// [`Error::Lay`].
pub fn lay_from(tar: impl Read, laying: &Laying<'_>, shown: &Path) -> Result<Laid, Error> {
    unpack::lay(tar, laying).map_err(|source| Error::Lay { path: shown.to_owned(), source })
}

/// Passes an archive on to a pipe, unpacked, however it is packed.
///
/// # Errors
/// When it cannot be read. That the pipe's other end is closed is no error here: who closed it knows why.
pub fn unpack_to(archive: impl Read + Send, out: OwnedFd, shown: &Path) -> Result<(), Error> {
    let failed = |source| Error::Io { verb: "read", path: shown.to_owned(), source };
    let mut start = Vec::new();
    let mut archive = BufReader::with_capacity(CHUNK, archive);
    let count = Compression::SNIFF as u64;
    archive.by_ref().take(count).read_to_end(&mut start).map_err(failed)?;
    let compression = Compression::sniff(&start);
    let whole = io::Cursor::new(start).chain(archive);
    let mut unpacked = decoder(compression, whole).map_err(failed)?;
    let mut out = File::from(out);
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = match unpacked.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read.map_err(failed)?,
        };
        match out.write_all(buffer.get(..count).unwrap_or_default()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            written => written.map_err(failed)?,
        }
    }
}

/// Lets this process do nothing any more but work on files: execute nothing, connect to nobody, mount nothing.
///
/// # Errors
/// When the kernel refuses to hold it to that.
pub fn only_files() -> Result<(), Error> {
    confine::only_files().map_err(|errno| Error::Io {
        verb: "shut in",
        path: "the process among the container's files".into(),
        source: errno.into(),
    })
}
