//! `mydocker login` and `logout`: whom they ask, what they keep, and what nobody sees.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::fake_registry::{Auth, FakeRegistry, Fault};
use crate::support::command::{Cmd, Output};
use crate::support::env::{TestEnv, copy_program, program};
use crate::support::fixtures::{SECRET, USER};
use crate::support::program::write_program;
use crate::support::pty::Pty;
use crate::support::registry::{Options, Registry};
use crate::support::require::Need::{Root, Tool};

const PASSWORD: Options = Options { basic_auth: true, ..Options::PLAIN };
/// What stands for `SECRET` in a credentials file.
const ENCODED: &str = "YWxpY2U6Y29ycmVjdCBob3JzZTogYmF0dGVyeQ==";

fn config(env: &TestEnv) -> PathBuf {
    env.folder().join("home/.docker/config.json")
}

fn read(path: &PathBuf) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// `login` with the right password on standard input, and debugging on.
fn login(env: &TestEnv, registry: &str) -> Cmd {
    let args = ["--debug", "login", "--username", USER, "--password-stdin"];
    env.mydocker(args).arg(registry).input(format!("{SECRET}\n"))
}

#[track_caller]
fn shows_no_secret(output: Output) -> Output {
    for secret in [SECRET, ENCODED, "hunter2", "Basic ", "Bearer "] {
        let shown = output.stdout.contains(secret) || output.stderr.contains(secret);
        assert!(!shown, "{}", output.report());
    }
    output
}

#[test]
fn what_login_keeps_is_what_pull_and_skopeo_use() {
    require!(Tool("docker-registry"), Tool("skopeo"));
    let (env, registry) = (TestEnv::new(), Registry::with(PASSWORD));
    let output = shows_no_secret(login(&env, &registry.host()).run().success());
    let output = output.prints("Login Succeeded\n").says("unencrypted");
    output.says(".docker/config.json");
    let written = json!({"auths": {registry.host(): {"auth": ENCODED}}});
    assert_eq!(read(&config(&env)), written);
    assert_eq!(fs::metadata(config(&env)).unwrap().permissions().mode() & 0o7777, 0o600);
    let name = registry.image("busybox");
    env.mydocker(["inspect", "--remote", &name]).ok();
    let image = format!("docker://{name}");
    let skopeo = || {
        let cmd = Cmd::new("skopeo").args(["inspect", "--tls-verify=false", &image]);
        cmd.env("HOME", env.folder().join("home")).run()
    };
    skopeo().success();
    let output = env.mydocker(["logout", &registry.host()]).run().success();
    output.prints(&format!("Removing login credentials for {}\n", registry.host()));
    assert_eq!(read(&config(&env)), json!({"auths": {}}));
    skopeo().exits(1);
    env.mydocker(["inspect", "--remote", &name]).run().fails(125, &["login"]);
    env.mydocker(["logout", &registry.host()]).run().success().says("Not logged in");
}

#[test]
fn a_wrong_password_is_refused_and_nothing_is_kept() {
    require!(Tool("docker-registry"));
    let (env, registry) = (TestEnv::new(), Registry::with(PASSWORD));
    let cmd = env.mydocker(["--debug", "login", "-u", USER, "--password-stdin", &registry.host()]);
    let output =
        cmd.input("hunter2").run().fails(125, &["login", &registry.host(), "refuses", "hint:"]);
    shows_no_secret(output);
    assert!(!config(&env).exists());
}

#[test]
fn the_file_keeps_all_else_that_is_in_it() {
    require!(Tool("docker-registry"));
    let (env, registry) = (TestEnv::new(), Registry::with(PASSWORD));
    let host = registry.host();
    fs::create_dir_all(config(&env).parent().unwrap()).unwrap();
    // A file under version control, as some keep it; docker's own name for the registry in another spelling.
    let real = env.folder().join("dotfiles.json");
    let before = format!(
        "{{\n  \"detachKeys\": \"ctrl-e,e\",\n  \"auths\": {{\"https://{host}/v2/\": {{}}, \"other.example\": {{\"auth\":  \"eDp5\"}} }},\n  \"n\": 1.50}}"
    );
    fs::write(&real, before).unwrap();
    symlink(&real, config(&env)).unwrap();
    login(&env, &host).ok();
    let after = format!(
        "{{\n\t\"detachKeys\": \"ctrl-e,e\",\n\t\"auths\": {{\n\t\t\"other.example\": {{\"auth\":  \"eDp5\"}},\n\t\t\"{host}\": {{\"auth\":\"{ENCODED}\"}}\n\t}},\n\t\"n\": 1.50\n}}\n"
    );
    assert_eq!(fs::read_to_string(&real).unwrap(), after);
    assert!(config(&env).is_symlink());
    assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o7777, 0o600);
    let left = fs::read_dir(env.folder()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(!left.into_iter().any(|name| name.to_string_lossy().starts_with('.')));
    // What cannot be understood is left alone, and not shown.
    fs::write(&real, "{\"auths\": hunter2").unwrap();
    let output = login(&env, &host).run().fails(125, &["config.json", "malformed"]);
    shows_no_secret(output);
    assert_eq!(fs::read_to_string(&real).unwrap(), "{\"auths\": hunter2");
}

#[test]
fn the_file_is_the_one_that_the_user_names() {
    require!(Tool("docker-registry"));
    let (env, registry) = (TestEnv::new(), Registry::with(PASSWORD));
    let (host, name) = (registry.host(), registry.image("busybox"));
    let path = env.folder().join("auth.json");
    login(&env, &host).arg("--authfile").arg(&path).ok();
    assert!(path.exists() && !config(&env).exists());
    let remote = || env.mydocker(["inspect", "--remote", &name]);
    remote().arg("--authfile").arg(&path).ok();
    remote().env("REGISTRY_AUTH_FILE", &path).ok();
    remote().run().fails(125, &["login"]);
    // A file that is named is the only one that counts.
    login(&env, &host).ok();
    remote().ok();
    remote().env("REGISTRY_AUTH_FILE", env.folder().join("none")).run().fails(125, &["login"]);
    env.mydocker(["logout", &host]).env("REGISTRY_AUTH_FILE", &path).ok();
    remote().env("REGISTRY_AUTH_FILE", &path).run().fails(125, &["login"]);
    let elsewhere = env.folder().join("elsewhere");
    login(&env, &host).env("DOCKER_CONFIG", &elsewhere).ok();
    assert!(elsewhere.join("config.json").exists());
}

#[test]
fn what_podman_keeps_is_named_at_a_logout() {
    require!(Tool("docker-registry"), Tool("podman"));
    let (env, registry) = (TestEnv::new(), Registry::with(PASSWORD));
    let (host, runtime) = (registry.host(), env.folder().join("runtime"));
    fs::create_dir(&runtime).unwrap();
    let podman = Cmd::new("podman").args([
        "login",
        "--tls-verify=false",
        "-u",
        USER,
        "--password-stdin",
        &host,
    ]);
    podman
        .env("XDG_RUNTIME_DIR", &runtime)
        .env("HOME", env.folder().join("home"))
        .env("REGISTRY_AUTH_FILE", runtime.join("containers/auth.json"))
        .input(SECRET)
        .ok();
    let remote = |verb: &[&str]| env.mydocker(verb).env("XDG_RUNTIME_DIR", &runtime);
    remote(&["inspect", "--remote", &registry.image("busybox")]).ok();
    let output = remote(&["logout", &host]).run().success();
    output.says("containers/auth.json has credentials");
}

/// A credential helper that keeps what it is given in a file, and writes down what it is asked.
fn helper(env: &TestEnv, name: &str) -> PathBuf {
    let folder = env.folder().join("bin");
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join(format!("docker-credential-{name}"));
    let script = r#"#!/bin/sh
kept=$(dirname "$0")/kept
echo "$1" >>"$(dirname "$0")/log"
case $1 in
store) cat >"$kept" ;;
get) [ -e "$kept" ] && cat "$kept" || { echo credentials not found in native keychain; exit 1; } ;;
erase) rm "$kept" ;;
esac
"#;
    write_program(&path, script);
    folder
}

#[test]
fn a_credential_helper_keeps_what_it_is_configured_for() {
    require!(Tool("docker-registry"));
    let (env, registry) = (TestEnv::new(), Registry::with(PASSWORD));
    let host = registry.host();
    let bin = helper(&env, "test");
    let path = format!("{}:/usr/bin:/bin", bin.display());
    fs::create_dir_all(config(&env).parent().unwrap()).unwrap();
    for setting in [
        json!({"credsStore": "test"}),
        json!({"credHelpers": {host.clone(): "test"}, "credsStore": "none"}),
    ] {
        fs::write(config(&env), setting.to_string()).unwrap();
        let output = login(&env, &host).env("PATH", &path).run().success();
        assert!(!output.stderr.contains("unencrypted"), "{}", output.report());
        shows_no_secret(output).prints("Login Succeeded\n");
        let kept = json!({"ServerURL": host, "Username": USER, "Secret": SECRET});
        assert_eq!(read(&bin.join("kept")), kept);
        let mut expected = setting.clone();
        expected["auths"] = json!({host.clone(): {}});
        assert_eq!(read(&config(&env)), expected);
        env.mydocker(["inspect", "--remote", &registry.image("busybox")]).env("PATH", &path).ok();
        env.mydocker(["logout", &host]).env("PATH", &path).ok();
        assert!(!bin.join("kept").exists());
        expected["auths"] = json!({});
        assert_eq!(read(&config(&env)), expected);
    }
    // One that fails is an error; the password does not go into the file in its stead.
    fs::write(config(&env), r#"{"credsStore":"missing"}"#).unwrap();
    let output = login(&env, &host).env("PATH", &path).run();
    shows_no_secret(output.fails(125, &["docker-credential-missing"]));
    assert_eq!(read(&config(&env)), json!({"credsStore": "missing"}));
}

#[test]
fn a_token_service_is_asked_and_its_identity_token_kept() {
    let (env, fake, service) = (TestEnv::new(), FakeRegistry::start(), FakeRegistry::start());
    fake.set_auth(Auth::Bearer(service.url("/token")));
    service.give_tokens_to(USER, SECRET);
    // Without an identity token, the password is kept.
    login(&env, &fake.host()).ok();
    assert_eq!(read(&config(&env))["auths"][fake.host()], json!({"auth": ENCODED}));
    let asked = &service.log()[0];
    for part in ["service=fake", "account=alice", "offline_token=true", "client_id=mydocker"] {
        assert!(asked.path.contains(part), "{}", asked.path);
    }
    assert!(!asked.path.contains("scope="), "{}", asked.path);
    let answer = r#"{"token":"good-0-x","refresh_token":"hunter2","expires_in":300}"#;
    service.fault("/token", 1, Fault::body(answer));
    shows_no_secret(login(&env, &fake.host()).run().success());
    let entry = json!({"auth": "YWxpY2U6", "identitytoken": "hunter2"});
    assert_eq!(read(&config(&env))["auths"][fake.host()], entry);
    // A password goes to the token service and not to the registry.
    for request in fake.log() {
        let given = request.header("authorization").unwrap_or_default();
        assert!(!given.starts_with("Basic"), "{given}");
    }
    // A service that knows nobody, a token that the registry does not take, an answer that is none.
    let odd = [
        (Fault::error(401, "UNAUTHORIZED"), "refuses"),
        (Fault::body(r#"{"token":"hunter2"}"#), "refuses"),
        (Fault::body(r#"{"token":7,"secret":"hunter2"}"#), "token"),
        (Fault::body("{}"), "token"),
        (Fault::body(r#"{"token":"hunter2\nx"}"#), "token"),
    ];
    for (fault, words) in odd {
        service.fault("/token", 1, fault);
        shows_no_secret(login(&env, &fake.host()).run().fails(125, &[words]));
        assert_eq!(read(&config(&env))["auths"][fake.host()], entry);
    }
}

#[test]
fn a_password_goes_to_no_other_origin() {
    let (env, fake, other) = (TestEnv::new(), FakeRegistry::start(), FakeRegistry::start());
    fake.set_auth(Auth::Basic(USER, SECRET));
    fake.fault("/v2/", 9, Fault::status(307, "location", &other.url("/v2/")));
    other.set_auth(Auth::Basic(USER, SECRET));
    shows_no_secret(login(&env, &fake.host()).run().fails(125, &["login"]));
    for request in other.log() {
        assert_eq!(request.header("authorization"), None);
    }
    // A realm with a user in it, one that is no address, one on the link.
    for realm in
        ["http://u:p@127.0.0.1:1/", "file:///etc/passwd", "x", "http://169.254.169.254/token"]
    {
        let fake = FakeRegistry::start();
        fake.set_auth(Auth::Bearer(realm.to_owned()));
        let output = login(&env, &fake.host()).env("http_proxy", "http://127.0.0.1:1").run();
        shows_no_secret(output.exits(125));
        assert!(!config(&env).exists(), "{realm}");
    }
}

#[test]
fn a_person_types_and_nothing_shows() {
    require!(Tool("docker-registry"));
    let (env, registry) = (TestEnv::new(), Registry::with(PASSWORD));
    let mut pty = Pty::start(env.mydocker(["login", &registry.host()]), 24, 80);
    pty.expect("Username: ");
    pty.send(&format!("{USER}\n"));
    pty.expect("Password: ");
    let arguments = fs::read(format!("/proc/{}/cmdline", pty.pid())).unwrap();
    assert!(!String::from_utf8_lossy(&arguments).contains(SECRET));
    pty.send(&format!("{SECRET}\n"));
    pty.expect("Login Succeeded\r\n");
    assert_eq!(pty.finish(), 0);
    assert!(!pty.transcript().contains(SECRET), "{}", pty.transcript());
    assert_eq!(pty.settings(), Pty::usual_settings());
    assert_eq!(read(&config(&env))["auths"][registry.host()]["auth"], ENCODED);
}

#[test]
fn what_is_known_already_is_tried_first() {
    let (env, fake) = (TestEnv::new(), FakeRegistry::start());
    fake.set_auth(Auth::Basic(USER, SECRET));
    login(&env, &fake.host()).ok();
    let before = fs::read(config(&env)).unwrap();
    let again = || env.mydocker(["login", &fake.host()]).run();
    again().success().prints("Login Succeeded\n").says("existing credentials of alice");
    assert!(fs::read(config(&env)).unwrap() == before);
    fake.set_auth(Auth::Basic(USER, "another"));
    again().fails(125, &["refused", "not a terminal"]);
    let mut pty = Pty::start(env.mydocker(["login", &fake.host()]), 24, 80);
    pty.expect("Username: ");
    pty.send(&format!("{USER}\n"));
    pty.expect("Password: ");
    pty.send("another\n");
    assert_eq!(pty.finish(), 0, "{}", pty.transcript());
    again().success();
}

#[test]
fn the_terminal_shows_again_what_is_typed_however_it_ends() {
    let env = TestEnv::new();
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143), (Signal::SIGHUP, 129)] {
        let mut pty = Pty::start(env.mydocker(["login", "-u", "x", "127.0.0.1:1"]), 24, 80);
        pty.expect("Password: ");
        assert_ne!(pty.settings(), Pty::usual_settings());
        match signal {
            Signal::SIGINT => pty.send("typed\x03"),
            signal => kill(pty.pid(), signal).unwrap(),
        }
        assert_eq!(pty.finish(), code, "{}", pty.transcript());
        assert_eq!(pty.settings(), Pty::usual_settings(), "{signal}");
        assert!(!pty.transcript().contains("typed"), "{}", pty.transcript());
    }
    // No password, the end of the input, a registry that is not there.
    for typed in ["\n", "\x04", "secret\n"] {
        let mut pty = Pty::start(env.mydocker(["login", "-u", "x", "127.0.0.1:1"]), 24, 80);
        pty.expect("Password: ");
        pty.send(typed);
        assert_eq!(pty.finish(), 125, "{}", pty.transcript());
        assert_eq!(pty.settings(), Pty::usual_settings(), "{typed:?}");
    }
}

#[test]
fn no_core_is_left_behind() {
    let env = TestEnv::new();
    // It answers nobody, so that the program waits.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let registry = silent.local_addr().unwrap().to_string();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -c unlimited && exec \"$0\" \"$@\""]).arg(program());
    command.args(["login", "-u", "somebody", "--password-stdin", &registry]);
    command.current_dir(env.folder()).stdin(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"hunter2").unwrap();
    let _connection = silent.accept().unwrap();
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGQUIT).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(Signal::SIGQUIT as i32));
    assert!(!status.core_dumped());
}

#[test]
fn ways_to_give_a_password_that_are_none() {
    let env = TestEnv::new();
    let login = |args: &[&str]| env.mydocker(["login"]).args(args);
    for args in [&["-p", "hunter2"][..], &["-phunter2"], &["--password=hunter2", "-u", "x"]] {
        let output = login(args).arg("127.0.0.1:1").run();
        shows_no_secret(output.fails(125, &["command line", "--password-stdin"]));
    }
    login(&["--password-stdin", "127.0.0.1:1"]).input("x").run().fails(125, &["needs --username"]);
    login(&["--password-stdin", "-u", "x", "127.0.0.1:1"]).run().fails(125, &["no password"]);
    login(&["-u", "x", "127.0.0.1:1"]).input("x").run().fails(125, &["not a terminal", "hint:"]);
    login(&["busybox"]).run().fails(125, &["`busybox` is no registry", "hint:"]);
    env.mydocker(["logout", "a b"]).run().fails(125, &["is no registry"]);
}

#[test]
fn roots_credentials_are_out_of_reach_and_no_obstacle() {
    require!(Root, Tool("setpriv"), Tool("unshare"));
    let (env, fake) = (TestEnv::new(), FakeRegistry::start());
    fake.set_auth(Auth::Basic(USER, SECRET));
    let copy = env.folder().join("mydocker");
    copy_program(&copy);
    // Only as seen from here: the machine's own folder stays as it is.
    let script = "mount -t tmpfs none /run && mkdir -p -m 700 /run/containers/0 \
                  && echo '{}' >/run/containers/0/auth.json && chmod 755 /run/containers \
                  && exec setpriv --reuid=65534 --regid=65534 --clear-groups -- \"$@\"";
    let cmd = Cmd::new("unshare").args(["--mount", "sh", "-c", script, "sh"]).arg(&copy);
    // Its own root, in a user namespace, has the number of the machine's.
    let root = env.folder().join("nobody");
    fs::create_dir(&root).unwrap();
    std::os::unix::fs::chown(&root, Some(65_534), Some(65_534)).unwrap();
    let cmd = cmd.env("HOME", &root).env("MYDOCKER_RUN", root.join("run"));
    let cmd = cmd.arg("--root").arg(root.join("store")).arg("pull");
    cmd.arg(format!("{}/app", fake.host())).run().exits(125).says("needs a login");
}
