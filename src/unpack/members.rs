//! Where the files of an archive lie in it, for those who read them in place.

use std::io::{BufReader, Read};

use super::error::Error;
use super::limits::Limits;
use super::tar::{Archive, Entry, Kind};

/// How much is read at a time, in bytes.
const CHUNK: usize = 256 << 10;

/// The bytes of a regular file in an uncompressed archive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Member {
    /// Where they begin, counted from the start of the archive.
    pub offset: u64,
    /// How many they are.
    pub size: u64,
}

/// Calls `see` with the name and the place of each regular file of an uncompressed archive. Links, and files that are
/// not stored as they are, have no such place and are passed over.
///
/// # Errors
/// [`Error`], for a malformed archive.
pub fn members(
    tar: impl Read,
    limits: &Limits,
    mut see: impl FnMut(&[u8], Member),
) -> Result<(), Error> {
    let mut archive = Archive::new(BufReader::with_capacity(CHUNK, tar), limits);
    let mut entry = Entry::default();
    while archive.next_entry(&mut entry)? {
        if entry.kind == Kind::File && entry.extents.is_none() {
            see(&entry.name, Member { offset: archive.offset(), size: entry.size });
        }
    }
    Ok(())
}
