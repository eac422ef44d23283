//! From a challenge to an `Authorization` header, and who is asked for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::Url;
use reqwest::blocking::{Client, RequestBuilder};
use reqwest::header::{self, HeaderValue};
use serde::Deserialize;

use super::address::Class;
use super::challenge::Challenge;
use super::credentials::{self, Credentials, Found};
use super::error::{Error, Sent};
use super::foreign::{host_and_port, said, shown};
use super::secret::Secret;
use super::transport::{Answer, Bulk, Call, Transport, is_loopback, lock, retry_after};

/// The most that is read of a token service's answer, in bytes.
pub(super) const MAX_TOKEN: u64 = 1 << 20;
/// The most that is read of an error's body, in bytes.
const MAX_ERROR_BODY: u64 = 64 << 10;
/// How long a token is good for whose service does not say (token specification, `expires_in`).
const DEFAULT_LIFETIME: u64 = 60;
/// A token is not used for this long before its end, so that it does not run out on the way.
const MARGIN: Duration = Duration::from_secs(5);

/// Which repository a header opens.
type Key = (String, String);

/// Headers that have been got, for as long as they are good.
#[derive(Debug, Default)]
pub(super) struct Authorizations {
    slots: Mutex<HashMap<Key, Arc<Mutex<Slot>>>>,
}

/// Locked while a token is fetched, so that ten threads that are turned away together fetch one.
#[derive(Debug, Default)]
struct Slot {
    known: Option<Authorization>,
    /// What the user has for the repository; files and helpers are asked once.
    credentials: Option<Option<Found>>,
}

/// An `Authorization` header, and whether the user's own credentials are behind it.
#[derive(Clone, Debug)]
pub(super) struct Authorization {
    pub(super) header: HeaderValue,
    pub(super) sent: Sent,
    end: Option<Instant>,
}

impl Authorization {
    fn is_good(&self) -> bool {
        self.end.is_none_or(|end| Instant::now() < end)
    }
}

/// For what a header is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    /// The registry, as references name it.
    pub(super) registry: &'a str,
    pub(super) repository: &'a str,
    /// What shall be done there, where the registry does not say it: `pull`, `pull,push`.
    pub(super) actions: &'a str,
    /// The registry's interface.
    pub(super) base: &'a Url,
    /// How far the registry is.
    pub(super) class: Option<Class>,
    /// Whether it may go without a certificate that is good; its token service only if it is the same server.
    pub(super) insecure: bool,
}

impl Authorizations {
    /// The header that opened the repository before, unless it has run out.
    pub(super) fn known(&self, registry: &str, repository: &str) -> Option<Authorization> {
        let slot = self.slot(registry, repository);
        let known = lock(&slot).known.clone();
        known.filter(Authorization::is_good)
    }

    /// Answers the best of `challenges`, which came in spite of `tried`; `None` if there is nothing new to say.
    pub(super) fn answer(
        &self,
        transport: &Transport,
        place: Place<'_>,
        challenges: &[Challenge],
        tried: Option<&Authorization>,
    ) -> Result<Option<Authorization>, Error> {
        let slot = self.slot(place.registry, place.repository);
        let mut slot = lock(&slot);
        // Somebody else may have got one in the meantime.
        let newer = slot.known.as_ref().filter(|known| known.is_good());
        let newer = newer.filter(|known| tried.is_none_or(|tried| tried.header != known.header));
        if let Some(newer) = newer {
            return Ok(Some(newer.clone()));
        }
        if slot.credentials.is_none() {
            let environment = transport.environment();
            slot.credentials =
                Some(credentials::find(environment, place.registry, place.repository)?);
        }
        let found = slot.credentials.as_ref().and_then(Option::as_ref);
        let fresh = make(transport, place, challenges, found)?;
        // A password that was refused is not sent again; a token may just have run out.
        let fresh = fresh.filter(|fresh| tried.is_none_or(|tried| tried.header != fresh.header));
        slot.known.clone_from(&fresh);
        Ok(fresh)
    }

    fn slot(&self, registry: &str, repository: &str) -> Arc<Mutex<Slot>> {
        let key = (registry.to_owned(), repository.to_owned());
        Arc::clone(lock(&self.slots).entry(key).or_default())
    }
}

/// Makes the header that answers one of `challenges`: a token before a password.
fn make(
    transport: &Transport,
    place: Place<'_>,
    challenges: &[Challenge],
    found: Option<&Found>,
) -> Result<Option<Authorization>, Error> {
    let sent = found.map_or(Sent::Nothing, |found| Sent::Credentials(found.place.clone()));
    let credentials = found.map(|found| &found.credentials);
    let mut password = false;
    if let (false, Some(Credentials::RegistryToken(token))) = (challenges.is_empty(), credentials) {
        let header = secret_header(&format!("Bearer {}", token.expose()), place.registry)?;
        return Ok(Some(Authorization { header, sent, end: None }));
    }
    for challenge in challenges {
        match challenge {
            Challenge::Basic => password = true,
            Challenge::Bearer { realm, service, scope } => {
                let realm = realm_url(realm, place.base)?;
                let own = format!("repository:{}:{}", place.repository, place.actions);
                let scope = scope.clone().unwrap_or(own);
                let wanted = Wanted { realm, service: service.as_deref(), scope: &scope };
                let (token, lifetime) = fetch_token(transport, place, &wanted, credentials, &sent)?;
                let end = Instant::now() + Duration::from_secs(lifetime.min(86_400));
                let header = secret_header(&format!("Bearer {}", token.expose()), place.registry)?;
                return Ok(Some(Authorization { header, sent, end: end.checked_sub(MARGIN) }));
            }
        }
    }
    match credentials {
        Some(Credentials::Password { user, password: secret }) if password => {
            let header = basic(user, secret, place.registry)?;
            Ok(Some(Authorization { header, sent, end: None }))
        }
        _ => Ok(None),
    }
}

pub(super) fn basic(user: &str, password: &Secret, registry: &str) -> Result<HeaderValue, Error> {
    let encoded = BASE64.encode(format!("{user}:{}", password.expose()));
    secret_header(&format!("Basic {encoded}"), registry)
}

pub(super) fn secret_header(text: &str, registry: &str) -> Result<HeaderValue, Error> {
    let mut header = HeaderValue::from_str(text)
        .map_err(|_| no_token(registry, "what it got cannot stand in a header"))?;
    header.set_sensitive(true);
    Ok(header)
}

/// The address of the token service, if it is one that this program goes to.
///
/// A registry may name any service, and credentials go there; so it must be encrypted unless the registry is not, and
/// hold no user of its own. How far away it may be, the transport sees to, which also knows where names lead
/// (CVE-2026-48978, CVE-2026-33540).
pub(super) fn realm_url(realm: &str, base: &Url) -> Result<Url, Error> {
    let refuse =
        |url: &str, why| Err(Error::Address { what: "token service", url: url.to_owned(), why });
    let Ok(url) = Url::parse(realm) else { return refuse("?", "it is no address") };
    if !url.username().is_empty() || url.password().is_some() {
        return refuse(&shown(&url), "it holds a user name");
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if base.scheme() == "http" || is_loopback(base) => Ok(url),
        "http" => refuse(&shown(&url), "it is not encrypted"),
        _ => refuse(&shown(&url), "it is neither http nor https"),
    }
}

struct Wanted<'a> {
    realm: Url,
    service: Option<&'a str>,
    scope: &'a str,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

/// Gets a token and the seconds that it is good for.
fn fetch_token(
    transport: &Transport,
    place: Place<'_>,
    wanted: &Wanted<'_>,
    credentials: Option<&Credentials>,
    sent: &Sent,
) -> Result<(Secret, u64), Error> {
    let registry = place.registry;
    let mut url = wanted.realm.clone();
    let mut authorization = None;
    let mut form = None;
    match credentials {
        Some(Credentials::IdentityToken(token)) => {
            form = Some(refresh_form(wanted, token));
        }
        other => {
            if let Some(Credentials::Password { user, password }) = other {
                authorization = Some(basic(user, password, registry)?);
            }
            let mut query = url.query_pairs_mut();
            if let Some(service) = wanted.service {
                query.append_pair("service", service);
            }
            for scope in wanted.scope.split(' ') {
                query.append_pair("scope", scope);
            }
        }
    }
    let build = |client: &Client, url: Url| -> RequestBuilder {
        match &form {
            None => client.get(url),
            Some(form) => client
                .post(url)
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(form.expose().to_owned()),
        }
    };
    let call = Call {
        url: &url,
        authorization: authorization.as_ref(),
        registry: &host_and_port(place.base),
        // The registry's own network is open to it, and so is everybody's.
        limit: place.class.unwrap_or(Class::Global),
        insecure: place.insecure && url.origin() == place.base.origin(),
        bulk: Bulk::Document,
        follow: form.is_none(),
        build: &build,
    };
    // Whoever needs the token tries again as a whole; both together would be tries times tries.
    let answer = transport.send(&call)?;
    if !answer.response.status().is_success() {
        return Err(refusal(transport, &wanted.realm, registry, sent, answer));
    }
    let bytes = transport.body("token", answer.response, MAX_TOKEN)?;
    // The parser's own words could repeat the token.
    let answer: TokenAnswer = serde_json::from_slice(&bytes)
        .map_err(|_| no_token(registry, "its token service's answer is not understood"))?;
    // Some send both, and one of them empty.
    let token = [answer.token, answer.access_token].into_iter().flatten();
    let token = token.into_iter().find(|token| !token.is_empty());
    let token = token.ok_or_else(|| no_token(registry, "its token service sends none"))?;
    Ok((Secret::new(token), answer.expires_in.unwrap_or(DEFAULT_LIFETIME).max(DEFAULT_LIFETIME)))
}

/// What an answer of the token service at `realm` means that is no success.
fn refusal(
    transport: &Transport,
    realm: &Url,
    registry: &str,
    sent: &Sent,
    answer: Answer,
) -> Error {
    let status = answer.response.status().as_u16();
    let wait = retry_after(answer.response.headers());
    let body = transport.body("error", answer.response, MAX_ERROR_BODY).unwrap_or_default();
    let detail = said(&body).detail;
    match status {
        400 | 401 | 403 => {
            let (object, host) = (registry.to_owned(), registry.to_owned());
            Error::Unauthorized { object, host, sent: sent.clone(), detail }
        }
        429 => {
            let host = host_and_port(realm);
            Error::TooManyRequests { host, limit: detail, wait, sent: sent.clone() }
        }
        _ => Error::Status { what: "token", host: host_and_port(realm), status, detail, wait },
    }
}

/// The body of a request for a token by a refresh token (token specification, "oauth2").
fn refresh_form(wanted: &Wanted<'_>, token: &Secret) -> Secret {
    let mut form = wanted.realm.clone();
    form.set_query(None);
    form.query_pairs_mut()
        .append_pair("grant_type", "refresh_token")
        .append_pair("service", wanted.service.unwrap_or_default())
        .append_pair("client_id", "mydocker")
        .append_pair("scope", wanted.scope)
        .append_pair("refresh_token", token.expose());
    Secret::new(form.query().unwrap_or_default().to_owned())
}

pub(super) fn no_token(registry: &str, why: &'static str) -> Error {
    Error::Token { host: registry.to_owned(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(realm: &str, base: &str) -> bool {
        realm_url(realm, &Url::parse(base).unwrap()).is_ok()
    }

    #[test]
    fn where_tokens_are_fetched() {
        let hub = "https://registry-1.docker.io/";
        assert!(allowed("https://auth.docker.io/token", hub));
        for bad in [
            "http://auth.docker.io/token",
            "http://169.254.169.254/",
            "https://u:p@auth.docker.io/",
            "https://u@auth.docker.io/",
            "file:///etc/passwd",
            "auth",
            "",
        ] {
            assert!(!allowed(bad, hub), "{bad}");
        }
        assert!(allowed("http://127.0.0.1:5001/token", "http://127.0.0.1:5000/"));
        assert!(allowed("http://127.0.0.1:5001/token", "https://127.0.0.1:5000/"));
        assert!(allowed("http://auth.test/token", "http://registry.test/"));
    }
}
