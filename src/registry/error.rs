//! What goes wrong between this program and a registry.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::cause::Cause;
use crate::oci::digest::Digest;
use crate::oci::reference::ReferenceError;

/// An error of a registry, or of the way to it. Addresses in it have lost their query, in which CDNs put signatures.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address that a registry sends this program to is not one that it goes to.
    #[error("refuse {what} `{url}`: {why}")]
    Address {
        /// Redirect or token service.
        what: &'static str,
        /// The address, without its query.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The registry's answer is none to what was asked.
    #[error("the {what} of `{host}` cannot be understood")]
    Answer {
        /// Search result, list of tags.
        what: &'static str,
        /// The registry.
        host: String,
    },
    /// The registry has no such layer or configuration.
    #[error("blob unknown: {repository}@{digest}")]
    BlobUnknown {
        /// The repository, with its registry.
        repository: String,
        /// The blob.
        digest: Digest,
    },
    /// The configuration forbids the registry, or this part of it.
    #[error("`{name}` is blocked by `{file}`")]
    Blocked {
        /// What was asked for.
        name: String,
        /// The file that says so.
        file: PathBuf,
    },
    /// A document of the registry is larger than any that is read.
    #[error("the {what} of `{host}` is larger than the {limit} bytes allowed")]
    BodyTooLarge {
        /// Manifest, token.
        what: &'static str,
        /// Whose it is.
        host: String,
        /// The most that is read, in bytes.
        limit: u64,
    },
    /// The registry wants a proof of identity of a kind that is not known here.
    #[error("log in to `{host}`: {why}")]
    Challenge {
        /// The registry.
        host: String,
        /// What is wrong with what it asks for.
        why: &'static str,
    },
    /// The client could not be set up.
    #[error("set up the http client")]
    Client(#[source] reqwest::Error),
    /// The host could not be reached.
    #[error("connect to `{host}`{}", through(.proxy))]
    Connect {
        /// Host and port.
        host: String,
        /// The proxy in between, if one is set.
        proxy: Option<String>,
        /// Why not.
        #[source]
        source: Cause,
    },
    /// The registry knows who asks, as far as it cares, and refuses.
    #[error("access to `{object}` denied{}", detail_words(.detail))]
    Denied {
        /// What was asked for.
        object: String,
        /// Whether credentials were sent, and whose.
        sent: Sent,
        /// What the registry says in its own words.
        detail: String,
    },
    /// The body is not what its digest says.
    #[error("digest mismatch: expected {expected}, got {actual}")]
    DigestMismatch {
        /// What was asked for.
        expected: Digest,
        /// What the bytes hash to.
        actual: Digest,
    },
    /// A file with credentials, certificates or configuration cannot be used.
    #[error("read `{path}`: {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A credential helper failed.
    #[error("credential helper `{helper}` for `{host}`: {why}")]
    Helper {
        /// The program's name.
        helper: String,
        /// For which registry.
        host: String,
        /// What is wrong. It never repeats what the helper said, which may be a password.
        why: String,
    },
    /// A system call on a file with credentials failed.
    #[error("{verb} `{path}`")]
    Io {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The registry does not know the user by this password.
    #[error("`{host}` refuses this user name and password{}", detail_words(.detail))]
    LoginRefused {
        /// The registry.
        host: String,
        /// What the registry says in its own words.
        detail: String,
    },
    /// The registry has no such manifest.
    #[error("manifest unknown: {0}")]
    ManifestUnknown(String),
    /// The manifest is not of the type that the index says.
    #[error("manifest {digest} comes as `{actual}`, its descriptor says `{expected}`")]
    MediaType {
        /// The manifest.
        digest: Digest,
        /// What the descriptor says.
        expected: String,
        /// What the registry says.
        actual: String,
    },
    /// The registry has no such repository.
    #[error("repository unknown: {0}")]
    NameUnknown(String),
    /// The registry cannot be searched.
    #[error("`{host}` has no search")]
    NoSearch {
        /// The registry.
        host: String,
    },
    /// A web page where a manifest should be.
    #[error("`{host}` answers with a web page, not with a manifest")]
    NotARegistry {
        /// Whom.
        host: String,
    },
    /// A server that should speak TLS does not.
    #[error("`{host}` speaks plain HTTP, not HTTPS")]
    PlainHttp {
        /// Host and port.
        host: String,
    },
    /// A proxy variable that this program cannot follow. The value may hold a password and is not shown.
    #[error("use the proxy in {variable}: {why}")]
    Proxy {
        /// The variable.
        variable: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Another part of a blob than the one asked for.
    #[error("`{host}` sends another part of {digest} than was asked for")]
    Range {
        /// Whom.
        host: String,
        /// The blob.
        digest: Digest,
    },
    /// The text is no image reference.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// A name without a registry, where the configuration leaves open which is meant.
    #[error("which registry has `{name}`? `{file}` {why}")]
    ShortName {
        /// The name.
        name: String,
        /// The configuration.
        file: PathBuf,
        /// What it leaves open.
        why: &'static str,
    },
    /// The content is longer or shorter than its descriptor says.
    #[error("{digest} has {actual} bytes, its descriptor says {expected}")]
    Size {
        /// The blob or manifest.
        digest: Digest,
        /// What the descriptor says, in bytes.
        expected: u64,
        /// What the registry says or has sent, in bytes.
        actual: u64,
    },
    /// The registry answered with an error that has no meaning of its own here.
    #[error("{what} from `{host}`: {status}{}", detail_words(.detail))]
    Status {
        /// What was asked for.
        what: &'static str,
        /// Whom.
        host: String,
        /// The HTTP status.
        status: u16,
        /// What the registry says in its own words.
        detail: String,
        /// The pause that it asks for.
        wait: Option<Duration>,
    },
    /// Nothing came, or not enough, for too long.
    #[error("`{host}` does not answer: no {what} within {} s{}", .after.as_secs_f32(), through(.proxy))]
    Timeout {
        /// What did not come: bytes, or the whole of a document.
        what: &'static str,
        /// Host and port.
        host: String,
        /// The time waited.
        after: Duration,
        /// The proxy in between, if one is set.
        proxy: Option<String>,
    },
    /// The host's certificate is not good, or ours is not to it, or TLS fails in another way.
    #[error("set up TLS with `{host}`")]
    Tls {
        /// Host and port.
        host: String,
        /// Why.
        #[source]
        source: Cause,
    },
    /// The token service's answer cannot be used.
    #[error("get a token for `{host}`: {why}")]
    Token {
        /// The registry.
        host: String,
        /// What is wrong with the answer. It never repeats the answer.
        why: &'static str,
    },
    /// The registry wants this program to wait.
    #[error("too many requests to `{host}`{}", detail_words(.limit))]
    TooManyRequests {
        /// The registry.
        host: String,
        /// What the registry says its limit is.
        limit: String,
        /// The pause that it asks for, or the time after which its limit starts anew.
        wait: Option<Duration>,
        /// Whether credentials were sent, and whose.
        sent: Sent,
    },
    /// The connection broke.
    #[error("read from `{host}`{}", through(.proxy))]
    Transfer {
        /// Host and port.
        host: String,
        /// The proxy in between, if one is set.
        proxy: Option<String>,
        /// How.
        #[source]
        source: Cause,
    },
    /// A body ended early, again and again.
    #[error("`{host}` breaks off {digest} after {actual} of {expected} bytes")]
    Truncated {
        /// Whom.
        host: String,
        /// The blob.
        digest: Digest,
        /// The bytes that should have come.
        expected: u64,
        /// The bytes that have.
        actual: u64,
    },
    /// The registry does not let this user do it.
    #[error("access to `{object}` needs a login: {}{}", .sent.in_words(), detail_words(.detail))]
    Unauthorized {
        /// What was asked for.
        object: String,
        /// The registry.
        host: String,
        /// Whether credentials were sent, and whose.
        sent: Sent,
        /// What the registry says in its own words.
        detail: String,
    },
    /// An upload cannot be begun.
    #[error("upload to `{host}`: {why}")]
    Upload {
        /// Where to.
        host: String,
        /// What is wrong with the registry's answer.
        why: &'static str,
    },
    /// An upload broke off, again and again.
    #[error("`{host}` breaks off the upload of {digest}: {why}")]
    UploadBroken {
        /// Where to.
        host: String,
        /// The blob.
        digest: Digest,
        /// What the registry's answer means.
        why: &'static str,
    },
    /// The certificate of a host was signed by somebody whom this machine does not trust.
    #[error(
        "verify the certificate of `{host}`: it is signed by {issuer}, whom this machine does not trust"
    )]
    UnknownIssuer {
        /// Host and port.
        host: String,
        /// Who signed it.
        issuer: Issuer,
    },
}

impl Error {
    /// The error that a [`super::Blob`] raised while it was read, or one that says so.
    pub fn from_read(error: io::Error, digest: &Digest) -> Self {
        match error.downcast::<Self>() {
            Ok(own) => own,
            Err(error) => {
                let source = Cause(error.into());
                Self::Transfer { host: digest.to_string(), proxy: None, source }
            }
        }
    }

    /// What the user can do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::ManifestUnknown(_) | Self::NameUnknown(_) => {
                "is the name right? The registry has no image of this name and tag".to_owned()
            }
            Self::Unauthorized { sent: Sent::Credentials(from), .. } => {
                format!("the registry refuses the user name or password in {from}")
            }
            Self::Unauthorized { host, sent: Sent::Nothing, .. } => format!(
                "the image does not exist, or needs credentials: `mydocker login {host}` stores them"
            ),
            Self::Denied { sent: Sent::Credentials(from), .. } => {
                format!("the user whose credentials are in {from} has no right to it")
            }
            Self::Denied { sent: Sent::Nothing, .. } => {
                "it does not exist, or is not for everybody: `mydocker login` stores credentials".to_owned()
            }
            Self::NoSearch { host } => {
                format!("`mydocker tags {host}/REPOSITORY` lists the tags of a repository that you know")
            }
            Self::LoginRefused { .. } => {
                "are both right? Many registries want a token that you make on their web page in place of the password"
                    .to_owned()
            }
            Self::UnknownIssuer { host, .. } => format!(
                "if you trust it, put its CA certificate in /etc/containers/certs.d/{host}/ca.crt or name it in SSL_CERT_FILE"
            ),
            Self::PlainHttp { host } => {
                format!("a registry without TLS needs --plain-http {host}")
            }
            Self::Connect { proxy: Some(_), .. } | Self::Timeout { proxy: Some(_), .. } => {
                "the proxy comes from HTTPS_PROXY, HTTP_PROXY or ALL_PROXY; NO_PROXY names hosts to reach without it"
                    .to_owned()
            }
            Self::Connect { .. } => "is the registry running and the name right?".to_owned(),
            Self::ShortName { .. } => {
                "write the registry in front, as in docker.io/library/NAME, or give it an alias".to_owned()
            }
            Self::Status { status: 413, .. } => {
                "the registry, or a proxy in front of it, does not take so much at a time".to_owned()
            }
            Self::NotARegistry { .. } => {
                "is the name right? Networks that want a login first answer like this, too".to_owned()
            }
            Self::TooManyRequests { sent: Sent::Nothing, .. } => {
                "wait, or log in: registries allow more to those they know".to_owned()
            }
            Self::TooManyRequests { .. } => "wait, and try again".to_owned(),
            Self::DigestMismatch { .. } => {
                "the registry or something on the way changed the bytes; nothing was stored".to_owned()
            }
            _ => return None,
        })
    }

    /// Whether the same request may go well a little later.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Status { status, .. } => matches!(status, 408 | 500 | 502 | 503 | 504),
            Self::TooManyRequests { .. } | Self::Timeout { .. } | Self::Transfer { .. } => true,
            Self::Truncated { .. } | Self::UploadBroken { .. } => true,
            Self::Connect { source, .. } => source.is_hang_up(),
            _ => false,
        }
    }

    /// Whether no exchange with the server came about.
    pub(super) fn is_unreachable(&self) -> bool {
        matches!(
            self,
            Self::Connect { .. }
                | Self::PlainHttp { .. }
                | Self::Timeout { .. }
                | Self::Tls { .. }
                | Self::Transfer { .. }
                | Self::UnknownIssuer { .. }
        )
    }

    /// Whether the server sends something else than what was asked for and calls it the same.
    pub fn is_lie(&self) -> bool {
        matches!(
            self,
            Self::BodyTooLarge { .. }
                | Self::DigestMismatch { .. }
                | Self::MediaType { .. }
                | Self::NotARegistry { .. }
                | Self::Range { .. }
                | Self::Size { .. }
        )
    }

    /// The pause that the registry asks for.
    pub(super) fn wait(&self) -> Option<Duration> {
        match self {
            Self::Status { wait, .. } | Self::TooManyRequests { wait, .. } => *wait,
            _ => None,
        }
    }
}

/// What was said about who asks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Sent {
    /// Credentials from this file or helper.
    Credentials(String),
    /// Nothing.
    Nothing,
}

impl Sent {
    fn in_words(&self) -> &'static str {
        match self {
            Self::Credentials(_) => "credentials were sent and refused",
            Self::Nothing => "none are stored for this registry",
        }
    }
}

/// Who signed a certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Issuer {
    /// The certificate's own subject.
    Itself,
    /// A name from the certificate.
    Named(String),
    /// Somebody whom it names in no form that is understood.
    Unknown,
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Itself => f.write_str("itself"),
            Self::Named(name) => write!(f, "`{name}`"),
            Self::Unknown => f.write_str("somebody"),
        }
    }
}

fn through(proxy: &Option<String>) -> String {
    proxy.as_ref().map(|proxy| format!(" through proxy `{proxy}`")).unwrap_or_default()
}

fn detail_words(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(": {detail}") }
}
