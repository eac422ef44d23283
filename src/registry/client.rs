//! Manifests and blobs of a registry (distribution-spec, "Pull").

use std::time::Duration;

use reqwest::Url;
use reqwest::blocking::{Client as Http, RequestBuilder};
use reqwest::header::{self, HeaderMap};

use super::address::Class;
use super::auth::{Authorizations, Place};
use super::blob::Blob;
use super::challenge;
use super::config::{Registries, Source};
use super::error::{Error, Sent};
use super::foreign::{host_and_port, printable, said};
use super::options::Options;
use super::sources::Standing;
use super::transport::{self, Answer, Bulk, Call, Transport};
use crate::oci::descriptor::Descriptor;
use crate::oci::digest::{Algorithm, Digest, Hasher};
use crate::oci::manifest::{Document, MAX_MANIFEST};
use crate::oci::media_type::{ACCEPTED_MANIFESTS, OCI_INDEX, OCI_MANIFEST};
use crate::oci::reference::Reference;

/// The most that is read of an error's body, in bytes.
const MAX_ERROR_BODY: u64 = 64 << 10;
/// The header in which a registry says what its answer hashes to.
const CONTENT_DIGEST: &str = "docker-content-digest";

/// A manifest or index as it came, with the digest of its bytes.
#[derive(Clone, Debug)]
pub struct RawManifest {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The digest that they hash to, which is not necessarily what the registry says.
    pub digest: Digest,
    /// The type that the registry says they have; where it says nothing of use, their own word, then their form.
    pub media_type: String,
}

/// A client of any number of registries; several threads may use one at the same time.
///
/// It keeps a thread for each set of certificates in use. They end with it.
#[derive(Debug)]
pub struct Client {
    pub(super) transport: Transport,
    pub(super) registries: Registries,
    pub(super) standing: Standing,
    pub(super) authorizations: Authorizations,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wanted<'a> {
    Blob(&'a Digest),
    /// A manifest by tag or digest.
    Manifest(&'a str),
    /// A manifest by tag or digest, to be stored.
    NewManifest(&'a str),
    /// The names of tags, with this query.
    Tags(&'a str),
    /// An upload; of this blob from that repository of the same registry, if the registry can do that.
    Upload(Option<(&'a Digest, &'a str)>),
}

impl Wanted<'_> {
    fn path(self) -> String {
        match self {
            Self::Blob(digest) => format!("blobs/{digest}"),
            Self::Manifest(name) | Self::NewManifest(name) => format!("manifests/{name}"),
            Self::Tags(query) => format!("tags/list{query}"),
            Self::Upload(None) => "blobs/uploads/".to_owned(),
            Self::Upload(Some((digest, from))) => {
                format!("blobs/uploads/?mount={digest}&from={from}")
            }
        }
    }

    /// What a token must allow whose registry does not say (token specification, "scope").
    fn actions(self) -> &'static str {
        match self {
            Self::NewManifest(_) | Self::Upload(_) => "pull,push",
            _ => "pull",
        }
    }

    fn bulk(self) -> Bulk {
        match self {
            Self::Blob(_) | Self::Upload(_) => Bulk::Blob,
            Self::Manifest(_) | Self::NewManifest(_) | Self::Tags(_) => Bulk::Document,
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Blob(_) => "blob",
            Self::Manifest(_) | Self::NewManifest(_) => "manifest",
            Self::Tags(_) => "tags",
            Self::Upload(_) => "answer to an upload",
        }
    }
}

impl Client {
    /// A client that has not talked to anybody yet.
    ///
    /// # Errors
    /// [`Error::Proxy`] when a variable names a proxy of a kind that is not supported; [`Error::File`] when a
    /// configuration file cannot be understood.
    pub fn new(options: Options) -> Result<Self, Error> {
        let registries = Registries::load(&options.environment)?;
        let transport = Transport::new(options)?;
        let (standing, authorizations) = (Standing::default(), Authorizations::default());
        Ok(Self { transport, registries, standing, authorizations })
    }

    /// The digest that a reference stands for now, if the registry tells without sending the manifest.
    pub fn resolve(&self, reference: &Reference) -> Result<Option<Digest>, Error> {
        let name = reference.manifest_reference();
        let build = accepting(&Http::head);
        let ask = |source: &Source| self.request(source, Wanted::Manifest(&name), &build);
        let sources = self.sources(reference)?;
        for mirror in &sources.mirrors {
            match ask(mirror) {
                Ok(answer) => return Ok(declared_digest(answer.response.headers())),
                Err(error) if error.is_unreachable() => self.set_aside(mirror, &error),
                // It may still know GET.
                Err(error) => log::debug!("mirror: {error}"),
            }
        }
        let asked = self.transport.retry(|| {
            match ask(&sources.origin) {
                // Some registries do not know HEAD, and an answer to it has no body; the full request tells what is
                // really wrong.
                Err(
                    Error::Denied { .. }
                    | Error::ManifestUnknown(_)
                    | Error::NameUnknown(_)
                    | Error::Status { .. }
                    | Error::Unauthorized { .. },
                ) => Ok(None),
                other => other.map(Some),
            }
        })?;
        Ok(asked.and_then(|answer| declared_digest(answer.response.headers())))
    }

    /// The manifest or index that a reference stands for.
    ///
    /// # Errors
    /// [`Error::DigestMismatch`] unless the bytes hash to the reference's digest, if it has one. What the registry's
    /// own header says cannot make wrong bytes right (CVE-2025-24882), only the other way round.
    pub fn manifest(&self, reference: &Reference) -> Result<RawManifest, Error> {
        self.fetch_manifest(reference, reference.digest(), None)
    }

    /// The manifest or index that an index points to, in the repository of `reference`.
    ///
    /// # Errors
    /// As [`Client::manifest`]; also when size or type are not the descriptor's.
    pub fn manifest_by_digest(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
    ) -> Result<RawManifest, Error> {
        if descriptor.size > MAX_MANIFEST {
            let host = reference.registry().to_owned();
            return Err(Error::BodyTooLarge { what: "manifest", host, limit: MAX_MANIFEST });
        }
        self.fetch_manifest(reference, Some(&descriptor.digest), Some(descriptor))
    }

    /// A reader of a blob from `offset` on. It takes up a broken download by itself; it does not verify.
    ///
    /// At its end or behind it, nothing is asked for.
    pub fn blob<'a>(
        &'a self,
        reference: &Reference,
        descriptor: &Descriptor,
        offset: u64,
    ) -> Result<Blob<'a>, Error> {
        Blob::open(self, reference, descriptor, offset)
    }

    fn fetch_manifest(
        &self,
        reference: &Reference,
        expected: Option<&Digest>,
        descriptor: Option<&Descriptor>,
    ) -> Result<RawManifest, Error> {
        let name = expected.map_or_else(|| reference.manifest_reference(), Digest::to_string);
        let build = accepting(&Http::get);
        self.at_any(reference, |source| {
            let answer = self.request(source, Wanted::Manifest(&name), &build)?;
            let kind = declared_type(answer.response.headers());
            if kind == "text/html" {
                let host = host_and_port(answer.response.url());
                return Err(Error::NotARegistry { host });
            }
            let declared = declared_digest(answer.response.headers());
            let bytes = self.transport.body("manifest", answer.response, MAX_MANIFEST)?;
            for expected in expected.into_iter().chain(&declared) {
                let actual = hash(expected.algorithm(), &bytes);
                if actual != *expected {
                    return Err(Error::DigestMismatch { expected: expected.clone(), actual });
                }
            }
            let algorithm = expected.map_or(Algorithm::Sha256, Digest::algorithm);
            let digest = hash(algorithm, &bytes);
            let media_type = match descriptor {
                Some(descriptor) => agreed_type(descriptor, bytes.len(), kind)?,
                None if kind.is_empty() => media_type_of(&bytes),
                None => kind,
            };
            Ok(RawManifest { bytes, digest, media_type })
        })
    }

    /// Asks for something in the repository of one place, with whatever authorization that takes.
    ///
    /// An answer that comes back is a success.
    pub(super) fn request(
        &self,
        source: &Source,
        wanted: Wanted<'_>,
        build: &dyn Fn(&Http, Url) -> RequestBuilder,
    ) -> Result<Answer, Error> {
        let (registry, repository) = (source.reference.registry(), source.reference.repository());
        let base = self.transport.base(registry, source.insecure)?;
        let url = transport::parse_url(&format!("{base}v2/{repository}/{}", wanted.path()))?;
        self.request_at(source, wanted, &url, Class::Loopback, build)
    }

    /// As [`Client::request`], at an address that the registry has named for it, which may be at most as far as
    /// `limit`. Another origin than the registry's own is told nothing of who asks.
    pub(super) fn request_at(
        &self,
        source: &Source,
        wanted: Wanted<'_>,
        url: &Url,
        limit: Class,
        build: &dyn Fn(&Http, Url) -> RequestBuilder,
    ) -> Result<Answer, Error> {
        let Source { reference, insecure, .. } = source;
        let (registry, repository, insecure) =
            (reference.registry(), reference.repository(), *insecure);
        let base = self.transport.base(registry, insecure)?;
        let host = host_and_port(&base);
        let own = url.origin() == base.origin();
        let known = own.then(|| self.authorizations.known(registry, repository));
        let mut authorization = known.flatten();
        let send = |authorization: Option<&header::HeaderValue>| {
            let (registry, bulk, follow) = (host.as_str(), wanted.bulk(), true);
            let call = Call { url, authorization, registry, limit, insecure, bulk, follow, build };
            self.transport.send(&call)
        };
        let mut answer = send(authorization.as_ref().map(|known| &known.header))?;
        answer.elsewhere |= !own;
        // Whom the registry redirects to may not ask for a proof of who we are in its name.
        if answer.response.status() == 401 && !answer.elsewhere {
            let challenges = challenges(answer.response.headers());
            if challenges.is_empty() {
                let why = "it asks for a proof of identity that is neither Basic nor Bearer";
                return Err(Error::Challenge { host: registry.to_owned(), why });
            }
            let (actions, class) = (wanted.actions(), answer.class);
            let place = Place { registry, repository, actions, base: &base, class, insecure };
            let tried = authorization.as_ref();
            let fresh = self.authorizations.answer(&self.transport, place, &challenges, tried)?;
            if let Some(fresh) = fresh {
                answer = send(Some(&fresh.header))?;
                authorization = Some(fresh);
            }
        }
        if answer.response.status().is_success() {
            return Ok(answer);
        }
        let sent = authorization.map_or(Sent::Nothing, |authorization| authorization.sent);
        Err(self.refusal(reference, wanted, answer, sent))
    }

    /// What an answer means that is no success.
    pub(super) fn refusal(
        &self,
        reference: &Reference,
        wanted: Wanted<'_>,
        answer: Answer,
        sent: Sent,
    ) -> Error {
        let Answer { response, elsewhere, .. } = answer;
        let (status, url) = (response.status().as_u16(), response.url().clone());
        let headers = response.headers().clone();
        let wait = transport::retry_after(&headers);
        let body = self.transport.body("error", response, MAX_ERROR_BODY).unwrap_or_default();
        let said = said(&body);
        let detail = said.detail;
        let host = reference.registry().to_owned();
        let repository = format!("{host}/{}", reference.repository());
        let object = match wanted {
            Wanted::Blob(digest) => format!("{repository}@{digest}"),
            Wanted::Manifest(name) if name.contains(':') => format!("{repository}@{name}"),
            Wanted::Manifest(name) => format!("{repository}:{name}"),
            Wanted::NewManifest(_) | Wanted::Tags(_) | Wanted::Upload(_) => repository.clone(),
        };
        match (status, said.code.as_str(), wanted) {
            // A storage server's refusal is about a signature and not about the user.
            (401 | 403, ..) if elsewhere => {
                let (what, host) = (wanted.kind(), host_and_port(&url));
                Error::Status { what, host, status, detail, wait: None }
            }
            (429, ..) | (_, "TOOMANYREQUESTS", _) => {
                let (limit, window) = rate_limit(&headers);
                let limit = limit.unwrap_or(detail);
                Error::TooManyRequests { host, limit, wait: wait.or(window), sent }
            }
            (401, ..) => Error::Unauthorized { object, host, sent, detail },
            (403, ..) => Error::Denied { object, sent, detail },
            (404, "NAME_UNKNOWN", _) | (404, _, Wanted::Tags(_)) => Error::NameUnknown(repository),
            (404, _, Wanted::Manifest(_)) => Error::ManifestUnknown(object),
            (404, _, Wanted::Blob(digest)) => {
                Error::BlobUnknown { repository, digest: digest.clone() }
            }
            _ => {
                let (what, host) = (wanted.kind(), host_and_port(&url));
                Error::Status { what, host, status, detail, wait }
            }
        }
    }
}

/// A request for a manifest of any of the types that are understood.
fn accepting<'a>(
    method: &'a dyn Fn(&Http, Url) -> RequestBuilder,
) -> impl Fn(&Http, Url) -> RequestBuilder + 'a {
    let accept = ACCEPTED_MANIFESTS.join(", ");
    move |http, url| method(http, url).header(header::ACCEPT, &accept)
}

pub(super) fn challenges(headers: &HeaderMap) -> Vec<challenge::Challenge> {
    let values = headers.get_all(header::WWW_AUTHENTICATE).iter();
    values.filter_map(|value| value.to_str().ok()).flat_map(challenge::parse).collect()
}

fn hash(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new(algorithm);
    hasher.update(bytes);
    hasher.finish()
}

pub(super) fn declared_digest(headers: &HeaderMap) -> Option<Digest> {
    headers.get(CONTENT_DIGEST)?.to_str().ok()?.trim().parse().ok()
}

/// The `Content-Type` without parameters; empty where there is none, or only what servers say who do not know.
fn declared_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = value.unwrap_or_default().split(';').next().unwrap_or_default();
    let essence = essence.trim().to_ascii_lowercase();
    match essence.as_str() {
        "application/json" | "application/octet-stream" | "binary/octet-stream" | "text/plain" => {
            String::new()
        }
        _ => printable(&essence),
    }
}

/// The descriptor's type, if size and `Content-Type` agree with the descriptor.
fn agreed_type(descriptor: &Descriptor, size: usize, kind: String) -> Result<String, Error> {
    let (digest, expected) = (descriptor.digest.clone(), descriptor.media_type.clone());
    let actual = size as u64;
    if actual != descriptor.size {
        return Err(Error::Size { digest, expected: descriptor.size, actual });
    }
    if kind.is_empty() || kind == expected {
        return Ok(expected);
    }
    Err(Error::MediaType { digest, expected: printable(&expected), actual: kind })
}

/// The type that a manifest or index gives itself, or else the one whose form it has; empty if it is neither.
pub fn media_type_of(bytes: &[u8]) -> String {
    let (own, form) = match Document::parse(bytes, None) {
        Ok(Document::Index(index)) => (index.media_type, OCI_INDEX),
        Ok(Document::Manifest(manifest)) => (manifest.media_type, OCI_MANIFEST),
        Err(_) => return String::new(),
    };
    own.unwrap_or_else(|| form.to_owned())
}

/// What the `ratelimit-*` headers of Docker Hub and others say, in words; and how long a used up limit may last.
fn rate_limit(headers: &HeaderMap) -> (Option<String>, Option<Duration>) {
    // `100;w=21600`: a hundred in a window of so many seconds.
    let read = |name: &str| {
        let value = headers.get(name)?.to_str().ok()?;
        let (count, window) = value.split_once(";w=").unwrap_or((value, ""));
        Some((count.trim().parse::<u64>().ok()?, window.trim().parse::<u64>().ok()))
    };
    let limit = read("ratelimit-limit");
    let left = read("ratelimit-remaining").map(|(count, _)| count);
    let words = limit.map(|(count, window)| {
        let within = window.map(|seconds| format!(" in {} minutes", seconds.div_ceil(60)));
        let left = match left {
            Some(0) => ", and none are left".to_owned(),
            Some(left) => format!(", and {left} are left"),
            None => String::new(),
        };
        format!("it allows {count}{}{left}", within.unwrap_or_default())
    });
    let used_up = left == Some(0);
    let window = limit.and_then(|(_, window)| window).filter(|_| used_up);
    (words, window.map(Duration::from_secs))
}
