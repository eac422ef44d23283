//! Packing streams: the other direction of [`super::decoder`].

use std::io::{self, Read, Write};

use super::compression::{Compression, decoder};
use super::error::Error;
use crate::oci::digest::{Algorithm, DiffId, Hasher};

/// How much is decompressed at a time, in bytes.
const CHUNK: usize = 256 << 10;
/// gzip's level, its program's default.
const GZIP_LEVEL: u32 = 6;
/// zstd's level, its program's default.
const ZSTD_LEVEL: i32 = 3;

/// A writer that packs what is written to it. The same bytes are always packed in the same way.
pub struct Encoder<W: Write>(Kind<W>);

enum Kind<W: Write> {
    Plain(W),
    Gzip(flate2::write::GzEncoder<W>),
    Zstd(zstd::Encoder<'static, W>),
}

impl<W: Write> Encoder<W> {
    /// Packs into `out`.
    ///
    /// # Errors
    /// When the encoder cannot be set up: `InvalidInput` for what is only ever unpacked.
    pub fn new(compression: Compression, out: W) -> io::Result<Self> {
        Ok(Self(match compression {
            Compression::None => Kind::Plain(out),
            // The header has neither name nor time.
            Compression::Gzip => {
                let level = flate2::Compression::new(GZIP_LEVEL);
                Kind::Gzip(flate2::GzBuilder::new().write(out, level))
            }
            Compression::Zstd => {
                let mut encoder = zstd::Encoder::new(out, ZSTD_LEVEL)?;
                encoder.include_checksum(true)?;
                Kind::Zstd(encoder)
            }
            Compression::Xz | Compression::Bzip2 => {
                return Err(io::ErrorKind::InvalidInput.into());
            }
        }))
    }

    /// Writes the end of the packed stream.
    ///
    /// # Errors
    /// What the underlying writer reports.
    pub fn finish(self) -> io::Result<W> {
        match self.0 {
            Kind::Plain(out) => Ok(out),
            Kind::Gzip(encoder) => encoder.finish(),
            Kind::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> std::fmt::Debug for Encoder<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Encoder")
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Kind::Plain(out) => out.write(buf),
            Kind::Gzip(encoder) => encoder.write(buf),
            Kind::Zstd(encoder) => encoder.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Kind::Plain(out) => out.flush(),
            Kind::Gzip(encoder) => encoder.flush(),
            Kind::Zstd(encoder) => encoder.flush(),
        }
    }
}

/// The DiffID of a layer, read to its very end, and the size of its archive in bytes.
///
/// # Errors
/// [`Error::Read`]: the bytes could not be read or decompressed.
pub fn measure(
    compressed: impl Read + Send,
    compression: Compression,
    algorithm: Algorithm,
) -> Result<(DiffId, u64), Error> {
    let mut reader = decoder(compression, compressed).map_err(Error::Read)?;
    let mut hasher = Hasher::new(algorithm);
    let (mut buffer, mut size) = (vec![0; CHUNK], 0);
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok((DiffId::new(hasher.finish()), size)),
            Ok(count) => {
                hasher.update(&buffer[..count]);
                size += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::Read(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_unpacks_and_is_always_the_same() {
        let text = b"the same bytes ".repeat(10_000);
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let pack = || {
                let mut encoder = Encoder::new(compression, Vec::new()).unwrap();
                encoder.write_all(&text).unwrap();
                encoder.finish().unwrap()
            };
            let packed = pack();
            assert_eq!(packed, pack());
            let mut unpacked = Vec::new();
            decoder(compression, &packed[..]).unwrap().read_to_end(&mut unpacked).unwrap();
            assert!(unpacked == text, "{compression:?}");
            let (diff_id, size) = measure(&packed[..], compression, Algorithm::Sha256).unwrap();
            assert_eq!(size, text.len() as u64);
            assert_eq!(*diff_id.digest(), crate::oci::digest::Digest::sha256(&text));
        }
        assert!(Encoder::new(Compression::Xz, Vec::new()).is_err());
    }
}
