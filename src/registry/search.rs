//! Searching a registry by words: the first version of docker's interface, which Docker Hub has and few others.
//!
//! Specification: docker's "Registry API v1", "Search": `GET /v1/search?q=TERM&n=LIMIT`.

use reqwest::Url;
use reqwest::blocking::Client as Http;
use reqwest::header::HeaderValue;
use serde::Deserialize;

use super::address::Class;
use super::auth::basic;
use super::challenge::Challenge;
use super::client::{Client, challenges};
use super::credentials::{self, Credentials};
use super::error::{Error, Sent};
use super::foreign::{host_and_port, printable, said};
use super::transport::{self, Answer, Bulk, Call};
use crate::oci::manifest::MAX_MANIFEST;
use crate::oci::reference::DEFAULT_REGISTRY;

/// Where Docker Hub is searched.
const HUB_INDEX: &str = "https://index.docker.io/";
/// The most that is read of an error's body, in bytes.
const MAX_ERROR_BODY: u64 = 64 << 10;

/// A repository that was found.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default)]
pub struct SearchResult {
    /// Its name.
    pub name: String,
    /// What its owner says about it, on one line.
    pub description: String,
    /// How many users have starred it.
    pub star_count: u64,
    /// Whether the registry's own people care for it.
    pub is_official: bool,
    /// Whether it is built from a repository of sources; no registry says so any longer.
    pub is_automated: bool,
}

#[derive(Deserialize)]
struct Found {
    results: Option<Vec<SearchResult>>,
}

impl Client {
    /// The repositories of `registry` that fit `term`, at most `limit`, in the registry's order.
    ///
    /// # Errors
    /// [`Error::NoSearch`] when the registry does not offer it.
    pub fn search(
        &self,
        registry: &str,
        term: &str,
        limit: u16,
    ) -> Result<Vec<SearchResult>, Error> {
        let base = match registry {
            DEFAULT_REGISTRY => transport::parse_url(HUB_INDEX)?,
            registry => self.transport.base(registry, self.is_insecure(registry)?)?,
        };
        let mut url = transport::parse_url(&format!("{base}v1/search"))?;
        url.query_pairs_mut().append_pair("q", term).append_pair("n", &limit.to_string());
        let mut sent = Sent::Nothing;
        let mut answer = self.ask(registry, &url, None)?;
        let offered = challenges(answer.response.headers());
        // Docker Hub tells everybody. Others may want to know who asks.
        if answer.response.status() == 401
            && !answer.elsewhere
            && offered.contains(&Challenge::Basic)
            && let Some(found) = credentials::find(self.transport.environment(), registry, "")?
            && let Credentials::Password { user, password } = &found.credentials
        {
            answer = self.ask(registry, &url, Some(&basic(user, password, registry)?))?;
            sent = Sent::Credentials(found.place);
        }
        if !answer.response.status().is_success() {
            return Err(self.search_refusal(registry, answer, sent));
        }
        let bytes = self.transport.body("search results", answer.response, MAX_MANIFEST)?;
        let unclear = |_| Error::Answer { what: "search result", host: registry.to_owned() };
        let found: Found = serde_json::from_slice(&bytes).map_err(unclear)?;
        let tame = |result: SearchResult| SearchResult {
            name: printable(&result.name),
            description: printable(&result.description),
            ..result
        };
        let results = found.results.unwrap_or_default();
        Ok(results.into_iter().take(limit.into()).map(tame).collect())
    }

    fn ask(
        &self,
        registry: &str,
        url: &Url,
        authorization: Option<&HeaderValue>,
    ) -> Result<Answer, Error> {
        let host = &host_and_port(url);
        let (limit, bulk) = (Class::Loopback, Bulk::Document);
        let (follow, build) = (true, &|http: &Http, url| http.get(url));
        let insecure = self.is_insecure(registry)?;
        let call =
            Call { url, authorization, registry: host, limit, insecure, bulk, follow, build };
        self.transport.retry(|| {
            let answer = self.transport.send(&call)?;
            match answer.response.status().as_u16() {
                429 | 500.. => Err(self.search_refusal(registry, answer, Sent::Nothing)),
                _ => Ok(answer),
            }
        })
    }

    fn search_refusal(&self, registry: &str, answer: Answer, sent: Sent) -> Error {
        let status = answer.response.status().as_u16();
        let wait = transport::retry_after(answer.response.headers());
        let body = self.transport.body("error", answer.response, MAX_ERROR_BODY);
        let detail = said(&body.unwrap_or_default()).detail;
        let (what, host) = ("search result", registry.to_owned());
        match status {
            401 | 403 => Error::Unauthorized { object: host.clone(), host, sent, detail },
            404 => Error::NoSearch { host },
            429 => Error::TooManyRequests { host, limit: detail, wait, sent },
            _ => Error::Status { what, host, status, detail, wait },
        }
    }
}
