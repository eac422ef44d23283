//! Image references: what a user types to name an image, and where it leads.
//!
//! Grammar: distribution-spec, "Pulling manifests", and the reference grammar of the `distribution/reference` project,
//! which docker and podman share: `[registry/]repository[:tag][@digest]`.

use std::fmt;
use std::str::FromStr;

use super::digest::{Digest, DigestError};

/// The registry that a name without one means, in the form that users see.
pub const DEFAULT_REGISTRY: &str = "docker.io";
/// The longest repository name, in bytes (distribution: `RepositoryNameTotalLengthMax`).
const MAX_REPOSITORY: usize = 255;
/// The longest tag, in bytes (distribution-spec, "Pulling manifests").
const MAX_TAG: usize = 128;

/// A complete image reference: nothing in it is left to a default.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is not an image reference.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// The part behind `@` is not a digest.
    #[error("invalid reference `{reference}`")]
    Digest {
        /// The text given.
        reference: String,
        /// What is wrong with its digest.
        #[source]
        source: DigestError,
    },
    /// A part does not follow the grammar.
    #[error("invalid reference `{reference}`: {part} {problem}")]
    Part {
        /// The text given.
        reference: String,
        /// Which part: registry, repository or tag.
        part: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl Reference {
    /// The registry's host and port as users write it: `docker.io`, `localhost:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository, with Docker Hub's `library/` spelt out.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; `None` only where a digest stands alone.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest that pins the content, if the reference has one.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// What a registry is asked for: the digest when there is one, the tag otherwise.
    pub fn manifest_reference(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }

    /// The shortest text that means the same: `busybox`, `busybox:1.36`, `ghcr.io/org/app:v1`.
    ///
    /// It is the image's name in the store, in `images` and in `index.json`.
    pub fn familiar(&self) -> String {
        let mut name = self.familiar_repository();
        if let Some(tag) = self.tag.as_deref().filter(|tag| *tag != "latest") {
            name.push(':');
            name.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            name.push('@');
            name.push_str(&digest.to_string());
        }
        name
    }

    /// The repository as docker's `REPOSITORY` column shows it: `busybox`, `ghcr.io/org/app`.
    pub fn familiar_repository(&self) -> String {
        if self.registry != DEFAULT_REGISTRY {
            return format!("{}/{}", self.registry, self.repository);
        }
        match self.repository.strip_prefix("library/") {
            Some(rest) if !rest.contains('/') => rest.to_owned(),
            _ => self.repository.clone(),
        }
    }

    /// The familiar name as one file name: `/` becomes `+`, which no reference may contain.
    pub fn file_name(&self) -> String {
        self.familiar().replace('/', "+")
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let shown = || text.chars().take(128).collect::<String>();
        let refuse =
            |part, problem| Err(ReferenceError::Part { reference: shown(), part, problem });
        let (rest, digest) = match text.split_once('@') {
            None => (text, None),
            Some((rest, digest)) => {
                let parsed = digest.parse();
                let source = |source| ReferenceError::Digest { reference: shown(), source };
                (rest, Some(parsed.map_err(source)?))
            }
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        let (registry, path) = match name.split_once('/') {
            Some((first, path)) if names_registry(first) => (first, path),
            _ => (DEFAULT_REGISTRY, name),
        };
        let registry = match registry {
            "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com" => {
                DEFAULT_REGISTRY
            }
            other => other,
        };
        if let Some(problem) = registry_problem(registry) {
            return refuse("registry", problem);
        }
        let repository = if registry == DEFAULT_REGISTRY && !path.contains('/') && !path.is_empty()
        {
            format!("library/{path}")
        } else {
            path.to_owned()
        };
        if let Some(problem) = repository_problem(&repository) {
            return refuse("repository", problem);
        }
        if let Some(problem) = tag.and_then(tag_problem) {
            return refuse("tag", problem);
        }
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, None) => Some("latest".to_owned()),
            (None, Some(_)) => None,
        };
        Ok(Self { registry: registry.to_owned(), repository, tag, digest })
    }
}

impl fmt::Display for Reference {
    /// The full form: `docker.io/library/busybox:latest`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// Whether a reference's text says which registry is meant, so that nothing is left to a default.
pub fn is_qualified(text: &str) -> bool {
    text.split_once('/').is_some_and(|(first, _)| names_registry(first))
}

/// Whether the first component names a registry: it has a dot or a port, is `localhost`, or has upper case, which a
/// repository cannot have.
pub fn names_registry(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':', '[']) || first.chars().any(char::is_uppercase)
}

fn registry_problem(registry: &str) -> Option<&'static str> {
    let (host, port) = if let Some(rest) = registry.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else {
            return Some("has an unclosed `[`");
        };
        if address.parse::<std::net::Ipv6Addr>().is_err() {
            return Some("is not an IPv6 address between `[` and `]`");
        }
        match port {
            "" => return None,
            port => ("", port.strip_prefix(':').unwrap_or("x")),
        }
    } else {
        match registry.split_once(':') {
            Some((host, port)) => (host, port),
            None => (registry, "0"),
        }
    };
    if port.is_empty() || port.parse::<u16>().is_err() || port.starts_with('+') {
        return Some("has a port that is not a number up to 65535");
    }
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if !registry.starts_with('[') && !host.split('.').all(label) {
        return Some("may hold only letters, digits, `-` and `.`");
    }
    None
}

fn repository_problem(repository: &str) -> Option<&'static str> {
    if repository.len() > MAX_REPOSITORY {
        return Some("is longer than 255 characters");
    }
    if repository.bytes().any(|b| b.is_ascii_uppercase()) {
        return Some("must be lower case");
    }
    if !repository.split('/').all(is_path_component) {
        return Some(
            "may hold only a-z, 0-9 and single separators `.`, `_`, `__`, `-`, `/` between them",
        );
    }
    None
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(component: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let ends_well = |end: Option<&u8>| end.is_some_and(|b| alphanumeric(*b));
    if !ends_well(bytes.first()) || !ends_well(bytes.last()) {
        return false;
    }
    component
        .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .all(|gap| matches!(gap, "" | "." | "_" | "__") || gap.bytes().all(|b| b == b'-'))
}

fn tag_problem(tag: &str) -> Option<&'static str> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if tag.is_empty() || tag.len() > MAX_TAG {
        return Some("must have 1 to 128 characters");
    }
    let mut bytes = tag.bytes();
    if !bytes.next().is_some_and(word) || !bytes.all(|b| word(b) || b == b'.' || b == b'-') {
        return Some(
            "may hold only letters, digits, `_`, `.` and `-`, and starts with none of the last two",
        );
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn familiar_and_full_names() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let pinned = format!("busybox@{digest}");
        let table = [
            ("busybox", "docker.io/library/busybox:latest", "busybox"),
            ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
            ("docker.io/busybox", "docker.io/library/busybox:latest", "busybox"),
            ("index.docker.io/library/busybox", "docker.io/library/busybox:latest", "busybox"),
            ("org/app", "docker.io/org/app:latest", "org/app"),
            ("ghcr.io/org/app:v1", "ghcr.io/org/app:v1", "ghcr.io/org/app:v1"),
            ("localhost/x", "localhost/x:latest", "localhost/x"),
            ("localhost:5000/a/b/c", "localhost:5000/a/b/c:latest", "localhost:5000/a/b/c"),
            ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x"),
            ("a__b/c--d.e_f", "docker.io/a__b/c--d.e_f:latest", "a__b/c--d.e_f"),
            (&pinned, &format!("docker.io/library/busybox@{digest}"), &pinned),
        ];
        for (text, full, familiar) in table {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.to_string(), full, "{text}");
            assert_eq!(reference.familiar(), familiar, "{text}");
            assert_eq!(full.parse::<Reference>().unwrap(), reference, "{text}");
            assert_eq!(familiar.parse::<Reference>().unwrap(), reference, "{text}");
        }
        let nested: Reference = "ghcr.io/org/app:v1".parse().unwrap();
        assert_eq!(nested.file_name(), "ghcr.io+org+app:v1");
    }

    #[test]
    fn what_is_no_reference() {
        for bad in [
            "",
            "/",
            "a//b",
            "../x",
            "a/../b",
            "Busybox",
            "busybox:",
            "busybox:-x",
            "busybox@",
            "busybox@sha256:0",
            "a b",
            "a\nb",
            "a\0b",
            "http://x/y",
            "x.y:port/z",
            "x.y:99999/z",
            "[::1/z",
            "-x.y/z",
            "a+b",
            "a:b:c",
            ".x",
            "x.",
            "x..y",
            "x___y",
            "user@host/x",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad:?}");
        }
        assert!("a".repeat(300).parse::<Reference>().is_err());
    }
}
