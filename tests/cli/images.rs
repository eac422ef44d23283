//! The trees of images, compared entry by entry with what umoci makes of the same images.

use std::collections::BTreeSet;
use std::path::Path;

use crate::support::command::Cmd;
use crate::support::env::TestEnv;
use crate::support::fixtures;
use crate::support::registry::Registry;
use crate::support::require::Need::{Debian, Root, Service, Tool};
use crate::support::tree::{self, Tree};

/// What umoci makes of `image` in the layout `layout`.
fn unpacked_by_umoci(env: &TestEnv, layout: &str, image: &str) -> Tree {
    let bundle = env.folder().join("umoci");
    let image = format!("{}:{image}", fixtures::path(layout).display());
    Cmd::new("umoci").args(["unpack", "--image", &image]).arg(&bundle).timeout(120).ok();
    whole(&bundle.join("rootfs"))
}

fn whole(top: &Path) -> Tree {
    tree::read(top).with_xattrs(top)
}

#[test]
fn everything_that_layers_can_hold() {
    require!(Root, Tool("docker-registry"), Tool("umoci"), Tool("getfattr"));
    let (env, registry) = (TestEnv::new(), Registry::start());
    let name = registry.image("layered");
    env.mydocker(["pull", "--quiet", &name]).ok();
    let ours = whole(&env.rootfs(&name).canonicalize().unwrap());
    assert!(ours.len() > 100, "{} entries", ours.len());
    unpacked_by_umoci(&env, "layered", "latest").assert_same(&ours);
}

#[test]
fn an_imported_layout_is_the_same_as_the_pulled_image() {
    require!(Root, Tool("umoci"), Tool("getfattr"));
    let env = TestEnv::new();
    env.mydocker(["import", "--quiet", "--name", "layered"]).arg(fixtures::path("layered")).ok();
    let ours = whole(&env.rootfs("layered").canonicalize().unwrap());
    unpacked_by_umoci(&env, "layered", "latest").assert_same(&ours);
}

#[test]
fn a_whole_debian() {
    require!(Root, Debian, Tool("umoci"), Tool("getfattr"));
    let env = TestEnv::new();
    env.mydocker(["import", "--quiet", "--name", "debian"])
        .arg(fixtures::path("debian"))
        .timeout(120)
        .ok();
    let ours = whole(&env.rootfs("debian").canonicalize().unwrap());
    unpacked_by_umoci(&env, "debian", "latest").assert_same(&ours);
}

#[test]
fn images_of_one_and_of_several_layers() {
    require!(Root, Tool("umoci"), Tool("getfattr"));
    for (layout, image) in [("busybox", "latest"), ("variants", "v1"), ("variants", "v8")] {
        same_as_umoci(layout, image);
    }
}

#[test]
fn a_whole_nginx() {
    require!(Root, Service("nginx"), Tool("umoci"), Tool("getfattr"));
    same_as_umoci("nginx", "latest");
}

#[test]
fn a_whole_postgres() {
    require!(Root, Service("postgres"), Tool("umoci"), Tool("getfattr"));
    same_as_umoci("postgres", "latest");
}

#[test]
fn a_whole_python() {
    require!(Root, Service("python"), Tool("umoci"), Tool("getfattr"));
    same_as_umoci("python", "latest");
}

#[test]
fn a_whole_redis() {
    require!(Root, Service("redis"), Tool("umoci"), Tool("getfattr"));
    same_as_umoci("redis", "latest");
}

/// Imports the image `image` of a layout, and compares its tree to what umoci makes of it.
#[track_caller]
fn same_as_umoci(layout: &str, image: &str) {
    let env = TestEnv::new();
    let copy = env.folder().join("copy");
    let whole_layout = format!("oci:{}:{image}", fixtures::path(layout).display());
    let one = format!("oci:{}:{image}", copy.display());
    env.mydocker(["copy", &whole_layout, &one]).ok();
    env.mydocker(["--no-sync", "import", "-q", "--name", "it"]).arg(&copy).timeout(120).ok();
    let ours = whole(&env.rootfs("it").canonicalize().unwrap());
    // Where no layer says anything about the root itself, it gets the time of the day.
    let theirs = unpacked_by_umoci(&env, layout, image);
    theirs.without(&[""]).assert_same(&ours.without(&[""]));
}

/// GNU tar's view of every layer of every image that needs no merging.
#[test]
fn gnu_tar_unpacks_the_layers_to_the_same() {
    require!(Root, Tool("getfattr"));
    let mut seen = BTreeSet::new();
    let layouts =
        ["busybox", "layered", "variants", "debian", "nginx", "postgres", "python", "redis"];
    for layout in layouts.into_iter().filter(|layout| fixtures::path(layout).exists()) {
        let image = if layout == "variants" { "v1" } else { "latest" };
        for digest in fixtures::layers(layout, image) {
            let blob = fixtures::path(layout).join("blobs").join(digest.replacen(':', "/", 1));
            let names = Cmd::new("tar").arg("-tf").arg(&blob).run();
            let whiteouts =
                names.stdout.split('/').any(|name| name.trim_start().starts_with(".wh."));
            // What links to other layers, or hides something there, is no tree of its own.
            if whiteouts || names.code() != Some(0) || !seen.insert(digest) {
                continue;
            }
            let env = TestEnv::new();
            let theirs = env.folder().join("theirs");
            std::fs::create_dir(&theirs).unwrap();
            let options =
                ["-p", "--same-owner", "--numeric-owner", "--xattrs", "--xattrs-include=*"];
            let tar = Cmd::new("tar").args(options).arg("-C").arg(&theirs).arg("-xf").arg(&blob);
            if tar.timeout(120).run().code() != Some(0) {
                continue;
            }
            env.mydocker(["--no-sync", "import", "-q", "--name", "it"])
                .arg(&blob)
                .timeout(120)
                .ok();
            let ours = whole(&env.rootfs("it").canonicalize().unwrap());
            // Directories that only names imply have no time of their own.
            whole(&theirs).without_times_of_folders().assert_same(&ours.without_times_of_folders());
        }
    }
    assert!(seen.len() > 5, "{seen:?}");
}

#[test]
fn running_an_image_does_not_change_it() {
    require!(Root, Tool("getfattr"));
    let env = TestEnv::with_busybox();
    let top = env.rootfs("busybox").canonicalize().unwrap();
    let before = whole(&top);
    env.sh("echo changed >/etc/passwd; rm /bin/ls; mkdir /new; touch -d @1 /bin; chmod 700 /etc; chown 1 /tmp");
    whole(&top).assert_same(&before);
}
