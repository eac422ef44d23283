//! PAX extended header records.
//!
//! Sources: POSIX.1-2017 pax, "pax Extended Header"; GNU tar manual, "Sparse Formats"; star(5) for `SCHILY.xattr`.

use super::header::{Problem, id};
use super::sparse::{Extent, Map};
use crate::unpack::limits::MAX_NAME;

/// The longest value of an extended attribute, in bytes (`XATTR_SIZE_MAX`).
const MAX_XATTR: usize = 64 << 10;

/// A point in time: seconds since 1970, rounded down, and nanoseconds after that.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Time {
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
}

/// An extended attribute: its full name and its value.
pub(crate) type Xattr = (Vec<u8>, Vec<u8>);

/// What the extended headers say about the next file.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) path: Option<Vec<u8>>,
    pub(super) linkpath: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) mtime: Option<Time>,
    pub(super) xattrs: Vec<Xattr>,
    pub(super) sparse: Sparse,
}

/// The `GNU.sparse.*` records.
#[derive(Debug, Default)]
pub(super) struct Sparse {
    pub(super) major: Option<u64>,
    pub(super) minor: Option<u64>,
    pub(super) name: Option<Vec<u8>>,
    pub(super) real_size: Option<u64>,
    blocks: Option<u64>,
    pub(super) map: Option<Map>,
    offset: Option<u64>,
}

impl Sparse {
    /// Whether any of them was there.
    pub(super) fn is_present(&self) -> bool {
        self.major.is_some()
            || self.minor.is_some()
            || self.name.is_some()
            || self.real_size.is_some()
            || self.blocks.is_some()
            || self.map.is_some()
    }

    /// The complete map of formats 0.0 and 0.1.
    pub(super) fn finished_map(&mut self) -> Result<Option<Map>, Problem> {
        if self.offset.is_some() {
            return Err("sparse map ends inside a pair");
        }
        let map = self.map.take();
        match (&map, self.blocks) {
            (Some(map), Some(blocks)) if map.len() != blocks => {
                Err("sparse map has another length than it says")
            }
            _ => Ok(map),
        }
    }
}

/// Applies the records of one `x` header, which hold for the next file only.
///
/// A later record of the same keyword replaces the earlier one, and an empty value means that the keyword's standard
/// field holds.
pub(super) fn parse_local(data: &[u8], extents: u64) -> Result<Records, Problem> {
    let mut records = Records::default();
    each(data, |keyword, value| records.apply(keyword, value, extents))?;
    Ok(records)
}

/// Applies the records of one `g` header, which hold for all following files.
///
/// Go's reader, and with it docker and every scanner built on it, ignores these, while GNU tar applies them. What is
/// in the layer must not depend on who looks, so only keywords that change no name, no size and no content are taken.
pub(super) fn parse_global(data: &[u8], records: &mut Records) -> Result<(), Problem> {
    each(data, |keyword, value| match keyword {
        b"uid" | b"gid" | b"mtime" => records.apply(keyword, value, 0),
        b"path" | b"linkpath" | b"size" => Err("global header names a path or a size"),
        _ if keyword.starts_with(b"GNU.sparse.") || keyword.starts_with(b"SCHILY.xattr.") => {
            Err("global header describes content")
        }
        _ => Ok(()),
    })
}

/// Calls `apply` for each record: `LENGTH KEYWORD=VALUE\n`, where LENGTH counts the whole record.
fn each(
    mut data: &[u8],
    mut apply: impl FnMut(&[u8], &[u8]) -> Result<(), Problem>,
) -> Result<(), Problem> {
    const BAD: Problem = "malformed extended header record";
    while !data.is_empty() {
        let digits = data.iter().take(9).take_while(|b| b.is_ascii_digit()).count();
        if data.get(digits) != Some(&b' ') {
            return Err(BAD);
        }
        let length = usize::try_from(decimal(&data[..digits])?).map_err(|_| BAD)?;
        let record = data.get(digits + 1..length).ok_or(BAD)?;
        let Some((b'\n', record)) = record.split_last() else { return Err(BAD) };
        let equals = record.iter().position(|b| *b == b'=').ok_or(BAD)?;
        let (keyword, value) = (&record[..equals], &record[equals + 1..]);
        if keyword.is_empty() || keyword.contains(&0) {
            return Err(BAD);
        }
        apply(keyword, value)?;
        data = &data[length..];
    }
    Ok(())
}

impl Records {
    fn apply(&mut self, keyword: &[u8], value: &[u8], extents: u64) -> Result<(), Problem> {
        if let Some(name) = keyword.strip_prefix(b"SCHILY.xattr.") {
            return self.xattr(name, value);
        }
        if let Some(keyword) = keyword.strip_prefix(b"GNU.sparse.") {
            return self.sparse.apply(keyword, value, extents);
        }
        let empty = value.is_empty();
        match keyword {
            b"path" => self.path = path(value)?,
            b"linkpath" => self.linkpath = path(value)?,
            b"size" if empty => self.size = None,
            b"size" => self.size = Some(decimal(value)?),
            b"uid" if empty => self.uid = None,
            b"uid" => self.uid = Some(id(decimal(value)?)?),
            b"gid" if empty => self.gid = None,
            b"gid" => self.gid = Some(id(decimal(value)?)?),
            b"mtime" if empty => self.mtime = None,
            b"mtime" => self.mtime = Some(time(value)?),
            // `atime`, `ctime`, `uname`, `gname`, `comment`, vendors' own: nothing that an unpacked tree keeps.
            _ => {}
        }
        Ok(())
    }

    fn xattr(&mut self, name: &[u8], value: &[u8]) -> Result<(), Problem> {
        if name.len() > MAX_NAME {
            return Err("extended attribute with a name longer than 255 bytes");
        }
        if !name.iter().skip(1).any(|b| *b == b'.') {
            return Err("extended attribute without a namespace");
        }
        if value.len() > MAX_XATTR {
            return Err("extended attribute with a value longer than 64 KiB");
        }
        self.xattrs.retain(|(known, _)| known != name);
        self.xattrs.push((name.to_vec(), value.to_vec()));
        Ok(())
    }
}

impl Sparse {
    fn apply(&mut self, keyword: &[u8], value: &[u8], extents: u64) -> Result<(), Problem> {
        match keyword {
            b"major" => self.major = Some(decimal(value)?),
            b"minor" => self.minor = Some(decimal(value)?),
            b"name" => self.name = path(value)?,
            b"size" | b"realsize" => self.real_size = Some(decimal(value)?),
            b"numblocks" => self.blocks = Some(decimal(value)?),
            // Format 0.0: one pair of records for each extent.
            b"offset" if self.offset.is_none() => self.offset = Some(decimal(value)?),
            b"numbytes" => {
                let offset = self.offset.take().ok_or("sparse map begins inside a pair")?;
                let extent = Extent { offset, length: decimal(value)? };
                self.map.get_or_insert_default().push(extent, extents)?;
            }
            // Format 0.1: all numbers in one record.
            b"map" if self.map.is_none() => {
                let mut map = Map::default();
                let mut numbers = value.split(|b| *b == b',').map(decimal);
                while let Some(offset) = numbers.next() {
                    let length = numbers.next().ok_or("sparse map ends inside a pair")??;
                    map.push(Extent { offset: offset?, length }, extents)?;
                }
                self.map = Some(map);
            }
            _ => return Err("unknown sparse file record"),
        }
        Ok(())
    }
}

fn path(value: &[u8]) -> Result<Option<Vec<u8>>, Problem> {
    if value.contains(&0) {
        return Err("name with a NUL");
    }
    Ok((!value.is_empty()).then(|| value.to_vec()))
}

/// An unsigned decimal number without sign or blanks.
pub(super) fn decimal(text: &[u8]) -> Result<u64, Problem> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return Err("malformed decimal number");
    }
    let mut value: u64 = 0;
    for digit in text {
        value = value
            .checked_mul(10)
            .and_then(|value| value.checked_add(u64::from(digit - b'0')))
            .filter(|value| i64::try_from(*value).is_ok())
            .ok_or("number out of range")?;
    }
    Ok(value)
}

/// `[-]SECONDS[.FRACTION]`; digits past the nanosecond are cut off.
fn time(text: &[u8]) -> Result<Time, Problem> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let point = text.iter().position(|b| *b == b'.').unwrap_or(text.len());
    let seconds = i64::try_from(decimal(&text[..point])?).map_err(|_| "number out of range")?;
    let mut nanoseconds = 0;
    let fraction = text.get(point + 1..).unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err("malformed time");
    }
    for place in 0..9 {
        let digit = fraction.get(place).map_or(0, |b| b - b'0');
        nanoseconds = nanoseconds * 10 + u32::from(digit);
    }
    Ok(match (negative, nanoseconds) {
        (false, _) => Time { seconds, nanoseconds },
        (true, 0) => Time { seconds: -seconds, nanoseconds },
        (true, _) => Time { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let table: [(&str, i64, u32); 6] = [
            ("0", 0, 0),
            ("1.5", 1, 500_000_000),
            ("-1.5", -2, 500_000_000),
            ("-3", -3, 0),
            ("1350244992.023960108", 1_350_244_992, 23_960_108),
            ("1.1234567899", 1, 123_456_789),
        ];
        for (text, seconds, nanoseconds) in table {
            assert_eq!(time(text.as_bytes()), Ok(Time { seconds, nanoseconds }), "{text}");
        }
        for bad in ["", "-", ".5", "1.x", "1.-5", "+1", "--1", "1e9", "99999999999999999999"] {
            assert!(time(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn records_that_readers_disagree_about_are_refused() {
        for bad in [
            "7 k=1\n",
            "6 k=11\n7 k=1\n",
            "x k=1\n",
            " 6 k=1\n",
            "+6 k=1\n",
            "5 k=1",
            "4 =\n",
            "5 =1\n",
            "4 k\n",
            "999999999999 k=1\n",
            "0 k=1\n",
            "2 k=1\n",
            "12 path=a\0b\n",
            "10 size=-1\n",
            "10 size=+1\n",
            "28 size=18446744073709551616\n",
            "18 SCHILY.xattr.=\n",
            "25 SCHILY.xattr.user=val\n",
        ] {
            assert!(parse_local(bad.as_bytes(), 9).is_err(), "{bad:?}");
        }
        let records = parse_local(b"9 size=5\n8 uid=7\n9 size=6\n7 uid=\n", 9).unwrap();
        assert_eq!((records.size, records.uid), (Some(6), None));
    }
}
