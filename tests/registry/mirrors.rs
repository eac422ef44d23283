//! The configuration at work: mirrors that have it, lack it, lie, or are not there; what is rewritten, blocked, insecure.

use std::sync::{Arc, Mutex};

use mydocker::oci::digest::{Digest, Mismatch};
use mydocker::oci::reference::Reference;
use mydocker::registry::{Error, Watcher};

use crate::fake_registry::{CA, FakeRegistry, Fault, Tls};
use crate::{KIND, MANIFEST, User, download, in_words, noise, reference, with_app, with_blob};

/// Writes down what it is told.
#[derive(Debug, Default)]
struct Ears(Mutex<Vec<String>>);

impl Ears {
    fn heard(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Watcher for Ears {
    fn mirror_dropped(&self, mirror: &str, why: &dyn std::error::Error) {
        self.0.lock().unwrap().push(format!("dropped {mirror}: {why}"));
    }

    fn mirror_failed(&self, mirror: &str, why: &Error) {
        self.0.lock().unwrap().push(format!("failed {mirror}: {why}"));
    }
}

/// A user with this configuration, and what they are told.
fn user_with(config: &str) -> (User, Arc<Ears>) {
    let (mut user, ears) = (User::new(), Arc::new(Ears::default()));
    user.options.environment.config_files = vec![user.write("config.toml", config)];
    user.options.watcher = Some(Arc::<Ears>::clone(&ears));
    (user, ears)
}

/// `origin` with these mirrors.
fn mirrored(origin: &FakeRegistry, mirrors: &[&FakeRegistry]) -> String {
    let mut config = format!("[[registries.registry]]\nlocation = '{}'\n", origin.host());
    for mirror in mirrors {
        let host = mirror.host();
        config += &format!("[[registries.registry.mirror]]\nlocation = '{host}/hub'\n");
    }
    config
}

/// A mirror with `app:v1` below `hub/`.
fn mirror() -> FakeRegistry {
    let mirror = FakeRegistry::start();
    mirror.put_manifest("hub/app", "v1", KIND, MANIFEST);
    mirror
}

#[test]
fn a_mirror_serves_in_the_origins_place() {
    let (origin, first) = (with_app(), mirror());
    let (user, ears) = user_with(&mirrored(&origin, &[&first]));
    let client = user.client();
    let app = reference(&origin, "app:v1");
    assert_eq!(client.resolve(&app).unwrap(), Some(Digest::sha256(MANIFEST)));
    assert_eq!(client.manifest(&app).unwrap().bytes, MANIFEST);
    assert!(origin.log().is_empty() && ears.heard().is_empty());
}

#[test]
fn what_a_mirror_lacks_comes_from_the_next_and_it_is_not_asked_again() {
    let origin = with_app();
    let (gone, empty, second) = (FakeRegistry::start(), FakeRegistry::start(), mirror());
    let (user, ears) = user_with(&mirrored(&origin, &[&gone, &empty, &second]));
    drop(gone);
    std::thread::sleep(std::time::Duration::from_millis(100));
    let client = user.client();
    for _ in 0..3 {
        client.manifest(&reference(&origin, "app:v1")).unwrap();
    }
    assert_eq!(empty.count("GET", "manifests"), 1);
    assert_eq!(second.count("GET", "manifests"), 3);
    assert!(origin.log().is_empty() && ears.heard().is_empty(), "{:?}", ears.heard());
}

#[test]
fn mirrors_that_are_in_trouble_do_not_keep_anybody_waiting() {
    for fault in [
        Fault::error(500, ""),
        Fault::error(503, ""),
        Fault::error(429, "TOOMANYREQUESTS"),
        Fault::error(401, "UNAUTHORIZED"),
        Fault::error(403, "DENIED"),
        Fault::Close,
        Fault::Reset(5),
        Fault::Truncate(5),
    ] {
        let (origin, first) = (with_app(), mirror());
        first.fault("manifests", usize::MAX, fault.clone());
        let (user, ears) = user_with(&mirrored(&origin, &[&first]));
        user.client().manifest(&reference(&origin, "app:v1")).unwrap();
        // The HTTP library may repeat what a kept connection has lost, and nobody else does.
        assert!(first.count("GET", "manifests") <= 2, "{fault:?}");
        assert!(ears.heard().is_empty(), "{fault:?}");
    }
}

#[test]
fn a_mirror_that_lies_about_a_manifest_is_dropped_and_named() {
    let digest = Digest::sha256(MANIFEST);
    for fault in [
        Fault::body("{}"),
        Fault::Header("docker-content-digest", Digest::sha256(b"x").to_string()),
        Fault::Header("content-type", "text/html".into()),
        Fault::Endless,
    ] {
        let (origin, first) = (with_app(), mirror());
        first.put_manifest("hub/app", &digest.to_string(), KIND, MANIFEST);
        first.fault("manifests", usize::MAX, fault.clone());
        let (user, ears) = user_with(&mirrored(&origin, &[&first]));
        let client = user.client();
        let pinned = reference(&origin, &format!("app@{digest}"));
        assert_eq!(client.manifest(&pinned).unwrap().bytes, MANIFEST);
        let heard = ears.heard();
        let expected = format!("dropped {}/hub/app: ", first.host());
        assert!(heard.len() == 1 && heard[0].starts_with(&expected), "{fault:?}: {heard:?}");
        let asked = first.log().len();
        client.manifest(&pinned).unwrap();
        assert_eq!(first.log().len(), asked, "{fault:?}");
    }
}

#[test]
fn a_mirror_that_lies_about_a_blob_is_dropped_when_that_comes_out() {
    let bytes = noise(300_000);
    let (origin, descriptor) = with_blob(&bytes);
    let first = FakeRegistry::start();
    let path = format!("/v2/hub/app/blobs/{}", descriptor.digest);
    let mut wrong = bytes.clone();
    wrong[200_000] ^= 1;
    first.put(&path, "application/octet-stream", wrong);
    let (user, ears) = user_with(&mirrored(&origin, &[&first]));
    let client = user.client();
    let app = reference(&origin, "app:v1");
    let error = download(&client, &app, &descriptor).unwrap_err();
    let mismatch = Mismatch::of(error.downcast_ref().unwrap()).cloned().unwrap();
    assert!(client.distrust(&descriptor.digest, &mismatch));
    assert!(download(&client, &app, &descriptor).unwrap() == bytes);
    assert!(ears.heard()[0].starts_with("dropped "), "{:?}", ears.heard());
    // The second time there is nobody left to distrust.
    assert!(!client.distrust(&descriptor.digest, &mismatch));
    // A size that is wrong is seen at once.
    let short = FakeRegistry::start();
    short.put(&path, "application/octet-stream", bytes[..1000].to_vec());
    let (user, ears) = user_with(&mirrored(&origin, &[&short]));
    assert!(download(&user.client(), &app, &descriptor).unwrap() == bytes);
    assert!(ears.heard()[0].starts_with("dropped "), "{:?}", ears.heard());
}

#[test]
fn a_mirror_that_breaks_off_is_left_and_the_download_goes_on() {
    let bytes = noise(300_000);
    let (origin, descriptor) = with_blob(&bytes);
    let first = FakeRegistry::start();
    first.put_blob("hub/app", bytes.clone());
    first.fault("blobs", 1, Fault::Truncate(100_000));
    first.fault("blobs", usize::MAX, Fault::Close);
    let (user, _) = user_with(&mirrored(&origin, &[&first]));
    let got = download(&user.client(), &reference(&origin, "app:v1"), &descriptor).unwrap();
    assert!(got == bytes);
    assert_eq!(origin.log()[0].header("range"), Some("bytes=100000-"));
    // It got one more chance, which the HTTP library may have doubled.
    assert!(first.count("GET", "blobs") <= 3, "{}", first.count("GET", "blobs"));
}

#[test]
fn when_the_origin_fails_too_the_mirrors_are_accounted_for() {
    let (origin, first) = (FakeRegistry::start(), FakeRegistry::start());
    first.fault("manifests", usize::MAX, Fault::error(403, "DENIED"));
    let (user, ears) = user_with(&mirrored(&origin, &[&first]));
    let error = user.client().manifest(&reference(&origin, "app:v1")).unwrap_err();
    assert!(matches!(error, Error::ManifestUnknown(_)), "{error}");
    let heard = ears.heard();
    assert!(heard.len() == 1 && heard[0].starts_with("failed ") && heard[0].contains("denied"));
}

#[test]
fn credentials_of_the_origin_are_not_the_mirrors() {
    use crate::fake_registry::Auth;
    let (origin, first) = (with_app(), mirror());
    first.set_auth(Auth::Basic("user", "hunter2"));
    let (user, _) = user_with(&mirrored(&origin, &[&first]));
    user.log_in(&origin.host(), "user", "hunter2");
    user.client().manifest(&reference(&origin, "app:v1")).unwrap();
    assert!(first.log().iter().all(|request| request.header("authorization").is_none()));
    user.log_in(&first.host(), "user", "hunter2");
    let asked = origin.log().len();
    user.client().manifest(&reference(&origin, "app:v1")).unwrap();
    assert_eq!(origin.log().len(), asked);
}

#[test]
fn a_rewritten_prefix_and_a_blocked_one() {
    let real = FakeRegistry::start();
    real.put_manifest("deep/team/app", "v1", KIND, MANIFEST);
    let config = format!(
        "[[registries.registry]]\nprefix = 'old.example/team'\nlocation = '{}/deep/team'\n\
         [[registries.registry]]\nprefix = 'old.example/bad'\nlocation = 'x.example'\nblocked = true\n",
        real.host()
    );
    let (user, _) = user_with(&config);
    let client = user.client();
    let app: Reference = "old.example/team/app:v1".parse().unwrap();
    assert_eq!(client.manifest(&app).unwrap().bytes, MANIFEST);
    let bad: Reference = "old.example/bad/app:v1".parse().unwrap();
    let error = client.manifest(&bad).unwrap_err();
    assert!(matches!(error, Error::Blocked { .. }), "{error}");
    let text = in_words(&error);
    assert!(text.contains("old.example/bad/app") && text.contains("config.toml"), "{text}");
}

#[test]
fn insecure_is_for_the_server_that_is_named() {
    let insecure = |host: &str| {
        user_with(&format!("[[registries.registry]]\nlocation = '{host}'\ninsecure = true\n")).0
    };
    // A certificate that nobody vouches for, one of another name, one that has expired.
    for (address, tls) in [
        ("127.0.0.1:0", Tls::SelfSigned),
        ("127.0.0.3:0", Tls::Leaf),
        ("127.0.0.1:0", Tls::Expired),
    ] {
        let fake = FakeRegistry::start_at(address, tls);
        fake.put_manifest("app", "v1", KIND, MANIFEST);
        let user = insecure(&fake.host());
        user.client().manifest(&reference(&fake, "app:v1")).unwrap();
        // Not another port, and not whom it redirects to.
        let other = FakeRegistry::start_at(address, tls);
        other.put_manifest("app", "v1", KIND, MANIFEST);
        assert!(user.client().manifest(&reference(&other, "app:v1")).is_err());
        fake.fault(
            "manifests",
            1,
            Fault::status(307, "location", &other.url("/v2/app/manifests/v1")),
        );
        assert!(user.client().manifest(&reference(&fake, "app:v1")).is_err());
        assert!(other.log().is_empty(), "{tls:?}");
    }
}

#[test]
fn insecure_does_not_reach_a_token_service_elsewhere() {
    use crate::fake_registry::Auth;
    let fake = FakeRegistry::start_at("127.0.0.1:0", Tls::SelfSigned);
    fake.put_manifest("app", "v1", KIND, MANIFEST);
    let service = FakeRegistry::start_at("127.0.0.1:0", Tls::SelfSigned);
    fake.set_auth(Auth::Bearer(service.url("/token")));
    let config =
        format!("[[registries.registry]]\nlocation = '{}'\ninsecure = true\n", fake.host());
    let (user, _) = user_with(&config);
    user.log_in(&fake.host(), "user", "hunter2");
    assert!(user.client().manifest(&reference(&fake, "app:v1")).is_err());
    assert!(service.log().is_empty());
    // Its own is reached as it is itself.
    fake.set_auth(Auth::Bearer(fake.url("/token")));
    user.client().manifest(&reference(&fake, "app:v1")).unwrap();
}

#[test]
fn our_own_file_before_podmans_and_the_users_before_the_systems() {
    let (origin, ours, podmans) = (with_app(), mirror(), mirror());
    let table = |mirror: &FakeRegistry| {
        format!(
            "[[registry]]\nlocation = '{}'\n[[registry.mirror]]\nlocation = '{}/hub'\n",
            origin.host(),
            mirror.host()
        )
    };
    let mut user = User::new();
    let own = |text: String| text.replace("[[registry", "[[registries.registry");
    user.options.environment.registries_conf = vec![
        user.home.join("missing/registries.conf"),
        user.write("registries.conf", &table(&podmans)),
        user.write("ignored.conf", "this is not read"),
    ];
    let app = reference(&origin, "app:v1");
    let asked = |user: &User, mirror: &FakeRegistry| {
        let before = mirror.log().len();
        user.client().manifest(&app).unwrap();
        mirror.log().len() > before
    };
    assert!(asked(&user, &podmans));
    // Silence about registries is no word on them.
    user.options.environment.config_files = vec![user.write("system.toml", "")];
    assert!(asked(&user, &podmans));
    let system = user.write("system.toml", &own(table(&ours)));
    user.options.environment.config_files = vec![system.clone()];
    assert!(asked(&user, &ours));
    let plain = format!("[[registries.registry]]\nlocation = '{}'\n", origin.host());
    user.options.environment.config_files = vec![system, user.write("user.toml", &plain)];
    assert!(!asked(&user, &ours) && !asked(&user, &podmans));
    // A folder of additions, in the order of their names.
    user.options.environment.config_files.clear();
    user.write("d/2.conf", &table(&ours));
    user.write("d/1.conf", "[[registry]]\nlocation = '127.0.0.1:1'\nblocked = true\n");
    user.write("d/3.conf.off", "not read either");
    user.options.environment.registries_conf_dirs = vec![user.home.join("d"), user.home.join("e")];
    assert!(asked(&user, &ours));
    // One that cannot be understood is an error that names it.
    user.write("d/3.conf", "blocked = [");
    let error = mydocker::registry::Client::new(user.options.clone()).unwrap_err();
    assert!(in_words(&error).contains("d/3.conf"), "{error}");
}

#[test]
fn a_private_mirror_with_its_own_authority() {
    let origin = with_app();
    let first = FakeRegistry::start_at("127.0.0.1:0", Tls::Leaf);
    first.put_manifest("hub/app", "v1", KIND, MANIFEST);
    let (user, _) = user_with(&mirrored(&origin, &[&first]));
    user.write(&format!("certs.d/{}/ca.crt", first.host()), CA);
    user.client().manifest(&reference(&origin, "app:v1")).unwrap();
    assert!(origin.log().is_empty() && !first.log().is_empty());
}
