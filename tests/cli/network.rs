//! The way to a registry as the calling shell's environment describes it, and what a user reads when it fails.

use base64::Engine as _;

use crate::connect_proxy::ConnectProxy;
use crate::fake_registry::{CA, FakeRegistry, Fault, Tls};
use crate::made::{serve_image, tar_of};
use crate::support::command::Cmd;
use crate::support::env::TestEnv;
use crate::support::require::Need::Root;

fn image(fake: &FakeRegistry) -> Vec<String> {
    serve_image(fake, "app", "v1", &[tar_of(&[("file", b"content")])])
}

fn pull(env: &TestEnv, name: &str) -> Cmd {
    env.mydocker(["--no-sync", "pull", name])
}

#[test]
fn a_tunnel_through_the_proxy_that_the_environment_names() {
    require!(Root);
    let fake = FakeRegistry::start_at("127.0.0.1:0", Tls::Leaf);
    image(&fake);
    let proxy = ConnectProxy::start(&fake.host());
    let host = proxy.host();
    for (variable, value) in [
        ("HTTPS_PROXY", format!("http://us%20er:hunter2@{host}")),
        ("https_proxy", format!("http://us%20er:hunter2@{host}")),
        ("ALL_PROXY", format!("us%20er:hunter2@{host}")),
    ] {
        let env = TestEnv::new();
        std::fs::write(env.folder().join("ca.crt"), CA).unwrap();
        // Nobody but the proxy knows where that is.
        let cmd = pull(&env, "registry.test/app:v1").arg("--debug").env(variable, value);
        let output = cmd.env("SSL_CERT_FILE", env.folder().join("ca.crt")).run().success();
        assert!(!output.stderr.contains("hunter2"), "{}", output.report());
        let head = proxy.heads().pop().unwrap();
        assert!(head.starts_with("CONNECT registry.test:443 "), "{head}");
        let basic = base64::engine::general_purpose::STANDARD.encode("us er:hunter2");
        assert!(
            head.to_lowercase()
                .contains(&format!("proxy-authorization: basic {basic}").to_lowercase()),
            "{head}"
        );
    }
}

#[test]
fn exceptions_from_the_proxy() {
    require!(Root);
    let proxy = FakeRegistry::start();
    let name = "10.255.255.1:5000/app:v1";
    // The proxy is asked by the whole address, and has nothing.
    let ask = |no_proxy: (&str, &str)| {
        let env = TestEnv::new();
        let cmd = pull(&env, name).args(["--plain-http", "10.255.255.1:5000"]).timeout(40);
        let cmd = cmd.env("HTTP_PROXY", proxy.url("")).env(no_proxy.0, no_proxy.1);
        let before = proxy.log().len();
        cmd.run().exits(125);
        proxy.log().len() > before
    };
    assert!(ask(("NO_PROXY", "10.0.0.0/16,x.example")));
    assert!(!ask(("NO_PROXY", "x.example, 10.255.0.0/16")));
    assert!(!ask(("no_proxy", "10.255.255.1")));
}

#[test]
fn a_rate_limit_says_how_much_and_for_how_long() {
    require!(Root);
    let (env, fake) = (TestEnv::new(), FakeRegistry::start());
    image(&fake);
    let headers = [("ratelimit-limit", "100;w=21600"), ("ratelimit-remaining", "0;w=21600")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let body = br#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#.to_vec();
    fake.fault("manifests", usize::MAX, Fault::Answer { status: 429, headers, body });
    let name = format!("{}/app:v1", fake.host());
    let expected = ["allows 100 in 360 minutes", "none are left", "hint: wait, or log in"];
    env.assert_refused(pull(&env, &name), 125, &expected);
    assert_eq!(fake.count("GET", "manifests"), 1, "it is of no use to ask again");
}

#[test]
fn every_fault_of_a_registry_has_a_message_with_the_host_and_what_to_do() {
    require!(Root);
    let bytes = |text: &str| Fault::body(text);
    for (part, fault, words) in [
        ("manifests", Fault::error(401, "UNAUTHORIZED"), &["log in to"][..]),
        ("manifests", Fault::error(403, "DENIED"), &["denied", "hint:"]),
        ("manifests", Fault::error(404, "MANIFEST_UNKNOWN"), &["manifest unknown", "hint:"]),
        ("manifests", Fault::error(404, "NAME_UNKNOWN"), &["repository unknown", "hint:"]),
        ("manifests", Fault::error(418, "X"), &["418", "in words"]),
        ("manifests", bytes("<html>"), &["malformed manifest"]),
        ("manifests", Fault::Header("content-type", "text/html".into()), &["web page", "hint:"]),
        ("manifests", Fault::status(302, "location", "http://[::1]:1/"), &["connect to"]),
        ("blobs", Fault::error(404, "BLOB_UNKNOWN"), &["blob unknown"]),
        ("blobs", Fault::error(403, "DENIED"), &["denied"]),
        ("blobs", Fault::NoRange, &[]),
        ("blobs", bytes("{}"), &["bytes, its descriptor says"]),
    ] {
        let (env, fake) = (TestEnv::new(), FakeRegistry::start());
        image(&fake);
        fake.fault(part, usize::MAX, fault.clone());
        let name = format!("{}/app:v1", fake.host());
        match words {
            [] => _ = pull(&env, &name).ok(),
            words => _ = env.assert_refused(pull(&env, &name), 125, words),
        }
    }
}
