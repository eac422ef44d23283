//! Root filesystems, specs and programs that mean harm: nothing outside changes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::bundle::{Bundle, PROGRAM, Ran};
use crate::program::write_program;

/// A directory outside of the container, and how it looks.
struct Canary(std::path::PathBuf, String);

impl Canary {
    fn new(bundle: &Bundle) -> Self {
        let path = bundle.directory.join("canary");
        fs::create_dir_all(path.join("d")).unwrap();
        fs::write(path.join("f"), "secret").unwrap();
        let look = Self::look(&path);
        Self(path, look)
    }

    fn look(path: &Path) -> String {
        let format = "%P %i %n %y %m %U:%G %s %l %T@\\n";
        let found = Command::new("find").arg(path).args(["-printf", format]).output().unwrap();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let bundle = path.parent().unwrap().to_str().unwrap();
        let mounts = mounts.lines().filter(|line| line.contains(bundle));
        String::from_utf8(found.stdout).unwrap() + &mounts.collect::<String>()
    }

    fn check(&self, what: &str) {
        assert_eq!(Self::look(&self.0), self.1, "{what}");
    }
}

fn replace(path: &Path, target: &Path) {
    let _ = fs::remove_dir_all(path);
    let _ = fs::remove_file(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    symlink(target, path).unwrap();
}

#[test]
fn links_of_an_image_lead_nowhere() {
    let names = [
        "proc",
        "sys",
        "dev",
        "dev/pts",
        "dev/shm",
        "dev/null",
        "dev/console",
        "dev/ptmx",
        "etc",
        "etc/hosts",
        "etc/resolv.conf",
        "v",
        "v/a",
        "run",
        "srv",
    ];
    for name in names {
        for target in ["d", "f", "missing"] {
            let mut bundle = Bundle::new("cat /proc/self/mountinfo");
            let canary = Canary::new(&bundle);
            let volume = bundle.directory.join("volume");
            fs::create_dir(&volume).unwrap();
            replace(&bundle.root().join(name), &canary.0.join(target));
            bundle.bind("/etc/hosts".as_ref(), "/etc/hosts", &["ro"]);
            bundle.bind("/etc/hosts".as_ref(), "/etc/resolv.conf", &["ro"]);
            bundle.bind(&volume, "/v/a/b", &[]);
            bundle.set("/process/cwd", json!("/srv/work"));
            let what = format!("{name} -> {target}");
            let ran = bundle.run();
            canary.check(&what);
            assert!(!ran.out.contains("secret"), "{what}");
            if matches!(name, "proc" | "sys" | "dev") {
                // What safeguards are written to must be where it looks to be.
                assert_eq!(ran.code, 125, "{what} {ran:?}");
                assert!(ran.err.contains("too many symbolic links"), "{what} {ran:?}");
            }
        }
    }
}

#[test]
fn a_mount_cannot_be_led_onto_proc() {
    for (link, target) in
        [("etc", "/proc"), ("etc/hosts", "/proc/sysrq-trigger"), ("etc", "/sys/kernel")]
    {
        let mut bundle = Bundle::new("true");
        replace(&bundle.root().join(link), Path::new(target));
        bundle.bind("/etc/hosts".as_ref(), "/etc/hosts", &[]);
        let ran = bundle.run();
        assert_eq!(ran.code, 125, "{link} -> {target}: {ran:?}");
    }
    for destination in ["/proc", "/proc/self/attr", "/proc/sys/kernel", "/sys", "/tmp/../proc/1"] {
        let mut bundle = Bundle::new("true");
        let volume = bundle.directory.join("volume");
        fs::create_dir(&volume).unwrap();
        bundle.bind(&volume, destination, &[]);
        assert!(bundle.refusal().contains("refuse to mount over a path of proc or sysfs"));
    }
}

#[test]
fn a_working_directory_cannot_be_one_of_the_hosts() {
    let inherit = |bundle: &Bundle| {
        let ran = Command::new("/bin/sh")
            .args(["-c", "exec 7</ 9</etc; exec \"$0\" \"$@\""])
            .arg(PROGRAM)
            .args(bundle.command().get_args())
            .output();
        Ran::from(ran.unwrap())
    };
    for number in 3..14 {
        for pid in ["self", "1"] {
            for rest in ["", "/etc"] {
                let mut bundle = Bundle::new("ls / ; cat /proc/self/cwd/shadow");
                bundle.set("/process/cwd", json!(format!("/proc/{pid}/fd/{number}{rest}")));
                let ran = inherit(&bundle);
                assert_eq!((ran.code, ran.out.as_str()), (125, ""), "{ran:?}");
            }
        }
    }
    let mut bundle = Bundle::new("pwd");
    symlink("/proc/self/fd/7", bundle.root().join("link")).unwrap();
    bundle.set("/process/cwd", json!("/link"));
    assert_eq!(inherit(&bundle).code, 125);
}

#[test]
fn a_program_cannot_be_reached_through_the_hosts_descriptors() {
    let mut bundle = Bundle::new("true");
    for number in 3..20 {
        bundle
            .set("/process/args", json!([format!("/proc/self/fd/{number}/bin/sh"), "-c", "true"]));
        assert_eq!(bundle.run().code, 127, "{number}");
    }
}

#[test]
fn the_program_itself_cannot_be_overwritten() {
    let before = fs::read(PROGRAM).unwrap();
    for bundle in [Bundle::new(""), Bundle::without_user_namespace("")] {
        let mut bundle = bundle;
        write_program(&bundle.root().join("evil"), "#!/proc/self/exe\n");
        // The program runs in the container, as a script's interpreter: it is found, but its file cannot be opened.
        bundle.set("/process/args", json!(["/bin/sh", "-c", "
            /evil & for i in 1 2 3 4 5 6 7 8 9; do (echo x >/proc/$!/exe) 2>/dev/null && echo written; done; true"]));
        let ran = bundle.run();
        assert!(!ran.out.contains("written"), "{ran:?}");
    }
    assert!(fs::read(PROGRAM).unwrap() == before);
}

#[test]
fn devices_of_an_image_are_not_used() {
    let mut bundle = Bundle::new("stat -c '%F %t:%T' /dev/null; cat /dev/null | wc -c");
    fs::write(bundle.root().join("dev/null"), "trap").unwrap();
    bundle.spec["mounts"]
        .as_array_mut()
        .unwrap()
        .retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
    assert_eq!(bundle.output(), "character special file 1:3\n0\n");
    assert_eq!(fs::read(bundle.root().join("dev/null")).unwrap(), b"trap");
}

#[test]
fn long_and_odd_specs_are_taken_or_refused_whole() {
    let mut bundle = Bundle::new("echo ${#LONG}");
    bundle.set("/process/env", json!(["PATH=/bin", format!("LONG={}", "x".repeat(70_000))]));
    assert_eq!(bundle.output(), "70000\n");
    for (pointer, value) in [
        ("/ociVersion", json!("invalid")),
        ("/ociVersion", json!("2.0.0")),
        ("/process/args", json!([])),
        ("/process/args", json!(["a\0b"])),
        ("/process/cwd", json!("relative")),
        ("/process/user/uid", json!(u32::MAX)),
        ("/hostname", json!("a\nb")),
        ("/mounts/0/destination", json!("relative")),
        ("/linux/uidMappings", json!([{"containerID": 0, "hostID": 4_294_967_295u32, "size": 2}])),
        ("/linux/namespaces", json!([{"type": "pid"}])),
        ("/linux/namespaces", json!([{"type": "mount"}, {"type": "mount"}])),
    ] {
        let mut bundle = Bundle::new("true");
        bundle.set(pointer, value);
        bundle.refusal();
    }
}
