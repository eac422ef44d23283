//! Messages as they are on a bus: D-Bus specification, "Type System" and "Message Protocol".
//!
//! Only the types that systemd's interface uses here. A crate for the whole of D-Bus would bring an asynchronous runtime or
//! threads, which the process that clones must not have, or a second `nix`; what is needed of it is less than its glue.

use super::bus::BusError;

/// The longest message that is read: a signal of the manager's has some hundred bytes.
pub(super) const MAX_MESSAGE: usize = 1 << 20;
/// What every message begins with, up to the length of its header fields.
pub(super) const FIXED: usize = 16;

const ORDER: u8 = if cfg!(target_endian = "little") { b'l' } else { b'B' };
const VERSION: u8 = 1;
const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;

/// Numbers of header fields.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

/// What can be in a property.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::runtime) enum Value {
    Bool(bool),
    I32(i32),
    I64(i64),
    U32(u32),
    U64(u64),
    Text(String),
    Bytes(Vec<u8>),
    Numbers(Vec<u32>),
    Texts(Vec<String>),
    Pairs(Vec<(String, String)>),
}

/// A name, and what it is to be.
pub(in crate::runtime) type Property = (String, Value);

impl Value {
    fn signature(&self) -> &'static str {
        match self {
            Self::Bool(_) => "b",
            Self::I32(_) => "i",
            Self::I64(_) => "x",
            Self::U32(_) => "u",
            Self::U64(_) => "t",
            Self::Text(_) => "s",
            Self::Bytes(_) => "ay",
            Self::Numbers(_) => "au",
            Self::Texts(_) => "as",
            Self::Pairs(_) => "a(ss)",
        }
    }
}

/// A message, or a part of one, that is being written. What is aligned is so to the message's beginning, and so every part
/// begins at a multiple of 8.
#[derive(Debug, Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    pub(super) fn u32(&mut self, number: u32) {
        self.align(4);
        self.0.extend(number.to_ne_bytes());
    }

    fn u64(&mut self, number: u64) {
        self.align(8);
        self.0.extend(number.to_ne_bytes());
    }

    pub(super) fn bool(&mut self, value: bool) {
        self.u32(value.into());
    }

    pub(super) fn text(&mut self, text: &str) {
        self.u32(length(text.len()));
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    fn signature(&mut self, signature: &str) {
        self.0.push(u8::try_from(signature.len()).unwrap_or(u8::MAX));
        self.0.extend(signature.as_bytes());
        self.0.push(0);
    }

    /// An array, whose length does not count what lies between it and the first item.
    fn array<T>(&mut self, align: usize, items: &[T], write: impl Fn(&mut Self, &T)) {
        self.u32(0);
        let at = self.0.len();
        self.align(align);
        let begin = self.0.len();
        items.iter().for_each(|item| write(self, item));
        let bytes = length(self.0.len() - begin).to_ne_bytes();
        if let Some(place) = self.0.get_mut(at - bytes.len()..at) {
            place.copy_from_slice(&bytes);
        }
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Bool(value) => self.bool(*value),
            Value::I32(number) => self.u32(number.cast_unsigned()),
            Value::I64(number) => self.u64(number.cast_unsigned()),
            Value::U32(number) => self.u32(*number),
            Value::U64(number) => self.u64(*number),
            Value::Text(text) => self.text(text),
            Value::Bytes(bytes) => self.array(1, bytes, |to, byte| to.0.push(*byte)),
            Value::Numbers(numbers) => self.array(4, numbers, |to, number| to.u32(*number)),
            Value::Texts(texts) => self.array(4, texts, |to, text| to.text(text)),
            Value::Pairs(pairs) => self.array(8, pairs, |to, (first, second)| {
                to.align(8);
                to.text(first);
                to.text(second);
            }),
        }
    }

    /// `a(sv)`
    pub(super) fn properties(&mut self, properties: &[Property]) {
        self.array(8, properties, |to, (name, value)| {
            to.align(8);
            to.text(name);
            to.signature(value.signature());
            to.value(value);
        });
    }

    /// `a(sa(sv))` with nothing in it.
    pub(super) fn no_units(&mut self) {
        self.array(8, &[], |_, ()| ());
    }
}

/// A length, which [`MAX_MESSAGE`] keeps far below what it can be.
fn length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// Who is called.
#[derive(Clone, Copy, Debug)]
pub(super) struct Method {
    /// `None` where there is nobody else at the other end.
    pub destination: Option<&'static str>,
    pub path: &'static str,
    pub interface: &'static str,
    pub member: &'static str,
    /// Of the body.
    pub signature: &'static str,
}

impl Method {
    /// The whole message.
    pub(super) fn call(&self, serial: u32, body: &Writer) -> Vec<u8> {
        let mut fields = vec![
            (PATH, "o", self.path),
            (INTERFACE, "s", self.interface),
            (MEMBER, "s", self.member),
        ];
        fields.extend(self.destination.map(|name| (DESTINATION, "s", name)));
        if !self.signature.is_empty() {
            fields.push((SIGNATURE, "g", self.signature));
        }
        let mut message = Writer(vec![ORDER, METHOD_CALL, 0, VERSION]);
        message.u32(length(body.0.len()));
        message.u32(serial);
        message.array(8, &fields, |to, (number, signature, text)| {
            to.align(8);
            to.0.push(*number);
            to.signature(signature);
            if *signature == "g" { to.signature(text) } else { to.text(text) }
        });
        message.align(8);
        message.0.extend(&body.0);
        message.0
    }
}

/// What a message is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Return { to: u32 },
    Error { to: u32, name: String },
    Signal { interface: String, member: String },
    Other,
}

/// A message that has come.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub kind: Kind,
    signature: String,
    body: Vec<u8>,
}

/// The length of a message that begins with these bytes.
pub(super) fn whole_length(fixed: &[u8; FIXED]) -> Result<usize, BusError> {
    let mut reader = Reader { bytes: fixed, at: 4 };
    if fixed[0] != ORDER || fixed[3] != VERSION {
        return Err(BusError::Protocol("a message is not of this machine's kind"));
    }
    let body = reader.u32()?;
    reader.u32()?;
    let fields = reader.u32()?;
    let size = |number: u32| usize::try_from(number).ok().filter(|size| *size <= MAX_MESSAGE);
    match (size(body), size(fields)) {
        (Some(body), Some(fields)) if body + fields <= MAX_MESSAGE => {
            Ok((FIXED + fields).next_multiple_of(8) + body)
        }
        _ => Err(BusError::Protocol("a message is too long")),
    }
}

impl Message {
    /// Takes a whole message apart.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, BusError> {
        let mut reader = Reader { bytes, at: 12 };
        let end = FIXED + reader.u32()? as usize;
        let (mut interface, mut member, mut name) = Default::default();
        let (mut reply, mut signature) = (0, String::new());
        while reader.at < end {
            reader.align(8);
            let field = reader.byte()?;
            match (field, reader.signature()?.as_str()) {
                (INTERFACE, "s") => interface = reader.text()?,
                (MEMBER, "s") => member = reader.text()?,
                (ERROR_NAME, "s") => name = reader.text()?,
                (REPLY_SERIAL, "u") => reply = reader.u32()?,
                (SIGNATURE, "g") => signature = reader.signature()?,
                (_, "s" | "o") => drop(reader.text()?),
                (_, "g") => drop(reader.signature()?),
                (_, "u") => drop(reader.u32()?),
                _ => return Err(BusError::Protocol("a header field is of an unknown type")),
            }
        }
        reader.align(8);
        let kind = match bytes.get(1) {
            Some(&METHOD_RETURN) => Kind::Return { to: reply },
            Some(&ERROR) => Kind::Error { to: reply, name },
            Some(&SIGNAL) => Kind::Signal { interface, member },
            _ => Kind::Other,
        };
        let body = bytes.get(reader.at..).unwrap_or_default().to_vec();
        Ok(Self { kind, signature, body })
    }

    /// The body's first text, be it a path, or inside of a variant; empty if it begins with something else.
    pub(super) fn text(&self) -> Result<String, BusError> {
        let mut reader = Reader { bytes: &self.body, at: 0 };
        match self.signature.bytes().next() {
            Some(b's' | b'o') => reader.text(),
            Some(b'v') if reader.signature()? == "s" => reader.text(),
            _ => Ok(String::new()),
        }
    }

    /// Of the signal `JobRemoved`: the job and its result.
    pub(super) fn removed_job(&self) -> Result<(String, String), BusError> {
        if self.signature != "uoss" {
            return Err(BusError::Protocol("a job's end is told in another way"));
        }
        let mut reader = Reader { bytes: &self.body, at: 0 };
        reader.u32()?;
        let job = reader.text()?;
        reader.text()?;
        Ok((job, reader.text()?))
    }
}

/// Bytes that are being read; they end where they end.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, length: usize) -> Result<&[u8], BusError> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or(BusError::Protocol("a message is cut off"))?;
        let taken = self.bytes.get(self.at..end).unwrap_or_default();
        self.at = end;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, BusError> {
        Ok(self.take(1)?.first().copied().unwrap_or_default())
    }

    fn u32(&mut self) -> Result<u32, BusError> {
        self.align(4);
        let bytes = self.take(4)?.try_into().map(u32::from_ne_bytes);
        bytes.map_err(|_| BusError::Protocol("a message is cut off"))
    }

    fn string(&mut self, length: usize) -> Result<String, BusError> {
        let text = String::from_utf8(self.take(length)?.to_vec());
        self.byte()?;
        text.map_err(|_| BusError::Protocol("a text is none"))
    }

    fn text(&mut self) -> Result<String, BusError> {
        let length = self.u32()? as usize;
        self.string(length)
    }

    fn signature(&mut self) -> Result<String, BusError> {
        let length = self.byte()?.into();
        self.string(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixed(bytes: &[u8]) -> [u8; FIXED] {
        bytes[..FIXED].try_into().unwrap()
    }

    #[test]
    fn a_call_is_as_the_specification_has_it() {
        let method = Method {
            destination: Some("org.freedesktop.DBus"),
            path: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
            member: "Hello",
            signature: "",
        };
        let call = method.call(1, &Writer::default());
        if cfg!(target_endian = "little") {
            // What `dbus-monitor --binary` shows of the same call.
            let begin = b"l\x01\x00\x01\x00\x00\x00\x00\x01\x00\x00\x00\x6d\x00\x00\x00\x01\x01o\x00\x15\x00\x00\x00/org";
            assert_eq!(call.get(..begin.len()).unwrap(), begin);
        }
        assert_eq!(call.len() % 8, 0);
        assert_eq!(whole_length(&fixed(&call)).unwrap(), call.len());
        assert_eq!(Message::parse(&call).unwrap().kind, Kind::Other);
    }

    #[test]
    fn properties_are_aligned() {
        let mut body = Writer::default();
        body.text("x.scope");
        body.properties(&[
            ("PIDs".to_owned(), Value::Numbers(vec![7])),
            ("TasksMax".to_owned(), Value::U64(9)),
        ]);
        // The array's length stands at 12, its first item at 16, as structures do.
        assert_eq!(body.0[12..16], 48u32.to_ne_bytes());
        assert_eq!(&body.0[16..25], &[&4u32.to_ne_bytes()[..], b"PIDs\0"].concat()[..]);
        assert_eq!(body.0[body.0.len() - 8..], 9u64.to_ne_bytes());
    }

    #[test]
    fn what_is_cut_off_or_too_long_is_an_error() {
        let method = Method {
            destination: None,
            path: "/",
            interface: "a.b",
            member: "C",
            signature: "uoss",
        };
        let mut body = Writer::default();
        body.u32(1);
        ["/job", "x.scope", "done"].iter().for_each(|text| body.text(text));
        let mut signal = method.call(1, &body);
        signal[1] = SIGNAL;
        let message = Message::parse(&signal).unwrap();
        assert_eq!(message.removed_job().unwrap(), ("/job".to_owned(), "done".to_owned()));
        for end in FIXED..signal.len() {
            let cut = Message::parse(&signal[..end]);
            assert!(cut.and_then(|message| message.removed_job()).is_err(), "{end}");
        }
        let mut long = fixed(&signal);
        long[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert!(whole_length(&long).is_err());
        long[0] = b'?';
        assert!(whole_length(&long).is_err());
    }
}
