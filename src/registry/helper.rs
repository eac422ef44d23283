//! Credential helpers: programs called `docker-credential-NAME` that keep passwords in a system's own store.
//!
//! Protocol: docker-credential-helpers, "Development": `get`, the registry on stdin, JSON on stdout.

use std::io::{self, Read, Write};
use std::process::{Child, Command, Stdio};

use serde::Deserialize;

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
    let helper = format!("docker-credential-{name}");
    let failed =
        |why: String| Error::Helper { helper: helper.clone(), host: registry.to_owned(), why };
    // A name with a slash would run a program from anywhere.
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
        let why = "its name may hold only letters, digits, `-`, `_` and `.`";
        return Err(failed(why.to_owned()));
    }
    let mut command = Command::new(&helper);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    if let Some(path) = &environment.path {
        command.env("PATH", path);
    }
    let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
    let talked = talk(&mut child, registry);
    if talked.is_err() {
        // It may have ended by itself already.
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| failed(error.to_string()))?;
    let output = talked.map_err(|error| failed(error.to_string()))?;
    if !status.success() {
        let said = String::from_utf8_lossy(&output);
        if said.trim() == NOT_FOUND {
            return Ok(None);
        }
        return Err(failed(status.to_string()));
    }
    // No part of the output goes into an error: it may be the secret.
    let answer: Answer = serde_json::from_slice(&output)
        .map_err(|_| failed("its answer is not the JSON that was expected".to_owned()))?;
    let secret = Secret::new(answer.secret);
    let credentials = match answer.username.as_str() {
        TOKEN_USER => Credentials::IdentityToken(secret),
        _ => Credentials::Password { user: answer.username, password: secret },
    };
    Ok(Some(Found { credentials, place: helper }))
}

fn talk(child: &mut Child, registry: &str) -> io::Result<Vec<u8>> {
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(registry.as_bytes()) {
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
