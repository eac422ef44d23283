//! What is tried again, and for how long.

use std::time::{Duration, Instant};

use mydocker::registry::Error;

use crate::fake_registry::{Auth, FakeRegistry, Fault};
use crate::{User, in_words, reference, with_app};

#[test]
fn passing_troubles_are_sat_out() {
    let faults = [
        Fault::error(500, ""),
        Fault::error(502, ""),
        Fault::error(503, ""),
        Fault::error(504, ""),
        Fault::error(429, "TOOMANYREQUESTS"),
        Fault::Close,
        Fault::Truncate(10),
        Fault::Reset(10),
        Fault::Stall(10),
    ];
    for fault in faults {
        let (user, fake) = (User::new(), with_app());
        fake.fault("manifests", 2, fault.clone());
        let got = user.client().manifest(&reference(&fake, "app:v1"));
        assert!(got.is_ok(), "{fault:?}: {}", in_words(&got.unwrap_err()));
    }
}

#[test]
fn what_will_not_change_is_asked_once() {
    for status in [400, 401, 403, 404, 405, 410, 501] {
        let (user, fake) = (User::new(), with_app());
        fake.fault("manifests", usize::MAX, Fault::error(status, "X"));
        user.client().manifest(&reference(&fake, "app:v1")).unwrap_err();
        assert_eq!(fake.count("GET", "manifests"), 1, "{status}");
    }
}

#[test]
fn patience_ends() {
    let (user, fake) = (User::new(), with_app());
    fake.fault("manifests", usize::MAX, Fault::error(503, "UNAVAILABLE"));
    let error = user.client().manifest(&reference(&fake, "app:v1")).unwrap_err();
    assert!(matches!(error, Error::Status { status: 503, .. }), "{error}");
    assert!(error.to_string().contains("in words"), "{error}");
    assert_eq!(fake.count("GET", "manifests"), user.options.tries as usize);
}

#[test]
fn retry_after_is_honoured_up_to_a_limit() {
    let (user, fake) = (User::new(), with_app());
    let app = reference(&fake, "app:v1");
    fake.fault("manifests", 1, Fault::status(429, "retry-after", "1"));
    let start = Instant::now();
    user.client().manifest(&app).unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));
    // Longer than anybody waits: the error comes at once. So it does for an hour from now, and a used up limit.
    let mut hour = Fault::status(429, "retry-after", "Fri, 01 Jan 2100 00:00:00 GMT");
    let used_up = vec![
        ("ratelimit-limit".to_owned(), "100;w=21600".to_owned()),
        ("ratelimit-remaining".to_owned(), "0;w=21600".to_owned()),
    ];
    let used_up = Fault::Answer { status: 429, headers: used_up, body: Vec::new() };
    for fault in [Fault::status(429, "retry-after", "3600"), hour.clone(), used_up] {
        hour = fault;
        fake.fault("manifests", 1, hour.clone());
        let (start, before) = (Instant::now(), fake.log().len());
        let error = user.client().manifest(&app).unwrap_err();
        assert!(matches!(error, Error::TooManyRequests { .. }), "{hour:?}: {error}");
        assert!(start.elapsed() < Duration::from_secs(60), "{hour:?}");
        assert!(error.hint().is_some());
        let manifests = fake.log().split_off(before);
        let manifests = manifests.iter().filter(|request| request.path.contains("manifests"));
        assert_eq!(manifests.count(), 1, "{hour:?}");
    }
}

#[test]
fn a_rate_limit_is_told() {
    let (user, fake) = (User::new(), with_app());
    let headers = vec![
        ("ratelimit-limit".to_owned(), "100;w=21600".to_owned()),
        ("ratelimit-remaining".to_owned(), "0;w=21600".to_owned()),
    ];
    let fault = Fault::Answer { status: 429, headers, body: Vec::new() };
    fake.fault("manifests", usize::MAX, fault);
    let error = user.client().manifest(&reference(&fake, "app:v1")).unwrap_err();
    assert!(error.to_string().contains("100"), "{error}");
}

#[test]
fn silence_is_an_error() {
    let (mut user, fake) = (User::new(), with_app());
    user.options.progress_timeout = Duration::from_millis(200);
    user.options.tries = 2;
    fake.fault("manifests", usize::MAX, Fault::Stall(3));
    let start = Instant::now();
    let error = user.client().manifest(&reference(&fake, "app:v1")).unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(5));
}

/// A drip never stops for long and never ends.
#[test]
fn a_document_must_come_in_good_time() {
    let (mut user, fake) = (User::new(), with_app());
    user.options.document_timeout = Duration::from_millis(300);
    user.options.tries = 1;
    fake.put("/v2/app/manifests/slow", crate::KIND, vec![b' '; 1000]);
    fake.fault("manifests/slow", usize::MAX, Fault::Drip(1, 50));
    let start = Instant::now();
    let error = user.client().manifest(&reference(&fake, "app:slow")).unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn nobody_there() {
    let (mut user, fake) = (User::new(), FakeRegistry::start());
    let app = reference(&fake, "app:v1");
    drop(fake);
    user.options.tries = 1;
    // The listener goes when its thread has noticed.
    std::thread::sleep(Duration::from_millis(100));
    let error = user.client().manifest(&app).unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error}");
    let text = in_words(&error);
    assert!(text.starts_with(&format!("connect to `{}`", app.registry())), "{text}");
    assert!(text.to_lowercase().contains("connection refused"), "{text}");
}

#[test]
fn a_token_service_in_trouble_is_sat_out_too_and_not_for_ever() {
    for status in [429, 500, 503] {
        let (user, fake, service) = (User::new(), with_app(), FakeRegistry::start());
        fake.set_auth(Auth::Bearer(service.url("/token")));
        service.fault("/token", 2, Fault::error(status, "X"));
        let app = reference(&fake, "app:v1");
        user.client().manifest(&app).unwrap();
        service.fault("/token", usize::MAX, Fault::error(status, "X"));
        let before = service.log().len();
        let error = user.client().manifest(&app).unwrap_err();
        assert!(in_words(&error).contains(&service.host()), "{error}");
        assert_eq!(service.log().len() - before, user.options.tries as usize, "{status}");
    }
}
