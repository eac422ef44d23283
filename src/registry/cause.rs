//! What is at the bottom of an error of the HTTP library.

use std::error::Error as StdError;
use std::fmt;
use std::io;

/// An error of the HTTP library. What it shows is the innermost cause, the one that tells something.
pub struct Cause(pub(super) Box<dyn StdError + Send + Sync>);

impl Cause {
    /// Takes the address out, which may hold a signature.
    pub(super) fn new(error: reqwest::Error) -> Self {
        Self(error.without_url().into())
    }

    /// The cause in the I/O error that reading a body gave.
    pub(super) fn of_body(error: io::Error) -> Self {
        match error.downcast::<reqwest::Error>() {
            Ok(error) => Self::new(error),
            Err(error) => Self(error.into()),
        }
    }

    pub(super) fn is_connect(&self) -> bool {
        find::<reqwest::Error>(&*self.0).is_some_and(reqwest::Error::is_connect)
    }

    pub(super) fn is_timeout(&self) -> bool {
        find::<reqwest::Error>(&*self.0).is_some_and(reqwest::Error::is_timeout)
    }

    pub(super) fn is_refused(&self) -> bool {
        self.io().is_some_and(|kind| kind == io::ErrorKind::ConnectionRefused)
    }

    /// Whether the other side ended the connection while it was made.
    pub(super) fn is_hang_up(&self) -> bool {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
        self.io().is_some_and(|kind| matches!(kind, BrokenPipe | ConnectionReset | UnexpectedEof))
    }

    fn io(&self) -> Option<io::ErrorKind> {
        find::<io::Error>(&*self.0).map(io::Error::kind)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut innermost: &(dyn StdError + 'static) = &*self.0;
        while let Some(inner) = next(innermost) {
            innermost = inner;
        }
        match innermost.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            Some(errno) => f.write_str(&nix::errno::Errno::from_raw(errno).desc().to_lowercase()),
            None => fmt::Display::fmt(innermost, f),
        }
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cause({self})")
    }
}

impl StdError for Cause {}

/// The error behind `error`, also where an I/O error hides it.
fn next<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error.downcast_ref::<io::Error>() {
        Some(io) => io.get_ref().map(|inner| inner as _),
        None => error.source(),
    }
}

/// The first cause of the type `T`.
pub(super) fn find<'a, T: StdError + 'static>(
    error: &'a (dyn StdError + 'static),
) -> Option<&'a T> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        cause = next(error);
    }
    None
}
