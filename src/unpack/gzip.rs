//! gzip (RFC 1952): any number of members, each with its own checksum.

use std::io::{self, Read};

use flate2::{Crc, Decompress, FlushDecompress, Status};

/// How much compressed data is read at once, in bytes.
const INPUT: usize = 64 << 10;

/// Bits of a member's flags (section 2.3.1).
const FHCRC: u8 = 1 << 1;
const FEXTRA: u8 = 1 << 2;
const FNAME: u8 = 1 << 3;
const FCOMMENT: u8 = 1 << 4;
const RESERVED: u8 = 0xe0;

/// A decompressing reader that ends only where a member ends and nothing but NULs follow.
///
/// gzip(1) pads with NULs when it writes to a device, and image builders have inherited that; anything else behind a
/// member is an error, where gzip(1) would warn and ignore it.
pub(super) struct GzipReader<R> {
    input: Input<R>,
    inflate: Decompress,
    state: State,
    /// The checksum of the present member, if it is wanted.
    crc: Option<Crc>,
    /// The size of what has been decompressed of the present member, modulo 2³².
    size: u32,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    /// Before the first member.
    Start,
    /// Inside a member.
    Member,
    /// Behind a member's data.
    Trailer,
    /// Behind a member.
    Between,
    /// The stream's end has been reached and was in order.
    End,
}

impl<R: Read> GzipReader<R> {
    /// Reads a stream and verifies its checksums.
    pub(super) fn new(reader: R) -> Self {
        let input = Input { reader, buffer: vec![0; INPUT], start: 0, end: 0 };
        let (inflate, crc) = (Decompress::new(false), Some(Crc::new()));
        Self { input, inflate, state: State::Start, crc, size: 0 }
    }

    /// Does not compute the checksums of the data. A cryptographic digest of the same bytes says all that a CRC does,
    /// and the CRC takes a sixth of the time of decompressing.
    pub(super) fn without_crc(self) -> Self {
        Self { crc: None, ..self }
    }

    /// Reads the header of the next member (section 2.3), or finds that there is none.
    fn header(&mut self) -> io::Result<()> {
        let first = self.state == State::Start;
        match self.input.peek()? {
            None if first => return Err(cut_off()),
            None => {
                self.state = State::End;
                return Ok(());
            }
            Some(0) if !first => return self.padding(),
            Some(_) => {}
        }
        let mut crc = Crc::new();
        let mut header = [0; 10];
        self.input.exact(&mut header, &mut crc)?;
        let [0x1f, 0x8b, 8, flags, ..] = header else {
            return Err(invalid("not a gzip stream, or garbage behind it"));
        };
        if flags & RESERVED != 0 {
            return Err(invalid("gzip header with unknown flags"));
        }
        if flags & FEXTRA != 0 {
            let mut length = [0; 2];
            self.input.exact(&mut length, &mut crc)?;
            for _ in 0..u16::from_le_bytes(length) {
                self.input.exact(&mut [0], &mut crc)?;
            }
        }
        for _ in 0..u32::from(flags & FNAME != 0) + u32::from(flags & FCOMMENT != 0) {
            let mut byte = [1];
            while byte != [0] {
                self.input.exact(&mut byte, &mut crc)?;
            }
        }
        if flags & FHCRC != 0 {
            let expected = crc.sum().to_le_bytes();
            let mut stored = [0; 2];
            self.input.exact(&mut stored, &mut crc)?;
            if stored != expected[..2] {
                return Err(invalid("gzip header with a wrong checksum"));
            }
        }
        self.inflate.reset(false);
        self.crc.iter_mut().for_each(Crc::reset);
        self.size = 0;
        self.state = State::Member;
        Ok(())
    }

    fn padding(&mut self) -> io::Result<()> {
        while let Some(byte) = self.input.peek()? {
            if byte != 0 {
                return Err(invalid("garbage behind the gzip stream"));
            }
            self.input.start += 1;
        }
        self.state = State::End;
        Ok(())
    }

    /// Inflates once; the result may be 0 without being the end.
    fn inflate(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let at_end = self.input.peek()?.is_none();
        let input = self.input.buffer.get(self.input.start..self.input.end).unwrap_or_default();
        let (total_in, total_out) = (self.inflate.total_in(), self.inflate.total_out());
        let status = self.inflate.decompress(input, buf, FlushDecompress::None);
        let consumed = usize::try_from(self.inflate.total_in() - total_in);
        let written = usize::try_from(self.inflate.total_out() - total_out);
        let (Ok(status), Ok(consumed), Ok(written)) = (status, consumed, written) else {
            return Err(invalid("corrupt gzip stream"));
        };
        self.input.start += consumed;
        if let (Some(crc), Some(data)) = (&mut self.crc, buf.get(..written)) {
            crc.update(data);
        }
        // The format counts modulo 2³².
        self.size = self.size.wrapping_add(u32::try_from(written).unwrap_or_default());
        match status {
            Status::StreamEnd => self.state = State::Trailer,
            _ if written == 0 && at_end => return Err(cut_off()),
            _ if written == 0 && consumed == 0 => return Err(invalid("corrupt gzip stream")),
            _ => {}
        }
        Ok(written)
    }

    fn trailer(&mut self) -> io::Result<()> {
        let mut trailer = [0; 8];
        self.input.exact(&mut trailer, &mut Crc::new())?;
        let [a, b, c, d, size @ ..] = trailer;
        let crc = self.crc.as_ref().map(Crc::sum);
        if u32::from_le_bytes(size) != self.size
            || crc.is_some_and(|crc| crc != u32::from_le_bytes([a, b, c, d]))
        {
            return Err(invalid("gzip stream with a wrong checksum or size"));
        }
        self.state = State::Between;
        Ok(())
    }
}

impl<R: Read> Read for GzipReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            match self.state {
                State::End => return Ok(0),
                State::Start | State::Between => self.header()?,
                State::Trailer => self.trailer()?,
                State::Member => {
                    let count = self.inflate(buf)?;
                    if count > 0 {
                        return Ok(count);
                    }
                }
            }
        }
    }
}

/// The compressed stream, buffered.
struct Input<R> {
    reader: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl<R: Read> Input<R> {
    /// The next byte, which stays there; `None` at the stream's end.
    fn peek(&mut self) -> io::Result<Option<u8>> {
        if self.start == self.end {
            self.start = 0;
            self.end = loop {
                match self.reader.read(&mut self.buffer) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    other => break other?,
                }
            };
        }
        let next = self.buffer.get(self.start..self.end).unwrap_or_default();
        Ok(next.first().copied())
    }

    fn exact(&mut self, bytes: &mut [u8], crc: &mut Crc) -> io::Result<()> {
        for byte in bytes.iter_mut() {
            *byte = self.peek()?.ok_or_else(cut_off)?;
            self.start += 1;
        }
        crc.update(bytes);
        Ok(())
    }
}

fn invalid(problem: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

fn cut_off() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "gzip stream ends early")
}
