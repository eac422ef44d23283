//! xz ("The .xz File Format", version 1.2.1): streams, blocks and their checks, around a library's LZMA2 decoder.
//!
//! The container is read here and not by the library because a block's header sizes the decoder's dictionary, up to
//! 4 GiB, and that has to be bounded.

use std::io::{self, BufRead, Read};

use flate2::Crc;
use lzma_rust2::Lzma2Reader;
use sha2::{Digest as _, Sha256};

use super::compression::fill;

const MAGIC: [u8; 6] = [0xfd, b'7', b'z', b'X', b'Z', 0];
/// The LZMA2 filter's id (section 5.3.1).
const LZMA2: u64 = 0x21;
/// The largest dictionary, in bytes: twice what `xz -9` uses.
const MAX_DICTIONARY: u32 = 128 << 20;

/// A decompressing reader that ends only where a stream ends and nothing but stream padding follows.
pub(super) struct XzReader<R> {
    state: State<R>,
    check: Check,
    /// What the index has to say about the blocks so far.
    blocks: Blocks,
    /// What precedes the present block's data: its header, in bytes.
    header_size: u64,
}

enum State<R> {
    /// Before a stream; whether it is the first.
    Stream(Counted<R>, bool),
    /// Inside a stream, before a block or the index.
    Header(Counted<R>),
    Block(Box<Block<R>>),
    /// The end has been reached and was in order, or an error has been returned.
    End,
}

struct Block<R> {
    data: Lzma2Reader<Counted<R>>,
    sum: Sum,
    size: u64,
    expected_compressed: Option<u64>,
    expected_size: Option<u64>,
}

/// A running digest of the blocks' sizes, so that an index of any length is compared in constant memory.
#[derive(Default)]
struct Blocks {
    count: u64,
    digest: Sha256,
}

impl Blocks {
    fn add(&mut self, unpadded: u64, uncompressed: u64) {
        self.count += 1;
        self.digest.update(unpadded.to_le_bytes());
        self.digest.update(uncompressed.to_le_bytes());
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Check {
    None,
    Crc32,
    Crc64,
    Sha256,
}

enum Sum {
    None,
    Crc32(Crc),
    Crc64(u64),
    Sha256(Box<Sha256>),
}

impl Sum {
    fn new(check: Check) -> Self {
        match check {
            Check::None => Self::None,
            Check::Crc32 => Self::Crc32(Crc::new()),
            Check::Crc64 => Self::Crc64(!0),
            Check::Sha256 => Self::Sha256(Box::default()),
        }
    }

    fn update(&mut self, data: &[u8]) {
        match self {
            Self::None => {}
            Self::Crc32(crc) => crc.update(data),
            Self::Crc64(crc) => {
                for byte in data {
                    *crc = CRC64[usize::from(crc.to_le_bytes()[0] ^ byte)] ^ (*crc >> 8);
                }
            }
            Self::Sha256(digest) => digest.update(data),
        }
    }

    fn finish(self) -> Vec<u8> {
        match self {
            Self::None => Vec::new(),
            Self::Crc32(crc) => crc.sum().to_le_bytes().to_vec(),
            Self::Crc64(crc) => (!crc).to_le_bytes().to_vec(),
            Self::Sha256(digest) => digest.finalize().to_vec(),
        }
    }
}

/// The table of CRC-64/XZ, polynomial from ECMA-182.
const CRC64: [u64; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = i as u64;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ (crc & 1).wrapping_neg() & 0xc96c_5795_d787_0f42;
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
};

/// A reader that counts what passes through.
struct Counted<R> {
    inner: R,
    count: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.count += n as u64;
        Ok(n)
    }
}

impl<R: Read> Counted<R> {
    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Reads the zeros that fill up to a multiple of four bytes since `start`.
    fn padding(&mut self, start: u64) -> io::Result<()> {
        while !(self.count - start).is_multiple_of(4) {
            if self.array::<1>()? != [0] {
                return Err(corrupt());
            }
        }
        Ok(())
    }
}

impl<R: BufRead> XzReader<R> {
    pub(super) fn new(inner: R) -> Self {
        let state = State::Stream(Counted { inner, count: 0 }, true);
        Self { state, check: Check::None, blocks: Blocks::default(), header_size: 0 }
    }

    /// Reads a stream's header, or finds that there is none any more (sections 2.1.1, 2.2).
    fn stream(&mut self, mut input: Counted<R>, first: bool) -> io::Result<State<R>> {
        let start = input.count;
        while !first && fill(&mut input.inner)?.first() == Some(&0) {
            input.array::<1>()?;
        }
        if !(input.count - start).is_multiple_of(4) {
            return Err(corrupt());
        }
        if !first && fill(&mut input.inner)?.is_empty() {
            return Ok(State::End);
        }
        let header: [u8; 12] = input.array()?;
        if header[..6] != MAGIC || crc32(&header[6..8]) != header[8..] {
            return Err(corrupt());
        }
        self.check = match header[6..8] {
            [0, 0] => Check::None,
            [0, 1] => Check::Crc32,
            [0, 4] => Check::Crc64,
            [0, 10] => Check::Sha256,
            _ => return Err(unsupported("xz stream with an unknown check")),
        };
        self.blocks = Blocks::default();
        Ok(State::Header(input))
    }

    /// Reads a block's header (section 3.1), or the index and the footer.
    fn header(&mut self, mut input: Counted<R>) -> io::Result<State<R>> {
        let start = input.count;
        let [size] = input.array::<1>()?;
        if size == 0 {
            self.index(&mut input, start)?;
            return Ok(State::Stream(input, false));
        }
        self.header_size = (u64::from(size) + 1) * 4;
        let mut header = vec![size; usize::from(size) * 4];
        input.read_exact(&mut header[1..])?;
        if crc32(&header) != input.array::<4>()? {
            return Err(corrupt());
        }
        let flags = header[1];
        if flags & 0x3c != 0 {
            return Err(corrupt());
        }
        if flags & 3 != 0 {
            return Err(unsupported("xz stream with a filter other than LZMA2"));
        }
        let mut rest = &header[2..];
        let expected_compressed = if flags & 0x40 != 0 { Some(varint(&mut rest)?) } else { None };
        let expected_size = if flags & 0x80 != 0 { Some(varint(&mut rest)?) } else { None };
        if varint(&mut rest)? != LZMA2 || varint(&mut rest)? != 1 {
            return Err(unsupported("xz stream with a filter other than LZMA2"));
        }
        let Some((dictionary, padding)) = rest.split_first() else { return Err(corrupt()) };
        if padding.iter().any(|b| *b != 0) {
            return Err(corrupt());
        }
        let dictionary = dictionary_size(*dictionary)?;
        let input = Counted { inner: input.inner, count: 0 };
        Ok(State::Block(Box::new(Block {
            data: Lzma2Reader::new(input, dictionary, None),
            sum: Sum::new(self.check),
            size: 0,
            expected_compressed,
            expected_size,
        })))
    }

    /// Reads what follows a block's data: padding and check (sections 3.3, 3.4).
    fn block_end(&mut self, block: Block<R>) -> io::Result<State<R>> {
        let mut input = block.data.into_inner();
        let compressed = input.count;
        if block.expected_compressed.is_some_and(|n| n != compressed)
            || block.expected_size.is_some_and(|n| n != block.size)
        {
            return Err(corrupt());
        }
        input.padding(0)?;
        let expected = block.sum.finish();
        let mut check = vec![0; expected.len()];
        input.read_exact(&mut check)?;
        if check != expected {
            return Err(corrupt());
        }
        self.blocks.add(self.header_size + compressed + check.len() as u64, block.size);
        Ok(State::Header(input))
    }

    /// Reads the index, of which the indicator has been read, and the footer (sections 4 and 2.1.2).
    fn index(&mut self, input: &mut Counted<R>, start: u64) -> io::Result<()> {
        let mut crc = Crc::new();
        crc.update(&[0]);
        let mut next = |input: &mut Counted<R>| -> io::Result<u64> {
            let mut bytes = Vec::with_capacity(9);
            loop {
                let [byte] = input.array::<1>()?;
                bytes.push(byte);
                if byte & 0x80 == 0 || bytes.len() == 9 {
                    crc.update(&bytes);
                    return varint(&mut bytes.as_slice());
                }
            }
        };
        let mut seen = Blocks::default();
        let count = next(input)?;
        if count != self.blocks.count {
            return Err(corrupt());
        }
        for _ in 0..count {
            seen.add(next(input)?, next(input)?);
        }
        let known = std::mem::take(&mut self.blocks);
        if seen.digest.finalize() != known.digest.finalize() {
            return Err(corrupt());
        }
        let unpadded = input.count;
        input.padding(start)?;
        let padding = usize::try_from(input.count - unpadded).map_err(|_| corrupt())?;
        crc.update(&[0; 3][..padding]);
        if input.array::<4>()? != crc.sum().to_le_bytes() {
            return Err(corrupt());
        }
        let size = input.count - start;
        let footer: [u8; 12] = input.array()?;
        let backward = u32::try_from(size / 4 - 1).map_err(|_| corrupt())?;
        let check = match self.check {
            Check::None => 0,
            Check::Crc32 => 1,
            Check::Crc64 => 4,
            Check::Sha256 => 10,
        };
        let right = crc32(&footer[4..10]) == footer[..4]
            && footer[4..8] == backward.to_le_bytes()
            && footer[8..] == [0, check, b'Y', b'Z'];
        if right { Ok(()) } else { Err(corrupt()) }
    }
}

impl<R: BufRead> Read for XzReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            // An error leaves `End` behind, so that nothing is decoded after it.
            self.state = match std::mem::replace(&mut self.state, State::End) {
                State::End => return Ok(0),
                State::Stream(input, first) => self.stream(input, first)?,
                State::Header(input) => self.header(input)?,
                State::Block(mut block) => {
                    let count = block.data.read(buf)?;
                    if count > 0 {
                        block.sum.update(&buf[..count]);
                        block.size += count as u64;
                        self.state = State::Block(block);
                        return Ok(count);
                    }
                    self.block_end(*block)?
                }
            };
        }
    }
}

/// Seven bits a byte, the lowest first (section 1.2).
fn varint(bytes: &mut &[u8]) -> io::Result<u64> {
    let mut value = 0;
    for i in 0..9 {
        let (byte, rest) = bytes.split_first().ok_or_else(corrupt)?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return if *byte == 0 && i > 0 { Err(corrupt()) } else { Ok(value) };
        }
    }
    Err(corrupt())
}

/// The dictionary's size as the LZMA2 filter's property byte has it (section 5.3.1).
fn dictionary_size(byte: u8) -> io::Result<u32> {
    if byte > 40 {
        return Err(corrupt());
    }
    let exponent = u32::from(byte / 2 + 11);
    match (2 | u64::from(byte & 1)) << exponent {
        size if size <= u64::from(MAX_DICTIONARY) => u32::try_from(size).map_err(|_| corrupt()),
        _ => Err(unsupported("xz stream with a dictionary of more than 128 MiB")),
    }
}

fn crc32(data: &[u8]) -> [u8; 4] {
    let mut crc = Crc::new();
    crc.update(data);
    crc.sum().to_le_bytes()
}

fn corrupt() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "corrupt xz stream")
}

fn unsupported(problem: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, problem)
}
