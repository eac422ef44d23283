//! `login` and `logout`: credentials are checked first, and then kept where docker and podman look for them, too.

use std::path::PathBuf;
use std::str::FromStr;

use reqwest::Url;
use reqwest::blocking::{Client as Http, Response};
use reqwest::header::HeaderValue;
use serde::Deserialize;
use serde_json::value::{RawValue, to_raw_value};

use super::address::Class;
use super::auth::{MAX_TOKEN, basic, no_token, realm_url, secret_header};
use super::challenge::Challenge;
use super::client::{Client, challenges};
use super::credentials::{self, AuthFile, Credentials, HUB_KEY, normalise, unusable};
use super::error::Error;
use super::foreign::{host_and_port, said};
use super::secret::Secret;
use super::transport::{self, Answer, Bulk, Call};
use super::{Environment, authfile, helper};
use crate::oci::reference::{DEFAULT_REGISTRY, Reference};

/// The most that is read of an error's body, in bytes.
const MAX_ERROR_BODY: u64 = 64 << 10;

/// For what credentials are kept: a registry, or a part of one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LoginKey {
    registry: String,
    path: Option<String>,
}

/// Why a text names no registry.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is no registry")]
pub struct LoginKeyError(String);

impl LoginKey {
    /// The registry, as references have it.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The key in a file of docker's, or else of podman's.
    fn file_key(&self, of_docker: bool) -> String {
        match &self.path {
            Some(path) => format!("{}/{path}", self.registry),
            None if of_docker && self.registry == DEFAULT_REGISTRY => HUB_KEY.to_owned(),
            None => self.registry.clone(),
        }
    }

    fn fits(&self, key: &str) -> bool {
        normalise(key) == self.file_key(false).to_ascii_lowercase()
    }
}

impl std::fmt::Display for LoginKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.file_key(false))
    }
}

impl FromStr for LoginKey {
    type Err = LoginKeyError;

    /// `HOST[:PORT]`, as docker has it also with a scheme and a path of the registry's interface; or
    /// `HOST[:PORT]/PATH`, podman's way to keep several credentials for one registry.
    fn from_str(text: &str) -> Result<Self, LoginKeyError> {
        let refuse = || LoginKeyError(text.chars().take(128).collect());
        let key = normalise(text.trim_end_matches('/'));
        let (host, path) = match key.split_once('/') {
            Some((host, path)) => (host, Some(path)),
            None => (key.as_str(), None),
        };
        // What names no registry in front of a repository would never be asked for.
        let sample: Reference =
            format!("{host}/{}", path.unwrap_or("x")).parse().map_err(|_| refuse())?;
        let plain = sample.tag() == Some("latest") && sample.digest().is_none();
        if sample.registry() != host || !plain || path.is_some_and(|path| path.contains(':')) {
            return Err(refuse());
        }
        Ok(Self { registry: host.to_owned(), path: path.map(str::to_owned) })
    }
}

/// A user that a registry knows.
#[derive(Debug)]
pub struct Login {
    user: String,
    /// An identity token, where the registry gives one in place of the password.
    secret: Secret,
    is_token: bool,
}

/// Where credentials are kept.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Keeper {
    /// A file, in which anybody who may read it finds the password.
    File(PathBuf),
    /// The credential helper of this name.
    Helper(String),
}

impl Client {
    /// Asks the registry whether it knows the user by this password.
    ///
    /// # Errors
    /// [`Error::LoginRefused`] if not.
    pub fn log_in(&self, registry: &str, user: &str, password: Secret) -> Result<Login, Error> {
        let insecure = self.is_insecure(registry)?;
        let base = self.transport.base(registry, insecure)?;
        let url = transport::parse_url(&format!("{base}v2/"))?;
        let first = self.version(&url, insecure, None)?;
        let mut login = Login { user: user.to_owned(), secret: password, is_token: false };
        if first.response.status() != 401 {
            // Everybody is let in, and so is whoever this is.
            return self.judge(registry, first).map(|()| login);
        }
        let offered = challenges(first.response.headers());
        let bearer = offered.iter().find(|challenge| matches!(challenge, Challenge::Bearer { .. }));
        let header = match bearer.or(offered.first()) {
            Some(Challenge::Bearer { realm, service, .. }) => {
                let service = service.as_deref();
                let asked = TokenRequest { registry, base: &base, insecure, realm, service };
                let answer = self.login_token(&asked, first.class, &login)?;
                if let Some(token) = answer.refresh_token.filter(|token| !token.is_empty()) {
                    (login.secret, login.is_token) = (Secret::new(token), true);
                }
                let token = answer.token.or(answer.access_token).unwrap_or_default();
                secret_header(&format!("Bearer {token}"), registry)?
            }
            Some(Challenge::Basic) => basic(&login.user, &login.secret, registry)?,
            None => {
                let why = "it asks for a proof of identity that is neither Basic nor Bearer";
                return Err(Error::Challenge { host: registry.to_owned(), why });
            }
        };
        let second = self.version(&url, insecure, Some(&header))?;
        self.judge(registry, second).map(|()| login)
    }

    fn version(
        &self,
        url: &Url,
        insecure: bool,
        authorization: Option<&HeaderValue>,
    ) -> Result<Answer, Error> {
        let registry = &host_and_port(url);
        let (limit, bulk) = (Class::Loopback, Bulk::Document);
        let (follow, build) = (true, &|http: &Http, url| http.get(url));
        let call = Call { url, authorization, registry, limit, insecure, bulk, follow, build };
        self.transport.retry(|| {
            let answer = self.transport.send(&call)?;
            match answer.response.status().as_u16() {
                status @ (429 | 500..) => {
                    let wait = transport::retry_after(answer.response.headers());
                    let detail = self.detail(answer.response);
                    let what = "login";
                    Err(Error::Status { what, host: registry.clone(), status, detail, wait })
                }
                _ => Ok(answer),
            }
        })
    }

    fn detail(&self, response: Response) -> String {
        said(&self.transport.body("error", response, MAX_ERROR_BODY).unwrap_or_default()).detail
    }

    /// What an answer means that was asked for with credentials.
    fn judge(&self, registry: &str, answer: Answer) -> Result<(), Error> {
        let status = answer.response.status().as_u16();
        let host = registry.to_owned();
        match status {
            200..=299 => Ok(()),
            401 | 403 => Err(Error::LoginRefused { host, detail: self.detail(answer.response) }),
            _ => {
                let detail = self.detail(answer.response);
                Err(Error::Status { what: "login", host, status, detail, wait: None })
            }
        }
    }

    /// Gets a token for nothing but being known, and an identity token where the service has one (token specification,
    /// `offline_token`).
    fn login_token(
        &self,
        asked: &TokenRequest<'_>,
        class: Option<Class>,
        login: &Login,
    ) -> Result<TokenAnswer, Error> {
        let mut url = realm_url(asked.realm, asked.base)?;
        url.query_pairs_mut()
            .extend_pairs(asked.service.map(|service| ("service", service)))
            .append_pair("account", &login.user)
            .append_pair("client_id", "mydocker")
            .append_pair("offline_token", "true");
        let header = basic(&login.user, &login.secret, asked.registry)?;
        let call = Call {
            url: &url,
            authorization: Some(&header),
            registry: &host_and_port(asked.base),
            // The registry's own network is open to it, and so is everybody's.
            limit: class.unwrap_or(Class::Global),
            insecure: asked.insecure && url.origin() == asked.base.origin(),
            bulk: Bulk::Document,
            follow: true,
            build: &|http: &Http, url| http.get(url),
        };
        let bytes = self.transport.retry(|| {
            let answer = self.transport.send(&call)?;
            match answer.response.status().as_u16() {
                200..=299 => self.transport.body("token", answer.response, MAX_TOKEN),
                400 | 401 | 403 => {
                    let host = asked.registry.to_owned();
                    Err(Error::LoginRefused { host, detail: self.detail(answer.response) })
                }
                status => {
                    let (what, host) = ("token", host_and_port(&url));
                    let wait = transport::retry_after(answer.response.headers());
                    let detail = self.detail(answer.response);
                    Err(Error::Status { what, host, status, detail, wait })
                }
            }
        })?;
        // The parser's own words could repeat the token.
        let unclear = || no_token(asked.registry, "its token service's answer is not understood");
        let answer: TokenAnswer = serde_json::from_slice(&bytes).map_err(|_| unclear())?;
        if answer.token.is_none() && answer.access_token.is_none() {
            return Err(no_token(asked.registry, "its token service sends none"));
        }
        Ok(answer)
    }
}

struct TokenRequest<'a> {
    registry: &'a str,
    base: &'a Url,
    insecure: bool,
    realm: &'a str,
    service: Option<&'a str>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    refresh_token: Option<String>,
}

/// Keeps the credentials that a registry was found to know: with the credential helper that is configured for it, or
/// else in the file.
///
/// # Errors
/// [`Error::Helper`], [`Error::Io`], [`Error::File`].
pub fn keep(environment: &Environment, key: &LoginKey, login: &Login) -> Result<Keeper, Error> {
    let (path, of_docker) = place(environment)?;
    let file = credentials::read(&path)?.unwrap_or_default();
    let helper = helper_for(&file, key, &path)?;
    let entry = match &helper {
        Some(name) => {
            let server = key.file_key(true);
            helper::store(name, &server, &login.user, &login.secret, login.is_token, environment)?;
            // docker leaves an empty entry, by which it knows whom it is logged in to.
            "{}".to_owned()
        }
        None => login.entry(),
    };
    let malformed = |_| unusable(&path, "an entry for it cannot be made".to_owned());
    let entry = RawValue::from_string(entry).map_err(malformed)?;
    authfile::edit(&path, |auths| {
        auths.retain(|name| !key.fits(name));
        auths.set(&key.file_key(of_docker), entry);
    })?;
    Ok(helper.map_or(Keeper::File(path), Keeper::Helper))
}

/// Forgets what [`keep`] has kept; says where there was something.
///
/// # Errors
/// As [`keep`].
pub fn forget(environment: &Environment, key: &LoginKey) -> Result<Vec<Keeper>, Error> {
    let (path, _) = place(environment)?;
    let mut found = Vec::new();
    let Some(file) = credentials::read(&path)? else { return Ok(found) };
    if let Some(name) = helper_for(&file, key, &path)?
        && helper::erase(&name, &key.file_key(true), environment)?
    {
        found.push(Keeper::Helper(name));
    }
    if file.auth_keys().any(|name| key.fits(name)) {
        authfile::edit(&path, |auths| auths.retain(|name| !key.fits(name)))?;
        found.push(Keeper::File(path));
    }
    Ok(found)
}

/// The user name and password that are known for `key` already. An identity token is none: it has no name.
///
/// # Errors
/// A file or helper that should have had an answer and failed.
pub fn known(environment: &Environment, key: &LoginKey) -> Result<Option<(String, Secret)>, Error> {
    let repository = key.path.as_deref().unwrap_or_default();
    let found = credentials::find(environment, key.registry(), repository)?;
    Ok(found.and_then(|found| match found.credentials {
        Credentials::Password { user, password } => Some((user, password)),
        _ => None,
    }))
}

/// Another place that still has credentials for `key`, after [`forget`]: podman's file, for one.
pub fn left(environment: &Environment, key: &LoginKey) -> Result<Option<String>, Error> {
    let repository = key.path.as_deref().unwrap_or_default();
    Ok(credentials::find(environment, key.registry(), repository)?.map(|found| found.place))
}

/// The file that is changed, and whether it is docker's: the one that the user names, or docker's own.
fn place(environment: &Environment) -> Result<(PathBuf, bool), Error> {
    if let Some(path) = &environment.registry_auth_file {
        return Ok((path.clone(), false));
    }
    let home = || environment.home.as_ref().map(|home| home.join(".docker"));
    let folder = environment.docker_config.clone().or_else(home);
    let path = folder.map(|folder| (folder.join("config.json"), true));
    path.ok_or_else(|| unusable("config.json".as_ref(), "HOME is not set".to_owned()))
}

fn helper_for(
    file: &AuthFile,
    key: &LoginKey,
    path: &std::path::Path,
) -> Result<Option<String>, Error> {
    let Some(name) = file.helper(key.registry()) else { return Ok(None) };
    if key.path.is_some() {
        let why = format!("the credential helper `{name}` keeps credentials for whole registries");
        return Err(unusable(path, why));
    }
    Ok(Some(name.to_owned()))
}

impl Login {
    /// The entry of a credentials file, as docker writes it.
    fn entry(&self) -> String {
        #[derive(serde::Serialize)]
        struct Entry<'a> {
            auth: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            identitytoken: Option<&'a str>,
        }
        let secret = self.secret.expose();
        let (password, token) = if self.is_token { ("", Some(secret)) } else { (secret, None) };
        let auth = credentials::encode(&self.user, password);
        let entry = to_raw_value(&Entry { auth, identitytoken: token });
        entry.map(|entry| entry.get().to_owned()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_a_registry() {
        for (text, key) in [
            ("docker.io", "docker.io"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("ghcr.io", "ghcr.io"),
            ("https://ghcr.io/", "ghcr.io"),
            ("http://GHCR.io/v2/", "ghcr.io"),
            ("localhost", "localhost"),
            ("127.0.0.1:5000", "127.0.0.1:5000"),
            ("[::1]:5000", "[::1]:5000"),
            ("quay.io/org", "quay.io/org"),
            ("quay.io/org/app/", "quay.io/org/app"),
        ] {
            assert_eq!(text.parse::<LoginKey>().map(|key| key.to_string()).as_deref(), Ok(key));
        }
        for bad in [
            "",
            "/",
            "busybox",
            "org/app",
            "a b.io",
            "x.io:port",
            "u@x.io",
            "x.io/A",
            "x.io/a:b",
            "-x.io",
        ] {
            assert!(bad.parse::<LoginKey>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_login_does_not_show_its_secret() {
        let login = Login { user: "u".to_owned(), secret: Secret::new("hunter2"), is_token: false };
        assert!(!format!("{login:?}").contains("hunter2"));
    }
}
