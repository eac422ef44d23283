//! The walls around a thread that extracts, tried from inside; and that extraction is inside them.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use mydocker::sys::fs::{READ_DIRECTORY, open_in_root};
use mydocker::unpack::confine::{Confined, confine, confine_writer};
use mydocker::unpack::{Destination, Limits, extract};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::sys::stat::{Mode, fstatat, mkdirat};

use crate::archive::Tar;
use crate::support::{Canary, Scratch};

/// Runs `work` in a thread that is shut in with a folder and may also reach `beside`.
fn inside<T: Send>(work: impl FnOnce(&Confined, BorrowedFd<'_>) -> T + Send) -> (T, Scratch) {
    let scratch = Scratch::new();
    let folder = File::open(scratch.dir("folder")).unwrap();
    let beside = File::open(scratch.dir("beside")).unwrap();
    let result = thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let confined = confine(folder.as_fd(), &[beside.as_fd()], &[]).unwrap();
            work(&confined, beside.as_fd())
        });
        thread.join().unwrap()
    });
    (result, scratch)
}

fn open_at(dir: BorrowedFd<'_>, path: &str) -> Result<(), Errno> {
    openat(dir, path, OFlag::O_RDONLY, Mode::empty()).map(drop)
}

#[test]
fn nothing_but_the_folder_is_there() {
    let canary = Canary::new();
    let outside = canary.path();
    let (found, _scratch) = inside(|confined, _| {
        assert!(confined.own_root && confined.own_fs);
        let absolute = File::open(format!("{outside}/f")).map(drop).map_err(|e| e.raw_os_error());
        let up = open_at(confined.root.as_fd(), &format!("{}etc/passwd", "../".repeat(20)));
        let etc = open_at(confined.root.as_fd(), "/etc/passwd");
        let proc_root = open_at(confined.root.as_fd(), "/proc/self/root");
        let own = mkdirat(&confined.root, "own", Mode::from_bits_truncate(0o755));
        (absolute, up, etc, proc_root, own)
    });
    let enoent = Err(Errno::ENOENT);
    assert_eq!(found, (Err(Some(libc::ENOENT)), enoent, enoent, enoent, Ok(())));
    canary.check("confined");
}

#[test]
fn a_descriptor_that_was_let_in_leads_no_further() {
    let (found, scratch) = inside(|confined, beside| {
        let below = mkdirat(beside, "below", Mode::from_bits_truncate(0o755));
        let above = mkdirat(beside, "../above", Mode::from_bits_truncate(0o755));
        let passwd = open_at(beside, "../../../../../../../../etc/passwd");
        (confined.landlock, below, above, passwd)
    });
    if !found.0 {
        eprintln!("skipped: this kernel has no Landlock");
        return;
    }
    assert_eq!(found, (true, Ok(()), Err(Errno::EACCES), Err(Errno::EACCES)));
    assert!(scratch.path("beside/below").is_dir() && !scratch.path("above").exists());
}

#[test]
fn other_descriptors_are_closed_for_the_thread_and_for_nobody_else() {
    let secret = File::open("/etc/passwd").unwrap();
    let directory = File::open("/etc").unwrap();
    let (found, _scratch) = inside(|_, _| {
        let mut byte = [0];
        let read = nix::unistd::read(&secret, &mut byte);
        let stat = fstatat(&directory, "passwd", AtFlags::empty()).map(drop);
        (read, stat)
    });
    assert_eq!(found, (Err(Errno::EBADF), Err(Errno::EBADF)));
    assert!((&secret).read(&mut [0]).is_ok());
}

#[test]
fn no_program_socket_mount_or_namespace_can_be_had() {
    let (found, _scratch) = inside(|confined, _| {
        let executed = nix::unistd::execve(c"/bin/true", &[c"true"], &[c""]).unwrap_err();
        let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None);
        let none = None::<&str>;
        let mounted = mount(none, "/", Some("tmpfs"), MsFlags::empty(), none);
        let unshared = unshare(CloneFlags::CLONE_NEWUSER);
        let rooted = nix::unistd::chroot("/");
        let signalled = nix::sys::signal::kill(nix::unistd::Pid::this(), None);
        let forked = Command::new("/bin/true").status().map(drop).map_err(|e| e.raw_os_error());
        let by_handle = open_in_root(confined.root.as_fd(), b"/", READ_DIRECTORY).map(drop);
        (
            executed,
            socket.map(drop),
            mounted,
            unshared,
            rooted,
            signalled,
            forked.is_err(),
            by_handle,
        )
    });
    let refused = Err(Errno::EPERM);
    let expected = (Errno::EPERM, refused, refused, refused, refused, refused, true, Ok(()));
    assert_eq!(found, expected);
}

#[test]
fn a_writer_opens_nothing_and_writes_what_it_was_given() {
    let scratch = Scratch::new();
    let given = File::create_new(scratch.path("given")).unwrap();
    let folder = File::open(scratch.path("")).unwrap();
    let found = thread::scope(|scope| {
        let thread = scope.spawn(|| {
            confine_writer().unwrap();
            let opened = open_at(folder.as_fd(), "given");
            let made = mkdirat(&folder, "made", Mode::from_bits_truncate(0o755));
            let read = nix::unistd::read(&given, &mut [0]).map(drop);
            let executed = nix::unistd::execve(c"/bin/true", &[c"true"], &[c""]).unwrap_err();
            (opened, made, read, executed, nix::unistd::write(&given, b"x"))
        });
        thread.join().unwrap()
    });
    let refused = Err(Errno::EPERM);
    assert_eq!(found, (refused, refused, refused, Errno::EPERM, Ok(1)));
}

/// A reader that says when it is asked for more than it had at first, and waits to be told to go on.
struct Halting {
    first: io::Cursor<Vec<u8>>,
    asked: Sender<()>,
    go_on: Receiver<()>,
}

impl Read for Halting {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.first.read(buf)?;
        if count == 0 {
            let _ = self.asked.send(());
            let _ = self.go_on.recv();
        }
        Ok(count)
    }
}

#[test]
fn extraction_is_inside_the_walls() {
    let scratch = Scratch::new();
    let dest = File::open(scratch.dir("layer")).unwrap();
    let (asked, halted) = channel();
    let (go, go_on) = channel();
    // More than one buffer, so that the extractor is at work when the stream halts.
    let mut tar = Tar::new().dir("d").file("f", &vec![7; 600 << 10]).end();
    tar.truncate(500 << 10);
    let reader = Halting { first: io::Cursor::new(tar), asked, go_on };
    thread::scope(|scope| {
        scope.spawn(|| {
            let result = extract(reader, &Destination::new(dest.as_fd(), &Limits::default()));
            assert!(result.is_err(), "the archive was cut off");
        });
        halted.recv().unwrap();
        let writer = wait_for("write", &scratch.path("layer/f"));
        let task = wait_for("extract", &scratch.path("layer/f"));
        let status = fs::read_to_string(task.join("status")).unwrap();
        let field_of = |status: &str, name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().last().unwrap().to_owned()
        };
        let field = |name| field_of(&status, name);
        assert_eq!((field("Seccomp:"), field("NoNewPrivs:")), ("2".to_owned(), "1".to_owned()));
        assert_eq!(field("CapEff:"), "000000008800001f");
        let of_writer = fs::read_to_string(writer.join("status")).unwrap();
        let of_writer = ["Seccomp:", "CapEff:"].map(|name| field_of(&of_writer, name));
        assert_eq!(of_writer, ["2", "000000008000001b"]);
        let namespace = |task: &Path| fs::read_link(task.join("ns/mnt")).unwrap();
        assert_eq!(namespace(&writer), namespace(&task));
        let mounts = fs::read_to_string(task.join("mountinfo")).unwrap();
        assert_eq!(mounts.lines().count(), 1, "{mounts}");
        for option in ["nosuid", "nodev", "noexec", "nosymfollow"] {
            assert!(mounts.contains(option), "{mounts}");
        }
        let ours = fs::read_link("/proc/thread-self/ns/mnt").unwrap();
        assert_ne!(fs::read_link(task.join("ns/mnt")).unwrap(), ours);
        let open = fs::read_dir(task.join("fd")).unwrap().count();
        assert!(open <= 3 + 3, "{open} descriptors");
        go.send(()).unwrap();
    });
}

/// The folder in /proc of the thread of this name that has `file`, once much of that is written.
fn wait_for(name: &str, file: &Path) -> std::path::PathBuf {
    loop {
        if file.metadata().is_ok_and(|file| file.len() >= 200 << 10) {
            for task in fs::read_dir("/proc/self/task").unwrap() {
                let task = task.unwrap().path();
                let comm = fs::read_to_string(task.join("comm")).unwrap_or_default();
                let filter = fs::read_to_string(task.join("status")).unwrap_or_default();
                let inode =
                    fs::metadata(file).map(|file| std::os::unix::fs::MetadataExt::ino(&file));
                if comm.trim() == name
                    && filter.contains("Seccomp:\t2")
                    && holds(&task, inode.unwrap())
                {
                    return task;
                }
            }
        }
        thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// Whether a thread has a file open; tests beside this one extract as well.
fn holds(task: &Path, inode: u64) -> bool {
    let Ok(open) = fs::read_dir(task.join("fd")) else { return false };
    open.flatten().any(|fd| {
        let stat = fs::metadata(fd.path());
        stat.is_ok_and(|stat| std::os::unix::fs::MetadataExt::ino(&stat) == inode)
    })
}

#[test]
fn what_is_kept_stays_open() {
    let scratch = Scratch::new();
    let folder = File::open(scratch.dir("folder")).unwrap();
    let kept = File::create_new(scratch.path("kept")).unwrap();
    let written = thread::scope(|scope| {
        let thread = scope.spawn(|| {
            confine(folder.as_fd(), &[], &[kept.as_fd()]).unwrap();
            nix::unistd::write(&kept, b"x").map_err(|errno| (errno, kept.as_raw_fd()))
        });
        thread.join().unwrap()
    });
    assert_eq!(written, Ok(1));
}
