//! A layer on its way in: what an earlier process has left of it, then the rest from the source, verified as a whole
//! and kept on the way.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::layers::Build;
use super::{Error, Event, Observer};
use crate::oci::descriptor::Descriptor;
use crate::oci::digest::{Digest, Mismatch, VerifyReader};
use crate::registry;
use crate::store::{Partial, Staging};

/// The verified bytes of a layer that the store lacks; at its end the layer is in the staging folder.
pub(super) struct Arrival<'a> {
    inner: VerifyReader<Resumed<'a>>,
    /// Until the staging folder has it.
    partial: Option<Partial>,
    staging: &'a Staging,
    digest: Digest,
    seen: u64,
    observer: &'a dyn Observer,
    stopped: &'a AtomicBool,
}

/// Why a layer stops coming that nobody needs any more.
#[derive(Debug, thiserror::Error)]
#[error("another layer has failed")]
struct Stopped;

impl<'a> Arrival<'a> {
    /// Begins, or goes on where an earlier process stopped.
    pub(super) fn begin(build: &'a Build<'_>, layer: &Descriptor) -> Result<Self, Error> {
        let mut partial = build.store.partial(build.staging, layer)?;
        let start = partial.start();
        let rest = match build.source.open(layer, start) {
            Ok(rest) => rest,
            Err(error) => {
                if error.is_network() {
                    partial.keep();
                }
                return Err(error);
            }
        };
        let resumed = Resumed { file: partial.file()?, left: start, rest, failed: None };
        let inner = VerifyReader::new(resumed, layer.digest.clone(), layer.size);
        let (partial, digest) = (Some(partial), layer.digest.clone());
        let (staging, observer, stopped) = (build.staging, build.observer, &build.stopped);
        Ok(Self { inner, partial, staging, digest, seen: 0, observer, stopped })
    }

    /// Whether there was something of it already.
    pub(super) fn is_resumed(&self) -> bool {
        self.partial.as_ref().is_some_and(|partial| partial.start() > 0)
    }
}

impl Read for Arrival<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.stopped.load(Ordering::Acquire) {
            // What has come is kept if that of the layer is that failed.
            self.partial.take().into_iter().for_each(|partial| self.staging.hold(partial));
            return Err(io::Error::other(Stopped));
        }
        match self.inner.read(buf) {
            Ok(0) if !buf.is_empty() => {
                if let Some(mut partial) = self.partial.take() {
                    partial.complete().map_err(io::Error::other)?;
                    self.staging.hold(partial);
                }
                Ok(0)
            }
            Ok(count) => {
                self.seen += count as u64;
                self.observer.event(Event::Received(&self.digest, self.seen));
                Ok(count)
            }
            Err(error) => {
                // The network's fault and not that of the bytes: they are good for another try.
                let broken = error.get_ref().and_then(|inner| inner.downcast_ref());
                if broken.is_some_and(|broken: &registry::Error| !broken.is_lie()) {
                    self.partial.iter_mut().for_each(Partial::keep);
                }
                Err(error)
            }
        }
    }
}

/// How long a read waits for more of what it can take: about as long as a quick source needs for a buffer of the unpacker's.
const PATIENCE: Duration = Duration::from_millis(20);

/// The bytes of an earlier process, then those of the source, which are written behind them.
struct Resumed<'a> {
    file: File,
    /// How many of the earlier bytes are still to be read.
    left: u64,
    rest: Box<dyn Read + Send + 'a>,
    /// What went wrong with the source behind the bytes that have been handed out.
    failed: Option<io::Error>,
}

impl Read for Resumed<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.left > 0 {
            let count = (&mut self.file).take(self.left).read(buf)?;
            self.left -= count as u64;
            return if count == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(count) };
        }
        let count = self.receive(buf)?;
        self.file.write_all(&buf[..count])?;
        Ok(count)
    }
}

impl Resumed<'_> {
    /// Reads as much as there is room for, if it comes quickly: sources hand over small pieces, each of which would otherwise
    /// be written, hashed and told of by itself.
    fn receive(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let begun = Instant::now();
        let mut filled = 0;
        while filled < buf.len() && (filled == 0 || begun.elapsed() < PATIENCE) {
            match self.rest.read(&mut buf[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if filled == 0 => return Err(error),
                Err(error) => {
                    self.failed = Some(error);
                    break;
                }
            }
        }
        Ok(filled)
    }
}

/// Reads what is left of a layer that made no sense, and says so if its bytes are not the right ones: then they are to
/// blame, and not who made the layer.
pub(super) fn verdict(rest: &mut impl Read) -> Option<Mismatch> {
    let error = io::copy(rest, &mut io::sink()).err()?;
    Mismatch::of(&error).cloned()
}
