//! The tags of a repository (distribution-spec, "Listing Tags").

use reqwest::Url;
use reqwest::blocking::Client as Http;
use reqwest::header::{self, HeaderMap};
use serde::Deserialize;

use super::address::Class;
use super::client::{Client, Wanted};
use super::error::Error;
use super::foreign::shown;
use crate::oci::manifest::MAX_MANIFEST;
use crate::oci::reference::Reference;

/// The tags that are asked for at a time. More in one answer would be more than is read at once.
const PAGE: &str = "?n=1000";
/// The most pages that are asked for.
const MAX_PAGES: usize = 10_000;

#[derive(Deserialize)]
struct Page {
    tags: Option<Vec<String>>,
}

impl Client {
    /// Hands each tag in the repository of `reference` to `each`, page by page as they come, until it says `false`.
    ///
    /// What no reference can hold is passed over.
    ///
    /// # Errors
    /// [`Error::NameUnknown`] where there is no such repository; [`Error::Answer`] for a list without an end.
    pub fn tags(
        &self,
        reference: &Reference,
        each: &mut dyn FnMut(Reference) -> bool,
    ) -> Result<(), Error> {
        let (registry, repository) = (reference.registry(), reference.repository());
        let origin = self.origin(reference)?;
        let base = self.transport.base(origin.reference.registry(), origin.insecure)?;
        let get = |http: &Http, url: Url| http.get(url);
        let mut next: Option<Url> = None;
        for _ in 0..MAX_PAGES {
            let answer = self.transport.retry(|| match &next {
                None => self.request(&origin, Wanted::Tags(PAGE), &get),
                Some(url) => {
                    self.request_at(&origin, Wanted::Tags(PAGE), url, Class::Loopback, &get)
                }
            })?;
            let following = next_page(&base, answer.response.headers())?;
            let bytes = self.transport.body("tags", answer.response, MAX_MANIFEST)?;
            let unclear = |_| Error::Answer { what: "list of tags", host: registry.to_owned() };
            let page: Page = serde_json::from_slice(&bytes).map_err(unclear)?;
            for tag in page.tags.unwrap_or_default() {
                match format!("{registry}/{repository}:{tag}").parse::<Reference>() {
                    Ok(tagged) if tagged.digest().is_none() => {
                        if !each(tagged) {
                            return Ok(());
                        }
                    }
                    _ => log::debug!("a tag of {registry}/{repository} is passed over: {tag:?}"),
                }
            }
            match following {
                None => return Ok(()),
                Some(url) => next = Some(url),
            }
        }
        Err(Error::Answer { what: "list of tags", host: registry.to_owned() })
    }
}

/// The next page, from `Link: </v2/app/tags/list?last=x&n=1000>; rel="next"` (RFC 8288).
///
/// It belongs to the same registry: another origin has no tags of it.
fn next_page(base: &Url, headers: &HeaderMap) -> Result<Option<Url>, Error> {
    let values = headers.get_all(header::LINK).iter().filter_map(|value| value.to_str().ok());
    let next = values.filter_map(|value| {
        let (target, parameters) = value.trim().strip_prefix('<')?.split_once('>')?;
        let mut parameters = parameters.split(';').map(str::trim);
        parameters.any(|word| matches!(word, "rel=next" | "rel=\"next\"")).then_some(target)
    });
    let Some(target) = next.into_iter().next() else { return Ok(None) };
    match base.join(target) {
        Ok(url) if url.origin() == base.origin() => Ok(Some(url)),
        Ok(url) => {
            let why = "it is not the registry's own";
            Err(Error::Address { what: "next page", url: shown(&url), why })
        }
        Err(_) => {
            let why = "it is no address";
            Err(Error::Address { what: "next page", url: shown(base), why })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page() {
        let base = "https://r.example/".parse().unwrap();
        let next = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::LINK, value.parse().unwrap());
            next_page(&base, &headers)
        };
        let url = |value: &str| next(value).unwrap().map(|url| url.to_string());
        let expected = Some("https://r.example/v2/a/tags/list?last=x&n=2".to_owned());
        assert_eq!(url(r#"</v2/a/tags/list?last=x&n=2>; rel="next""#), expected);
        assert_eq!(url("<https://r.example/v2/a/tags/list?last=x&n=2>;rel=next"), expected);
        assert_eq!(url(r#"</v2/a/tags/list>; rel="prev""#), None);
        assert_eq!(url("/v2/a/tags/list"), None);
        assert!(next(r#"<https://evil.example/v2/a/tags/list>; rel="next""#).is_err());
        assert!(next(r#"<http://r.example/v2/a/tags/list>; rel="next""#).is_err());
        assert!(next(r#"<http://[>; rel="next""#).is_err());
        assert!(next_page(&base, &HeaderMap::new()).unwrap().is_none());
    }
}
