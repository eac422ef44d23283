//! Where an archive is written to.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::Error;
use crate::sys::random::getrandom;

/// Where an archive or a list is to be written.
#[derive(Clone, Debug)]
pub enum Output {
    /// A file, which gets its name when all of it is written.
    File(PathBuf),
    /// The standard output.
    Stdout,
}

/// An output that is being written to. Unless it is finished, a file does not appear.
#[derive(Debug)]
pub(super) struct Sink {
    shown: PathBuf,
    out: Out,
    temporary: Option<PathBuf>,
}

#[derive(Debug)]
enum Out {
    File(File),
    Stdout(io::Stdout),
}

impl Output {
    fn shown(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Stdout => Path::new("-"),
        }
    }

    /// Opens the output. A device or pipe is written to as it is; a file is written beside its final name.
    pub(super) fn open(&self) -> Result<Sink, Error> {
        let shown = self.shown().to_owned();
        let failed = |source| Error::Io { verb: "create", path: shown.clone(), source };
        let Self::File(path) = self else {
            return Ok(Sink { shown, out: Out::Stdout(io::stdout()), temporary: None });
        };
        let mut options = fs::OpenOptions::new();
        options.write(true).mode(0o600);
        if fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
            let file = options.open(path).map_err(failed)?;
            return Ok(Sink { shown, out: Out::File(file), temporary: None });
        }
        let Some(name) = path.file_name().filter(|_| !path.is_dir()) else {
            return Err(failed(io::Error::from_raw_os_error(libc::EISDIR)));
        };
        let mut random = [0_u8; 8];
        getrandom(&mut random).map_err(io::Error::from).map_err(failed)?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{:016x}", u64::from_ne_bytes(random)));
        let temporary = path.with_file_name(hidden);
        let file = options.create_new(true).open(&temporary).map_err(failed)?;
        Ok(Sink { shown, out: Out::File(file), temporary: Some(temporary) })
    }
}

impl Sink {
    /// What a failure to write is called.
    pub(super) fn failed(shown: &Path) -> impl Fn(io::Error) -> Error {
        move |source| Error::Io { verb: "write", path: shown.to_owned(), source }
    }

    /// The output's name in messages.
    pub(super) fn shown(&self) -> &Path {
        &self.shown
    }

    /// Gives the file its name.
    pub(super) fn finish(mut self) -> Result<(), Error> {
        let shown = self.shown.clone();
        let failed = Self::failed(&shown);
        self.flush().map_err(&failed)?;
        if let Some(temporary) = self.temporary.take() {
            let renamed = fs::rename(&temporary, &shown);
            if renamed.is_err() {
                self.temporary = Some(temporary);
            }
            renamed.map_err(failed)?;
        }
        Ok(())
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            let _ = fs::remove_file(temporary);
        }
    }
}

impl Write for Sink {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match &mut self.out {
            Out::File(file) => file.write(buf),
            Out::Stdout(stdout) => stdout.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.out {
            Out::File(file) => file.flush(),
            Out::Stdout(stdout) => stdout.flush(),
        }
    }
}
