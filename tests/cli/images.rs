//! The trees of images, compared entry by entry with what umoci makes of the same images.

use std::path::Path;

use crate::support::command::Cmd;
use crate::support::env::TestEnv;
use crate::support::fixtures;
use crate::support::registry::Registry;
use crate::support::require::Need::{Debian, Root, Tool};
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
fn running_an_image_does_not_change_it() {
    require!(Root, Tool("getfattr"));
    let env = TestEnv::with_busybox();
    let top = env.rootfs("busybox").canonicalize().unwrap();
    let before = whole(&top);
    env.sh("echo changed >/etc/passwd; rm /bin/ls; mkdir /new; touch -d @1 /bin; chmod 700 /etc; chown 1 /tmp");
    whole(&top).assert_same(&before);
}
