//! Words and addresses of others, as they may be shown.

use reqwest::Url;
use serde::Deserialize;

/// The most characters of foreign text that are repeated.
const MAX_SHOWN: usize = 300;

/// What a registry says about an error (distribution-spec, "Error Codes").
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) code: String,
    pub(super) detail: String,
}

/// Reads an error body: the first error in it, or its first line.
pub(super) fn said(body: &[u8]) -> Said {
    #[derive(Deserialize)]
    struct Body {
        errors: Vec<Item>,
    }
    #[derive(Deserialize)]
    struct Item {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    match serde_json::from_slice::<Body>(body) {
        Ok(Body { errors }) => match errors.into_iter().next() {
            Some(Item { code, message }) => {
                Said { detail: printable(if message.is_empty() { &code } else { &message }), code }
            }
            None => Said::default(),
        },
        Err(_) => {
            let text = String::from_utf8_lossy(body);
            let first = text.trim_start().lines().next().unwrap_or_default();
            // Markup says nothing to a person at a terminal.
            let detail = if first.starts_with('<') { String::new() } else { printable(first) };
            Said { code: String::new(), detail }
        }
    }
}

/// An address as it may be shown: without the query, in which CDNs put signatures, and without a user.
pub(super) fn shown(url: &Url) -> String {
    printable(&format!("{}://{}{}", url.scheme(), host_and_port(url), url.path()))
}

/// `host`, or `host:port` where the port is not the scheme's own.
pub(super) fn host_and_port(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Foreign text as it may go to a terminal: bounded, and free of control characters.
pub(super) fn printable(text: &str) -> String {
    let tame = |c: char| if c.is_control() { ' ' } else { c };
    let text: String = text.chars().map(tame).take(MAX_SHOWN).collect();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lose_their_secrets() {
        let url = "https://user:pw@cdn.example:1/blob?Signature=abc#f".parse().unwrap();
        assert_eq!(shown(&url), "https://cdn.example:1/blob");
    }

    #[test]
    fn foreign_words_are_tamed() {
        assert_eq!(printable(" a\x1b[31mb\nc\u{9b}d "), "a [31mb c d");
        assert!(printable(&"x".repeat(5000)).len() <= MAX_SHOWN);
        assert_eq!(said(b"<html>\n<b>no</b>").detail, "");
        assert_eq!(said(b"just words\nand more").detail, "just words");
        assert_eq!(said(br#"{"errors":[{"code":"DENIED"}]}"#).detail, "DENIED");
        assert_eq!(said(br#"{"errors":[]}"#).detail, "");
        assert_eq!(said(b"").detail, "");
    }
}
