//! Content digests, and the reader that refuses to hand out bytes that do not match theirs.
//!
//! A [`Digest`] can only be made by parsing the exact form that the image-spec allows or by hashing, so that a file
//! name or a URL made from one never holds anything but an algorithm's name and lower-case hexadecimal digits
//! (CVE-2024-3727: a digest of `sha256:../../etc/cron.d/x` used as a file name).
//!
//! Specification: image-spec, `descriptor.md`, section "Digests".

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256, Sha512};

/// A digest algorithm that this program verifies.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Algorithm {
    /// SHA-256, the one that every registry uses.
    Sha256,
    /// SHA-512, which the image-spec registers beside it.
    Sha512,
}

impl Algorithm {
    /// The name as it stands before the colon of a digest.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn hex_len(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

/// A verified-form content digest, such as `sha256:6c3c624b58dbbcd3…`.
#[derive(Clone, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest {
    algorithm: Algorithm,
    encoded: String,
}

/// Why a text is not a digest.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DigestError {
    /// The algorithm is neither `sha256` nor `sha512`.
    #[error("unsupported digest algorithm in `{0}`")]
    Algorithm(String),
    /// The part after the colon has the wrong length or characters.
    #[error("malformed digest `{0}`")]
    Malformed(String),
}

impl Digest {
    /// The SHA-256 digest of `bytes`.
    pub fn sha256(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(bytes);
        hasher.finish()
    }

    /// The algorithm before the colon.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The lower-case hexadecimal digits behind the colon.
    pub fn encoded(&self) -> &str {
        &self.encoded
    }

    /// The first twelve hexadecimal digits, as docker shows an image's id.
    pub fn short(&self) -> &str {
        &self.encoded[..12]
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        // A hostile document may hold a megabyte here; an error repeats no more of it than a person reads.
        let shown = || text.chars().take(96).collect::<String>();
        let (name, encoded) =
            text.split_once(':').ok_or_else(|| DigestError::Malformed(shown()))?;
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => return Err(DigestError::Algorithm(shown())),
        };
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if encoded.len() != algorithm.hex_len() || !encoded.bytes().all(hex) {
            return Err(DigestError::Malformed(shown()));
        }
        Ok(Self { algorithm, encoded: encoded.to_owned() })
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), self.encoded)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

macro_rules! digest_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
        #[serde(transparent)]
        pub struct $name(Digest);

        impl $name {
            /// Says that `digest` is one of these.
            pub fn new(digest: Digest) -> Self {
                Self(digest)
            }

            /// The digest itself.
            pub fn digest(&self) -> &Digest {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

digest_newtype!(
    /// The digest of a layer's uncompressed tar archive (image-spec, `config.md`, "Layer DiffID").
    DiffId
);
digest_newtype!(
    /// The digest of an image's configuration, which is the image's identity (image-spec, `config.md`, "ImageID").
    ImageId
);

/// A digest in the making.
#[derive(Clone)]
pub struct Hasher(State);

#[derive(Clone)]
enum State {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    /// Starts with no bytes hashed.
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
            Algorithm::Sha512 => State::Sha512(Sha512::new()),
        })
    }

    /// Adds `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
        }
    }

    /// The digest of all bytes added.
    pub fn finish(self) -> Digest {
        let (algorithm, bytes): (_, Vec<u8>) = match self.0 {
            State::Sha256(state) => (Algorithm::Sha256, state.finalize().to_vec()),
            State::Sha512(state) => (Algorithm::Sha512, state.finalize().to_vec()),
        };
        let mut encoded = String::with_capacity(bytes.len() * 2);
        for byte in bytes {
            for nibble in [byte >> 4, byte & 0xf] {
                encoded.push(char::from(b"0123456789abcdef"[usize::from(nibble)]));
            }
        }
        Digest { algorithm, encoded }
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher")
    }
}

/// What a [`VerifyReader`] found wrong. It travels inside an [`io::Error`]; [`Mismatch::of`] gets it out again.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Mismatch {
    /// The bytes hash to something else.
    #[error("digest mismatch: expected {expected}, got {actual}")]
    Digest {
        /// What the descriptor says.
        expected: Digest,
        /// What the bytes hash to.
        actual: Digest,
    },
    /// The body goes on after the promised size.
    #[error("body is longer than the {expected} bytes of its descriptor")]
    TooLong {
        /// The descriptor's size, in bytes.
        expected: u64,
    },
    /// The body ended early.
    #[error("body ended after {actual} of {expected} bytes")]
    TooShort {
        /// The descriptor's size, in bytes.
        expected: u64,
        /// The bytes that came.
        actual: u64,
    },
}

impl Mismatch {
    /// The mismatch inside an I/O error that a [`VerifyReader`] raised, if it is one.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

/// A reader that checks the size and the digest of what passes through, and turns a wrong end into an error.
///
/// A consumer must read to the end (a read that returns 0) before it trusts anything. After a mismatch every further read
/// reports it again.
#[derive(Debug)]
pub struct VerifyReader<R> {
    inner: R,
    hasher: Option<Hasher>,
    expected: Digest,
    size: u64,
    seen: u64,
    failed: Option<Mismatch>,
}

impl<R: Read> VerifyReader<R> {
    /// Expects exactly `size` bytes from `inner` that hash to `expected`.
    pub fn new(inner: R, expected: Digest, size: u64) -> Self {
        let hasher = Some(Hasher::new(expected.algorithm()));
        Self { inner, hasher, expected, size, seen: 0, failed: None }
    }

    fn check_end(&mut self) -> io::Result<()> {
        let Some(hasher) = self.hasher.take() else { return Ok(()) };
        let mismatch = if self.seen < self.size {
            Mismatch::TooShort { expected: self.size, actual: self.seen }
        } else {
            let actual = hasher.finish();
            if actual == self.expected {
                return Ok(());
            }
            Mismatch::Digest { expected: self.expected.clone(), actual }
        };
        Err(self.fail(mismatch))
    }

    fn fail(&mut self, mismatch: Mismatch) -> io::Error {
        self.failed = Some(mismatch.clone());
        io::Error::new(io::ErrorKind::InvalidData, mismatch)
    }
}

impl<R: Read> Read for VerifyReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        if let Some(mismatch) = self.failed.take() {
            return Err(self.fail(mismatch));
        }
        let n = self.inner.read(buf)?;
        if n == 0 {
            self.check_end()?;
            return Ok(0);
        }
        self.seen += n as u64;
        if self.seen > self.size {
            return Err(self.fail(Mismatch::TooLong { expected: self.size }));
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buf[..n]);
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_form_is_a_digest() {
        let good = format!("sha256:{}", "0a".repeat(32));
        assert_eq!(good.parse::<Digest>().unwrap().to_string(), good);
        for bad in [
            "",
            "sha256",
            "sha256:",
            "sha256:../../x",
            "sha256:%2f",
            "md5:d41d8cd98f00b204e9800998ecf8427e",
            &format!("sha256:{}", "0A".repeat(32)),
            &format!("sha256:{}", "0".repeat(63)),
            &format!("sha256:{}\0", "0".repeat(63)),
            &format!("sha512:{}", "0".repeat(64)),
            &format!("sha256:{}", "0".repeat(1_000_000)),
        ] {
            let error = bad.parse::<Digest>().unwrap_err().to_string();
            assert!(error.len() < 200, "{error}");
        }
    }

    #[test]
    fn verify_reader_judges_size_and_bytes() {
        let body = b"hello";
        let digest = Digest::sha256(body);
        let read = |expected: &Digest, size: u64| {
            let mut out = Vec::new();
            VerifyReader::new(&body[..], expected.clone(), size).read_to_end(&mut out).map(|_| out)
        };
        assert_eq!(read(&digest, 5).unwrap(), body);
        let why =
            |result: io::Result<Vec<u8>>| Mismatch::of(&result.unwrap_err()).cloned().unwrap();
        assert!(matches!(why(read(&digest, 4)), Mismatch::TooLong { expected: 4 }));
        assert!(matches!(why(read(&digest, 6)), Mismatch::TooShort { expected: 6, actual: 5 }));
        assert!(matches!(why(read(&Digest::sha256(b"x"), 5)), Mismatch::Digest { .. }));
        // One who does not heed it hears it again.
        for (expected, size) in [(&digest, 4), (&digest, 6), (&Digest::sha256(b"x"), 5)] {
            let mut reader = VerifyReader::new(&body[..], expected.clone(), size);
            for _ in 0..3 {
                assert!(reader.read_to_end(&mut Vec::new()).is_err());
            }
        }
    }
}
