//! Certificates, and plain HTTP where it is allowed.

use std::fs;

use mydocker::oci::reference::Reference;
use mydocker::registry::Error;

use crate::fake_registry::{Auth, CA, CLIENT, CLIENT_KEY, FakeRegistry, Fault, SELF_SIGNED, Tls};
use crate::{KIND, MANIFEST, User, in_words, reference, with_app};

fn secure(tls: Tls) -> FakeRegistry {
    let fake = FakeRegistry::start_at("127.0.0.1:0", tls);
    fake.put_manifest("app", "v1", KIND, MANIFEST);
    fake
}

#[test]
fn a_registry_on_this_machine_may_do_without() {
    let (user, fake) = (User::new(), with_app());
    user.client().manifest(&reference(&fake, "app:v1")).unwrap();
    let localhost: Reference = format!("localhost:{}/app:v1", fake.port()).parse().unwrap();
    user.client().manifest(&localhost).unwrap();
}

#[test]
fn an_untrusted_certificate_is_never_a_reason_for_plain_http() {
    let user = User::new();
    for (tls, word) in [(Tls::Leaf, "mydocker test CA"), (Tls::SelfSigned, "itself")] {
        let fake = secure(tls);
        let error = user.client().manifest(&reference(&fake, "app:v1")).unwrap_err();
        let text = in_words(&error);
        assert!(text.contains(word) && text.contains(&fake.host()), "{text}");
        let hint = error.hint().unwrap();
        assert!(hint.contains(&format!("certs.d/{}", fake.host())), "{hint}");
        assert!(fake.log().is_empty());
    }
}

#[test]
fn trust_for_one_registry() {
    let user = User::new();
    let (fake, other) = (secure(Tls::Leaf), secure(Tls::Leaf));
    user.write(&format!("certs.d/{}/ca.crt", fake.host()), CA);
    let client = user.client();
    client.manifest(&reference(&fake, "app:v1")).unwrap();
    let error = client.manifest(&reference(&other, "app:v1")).unwrap_err();
    assert!(in_words(&error).contains("mydocker test CA"), "{error}");
}

#[test]
fn trust_for_all() {
    let (mut user, fake) = (User::new(), secure(Tls::Leaf));
    user.options.environment.ssl_cert_file = Some(user.write("bundle.pem", CA));
    user.client().manifest(&reference(&fake, "app:v1")).unwrap();
    // A bundle that the user names and that is none is not passed over.
    user.options.environment.ssl_cert_file = Some(user.write("bundle.pem", "nothing"));
    let error = user.client().manifest(&reference(&fake, "app:v1")).unwrap_err();
    assert!(in_words(&error).contains("bundle.pem"), "{error}");
}

/// What `openssl req -x509` makes is its own authority and a server at once, and people trust exactly that.
#[test]
fn a_self_signed_certificate_that_the_user_trusts() {
    let (user, fake) = (User::new(), secure(Tls::SelfSigned));
    user.write(&format!("certs.d/{}/ca.crt", fake.host()), SELF_SIGNED);
    user.client().manifest(&reference(&fake, "app:v1")).unwrap();
    // It is for this address, not for others.
    let other = FakeRegistry::start_at("127.0.0.2:0", Tls::SelfSigned);
    user.write(&format!("certs.d/{}/ca.crt", other.host()), SELF_SIGNED);
    let error = user.client().manifest(&reference(&other, "app:v1")).unwrap_err();
    assert!(in_words(&error).contains("127.0.0.2"), "{error}");
    assert!(other.log().is_empty());
}

#[test]
fn names_and_dates_are_checked() {
    let user = User::new();
    let expired = secure(Tls::Expired);
    user.write(&format!("certs.d/{}/ca.crt", expired.host()), CA);
    let error = user.client().manifest(&reference(&expired, "app:v1")).unwrap_err();
    assert!(in_words(&error).contains("expired"), "{}", in_words(&error));
    let misnamed = FakeRegistry::start_at("127.0.0.3:0", Tls::Leaf);
    user.write(&format!("certs.d/{}/ca.crt", misnamed.host()), CA);
    let error = user.client().manifest(&reference(&misnamed, "app:v1")).unwrap_err();
    assert!(in_words(&error).contains("127.0.0.3"), "{}", in_words(&error));
    assert!(expired.log().is_empty() && misnamed.log().is_empty());
}

#[test]
fn our_own_certificate() {
    let (user, fake) = (User::new(), secure(Tls::LeafForClients));
    let folder = format!("certs.d/{}", fake.host());
    user.write(&format!("{folder}/ca.crt"), CA);
    let error = user.client().manifest(&reference(&fake, "app:v1")).unwrap_err();
    assert!(in_words(&error).contains(&fake.host()), "{error}");
    user.write(&format!("{folder}/client.cert"), CLIENT);
    let error = user.client().manifest(&reference(&fake, "app:v1")).unwrap_err();
    assert!(in_words(&error).contains("client.key"), "{}", in_words(&error));
    user.write(&format!("{folder}/client.key"), CLIENT_KEY);
    user.client().manifest(&reference(&fake, "app:v1")).unwrap();
    user.write(&format!("{folder}/client.key"), "nothing");
    let error = user.client().manifest(&reference(&fake, "app:v1")).unwrap_err();
    assert!(in_words(&error).contains("client.key"), "{}", in_words(&error));
    user.write(&format!("{folder}/ca.crt"), "nothing");
    let error = user.client().manifest(&reference(&fake, "app:v1")).unwrap_err();
    assert!(in_words(&error).contains("ca.crt"), "{}", in_words(&error));
}

/// CVE-2019-10214: the token service is no less protected than the registry.
#[test]
fn a_token_service_with_a_wrong_certificate() {
    let (user, fake) = (User::new(), secure(Tls::Leaf));
    user.write(&format!("certs.d/{}/ca.crt", fake.host()), CA);
    user.log_in(&fake.host(), "user", "hunter2");
    let service = FakeRegistry::start_at("127.0.0.1:0", Tls::SelfSigned);
    fake.set_auth(Auth::Bearer(service.url("/token")));
    let error = user.client().manifest(&reference(&fake, "app:v1")).unwrap_err();
    assert!(in_words(&error).contains(&service.host()), "{error}");
    assert!(service.log().is_empty());
    // A company's authority signs both; trusting it for the registry is enough, as it is for docker.
    let service = FakeRegistry::start_at("127.0.0.1:0", Tls::Leaf);
    fake.set_auth(Auth::Bearer(service.url("/token")));
    user.client().manifest(&reference(&fake, "app:v1")).unwrap();
    // An address that promises TLS and speaks HTTP gets nothing.
    let service = FakeRegistry::start();
    let realm = service.url("/token").replace("http:", "https:");
    fake.set_auth(Auth::Bearer(realm));
    assert!(user.client().manifest(&reference(&fake, "app:v1")).is_err());
    assert!(service.log().iter().all(|request| request.header("authorization").is_none()));
}

#[test]
fn tls_is_not_given_up_on_the_way() {
    let (user, fake) = (User::new(), secure(Tls::Leaf));
    user.write(&format!("certs.d/{}/ca.crt", fake.host()), CA);
    let sink = FakeRegistry::start();
    sink.put("/m", KIND, MANIFEST.to_vec());
    fake.fault("manifests", 1, Fault::status(307, "location", &sink.url("/m")));
    let error = user.client().manifest(&reference(&fake, "app:v1")).unwrap_err();
    assert!(matches!(error, Error::Address { .. }), "{error}");
    assert_eq!(sink.connections(), 0);
    // To another server with TLS it may go, with the trust that the registry enjoys.
    let storage = FakeRegistry::start_at("127.0.0.2:0", Tls::Leaf);
    storage.put("/m", KIND, MANIFEST.to_vec());
    fake.fault("manifests", 1, Fault::status(307, "location", &storage.url("/m")));
    user.client().manifest(&reference(&fake, "app:v1")).unwrap();
    // A certificate of ours goes to the registry that it was made for, not to whom that redirects to.
    let asking = FakeRegistry::start_at("127.0.0.2:0", Tls::LeafForClients);
    asking.put("/m", KIND, MANIFEST.to_vec());
    user.write(&format!("certs.d/{}/client.cert", fake.host()), CLIENT);
    user.write(&format!("certs.d/{}/client.key", fake.host()), CLIENT_KEY);
    fake.fault("manifests", 1, Fault::status(307, "location", &asking.url("/m")));
    assert!(user.client().manifest(&reference(&fake, "app:v1")).is_err());
    assert!(asking.log().is_empty());
}

#[test]
fn folders_of_other_names_are_not_looked_into() {
    let (user, fake) = (User::new(), secure(Tls::Leaf));
    for name in ["127.0.0.1", "127.0.0.1:1", "*", "_default"] {
        fs::create_dir_all(user.home.join("certs.d").join(name)).unwrap();
        user.write(&format!("certs.d/{name}/ca.crt"), CA);
    }
    assert!(user.client().manifest(&reference(&fake, "app:v1")).is_err());
}
