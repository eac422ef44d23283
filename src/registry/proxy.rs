//! Which proxy a request goes through.
//!
//! The variables are those of curl and Go. This machine itself is never reached through a proxy.

use std::net::IpAddr;

use reqwest::Url;

use super::Environment;
use super::address::{Class, ip};
use super::error::Error;
use super::foreign::shown;

/// The proxies that the environment names.
#[derive(Clone, Default)]
pub(super) struct Proxies {
    http: Option<Url>,
    https: Option<Url>,
    exceptions: Vec<Exception>,
}

/// One entry of `NO_PROXY`.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Exception {
    All,
    Network {
        address: IpAddr,
        bits: u32,
    },
    /// The name and all below it, on one port or on all.
    Name {
        suffix: String,
        port: Option<u16>,
    },
}

impl Proxies {
    /// Reads the variables.
    ///
    /// # Errors
    /// [`Error::Proxy`] for a value that is no URL or of a kind that is not supported (SOCKS).
    pub(super) fn new(environment: &Environment) -> Result<Self, Error> {
        let all = parse("ALL_PROXY", environment.all_proxy.as_deref())?;
        let http = parse("HTTP_PROXY", environment.http_proxy.as_deref())?.or_else(|| all.clone());
        let https = parse("HTTPS_PROXY", environment.https_proxy.as_deref())?.or(all);
        let entries = environment.no_proxy.as_deref().unwrap_or_default().split([',', ' ']);
        Ok(Self { http, https, exceptions: entries.filter_map(exception).collect() })
    }

    /// The proxy for a request to `url`, if it goes through one.
    pub(super) fn for_url(&self, url: &Url) -> Option<&Url> {
        let proxy = match url.scheme() {
            "https" => self.https.as_ref()?,
            _ => self.http.as_ref()?,
        };
        let host = url.host_str()?.trim_end_matches('.');
        let address = ip(host);
        let this_machine = host == "localhost"
            || host.ends_with(".localhost")
            || address.is_some_and(|address| Class::of(address) == Class::Loopback);
        let port = url.port_or_known_default();
        let excepted = |exception: &Exception| exception.covers(host, address, port);
        (!this_machine && !self.exceptions.iter().any(excepted)).then_some(proxy)
    }

    /// The proxy for `url` as an error names it, without its password.
    pub(super) fn shown_for(&self, url: &Url) -> Option<String> {
        self.for_url(url).map(shown)
    }

    /// Whether no request at all goes through a proxy.
    pub(super) fn is_empty(&self) -> bool {
        self.http.is_none() && self.https.is_none()
    }
}

fn parse(variable: &'static str, value: Option<&str>) -> Result<Option<Url>, Error> {
    let Some(value) = value.map(str::trim).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let refuse = |why| Err(Error::Proxy { variable, why });
    let full = if value.contains("://") { value.to_owned() } else { format!("http://{value}") };
    match full.parse::<Url>() {
        Ok(url) if !matches!(url.scheme(), "http" | "https") => {
            refuse("only http and https proxies are supported")
        }
        Ok(url) if url.host_str().is_some() => Ok(Some(url)),
        _ => refuse("it is not a URL"),
    }
}

fn exception(entry: &str) -> Option<Exception> {
    let entry = entry.trim().to_ascii_lowercase();
    if entry.is_empty() {
        return None;
    }
    if entry == "*" {
        return Some(Exception::All);
    }
    if let Some((address, bits)) = entry.split_once('/') {
        return Some(Exception::Network { address: ip(address)?, bits: bits.parse().ok()? });
    }
    if let Some(address) = ip(&entry) {
        return Some(Exception::Network { address, bits: 128 });
    }
    let (name, port) = match entry.rsplit_once(':') {
        Some((name, port)) => (name, Some(port.parse().ok()?)),
        None => (entry.as_str(), None),
    };
    let suffix = name.trim_start_matches("*.").trim_matches('.').to_owned();
    Some(Exception::Name { suffix, port })
}

impl Exception {
    fn covers(&self, host: &str, address: Option<IpAddr>, port: Option<u16>) -> bool {
        match self {
            Self::All => true,
            Self::Network { address: network, bits } => {
                address.is_some_and(|address| same_network(address, *network, *bits))
            }
            Self::Name { suffix, port: only } => {
                let below = || host.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.'));
                (only.is_none() || *only == port)
                    && !suffix.is_empty()
                    && (host == suffix || below() || same_host(host, suffix))
            }
        }
    }
}

/// `10.0.0.1` and `[::1]`, which may have come with a port and so not as a network.
fn same_host(host: &str, entry: &str) -> bool {
    ip(host).is_some_and(|host| ip(entry) == Some(host))
}

fn same_network(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let mask = u32::MAX.checked_shl(32 - bits.min(32)).unwrap_or(0);
            u32::from(address) & mask == u32::from(network) & mask
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let mask = u128::MAX.checked_shl(128 - bits.min(128)).unwrap_or(0);
            u128::from(address) & mask == u128::from(network) & mask
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(no_proxy: &str) -> Proxies {
        Proxies::new(&Environment {
            http_proxy: Some("plain.example:3128".into()),
            https_proxy: Some("http://u:p@secure.example:3128".into()),
            no_proxy: Some(no_proxy.into()),
            ..Environment::default()
        })
        .unwrap()
    }

    #[test]
    fn by_scheme_and_never_for_this_machine() {
        let proxies = proxies("");
        let host = |url: &str| {
            proxies.for_url(&url.parse().unwrap()).and_then(|url| url.host_str().map(str::to_owned))
        };
        assert_eq!(host("http://a.example/").as_deref(), Some("plain.example"));
        assert_eq!(host("https://a.example/").as_deref(), Some("secure.example"));
        for url in ["http://localhost:1/", "https://127.0.0.9/", "https://[::1]:5000/"] {
            assert_eq!(host(url), None, "{url}");
        }
        let shown = proxies.shown_for(&"https://a.example/".parse().unwrap()).unwrap();
        assert_eq!(shown, "http://secure.example:3128/");
    }

    #[test]
    fn exceptions() {
        let table = [
            ("a.example", "a.example", true),
            ("a.example", "b.a.example", true),
            (".a.example", "b.a.example", true),
            ("*.a.example", "b.a.example", true),
            ("a.example", "xa.example", false),
            ("a.example:5000", "a.example:5000", true),
            ("a.example:5000", "a.example", false),
            ("x, a.example ,y", "a.example", true),
            ("*", "a.example", true),
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.1.2.3", false),
            ("10.1.2.3", "10.1.2.3:5000", true),
            ("10.1.2.3:5000", "10.1.2.3:5000", true),
            ("fd00::/8", "[fd01::1]", true),
            ("0.0.0.0/0", "9.9.9.9", true),
            ("garbage/99", "a.example", false),
        ];
        for (no_proxy, host, excepted) in table {
            let url = format!("https://{host}/").parse().unwrap();
            assert_eq!(proxies(no_proxy).for_url(&url).is_none(), excepted, "{no_proxy} {host}");
        }
    }

    #[test]
    fn what_is_no_proxy() {
        for bad in ["socks5://x:1", "http://", "ftp://x"] {
            let environment =
                Environment { https_proxy: Some(bad.into()), ..Environment::default() };
            assert!(matches!(Proxies::new(&environment), Err(Error::Proxy { .. })), "{bad}");
        }
    }
}
