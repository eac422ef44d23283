//! One 512-byte header block: its checksum, its dialect, its numbers and its names.
//!
//! Sources: POSIX.1-2017 pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format"; star(5).

/// The unit in which an archive is written.
pub(super) const BLOCK: usize = 512;

/// Which fields a header has beyond those of Version 7.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Dialect {
    /// Old GNU: times where others have a prefix.
    Gnu,
    /// Jörg Schilling's star: a prefix of 131 bytes with times behind it.
    Star,
    /// POSIX: a prefix of 155 bytes.
    Ustar,
    /// Unix Version 7: neither prefix nor magic.
    V7,
}

/// A view of a header block whose checksum has been verified.
#[derive(Clone, Copy)]
pub(super) struct Header<'a> {
    block: &'a [u8; BLOCK],
    pub(super) dialect: Dialect,
}

/// What is wrong with a header.
pub(super) type Problem = &'static str;

impl<'a> Header<'a> {
    /// Verifies the checksum, and that readers agree on where the name is.
    pub(super) fn parse(block: &'a [u8; BLOCK]) -> Result<Self, Problem> {
        let stored = octal(&block[148..156])?;
        let blanked = |i: usize, b: u8| if (148..156).contains(&i) { b' ' } else { b };
        let unsigned: i64 = block.iter().enumerate().map(|(i, b)| i64::from(blanked(i, *b))).sum();
        // Early tars summed signed characters, and every reader still accepts that.
        let high_bits = block.iter().enumerate().filter(|(i, b)| blanked(*i, **b) >= 0x80).count();
        let signed = unsigned - 256 * i64::try_from(high_bits).map_err(|_| "impossible size")?;
        if i64::try_from(stored) != Ok(unsigned) && i64::try_from(stored) != Ok(signed) {
            return Err("checksum does not match");
        }
        let dialect = match (&block[257..263], &block[263..265], &block[508..512]) {
            (b"ustar\0", _, b"tar\0") => Dialect::Star,
            (b"ustar\0", _, _) => Dialect::Ustar,
            (b"ustar ", b" \0", _) => Dialect::Gnu,
            _ => Dialect::V7,
        };
        let header = Self { block, dialect };
        if dialect == Dialect::Gnu {
            // Writers that put a prefix here (Go before 1.8) are read as such by some and not by others.
            header.time(345..357).map_err(|_| "GNU header with a prefix")?;
            header.time(357..369).map_err(|_| "GNU header with a prefix")?;
        }
        // Mode, owners, size and time; an extension header has them, too.
        for range in [100..108, 108..116, 116..124, 124..136, 136..148] {
            header.unused(range)?;
        }
        if dialect == Dialect::Star {
            if !block[345..476].contains(&0) {
                return Err("star header whose prefix does not end");
            }
            header.unused(476..488)?;
            header.unused(488..500)?;
        }
        if dialect != Dialect::V7 {
            header.unused(329..337)?;
            header.unused(337..345)?;
        }
        Ok(header)
    }

    /// A number that may be of no use here: of an entry of another kind, or overridden. Go's reader refuses the header over
    /// it all the same.
    fn unused(&self, range: std::ops::Range<usize>) -> Result<(), Problem> {
        let field = &self.block[range];
        let blank = field.iter().all(|b| matches!(b, 0 | b' '));
        if blank { Ok(()) } else { signed(field).map(drop) }
    }

    fn time(&self, range: std::ops::Range<usize>) -> Result<(), Problem> {
        let field = &self.block[range];
        if field[0] == 0 { Ok(()) } else { signed(field).map(drop) }
    }

    /// The kind of entry.
    pub(super) fn typeflag(&self) -> u8 {
        self.block[156]
    }

    /// Appends the name, with the prefix before it where the dialect has one.
    pub(super) fn name_into(&self, name: &mut Vec<u8>) {
        name.clear();
        let prefix = match self.dialect {
            Dialect::Star => text(&self.block[345..476]),
            Dialect::Ustar => text(&self.block[345..500]),
            Dialect::Gnu | Dialect::V7 => b"",
        };
        if !prefix.is_empty() {
            name.extend_from_slice(prefix);
            name.push(b'/');
        }
        name.extend_from_slice(text(&self.block[0..100]));
    }

    /// What a hard or symbolic link names.
    pub(super) fn linkname(&self) -> &'a [u8] {
        text(&self.block[157..257])
    }

    /// Permissions, set-user-ID, set-group-ID and sticky bit; other bits, which some writers store, mean nothing here.
    pub(super) fn mode(&self) -> Result<u32, Problem> {
        Ok(u32::try_from(number(&self.block[100..108])? & 0o7777).unwrap_or(0))
    }

    pub(super) fn uid(&self) -> Result<u32, Problem> {
        id(number(&self.block[108..116])?)
    }

    pub(super) fn gid(&self) -> Result<u32, Problem> {
        id(number(&self.block[116..124])?)
    }

    /// The size of what follows, in bytes.
    pub(super) fn size(&self) -> Result<u64, Problem> {
        number(&self.block[124..136])
    }

    /// Seconds since 1970.
    pub(super) fn mtime(&self) -> Result<i64, Problem> {
        signed(&self.block[136..148])
    }

    /// The major and minor number of a device.
    pub(super) fn device(&self) -> Result<(u32, u32), Problem> {
        if self.dialect == Dialect::V7 {
            return Err("device without device numbers");
        }
        // What mknod(2) can pass on: 12 bits of major and 20 bits of minor number (kernel, `new_encode_dev`).
        let within = |field, bits: u32| match number(field)? {
            n if n >> bits == 0 => u32::try_from(n).map_err(|_| "device number out of range"),
            _ => Err("device number out of range"),
        };
        Ok((within(&self.block[329..337], 12)?, within(&self.block[337..345], 20)?))
    }

    /// The old GNU sparse map in this header: four extents, whether more blocks follow, and the size of the whole file.
    pub(super) fn sparse(&self) -> Result<(&'a [u8], bool, u64), Problem> {
        if self.dialect != Dialect::Gnu {
            return Err("sparse file in a header that is not GNU");
        }
        Ok((&self.block[386..482], self.block[482] != 0, number(&self.block[483..495])?))
    }
}

/// A number of users or groups. The highest means "no change" to chown(2) and cannot own anything.
pub(super) fn id(number: u64) -> Result<u32, Problem> {
    u32::try_from(number).ok().filter(|id| *id != u32::MAX).ok_or("owner out of range")
}

/// What stands before the first NUL.
pub(super) fn text(field: &[u8]) -> &[u8] {
    field.split(|b| *b == 0).next().unwrap_or_default()
}

/// A field that may not be negative: octal, or base-256 with the top bit set.
pub(super) fn number(field: &[u8]) -> Result<u64, Problem> {
    if field.first().is_some_and(|b| *b & 0x80 != 0) {
        return u64::try_from(base256(field)?).map_err(|_| "negative number");
    }
    octal(field)
}

fn signed(field: &[u8]) -> Result<i64, Problem> {
    if field.first().is_some_and(|b| *b & 0x80 != 0) {
        return base256(field);
    }
    i64::try_from(octal(field)?).map_err(|_| "number out of range")
}

/// Two's complement, most significant byte first; the first byte is a marker, 0x80 or 0xff (GNU tar manual).
fn base256(field: &[u8]) -> Result<i64, Problem> {
    let mut value: i128 = match field.first() {
        Some(0x80) => 0,
        Some(0xff) => -1,
        _ => return Err("unknown form of number"),
    };
    for byte in field.iter().skip(1) {
        value = (value << 8) | i128::from(*byte);
        if i64::try_from(value).is_err() {
            return Err("number out of range");
        }
    }
    i64::try_from(value).map_err(|_| "number out of range")
}

/// Octal digits, spaces before them allowed, ended by a NUL, a space or the field's end. An empty field is 0.
fn octal(field: &[u8]) -> Result<u64, Problem> {
    let start = field.iter().position(|b| *b != b' ').ok_or("blank where a number is expected")?;
    // Some readers pass over a NUL at the beginning, and others stop there.
    if field[start] == 0 && field[start..].iter().any(|b| !matches!(b, 0 | b' ')) {
        return Err("malformed number");
    }
    let mut value: u64 = 0;
    for (i, byte) in field.iter().enumerate().skip(start) {
        match byte {
            b'0'..=b'7' if value >> 61 == 0 => value = (value << 3) | u64::from(byte - b'0'),
            b'0'..=b'7' => return Err("number out of range"),
            0 => break,
            // Behind a space some readers stop and others insist on blanks.
            b' ' if field[i..].iter().take_while(|b| **b != 0).all(|b| *b == b' ') => break,
            _ => return Err("malformed number"),
        }
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let good: [(&[u8], u64); 9] = [
            (b"0000644\0", 0o644),
            (b"   644 \0", 0o644),
            (b"644     ", 0o644),
            (b"00000000", 0),
            (b"\0\0\0\0\0\0\0\0", 0),
            (b"77777777", 0o7777_7777),
            (b"644\0junk", 0o644),
            (b"\x80\0\0\0\0\0\x01\0", 256),
            (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", i64::MAX as u64),
        ];
        for (field, value) in good {
            assert_eq!(number(field), Ok(value), "{}", field.escape_ascii());
        }
        let bad: [&[u8]; 11] = [
            b"        ",
            b"\x000000644",
            b"  \0 644\0",
            b"0000648\0",
            b"64 4\0\0\0\0",
            b"-0000644",
            b"+1AbCdEf",
            b"\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\xc0\0\0\0\0\0\0\x01",
            b"\x80\0\0\0\x80\0\0\0\0\0\0\0",
            b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        ];
        for field in bad {
            assert!(number(field).is_err(), "{}", field.escape_ascii());
        }
        assert_eq!(signed(b"\xff\xff\xff\xff\xff\xff\xff\xfe"), Ok(-2));
        assert_eq!(id(u64::from(u32::MAX)), Err("owner out of range"));
        assert_eq!(id(u64::from(u32::MAX) - 1), Ok(u32::MAX - 1));
    }
}
