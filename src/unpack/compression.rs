//! How a layer is packed, and the readers that unpack it.
//!
//! All of them run in this process: a helper program would be looked for in `PATH` (CVE-2014-9357), and would have to be
//! waited for (CVE-2021-20291).

use std::io::{self, BufRead, BufReader, Read};

use super::gzip::GzipReader;

/// The binary logarithm of the longest zstd window, in bytes: 128 MiB, what `zstd --ultra -22` needs and what
/// zstd's own decoder accepts unasked (RFC 8878, section 3.1.1.1.2, recommends to support at least 8 MiB).
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// How much is read from the compressed stream at once, in bytes.
const INPUT: usize = 64 << 10;

/// How a tar archive is packed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Compression {
    /// bzip2, of any number of streams.
    Bzip2,
    /// gzip, of any number of members (RFC 1952).
    Gzip,
    /// Not packed.
    None,
    /// xz, of any number of streams.
    Xz,
    /// zstd, of any number of frames, skippable ones among them (RFC 8878).
    Zstd,
}

impl Compression {
    /// How many bytes [`Compression::sniff`] wants to see.
    pub const SNIFF: usize = 10;

    /// Tells by its first bytes how a stream is packed; what has no known magic number is taken for a tar archive.
    pub fn sniff(prefix: &[u8]) -> Self {
        match prefix {
            [0x1f, 0x8b, 8, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            // The block's magic number behind the level: a tar archive may begin with a file called `BZh9`.
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..]
            | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, 0x45, 0x38, 0x50, 0x90, ..] => {
                Self::Bzip2
            }
            _ => Self::None,
        }
    }
}

/// Unpacks `reader`.
///
/// The stream must be whole: one that ends early, or goes on with something else, ends in an error. That the end was
/// right is only known when a read returns 0.
///
/// # Errors
/// When the decoder cannot be set up.
pub fn decoder<'a>(
    compression: Compression,
    reader: impl Read + Send + 'a,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    let buffered = |reader| BufReader::with_capacity(INPUT, reader);
    Ok(match compression {
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(buffered(reader))),
        Compression::Gzip => Box::new(GzipReader::new(reader)),
        Compression::None => Box::new(reader),
        Compression::Xz => Box::new(super::xz::XzReader::new(buffered(reader))),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(buffered(reader))?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Box::new(decoder)
        }
    })
}

/// Like [`decoder`], for a stream of which a cryptographic digest will be taken and compared.
pub(super) fn decoder_of_digested<'a>(
    compression: Compression,
    reader: impl Read + Send + 'a,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    match compression {
        Compression::Gzip => Ok(Box::new(GzipReader::new(reader).without_crc())),
        _ => decoder(compression, reader),
    }
}

/// The next buffer of `input`, however often a signal interrupts.
pub(super) fn fill<R: BufRead>(input: &mut R) -> io::Result<&[u8]> {
    while let Err(error) = input.fill_buf() {
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    input.fill_buf()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magic_numbers() {
        let table: [(&[u8], Compression); 9] = [
            (b"\x1f\x8b\x08\0", Compression::Gzip),
            (b"\x1f\x8b\x07\0", Compression::None),
            (b"\x28\xb5\x2f\xfd", Compression::Zstd),
            (b"\x5a\x2a\x4d\x18", Compression::Zstd),
            (b"\xfd7zXZ\0\0", Compression::Xz),
            (b"BZh91AY&SY", Compression::Bzip2),
            (b"BZh9/readme", Compression::None),
            (b"usr/", Compression::None),
            (b"", Compression::None),
        ];
        for (prefix, compression) in table {
            assert_eq!(Compression::sniff(prefix), compression, "{}", prefix.escape_ascii());
        }
    }
}
