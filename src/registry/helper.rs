//! Credential helpers: programs called `docker-credential-NAME` that keep passwords in a system's own store.
//!
//! Protocol: docker-credential-helpers, "Development": `get` and `erase` with the registry on stdin, `store` with JSON
//! there; JSON on stdout.

use std::io::{self, Read, Write};
use std::process::{Child, Command, Stdio};

use serde::{Deserialize, Serialize};

use super::credentials::{Credentials, Found};
use super::secret::Secret;
use super::{Environment, Error};

/// The most that a helper may say, in bytes.
const MAX_OUTPUT: u64 = 1 << 20;
/// What a helper says, on stdout and with a failing status, when it has nothing for a registry.
const NOT_FOUND: &str = "credentials not found in native keychain";
/// The user name that marks a secret as an identity token.
const TOKEN_USER: &str = "<token>";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// Asks the helper `name` for what it has for `registry`.
///
/// # Errors
/// [`Error::Helper`] when it fails for another reason than having nothing: a locked key ring must not turn into an
/// anonymous pull or another registry's password.
pub(super) fn ask(
    name: &str,
    registry: &str,
    environment: &Environment,
) -> Result<Option<Found>, Error> {
    let Some(output) = call(name, "get", registry, registry, environment)? else { return Ok(None) };
    let helper = program(name);
    // No part of the output goes into an error: it may be the secret.
    let answer: Answer = serde_json::from_slice(&output)
        .map_err(|_| failed(name, registry, "its answer is not the JSON that was expected"))?;
    let secret = Secret::new(answer.secret);
    let credentials = match answer.username.as_str() {
        TOKEN_USER => Credentials::IdentityToken(secret),
        _ => Credentials::Password { user: answer.username, password: secret },
    };
    Ok(Some(Found { credentials, place: helper }))
}

/// Gives the helper `name` a password for `registry`, or an identity token.
pub(super) fn store(
    name: &str,
    registry: &str,
    user: &str,
    secret: &Secret,
    is_token: bool,
    environment: &Environment,
) -> Result<(), Error> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Entry<'a> {
        #[serde(rename = "ServerURL")]
        server_url: &'a str,
        username: &'a str,
        secret: &'a str,
    }
    let username = if is_token { TOKEN_USER } else { user };
    let entry = Entry { server_url: registry, username, secret: secret.expose() };
    let input = serde_json::to_string(&entry)
        .map_err(|_| failed(name, registry, "what it should keep cannot be said in JSON"))?;
    call(name, "store", registry, &input, environment).map(drop)
}

/// Makes the helper `name` forget what it has for `registry`; says whether it had anything.
pub(super) fn erase(name: &str, registry: &str, environment: &Environment) -> Result<bool, Error> {
    // Most helpers are silent about something that they never had.
    let had = call(name, "get", registry, registry, environment)?.is_some();
    Ok(had && call(name, "erase", registry, registry, environment)?.is_some())
}

fn program(name: &str) -> String {
    format!("docker-credential-{name}")
}

fn failed(name: &str, registry: &str, why: impl Into<String>) -> Error {
    Error::Helper { helper: program(name), host: registry.to_owned(), why: why.into() }
}

/// Runs the helper `name` and returns what it says; `None` if that is that it has nothing.
fn call(
    name: &str,
    verb: &str,
    registry: &str,
    input: &str,
    environment: &Environment,
) -> Result<Option<Vec<u8>>, Error> {
    let failed = |why: String| failed(name, registry, why);
    // A name with a slash would run a program from anywhere.
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
        let why = "its name may hold only letters, digits, `-`, `_` and `.`";
        return Err(failed(why.to_owned()));
    }
    let mut command = Command::new(program(name));
    command.arg(verb).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    if let Some(path) = &environment.path {
        command.env("PATH", path);
    }
    let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
    let talked = talk(&mut child, input);
    if talked.is_err() {
        // It may have ended by itself already.
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| failed(error.to_string()))?;
    let output = talked.map_err(|error| failed(error.to_string()))?;
    match status.success() {
        true => Ok(Some(output)),
        false if String::from_utf8_lossy(&output).trim() == NOT_FOUND => Ok(None),
        false => Err(failed(status.to_string())),
    }
}

fn talk(child: &mut Child, input: &str) -> io::Result<Vec<u8>> {
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(input.as_bytes()) {
            // One that needs no question has answered already.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            result => result?,
        }
    }
    let mut output = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(MAX_OUTPUT).read_to_end(&mut output)?;
    }
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_not_a_path() {
        for bad in ["", "../x", "a/b", "a b", "x;y", "x\0"] {
            let found = ask(bad, "r.io", &Environment::default());
            assert!(matches!(found, Err(Error::Helper { .. })), "{bad:?}");
        }
    }
}
