//! Who we are, to whom that is said, and to whom it is not.

use std::fs;
use std::thread;

use mydocker::registry::Error;

use crate::fake_registry::{Auth, FakeRegistry, Fault, Tls};
use crate::program::write_program;
use crate::{KIND, MANIFEST, User, exists, in_words, reference, with_app};

/// A registry and the service that its tokens come from.
fn with_tokens() -> (FakeRegistry, FakeRegistry) {
    let (fake, service) = (with_app(), FakeRegistry::start());
    fake.set_auth(Auth::Bearer(service.url("/token")));
    (fake, service)
}

#[test]
fn a_password_where_it_is_asked_for() {
    let (user, fake) = (User::new(), with_app());
    fake.set_auth(Auth::Basic("user", "hunter2"));
    let app = reference(&fake, "app:v1");
    let error = user.client().manifest(&app).unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error}");
    assert!(error.hint().unwrap().contains("login"), "{:?}", error.hint());
    user.log_in(&fake.host(), "user", "wrong");
    let error = user.client().manifest(&app).unwrap_err();
    let text = in_words(&error) + &format!("{error:?}");
    assert!(text.contains("credentials were sent"), "{text}");
    assert!(error.hint().unwrap().contains("config.json"), "{:?}", error.hint());
    user.log_in(&fake.host(), "user", "hunter2");
    let client = user.client();
    client.manifest(&app).unwrap();
    // Once known, it is not asked for again.
    let asked = fake.log().len();
    client.manifest(&app).unwrap();
    assert_eq!(fake.log().len(), asked + 1);
    // The first request of each client is without.
    let first = &fake.log()[0];
    assert_eq!(first.header("authorization"), None);
}

#[test]
fn a_token_for_everybody() {
    let user = User::new();
    let (fake, service) = with_tokens();
    let client = user.client();
    let app = reference(&fake, "app:v1");
    assert_eq!(client.manifest(&app).unwrap().bytes, MANIFEST);
    client.resolve(&app).unwrap();
    client.manifest(&app).unwrap();
    let asked = service.log();
    assert_eq!(asked.len(), 1, "the token is kept: {asked:?}");
    assert_eq!(asked[0].header("authorization"), None);
    assert!(asked[0].path.contains("service=fake"), "{}", asked[0].path);
    assert!(asked[0].path.contains("scope=repository%3Aapp%3Apull"), "{}", asked[0].path);
    // A token that is no longer good is renewed.
    fake.revoke_tokens();
    service.revoke_tokens();
    client.manifest(&app).unwrap();
    assert_eq!(service.log().len(), 2);
}

#[test]
fn a_token_for_a_password() {
    let user = User::new();
    let (fake, service) = with_tokens();
    service.give_tokens_to("user", "hunter2");
    let app = reference(&fake, "app:v1");
    user.log_in(&fake.host(), "user", "hunter2");
    user.client().manifest(&app).unwrap();
    let sent = service.log()[0].header("authorization").unwrap().to_owned();
    assert!(sent.starts_with("Basic "), "{sent}");
    // To the registry itself goes the token, and only that.
    for request in fake.log() {
        let given = request.header("authorization").unwrap_or("Bearer good");
        assert!(given.starts_with("Bearer good"), "{given}");
    }
    user.log_in(&fake.host(), "user", "wrong");
    let error = user.client().manifest(&app).unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error}");
}

#[test]
fn a_token_for_a_refresh_token() {
    let user = User::new();
    let (fake, service) = with_tokens();
    service.give_tokens_to("", "fresh&token");
    let text = format!(r#"{{"auths":{{"{}":{{"identitytoken":"fresh&token"}}}}}}"#, fake.host());
    user.write(".docker/config.json", &text);
    service.fault("/token", 1, Fault::body(r#"{"access_token":"good-0-x","expires_in":300}"#));
    user.client().manifest(&reference(&fake, "app:v1")).unwrap();
    let asked = &service.log()[0];
    assert_eq!(asked.method, "POST");
    assert!(asked.body.contains("grant_type=refresh_token"), "{}", asked.body);
    assert!(asked.body.contains("refresh_token=fresh%26token"), "{}", asked.body);
    assert!(asked.body.contains("service=fake"), "{}", asked.body);
    assert!(!asked.path.contains("fresh"), "{}", asked.path);
}

#[test]
fn ten_threads_need_one_token() {
    let user = User::new();
    let (fake, service) = with_tokens();
    service.fault("/token", 1, Fault::Drip(1, 2));
    let client = user.client();
    thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| client.manifest(&reference(&fake, "app:v1")).unwrap());
        }
    });
    assert_eq!(service.log().len(), 1);
}

#[test]
fn answers_of_a_token_service_that_are_none() {
    let user = User::new();
    let (fake, service) = with_tokens();
    let app = reference(&fake, "app:v1");
    let odd = [
        Fault::body(""),
        Fault::body("{}"),
        Fault::body(r#"{"token":""}"#),
        Fault::body(r#"{"token":7,"secret":"hunter2"}"#),
        Fault::body(r#"{"token":"a\nb"}"#),
        Fault::body(r#"{"token":"hunter2","expires_in":-1}"#),
        Fault::body("[hunter2"),
        Fault::error(404, ""),
        Fault::error(403, "DENIED"),
        Fault::Endless,
    ];
    for fault in odd {
        service.fault("/token", 1, fault.clone());
        let error = user.client().manifest(&app).unwrap_err();
        let text = in_words(&error) + &format!("{error:?}");
        assert!(!text.contains("hunter2"), "{fault:?}: {text}");
    }
    assert!(service.sent() < 16 << 20, "{}", service.sent());
    // One that is good for no time at all is used all the same, once.
    service.fault("/token", 1, Fault::body(r#"{"token":"good-0-x","expires_in":0}"#));
    user.client().manifest(&app).unwrap();
}

#[test]
fn challenges_that_make_no_sense() {
    let (user, fake) = (User::new(), with_app());
    user.log_in(&fake.host(), "user", "hunter2");
    for challenge in ["", "Digest realm=x", "Bearer", "Bearer realm=\"\"", "Bearer realm=\"x"] {
        fake.set_auth(Auth::Challenge(challenge.to_owned()));
        assert!(user.client().manifest(&reference(&fake, "app:v1")).is_err(), "{challenge}");
        assert!(fake.log().iter().all(|request| request.header("authorization").is_none()));
    }
}

/// CVE-2026-48978: a registry names its token service, and the password goes there.
#[test]
fn token_services_that_are_not_visited() {
    let (user, sink) = (User::new(), FakeRegistry::start_at("127.0.0.2:0", Tls::None));
    // The registry is on TLS, so its tokens must be, too.
    let fake = FakeRegistry::start_at("127.0.0.1:0", Tls::Leaf);
    fake.put_manifest("app", "v1", KIND, MANIFEST);
    user.write(&format!("certs.d/{}/ca.crt", fake.host()), crate::fake_registry::CA);
    user.log_in(&fake.host(), "user", "hunter2");
    let host = sink.host();
    for realm in [
        format!("https://user:pw@{host}/token"),
        format!("https://user@{host}/token"),
        "file:///etc/passwd".to_owned(),
        "gopher://x/".to_owned(),
        "token".to_owned(),
        "//".to_owned(),
    ] {
        fake.set_auth(Auth::Bearer(realm.clone()));
        let error = user.client().manifest(&reference(&fake, "app:v1")).unwrap_err();
        assert!(matches!(error, Error::Address { .. }), "{realm}: {error}");
    }
    assert_eq!(sink.connections(), 0);
}

/// The token service may redirect; what was meant for it goes no further.
#[test]
fn a_token_service_that_redirects() {
    let user = User::new();
    let (fake, service) = with_tokens();
    user.log_in(&fake.host(), "user", "hunter2");
    let sink = FakeRegistry::start_at("127.0.0.2:0", Tls::None);
    service.fault("/token", 1, Fault::status(307, "location", &sink.url("/token")));
    user.client().manifest(&reference(&fake, "app:v1")).unwrap();
    assert_eq!(sink.log().len(), 1);
    assert_eq!(sink.log()[0].header("authorization"), None);
    // A refresh token is in the body, so such a request is not passed on at all.
    let text = format!(r#"{{"auths":{{"{}":{{"identitytoken":"hunter2"}}}}}}"#, fake.host());
    user.write(".docker/config.json", &text);
    service.fault("/token", 1, Fault::status(307, "location", &sink.url("/token")));
    assert!(user.client().manifest(&reference(&fake, "app:v1")).is_err());
    assert!(sink.log().iter().all(|request| !request.body.contains("hunter2")));
}

#[test]
fn another_registrys_password_is_not_ours() {
    let (user, fake) = (User::new(), with_app());
    fake.set_auth(Auth::Basic("user", "hunter2"));
    let port = fake.port();
    for host in [
        "127.0.0.1".to_owned(),
        format!("127.0.0.1:{}", port - 1),
        format!("127.0.0.1:{port}0"),
        format!("27.0.0.1:{port}"),
        format!("localhost:{port}"),
        format!("x127.0.0.1:{port}"),
        format!("127.0.0.1:{port}.evil"),
        format!("user@127.0.0.1:{port}"),
        format!("127.0.0.1.:{port}"),
        "*".to_owned(),
    ] {
        user.log_in(&host, "user", "hunter2");
        assert!(user.client().manifest(&reference(&fake, "app:v1")).is_err(), "{host}");
    }
    assert!(fake.log().iter().all(|request| request.header("authorization").is_none()));
    for same in [fake.host(), format!("https://{}", fake.host()), format!("{}/v1/", fake.host())] {
        user.log_in(&same, "user", "hunter2");
        assert!(user.client().manifest(&reference(&fake, "app:v1")).is_ok(), "{same}");
    }
}

#[test]
fn where_credentials_are_looked_for() {
    let (mut user, fake) = (User::new(), with_app());
    fake.set_auth(Auth::Basic("user", "hunter2"));
    let app = reference(&fake, "app:v1");
    // `user:hunter2`
    let good = format!(r#"{{"auths":{{"{}":{{"auth":"dXNlcjpodW50ZXIy"}}}}}}"#, fake.host());
    for place in [".docker/config.json", "run/containers/auth.json", ".config/containers/auth.json"]
    {
        let path = user.write(place, &good);
        assert!(user.client().manifest(&app).is_ok(), "{place}");
        fs::remove_file(path).unwrap();
    }
    let path = user.write("elsewhere/config.json", &good);
    user.options.environment.docker_config = path.parent().map(Into::into);
    assert!(user.client().manifest(&app).is_ok());
    user.options.environment.docker_config = None;
    assert!(user.client().manifest(&app).is_err());
    user.options.environment.registry_auth_file = Some(path);
    assert!(user.client().manifest(&app).is_ok());
    // What podman and docker write when there is nothing to write.
    for empty in ["", "{}", r#"{"auths":null}"#, r#"{"auths":{"x":{}},"credHelpers":null}"#] {
        user.write("elsewhere/config.json", empty);
        let error = user.client().manifest(&app).unwrap_err();
        assert!(matches!(error, Error::Unauthorized { .. }), "{empty}: {error}");
    }
    // A file that cannot be understood is an error, and not shown: there are passwords in it.
    user.write("elsewhere/config.json", r#"{"auths":{"x":"hunter2"}}"#);
    let error = user.client().manifest(&app).unwrap_err();
    let text = in_words(&error) + &format!("{error:?}");
    assert!(text.contains("elsewhere/config.json") && !text.contains("hunter2"), "{text}");
}

/// Makes a credential helper of this script.
fn helper(user: &mut User, name: &str, script: &str) {
    fs::create_dir_all(user.home.join("bin")).unwrap();
    let path = user.home.join(format!("bin/docker-credential-{name}"));
    write_program(&path, format!("#!/bin/sh\n{script}\n"));
    user.options.environment.path =
        Some(format!("{}:/usr/bin:/bin", user.home.join("bin").display()).into());
}

#[test]
fn credential_helpers() {
    let (mut user, fake) = (User::new(), with_app());
    fake.set_auth(Auth::Basic("user", "hunter2"));
    let (host, app) = (fake.host(), reference(&fake, "app:v1"));
    let answer = r#"read host; echo "$1 $host" >>"$0.log"; echo '{"ServerURL":"x","Username":"user","Secret":"hunter2"}'"#;
    helper(&mut user, "good", answer);
    helper(&mut user, "none", "echo credentials not found in native keychain; exit 1");
    helper(&mut user, "broken", "echo hunter2; exit 1");
    helper(&mut user, "garbled", "echo hunter2");
    for config in [
        format!(r#"{{"credHelpers":{{"{host}":"good"}}}}"#),
        r#"{"credsStore":"good"}"#.to_owned(),
        format!(r#"{{"credHelpers":{{"{host}":"good"}},"credsStore":"broken"}}"#),
    ] {
        user.write(".docker/config.json", &config);
        assert!(user.client().manifest(&app).is_ok(), "{config}");
    }
    let log = fs::read_to_string(user.home.join("bin/docker-credential-good.log")).unwrap();
    assert!(log.lines().all(|line| line == format!("get {host}")), "{log}");
    user.write(".docker/config.json", r#"{"credsStore":"none"}"#);
    let error = user.client().manifest(&app).unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error}");
    // A failure is not taken for "nothing", and is not made up for with anything else.
    for name in ["broken", "garbled", "missing", "../good", ""] {
        let config = format!(
            r#"{{"credHelpers":{{"{host}":"{name}"}},"auths":{{"{host}":{{"auth":"dXNlcjpodW50ZXIy"}}}}}}"#
        );
        user.write(".docker/config.json", &config);
        let error = user.client().manifest(&app).unwrap_err();
        assert!(matches!(error, Error::Helper { .. }), "{name}: {error}");
        let text = in_words(&error) + &format!("{error:?}");
        assert!(!text.contains("hunter2"), "{name}: {text}");
    }
    // Nobody needs to know who we are: nobody is asked.
    fake.set_auth(Auth::None);
    assert!(user.client().manifest(&app).is_ok());
    assert!(exists(&user.home.join("bin/docker-credential-broken")));
}

#[test]
fn denied_is_not_unauthorized() {
    let (user, fake) = (User::new(), with_app());
    fake.fault("manifests", 1, Fault::error(403, "DENIED"));
    let error = user.client().manifest(&reference(&fake, "app:v1")).unwrap_err();
    assert!(matches!(error, Error::Denied { .. }), "{error}");
    let text = in_words(&error);
    assert!(text.contains("in words") && text.contains("app:v1"), "{text}");
    assert!(error.hint().is_some());
}

/// What the registries of the world ask for and answer.
#[test]
fn registries_of_every_make() {
    let good = "good-0-x";
    let both = r#"{"token":"good-0-x","access_token":"good-0-x","expires_in":300,"issued_at":"2026-01-01T00:00:00Z"}"#;
    let one = r#"{"token":"good-0-x"}"#;
    let other = r#"{"access_token":"good-0-x"}"#;
    let empty = r#"{"token":"","access_token":"good-0-x"}"#;
    // What the challenge has beside its realm, what the service answers, the user, the password.
    let json_key = "{\n  \"type\": \"service_account\",\n  \"private_key\": \"a:b=c\"\n}";
    let table = [
        (
            "Docker Hub",
            r#",service="registry.docker.io",scope="repository:app:pull""#,
            both,
            "user",
            "dckr_pat_x",
        ),
        ("GHCR", r#",service="ghcr.io",scope="repository:user/image:pull""#, one, "user", "ghp_x"),
        ("Quay", r#",service="quay.io""#, one, "org+robot", "x"),
        (
            "GitLab",
            r#",service="container_registry",scope="repository:app:pull",error="invalid_token""#,
            one,
            "gitlab-ci-token",
            "x",
        ),
        (
            "Harbor",
            r#",service="harbor-registry",scope="repository:app:pull""#,
            empty,
            "robot$x",
            "x",
        ),
        (
            "ACR",
            r#",service="x.azurecr.io",scope="repository:app:pull""#,
            other,
            "00000000-0000-0000-0000-000000000000",
            "x",
        ),
        ("GCR", r#",service="gcr.io",scope="repository:app:pull""#, both, "_json_key", json_key),
        ("one that says nothing", "", one, "user", "x"),
    ];
    for (make, rest, answer, name, password) in table {
        let user = User::new();
        let (fake, service) = with_tokens();
        let challenge = format!("Bearer realm=\"{}\"{rest}", service.url("/token?account=x"));
        fake.set_auth(Auth::Challenge(challenge));
        service.fault("/token", 1, Fault::body(answer));
        user.log_in(&fake.host(), name, password);
        user.client()
            .manifest(&reference(&fake, "app:v1"))
            .unwrap_or_else(|e| panic!("{make}: {e}"));
        let asked = &service.log()[0];
        assert!(
            asked.path.contains("account=x&") && asked.path.contains("scope=repository"),
            "{make}"
        );
        let sent =
            asked.header("authorization").unwrap().strip_prefix("Basic ").unwrap().to_owned();
        use base64::Engine;
        let decoded = base64::engine::general_purpose::STANDARD.decode(sent).unwrap();
        assert_eq!(String::from_utf8(decoded).unwrap(), format!("{name}:{password}"), "{make}");
        let last = fake.log().pop().unwrap();
        assert_eq!(last.header("authorization"), Some(&*format!("Bearer {good}")), "{make}");
    }
    // ECR asks for the password itself; Artifactory and Nexus offer both ways.
    let user = User::new();
    let fake = with_app();
    fake.set_auth(Auth::Basic("AWS", "eyJwYXlsb2FkIjoi"));
    user.log_in(&fake.host(), "AWS", "eyJwYXlsb2FkIjoi");
    user.client().manifest(&reference(&fake, "app:v1")).unwrap();
    let (fake, service) = with_tokens();
    let both = format!("Basic realm=\"x\", Bearer realm=\"{}\"", service.url("/token"));
    fake.set_auth(Auth::Challenge(both));
    user.client().manifest(&reference(&fake, "app:v1")).unwrap();
}
