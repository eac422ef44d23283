//! What a registry says without a pull: `tags`, `inspect --remote`; and `pull --all-tags`.

use serde_json::Value;

use crate::fake_registry::{FakeRegistry, Fault};
use crate::support::command::Cmd;
use crate::support::env::TestEnv;
use crate::support::fixtures;
use crate::support::registry::Registry;
use crate::support::require::Need::{Root, Tool};

fn document(text: &str) -> Value {
    let all: Value = serde_json::from_str(text).unwrap();
    assert_eq!(all.as_array().unwrap().len(), 1, "{text}");
    all[0].clone()
}

#[test]
fn tags_of_a_repository() {
    require!(Tool("docker-registry"));
    let (env, registry) = (TestEnv::new(), Registry::start());
    let name = registry.image("busybox");
    let tags = |args: &[&str]| env.mydocker(["tags", &name]).args(args).run().success().stdout;
    // This registry has an order of its own, and it is kept.
    let all = tags(&[]);
    let mut sorted: Vec<&str> = all.lines().collect();
    let first = sorted[0].to_owned();
    sorted.sort_unstable();
    assert_eq!(sorted, ["docker", "latest"]);
    assert_eq!(tags(&["--limit", "1"]), format!("{first}\n"));
    let json = format!("{{\"Name\":\"{name}\",\"Tag\":\"{first}\"}}\n");
    assert_eq!(tags(&["--format", "json", "--limit", "1"]), json);
    let table = tags(&["--format", "table"]);
    let cells: Vec<Vec<&str>> =
        table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(cells[..2], [["NAME", "TAG"], [&name, &first]]);
    assert_eq!(cells.len(), 3);
    assert!(!env.root().exists());
}

#[test]
fn tags_that_cannot_be_listed() {
    require!(Tool("docker-registry"));
    let (env, registry) = (TestEnv::new(), Registry::start());
    let nosuch = registry.image("nosuch");
    env.mydocker(["tags", &nosuch]).run().fails(125, &["repository unknown", &nosuch, "hint:"]);
    env.mydocker(["tags", "busybox:latest"]).run().fails(125, &["has no tag", "hint:"]);
    env.mydocker(["tags", "A/B"]).run().fails(125, &["invalid reference"]);
}

#[test]
fn tags_come_in_pages() {
    let (env, fake) = (TestEnv::new(), FakeRegistry::start());
    let page = |rest: &str, body: &str, link: &str| {
        fake.put(&format!("/v2/app/tags/{rest}"), "application/json", body.as_bytes().to_vec());
        if !link.is_empty() {
            fake.fault(&format!("/tags/{rest}"), 99, Fault::Header("link", link.to_owned()));
        }
    };
    page(
        "list",
        r#"{"name":"app","tags":["a","../x","b\u001b[31m"]}"#,
        r#"</v2/app/tags/second>; rel="next""#,
    );
    page("second", r#"{"name":"app","tags":null}"#, r#"</v2/app/tags/third?n=2>; rel="next""#);
    page("third", r#"{"tags":["b"]}"#, "");
    let name = format!("{}/app", fake.host());
    // What is no tag is not printed: it could not be used, and may be meant for the terminal.
    env.mydocker(["tags", &name]).run().success().prints("a\nb\n");
    // The first page is enough for the first tag.
    let before = fake.log().len();
    env.mydocker(["tags", "--limit", "1", &name]).run().success().prints("a\n");
    assert_eq!(fake.count("GET", "/tags/second"), 1, "{:?}", &fake.log()[before..]);
}

#[test]
fn lists_of_tags_that_lead_astray() {
    let (env, fake, other) = (TestEnv::new(), FakeRegistry::start(), FakeRegistry::start());
    let name = format!("{}/app", fake.host());
    let tags = || env.mydocker(["tags", &name]).run();
    fake.put("/v2/app/tags/list", "application/json", br#"{"tags":["a"]}"#.to_vec());
    let link = format!("<{}>; rel=\"next\"", other.url("/v2/app/tags/list"));
    fake.fault("/tags/list", 1, Fault::Header("link", link));
    let output = tags().exits(125);
    assert!(output.stderr.contains("next page"), "{}", output.report());
    assert_eq!(other.log().len(), 0);
    for body in ["", "[]", "<html>", r#"{"tags":{}}"#] {
        fake.fault("/tags/list", 1, Fault::body(body));
        tags().fails(125, &["list of tags", &fake.host()]);
    }
    fake.fault("/tags/list", 1, Fault::Endless);
    tags().fails(125, &["larger than"]);
}

#[test]
fn an_image_is_inspected_without_a_pull() {
    require!(Tool("docker-registry"), Tool("skopeo"));
    let (env, registry) = (TestEnv::new(), Registry::start());
    let name = registry.image("layered");
    let seen = document(&env.mydocker(["inspect", "--remote", &name]).ok());
    assert!(!env.root().exists());
    let requests = registry.requests();
    let layers = fixtures::layers("layered", "latest");
    assert!(
        !requests.iter().any(|r| layers.iter().any(|layer| r.path.contains(layer))),
        "{requests:?}"
    );
    let skopeo = Cmd::new("skopeo")
        .args(["inspect", "--tls-verify=false", &format!("docker://{name}")])
        .ok();
    let skopeo: Value = serde_json::from_str(&skopeo).unwrap();
    assert_eq!(seen["Digest"], skopeo["Digest"]);
    assert_eq!(seen["Name"], format!("{name}:latest"));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let digests: Vec<String> =
        seen["Layers"].as_array().unwrap().iter().map(|layer| text(&layer["digest"])).collect();
    assert_eq!(digests, layers);
    let size = |layer: &String| {
        let path = format!("layered/blobs/{}", layer.replacen(':', "/", 1));
        std::fs::metadata(fixtures::path(&path)).unwrap().len()
    };
    assert_eq!(seen["Size"].as_u64().unwrap(), layers.iter().map(size).sum::<u64>());
    assert_eq!(seen["Architecture"], fixtures::architecture());
    assert_eq!(seen["Config"]["Env"], skopeo["Env"]);
    // Byte for byte, as its digest says.
    let raw = env.mydocker(["inspect", "--remote", "--raw", &name]).ok();
    let path = format!("layered/blobs/{}", text(&seen["Digest"]).replacen(':', "/", 1));
    assert_eq!(raw, std::fs::read_to_string(fixtures::path(&path)).unwrap());
}

#[test]
fn a_raw_manifest_does_not_talk_to_the_terminal() {
    let (env, fake) = (TestEnv::new(), FakeRegistry::start());
    let kind = "application/vnd.oci.image.manifest.v1+json";
    fake.put_manifest("app", "latest", kind, b"\x1b[31m{}");
    let output = env.mydocker(["inspect", "--remote", "--raw", &format!("{}/app", fake.host())]);
    output.run().fails(125, &["no JSON"]);
}

#[test]
fn platforms_are_listed_and_chosen() {
    require!(Tool("docker-registry"));
    let (env, registry) = (TestEnv::new(), Registry::start());
    let tags = env.mydocker(["tags", &registry.image("platforms")]).ok();
    let name = registry.image(&format!("platforms:{}", tags.lines().next().unwrap()));
    let inspect = |args: &[&str]| env.mydocker(["inspect", "--remote", &name]).args(args).run();
    let seen = document(&inspect(&[]).success().stdout);
    let entries = seen["Platforms"].as_array().unwrap();
    assert!(entries.len() > 1, "{seen:#}");
    for entry in entries.iter().filter(|entry| entry["platform"].is_string()) {
        let platform = entry["platform"].as_str().unwrap();
        let output = inspect(&["--platform", platform]);
        if output.code() == Some(0) {
            let chosen = document(&output.stdout);
            let found = format!(
                "{}/{}",
                chosen["Os"].as_str().unwrap(),
                chosen["Architecture"].as_str().unwrap()
            );
            assert!(platform.starts_with(&found), "{platform}: {chosen:#}");
        }
    }
    inspect(&["--platform", "plan9/mips"]).fails(125, &["no image for platform", "hint:"]);
    env.mydocker(["inspect", "--platform", "linux/amd64", "x"]).run().exits(125).says("--remote");
    let nosuch = registry.image("nosuch");
    env.mydocker(["inspect", "--remote", &nosuch]).run().fails(125, &["unknown", &nosuch]);
}

#[test]
fn all_tags_are_pulled() {
    require!(Root, Tool("docker-registry"));
    let (env, registry) = (TestEnv::new(), Registry::start());
    let name = registry.image("busybox");
    let output = env.mydocker(["--no-sync", "pull", "--all-tags", &name]).run().success();
    let mut names = output.lines();
    names.sort_unstable();
    assert_eq!(names, [format!("{name}:docker"), format!("{name}:latest")]);
    assert_eq!(env.json(&["images"]).len(), 2);
    env.assert_refused(env.mydocker(["pull", "-a", &registry.image("nosuch")]), 125, &["unknown"]);
    let one = registry.image("busybox:latest");
    env.assert_refused(env.mydocker(["pull", "-a", &one]), 125, &["all tags", "hint:"]);
}

#[test]
fn a_tag_that_cannot_be_pulled_does_not_keep_the_others() {
    require!(Root);
    let (env, fake) = (TestEnv::new(), FakeRegistry::start());
    fake.put("/v2/app/tags/list", "application/json", br#"{"tags":["a","b"]}"#.to_vec());
    let output = env.mydocker(["pull", "-a", &format!("{}/app", fake.host())]).run();
    let output = output.fails(125, &["app:a", "app:b"]);
    assert_eq!(output.stderr.matches("manifest unknown").count(), 2, "{}", output.report());
}
