//! Redirects: followed as far as is safe, and never with what belongs to somebody else.

use mydocker::registry::Error;

use crate::fake_registry::{Auth, FakeRegistry, Fault, Tls};
use crate::{KIND, MANIFEST, User, download, in_words, noise, reference, with_app, with_blob};

const CODES: [u16; 5] = [301, 302, 303, 307, 308];

/// A server of content that the registry does not keep itself.
fn storage(path: &str, bytes: &[u8]) -> FakeRegistry {
    let storage = FakeRegistry::start_at("127.0.0.2:0", Tls::None);
    storage.put(path, KIND, bytes.to_vec());
    storage
}

#[test]
fn a_blob_from_elsewhere() {
    let (user, bytes) = (User::new(), noise(100_000));
    for code in CODES {
        let (fake, descriptor) = with_blob(&bytes);
        let storage = storage("/elsewhere", &bytes);
        let target = storage.url("/elsewhere?signature=abc");
        fake.fault("blobs", 1, Fault::status(code, "location", &target));
        let got = download(&user.client(), &reference(&fake, "app:v1"), &descriptor);
        assert!(got.unwrap() == bytes, "{code}");
    }
}

/// CVE-2022-23538 and its like.
#[test]
fn authorization_stays_at_home() {
    let user = User::new();
    let fake = with_app();
    user.log_in(&fake.host(), "user", "hunter2");
    fake.set_auth(Auth::Basic("user", "hunter2"));
    let other_host = storage("/m", MANIFEST);
    let other_port = FakeRegistry::start();
    other_port.put("/m", KIND, MANIFEST.to_vec());
    for sink in [&other_host, &other_port] {
        let client = user.client();
        // Past the 401, then away.
        client.manifest(&reference(&fake, "app:v1")).unwrap();
        fake.fault("manifests/v1", 1, Fault::status(307, "location", &sink.url("/m")));
        client.manifest(&reference(&fake, "app:v1")).unwrap();
        assert_eq!(sink.log().len(), 1);
        assert_eq!(sink.log()[0].header("authorization"), None);
        let sent = fake.log().pop().unwrap();
        assert!(sent.header("authorization").is_some(), "{sent:?}");
    }
}

/// Away and back again: whoever stands in between must not steer where the password goes.
#[test]
fn authorization_does_not_come_back_after_a_detour() {
    let user = User::new();
    let fake = with_app();
    user.log_in(&fake.host(), "user", "hunter2");
    fake.set_auth(Auth::Basic("user", "hunter2"));
    let client = user.client();
    client.manifest(&reference(&fake, "app:v1")).unwrap();
    let between = storage("/m", MANIFEST);
    fake.put("/target", KIND, MANIFEST.to_vec());
    between.fault("/m", 1, Fault::status(307, "location", &fake.url("/target")));
    fake.fault("manifests/v1", 1, Fault::status(307, "location", &between.url("/m")));
    assert!(client.manifest(&reference(&fake, "app:v1")).is_err());
    let back: Vec<_> = fake.log().into_iter().filter(|r| r.path == "/target").collect();
    assert!(back.iter().all(|request| request.header("authorization").is_none()), "{back:?}");
}

/// A server that the registry redirects to may not ask for our password in the registry's name.
#[test]
fn a_challenge_from_elsewhere_is_not_answered() {
    let user = User::new();
    for bearer in [false, true] {
        let fake = with_app();
        user.log_in(&fake.host(), "user", "hunter2");
        let sink = storage("/m", MANIFEST);
        sink.set_auth(match bearer {
            true => Auth::Bearer(sink.url("/token")),
            false => Auth::Basic("user", "hunter2"),
        });
        fake.fault("manifests/v1", 9, Fault::status(307, "location", &sink.url("/m")));
        assert!(user.client().manifest(&reference(&fake, "app:v1")).is_err());
        assert_eq!(sink.count("GET", "/token"), 0);
        for request in sink.log().iter().chain(&fake.log()) {
            assert_eq!(request.header("authorization"), None, "{request:?}");
        }
    }
}

#[test]
fn where_redirects_may_not_lead() {
    let user = User::new();
    let sink = storage("/m", MANIFEST);
    let targets = [
        format!("http://user:pw@{}/m", sink.host()),
        format!("http://user@{}/m", sink.host()),
        format!("ftp://{}/m", sink.host()),
        "file:///etc/passwd".to_owned(),
        "http://".to_owned(),
        "http://[".to_owned(),
    ];
    for target in targets {
        let fake = with_app();
        fake.fault("manifests", 1, Fault::status(307, "location", &target));
        let error = user.client().manifest(&reference(&fake, "app:v1")).unwrap_err();
        assert!(matches!(error, Error::Address { .. }), "{target}: {error}");
        assert!(!in_words(&error).contains("pw"), "{error}");
    }
    assert_eq!(sink.connections(), 0);
}

#[test]
fn redirects_are_counted() {
    let (user, fake) = (User::new(), with_app());
    fake.put("/5", KIND, MANIFEST.to_vec());
    for hop in 0..5 {
        let (from, to) = (format!("/{hop}"), format!("/{}", hop + 1));
        fake.fault(&from, usize::MAX, Fault::status(302, "location", &to));
    }
    // Five: from the manifest to /1, and on to /5.
    fake.fault("manifests/v1", 1, Fault::status(302, "location", "/1"));
    assert!(user.client().manifest(&reference(&fake, "app:v1")).is_ok());
    fake.fault("manifests/v1", 1, Fault::status(302, "location", "/0"));
    let error = user.client().manifest(&reference(&fake, "app:v1")).unwrap_err();
    assert!(matches!(error, Error::Address { .. }), "{error}");
    // A circle ends as well.
    fake.fault("manifests/v2", usize::MAX, Fault::status(302, "location", "/v2/app/manifests/v2"));
    assert!(user.client().manifest(&reference(&fake, "app:v2")).is_err());
}

#[test]
fn a_signature_is_not_shown() {
    let (user, bytes) = (User::new(), noise(1000));
    let (fake, descriptor) = with_blob(&bytes);
    let storage = storage("/elsewhere", &bytes);
    storage.fault("/elsewhere", usize::MAX, Fault::error(403, "EXPIRED"));
    let target = storage.url("/elsewhere?signature=hunter2");
    fake.fault("blobs", usize::MAX, Fault::status(307, "location", &target));
    let error = user.client().blob(&reference(&fake, "app:v1"), &descriptor, 0).unwrap_err();
    let text = in_words(&error) + &format!("{error:?}");
    assert!(text.contains("403") && !text.contains("hunter2"), "{text}");
}

/// A resumed download asks the registry, for the signature of the first redirect may have expired.
#[test]
fn resuming_begins_at_the_registry() {
    let (user, bytes) = (User::new(), noise(100_000));
    let (fake, descriptor) = with_blob(&bytes);
    let storage = storage("/elsewhere", &bytes);
    storage.fault("/elsewhere", 1, Fault::Truncate(50_000));
    fake.fault("blobs", 2, Fault::status(307, "location", &storage.url("/elsewhere")));
    let got = download(&user.client(), &reference(&fake, "app:v1"), &descriptor).unwrap();
    assert!(got == bytes);
    assert_eq!(fake.count("GET", "blobs"), 2);
    assert_eq!(storage.log()[1].header("range"), Some("bytes=50000-"));
}
