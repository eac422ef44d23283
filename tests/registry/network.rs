//! Registries elsewhere, each in a network namespace of its own: only there can a test have public addresses.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use mydocker::oci::reference::Reference;
use mydocker::registry::{Client, Error};
use nix::sched::{CloneFlags, unshare};

use crate::fake_registry::{Auth, FakeRegistry, Fault, Tls};
use crate::{KIND, MANIFEST, User, download, in_words, noise, with_blob};

/// A registry's public address; nobody can be reached there from the namespace but ourselves.
const PUBLIC: &str = "93.184.215.14";
const OTHER_PUBLIC: &str = "93.184.215.15";
const PRIVATE: &str = "10.77.0.1";
const LINK_LOCAL: &str = "169.254.169.254";

/// Runs `test` on a thread in a new network namespace that has all these addresses, and that all its threads share.
fn in_a_network(test: impl FnOnce() + Send) {
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
                assert!(std::env::var_os("MYDOCKER_TEST_NO_SKIP").is_none(), "needs root: {error}");
                println!("skipped: a network namespace needs root: {error}");
                return;
            }
            ip(&["link", "set", "lo", "up"]);
            for address in [PUBLIC, OTHER_PUBLIC, PRIVATE, LINK_LOCAL] {
                ip(&["address", "add", &format!("{address}/32"), "dev", "lo"]);
            }
            test();
        });
        if let Err(panic) = worker.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

fn ip(arguments: &[&str]) {
    assert!(Command::new("ip").args(arguments).status().unwrap().success(), "ip {arguments:?}");
}

fn at(address: &str) -> FakeRegistry {
    let fake = FakeRegistry::start_at(&format!("{address}:0"), Tls::None);
    fake.put_manifest("app", "v1", KIND, MANIFEST);
    fake.put("/m", KIND, MANIFEST.to_vec());
    fake
}

/// A client that may speak plain HTTP with these, and knows a password for each.
fn client(user: &mut User, fakes: &[&FakeRegistry]) -> Client {
    user.options.plain_http = fakes.iter().map(|fake| fake.host()).collect();
    user.client()
}

fn app(fake: &FakeRegistry) -> Reference {
    format!("{}/app:v1", fake.host()).parse().unwrap()
}

#[test]
fn plain_http_is_for_those_that_are_named() {
    in_a_network(|| {
        let (mut user, fake) = (User::new(), at(PUBLIC));
        let error = user.client().manifest(&app(&fake)).unwrap_err();
        assert!(error.hint().unwrap().contains("--plain-http"), "{error}");
        assert!(in_words(&error).contains("HTTP"), "{}", in_words(&error));
        assert!(fake.log().is_empty());
        let client = client(&mut user, &[&fake]);
        client.manifest(&app(&fake)).unwrap();
        // Another port is another registry.
        let other = at(PUBLIC);
        assert!(client.manifest(&app(&other)).is_err());
        assert!(other.log().is_empty());
    });
}

/// CVE-2026-33540: the way from a registry on the internet to what only we can reach.
#[test]
fn a_public_registry_does_not_lead_into_our_networks() {
    in_a_network(|| {
        let (mut user, fake) = (User::new(), at(PUBLIC));
        user.log_in(&fake.host(), "user", "hunter2");
        let sinks = [at("127.0.0.1"), at(PRIVATE), at(LINK_LOCAL)];
        let mut realms: Vec<String> = sinks.iter().map(|sink| sink.url("/token")).collect();
        let (port, private) = (sinks[0].port(), sinks[1].port());
        realms.extend([
            // Names and spellings of the same.
            format!("http://localhost:{port}/token"),
            format!("http://LOCALHOST.:{port}/token"),
            format!("http://x.localhost:{port}/token"),
            format!("http://2130706433:{port}/token"),
            format!("http://0x7f.1:{port}/token"),
            format!("http://0:{port}/token"),
            format!("http://[::ffff:127.0.0.1]:{port}/token"),
            format!("http://[::ffff:{PRIVATE}]:{private}/token"),
        ]);
        let client = client(&mut user, &[&fake]);
        for realm in realms {
            fake.set_auth(Auth::Bearer(realm.clone()));
            let error = client.manifest(&app(&fake)).unwrap_err();
            assert!(matches!(error, Error::Address { .. }), "{realm}: {}", in_words(&error));
        }
        for sink in &sinks {
            assert_eq!(sink.connections(), 0, "{}", sink.host());
        }
        // To others on the internet it may lead.
        let service = at(OTHER_PUBLIC);
        fake.set_auth(Auth::Bearer(service.url("/token")));
        client.manifest(&app(&fake)).unwrap();
    });
}

#[test]
fn a_private_registry_may_have_a_private_token_service() {
    in_a_network(|| {
        let (mut user, fake) = (User::new(), at(PRIVATE));
        let client = client(&mut user, &[&fake]);
        for (place, allowed) in
            [(PRIVATE, true), (PUBLIC, true), (LINK_LOCAL, false), ("127.0.0.1", false)]
        {
            let service = at(place);
            fake.set_auth(Auth::Bearer(service.url("/token")));
            fake.revoke_tokens();
            // Refused or not, the token of the new service is none that the registry knows.
            assert!(client.manifest(&app(&fake)).is_err());
            assert_eq!(service.connections() > 0, allowed, "{place}");
        }
    });
}

#[test]
fn redirects_do_not_lead_to_this_machine() {
    in_a_network(|| {
        let (mut user, fake) = (User::new(), at(PUBLIC));
        let client = client(&mut user, &[&fake]);
        for (place, allowed) in
            [(OTHER_PUBLIC, true), (PRIVATE, true), (LINK_LOCAL, false), ("127.0.0.1", false)]
        {
            let sink = at(place);
            let mut targets = vec![sink.url("/m")];
            if place == "127.0.0.1" {
                targets.push(format!("http://localhost:{}/m", sink.port()));
            }
            for target in targets {
                fake.fault("manifests", 1, Fault::status(307, "location", &target));
                assert_eq!(client.manifest(&app(&fake)).is_ok(), allowed, "{target}");
            }
            assert_eq!(sink.connections() > 0, allowed, "{place}");
        }
    });
}

#[test]
fn proxies() {
    in_a_network(|| {
        let (mut user, fake, proxy) = (User::new(), at(PUBLIC), at(OTHER_PUBLIC));
        let host = fake.host();
        // The proxy sees the whole address; the fake takes it for a path.
        proxy.put(&format!("http://{host}/v2/app/manifests/v1"), KIND, MANIFEST.to_vec());
        user.options.environment.http_proxy =
            Some(format!("http://us%20er:hunter2@{}", proxy.host()));
        let through = client(&mut user, &[&fake]);
        through.manifest(&app(&fake)).unwrap();
        assert!(fake.log().is_empty());
        let authorization = proxy.log()[0].header("proxy-authorization").unwrap().to_owned();
        assert!(authorization.starts_with("Basic "), "{authorization}");
        // An exception, and this machine.
        user.options.environment.no_proxy = Some(format!("x.example, {PUBLIC}"));
        user.client().manifest(&app(&fake)).unwrap();
        user.options.environment.no_proxy = None;
        let here = at("127.0.0.1");
        user.client().manifest(&app(&here)).unwrap();
        assert_eq!(proxy.log().len(), 1);
        // A proxy that is not there is named, without its password.
        let gone = proxy.host();
        drop(proxy);
        thread::sleep(Duration::from_millis(100));
        user.options.tries = 1;
        let error = user.client().manifest(&app(&fake)).unwrap_err();
        let text = in_words(&error) + &format!("{error:?}");
        assert!(text.contains(&gone) && !text.contains("hunter2"), "{text}");
        assert!(error.hint().unwrap().contains("PROXY"), "{:?}", error.hint());
    });
}

#[test]
fn a_proxy_that_cannot_be_used() {
    let mut user = User::new();
    for bad in ["socks5://hunter2@x:1", "http://", "ftp://x"] {
        user.options.environment.https_proxy = Some(bad.into());
        let error = Client::new(user.options.clone()).unwrap_err();
        assert!(in_words(&error).contains("HTTPS_PROXY"), "{error}");
        assert!(!in_words(&error).contains("hunter2"), "{error}");
    }
}

/// Without name servers, as in this namespace, the answer is quick and says so.
#[test]
fn names_that_lead_nowhere() {
    in_a_network(|| {
        let mut user = User::new();
        user.options.connect_timeout = Duration::from_secs(1);
        user.options.tries = 1;
        let reference: Reference = "registry.invalid/app:v1".parse().unwrap();
        let error = user.client().manifest(&reference).unwrap_err();
        assert!(matches!(error, Error::Connect { .. }), "{error:?}");
        assert!(in_words(&error).contains("registry.invalid"), "{}", in_words(&error));
    });
}

/// A network that swallows every packet: a wrong address, or a firewall without manners.
#[test]
fn silence_on_the_network_is_not_waited_for_long() {
    in_a_network(|| {
        ip(&["link", "add", "void", "type", "veth", "peer", "name", "behind"]);
        ip(&["link", "set", "void", "up"]);
        ip(&["link", "set", "behind", "up"]);
        ip(&["address", "add", "203.0.113.1/24", "dev", "void"]);
        let mut user = User::new();
        user.options.connect_timeout = Duration::from_millis(300);
        let reference: Reference = "203.0.113.2:5000/app:v1".parse().unwrap();
        let start = Instant::now();
        let error = user.client().manifest(&reference).unwrap_err();
        assert!(matches!(error, Error::Timeout { .. }), "{error:?}");
        assert!(error.to_string().contains("203.0.113.2:5000"), "{error}");
        assert!(start.elapsed() < Duration::from_millis(1200), "{:?}", start.elapsed());
    });
}

#[test]
fn a_large_blob_through_all_of_it() {
    in_a_network(|| {
        let (user, bytes) = (User::new(), noise(8 << 20));
        let (fake, descriptor) = with_blob(&bytes);
        let got = download(&user.client(), &app(&fake), &descriptor).unwrap();
        assert!(got == bytes);
    });
}
