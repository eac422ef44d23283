//! Commands that are killed when they hang, and what came out of them.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::{seconds, wait_for};

/// A command that is being put together.
#[derive(Debug)]
pub struct Cmd {
    command: Command,
    input: Vec<u8>,
    timeout: Duration,
}

impl Cmd {
    /// A program with an empty environment but for `PATH`, with nothing on its standard input, for at most a minute.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("LANG", "C.UTF-8");
        Self { command, input: Vec::new(), timeout: seconds(60) }
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    /// Adds an environment variable.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets the working directory.
    pub fn current_dir(mut self, folder: impl AsRef<Path>) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Gives it standard input.
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    /// Gives it more or less time, in seconds on a usual machine.
    pub fn timeout(mut self, usual: u32) -> Self {
        self.timeout = seconds(usual);
        self
    }

    /// The plain command, for those who start it in their own way.
    pub fn into_command(self) -> Command {
        self.command
    }

    /// Starts it.
    pub fn start(mut self) -> Running {
        let shown = format!("{:?}", self.command);
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own, so that a command that hangs can be killed with all that it has started.
        self.command.process_group(0);
        let mut child =
            self.command.spawn().unwrap_or_else(|error| panic!("start {shown}: {error}"));
        let (stdout, stderr) =
            (drain(child.stdout.take().unwrap()), drain(child.stderr.take().unwrap()));
        let mut stdin = child.stdin.take().unwrap();
        let input = std::mem::take(&mut self.input);
        std::thread::spawn(move || {
            // A program that does not read all of its input is free to do so.
            let _ = stdin.write_all(&input);
        });
        Running {
            shown,
            child,
            stdout,
            stderr,
            deadline: Instant::now() + self.timeout,
            done: false,
        }
    }

    /// Runs it to its end.
    pub fn run(self) -> Output {
        self.start().finish()
    }

    /// Runs it to its end, which must be success, and returns what it wrote to standard output.
    pub fn ok(self) -> String {
        self.run().success().stdout
    }
}

fn drain(mut from: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    receiver
}

/// A command under way; killed when dropped.
#[derive(Debug)]
pub struct Running {
    shown: String,
    child: Child,
    stdout: Receiver<Vec<u8>>,
    stderr: Receiver<Vec<u8>>,
    deadline: Instant,
    done: bool,
}

impl Running {
    /// Its process id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    /// Sends a signal to the program, and to nothing that it has started.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Waits until it has a socket open.
    pub fn wait_until_connected(&self) {
        let folder = format!("/proc/{}/fd", self.pid());
        wait_for("a connection", || {
            let mut open =
                fs::read_dir(&folder).ok()?.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
            open.any(|to| to.to_string_lossy().starts_with("socket:")).then_some(())
        });
    }

    /// Waits until `signal` does not end it, because it takes it from a descriptor (`signalfd(2)`).
    pub fn wait_until_blocked(&self, signal: Signal) {
        let status = format!("/proc/{}/status", self.pid());
        wait_for("a signal to be awaited", || {
            let status = fs::read_to_string(&status).ok()?;
            let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:"))?;
            let blocked = u64::from_str_radix(blocked.trim(), 16).ok()?;
            (blocked >> (signal as u32 - 1) & 1 == 1).then_some(())
        });
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it takes longer than it may.
    pub fn finish(mut self) -> Output {
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > self.deadline {
                self.kill_all();
                let output = self.output(ExitStatus::from_raw(9));
                panic!("hangs:\n{}", output.report());
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        self.done = true;
        self.output(status)
    }

    fn output(&self, status: ExitStatus) -> Output {
        // Something that outlives the program and holds its output open is a fault of the program.
        let wait = |from: &Receiver<Vec<u8>>, which: &str| match from.recv_timeout(seconds(10)) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(_) => panic!("{} has ended, but something holds its {which} open", self.shown),
        };
        let (stdout, stderr) = (wait(&self.stdout, "stdout"), wait(&self.stderr, "stderr"));
        Output { shown: self.shown.clone(), status, stdout, stderr }
    }

    fn kill_all(&mut self) {
        let _ = killpg(self.pid(), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.done {
            self.kill_all();
        }
    }
}

/// What came out of a command.
#[derive(Debug)]
pub struct Output {
    shown: String,
    status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Output {
    /// Everything about it, for a message.
    pub fn report(&self) -> String {
        let mut text = format!("{}\n{}\n", self.shown, self.status);
        for (name, content) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            let _ = writeln!(text, "--- {name}\n{content}");
        }
        text
    }

    /// Its exit code; `None` if a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Asserts that it ended with `code`.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{}", self.report());
        self
    }

    /// Asserts that it succeeded.
    #[track_caller]
    pub fn success(self) -> Self {
        self.exits(0)
    }

    /// Asserts that it is an error as a user should see one: with its exit code, nothing on standard output, on
    /// standard error the verb, the object and the cause, and no trace of a panic.
    #[track_caller]
    pub fn fails(self, code: i32, causes: &[&str]) -> Self {
        let output = self.exits(code);
        assert_eq!(output.stdout, "", "{}", output.report());
        assert!(output.stderr.contains("mydocker: "), "{}", output.report());
        for noise in ["panicked at", "RUST_BACKTRACE", "Os {", "Error("] {
            assert!(!output.stderr.contains(noise), "{}", output.report());
        }
        let lower = output.stderr.to_lowercase();
        for cause in causes {
            assert!(lower.contains(&cause.to_lowercase()), "no {cause:?} in\n{}", output.report());
        }
        output
    }

    /// Asserts what it wrote to standard output.
    #[track_caller]
    pub fn prints(self, stdout: &str) -> Self {
        assert_eq!(self.stdout, stdout, "{}", self.report());
        self
    }

    /// Asserts that standard error contains `text`.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "no {text:?} in\n{}", self.report());
        self
    }

    /// The lines of standard output.
    pub fn lines(&self) -> Vec<&str> {
        self.stdout.lines().collect()
    }
}
