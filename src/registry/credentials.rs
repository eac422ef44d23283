//! Who the user is to a registry: what `docker login` and `podman login` have stored.
//!
//! An entry is used for the registry that it names, character for character but for case, and for no other: no
//! suffixes, no patterns, no default (CVE-2021-41092, CVE-2026-105769).
//!
//! Formats: docker's `config.json`; podman's containers-auth.json(5), whose keys may go on with a path.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use super::secret::Secret;
use super::{Environment, Error, helper};
use crate::oci::reference::DEFAULT_REGISTRY;

/// The largest credentials file that is read, in bytes.
pub(super) const MAX_FILE: u64 = 4 << 20;
/// How docker names Docker Hub in its files and to its helpers, for historical reasons.
pub(super) const HUB_KEY: &str = "https://index.docker.io/v1/";
/// Files written by hand come with and without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Credentials, and the file or helper that they come from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Found {
    pub(super) credentials: Credentials,
    pub(super) place: String,
}

/// What a registry can be convinced with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Credentials {
    /// A refresh token (token specification, "oauth2").
    IdentityToken(Secret),
    /// User name and password.
    Password { user: String, password: Secret },
    /// A token for the registry itself.
    RegistryToken(Secret),
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct AuthFile {
    auths: Option<BTreeMap<String, Option<Entry>>>,
    creds_store: Option<String>,
    cred_helpers: Option<BTreeMap<String, String>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

/// The credential for `repository` at `registry`, both as a reference has them, from the first file that has one.
///
/// # Errors
/// A file, an entry or a helper that should have had an answer and failed: going on without it, or with another, would
/// hide the mistake.
pub(super) fn find(
    environment: &Environment,
    registry: &str,
    repository: &str,
) -> Result<Option<Found>, Error> {
    for path in files(environment) {
        if let Some(file) = read(&path)? {
            let found = file.find(&path, environment, registry, repository)?;
            if found.is_some() {
                return Ok(found);
            }
        }
    }
    Ok(None)
}

/// Where credentials may lie: what the user names and nowhere else; or docker's place, then podman's.
fn files(environment: &Environment) -> Vec<PathBuf> {
    if let Some(path) = &environment.registry_auth_file {
        return vec![path.clone()];
    }
    let home = |path: &str| environment.home.as_ref().map(|home| home.join(path));
    let docker = environment.docker_config.clone().or_else(|| home(".docker"));
    let runtime = environment
        .xdg_runtime_dir
        .clone()
        .unwrap_or_else(|| PathBuf::from(format!("/run/containers/{}", environment.uid)));
    // Without XDG_RUNTIME_DIR, podman leaves the folder `containers` out: it is in the path already.
    let podman = match environment.xdg_runtime_dir {
        Some(_) => runtime.join("containers/auth.json"),
        None => runtime.join("auth.json"),
    };
    let config = environment.xdg_config_home.clone().or_else(|| home(".config"));
    let all = [
        docker.map(|folder| folder.join("config.json")),
        Some(podman).filter(|path| !is_anothers(path)),
        config.map(|folder| folder.join("containers/auth.json")),
    ];
    all.into_iter().flatten().collect()
}

/// Whether a file that was not named by the user is out of reach: root in a user namespace of its own is taken for root
/// by the name of podman's folder, and may not look into root's.
fn is_anothers(path: &Path) -> bool {
    path.metadata().is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

pub(super) fn read(path: &Path) -> Result<Option<AuthFile>, Error> {
    let failed = |error: io::Error| unusable(path, error.to_string());
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(failed(error)),
    };
    let mut text = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut text).map_err(failed)?;
    // podman makes empty files.
    if text.trim_ascii().is_empty() {
        return Ok(None);
    }
    // The parser's own words could repeat a part of the file, which is secret; the place is enough.
    serde_json::from_slice(&text).map(Some).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        unusable(path, format!("malformed JSON in line {line}, column {column}"))
    })
}

pub(super) fn unusable(path: &Path, why: String) -> Error {
    Error::File { path: path.to_owned(), why }
}

impl AuthFile {
    fn find(
        &self,
        path: &Path,
        environment: &Environment,
        registry: &str,
        repository: &str,
    ) -> Result<Option<Found>, Error> {
        // Helpers know docker's name for Docker Hub, and any other registry under its own.
        let asked = if registry == DEFAULT_REGISTRY { HUB_KEY } else { registry };
        if let Some(name) = self.helper(registry) {
            let found = helper::ask(name, asked, environment)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        let Some((key, entry)) = self.entry(registry, repository) else { return Ok(None) };
        let broken = || format!("the entry `{key}` is not base64 of user:password");
        let credentials = entry.credentials().map_err(|Broken| unusable(path, broken()))?;
        let place = path.display().to_string();
        Ok(credentials.map(|credentials| Found { credentials, place }))
    }

    /// The credential helper that keeps what there is for `registry`: its own, or that of all registries.
    pub(super) fn helper(&self, registry: &str) -> Option<&str> {
        let own = self.cred_helpers.iter().flatten();
        let mut own = own.filter(|(key, _)| normalise(key) == registry.to_ascii_lowercase());
        let store = self.creds_store.as_deref().filter(|store| !store.is_empty());
        own.next().map(|(_, name)| name.as_str()).or(store)
    }

    /// The keys of all entries.
    pub(super) fn auth_keys(&self) -> impl Iterator<Item = &str> {
        self.auths.iter().flatten().map(|(key, _)| key.as_str())
    }

    /// The entry whose key names the most of `registry/repository`.
    fn entry(&self, registry: &str, repository: &str) -> Option<(&str, &Entry)> {
        let registry = registry.to_ascii_lowercase();
        let mut wanted = format!("{registry}/{repository}");
        loop {
            let entries = self.auths.iter().flatten();
            let mut named = entries.filter(|(key, _)| normalise(key) == wanted);
            if let Some((key, entry)) = named.find_map(|(key, entry)| Some((key, entry.as_ref()?)))
            {
                return Some((key, entry));
            }
            if wanted == registry {
                return None;
            }
            wanted.truncate(wanted.rfind('/')?);
        }
    }
}

/// User name and password as an entry has them.
pub(super) fn encode(user: &str, password: &str) -> String {
    BASE64.encode(format!("{user}:{password}"))
}

/// The registry, and perhaps path, that a key of a credentials file means, as references write them.
///
/// Keys with a scheme are docker's and mean the host whatever path follows; so do the paths of the registry API.
pub(super) fn normalise(key: &str) -> String {
    let schemeless = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let (host, path) = match schemeless.unwrap_or(key).split_once('/') {
        Some((host, path)) => (host, path.trim_end_matches('/')),
        None => (schemeless.unwrap_or(key), ""),
    };
    let host = match host.to_ascii_lowercase().as_str() {
        "index.docker.io" | "registry-1.docker.io" => DEFAULT_REGISTRY.to_owned(),
        host => host.to_owned(),
    };
    match path {
        "" | "v1" | "v2" => host,
        _ if schemeless.is_some() => host,
        path => format!("{host}/{path}"),
    }
}

struct Broken;

impl Entry {
    /// What the entry holds; an empty one, as `docker login` leaves beside a credential store, holds nothing.
    fn credentials(&self) -> Result<Option<Credentials>, Broken> {
        let given = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
        if let Some(token) = given(&self.identitytoken) {
            return Ok(Some(Credentials::IdentityToken(Secret::new(token))));
        }
        if let Some(token) = given(&self.registrytoken) {
            return Ok(Some(Credentials::RegistryToken(Secret::new(token))));
        }
        if let Some(auth) = given(&self.auth) {
            let decoded = BASE64.decode(auth.trim()).map_err(|_| Broken)?;
            let text = String::from_utf8(decoded).map_err(|_| Broken)?;
            let (user, password) = text.split_once(':').ok_or(Broken)?;
            let password = Secret::new(password.trim_end_matches('\0'));
            return Ok(Some(Credentials::Password { user: user.to_owned(), password }));
        }
        let both = given(&self.username).zip(given(&self.password));
        Ok(both.map(|(user, password)| Credentials::Password {
            user,
            password: Secret::new(password),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(json: &str) -> AuthFile {
        serde_json::from_str(json).unwrap()
    }

    fn user(file: &AuthFile, registry: &str, repository: &str) -> Option<String> {
        let found = file.find(Path::new("x"), &Environment::default(), registry, repository);
        match found.unwrap()?.credentials {
            Credentials::Password { user, .. } => Some(user),
            Credentials::IdentityToken(token) | Credentials::RegistryToken(token) => {
                Some(token.expose().to_owned())
            }
        }
    }

    #[test]
    fn only_the_registry_that_is_named() {
        let key = |key: &str| file(&format!(r#"{{"auths":{{"{key}":{{"auth":"dTpw"}}}}}}"#));
        let exact = key("reg.example");
        assert_eq!(user(&exact, "reg.example", "x").as_deref(), Some("u"));
        assert_eq!(user(&exact, "REG.example", "x").as_deref(), Some("u"));
        for other in [
            "reg.example.evil",
            "evil-reg.example",
            "sub.reg.example",
            "example",
            "reg.example:443",
            "reg.example:5000",
            "reg-example",
            "reg.examp1e",
            "xn--reg-example",
            "docker.io",
        ] {
            assert_eq!(user(&exact, other, "x"), None, "{other}");
        }
        for odd in
            ["reg.example.", "u@reg.example", "*.example", "*", "", "/", ".example", "reg.example:"]
        {
            assert_eq!(user(&key(odd), "reg.example", "x"), None, "{odd}");
        }
        for same in
            ["https://reg.example", "http://reg.example/v2/", "reg.example/v1/", "reg.example/"]
        {
            assert_eq!(user(&key(same), "reg.example", "x").as_deref(), Some("u"), "{same}");
        }
        for hub in [HUB_KEY, "docker.io", "index.docker.io", "https://registry-1.docker.io/v2/"] {
            assert_eq!(user(&key(hub), "docker.io", "library/x").as_deref(), Some("u"), "{hub}");
            assert_eq!(user(&key(hub), "quay.io", "x"), None, "{hub}");
        }
    }

    #[test]
    fn the_most_specific_path_wins() {
        let file = file(
            r#"{"auths":{
                "quay.io":{"auth":"aG9zdDpw"},
                "quay.io/org":{"auth":"b3JnOnA"},
                "quay.io/org/app":{"auth":"YXBwOnA="}}}"#,
        );
        let table = [
            ("org/app", "app"),
            ("org/other", "org"),
            ("org/app/deeper", "app"),
            ("organ/x", "host"),
            ("x", "host"),
        ];
        for (repository, expected) in table {
            assert_eq!(
                user(&file, "quay.io", repository).as_deref(),
                Some(expected),
                "{repository}"
            );
        }
    }

    #[test]
    fn forms_of_an_entry() {
        let with = |entry: &str| file(&format!(r#"{{"auths":{{"r.io":{entry}}}}}"#));
        let find = |entry: &str| user(&with(entry), "r.io", "x");
        assert_eq!(find(r#"{"username":"u","password":"p"}"#).as_deref(), Some("u"));
        assert_eq!(find(r#"{"auth":"dTpw","identitytoken":"t"}"#).as_deref(), Some("t"));
        assert_eq!(find(r#"{"registrytoken":"t"}"#).as_deref(), Some("t"));
        assert_eq!(find("{}"), None);
        assert_eq!(find("null"), None);
        assert_eq!(user(&file(r#"{"auths":null}"#), "r.io", "x"), None);
        for bad in ["!!!", "dXA=", "/w=="] {
            let file = with(&format!(r#"{{"auth":"{bad}"}}"#));
            let found = file.find(Path::new("x"), &Environment::default(), "r.io", "x");
            assert!(matches!(found, Err(Error::File { .. })), "{bad}");
        }
    }

    #[test]
    fn secrets_do_not_show() {
        let file = file(r#"{"auths":{"r.io":{"auth":"dTpodW50ZXIy"}}}"#);
        let found = file.find(Path::new("x"), &Environment::default(), "r.io", "x").unwrap();
        let shown = format!("{found:?}");
        assert!(shown.contains("[redacted]") && !shown.contains("hunter2"), "{shown}");
    }
}
