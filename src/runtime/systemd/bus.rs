//! A connection to a manager of systemd's: by the system's or the user's message bus, or where there is none, by the
//! manager's own socket, as `systemctl(1)` has it.

use std::io::{self, Read as _, Write as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::unistd::getuid;
use serde::{Deserialize, Serialize};

use super::message::{FIXED, Kind, MAX_MESSAGE, Message, Method, Writer, whole_length};

/// How long an answer, or a job's end, may take: longer than systemd itself gives to a process that does not stop.
const PATIENCE: Duration = Duration::from_secs(100);
/// The longest line of the authentication.
const MAX_LINE: usize = 1024;

pub(super) const MANAGER: Method = Method {
    destination: Some("org.freedesktop.systemd1"),
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
    member: "",
    signature: "",
};
const DAEMON: Method = Method {
    destination: Some("org.freedesktop.DBus"),
    path: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
    member: "",
    signature: "",
};

/// Whose manager it is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Manager {
    /// The machine's, which is its first process.
    System,
    /// An ordinary user's.
    User,
}

/// Why systemd did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BusError {
    /// There is no manager, or none that lets this user speak to it.
    #[error(
        "connect to systemd by `{address}`, which groups of cgroupfs (without --systemd-cgroup) do not need"
    )]
    Connect {
        /// The bus: a path, or an abstract name behind `@`.
        address: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A job of systemd's did not end well.
    #[error("its job ended as `{0}`")]
    Job(String),
    /// What came is not D-Bus.
    #[error("{0}")]
    Protocol(&'static str),
    /// It was refused.
    #[error("{message} ({name})")]
    Refused {
        /// The error's name: `org.freedesktop.systemd1.UnitExists`.
        name: String,
        /// What systemd says.
        message: String,
    },
    /// The connection broke, or nothing came for too long.
    #[error("talk to systemd")]
    Talk(#[source] io::Error),
}

impl BusError {
    /// Whether it was refused with the error `name` of systemd's.
    pub(super) fn is(&self, wanted: &str) -> bool {
        matches!(self, Self::Refused { name, .. } if name.ends_with(wanted))
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct Bus {
    stream: UnixStream,
    /// Whether others are on it than the manager.
    shared: bool,
    serial: u32,
    deadline: Instant,
    /// The ends of jobs that were told before somebody waited for them.
    ended: Vec<(String, String)>,
}

impl Bus {
    /// Connects to a manager.
    pub(super) fn connect(manager: Manager) -> Result<Self, BusError> {
        let (address, private) = match manager {
            Manager::System => {
                let usual = Address::Path("/run/dbus/system_bus_socket".into());
                let given = given_address("DBUS_SYSTEM_BUS_ADDRESS");
                (given.unwrap_or(usual), PathBuf::from("/run/systemd/private"))
            }
            Manager::User => {
                let folder = user_folder();
                let usual = Address::Path(folder.join("bus"));
                let given = given_address("DBUS_SESSION_BUS_ADDRESS");
                (given.unwrap_or(usual), folder.join("systemd/private"))
            }
        };
        match address.connect() {
            Ok(stream) => Self::begin(stream, true),
            Err(source) => match UnixStream::connect(private) {
                Ok(stream) => Self::begin(stream, false),
                // The bus is where it should have been.
                Err(_) => Err(BusError::Connect { address: address.name(), source }),
            },
        }
    }

    /// Says who this is, which the kernel has told the other end already: whatever number the user has in this process's
    /// user namespace, it is the one outside that counts (`EXTERNAL` without a name).
    fn begin(stream: UnixStream, shared: bool) -> Result<Self, BusError> {
        let deadline = Instant::now() + PATIENCE;
        let mut bus = Self { stream, shared, serial: 0, deadline, ended: Vec::new() };
        bus.write(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        bus.line()?;
        if !bus.line()?.starts_with(b"OK ") {
            return Err(BusError::Protocol("the bus does not let this user in"));
        }
        if shared {
            bus.call(Method { member: "Hello", ..DAEMON }, &Writer::default())?;
        }
        Ok(bus)
    }

    /// Has the ends of a unit's jobs told to this process.
    pub(super) fn watch(&mut self, unit: &str) -> Result<(), BusError> {
        if !self.shared {
            return Ok(());
        }
        let mut body = Writer::default();
        let (sender, interface) = ("org.freedesktop.systemd1", MANAGER.interface);
        body.text(&format!(
            "type='signal',sender='{sender}',interface='{interface}',member='JobRemoved',arg2='{unit}'"
        ));
        self.call(Method { member: "AddMatch", signature: "s", ..DAEMON }, &body).map(drop)
    }

    /// Calls a method, and waits for what it returns.
    pub(super) fn call(&mut self, method: Method, body: &Writer) -> Result<Message, BusError> {
        self.serial += 1;
        let serial = self.serial;
        let destination = method.destination.filter(|_| self.shared);
        self.deadline = Instant::now() + PATIENCE;
        self.write(&Method { destination, ..method }.call(serial, body))?;
        loop {
            let message = self.receive()?;
            match &message.kind {
                Kind::Return { to } if *to == serial => return Ok(message),
                Kind::Error { to, name } if *to == serial => {
                    let (name, message) = (name.clone(), message.text()?);
                    return Err(BusError::Refused { name, message });
                }
                _ => self.keep(&message)?,
            }
        }
    }

    /// Calls a method that has systemd do something, and waits until that is done. The unit is being watched.
    pub(super) fn run_job(&mut self, method: Method, body: &Writer) -> Result<(), BusError> {
        let job = self.call(method, body)?.text()?;
        loop {
            if let Some((_, result)) = self.ended.iter().find(|(ended, _)| *ended == job) {
                return match result.as_str() {
                    "done" => Ok(()),
                    result => Err(BusError::Job(result.to_owned())),
                };
            }
            let message = self.receive()?;
            self.keep(&message)?;
        }
    }

    fn keep(&mut self, message: &Message) -> Result<(), BusError> {
        match &message.kind {
            Kind::Signal { interface, member }
                if interface == MANAGER.interface && member == "JobRemoved" =>
            {
                self.ended.push(message.removed_job()?);
            }
            // Such as that a name was acquired.
            _ => {}
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<Message, BusError> {
        let mut fixed = [0; FIXED];
        self.read(&mut fixed)?;
        let mut bytes = fixed.to_vec();
        bytes.resize(whole_length(&fixed)?.min(MAX_MESSAGE + 2 * FIXED), 0);
        self.read(bytes.get_mut(FIXED..).unwrap_or_default())?;
        Message::parse(&bytes)
    }

    /// A line of the authentication, without its end.
    fn line(&mut self) -> Result<Vec<u8>, BusError> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.read(&mut byte)?;
            line.extend(byte);
            if line.len() > MAX_LINE {
                return Err(BusError::Protocol("the bus says too much"));
            }
        }
        line.truncate(line.len() - 2);
        Ok(line)
    }

    fn read(&mut self, mut buffer: &mut [u8]) -> Result<(), BusError> {
        while !buffer.is_empty() {
            let left = self.deadline.saturating_duration_since(Instant::now());
            let timeout = left.max(Duration::from_millis(1));
            self.stream.set_read_timeout(Some(timeout)).map_err(BusError::Talk)?;
            match self.stream.read(buffer) {
                Ok(0) => return Err(BusError::Talk(io::ErrorKind::UnexpectedEof.into())),
                Ok(length) => buffer = buffer.get_mut(length..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(BusError::Talk(io::ErrorKind::TimedOut.into()));
                }
                Err(error) => return Err(BusError::Talk(error)),
            }
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), BusError> {
        self.stream.set_write_timeout(Some(PATIENCE)).map_err(BusError::Talk)?;
        self.stream.write_all(bytes).map_err(BusError::Talk)
    }
}

/// Where an ordinary user's sockets are.
fn user_folder() -> PathBuf {
    let given = std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty());
    given.map_or_else(|| PathBuf::from(format!("/run/user/{}", getuid())), PathBuf::from)
}

/// An address of a bus on this machine.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Address {
    Path(PathBuf),
    Abstract(Vec<u8>),
}

impl Address {
    fn connect(&self) -> io::Result<UnixStream> {
        match self {
            Self::Path(path) => UnixStream::connect(path),
            Self::Abstract(name) => {
                UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?)
            }
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Path(path) => path.display().to_string(),
            Self::Abstract(name) => format!("@{}", String::from_utf8_lossy(name)),
        }
    }
}

fn given_address(variable: &str) -> Option<Address> {
    address(&std::env::var(variable).ok()?)
}

/// The first address of a list that is a socket on this machine: D-Bus specification, "Server Addresses".
fn address(list: &str) -> Option<Address> {
    let sockets = list.split(';').filter_map(|one| one.strip_prefix("unix:"));
    let mut options = sockets.flat_map(|one| one.split(','));
    options.find_map(|option| match option.split_once('=')? {
        ("path", value) => {
            let path = PathBuf::from(std::ffi::OsString::from_vec(unescape(value)));
            Path::is_absolute(&path).then_some(Address::Path(path))
        }
        ("abstract", value) => Some(Address::Abstract(unescape(value))),
        _ => None,
    })
}

/// Bytes, of which some may be written as `%2f`.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, behind)) = rest.split_first() {
        let escaped = behind.get(..2).filter(|_| *byte == b'%');
        let number = escaped.and_then(|two| u8::from_str_radix(str::from_utf8(two).ok()?, 16).ok());
        bytes.push(number.unwrap_or(*byte));
        rest = if number.is_some() { behind.get(2..).unwrap_or_default() } else { behind };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_a_bus() {
        let path = |path: &str| Some(Address::Path(path.into()));
        assert_eq!(address("unix:path=/run/user/1000/bus"), path("/run/user/1000/bus"));
        assert_eq!(address("unix:guid=1,path=/a%2fb%20c"), path("/a/b c"));
        assert_eq!(address("tcp:host=x;unix:path=/bus"), path("/bus"));
        assert_eq!(
            address("unix:abstract=/tmp/x,guid=1"),
            Some(Address::Abstract(b"/tmp/x".into()))
        );
        for bad in ["", "unix:", "unix:path=bus", "tcp:host=localhost", "autolaunch:"] {
            assert_eq!(address(bad), None, "{bad}");
        }
        assert_eq!(unescape("%zz%4"), b"%zz%4");
    }
}
