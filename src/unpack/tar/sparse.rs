//! Maps of sparse files: where the stored bytes belong, and what must hold for a map.
//!
//! Source: GNU tar manual, "Storing Sparse Files".

use super::header::{BLOCK, Header, Problem, number};

/// A stretch of stored data, in bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Extent {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// The extents of one file in ascending order; what lies between them is zeros.
#[derive(Debug, Default)]
pub(crate) struct Map(Vec<Extent>);

impl Map {
    pub(super) fn len(&self) -> u64 {
        self.0.len() as u64
    }

    pub(super) fn push(&mut self, extent: Extent, most: u64) -> Result<(), Problem> {
        if self.len() >= most {
            return Err("sparse file with too many extents");
        }
        self.0.push(extent);
        Ok(())
    }

    /// The extents, once the map fits a file of `real_size` bytes of which `stored` bytes are in the archive.
    ///
    /// GNU tar reads each extent from the start of a block, Go's reader does not; and it ends the file with the last extent,
    /// where Go goes on to the size that is said. Maps where that would make a difference are refused; writers fill their
    /// blocks, and have an empty extent at the end of a file that ends in a hole.
    pub(super) fn check(self, real_size: u64, stored: u64) -> Result<Vec<Extent>, Problem> {
        let (mut end, mut sum) = (0_u64, 0_u64);
        for extent in &self.0 {
            if extent.offset < end {
                return Err("sparse file with overlapping extents");
            }
            if sum % BLOCK as u64 != 0 && extent.length != 0 {
                return Err("sparse file with an extent that does not fill its blocks");
            }
            end = extent.offset.checked_add(extent.length).ok_or("number out of range")?;
            sum = sum.checked_add(extent.length).ok_or("number out of range")?;
        }
        if end > real_size {
            return Err("sparse file with an extent behind its end");
        }
        if end < real_size {
            return Err("sparse file that goes on behind its last extent");
        }
        if sum != stored {
            return Err("sparse file whose extents are not what is stored");
        }
        Ok(self.0)
    }
}

/// Adds the pairs of an old GNU header or continuation block, up to the first empty one.
fn add_pairs(map: &mut Map, pairs: &[u8], most: u64) -> Result<(), Problem> {
    for pair in pairs.chunks_exact(24) {
        if pair[0] == 0 {
            break;
        }
        let extent = Extent { offset: number(&pair[..12])?, length: number(&pair[12..])? };
        map.push(extent, most)?;
    }
    Ok(())
}

/// The map in an old GNU header, whether continuation blocks follow, and the file's size.
pub(super) fn old_gnu(header: Header<'_>, most: u64) -> Result<(Map, bool, u64), Problem> {
    let (pairs, extended, real_size) = header.sparse()?;
    let mut map = Map::default();
    add_pairs(&mut map, pairs, most)?;
    Ok((map, extended, real_size))
}

/// Adds a continuation block; returns whether another one follows.
pub(super) fn old_gnu_more(map: &mut Map, block: &[u8; BLOCK], most: u64) -> Result<bool, Problem> {
    let before = map.len();
    add_pairs(map, &block[..504], most)?;
    if map.len() == before {
        // Otherwise a chain of empty blocks would be free of any limit.
        return Err("empty continuation of a sparse map");
    }
    Ok(block[504] != 0)
}

/// The reader of the map that format 1.0 puts before a file's data: decimal numbers, each ended by a newline; first
/// the number of extents, then their pairs; filled up to a whole block.
#[derive(Debug, Default)]
pub(super) struct MapReader {
    map: Map,
    expected: Option<u64>,
    offset: Option<u64>,
    digits: Vec<u8>,
}

impl MapReader {
    /// Takes one block; returns whether the map is complete.
    pub(super) fn block(&mut self, block: &[u8; BLOCK], most: u64) -> Result<bool, Problem> {
        for byte in block {
            if *byte != b'\n' {
                self.digits.push(*byte);
                if self.digits.len() > 20 {
                    return Err("malformed sparse map");
                }
                continue;
            }
            let number = super::pax::decimal(&self.digits)?;
            self.digits.clear();
            match (self.expected, self.offset.take()) {
                (None, _) if number > most => return Err("sparse file with too many extents"),
                (None, _) => self.expected = Some(number),
                (Some(_), None) => self.offset = Some(number),
                (Some(_), Some(offset)) => {
                    self.map.push(Extent { offset, length: number }, most)?;
                }
            }
            if self.expected == Some(self.map.len()) && self.offset.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) fn finish(self) -> Map {
        self.map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(extents: &[(u64, u64)]) -> Map {
        Map(extents.iter().map(|&(offset, length)| Extent { offset, length }).collect())
    }

    #[test]
    fn maps_must_fit() {
        assert!(map(&[(0, 512), (1024, 100), (5000, 0)]).check(5000, 612).is_ok());
        assert!(map(&[(1 << 40, 0)]).check(1 << 40, 0).is_ok());
        assert!(map(&[]).check(0, 0).is_ok());
        for (extents, real, stored) in [
            (&[(0, 512), (100, 512)][..], 5000, 1024),
            (&[(1024, 512), (0, 512)], 5000, 1024),
            (&[(0, 512)], 100, 512),
            (&[(0, 512)], 513, 512),
            (&[], 1, 0),
            (&[(0, 512)], 512, 511),
            (&[(0, 100), (512, 512)], 5000, 612),
            (&[(u64::MAX, 2)], 5000, 2),
            (&[(0, u64::MAX), (u64::MAX, 512)], u64::MAX, 511),
        ] {
            assert!(map(extents).check(real, stored).is_err(), "{extents:?}");
        }
    }
}
