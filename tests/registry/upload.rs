//! Uploads to a registry that breaks them off, forgets them, sends them elsewhere.

use std::io::{self, Read};
use std::sync::Mutex;

use mydocker::oci::descriptor::Descriptor;
use mydocker::oci::media_type::OCI_LAYER_GZIP;
use mydocker::oci::reference::Reference;
use mydocker::registry::{Content, Error, Pushed, RawManifest};

use crate::fake_registry::{Auth, FakeRegistry, Fault as PlainFault, digest};
use crate::fake_upload::{FakeUpload, Fault};
use crate::{KIND, MANIFEST, User, in_words, noise};

struct Bytes(Vec<u8>);

impl Content for Bytes {
    fn open(&self, offset: u64) -> io::Result<Box<dyn Read + Send + '_>> {
        Ok(Box::new(&self.0[usize::try_from(offset).unwrap()..]))
    }
}

fn app(host: &str) -> Reference {
    format!("{host}/app:v1").parse().unwrap()
}

fn push(user: &User, host: &str, bytes: &[u8]) -> Result<Pushed, Error> {
    let descriptor = Descriptor::of(OCI_LAYER_GZIP, bytes);
    let content = Bytes(bytes.to_vec());
    user.client().push_blob(&app(host), &descriptor, None, &content, &|_| {})
}

/// Pushes and asserts that the registry has it then.
#[track_caller]
fn arrives(user: &User, fake: &FakeUpload, bytes: &[u8]) {
    let pushed = push(user, &fake.host(), bytes);
    let log = fake.log();
    assert!(matches!(pushed, Ok(Pushed::Sent)), "{pushed:?}\n{log:#?}");
    assert!(fake.stored(&digest(bytes)).as_deref() == Some(bytes), "{log:#?}");
}

const BIG: usize = 3 << 20;

#[test]
fn a_small_blob_goes_with_the_request_that_ends_it() {
    let (user, fake) = (User::new(), FakeUpload::start());
    arrives(&user, &fake, b"small");
    assert_eq!(fake.methods(), ["HEAD", "POST", "PUT"]);
    let put = &fake.log()[2];
    assert!(put.path.contains("_state=a%3Db&digest=sha256%3A"), "{}", put.path);
    arrives(&user, &fake, b"");
    // The second time it is there.
    assert_eq!(push(&user, &fake.host(), b"small").unwrap(), Pushed::Existed);
}

#[test]
fn a_big_blob_goes_in_one_request() {
    let (user, fake) = (User::new(), FakeUpload::start());
    let bytes = noise(BIG);
    let (seen, content) = (Mutex::new(Vec::new()), Bytes(bytes.clone()));
    let descriptor = Descriptor::of(OCI_LAYER_GZIP, &bytes);
    let sent = |count| seen.lock().unwrap().push(count);
    let client = user.client();
    client.push_blob(&app(&fake.host()), &descriptor, None, &content, &sent).unwrap();
    assert!(fake.stored(&digest(&bytes)).unwrap() == bytes);
    assert_eq!(fake.methods(), ["HEAD", "POST", "PATCH", "PUT"]);
    let seen = seen.into_inner().unwrap();
    assert!(seen.len() > 10 && seen.is_sorted() && seen.last() == Some(&(BIG as u64)), "{seen:?}");
}

#[test]
fn a_reset_upload_goes_on_where_it_stopped() {
    let (user, fake) = (User::new(), FakeUpload::start());
    for at in [1 << 20, 100_000, 7] {
        fake.fault("PATCH", Fault::Reset(at));
    }
    arrives(&user, &fake, &noise(BIG));
    let patches: Vec<_> = fake.log().into_iter().filter(|r| r.method == "PATCH").collect();
    let taken: usize = patches.iter().map(|patch| patch.taken).sum();
    assert_eq!((patches.len(), taken), (4, BIG), "{patches:#?}");
    let ranges: Vec<_> = patches.iter().map(|patch| patch.header("content-range")).collect();
    let last = BIG - 1;
    let range = |first: usize| format!("{first}-{last}");
    let second = [1 << 20, (1 << 20) + 100_000, (1 << 20) + 100_007].map(range);
    assert_eq!(ranges[0], None);
    let rest: Vec<_> = ranges[1..].iter().map(|range| range.unwrap()).collect();
    assert_eq!(rest, second);
}

#[test]
fn an_upload_that_is_forgotten_begins_anew() {
    let (user, fake) = (User::new(), FakeUpload::start());
    fake.fault("PATCH", Fault::Forget(1 << 20));
    fake.fault("PATCH", Fault::Reset(0));
    arrives(&user, &fake, &noise(BIG));
    assert_eq!(fake.methods().iter().filter(|method| *method == "POST").count(), 3);
}

#[test]
fn a_registry_may_take_less_than_it_was_sent() {
    let (user, fake) = (User::new(), FakeUpload::start());
    fake.fault("PATCH", Fault::TakeOnly(1 << 20));
    fake.fault("PATCH", Fault::TakeOnly(1 << 20));
    fake.fault("PATCH", Fault::NoRange);
    arrives(&user, &fake, &noise(BIG));
    assert_eq!(fake.methods(), ["HEAD", "POST", "PATCH", "PATCH", "PATCH", "PUT"]);
}

#[test]
fn refusals_that_pass() {
    let (user, fake) = (User::new(), FakeUpload::start());
    fake.fault("POST", Fault::Answer(503, Vec::new()));
    fake.fault("PATCH", Fault::Answer(500, Vec::new()));
    fake.fault("PATCH", Fault::Answer(416, Vec::new()));
    fake.fault("PATCH", Fault::Answer(429, vec![("retry-after", "0".to_owned())]));
    fake.fault("PUT", Fault::Answer(502, Vec::new()));
    arrives(&user, &fake, &noise(BIG));
}

#[test]
fn refusals_that_stay() {
    for (method, status) in
        [("POST", 403), ("POST", 400), ("PATCH", 403), ("PATCH", 405), ("PUT", 400)]
    {
        let (user, fake) = (User::new(), FakeUpload::start());
        fake.fault(method, Fault::Answer(status, Vec::new()));
        let error = push(&user, &fake.host(), &noise(BIG)).unwrap_err();
        let fits = match status {
            403 => matches!(error, Error::Denied { .. }),
            _ => matches!(&error, Error::Status { status: found, .. } if *found == status),
        };
        assert!(fits, "{method} {status}: {error}");
        let tried = fake.methods().iter().filter(|found| *found == method).count();
        assert_eq!(tried, 1, "{method} {status}");
    }
}

#[test]
fn a_proxy_that_takes_little_at_a_time_gets_little_at_a_time() {
    let (user, fake) = (User::new(), FakeUpload::start());
    for _ in 0..9 {
        fake.fault("PATCH", Fault::TooLarge(413, 1 << 20));
    }
    arrives(&user, &fake, &noise(BIG + 5));
    let patches: Vec<_> = fake.log().into_iter().filter(|r| r.method == "PATCH").collect();
    let ranges: Vec<_> = patches.iter().map(|r| r.header("content-range")).collect();
    let last = ["0-1048575", "1048576-2097151", "2097152-3145727", "3145728-3145732"];
    assert_eq!(ranges[ranges.len() - 4..], last.map(Some), "{patches:#?}");
    // One that takes nothing at all is named as such.
    let (user, fake) = (User::new(), FakeUpload::start());
    for _ in 0..9 {
        fake.fault("PATCH", Fault::TooLarge(413, 1000));
    }
    let error = push(&user, &fake.host(), &noise(BIG)).unwrap_err();
    assert!(matches!(error, Error::Status { status: 413, .. }), "{error}");
    assert!(error.hint().is_some());
}

#[test]
fn one_that_never_goes_well_ends_in_an_error() {
    let (user, fake) = (User::new(), FakeUpload::start());
    for _ in 0..20 {
        fake.fault("PATCH", Fault::Reset(10));
    }
    let error = push(&user, &fake.host(), &noise(BIG)).unwrap_err();
    assert!(matches!(error, Error::Transfer { .. } | Error::UploadBroken { .. }), "{error}");
    assert!(in_words(&error).contains(&fake.host()), "{error}");
    let tried = fake.methods().iter().filter(|method| *method == "PATCH").count();
    assert_eq!(tried, 5);
}

#[test]
fn one_that_stands_still_ends_in_an_error() {
    let (mut user, fake) = (User::new(), FakeUpload::start());
    user.options.progress_timeout = std::time::Duration::from_millis(300);
    user.options.tries = 1;
    fake.fault("PATCH", Fault::Stall(1000));
    // More than any socket buffers.
    let error = push(&user, &fake.host(), &noise(32 << 20)).unwrap_err();
    assert!(matches!(error, Error::Timeout { what: "progress", .. }), "{error}");
}

#[test]
fn an_end_that_was_not_heard_of_is_found_out() {
    let (user, fake) = (User::new(), FakeUpload::start());
    fake.fault("PUT", Fault::Silent);
    arrives(&user, &fake, &noise(BIG));
    assert_eq!(fake.methods().iter().filter(|method| *method == "PATCH").count(), 1);
}

#[test]
fn other_bytes_than_announced_are_not_committed() {
    let (user, fake) = (User::new(), FakeUpload::start());
    for size in [100, BIG] {
        let mut bytes = noise(size);
        let descriptor = Descriptor::of(OCI_LAYER_GZIP, &bytes);
        bytes[size / 2] ^= 1;
        let wrong = Bytes(bytes.clone());
        let push = |content: &Bytes| {
            user.client().push_blob(&app(&fake.host()), &descriptor, None, content, &|_| {})
        };
        assert!(matches!(push(&wrong), Err(Error::DigestMismatch { .. })), "{size}");
        bytes.truncate(size / 2);
        assert!(matches!(push(&Bytes(bytes)), Err(Error::Size { .. })), "{size}");
    }
    assert!(!fake.methods().contains(&"PUT".to_owned()), "{:?}", fake.methods());
}

#[test]
fn an_upload_that_leads_elsewhere_takes_no_password_along() {
    let (user, fake) = (User::new(), FakeUpload::start());
    user.log_in(&fake.host(), "user", "hunter2");
    fake.set_password("user", "hunter2");
    for (method, size) in [("POST", BIG), ("PATCH", BIG + 1)] {
        let other = FakeUpload::start();
        let bytes = noise(size);
        fake.fault(method, Fault::Elsewhere(format!("http://{}", other.host())));
        // It knows no such upload, and so the next try goes to the registry itself.
        arrives(&user, &fake, &bytes);
        assert!(!other.log().is_empty(), "{method}");
        for request in other.log() {
            assert_eq!(request.header("authorization"), None, "{method}: {request:?}");
        }
    }
    let with = |r: &crate::fake_upload::Logged| r.header("authorization").is_some();
    assert!(fake.log().iter().any(with));
}

#[test]
fn an_upload_does_not_lead_anywhere() {
    for place in ["ftp://127.0.0.1", "http://user:pw@127.0.0.1:1", "http://["] {
        let (user, fake) = (User::new(), FakeUpload::start());
        fake.fault("POST", Fault::Elsewhere(place.to_owned()));
        let error = push(&user, &fake.host(), &noise(BIG)).unwrap_err();
        assert!(matches!(error, Error::Address { what: "upload address", .. }), "{place}: {error}");
        assert!(!in_words(&error).contains("pw@"), "{error}");
    }
    let (user, fake) = (User::new(), FakeUpload::start());
    fake.fault("POST", Fault::Nowhere);
    let error = push(&user, &fake.host(), &noise(BIG)).unwrap_err();
    assert!(matches!(error, Error::Upload { .. }), "{error}");
}

#[test]
fn a_mount_that_is_refused_is_an_upload() {
    let (user, fake) = (User::new(), FakeUpload::start());
    let bytes = noise(BIG);
    let descriptor = Descriptor::of(OCI_LAYER_GZIP, &bytes);
    let mount = || {
        let content = Bytes(bytes.clone());
        user.client().push_blob(
            &app(&fake.host()),
            &descriptor,
            Some("other/app"),
            &content,
            &|_| {},
        )
    };
    // It begins an upload instead, refuses, or has it.
    assert_eq!(mount().unwrap(), Pushed::Sent);
    let asked = fake.log().into_iter().filter(|r| r.method == "POST").count();
    assert_eq!(asked, 1);
    let post = fake.log().into_iter().find(|r| r.method == "POST").unwrap();
    assert!(
        post.path.contains("?mount=sha256:") && post.path.ends_with("&from=other/app"),
        "{}",
        post.path
    );
    for status in [403, 404, 405] {
        fake.fault("HEAD", Fault::Answer(404, Vec::new()));
        fake.fault("POST", Fault::Answer(status, Vec::new()));
        assert_eq!(mount().unwrap(), Pushed::Sent, "{status}");
    }
    fake.fault("HEAD", Fault::Answer(404, Vec::new()));
    fake.fault("POST", Fault::Answer(201, Vec::new()));
    assert_eq!(mount().unwrap(), Pushed::Mounted);
}

#[test]
fn a_token_for_pushing_is_asked_for_where_one_for_pulling_was_got() {
    let (user, fake, service) = (User::new(), FakeRegistry::start(), FakeRegistry::start());
    fake.set_auth(Auth::Challenge(format!(
        r#"Bearer realm="{}",service="fake""#,
        service.url("/token")
    )));
    fake.fault_on("POST", "/uploads/", 1, PlainFault::error(403, "DENIED"));
    let error = push(&user, &fake.host(), b"small").unwrap_err();
    assert!(matches!(error, Error::Denied { .. }), "{error}");
    fake.revoke_tokens();
    service.revoke_tokens();
    fake.fault_on("HEAD", "/blobs/", 1, PlainFault::error(404, ""));
    push(&user, &fake.host(), b"small").unwrap_err();
    let scopes: Vec<String> = service.log().into_iter().map(|request| request.path).collect();
    assert!(scopes[0].ends_with("scope=repository%3Aapp%3Apull"), "{scopes:?}");
    assert!(scopes[1].ends_with("scope=repository%3Aapp%3Apull%2Cpush"), "{scopes:?}");
}

#[test]
fn a_manifest_is_stored_as_it_is() {
    let (user, fake) = (User::new(), FakeUpload::start());
    let digest = digest(MANIFEST).parse().unwrap();
    let raw = RawManifest { bytes: MANIFEST.to_vec(), digest, media_type: KIND.to_owned() };
    let push = || user.client().push_manifest(&app(&fake.host()), &raw);
    fake.fault("PUT", Fault::Answer(503, Vec::new()));
    push().unwrap();
    assert!(fake.stored("v1").unwrap() == MANIFEST);
    assert_eq!(fake.log()[1].header("content-type"), Some(KIND));
    // A registry that says that it stored something else is not believed to have stored it.
    let other = format!("sha256:{}", "0".repeat(64));
    fake.fault("PUT", Fault::Answer(201, vec![("docker-content-digest", other)]));
    assert!(matches!(push(), Err(Error::DigestMismatch { .. })));
}
