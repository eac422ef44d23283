//! Where an upload goes on, and how far it is (distribution-spec, "Pushing a blob in chunks").

use reqwest::Url;
use reqwest::header::{self, HeaderMap};

use super::error::Error;
use super::foreign::shown;
use super::transport::next_hop;

/// The error for an address that an upload may not go to.
pub(super) fn out_of_bounds(url: &Url) -> Error {
    let why = "it is inside the network and the registry is not";
    Error::Address { what: "upload address", url: shown(url), why }
}

/// Where an answer says that an upload goes on. A registry may name any place, also without a `Location`.
pub(super) fn location(from: &Url, headers: &HeaderMap) -> Result<Option<Url>, Error> {
    let Some(value) = headers.get(header::LOCATION) else { return Ok(None) };
    // What is no text leads nowhere, which is an error further on.
    let next = next_hop(from, value.to_str().unwrap_or("http://"));
    next.map(Some).map_err(|error| match error {
        Error::Address { url, why, .. } => Error::Address { what: "upload address", url, why },
        other => other,
    })
}

/// The number of bytes that a registry has, from `Range: 0-1023`, which some write with `bytes=`.
pub(super) fn range_end(headers: &HeaderMap) -> Option<u64> {
    let value = headers.get(header::RANGE)?.to_str().ok()?.trim();
    let (first, last) = value.strip_prefix("bytes=").unwrap_or(value).split_once('-')?;
    let last: u64 = last.trim().parse().ok()?;
    if first.trim() == "0" { last.checked_add(1) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_uploads() {
        let read = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, value.parse().unwrap());
            range_end(&headers)
        };
        assert_eq!(read("0-1023"), Some(1024));
        assert_eq!(read("bytes=0-1023"), Some(1024));
        assert_eq!(read("0-0"), Some(1));
        for bad in ["", "0", "1-2", "0-", "0-x", "-5", "0-18446744073709551615"] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn where_an_upload_may_go_on() {
        let from = "https://registry.example/v2/app/blobs/uploads/".parse().unwrap();
        let at = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::LOCATION, value.parse().unwrap());
            location(&from, &headers)
        };
        let url = |value: &str| at(value).unwrap().unwrap().to_string();
        assert_eq!(url("/v2/x?_state=a%3D"), "https://registry.example/v2/x?_state=a%3D");
        assert_eq!(url("https://storage.example/x"), "https://storage.example/x");
        for bad in ["http://registry.example/x", "https://u:p@registry.example/x", "file:///x"] {
            assert!(matches!(at(bad), Err(Error::Address { what: "upload address", .. })), "{bad}");
        }
        assert!(location(&from, &HeaderMap::new()).unwrap().is_none());
    }
}
