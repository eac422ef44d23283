//! From the beginning of a program to its end: output to the log and to clients, input from clients.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd;

use super::super::Error;
use super::super::log::{Log, Stream};
use super::listener::Listener;
use super::message::{Client, Event, MAX_CONTENT, Request};
use super::prober::Prober;
use crate::runtime::{ExitStatus, Process};
use crate::sys::tty::set_window_size;

/// How many clients there can be; more are turned away.
const MAX_CLIENTS: usize = 64;
/// So much input waits for the program before clients have to.
const MAX_PENDING: usize = 64 << 10;
/// What ends the input of a terminal (`VEOF`, `termios(3)`).
const END_OF_FILE: u8 = 4;

/// The monitor's ends of a program's streams.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// What the program writes; each leaves when it has ended.
    pub(super) outputs: Vec<(Stream, OwnedFd)>,
    /// Where its input goes.
    pub(super) input: Option<OwnedFd>,
    /// Its terminal, from outside.
    pub(super) console: Option<OwnedFd>,
    /// Whether the end of a client's input is the end of the program's.
    pub(super) once: bool,
}

impl Streams {
    /// Lets no read or write wait.
    pub(super) fn unblock(&self) -> Result<(), Errno> {
        let outputs = self.outputs.iter().map(|(_, output)| output);
        for descriptor in outputs.chain(&self.input) {
            fcntl(descriptor, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        Ok(())
    }
}

pub(super) struct Watch<'a> {
    pub(super) process: &'a mut Process,
    pub(super) streams: Streams,
    pub(super) listener: &'a Listener,
    pub(super) clients: &'a mut Vec<Client>,
    pub(super) log: Option<&'a mut Log>,
    /// Bytes that the program has not read yet.
    pub(super) pending: Vec<u8>,
    /// Whether its input ends behind those.
    pub(super) ending: bool,
    /// Who asks whether it is well.
    pub(super) prober: Option<Prober>,
}

/// What can be done now, in the order of the descriptors.
#[derive(Default)]
struct Ready {
    ended: bool,
    called: bool,
    input: bool,
    outputs: Vec<bool>,
    clients: Vec<PollFlags>,
}

impl Watch<'_> {
    /// Watches until the program has ended, and takes what it has written last.
    pub(super) fn until_ended(mut self) -> Result<ExitStatus, Error> {
        // Those that were there before the program was started.
        self.serve(&vec![PollFlags::POLLIN; self.clients.len()]);
        loop {
            let ready = self.wait()?;
            if ready.called {
                self.welcome();
            }
            let mut outputs = ready.outputs.into_iter();
            self.copy_out(|| outputs.next().unwrap_or(false));
            self.serve(&ready.clients);
            if ready.input {
                self.copy_in();
            }
            self.prober.iter_mut().for_each(Prober::go_on);
            if ready.ended {
                // With the first process the kernel has ended all others of its PID namespace.
                self.drain();
                return Ok(self.process.wait()?);
            }
        }
    }

    fn wait(&self) -> Result<Ready, Error> {
        let mut fds = vec![
            PollFd::new(self.process.pidfd(), PollFlags::POLLIN),
            PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
        ];
        // A client that reads slowly slows the program down, as a terminal does.
        let reading = !self.clients.iter().any(Client::lags);
        let events = if reading { PollFlags::POLLIN } else { PollFlags::empty() };
        let outputs = self.streams.outputs.iter().filter(|_| reading);
        fds.extend(outputs.map(|(_, output)| PollFd::new(output.as_fd(), events)));
        let first_client = fds.len();
        let listening = self.pending.len() < MAX_PENDING;
        for client in self.clients.iter() {
            let mut events = PollFlags::empty();
            events.set(PollFlags::POLLIN, listening);
            events.set(PollFlags::POLLOUT, client.lags());
            fds.push(PollFd::new(client.as_fd(), events));
        }
        let input = self.streams.input.as_ref().filter(|_| !self.pending.is_empty());
        let after_clients = fds.len();
        fds.extend(input.map(|input| PollFd::new(input.as_fd(), PollFlags::POLLOUT)));
        let has_input = fds.len() > after_clients;
        let prober = self.prober.as_ref();
        let probe = prober.and_then(Prober::descriptor);
        fds.extend(probe.map(|probe| PollFd::new(probe, PollFlags::POLLIN)));
        let timeout = prober.map_or(PollTimeout::NONE, Prober::timeout);
        loop {
            match poll(&mut fds, timeout) {
                Err(Errno::EINTR) => {}
                Err(source) => {
                    return Err(Error::Monitor { verb: "wait in", source: source.into() });
                }
                Ok(_) => break,
            }
        }
        let events: Vec<PollFlags> =
            fds.iter().map(|fd| fd.revents().unwrap_or(PollFlags::empty())).collect();
        let any = |at: usize| events.get(at).is_some_and(|events| !events.is_empty());
        Ok(Ready {
            ended: any(0),
            called: any(1),
            input: has_input && any(after_clients),
            outputs: (2..first_client).map(any).collect(),
            clients: events.get(first_client..after_clients).unwrap_or_default().to_vec(),
        })
    }

    fn welcome(&mut self) {
        while let Some(client) = self.listener.accept() {
            if self.clients.len() < MAX_CLIENTS {
                self.clients.push(client);
            }
        }
    }

    /// Takes what has come from the outputs that are ready.
    fn copy_out(&mut self, mut ready: impl FnMut() -> bool) {
        let mut buffer = vec![0; MAX_CONTENT];
        let outputs = std::mem::take(&mut self.streams.outputs);
        self.streams.outputs = outputs
            .into_iter()
            .filter(|(stream, output)| {
                !ready() || !matches!(self.take(*stream, output.as_fd(), &mut buffer), Took::End)
            })
            .collect();
    }

    fn drain(&mut self) {
        let mut buffer = vec![0; MAX_CONTENT];
        for (stream, output) in std::mem::take(&mut self.streams.outputs) {
            while self.take(stream, output.as_fd(), &mut buffer) == Took::Some {}
        }
    }

    fn take(&mut self, stream: Stream, output: BorrowedFd<'_>, buffer: &mut [u8]) -> Took {
        let bytes = match unistd::read(output, buffer) {
            // EIO: every process that had the terminal open has closed it.
            Ok(0) | Err(Errno::EIO) => return Took::End,
            Ok(count) => buffer.get(..count).unwrap_or_default(),
            Err(Errno::EINTR | Errno::EAGAIN) => return Took::Nothing,
            Err(_) => return Took::End,
        };
        if let Some(log) = &mut self.log {
            log.write(stream, bytes);
        }
        if self.clients.iter().any(|client| client.wants.output) {
            let event = match stream {
                Stream::Stdout => Event::Output(bytes.to_vec()),
                Stream::Stderr => Event::Error(bytes.to_vec()),
            };
            self.clients.retain_mut(|client| !client.wants.output || client.tell(&event));
        }
        Took::Some
    }

    /// Hears what clients have to say. Those that are gone leave.
    fn serve(&mut self, ready: &[PollFlags]) {
        let mut ready = ready.iter();
        let clients = std::mem::take(self.clients);
        for mut client in clients {
            let events = ready.next().copied().unwrap_or(PollFlags::empty());
            let stays = (!events.contains(PollFlags::POLLOUT) || client.flush())
                && (!events
                    .intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR)
                    || self.hear(&mut client));
            if stays {
                self.clients.push(client);
            }
        }
        if !self.pending.is_empty() || self.ending {
            self.copy_in();
        }
    }

    fn hear(&mut self, client: &mut Client) -> bool {
        while self.pending.len() < MAX_PENDING {
            match client.next() {
                Ok(None) => return true,
                Err(_) => return false,
                Ok(Some(request @ (Request::Attach | Request::Wait))) => client.wants.add(&request),
                Ok(Some(Request::Input(bytes))) if self.streams.input.is_some() => {
                    self.pending.extend_from_slice(&bytes);
                }
                Ok(Some(Request::EndOfInput)) if self.streams.console.is_some() => {
                    self.pending.push(END_OF_FILE);
                }
                Ok(Some(Request::EndOfInput)) => self.ending |= self.streams.once,
                Ok(Some(Request::Window(rows, columns))) => {
                    if let Some(console) = &self.streams.console {
                        let _ = set_window_size(console.as_fd(), rows, columns);
                    }
                }
                Ok(Some(Request::Input(_) | Request::Look)) => {}
            }
        }
        true
    }

    fn copy_in(&mut self) {
        if let Some(input) = &self.streams.input
            && !self.pending.is_empty()
        {
            match unistd::write(input, &self.pending) {
                Ok(written) => drop(self.pending.drain(..written)),
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                // The program has closed its input.
                Err(_) => {
                    self.pending.clear();
                    self.streams.input = None;
                }
            }
        }
        if self.ending && self.pending.is_empty() {
            self.streams.input = None;
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Took {
    End,
    Nothing,
    Some,
}
