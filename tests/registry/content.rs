//! Manifests: what is believed, and how much is read.

use mydocker::oci::descriptor::Descriptor;
use mydocker::oci::digest::Digest;
use mydocker::oci::manifest::MAX_MANIFEST;
use mydocker::oci::media_type::{OCI_INDEX, OCI_MANIFEST};
use mydocker::registry::Error;

use crate::fake_registry::{FakeRegistry, Fault};
use crate::{KIND, MANIFEST, User, in_words, reference, with_app};

#[test]
fn a_manifest_by_tag_and_by_digest() {
    let (user, fake) = (User::new(), with_app());
    let client = user.client();
    let by_tag = client.manifest(&reference(&fake, "app:v1")).unwrap();
    assert_eq!(by_tag.bytes, MANIFEST);
    assert_eq!(by_tag.digest, Digest::sha256(MANIFEST));
    assert_eq!(by_tag.media_type, KIND);
    let pinned = reference(&fake, &format!("app:other@{}", by_tag.digest));
    assert_eq!(client.manifest(&pinned).unwrap().bytes, MANIFEST);
    let accept: Vec<String> = fake
        .log()
        .iter()
        .filter(|request| request.path.contains("manifests"))
        .flat_map(|request| request.headers.clone())
        .filter(|(name, _)| name == "accept")
        .map(|(_, value)| value)
        .collect();
    assert!(accept.iter().any(|value| value.contains(OCI_INDEX)), "{accept:?}");
    let agent = fake.log()[0].header("user-agent").unwrap().to_owned();
    assert!(agent.starts_with("mydocker/"), "{agent}");
}

#[test]
fn what_a_tag_points_to_is_learnt_without_the_manifest() {
    let (user, fake) = (User::new(), with_app());
    let client = user.client();
    let app = reference(&fake, "app:v1");
    assert_eq!(client.resolve(&app).unwrap(), Some(Digest::sha256(MANIFEST)));
    assert_eq!(fake.count("GET", "manifests"), 0);
    for fault in [
        Fault::Header("docker-content-digest", String::new()),
        Fault::Header("docker-content-digest", "sha256:../../x".into()),
        Fault::error(404, ""),
        Fault::error(405, ""),
        Fault::error(500, ""),
    ] {
        fake.fault_on("HEAD", "manifests", 1, fault.clone());
        assert_eq!(client.resolve(&app).unwrap(), None, "{fault:?}");
    }
}

/// CVE-2025-24882: the header is the word of whoever sends the bytes.
#[test]
fn the_header_never_overrules_the_bytes() {
    let (user, fake) = (User::new(), FakeRegistry::start());
    let client = user.client();
    let wanted = Digest::sha256(b"wanted");
    let path = format!("/v2/app/manifests/{wanted}");
    fake.put(&path, KIND, MANIFEST.to_vec());
    let pinned = reference(&fake, &format!("app@{wanted}"));
    for header in [wanted.to_string(), Digest::sha256(MANIFEST).to_string(), String::new()] {
        fake.fault("manifests", 1, Fault::Header("docker-content-digest", header.clone()));
        let error = client.manifest(&pinned).unwrap_err();
        assert!(matches!(error, Error::DigestMismatch { .. }), "{header}: {error}");
        assert!(in_words(&error).contains(&wanted.to_string()), "{error}");
    }
    // By tag too, a registry that contradicts itself has sent something wrong.
    fake.put_manifest("app", "v1", KIND, MANIFEST);
    fake.fault("manifests", 1, Fault::Header("docker-content-digest", wanted.to_string()));
    let error = client.manifest(&reference(&fake, "app:v1")).unwrap_err();
    assert!(matches!(error, Error::DigestMismatch { .. }), "{error}");
}

#[test]
fn a_manifest_must_be_what_its_descriptor_says() {
    let (user, fake) = (User::new(), with_app());
    let client = user.client();
    let app = reference(&fake, "app:v1");
    let right = Descriptor::of(OCI_MANIFEST, MANIFEST);
    assert_eq!(client.manifest_by_digest(&app, &right).unwrap().bytes, MANIFEST);
    for size in [right.size - 1, right.size + 1] {
        let wrong = Descriptor::new(OCI_MANIFEST, right.digest.clone(), size);
        assert!(client.manifest_by_digest(&app, &wrong).is_err(), "{size}");
    }
    let wrong = Descriptor::new(OCI_INDEX, right.digest.clone(), right.size);
    assert!(client.manifest_by_digest(&app, &wrong).is_err());
    // A size beyond reason is not even asked for.
    let asked = fake.log().len();
    let huge = Descriptor::new(OCI_MANIFEST, Digest::sha256(b"huge"), MAX_MANIFEST + 1);
    let error = client.manifest_by_digest(&app, &huge).unwrap_err();
    assert!(matches!(error, Error::BodyTooLarge { .. }), "{error}");
    assert_eq!(fake.log().len(), asked);
}

#[test]
fn a_server_that_does_not_know_the_type() {
    let (user, fake) = (User::new(), with_app());
    let client = user.client();
    let app = reference(&fake, "app:v1");
    let table = [
        ("application/octet-stream", OCI_MANIFEST),
        ("application/json", OCI_MANIFEST),
        ("text/plain; charset=utf-8", OCI_MANIFEST),
        ("", OCI_MANIFEST),
        ("Application/VND.oci.image.manifest.v1+json; charset=utf-8", OCI_MANIFEST),
        ("application/vnd.oci.image.index.v1+json", OCI_INDEX),
    ];
    for (header, expected) in table {
        fake.fault("manifests", 1, Fault::Header("content-type", header.into()));
        assert_eq!(client.manifest(&app).unwrap().media_type, expected, "{header}");
    }
    fake.fault("manifests", 1, Fault::Header("content-type", "text/html; charset=utf-8".into()));
    let error = client.manifest(&app).unwrap_err();
    assert!(error.to_string().contains("web page"), "{error}");
}

/// CVE-2020-1702 and its like.
#[test]
fn endless_bodies_end() {
    let (user, fake) = (User::new(), with_app());
    fake.fault("manifests", 1, Fault::Endless);
    let error = user.client().manifest(&reference(&fake, "app:v1")).unwrap_err();
    assert!(matches!(error, Error::BodyTooLarge { limit: MAX_MANIFEST, .. }), "{error}");
    // What the kernel's buffers hold on top is not ours.
    assert!(fake.sent() < MAX_MANIFEST + (16 << 20), "{}", fake.sent());
}

#[test]
fn an_endless_error_is_still_that_error() {
    let (user, fake) = (User::new(), with_app());
    let app = reference(&fake, "app:v1");
    for status in [404, 401, 403, 400] {
        let body = vec![b'x'; 3 << 20];
        fake.fault("manifests", 1, Fault::Answer { status, headers: Vec::new(), body });
        let error = in_words(&user.client().manifest(&app).unwrap_err());
        assert!(error.len() < 1000, "{status}: {} bytes", error.len());
    }
}

#[test]
fn unknown_names() {
    let (user, fake) = (User::new(), with_app());
    let client = user.client();
    let host = fake.host();
    let error = client.manifest(&reference(&fake, "app:nosuch")).unwrap_err();
    assert_eq!(error.to_string(), format!("manifest unknown: {host}/app:nosuch"));
    assert!(error.hint().is_some());
    fake.fault("manifests", 1, Fault::error(404, "NAME_UNKNOWN"));
    let error = client.manifest(&reference(&fake, "nosuch:v1")).unwrap_err();
    assert_eq!(error.to_string(), format!("repository unknown: {host}/nosuch"));
    let nothing = Descriptor::of(KIND, b"nothing");
    let error = client.blob(&reference(&fake, "app:v1"), &nothing, 0).unwrap_err();
    assert_eq!(error.to_string(), format!("blob unknown: {host}/app@{}", nothing.digest));
}

/// What a registry says goes to a terminal.
#[test]
fn a_registrys_words_are_tamed() {
    let (user, fake) = (User::new(), with_app());
    let body = r#"{"errors":[{"code":"X","message":"\u001b[2Jgone\nsecond line\u009b31m"}]}"#;
    let fault = Fault::Answer { status: 400, headers: Vec::new(), body: body.into() };
    fake.fault("manifests", 1, fault);
    let error = in_words(&user.client().manifest(&reference(&fake, "app:v1")).unwrap_err());
    assert!(error.contains("gone") && !error.chars().any(char::is_control), "{error:?}");
}

#[test]
fn one_connection_serves_many_requests() {
    let (user, fake) = (User::new(), with_app());
    let client = user.client();
    let app = reference(&fake, "app:v1");
    client.manifest(&app).unwrap();
    let connections = fake.connections();
    for _ in 0..10 {
        client.manifest(&app).unwrap();
    }
    assert_eq!(fake.connections(), connections);
}
