//! Network interfaces and their addresses: `rtnetlink(7)`.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

/// `nlmsghdr`: length, type, flags, sequence number, port.
const HEADER: usize = 16;
/// `ifinfomsg`: family, a gap, type, index, flags, change mask.
const LINK: usize = 16;
/// `ifaddrmsg`: family, prefix length, flags, scope, index.
const ADDRESS: usize = 8;
/// The largest packet that the kernel sends.
const PACKET: usize = 32 << 10;

const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_CREATE_EXCL: u16 = 0x600;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// An interface.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Link {
    /// Its number.
    pub index: i32,
    /// Its name.
    pub name: String,
}

/// An address of an interface, as the kernel tells of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Address {
    /// The interface's number.
    pub index: i32,
    /// `RT_SCOPE_*`; 0 is the whole world.
    pub scope: u8,
    /// `IFA_F_*`.
    pub flags: u32,
    family: u8,
    prefix: u8,
    /// What it is made of, to be handed back as it came: type and value.
    attributes: Vec<(u16, Vec<u8>)>,
}

impl Address {
    /// Whether it is there for good, and not for a time that a server has granted (`IFA_F_PERMANENT`).
    pub fn is_permanent(&self) -> bool {
        self.flags & 0x80 != 0
    }
}

/// A connection to the network namespace that the process was in when it was made.
#[derive(Debug)]
pub struct Socket(OwnedFd);

impl Socket {
    /// Connects.
    ///
    /// # Errors
    /// What `socket(2)` reports.
    pub fn open() -> Result<Self, Errno> {
        let (flags, protocol) = (SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute);
        socket(AddressFamily::Netlink, SockType::Raw, flags, protocol).map(Self)
    }

    /// The interfaces.
    ///
    /// # Errors
    /// What `rtnetlink(7)` reports; `EPROTO` for an answer that cannot be read.
    pub fn links(&self) -> Result<Vec<Link>, Errno> {
        const IFLA_IFNAME: u16 = 3;
        let bodies = self.dump(libc::RTM_GETLINK, libc::RTM_NEWLINK, &[0; LINK])?;
        let link = |body: &Vec<u8>| {
            let index = i32::from_ne_bytes(body.get(4..8)?.try_into().ok()?);
            let attributes = attributes(body.get(LINK..)?);
            let (_, name) = attributes.iter().find(|(kind, _)| *kind == IFLA_IFNAME)?;
            let name = String::from_utf8_lossy(name).trim_end_matches('\0').to_owned();
            Some(Link { index, name })
        };
        bodies.iter().map(link).collect::<Option<_>>().ok_or(Errno::EPROTO)
    }

    /// The addresses of all interfaces.
    ///
    /// # Errors
    /// As [`Self::links`].
    pub fn addresses(&self) -> Result<Vec<Address>, Errno> {
        const IFA_FLAGS: u16 = 8;
        let bodies = self.dump(libc::RTM_GETADDR, libc::RTM_NEWADDR, &[0; ADDRESS])?;
        let address = |body: &Vec<u8>| {
            let [family, prefix, flags, scope] = *body.first_chunk::<4>()?;
            let index = i32::from_ne_bytes(body.get(4..8)?.try_into().ok()?);
            let attributes = attributes(body.get(ADDRESS..)?);
            let wide = attributes.iter().find(|(kind, _)| *kind == IFA_FLAGS);
            let wide = wide.and_then(|(_, value)| value.as_slice().try_into().ok());
            let flags = wide.map_or(flags.into(), u32::from_ne_bytes);
            Some(Address { index, scope, flags, family, prefix, attributes })
        };
        bodies.iter().map(address).collect::<Option<_>>().ok_or(Errno::EPROTO)
    }

    /// Moves an interface into another network namespace, under a name in which `%d` stands for the first free number.
    ///
    /// # Errors
    /// What `rtnetlink(7)` reports: `EINVAL` for an interface that cannot move, `EEXIST` for a name that is taken.
    pub fn move_link(
        &self,
        index: i32,
        namespace: BorrowedFd<'_>,
        name: &str,
    ) -> Result<(), Errno> {
        const IFLA_IFNAME: u16 = 3;
        const IFLA_NET_NS_FD: u16 = 28;
        let mut body = link_header(index, 0, 0);
        push(&mut body, IFLA_NET_NS_FD, &namespace.as_raw_fd().to_ne_bytes());
        push(&mut body, IFLA_IFNAME, &[name.as_bytes(), b"\0"].concat());
        self.request(libc::RTM_NEWLINK, 0, &body)
    }

    /// Takes an interface into service.
    ///
    /// # Errors
    /// What `rtnetlink(7)` reports.
    pub fn set_up(&self, index: i32) -> Result<(), Errno> {
        let up = libc::IFF_UP.unsigned_abs();
        self.request(libc::RTM_NEWLINK, 0, &link_header(index, up, up))
    }

    /// Gives an interface an address that another one had.
    ///
    /// # Errors
    /// What `rtnetlink(7)` reports: `EEXIST` if the interface has it.
    pub fn add_address(&self, index: i32, address: &Address) -> Result<(), Errno> {
        /// When it was made and how long it is still good, which is for ever.
        const IFA_CACHEINFO: u16 = 6;
        /// The name of the interface, which may be another one now.
        const IFA_LABEL: u16 = 3;
        let mut body = vec![address.family, address.prefix, 0, address.scope];
        body.extend_from_slice(&index.to_ne_bytes());
        for (kind, value) in &address.attributes {
            if ![IFA_CACHEINFO, IFA_LABEL].contains(kind) {
                push(&mut body, *kind, value);
            }
        }
        self.request(libc::RTM_NEWADDR, NLM_F_CREATE_EXCL, &body)
    }

    fn send(&self, kind: u16, flags: u16, body: &[u8]) -> Result<(), Errno> {
        let length = u32::try_from(HEADER + body.len()).map_err(|_| Errno::EMSGSIZE)?;
        let mut message = length.to_ne_bytes().to_vec();
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(&(NLM_F_REQUEST | flags).to_ne_bytes());
        message.extend_from_slice(&[0; 8]);
        message.extend_from_slice(body);
        send(self.0.as_raw_fd(), &message, MsgFlags::empty()).map(drop)
    }

    fn request(&self, kind: u16, flags: u16, body: &[u8]) -> Result<(), Errno> {
        self.send(kind, NLM_F_ACK | flags, body)?;
        self.receive(|_, _| {})
    }

    /// Asks for everything of a kind: the bodies of the messages that come back.
    fn dump(&self, kind: u16, expected: u16, body: &[u8]) -> Result<Vec<Vec<u8>>, Errno> {
        self.send(kind, NLM_F_DUMP, body)?;
        let mut bodies = Vec::new();
        self.receive(|kind, body| {
            if kind == expected {
                bodies.push(body.to_vec());
            }
        })?;
        Ok(bodies)
    }

    /// Reads messages until the last one, which says how it went.
    fn receive(&self, mut each: impl FnMut(u16, &[u8])) -> Result<(), Errno> {
        let mut buffer = vec![0; PACKET];
        loop {
            let length = match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => continue,
                length => length?,
            };
            let mut rest = buffer.get(..length).unwrap_or_default();
            while !rest.is_empty() {
                let size = rest.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
                let size = size.and_then(|size| usize::try_from(size).ok()).ok_or(Errno::EPROTO)?;
                let message = rest.get(..size).ok_or(Errno::EPROTO)?;
                let kind = message.get(4..6).ok_or(Errno::EPROTO)?;
                let body = message.get(HEADER..).ok_or(Errno::EPROTO)?;
                match u16::from_ne_bytes(kind.try_into().unwrap_or_default()) {
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => {
                        let code = body.first_chunk().ok_or(Errno::EPROTO)?;
                        return match i32::from_ne_bytes(*code) {
                            0 => Ok(()),
                            code => Err(Errno::from_raw(code.wrapping_neg())),
                        };
                    }
                    kind => each(kind, body),
                }
                rest = rest.get(size.next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }
}

fn link_header(index: i32, flags: u32, change: u32) -> Vec<u8> {
    let mut body = vec![0; 4];
    body.extend_from_slice(&index.to_ne_bytes());
    body.extend_from_slice(&flags.to_ne_bytes());
    body.extend_from_slice(&change.to_ne_bytes());
    body
}

/// Adds an attribute (`rtattr`): length, type, value, filled up to four bytes.
fn push(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    body.extend_from_slice(&length.to_ne_bytes());
    body.extend_from_slice(&kind.to_ne_bytes());
    body.extend_from_slice(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn attributes(mut rest: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut found = Vec::new();
    while let Some([a, b, c, d]) = rest.first_chunk::<4>() {
        let length = usize::from(u16::from_ne_bytes([*a, *b]));
        let Some(value) = rest.get(4..length) else { break };
        found.push((u16::from_ne_bytes([*c, *d]), value.to_vec()));
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}
