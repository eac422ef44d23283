//! Each mistake has an error that says what is wrong, an exit code, and no effect.

use std::fs;

use crate::support::env::TestEnv;
use crate::support::registry::Registry;
use crate::support::require::Need::{Root, Tool};

#[test]
fn an_unknown_image() {
    require!(Root, Tool("docker-registry"));
    let (env, registry) = (TestEnv::with_busybox(), Registry::start());
    let name = registry.image("nosuch");
    env.assert_refused(env.mydocker(["pull", &name]), 125, &["unknown", &name]);
}

#[test]
fn an_unknown_tag() {
    require!(Root, Tool("docker-registry"));
    let (env, registry) = (TestEnv::with_busybox(), Registry::start());
    let name = registry.image("busybox:nosuch");
    env.assert_refused(env.mydocker(["pull", &name]), 125, &["manifest unknown", &name]);
}

#[test]
fn an_unknown_digest() {
    require!(Root, Tool("docker-registry"));
    let (env, registry) = (TestEnv::with_busybox(), Registry::start());
    let name = format!("{}@sha256:{}", registry.image("busybox"), "0".repeat(64));
    env.assert_refused(env.mydocker(["pull", &name]), 125, &["manifest unknown"]);
}

#[test]
fn a_registry_that_is_down() {
    require!(Root, Tool("docker-registry"));
    let env = TestEnv::with_busybox();
    let registry = Registry::start();
    let (name, host) = (registry.image("busybox"), registry.host());
    drop(registry);
    env.assert_refused(env.mydocker(["pull", &name]), 125, &[&host, "connection refused", "hint:"]);
}

#[test]
fn running_an_image_that_cannot_be_pulled() {
    require!(Root, Tool("docker-registry"));
    let (env, registry) = (TestEnv::with_busybox(), Registry::start());
    let cmd = env.mydocker(["run", "--rm", &registry.image("nosuch"), "true"]);
    env.assert_refused(cmd, 125, &["unknown", "nosuch"]);
    assert_eq!(env.containers(), Vec::<String>::new());
}

#[test]
fn names_that_are_none() {
    require!(Root);
    let env = TestEnv::with_busybox();
    for name in [
        "",
        "UPPER",
        "a//b",
        "a:b:c",
        "-x:",
        "a@sha256:12",
        "a@md5:00",
        "../../etc",
        "a b",
        "a\nb",
        "x:/y",
    ] {
        let cmd = env.mydocker(["pull", "--"]).arg(name);
        env.assert_refused(cmd, 125, &["pull"]);
    }
}

#[test]
fn a_platform_that_is_none() {
    require!(Root);
    let env = TestEnv::with_busybox();
    for platform in ["", "linux", "linux/", "/amd64", "linux/amd64/v8/x"] {
        let cmd = env.mydocker(["pull", "--platform", platform, "127.0.0.1:1/x"]);
        env.assert_refused(cmd, 125, &["pull"]);
    }
}

#[test]
fn an_unknown_option() {
    let env = TestEnv::new();
    for args in [
        &["pull", "--nosuch", "x"][..],
        &["--nosuch"],
        &["run", "--nosuch", "x"],
        &["images", "--format", "xml"],
    ] {
        let output = env.mydocker(args).run().exits(125);
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{}", output.report());
        assert!(!env.root().exists(), "{args:?}");
    }
}

#[test]
fn an_unknown_verb() {
    let env = TestEnv::new();
    env.mydocker(["nosuch"]).run().exits(125).says("nosuch");
}

#[test]
fn a_similar_verb_is_suggested() {
    let env = TestEnv::new();
    env.mydocker(["imagse"]).run().exits(125).says("images");
}

#[test]
fn help_goes_to_standard_output() {
    let env = TestEnv::new();
    for args in [&["--help"][..], &["run", "--help"], &["pull", "--help"], &["import", "-h"]] {
        let output = env.mydocker(args).run().success();
        assert!(output.stdout.contains("Usage: mydocker"), "{}", output.report());
        assert_eq!(output.stderr, "");
    }
}

#[test]
fn a_store_that_cannot_be_made() {
    require!(Root);
    let env = TestEnv::new();
    fs::write(env.folder().join("file"), "").unwrap();
    let root = env.folder().join("file/store");
    env.mydocker(["images", "--root"])
        .arg(&root)
        .run()
        .fails(125, &["file/store", "not a directory"]);
}

#[test]
fn no_message_is_a_panic_whatever_is_in_the_store() {
    require!(Root);
    let env = TestEnv::with_busybox();
    for content in ["", "{", "[]", "null", "{\"manifests\":1}", "\0\0\0"] {
        fs::write(env.root().join("index.json"), content).unwrap();
        for verb in [
            &["images"][..],
            &["inspect", "busybox"],
            &["run", "--rm", "busybox", "true"],
            &["info"],
        ] {
            env.mydocker(verb).run().fails(125, &["index.json"]);
        }
    }
}

#[test]
fn a_verb_that_only_docker_has() {
    let env = TestEnv::new();
    env.mydocker(["build", "."]).run().fails(125, &["build", "nothing is built here"]);
    env.mydocker(["network", "ls"]).run().fails(125, &["network", "run --network"]);
    env.mydocker(["compose", "up"]).run().fails(125, &["compose", "mydocker has not"]);
    env.mydocker(["puul", "busybox"]).run().fails(125, &["puul", "'pull'"]);
}

#[test]
fn a_folder_to_start_in_that_could_be_anywhere() {
    require!(Root);
    let env = TestEnv::with_busybox();
    env.assert_refused(
        env.mydocker(["run", "-w", "etc", "busybox", "pwd"]),
        125,
        &["etc", "absolute path"],
    );
    env.mydocker(["exec", "-w", "etc", "web", "pwd"]).run().fails(125, &["etc", "absolute path"]);
    env.run(&["-w", "", "busybox", "pwd"]).success().prints("/\n");
}
