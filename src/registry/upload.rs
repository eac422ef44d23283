//! An upload of one blob: begun, sent, taken up again where the registry says that it stopped, and ended.
//!
//! A small blob goes with the request that ends the upload. A bigger one goes in as few `PATCH` requests as the way to
//! the registry allows, usually one: a registry that keeps what it got before a reset is asked how much that is
//! (distribution-spec, "Pushing a blob in chunks").

use std::io::Read;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use reqwest::Url;
use reqwest::blocking::{Body, Client as Http, Response};
use reqwest::header;

use super::address::{Class, ip};
use super::client::{Client, Wanted};
use super::config::Source;
use super::error::{Error, Sent};
use super::foreign::host_and_port;
use super::pipe::{PipeWriter, Stuck, pipe};
use super::push::{Content, Pushed};
use super::resume::{location, out_of_bounds, range_end};
use super::transport::{Answer, Bulk, Call};
use crate::oci::descriptor::Descriptor;
use crate::oci::digest::Hasher;

/// The largest blob that is held in memory and sent with the request that ends its upload, in bytes.
const SMALL: u64 = 256 << 10;
/// The bytes that are read and handed over at a time.
const PIECE: usize = 64 << 10;
/// The bytes that go in one request after a whole upload was cut off before anything of it was taken: a proxy in front
/// of the registry may allow no more.
const CHUNK: u64 = 1 << 20;
/// After so many bytes without trouble, the tries are counted from the start.
const WORTHWHILE: u64 = 1 << 20;
/// The client's own deadline for a request with a body; those who feed it keep a shorter time themselves.
const NO_DEADLINE: Duration = Duration::from_secs(7 * 86_400);
/// What is done at the address that a registry names for an upload.
const WANTED: Wanted<'static> = Wanted::Upload(None);

/// One blob on its way to a repository.
pub(super) struct Upload<'a> {
    client: &'a Client,
    destination: &'a Source,
    descriptor: &'a Descriptor,
    content: &'a dyn Content,
    sent: &'a dyn Fn(u64),
    session: Option<Session>,
    /// What has been read so far, each byte once.
    hasher: Hasher,
    hashed: u64,
    /// Tries that failed, and the bytes that the registry has taken since the last of them.
    tries: u32,
    gained: u64,
    /// Where the last request began that was cut off.
    cut_off: Option<u64>,
}

/// An upload as the registry knows it.
struct Session {
    /// Where it goes on.
    location: Url,
    /// How far that may be away.
    limit: Class,
    /// The bytes that the registry has.
    offset: u64,
    /// Whether the registry must say first how many it has.
    unsure: bool,
}

impl<'a> Upload<'a> {
    pub(super) fn new(
        client: &'a Client,
        destination: &'a Source,
        descriptor: &'a Descriptor,
        content: &'a dyn Content,
        sent: &'a dyn Fn(u64),
    ) -> Self {
        let hasher = Hasher::new(descriptor.digest.algorithm());
        let (session, hashed, tries, gained, cut_off) = (None, 0, 0, 0, None);
        Self {
            client,
            destination,
            descriptor,
            content,
            sent,
            session,
            hasher,
            hashed,
            tries,
            gained,
            cut_off,
        }
    }

    /// Uploads the blob, unless the registry can take it from its own repository `from`.
    pub(super) fn run(mut self, from: Option<&str>) -> Result<Pushed, Error> {
        if let Some(from) = from
            && self.mount(from)?
        {
            return Ok(Pushed::Mounted);
        }
        loop {
            match self.advance() {
                Ok(()) => return Ok(Pushed::Sent),
                Err(error) => self.fail(error)?,
            }
        }
    }

    /// Waits after a failure, or gives it back.
    fn fail(&mut self, error: Error) -> Result<(), Error> {
        self.tries = if self.gained >= WORTHWHILE { 1 } else { self.tries + 1 };
        self.gained = 0;
        if let Some(session) = &mut self.session {
            session.unsure = true;
        }
        self.client.transport.pause(error, self.tries)
    }

    /// Asks the registry to take the blob from its repository `from`. If it will not, it may have begun an upload.
    fn mount(&mut self, from: &str) -> Result<bool, Error> {
        match self.post(Wanted::Upload(Some((&self.descriptor.digest, from)))) {
            Ok(answer) if answer.response.status() == 201 => Ok(true),
            Ok(answer) => self.begun(answer).map(|()| false),
            // Whether the user may read the other repository is not what this is about.
            Err(
                error @ (Error::Denied { .. }
                | Error::Unauthorized { .. }
                | Error::NameUnknown(_)
                | Error::Status { .. }),
            ) => {
                log::debug!("mount {} from {from}: {error}", self.descriptor.digest);
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn post(&self, wanted: Wanted<'_>) -> Result<Answer, Error> {
        let empty = |http: &Http, url: Url| http.post(url).body(Vec::new());
        self.client.transport.retry(|| self.client.request(self.destination, wanted, &empty))
    }

    fn begun(&mut self, answer: Answer) -> Result<(), Error> {
        // As with redirects: storage in a private network beside a public registry is common.
        let limit = answer.class.unwrap_or(Class::Global).max(Class::Private);
        let from = answer.response.url();
        let Some(location) = location(from, answer.response.headers())? else {
            let host = host_and_port(from);
            return Err(Error::Upload { host, why: "it does not say where to" });
        };
        self.session = Some(Session { location, limit, offset: 0, unsure: false });
        Ok(())
    }

    /// Does what is left to do.
    fn advance(&mut self) -> Result<(), Error> {
        if self.session.as_ref().is_some_and(|session| session.unsure) {
            self.ask()?;
        }
        if self.session.is_none() {
            // The end of an upload that was lost may have been heard all the same.
            if self.tries > 0 && self.client.has_blob(self.destination, self.descriptor)? {
                return Ok(());
            }
            let answer = self.post(WANTED)?;
            self.begun(answer)?;
        }
        let size = self.descriptor.size;
        if size <= SMALL && self.offset() == 0 {
            let bytes = self.read_all()?;
            return self.finish(bytes);
        }
        while self.offset() < size {
            match self.cut_off == Some(self.offset()) {
                true => self.patch_chunk()?,
                false => self.patch()?,
            }
        }
        self.finish(Vec::new())
    }

    fn offset(&self) -> u64 {
        self.session.as_ref().map_or(0, |session| session.offset)
    }

    /// Asks how much the registry has. An upload that it no longer knows begins anew.
    fn ask(&mut self) -> Result<(), Error> {
        let (location, limit, _) = self.target()?;
        let get = |http: &Http, url: Url| http.get(url);
        let asked = self.client.request_at(self.destination, WANTED, &location, limit, &get);
        let response = match asked.map_err(|error| self.at_location(error)) {
            Ok(answer) => answer.response,
            Err(_) if self.session.is_none() => return Ok(()),
            Err(error) => return Err(error),
        };
        // `0-0` stands for no byte and for one.
        let offset = range_end(response.headers()).filter(|end| *end > 1 && *end <= self.hashed);
        match offset {
            Some(offset) => self.moved(&response, offset),
            None => {
                self.session = None;
                Ok(())
            }
        }
    }

    /// Notes where the upload goes on, and how far it is.
    fn moved(&mut self, response: &Response, offset: u64) -> Result<(), Error> {
        let next = location(response.url(), response.headers())?;
        if let Some(session) = &mut self.session {
            self.gained += offset.saturating_sub(session.offset);
            session.location = next.unwrap_or_else(|| session.location.clone());
            session.offset = offset;
            session.unsure = false;
        }
        (self.sent)(offset);
        Ok(())
    }

    /// The whole of a small blob, verified.
    fn read_all(&mut self) -> Result<Vec<u8>, Error> {
        let digest = &self.descriptor.digest;
        let failed = |error| Error::from_read(error, digest);
        let mut bytes = Vec::new();
        let reader = self.content.open(0).map_err(failed)?;
        reader.take(SMALL + 1).read_to_end(&mut bytes).map_err(failed)?;
        self.hasher = Hasher::new(digest.algorithm());
        self.hasher.update(&bytes);
        self.hashed = bytes.len() as u64;
        Ok(bytes)
    }

    /// Sends the rest of the blob, or as much of it as the registry takes.
    fn patch(&mut self) -> Result<(), Error> {
        let (size, offset, host) = (self.descriptor.size, self.offset(), self.host());
        let timeout = |what, after| Error::Timeout { what, host: host.clone(), after, proxy: None };
        let options = self.client.transport.options();
        let (patience, longest) = (options.progress_timeout, options.document_timeout);
        let (writer, body) = pipe();
        let answer = self.start(Body::sized(body, size - offset))?;
        if self.feed(writer, offset, patience)? == Some(Stuck::Standstill) {
            return Err(timeout("progress", patience));
        }
        // The last bytes are on their way still, and the registry has to write them down.
        let response = match answer.recv_timeout(longest) {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                self.cut_off = Some(offset);
                return Err(self.transport_error(error));
            }
            Err(_) => return Err(timeout("answer", longest)),
        };
        if !response.status().is_success() {
            return Err(self.refusal(response));
        }
        // Some registries do not say how much they took, which is all then.
        let taken = range_end(response.headers()).filter(|end| *end > offset && *end <= size);
        self.moved(&response, taken.unwrap_or(size))
    }

    /// Sends some of the blob, from memory. Other than with a body that comes out of a pipe, an answer that comes before
    /// all was sent is heard, so that a refusal is not taken for a broken connection.
    fn patch_chunk(&mut self) -> Result<(), Error> {
        let (offset, (location, limit, _)) = (self.offset(), self.target()?);
        let bytes = self.read_chunk(offset)?;
        let end = offset + bytes.len() as u64;
        let longest = self.client.transport.options().document_timeout;
        let patch = |http: &Http, url: Url| {
            let request = http.patch(url).timeout(longest).body(bytes.clone());
            let request = request.header(header::CONTENT_RANGE, format!("{offset}-{}", end - 1));
            request.header(header::CONTENT_TYPE, "application/octet-stream")
        };
        let sent = self.client.request_at(self.destination, WANTED, &location, limit, &patch);
        let response = sent.map_err(|error| self.at_location(error))?.response;
        let taken = range_end(response.headers()).filter(|taken| *taken > offset && *taken <= end);
        self.moved(&response, taken.unwrap_or(end))?;
        self.cut_off = Some(self.offset());
        Ok(())
    }

    fn read_chunk(&mut self, offset: u64) -> Result<Vec<u8>, Error> {
        let (digest, expected) = (&self.descriptor.digest, self.descriptor.size);
        let failed = |error| Error::from_read(error, digest);
        let mut bytes = Vec::new();
        let reader = self.content.open(offset).map_err(failed)?;
        reader.take(CHUNK.min(expected - offset)).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.is_empty() {
            return Err(Error::Size { digest: digest.clone(), expected, actual: offset });
        }
        self.hash(&bytes, offset);
        Ok(bytes)
    }

    /// Takes note of bytes that were read from `position` on. What was sent before in vain is not hashed twice.
    fn hash(&mut self, bytes: &[u8], position: u64) {
        let known = self.hashed.saturating_sub(position);
        let known = usize::try_from(known).unwrap_or(bytes.len()).min(bytes.len());
        self.hasher.update(&bytes[known..]);
        self.hashed = self.hashed.max(position + bytes.len() as u64);
    }

    /// Sends a `PATCH` request from a thread of its own, which ends with the answer, or with the process.
    fn start(&mut self, body: Body) -> Result<Receiver<reqwest::Result<Response>>, Error> {
        let (url, limit, own) = self.target()?;
        if ip(url.host_str().unwrap_or_default()).is_some_and(|ip| Class::of(ip) > limit) {
            return Err(out_of_bounds(&url));
        }
        let transport = &self.client.transport;
        let (registry, repository) =
            (self.destination.reference.registry(), self.destination.reference.repository());
        let (host, unverified) = (host_and_port(&self.base()?), own && self.destination.insecure);
        let http = transport.client(&host, &url, limit, Bulk::Blob, unverified)?;
        let mut request = http.patch(url).timeout(NO_DEADLINE).body(body);
        request = request.header(header::CONTENT_TYPE, "application/octet-stream");
        let (size, offset) = (self.descriptor.size, self.offset());
        // Without a range, what comes is the beginning. Registries know that from docker.
        if offset > 0 {
            request = request.header(header::CONTENT_RANGE, format!("{offset}-{}", size - 1));
        }
        let known = self.client.authorizations.known(registry, repository);
        if let Some(known) = known.filter(|_| own) {
            request = request.header(header::AUTHORIZATION, known.header);
        }
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            // Whoever waits for the answer may have given up.
            let _ = sender.send(request.send());
        });
        Ok(receiver)
    }

    /// The address of the registry's interface.
    fn base(&self) -> Result<Url, Error> {
        self.client.transport.base(self.destination.reference.registry(), self.destination.insecure)
    }

    /// Where the upload goes on, how far that may be, and whether it is the registry itself.
    fn target(&self) -> Result<(Url, Class, bool), Error> {
        let session = self.session.as_ref().ok_or_else(|| self.lost())?;
        let base = self.base()?;
        let own = session.location.origin() == base.origin();
        let limit = if own { Class::Loopback } else { session.limit };
        Ok((session.location.clone(), limit, own))
    }

    /// Puts the bytes from `offset` on into the body, as fast as they are taken out.
    fn feed(
        &mut self,
        writer: PipeWriter,
        offset: u64,
        patience: Duration,
    ) -> Result<Option<Stuck>, Error> {
        let (digest, expected) = (&self.descriptor.digest, self.descriptor.size);
        let failed = |error| Error::from_read(error, digest);
        let mut reader = self.content.open(offset).map_err(failed)?;
        let mut position = offset;
        while position < expected {
            let left = usize::try_from(expected - position).unwrap_or(PIECE);
            let mut piece = vec![0; left.min(PIECE)];
            let count = reader.read(&mut piece).map_err(failed)?;
            if count == 0 {
                return Err(Error::Size { digest: digest.clone(), expected, actual: position });
            }
            piece.truncate(count);
            self.hash(&piece, position);
            position += count as u64;
            if let Err(stuck) = writer.write(piece, patience) {
                return Ok(Some(stuck));
            }
            (self.sent)(position);
        }
        Ok(writer.finish(patience).err())
    }

    /// Ends the upload, with what the registry does not have yet.
    fn finish(&mut self, rest: Vec<u8>) -> Result<(), Error> {
        self.verify()?;
        let (mut location, limit, _) = self.target()?;
        location.query_pairs_mut().append_pair("digest", &self.descriptor.digest.to_string());
        let longest = self.client.transport.options().document_timeout;
        let put = |http: &Http, url: Url| {
            let request = http.put(url).timeout(longest).body(rest.clone());
            request.header(header::CONTENT_TYPE, "application/octet-stream")
        };
        let ended = self.client.request_at(self.destination, WANTED, &location, limit, &put);
        ended.map_err(|error| self.at_location(error))?;
        (self.sent)(self.descriptor.size);
        Ok(())
    }

    /// Refuses to end an upload of other bytes than those that were announced.
    fn verify(&self) -> Result<(), Error> {
        let (digest, expected) = (&self.descriptor.digest, self.descriptor.size);
        if self.hashed != expected {
            return Err(Error::Size { digest: digest.clone(), expected, actual: self.hashed });
        }
        let actual = self.hasher.clone().finish();
        match actual == *digest {
            true => Ok(()),
            false => Err(Error::DigestMismatch { expected: digest.clone(), actual }),
        }
    }

    fn host(&self) -> String {
        let location = self.session.as_ref().map(|session| host_and_port(&session.location));
        location.unwrap_or_else(|| self.destination.reference.registry().to_owned())
    }

    fn broken(&self, why: &'static str) -> Error {
        Error::UploadBroken { host: self.host(), digest: self.descriptor.digest.clone(), why }
    }

    fn lost(&self) -> Error {
        self.broken("it does not know it any longer")
    }

    /// What an answer to a `PATCH` request means that is no success.
    fn refusal(&mut self, response: Response) -> Error {
        match response.status().as_u16() {
            404 => self.session_lost(),
            // The question how far the upload is answers a challenge, follows a redirect, and tells the place.
            401 => self.broken("it asks again who sends it"),
            301..=308 => self.broken("it sends it elsewhere"),
            // Only here, where all that is left is sent; a chunk is smaller than any limit that makes sense.
            413 => {
                self.cut_off = Some(self.offset());
                self.broken("it does not take so much at a time")
            }
            416 => self.broken("it expects another part of it"),
            _ => {
                let (registry, repository) = (
                    self.destination.reference.registry(),
                    self.destination.reference.repository(),
                );
                let known = self.client.authorizations.known(registry, repository);
                let sent = known.map_or(Sent::Nothing, |known| known.sent);
                let elsewhere = self.target().is_ok_and(|(_, _, own)| !own);
                let answer = Answer { response, elsewhere, class: None };
                self.client.refusal(&self.destination.reference, WANTED, answer, sent)
            }
        }
    }

    fn session_lost(&mut self) -> Error {
        let error = self.lost();
        self.session = None;
        error
    }

    /// What an error at the upload's own address means.
    fn at_location(&mut self, error: Error) -> Error {
        match error {
            Error::NameUnknown(_) | Error::Status { status: 404, .. } => self.session_lost(),
            Error::Address { what: "token service", url, why } => {
                Error::Address { what: "upload address", url, why }
            }
            other => other,
        }
    }

    fn transport_error(&self, error: reqwest::Error) -> Error {
        let Ok((url, limit, _)) = self.target() else { return self.lost() };
        let (registry, build) = (&*self.host(), &|http: &Http, url: Url| http.patch(url));
        let call = Call {
            url: &url,
            authorization: None,
            registry,
            limit,
            insecure: self.destination.insecure,
            bulk: Bulk::Blob,
            follow: false,
            build,
        };
        match self.client.transport.error(&call, &url, error) {
            Error::Address { .. } => out_of_bounds(&url),
            // A registry that refuses a body early hangs up, which is seen before its answer is.
            Error::Connect { host, proxy, source } if source.is_hang_up() => {
                Error::Transfer { host, proxy, source }
            }
            other => other,
        }
    }
}
