//! Looking at a layer without unpacking it.

use std::io::{BufReader, Read};

use super::compression::{Compression, decoder};
use super::error::Error;
use super::limits::Limits;
use super::tar::{Archive, Entry, Kind};
use crate::oci::digest::{Algorithm, DiffId, Hasher};

/// How much is decompressed at a time, in bytes.
const CHUNK: usize = 256 << 10;

/// The DiffID of a layer, read to its very end.
///
/// # Errors
/// [`Error::Read`]: the bytes could not be read or decompressed.
pub fn diff_id(compressed: impl Read + Send, compression: Compression) -> Result<DiffId, Error> {
    let mut reader = decoder(compression, compressed).map_err(Error::Read)?;
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut buffer = vec![0; CHUNK];
    loop {
        match reader.read(&mut buffer).map_err(Error::Read)? {
            0 => return Ok(DiffId::new(hasher.finish())),
            n => hasher.update(&buffer[..n]),
        }
    }
}

/// Calls `see` with the name of each entry of an uncompressed archive, until it returns `false` or the archive ends.
///
/// # Errors
/// [`Error`], for a malformed archive as far as it has been read.
pub fn names(
    tar: impl Read,
    limits: &Limits,
    mut see: impl FnMut(&[u8]) -> bool,
) -> Result<(), Error> {
    let mut archive = Archive::new(BufReader::with_capacity(CHUNK, tar), limits);
    let mut entry = Entry::default();
    while archive.next_entry(&mut entry)? {
        if !see(&entry.name) {
            break;
        }
    }
    Ok(())
}

/// The sum of the sizes of all regular files of an uncompressed archive, in bytes.
///
/// # Errors
/// [`Error`], for an archive that is malformed or cannot be read.
pub fn file_bytes(tar: impl Read, limits: &Limits) -> Result<u64, Error> {
    let mut archive = Archive::new(BufReader::with_capacity(CHUNK, tar), limits);
    let mut entry = Entry::default();
    let mut sum = 0_u64;
    while archive.next_entry(&mut entry)? {
        if entry.kind == Kind::File {
            sum = sum.saturating_add(entry.size);
        }
    }
    Ok(sum)
}
