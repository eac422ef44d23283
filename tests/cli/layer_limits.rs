//! What a layer may ask for, and how a user allows more or less.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::command::Cmd;
use crate::support::env::{TestEnv, names};
use crate::support::fixtures;
use crate::support::require::Need::{Root, Tool};

#[test]
fn a_layer_beyond_a_limit_is_refused_and_leaves_nothing() {
    require!(Root);
    let env = TestEnv::new();
    for (limit, cause) in [
        ("entries=3", "layer exceeds the limit of 3 entries"),
        ("bytes=1k", "layer exceeds the limit of 1024 bytes"),
        ("free=8000000t", " are free"),
    ] {
        let cmd = env.mydocker(["import", "--limit", limit]).arg(fixtures::path("busybox.tar"));
        env.assert_refused(cmd, 125, &[cause]);
        env.assert_no_rubbish();
        assert_eq!(names(&env.root().join("lists")), [""; 0]);
    }
    env.mydocker(["import", "--limit", "entries=100k"]).arg(fixtures::path("busybox.tar")).ok();
}

#[test]
fn a_limit_that_does_not_exist_is_an_error() {
    require!(Root);
    let env = TestEnv::new();
    fs::create_dir(env.root()).unwrap();
    for (limit, cause) in [("files=3", "unknown limit `files`"), ("bytes=much", "`bytes=much`")] {
        let cmd = env.mydocker(["import", "--limit", limit]).arg(fixtures::path("busybox.tar"));
        cmd.run().fails(125, &[cause]);
        let cmd = env.mydocker(["pull", "--limit", limit, "localhost:1/busybox"]);
        cmd.run().fails(125, &[cause]);
    }
}

/// CVE-2014-9357: a decompressor that was looked for in `PATH`, and found in the image.
#[test]
fn no_helper_program_is_looked_for() {
    require!(Root, Tool("xz"), Tool("zstd"), Tool("bzip2"), Tool("gzip"));
    let env = TestEnv::new();
    let bin = env.folder().join("bin");
    fs::create_dir(&bin).unwrap();
    let marker = env.folder().join("marker");
    for name in ["xz", "unxz", "unpigz", "pigz", "gzip", "zstd", "bzip2", "tar", "sh"] {
        let script = format!("#!/bin/busybox sh\n: >>{}\n", marker.display());
        fs::write(bin.join(name), script).unwrap();
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    for (program, ending) in [("xz", "xz"), ("zstd", "zst"), ("bzip2", "bz2"), ("gzip", "gz")] {
        let packed = env.folder().join(format!("busybox.tar.{ending}"));
        let tar = fixtures::path("busybox.tar");
        let script = format!("{program} -c '{}' >'{}'", tar.display(), packed.display());
        Cmd::new("sh").args(["-c", &script]).ok();
        env.mydocker(["import", "--name", ending]).arg(&packed).env("PATH", &bin).ok();
    }
    assert!(!marker.exists());
}
