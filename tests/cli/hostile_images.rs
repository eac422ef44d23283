//! Registries and archives that lie: every known way in which a client of images was led astray, and the refusal.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use crate::fake_registry::{Auth, FakeRegistry, Fault, Tls, digest};
use crate::made::{
    INDEX, LAYER, MANIFEST, architecture, config_of, descriptor, gzip, manifest_of, noise,
    serve_document, serve_image, tar_of,
};
use crate::support::command::Cmd;
use crate::support::env::{TestEnv, names};
use crate::support::require::Need::Root;
use crate::support::tree;

const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

fn pull(env: &TestEnv, fake: &FakeRegistry, rest: &str) -> Cmd {
    env.mydocker(["--no-sync", "pull"]).arg(format!("{}/{rest}", fake.host()))
}

/// A layer, a configuration and their manifest, served.
fn good_image(fake: &FakeRegistry, repository: &str, tag: &str) -> (Vec<u8>, Vec<u8>, Value) {
    let layer = tar_of(&[("file", b"content")]);
    serve_image(fake, repository, tag, std::slice::from_ref(&layer));
    let config = config_of(&[digest(&layer)]);
    let manifest = manifest_of(&config, &[descriptor(LAYER, &layer)]);
    (layer, config, manifest)
}

/// CVE-2021-41190.
#[test]
fn a_document_that_is_index_and_manifest_at_once() {
    require!(Root);
    let (env, fake) = (TestEnv::new(), FakeRegistry::start());
    let (_, _, manifest) = good_image(&fake, "app", "good");
    let inner = serde_json::to_vec(&manifest).unwrap();
    for (number, embedded) in [None, Some(MANIFEST), Some(INDEX)].into_iter().enumerate() {
        let mut both = manifest.clone();
        both["manifests"] = json!([descriptor(MANIFEST, &inner)]);
        both.as_object_mut().unwrap().remove("mediaType");
        if let Some(kind) = embedded {
            both["mediaType"] = kind.into();
        }
        for (at, kind) in [MANIFEST, INDEX].into_iter().enumerate() {
            let tag = format!("v{number}-{at}");
            let digest = serve_document(&fake, "app", &tag, kind, &both);
            env.assert_refused(pull(&env, &fake, &format!("app:{tag}")), 125, &["ambiguous"]);
            env.assert_refused(pull(&env, &fake, &format!("app@{digest}")), 125, &["ambiguous"]);
        }
    }
}

/// CVE-2025-24882: the registry's header says the right digest, the bytes are others.
#[test]
fn a_pinned_digest_and_other_bytes() {
    require!(Root);
    let (env, fake) = (TestEnv::new(), FakeRegistry::start());
    let (_, _, manifest) = good_image(&fake, "app", "v1");
    let bytes = serde_json::to_vec(&manifest).unwrap();
    let wanted = digest(b"another manifest");
    fake.put(&format!("/v2/app/manifests/{wanted}"), MANIFEST, bytes.clone());
    for header in [wanted.clone(), digest(&bytes), String::new()] {
        fake.fault(&wanted, 1, Fault::Header("docker-content-digest", header.clone()));
        let cmd = pull(&env, &fake, &format!("app@{wanted}"));
        env.assert_refused(cmd, 125, &["digest mismatch", &wanted]);
    }
}

/// CVE-2026-111361: a layer is verified packed and unpacked before anything has a name.
#[test]
fn layers_that_are_not_what_is_said_of_them() {
    require!(Root);
    let (env, fake) = (TestEnv::new(), FakeRegistry::start());
    let tar = tar_of(&[("file", b"content")]);
    let other = tar_of(&[("file", b"evil")]);
    let packed = gzip(&tar);
    let two = [gzip(&tar), gzip(&other)].concat();
    let serve = |tag: &str, bytes: &[u8], entry: Value, diff_id: String| {
        let config = config_of(&[diff_id]);
        fake.put_blob("app", config.clone());
        let at = entry["digest"].as_str().unwrap().to_owned();
        fake.put(&format!("/v2/app/blobs/{at}"), "application/octet-stream", bytes.to_vec());
        serve_document(&fake, "app", tag, MANIFEST, &manifest_of(&config, &[entry]));
        env.assert_refused(pull(&env, &fake, &format!("app:{tag}")), 125, &["app"]).stderr
    };
    let said = serve("diff-id", &packed, descriptor(GZIP, &packed), digest(&other));
    assert!(said.contains("DiffID mismatch"), "{said}");
    let lying = gzip(&other);
    let said = serve("digest", &lying, descriptor(GZIP, &packed), digest(&tar));
    assert!(said.contains(&digest(&packed)), "{said}");
    serve("second-member", &two, descriptor(GZIP, &two), digest(&tar));
    for size in [packed.len() - 1, packed.len() + 1, 0] {
        let mut entry = descriptor(GZIP, &packed);
        entry["size"] = size.into();
        serve(&format!("size-{size}"), &packed, entry, digest(&tar));
    }
}

/// CVE-2026-111361, the case of a blob that has rotted in the store: what it was unpacked to, while it was whole, is taken
/// for another image, and the blob is not looked at; without that it is, and fetched again.
#[test]
fn a_shared_layer_that_has_changed_on_disk() {
    require!(Root);
    let (env, fake) = (TestEnv::new(), FakeRegistry::start());
    let (shared, own) = (tar_of(&[("shared", &noise(5000))]), tar_of(&[("own", b"x")]));
    let layers = serve_image(&fake, "app", "one", std::slice::from_ref(&shared));
    serve_image(&fake, "app", "two", &[shared, own]);
    pull(&env, &fake, "app:one").ok();
    let path = env.root().join("blobs").join(layers[0].replacen(':', "/", 1));
    let mut bytes = fs::read(&path).unwrap();
    bytes[3000] ^= 1;
    fs::write(&path, bytes).unwrap();
    let one = env.rootfs(&format!("{}/app:one", fake.host())).canonicalize().unwrap();
    let lists = env.root().join("lists").join(one.file_name().unwrap());
    pull(&env, &fake, "app:two").ok();
    env.mydocker(["rmi", &format!("{}/app:two", fake.host())]).ok();
    fs::rename(&lists, env.folder().join("lists")).unwrap();
    pull(&env, &fake, "app:two").run().success().says("is damaged, and is replaced");
    assert_eq!(digest(&fs::read(path).unwrap()), layers[0]);
    let two = env.rootfs(&format!("{}/app:two", fake.host()));
    assert!(fs::read(two.join("shared")).unwrap() == noise(5000));
}

/// CVE-2024-3727, CVE-2014-9358, CVE-2021-21285, CVE-2026-95839.
#[test]
fn digests_that_are_none_are_neither_asked_for_nor_used_as_paths() {
    require!(Root);
    let (env, fake) = (TestEnv::new(), FakeRegistry::start());
    let (layer, config, manifest) = good_image(&fake, "app", "v1");
    let bad = [
        "sha256:../../../../../../tmp/x".to_owned(),
        "sha256:".to_owned(),
        "sha256".to_owned(),
        String::new(),
        format!("sha256:{}", "0".repeat(63)),
        format!("sha256:{}", "A".repeat(64)),
        "md5:d41d8cd98f00b204e9800998ecf8427e".to_owned(),
        format!("sha256:{}%2f", "0".repeat(61)),
        format!("sha256:{}\0", "0".repeat(63)),
        format!("sha256:{}", "0".repeat(1 << 20)),
    ];
    for (number, bad) in bad.iter().enumerate() {
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [
            { "mediaType": MANIFEST, "digest": bad, "size": 10,
              "platform": { "os": "linux", "architecture": architecture() } },
        ]});
        let with = |path: &str| {
            let mut document = manifest.clone();
            *document.pointer_mut(path).unwrap() = bad.as_str().into();
            document
        };
        let mut documents = vec![
            (INDEX, index),
            (MANIFEST, with("/config/digest")),
            (MANIFEST, with("/layers/0/digest")),
        ];
        let broken = config_of(std::slice::from_ref(bad));
        fake.put_blob("app", broken.clone());
        documents.push((MANIFEST, manifest_of(&broken, &[descriptor(LAYER, &layer)])));
        for (at, (kind, document)) in documents.iter().enumerate() {
            let tag = format!("bad-{number}-{at}");
            serve_document(&fake, "app", &tag, kind, document);
            let before = fake.log().len();
            env.assert_refused(pull(&env, &fake, &format!("app:{tag}")), 125, &["malformed"]);
            let paths: Vec<String> =
                fake.log().drain(before..).map(|request| request.path).collect();
            let odd = |path: &&String| {
                !path.ends_with(&tag) && !path.ends_with(&digest(&broken)) && *path != "/"
            };
            assert_eq!(paths.iter().find(odd), None, "{tag}");
        }
    }
    // Where nothing is done with it, it does no harm either.
    let mut odd = manifest_of(&config, &[descriptor(LAYER, &layer)]);
    odd["subject"] = json!({ "mediaType": MANIFEST, "digest": "sha256:../../x", "size": -1 });
    odd["annotations"] =
        json!({ "x": bad[0], "y": "\u{0}", "org.opencontainers.image.base.digest": bad[3] });
    odd["layers"][0]["annotations"] = json!({ "containerd.io/distribution.source": bad[9] });
    odd["layers"][0]["data"] = "%%%".into();
    serve_document(&fake, "app", "odd", MANIFEST, &odd);
    let output = pull(&env, &fake, "app:odd").run();
    assert!(matches!(output.code(), Some(0 | 125)), "{}", output.report());
    assert!(!output.stderr.contains("panicked"), "{}", output.report());
}

/// CVE-2020-15157, CVE-2026-33990, CVE-2026-10517, CVE-2026-35527.
#[test]
fn addresses_in_a_manifest_are_not_visited() {
    require!(Root);
    let (env, fake) = (TestEnv::new(), FakeRegistry::start());
    let sinks = [
        FakeRegistry::start_at("127.0.0.3:0", Tls::None),
        FakeRegistry::start_at("[::1]:0", Tls::None),
    ];
    for sink in &sinks {
        sink.set_auth(Auth::Basic("user", "hunter2"));
    }
    let layer = tar_of(&[("file", b"content")]);
    let config = config_of(&[digest(&layer)]);
    fake.put_blob("app", config.clone());
    let urls: Vec<String> = sinks.iter().map(|sink| sink.url("/layer")).collect();
    for (tag, kind) in
        [("plain", LAYER), ("foreign", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")]
    {
        let mut entry = descriptor(kind, &layer);
        entry["urls"] = json!(urls);
        let mut manifest = manifest_of(&config, &[entry]);
        manifest["config"]["urls"] = json!(urls);
        serve_document(&fake, "app", tag, MANIFEST, &manifest);
        // The registry itself does not have the layer.
        env.assert_refused(pull(&env, &fake, &format!("app:{tag}")), 125, &["app"]);
    }
    for sink in &sinks {
        assert_eq!(sink.connections(), 0);
    }
}

/// CVE-2026-53493.
#[test]
fn indexes_that_grow_without_end() {
    require!(Root);
    let (env, fake) = (TestEnv::new(), FakeRegistry::start());
    let index = |children: &[Value]| json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": children });
    let entry = |document: &Value| descriptor(INDEX, &serde_json::to_vec(document).unwrap());
    // Eight levels, each with its child 64 times.
    let mut wide = index(&[]);
    for level in 0..8 {
        serve_document(&fake, "app", &format!("wide-{level}"), INDEX, &wide);
        wide = index(&vec![entry(&wide); 64]);
    }
    serve_document(&fake, "app", "wide", INDEX, &wide);
    env.assert_refused(pull(&env, &fake, "app:wide"), 125, &["nested"]);
    // A chain.
    let mut deep = index(&[]);
    for level in 0..200 {
        serve_document(&fake, "app", &format!("deep-{level}"), INDEX, &deep);
        deep = index(&[entry(&deep)]);
    }
    serve_document(&fake, "app", "deep", INDEX, &deep);
    env.assert_refused(pull(&env, &fake, "app:deep"), 125, &["nested"]);
    // Many different ones side by side.
    let children: Vec<Value> = (0..900)
        .map(|n| {
            let child = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [], "n": n });
            serve_document(&fake, "app", &format!("child-{n}"), INDEX, &child);
            entry(&child)
        })
        .collect();
    serve_document(&fake, "app", "many", INDEX, &index(&children));
    env.assert_refused(pull(&env, &fake, "app:many"), 125, &["nested"]);
    assert!(fake.log().len() < 200, "{} requests", fake.log().len());
    // More than anybody needs.
    let huge = index(&vec![descriptor(MANIFEST, b"x"); 1001]);
    serve_document(&fake, "app", "huge", INDEX, &huge);
    env.assert_refused(pull(&env, &fake, "app:huge"), 125, &["1001 entries", "1000 allowed"]);
}

/// moby #44327: that the store has it does not mean that this repository does.
#[test]
fn another_repositorys_image_is_not_served_from_the_store() {
    require!(Root);
    let (env, fake) = (TestEnv::new(), FakeRegistry::start());
    let (_, _, manifest) = good_image(&fake, "first", "v1");
    let digest = digest(&serde_json::to_vec(&manifest).unwrap());
    pull(&env, &fake, &format!("first@{digest}")).ok();
    env.assert_refused(pull(&env, &fake, &format!("second@{digest}")), 125, &["unknown"]);
    // Where the repository has it, the bytes need not come again.
    good_image(&fake, "second", "v1");
    let before = fake.log().len();
    pull(&env, &fake, &format!("second@{digest}")).ok();
    let log = fake.log().split_off(before);
    assert!(log.iter().all(|request| request.method == "HEAD"), "{log:?}");
    assert!(!log.is_empty());
}

/// CVE-2022-24778: what is decided on is what is run.
#[test]
fn the_platform_is_chosen_once() {
    require!(Root);
    let (env, fake) = (TestEnv::new(), FakeRegistry::start());
    let foreign = if architecture() == "amd64" { "arm64" } else { "amd64" };
    let (_, _, ours) = good_image(&fake, "app", "ours");
    let layer = tar_of(&[("other", b"x")]);
    serve_image(&fake, "app", "theirs", std::slice::from_ref(&layer));
    let theirs = manifest_of(&config_of(&[digest(&layer)]), &[descriptor(LAYER, &layer)]);
    let entry = |document: &Value, architecture: &str| {
        let mut entry = descriptor(MANIFEST, &serde_json::to_vec(document).unwrap());
        entry["platform"] = json!({ "os": "linux", "architecture": architecture });
        entry
    };
    let children = [entry(&theirs, foreign), entry(&ours, architecture())];
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": children });
    serve_document(&fake, "app", "v1", INDEX, &index);
    pull(&env, &fake, "app:v1").ok();
    assert!(env.rootfs(&format!("{}/app:v1", fake.host())).join("file").exists());
    // The configuration has the last word, so that an index cannot pass one machine's image off as another's.
    let mut lying = serde_json::from_slice::<Value>(&config_of(&[digest(&layer)])).unwrap();
    lying["architecture"] = foreign.into();
    let lying = serde_json::to_vec(&lying).unwrap();
    fake.put_blob("app", lying.clone());
    let manifest = manifest_of(&lying, &[descriptor(LAYER, &layer)]);
    serve_document(&fake, "app", "lying", MANIFEST, &manifest);
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry(&manifest, architecture())] });
    serve_document(&fake, "app", "v2", INDEX, &index);
    env.assert_refused(pull(&env, &fake, "app:v2"), 125, &["platform", foreign]);
}

/// CVE-2024-24557.
#[test]
fn an_image_that_claims_anothers_layers() {
    require!(Root);
    let (env, fake) = (TestEnv::new(), FakeRegistry::start());
    let (victims, config, _) = good_image(&fake, "victim", "v1");
    pull(&env, &fake, "victim:v1").ok();
    let name = format!("{}/victim:v1", fake.host());
    let before = tree::read(&env.rootfs(&name).canonicalize().unwrap());
    let evil = tar_of(&[("file", b"evil")]);
    fake.put_blob("evil", evil.clone());
    // Its own layer under the victim's configuration, and so under the victim's image id.
    fake.put_blob("evil", config.clone());
    let manifest = manifest_of(&config, &[descriptor(LAYER, &evil)]);
    serve_document(&fake, "evil", "same-id", MANIFEST, &manifest);
    env.assert_refused(pull(&env, &fake, "evil:same-id"), 125, &["DiffID mismatch"]);
    // And under one of its own with the victim's DiffID.
    let mut claim: Value = serde_json::from_slice(&config_of(&[digest(&victims)])).unwrap();
    claim["author"] = "evil".into();
    let claim = serde_json::to_vec(&claim).unwrap();
    fake.put_blob("evil", claim.clone());
    let manifest = manifest_of(&claim, &[descriptor(LAYER, &evil)]);
    serve_document(&fake, "evil", "own-id", MANIFEST, &manifest);
    env.assert_refused(pull(&env, &fake, "evil:own-id"), 125, &["DiffID mismatch"]);
    before.assert_same(&tree::read(&env.rootfs(&name).canonicalize().unwrap()));
}

/// CVE-2025-62725, CVE-2026-48769, CVE-2026-101295.
#[test]
fn no_file_is_named_by_what_comes_from_outside() {
    require!(Root);
    let (env, fake) = (TestEnv::new(), FakeRegistry::start());
    let (layer, config, _) = good_image(&fake, "app", "v0");
    let mut entry = descriptor(LAYER, &layer);
    entry["annotations"] = json!({ "org.opencontainers.image.title": "../../../evil" });
    let mut manifest = manifest_of(&config, &[entry]);
    manifest["annotations"] = json!({
        "org.opencontainers.image.ref.name": "../../evil", "org.opencontainers.image.title": "/evil",
    });
    serve_document(&fake, "app", "v1", MANIFEST, &manifest);
    let header = "attachment; filename=\"../../evil\"".to_owned();
    fake.fault("/v2/", usize::MAX, Fault::Header("content-disposition", header));
    let before = names(env.folder());
    pull(&env, &fake, "app:v1").ok();
    let mut expected = before;
    expected.push("store".to_owned());
    expected.sort();
    assert_eq!(names(env.folder()), expected);
    let found = Cmd::new("find").arg(env.folder()).args(["-name", "*evil*"]).ok();
    assert_eq!(found, "");
}

/// CVE-2020-1702 and its like: whatever goes on without end is an error, and soon.
#[test]
fn endless_documents() {
    require!(Root);
    let pull_from = |part: &str, status: u16| {
        let (env, fake) = (TestEnv::new(), FakeRegistry::start());
        good_image(&fake, "app", "v1");
        if part == "/token" {
            fake.set_auth(Auth::Bearer(fake.url("/token")));
        }
        fake.fault(part, usize::MAX, Fault::Endless);
        if status != 200 {
            fake.fault(part, usize::MAX, Fault::Status(status));
        }
        env.assert_refused(pull(&env, &fake, "app:v1"), 125, &["app"]);
        assert!(fake.sent() < 120 << 20, "{part} {status}: {}", fake.sent());
    };
    // Most of the time they wait between tries.
    std::thread::scope(|scope| {
        for part in ["manifests", "blobs", "/token"] {
            for status in [200, 401, 500] {
                scope.spawn(move || pull_from(part, status));
            }
        }
    });
}

/// GHSA-r3h2-rgqf-9hv9, GHSA-4587-w9mm-xxvh, and the oversized `index.json` of CVE-2023-25153.
#[test]
fn layouts_that_lead_out_of_themselves() {
    require!(Root);
    let env = TestEnv::new();
    let secret = env.folder().join("secret");
    let tar = tar_of(&[("file", b"content")]);
    let config = config_of(&[digest(&tar)]);
    let manifest = serde_json::to_vec(&manifest_of(&config, &[descriptor(LAYER, &tar)])).unwrap();
    let mut entry = descriptor(MANIFEST, &manifest);
    entry["annotations"] = json!({ "org.opencontainers.image.ref.name": "evil" });
    let index = json!({ "schemaVersion": 2, "manifests": [entry] });
    let make = |name: &str| {
        let folder = env.folder().join(name);
        fs::create_dir_all(folder.join("blobs/sha256")).unwrap();
        fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        fs::write(folder.join("index.json"), index.to_string()).unwrap();
        for bytes in [&tar, &config, &manifest] {
            let file = folder.join("blobs").join(digest(bytes).replacen(':', "/", 1));
            fs::write(file, bytes).unwrap();
        }
        folder
    };
    let blob = |bytes: &[u8]| format!("blobs/{}", digest(bytes).replacen(':', "/", 1));
    for (at, part) in ["index.json", "oci-layout", &blob(&tar), &blob(&config), &blob(&manifest)]
        .into_iter()
        .enumerate()
    {
        for (how, target) in ["link", "absolute", "fifo", "zero"].into_iter().enumerate() {
            let folder = make(&format!("{at}-{how}"));
            let path = folder.join(part);
            // The bytes would be the right ones.
            fs::rename(&path, &secret).unwrap();
            match target {
                "link" => {
                    symlink("../".repeat(part.matches('/').count() + 1) + "secret", &path).unwrap()
                }
                "absolute" => symlink(&secret, &path).unwrap(),
                "fifo" => nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap(),
                _ => symlink("/dev/zero", &path).unwrap(),
            }
            let cmd = env.mydocker(["--no-sync", "import"]).arg(&folder).timeout(20);
            if part == "oci-layout" {
                // That it is there is all that matters; nobody looks into it, or waits for it.
                assert!(!cmd.run().stderr.contains("panicked"));
                env.mydocker(["rmi", "evil"]).run();
                continue;
            }
            env.assert_refused(cmd, 125, &["import"]);
            // The same as members of an archive.
            let archive = env.folder().join("archive.tar");
            Cmd::new("tar").arg("-C").arg(&folder).arg("-cf").arg(&archive).arg(".").ok();
            let cmd = env.mydocker(["--no-sync", "import"]).arg(&archive).timeout(20);
            env.assert_refused(cmd, 125, &["import"]);
        }
    }
    let whole = make("whole");
    fs::File::options()
        .write(true)
        .open(whole.join("index.json"))
        .unwrap()
        .set_len(8 << 30)
        .unwrap();
    env.assert_refused(env.mydocker(["import"]).arg(&whole).timeout(20), 125, &["import"]);
    // And as an archive, which takes ten kilobytes.
    let archive = env.folder().join("sparse.tar");
    Cmd::new("tar").arg("-S").arg("-C").arg(&whole).arg("-cf").arg(&archive).arg(".").ok();
    let cmd = env.mydocker(["import"]).arg(&archive).timeout(20);
    env.assert_refused(cmd, 125, &["too large"]);
    assert!(!fs::read_to_string(env.root().join("index.json")).unwrap().contains("evil"));
}

/// GHSA-x7pf-2jmj-pgcq.
#[test]
fn ids_and_names_are_not_paths() {
    require!(Root);
    let env = TestEnv::with_busybox();
    let canary = env.folder().join("canary");
    fs::write(&canary, "here").unwrap();
    let before = env.store();
    let long = "x".repeat(300);
    for name in ["..", ".", "", "/", "../../canary", "../canary", "a\nb", "-x", &long] {
        for verb in [&["rm", "--"][..], &["rmi", "--"], &["inspect", "--"]] {
            let output = env.mydocker(verb).arg(name).run();
            assert_ne!(output.code(), Some(0), "{}", output.report());
            assert!(!output.stderr.contains("panicked"), "{}", output.report());
        }
        env.mydocker(["rm", "-f", "--"]).arg(name).run().success().says("no such container");
        let cmd = env.mydocker(["run", "--rm", &format!("--name={name}"), "busybox", "true"]);
        assert_ne!(cmd.run().code(), Some(0), "{name:?}");
    }
    before.assert_same(&env.store());
    assert_eq!(fs::read_to_string(&canary).unwrap(), "here");
}
