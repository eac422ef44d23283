//! `mydocker login`.

use std::io::{self, Read};

use super::failure::{Failure, While as _};
use super::remote::RemoteArgs;
use super::{Outcome, output, prompt};
use crate::oci::reference::DEFAULT_REGISTRY;
use crate::registry::{self, Keeper, LoginKey, Secret};

/// The longest password on standard input, in bytes. Tokens of some registries have thousands.
const MAX_SECRET: u64 = 64 << 10;

/// Log in to a registry
///
/// The registry is asked first whether it knows the user. Without a user name, credentials that are known already are
/// tried before anybody is asked. The credentials are then kept where docker keeps them: with
/// the credential helper that is configured, or in ${DOCKER_CONFIG:-~/.docker}/config.json; or in the file that
/// --authfile or REGISTRY_AUTH_FILE names.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    remote: RemoteArgs,
    /// The user's name; asked for if it is not given
    #[arg(short, long, value_name = "USER")]
    username: Option<String>,
    /// Take the password from standard input
    #[arg(long)]
    password_stdin: bool,
    // Every user of the machine can see a command line: there is no safe way to take it. It is known here so that its
    // value is not taken for the registry and repeated in an error.
    #[arg(short, long, hide = true, value_name = "PASSWORD")]
    password: Option<Secret>,
    /// HOST[:PORT], or HOST[:PORT]/PATH for a part of a registry
    #[arg(default_value = DEFAULT_REGISTRY)]
    registry: String,
}

pub(super) fn run(args: Args) -> Outcome {
    let what = format!("login {}", args.registry);
    let key: LoginKey = args.registry.parse().doing(&what)?;
    if args.password.is_some() {
        return Err(Failure::new(
            &what,
            "a password on the command line is for everybody to see",
            "give it on standard input, with --password-stdin, or when asked",
        ));
    }
    let client = args.remote.client().doing(&what)?;
    let environment = args.remote.options().environment;
    if args.username.is_none()
        && !args.password_stdin
        && let Some((user, password)) = registry::known(&environment, &key).doing(&what)?
    {
        output::message(&format!("Authenticating with existing credentials of {user}...\n"));
        match client.log_in(key.registry(), &user, password) {
            Err(registry::Error::LoginRefused { .. }) => {
                output::message("They are refused; please log in again.\n");
            }
            other => {
                other.doing(&what)?;
                output::data("Login Succeeded\n");
                return Ok(0);
            }
        }
    }
    let (user, password) = credentials(&args, &what)?;
    let login = client.log_in(key.registry(), &user, password).doing(&what)?;
    match registry::keep(&environment, &key, &login).doing(&what)? {
        Keeper::File(path) => output::warning(&format!(
            "the password is kept unencrypted in `{}`; a credential helper (credsStore) keeps it safe",
            path.display()
        )),
        Keeper::Helper(_) => {}
    }
    output::data("Login Succeeded\n");
    Ok(0)
}

/// The user's name and password, from where the user wants to give them.
fn credentials(args: &Args, what: &str) -> Result<(String, Secret), Failure> {
    let hint = "echo PASSWORD | mydocker login --username USER --password-stdin REGISTRY, or use a terminal";
    let failure = |cause: &str| Failure::new(what, cause, hint);
    let unread = |error: io::Error| failure(&format!("read the answer: {error}"));
    if args.password_stdin {
        let Some(user) = &args.username else {
            return Err(failure("--password-stdin needs --username"));
        };
        let password = read_password().map_err(unread)?;
        return checked(user.clone(), password).ok_or_else(|| failure("there is no password"));
    }
    if !prompt::is_possible() {
        return Err(failure("standard input is not a terminal to ask at"));
    }
    let user = match &args.username {
        Some(user) => user.clone(),
        None => prompt::ask("Username: ").map_err(unread)?.trim().to_owned(),
    };
    if user.is_empty() {
        return Err(failure("there is no user name"));
    }
    let password = prompt::ask_secret("Password: ").map_err(unread)?;
    checked(user, password).ok_or_else(|| failure("there is no password"))
}

fn checked(user: String, password: String) -> Option<(String, Secret)> {
    (!user.is_empty() && !password.is_empty()).then(|| (user, Secret::new(password)))
}

/// All of standard input, without the line's end, as docker takes it.
fn read_password() -> io::Result<String> {
    let mut text = String::new();
    io::stdin().lock().take(MAX_SECRET).read_to_string(&mut text)?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}
