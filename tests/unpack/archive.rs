//! A writer of tar archives that lets through whatever a test wants to be wrong.

/// One header block and how to spoil it.
#[derive(Clone)]
pub(crate) struct Header(pub(crate) [u8; 512]);

impl Header {
    pub(crate) fn new(typeflag: u8, name: &str) -> Self {
        let mut header = Self([0; 512]);
        header.bytes(0, &name.as_bytes()[..name.len().min(100)]);
        header.octal(100, 8, if typeflag == b'5' { 0o755 } else { 0o644 });
        header.octal(108, 8, 0);
        header.octal(116, 8, 0);
        header.octal(124, 12, 0);
        header.octal(136, 12, 1_600_000_000);
        header.0[156] = typeflag;
        header.bytes(257, b"ustar\x0000");
        header
    }

    pub(crate) fn bytes(&mut self, offset: usize, bytes: &[u8]) -> &mut Self {
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub(crate) fn octal(&mut self, offset: usize, length: usize, value: u64) -> &mut Self {
        let text = format!("{value:0width$o}\0", width = length - 1);
        // The largest numbers leave no room for a NUL.
        self.bytes(offset, &text.as_bytes()[..length])
    }

    pub(crate) fn link(&mut self, target: &str) -> &mut Self {
        self.bytes(157, target.as_bytes())
    }

    pub(crate) fn mode(&mut self, mode: u64) -> &mut Self {
        self.octal(100, 8, mode)
    }

    pub(crate) fn owner(&mut self, uid: u64, gid: u64) -> &mut Self {
        self.octal(108, 8, uid).octal(116, 8, gid)
    }

    pub(crate) fn size(&mut self, size: u64) -> &mut Self {
        self.octal(124, 12, size)
    }

    pub(crate) fn mtime(&mut self, mtime: u64) -> &mut Self {
        self.octal(136, 12, mtime)
    }

    pub(crate) fn gnu(&mut self) -> &mut Self {
        self.bytes(257, b"ustar  \0")
    }

    pub(crate) fn device(&mut self, major: u64, minor: u64) -> &mut Self {
        self.octal(329, 8, major).octal(337, 8, minor)
    }

    /// The block with its checksum.
    pub(crate) fn block(&self) -> [u8; 512] {
        let mut block = self.0;
        block[148..156].copy_from_slice(b"        ");
        let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }
}

/// An archive in the making.
#[derive(Clone, Default)]
pub(crate) struct Tar(pub(crate) Vec<u8>);

impl Tar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn header(mut self, header: &Header) -> Self {
        self.0.extend_from_slice(&header.block());
        self
    }

    /// Bytes, filled up to a whole block.
    pub(crate) fn data(mut self, data: &[u8]) -> Self {
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn dir(self, name: &str) -> Self {
        self.header(&Header::new(b'5', name))
    }

    pub(crate) fn file(self, name: &str, data: &[u8]) -> Self {
        let tar = if name.len() > 100 { self.pax(&[("path", name.as_bytes())]) } else { self };
        tar.header(Header::new(b'0', name).size(data.len() as u64)).data(data)
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        self.header(Header::new(b'2', name).link(target))
    }

    pub(crate) fn hardlink(self, name: &str, target: &str) -> Self {
        self.header(Header::new(b'1', name).link(target))
    }

    pub(crate) fn fifo(self, name: &str) -> Self {
        self.header(&Header::new(b'6', name))
    }

    pub(crate) fn device(self, name: &str, major: u64, minor: u64) -> Self {
        self.header(Header::new(b'3', name).device(major, minor))
    }

    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        self.extended(b'x', records)
    }

    pub(crate) fn extended(self, typeflag: u8, records: &[(&str, &[u8])]) -> Self {
        let data: Vec<u8> = records.iter().flat_map(|(k, v)| record(k, v)).collect();
        self.raw_extended(typeflag, &data)
    }

    pub(crate) fn raw_extended(self, typeflag: u8, data: &[u8]) -> Self {
        self.header(Header::new(typeflag, "ext").size(data.len() as u64)).data(data)
    }

    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// One PAX record, whose length counts its own digits.
pub(crate) fn record(keyword: &str, value: &[u8]) -> Vec<u8> {
    let rest = keyword.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    let mut record = format!("{length} {keyword}=").into_bytes();
    record.extend_from_slice(value);
    record.push(b'\n');
    record
}
