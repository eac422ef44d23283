//! Requests and answers: connections, redirects, bounded bodies, retries.
//!
//! Documents come by HTTP/2 where the server offers it, all over one connection. Blobs come by HTTP/1.1 on purpose, each
//! over a connection of its own: none waits for the flow-control window or the lost packet of another, the kernel sizes
//! the buffers, and a stream never holds more than some hundred kilobytes. docs/registries.md has what was measured.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::Read as _;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use reqwest::Url;
use reqwest::blocking::{Client, RequestBuilder, Response};
use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use super::address::{Class, ResolveError, Resolver, ip};
use super::cause::{Cause, find};
use super::error::Error;
use super::foreign::{host_and_port, shown};
use super::proxy::Proxies;
use super::tls::{Trust, Untrusted};
use super::{Environment, Options};
use crate::oci::reference::DEFAULT_REGISTRY;

/// Where Docker Hub's registry really is.
const DOCKER_HUB: &str = "registry-1.docker.io";
/// Redirects that are followed for one request.
const MAX_REDIRECTS: usize = 5;
/// What did not come when a host does not even answer the call.
const CONNECTION: &str = "connection";

/// Connections, kept for the next request.
pub(super) struct Transport {
    options: Options,
    proxies: Proxies,
    /// Hosts that are met with the same certificates, and may be equally far, share one.
    clients: Mutex<HashMap<(Trust, Class, Bulk), Client>>,
    /// How each registry is reached, once that is known; with whether it may be reached insecurely.
    bases: Mutex<HashMap<(String, bool), Url>>,
}

/// Whether an answer is a blob, which gets a connection to itself.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Bulk {
    Blob,
    Document,
}

/// A request.
pub(super) struct Call<'a> {
    pub(super) url: &'a Url,
    /// For the origin of `url` and nobody else.
    pub(super) authorization: Option<&'a HeaderValue>,
    /// On whose behalf: the certificates for this host are trusted.
    pub(super) registry: &'a str,
    /// How far the host of `url` may be.
    pub(super) limit: Class,
    /// Whether the user lets the origin of `url`, and nobody else, go without a certificate that is good.
    pub(super) insecure: bool,
    pub(super) bulk: Bulk,
    /// Whether redirects are followed; not where there is a secret in the body.
    pub(super) follow: bool,
    pub(super) build: &'a dyn Fn(&Client, Url) -> RequestBuilder,
}

/// An answer of any status.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) response: Response,
    /// Whether somebody else answers than the one who was asked.
    pub(super) elsewhere: bool,
    /// How far the one who answers is; `None` where a proxy hides it.
    pub(super) class: Option<Class>,
}

impl Transport {
    pub(super) fn new(options: Options) -> Result<Self, Error> {
        let proxies = Proxies::new(&options.environment)?;
        Ok(Self { options, proxies, clients: Mutex::default(), bases: Mutex::default() })
    }

    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    pub(super) fn environment(&self) -> &Environment {
        &self.options.environment
    }

    /// The address of a registry's interface, without the path: `https://registry-1.docker.io/`.
    ///
    /// Plain http is for registries that speak no TLS and are on this machine or `insecure`, and for those that the user
    /// has named for it. A certificate that is wrong never leads to it.
    pub(super) fn base(&self, registry: &str, insecure: bool) -> Result<Url, Error> {
        let key = (registry.to_owned(), insecure);
        if let Some(base) = lock(&self.bases).get(&key) {
            return Ok(base.clone());
        }
        let host = if registry == DEFAULT_REGISTRY { DOCKER_HUB } else { registry };
        let named = &self.options.plain_http;
        let named = named.iter().any(|named| named.eq_ignore_ascii_case(registry));
        let mut base = parse_url(&format!("{}://{host}/", if named { "http" } else { "https" }))?;
        let may_do_without = !named && (insecure || is_loopback(&base));
        if may_do_without && !self.speaks_tls(&base, insecure)? {
            log::debug!("{registry} speaks no TLS and need not: using http");
            base = parse_url(&format!("http://{host}/"))?;
        }
        lock(&self.bases).insert(key, base.clone());
        Ok(base)
    }

    /// Whether the server at `base` speaks TLS.
    fn speaks_tls(&self, base: &Url, insecure: bool) -> Result<bool, Error> {
        let call = Call {
            url: base,
            authorization: None,
            registry: &host_and_port(base),
            limit: Class::Loopback,
            insecure,
            bulk: Bulk::Document,
            follow: false,
            build: &|client, url| client.head(url),
        };
        match self.send(&call) {
            Ok(_) => Ok(true),
            Err(Error::PlainHttp { .. }) => Ok(false),
            // Some servers hang up on what they do not understand.
            Err(Error::Connect { source, .. }) if source.is_hang_up() => Ok(false),
            // Without a port in the reference, plain http has one of its own.
            Err(Error::Connect { source, .. }) if source.is_refused() && base.port().is_none() => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// The client for a request to `url` on behalf of `registry`. Where `unverified`, a certificate that nobody vouches
    /// for is good enough.
    pub(super) fn client(
        &self,
        registry: &str,
        url: &Url,
        limit: Class,
        bulk: Bulk,
        unverified: bool,
    ) -> Result<Client, Error> {
        // Through a proxy only the proxy's name is looked up here, and where that is was the user's choice.
        let limit = if self.proxies.for_url(url).is_some() { Class::Loopback } else { limit };
        let mut trust = Trust::of(&self.options.environment, registry, &host_and_port(url));
        trust.unverified = unverified;
        match lock(&self.clients).entry((trust, limit, bulk)) {
            Entry::Occupied(client) => Ok(client.get().clone()),
            Entry::Vacant(place) => {
                let client = self.new_client(&place.key().0, limit, bulk)?;
                Ok(place.insert(client).clone())
            }
        }
    }

    fn new_client(&self, trust: &Trust, limit: Class, bulk: Bulk) -> Result<Client, Error> {
        let mut tls = trust.configure(&self.options.environment)?;
        if bulk == Bulk::Document {
            tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        }
        let mut builder = Client::builder()
            .tls_backend_preconfigured(tls)
            .dns_resolver(Arc::new(Resolver::up_to(limit)))
            .redirect(Policy::none())
            .referer(false)
            .connect_timeout(self.options.connect_timeout)
            // For the blocking client, this bounds the wait for a head and each wait for bytes, not the whole.
            .timeout(self.options.progress_timeout)
            .user_agent(concat!("mydocker/", env!("CARGO_PKG_VERSION")))
            .tcp_nodelay(true);
        // The library's own reading of the variables would differ from what errors say.
        builder = if self.proxies.is_empty() {
            builder.no_proxy()
        } else {
            let proxies = self.proxies.clone();
            builder.proxy(reqwest::Proxy::custom(move |url| proxies.for_url(url).cloned()))
        };
        builder.build().map_err(Error::Client)
    }

    /// Sends a request and follows redirects, without the authorization from the first other origin on
    /// (CVE-2022-23538).
    pub(super) fn send(&self, call: &Call<'_>) -> Result<Answer, Error> {
        let (mut at, mut authorization, mut limit) =
            (call.url.clone(), call.authorization, call.limit);
        for _ in 0..=MAX_REDIRECTS {
            let host = at.host_str().unwrap_or_default();
            if ip(host).is_some_and(|address| Class::of(address) > limit) {
                return Err(self.out_of_bounds(call, &at));
            }
            let unverified = call.insecure && at.origin() == call.url.origin();
            let client = self.client(call.registry, &at, limit, call.bulk, unverified)?;
            let mut request = (call.build)(&client, at.clone());
            if let Some(authorization) = authorization {
                request = request.header(header::AUTHORIZATION, authorization);
            }
            let response = request.send().map_err(|error| self.error(call, &at, error))?;
            let class = self.class(&at, &response);
            let Some(location) = location(&response).filter(|_| call.follow) else {
                let elsewhere = at.origin() != call.url.origin();
                return Ok(Answer { response, elsewhere, class });
            };
            let next = next_hop(&at, location)?;
            log::debug!("{} redirects to {}", shown(&at), shown(&next));
            if next.origin() != at.origin() {
                authorization = None;
            }
            // Storage in a private network beside a public registry is common, and blobs have digests. A public
            // registry has no business on this machine and its link.
            limit = class.unwrap_or(Class::Global).max(Class::Private);
            at = next;
        }
        let why = "there are too many in a row";
        Err(Error::Address { what: "redirect", url: shown(call.url), why })
    }

    /// How far the server is that sent `response`, as far as that can be known.
    fn class(&self, url: &Url, response: &Response) -> Option<Class> {
        if self.proxies.for_url(url).is_some() {
            return ip(url.host_str()?).map(Class::of);
        }
        response.remote_addr().map(|address| Class::of(address.ip()))
    }

    pub(super) fn out_of_bounds(&self, call: &Call<'_>, url: &Url) -> Error {
        let what = if call.url == url { "token service" } else { "redirect" };
        let why = "it is inside the network and the registry is not";
        Error::Address { what, url: shown(url), why }
    }

    /// Does `work` again, a little later each time, while its error may be a passing one.
    pub(super) fn retry<T>(&self, mut work: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
        let mut tries = 0;
        loop {
            match work() {
                Ok(done) => return Ok(done),
                Err(error) => {
                    tries += 1;
                    self.pause(error, tries)?;
                }
            }
        }
    }

    /// Waits before the next try after so many that failed.
    ///
    /// # Errors
    /// `error` itself, when another try would be one too many, of no use, or too far off.
    pub(super) fn pause(&self, error: Error, tries: u32) -> Result<(), Error> {
        let wait = error.wait().unwrap_or_else(|| self.backoff(tries));
        // Where nobody answers at all, a person has waited long enough after two tries.
        let most = match error {
            Error::Timeout { what: CONNECTION, .. } => self.options.tries.min(2),
            _ => self.options.tries,
        };
        if !error.is_passing() || tries >= most || wait > self.options.longest_wait {
            return Err(error);
        }
        log::debug!("{error}; trying again in {wait:?}");
        std::thread::sleep(wait);
        Ok(())
    }

    /// How long to wait after so many tries: twice as long each time, and never the same for two processes that have
    /// failed together.
    fn backoff(&self, tries: u32) -> Duration {
        let most = self.options.first_backoff * 2_u32.saturating_pow(tries.clamp(1, 8) - 1);
        let mut random = [0_u8; 2];
        let _ = getrandom::fill(&mut random);
        let some =
            most.mul_f64(0.5 + f64::from(u16::from_ne_bytes(random)) / f64::from(u16::MAX) / 2.0);
        some.min(self.options.longest_wait)
    }

    /// What an error of the HTTP library means for the user.
    pub(super) fn error(&self, call: &Call<'_>, url: &Url, error: reqwest::Error) -> Error {
        if let Some(ResolveError::Forbidden { .. }) = find(&error) {
            return self.out_of_bounds(call, url);
        }
        let host = host_and_port(url);
        match find::<rustls::Error>(&error) {
            Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)) => {
                return Error::PlainHttp { host };
            }
            Some(rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other))) => {
                return match other.0.downcast_ref() {
                    Some(Untrusted(issuer)) => {
                        Error::UnknownIssuer { host, issuer: issuer.clone() }
                    }
                    None => Error::Tls { host, source: Cause::new(error) },
                };
            }
            Some(_) => return Error::Tls { host, source: Cause::new(error) },
            None => {}
        }
        self.broken(url, Cause::new(error))
    }

    /// What an I/O error in a body means.
    pub(super) fn read_error(&self, url: &Url, error: std::io::Error) -> Error {
        self.broken(url, Cause::of_body(error))
    }

    fn broken(&self, url: &Url, source: Cause) -> Error {
        let (host, proxy) = (host_and_port(url), self.proxies.shown_for(url));
        match (source.is_timeout(), source.is_connect()) {
            (true, true) => {
                let after = self.options.connect_timeout;
                Error::Timeout { what: CONNECTION, host, after, proxy }
            }
            (true, false) => {
                let after = self.options.progress_timeout;
                Error::Timeout { what: "bytes", host, after, proxy }
            }
            (false, true) => Error::Connect { host, proxy, source },
            (false, false) => Error::Transfer { host, proxy, source },
        }
    }

    /// The whole body of an answer, of at most `limit` bytes.
    pub(super) fn body(
        &self,
        what: &'static str,
        mut response: Response,
        limit: u64,
    ) -> Result<Vec<u8>, Error> {
        let url = response.url().clone();
        let too_large = || Error::BodyTooLarge { what, host: host_and_port(&url), limit };
        if content_length(response.headers()).is_some_and(|announced| announced > limit) {
            return Err(too_large());
        }
        let start = Instant::now();
        let mut bytes = Vec::new();
        let mut buffer = vec![0; 16 << 10];
        loop {
            let count = response.read(&mut buffer).map_err(|error| self.read_error(&url, error))?;
            if count == 0 {
                return Ok(bytes);
            }
            bytes.extend_from_slice(&buffer[..count]);
            if bytes.len() as u64 > limit {
                return Err(too_large());
            }
            // Single bytes that keep coming are no progress either.
            if start.elapsed() > self.options.document_timeout {
                let (host, after) = (host_and_port(&url), self.options.document_timeout);
                let proxy = self.proxies.shown_for(&url);
                return Err(Error::Timeout { what, host, after, proxy });
            }
        }
    }
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport").field("options", &self.options).finish_non_exhaustive()
    }
}

fn location(response: &Response) -> Option<&str> {
    match response.status().as_u16() {
        301 | 302 | 303 | 307 | 308 => {
            // What is no text leads nowhere, which is an error further on.
            Some(response.headers().get(header::LOCATION)?.to_str().unwrap_or_default())
        }
        _ => None,
    }
}

/// Where the redirect `location` leads that came from `at`.
pub(super) fn next_hop(at: &Url, location: &str) -> Result<Url, Error> {
    let refuse = |url: &Url, why| Err(Error::Address { what: "redirect", url: shown(url), why });
    let Ok(next) = at.join(location) else { return refuse(at, "it leads nowhere") };
    if !next.username().is_empty() || next.password().is_some() {
        return refuse(&next, "it holds a user name");
    }
    match (at.scheme(), next.scheme()) {
        ("http", "http") | (_, "https") => Ok(next),
        (_, "http") => refuse(&next, "it leads away from encryption"),
        _ => refuse(&next, "it is neither http nor https"),
    }
}

/// The size that an answer announces.
pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

/// The pause that an answer asks for: seconds, or a date (RFC 9110, section 10.2.3).
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = OffsetDateTime::parse(value, &Rfc2822).ok()?;
    Some(Duration::try_from(date - OffsetDateTime::now_utc()).unwrap_or_default())
}

/// Whether an address is one of this machine's own, by its name alone.
pub(super) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    host == "localhost" || ip(host).is_some_and(|address| Class::of(address) == Class::Loopback)
}

pub(super) fn parse_url(text: &str) -> Result<Url, Error> {
    let refuse =
        || Error::Address { what: "registry", url: text.to_owned(), why: "it is no address" };
    Url::parse(text).map_err(|_| refuse())
}

/// A lock that a panic has left behind is taken all the same: what it guards is whole at every moment.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_in_both_forms() {
        let parse = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, value.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(parse("7"), Some(Duration::from_secs(7)));
        assert_eq!(parse("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        assert!(parse("Fri, 01 Jan 2100 00:00:00 GMT").unwrap() > Duration::from_secs(1 << 20));
        assert_eq!(parse("soon"), None);
        assert_eq!(parse("-1"), None);
    }
}
