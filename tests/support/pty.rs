//! A terminal with a program in it, and somebody who types.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};
use nix::sys::termios::{Termios, tcgetattr};

use super::command::Cmd;
use super::seconds;

/// A program that has a terminal; killed when dropped.
#[derive(Debug)]
pub struct Pty {
    child: Child,
    master: File,
    terminal: OwnedFd,
    /// What has come out, and how much of it an expectation has passed.
    seen: Arc<Mutex<Vec<u8>>>,
    passed: usize,
}

impl Pty {
    /// Starts a command in a session of its own with a new terminal of this size.
    pub fn start(cmd: Cmd, rows: u16, columns: u16) -> Self {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(&size, None).unwrap();
        let inner = cmd.into_command();
        // setsid(1) makes its standard input the controlling terminal, and then becomes the program.
        let mut command = std::process::Command::new("setsid");
        command.arg("--ctty").arg(inner.get_program()).args(inner.get_args());
        command
            .env_clear()
            .env("TERM", "xterm")
            .envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        if let Some(folder) = inner.get_current_dir() {
            command.current_dir(folder);
        }
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        command.stdin(end()).stdout(end()).stderr(end());
        let child = command.spawn().unwrap();
        let master = File::from(pty.master);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (mut from, into) = (master.try_clone().unwrap(), Arc::clone(&seen));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                into.lock().unwrap().extend_from_slice(&buffer[..count]);
            }
        });
        Self { child, master, terminal: pty.slave, seen, passed: 0 }
    }

    /// Types `text`.
    pub fn send(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    /// Waits until `text` has come out behind everything that was expected before, and returns what came before it.
    ///
    /// # Panics
    /// When it does not come, with all that came instead.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> String {
        let deadline = Instant::now() + seconds(20);
        loop {
            {
                let seen = self.seen.lock().unwrap();
                let rest = &seen[self.passed..];
                if let Some(at) = rest.windows(text.len()).position(|part| part == text.as_bytes())
                {
                    let before = String::from_utf8_lossy(&rest[..at]).into_owned();
                    self.passed += at + text.len();
                    return before;
                }
            }
            assert!(
                Instant::now() < deadline,
                "{text:?} did not come out, but:\n{}",
                self.transcript()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// All that has come out.
    pub fn transcript(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }

    /// Changes the window's size, as a terminal emulator does: with a signal to whoever is in the foreground.
    pub fn resize(&self, rows: u16, columns: u16) {
        let terminal = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&self.terminal));
        let path = std::fs::read_link(terminal).unwrap();
        let (rows, columns) = (rows.to_string(), columns.to_string());
        Cmd::new("stty").arg("-F").arg(path).args(["rows", &rows, "cols", &columns]).ok();
    }

    /// How a new terminal is set.
    pub fn usual_settings() -> Termios {
        tcgetattr(openpty(None, None).unwrap().slave).unwrap()
    }

    /// How the terminal is set.
    pub fn settings(&self) -> Termios {
        tcgetattr(&self.terminal).unwrap()
    }

    /// The process id of the program.
    pub fn pid(&self) -> nix::unistd::Pid {
        nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    /// Waits for the program's end and returns its exit code, or 128 and the number of the signal that ended it.
    #[track_caller]
    pub fn finish(&mut self) -> i32 {
        let deadline = Instant::now() + seconds(20);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                let signal = std::os::unix::process::ExitStatusExt::signal(&status);
                return status.code().unwrap_or(128 + signal.unwrap_or_default());
            }
            assert!(Instant::now() < deadline, "does not end:\n{}", self.transcript());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
