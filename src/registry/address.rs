//! How far a name may lead: classes of network addresses, and the resolver that enforces a limit on them.
//!
//! A registry names other servers: its token service, and where a redirect goes. A registry on the internet must not
//! make this program talk to the machine it runs on, to a cloud's metadata service, or to somebody's intranet
//! (CVE-2026-48978, CVE-2026-33540). A look at the name is not enough, as a name may resolve to anything and to
//! something else a second later; so the limit sits in the resolver whose answer is connected to.
//!
//! The program is a static executable, so `getaddrinfo` and the C library's name services are out of reach: names are
//! looked up in `/etc/hosts` and then asked of the servers in `/etc/resolv.conf`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock};

use hickory_resolver::config::LookupIpStrategy;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name as DnsName, RecordType};
use hickory_resolver::{Hosts, TokioResolver};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// What kind of network an address belongs to, from the one that everybody reaches to the one that only we reach.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) enum Class {
    /// The internet.
    Global,
    /// A private network: RFC 1918, RFC 6598 (carrier NAT), RFC 4193 (`fc00::/7`).
    Private,
    /// The local link, where clouds keep their metadata service: `169.254.0.0/16`, `fe80::/10`; and what names nobody
    /// in particular, such as multicast.
    LinkLocal,
    /// This machine: `127.0.0.0/8`, `::1`, and the unspecified addresses, which the kernel takes for it.
    Loopback,
}

impl Class {
    /// The class of `address`, seen through the ways of writing an IPv4 address as an IPv6 one.
    pub(super) fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::of_v4(address),
            IpAddr::V6(address) => match embedded_v4(address) {
                Some(address) => Self::of_v4(address),
                None => Self::of_v6(address),
            },
        }
    }

    fn of_v4(address: Ipv4Addr) -> Self {
        let [a, b, ..] = address.octets();
        if address.is_loopback() || a == 0 {
            Self::Loopback
        } else if address.is_link_local() || a >= 224 {
            Self::LinkLocal
        } else if address.is_private() || (a == 100 && b & 0xc0 == 64) {
            Self::Private
        } else {
            Self::Global
        }
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        let first = address.segments()[0];
        if address.is_loopback() || address.is_unspecified() {
            Self::Loopback
        } else if first & 0xffc0 == 0xfe80 || first & 0xff00 == 0xff00 {
            Self::LinkLocal
        } else if first & 0xfe00 == 0xfc00 || first & 0xffc0 == 0xfec0 {
            Self::Private
        } else {
            Self::Global
        }
    }
}

/// The address that a URL's host is, if it is one.
pub(super) fn ip(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// The IPv4 address inside an IPv4-mapped (RFC 4291), NAT64 (RFC 6052) or 6to4 (RFC 3056) address.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = address.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Some(Ipv4Addr::new(a, b, c, d))
    };
    match s {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        [0x2002, high, low, ..] => v4(high, low),
        _ => None,
    }
}

/// Why a name leads nowhere. It travels inside the HTTP client's error.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum ResolveError {
    /// Every address of the name lies beyond the limit.
    #[error("`{name}` leads to {address}, where a registry elsewhere may not send us")]
    Forbidden {
        /// The name asked for.
        name: String,
        /// One of its addresses.
        address: IpAddr,
    },
    /// There is no such name, or it has no address.
    #[error("no such host")]
    NotFound,
    /// No server in `/etc/resolv.conf` answered.
    #[error("no name server answered")]
    NoAnswer,
    /// `/etc/resolv.conf` is missing or names no server, and `/etc/hosts` does not know the name.
    #[error("no name server in `/etc/resolv.conf`")]
    NoServer,
}

/// A resolver that hands out no address beyond its limit.
pub(super) struct Resolver {
    limit: Class,
    // Made on first use, inside the runtime that its sockets belong to.
    inner: Arc<OnceLock<Option<TokioResolver>>>,
}

impl Resolver {
    /// A resolver for addresses up to and including `limit`.
    pub(super) fn up_to(limit: Class) -> Self {
        Self { limit, inner: Arc::default() }
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (limit, inner) = (self.limit, Arc::clone(&self.inner));
        Box::pin(async move {
            let name = name.as_str();
            let addresses = match local(name) {
                Some(addresses) => addresses,
                None => ask(inner.get_or_init(system_resolver).as_ref(), name).await?,
            };
            let (allowed, forbidden): (Vec<IpAddr>, Vec<IpAddr>) =
                addresses.into_iter().partition(|address| Class::of(*address) <= limit);
            if let (true, Some(&address)) = (allowed.is_empty(), forbidden.first()) {
                return Err(ResolveError::Forbidden { name: name.to_owned(), address }.into());
            }
            // Port 0 stands for the one in the URL.
            let sockets = allowed.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(sockets) as Addrs)
        })
    }
}

/// What this machine knows about `name` without asking a server.
///
/// A name that `/etc/hosts` has for one family only is not asked for in the other: on a machine without a network that
/// question would take many seconds to fail.
fn local(name: &str) -> Option<Vec<IpAddr>> {
    let bare = name.strip_suffix('.').unwrap_or(name);
    // RFC 6761, section 6.3: these never leave the machine.
    if bare.eq_ignore_ascii_case("localhost") || bare.to_ascii_lowercase().ends_with(".localhost") {
        return Some(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    let hosts = Hosts::from_system().ok()?;
    let name = DnsName::from_str_relaxed(bare).ok()?;
    let mut addresses = Vec::new();
    for kind in [RecordType::A, RecordType::AAAA] {
        if let Some(found) = hosts.lookup_static_host(&Query::query(name.clone(), kind)) {
            addresses.extend(found.answers().iter().filter_map(|record| record.data.ip_addr()));
        }
    }
    (!addresses.is_empty()).then_some(addresses)
}

/// The servers of `/etc/resolv.conf`, or nobody: a public service that the user did not choose would learn the names.
fn system_resolver() -> Option<TokioResolver> {
    let mut builder = TokioResolver::builder_tokio().ok()?;
    builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    builder.build().ok()
}

async fn ask(resolver: Option<&TokioResolver>, name: &str) -> Result<Vec<IpAddr>, ResolveError> {
    let resolver = resolver.ok_or(ResolveError::NoServer)?;
    match resolver.lookup_ip(name).await {
        Ok(found) => Ok(found.iter().collect()),
        Err(NetError::Dns(error)) => {
            log::debug!("look up `{name}`: {error}");
            Err(ResolveError::NotFound)
        }
        Err(error) => {
            log::debug!("look up `{name}`: {error}");
            Err(ResolveError::NoAnswer)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes() {
        let table = [
            ("1.1.1.1", Class::Global),
            ("172.32.0.1", Class::Global),
            ("100.128.0.1", Class::Global),
            ("2606:4700::1", Class::Global),
            ("10.0.0.1", Class::Private),
            ("172.16.0.1", Class::Private),
            ("192.168.0.1", Class::Private),
            ("100.64.0.1", Class::Private),
            ("fd00::1", Class::Private),
            ("::ffff:10.0.0.1", Class::Private),
            ("64:ff9b::a00:1", Class::Private),
            ("169.254.169.254", Class::LinkLocal),
            ("::ffff:169.254.169.254", Class::LinkLocal),
            ("fe80::1", Class::LinkLocal),
            ("224.0.0.1", Class::LinkLocal),
            ("255.255.255.255", Class::LinkLocal),
            ("127.0.0.1", Class::Loopback),
            ("127.9.9.9", Class::Loopback),
            ("0.0.0.0", Class::Loopback),
            ("::1", Class::Loopback),
            ("::", Class::Loopback),
            ("::ffff:127.0.0.1", Class::Loopback),
            ("2002:7f00:1::", Class::Loopback),
        ];
        for (text, class) in table {
            assert_eq!(Class::of(text.parse().unwrap()), class, "{text}");
        }
    }

    #[test]
    fn localhost_is_known_without_a_server() {
        for name in ["localhost", "LOCALHOST", "localhost.", "a.localhost"] {
            let found = local(name).unwrap();
            assert!(found.iter().all(|address| address.is_loopback()), "{name}");
        }
    }
}
