//! A blob on its way: a reader that takes up a broken download where it stopped.
//!
//! It asks the registry again, and not the server that the registry redirected to: the signature in that address has a
//! short life.

use std::collections::VecDeque;
use std::io::{self, Read};

use reqwest::Url;
use reqwest::blocking::{Client as Http, Response};
use reqwest::header::{self, HeaderMap};

use super::client::{Client, Wanted};
use super::config::{Source, Sources};
use super::error::Error;
use super::foreign::host_and_port;
use super::transport::content_length;
use crate::oci::descriptor::Descriptor;
use crate::oci::reference::Reference;

/// After so many bytes without trouble, the tries are counted from the start. With less, a registry that sends a byte
/// at a time could keep us for ever.
const WORTHWHILE: u64 = 1 << 20;

/// The bytes of a blob, as they come. Whoever reads them verifies them.
///
/// A body that is too long is handed out a little beyond its size, so that whoever verifies sees it, and ends there in
/// an error.
#[derive(Debug)]
pub struct Blob<'a> {
    client: &'a Client,
    source: Source,
    /// Where to ask when `source` is of no use.
    others: VecDeque<Source>,
    /// The mirrors that were of none, and why.
    failed: Vec<(Source, Error)>,
    descriptor: Descriptor,
    /// The bytes that the reader's owner has.
    position: u64,
    /// Bytes to pass over, from a server that cannot begin in the middle.
    skip: u64,
    response: Option<Response>,
    /// Tries that failed, and the bytes that came since the last of them.
    tries: u32,
    gained: u64,
}

impl<'a> Blob<'a> {
    pub(super) fn open(
        client: &'a Client,
        reference: &Reference,
        descriptor: &Descriptor,
        offset: u64,
    ) -> Result<Self, Error> {
        let Sources { mirrors, origin } = client.sources(reference)?;
        let mut others: VecDeque<Source> = mirrors.into();
        others.push_back(origin.clone());
        let mut blob = Self {
            client,
            source: others.pop_front().unwrap_or(origin),
            others,
            failed: Vec::new(),
            descriptor: descriptor.clone(),
            position: offset,
            skip: 0,
            response: None,
            tries: 0,
            gained: 0,
        };
        if offset < descriptor.size {
            blob.connect()?;
        }
        Ok(blob)
    }

    /// Asks for the rest of the blob, until somebody sends it or there is no point in asking again.
    fn connect(&mut self) -> Result<(), Error> {
        while self.response.is_none() {
            match self.request() {
                Ok((response, skip)) => (self.response, self.skip) = (Some(response), skip),
                Err(error) => self.fail(error)?,
            }
        }
        if self.source.is_mirror {
            self.client.lend(&self.descriptor.digest, &self.source);
        }
        Ok(())
    }

    /// Waits after a failure, or turns to the next place, or gives the failure back.
    fn fail(&mut self, error: Error) -> Result<(), Error> {
        self.response = None;
        self.tries = if self.gained >= WORTHWHILE { 1 } else { self.tries + 1 };
        let came = std::mem::take(&mut self.gained) > 0;
        if self.source.is_mirror && !came {
            return self.move_on(error);
        }
        match self.client.transport.pause(error, self.tries) {
            Err(error) if self.source.is_mirror => self.move_on(error),
            Err(error) => {
                self.client.blame(&self.failed);
                Err(error)
            }
            Ok(()) => Ok(()),
        }
    }

    /// Leaves a mirror for the place that comes next.
    fn move_on(&mut self, error: Error) -> Result<(), Error> {
        let Some(next) = self.others.pop_front() else { return Err(error) };
        self.client.set_aside(&self.source, &error);
        self.failed.push((std::mem::replace(&mut self.source, next), error));
        self.tries = 0;
        Ok(())
    }

    /// Asks for the rest once; with it comes the number of bytes to pass over.
    fn request(&self) -> Result<(Response, u64), Error> {
        let (position, expected) = (self.position, self.descriptor.size);
        let build = |http: &Http, url: Url| {
            // The digest is that of the bytes as they are stored.
            let request = http.get(url).header(header::ACCEPT_ENCODING, "identity");
            match position {
                0 => request,
                position => request.header(header::RANGE, format!("bytes={position}-")),
            }
        };
        let wanted = Wanted::Blob(&self.descriptor.digest);
        let response = self.client.request(&self.source, wanted, &build)?.response;
        let announced = content_length(response.headers());
        if response.status() == 206 {
            let fits = is_rest(response.headers(), position, expected);
            if !fits || announced.is_some_and(|announced| announced != expected - position) {
                let host = host_and_port(response.url());
                return Err(Error::Range { host, digest: self.descriptor.digest.clone() });
            }
            return Ok((response, 0));
        }
        match announced {
            Some(actual) if actual != expected => {
                Err(Error::Size { digest: self.descriptor.digest.clone(), expected, actual })
            }
            // A server without ranges sends everything again.
            _ => Ok((response, position)),
        }
    }

    /// Reads what comes next; `None` when it was nothing for the reader's owner.
    fn advance(&mut self, buf: &mut [u8]) -> Result<Option<usize>, Error> {
        let (expected, actual) = (self.descriptor.size, self.position);
        let digest = || self.descriptor.digest.clone();
        if actual > expected {
            return Err(Error::Size { digest: digest(), expected, actual });
        }
        let Some(response) = &mut self.response else {
            let host = self.source.reference.registry().to_owned();
            return match actual == expected {
                true => Ok(Some(0)),
                false => Err(Error::Truncated { host, digest: digest(), expected, actual }),
            };
        };
        let error = match response.read(buf) {
            Ok(count @ 1..) => return Ok(self.keep(buf, count)),
            // All is here; how the connection ends does not matter.
            Ok(_) | Err(_) if actual == expected => {
                self.response = None;
                return Ok(Some(0));
            }
            Ok(_) => {
                let host = host_and_port(response.url());
                Error::Truncated { host, digest: digest(), expected, actual }
            }
            Err(error) => self.client.transport.read_error(response.url(), error),
        };
        self.fail(error)?;
        self.connect()?;
        Ok(None)
    }

    /// Keeps of the first `count` bytes in `buf` those behind what is to be passed over.
    fn keep(&mut self, buf: &mut [u8], count: usize) -> Option<usize> {
        let passed = usize::try_from(self.skip).unwrap_or(usize::MAX).min(count);
        let kept = count - passed;
        if passed > 0 {
            self.skip -= passed as u64;
            buf.copy_within(passed..count, 0);
        }
        self.position += kept as u64;
        self.gained += kept as u64;
        (kept > 0).then_some(kept)
    }
}

impl Read for Blob<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            if let Some(count) = self.advance(buf).map_err(io::Error::other)? {
                return Ok(count);
            }
        }
    }
}

/// Whether the one part that comes begins at `position` of `size` bytes and goes to the end.
///
/// RFC 9110, section 14.4: `bytes 100-199/200`, or `*` for a size that is not known.
fn is_rest(headers: &HeaderMap, position: u64, size: u64) -> bool {
    let parse = || {
        let value = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
        let (range, total) = value.trim().strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        let known = total == "*" || total.parse() == Ok(size);
        Some(known && first == position && last.checked_add(1) == Some(size))
    };
    parse().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_must_fit() {
        let fits = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_RANGE, value.parse().unwrap());
            is_rest(&headers, 100, 200)
        };
        assert!(fits("bytes 100-199/200"));
        assert!(fits("bytes 100-199/*"));
        for bad in [
            "bytes 0-199/200",
            "bytes 99-199/200",
            "bytes 100-198/200",
            "bytes 100-200/201",
            "bytes 100-18446744073709551615/200",
            "bytes */200",
            "100-199/200",
            "",
        ] {
            assert!(!fits(bad), "{bad:?}");
        }
        assert!(!is_rest(&HeaderMap::new(), 0, 1));
    }
}
