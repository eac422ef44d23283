//! How much a layer may ask for.

/// The longest path inside a tree, in bytes: what one system call can still name (`PATH_MAX` less its NUL).
pub(super) const MAX_PATH: usize = 4095;
/// The longest component of a path, in bytes (`NAME_MAX`).
pub(super) const MAX_NAME: usize = 255;
/// How many symbolic links one lookup may follow (path_resolution(7)).
pub(super) const MAX_LINKS: usize = 40;

/// The bounds of what one layer may contain.
///
/// The defaults are far above every honest image and low enough that a hostile one ends in an error before it ends
/// the machine. A layer's digest vouches for its bytes, not for its author.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Entries of any kind.
    pub entries: u64,
    /// Sum of the sizes of all regular files, in bytes; of a sparse file the size that it appears to have.
    pub bytes: u64,
    /// Directories, including those that only the names of other entries imply. Each costs up to about 350 bytes of memory, 100 as a rule.
    pub directories: u64,
    /// Names that the layer hides from the layers below, and hard links to files of those.
    pub whiteouts: u64,
    /// Size of one PAX or GNU extension header, in bytes.
    pub extension: u64,
    /// Stretches of data in one sparse file.
    pub extents: u64,
    /// Sum of the names and values of all extended attributes of directories, in bytes. They are kept in memory until
    /// the layer's end, because a directory's default ACL would alter what is created in it.
    pub directory_xattrs: u64,
    /// What must stay free on the file system while files are written, in bytes.
    pub free: u64,
}

/// Why a text sets no limit.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LimitError {
    /// It is not of the form `NAME=NUMBER`, or the number is none.
    #[error("`{0}` is not a limit such as `entries=8388608` or `bytes=2t`")]
    Malformed(String),
    /// There is no such limit.
    #[error("unknown limit `{name}`; there is: {known}")]
    Unknown {
        /// The name given.
        name: String,
        /// The names that there are.
        known: String,
    },
}

impl Limits {
    /// Sets one limit from a text such as `bytes=2t`; `k`, `m`, `g` and `t` stand for powers of 1024.
    ///
    /// # Errors
    /// [`LimitError`].
    pub fn set(&mut self, text: &str) -> Result<(), LimitError> {
        let malformed = || LimitError::Malformed(text.chars().take(64).collect());
        let (name, value) = text.split_once('=').ok_or_else(malformed)?;
        let value = number(value).ok_or_else(malformed)?;
        let mut fields = self.fields();
        let known = fields.each_ref().map(|(name, _)| *name).join(", ");
        match fields.iter_mut().find(|(known, _)| *known == name) {
            Some((_, field)) => {
                **field = value;
                Ok(())
            }
            None => Err(LimitError::Unknown { name: name.chars().take(64).collect(), known }),
        }
    }

    fn fields(&mut self) -> [(&'static str, &mut u64); 8] {
        [
            ("entries", &mut self.entries),
            ("bytes", &mut self.bytes),
            ("directories", &mut self.directories),
            ("whiteouts", &mut self.whiteouts),
            ("extension", &mut self.extension),
            ("extents", &mut self.extents),
            ("directory-xattrs", &mut self.directory_xattrs),
            ("free", &mut self.free),
        ]
    }
}

fn number(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()?.to_ascii_lowercase() {
        b'k' => (text.get(..text.len() - 1)?, 10),
        b'm' => (text.get(..text.len() - 1)?, 20),
        b'g' => (text.get(..text.len() - 1)?, 30),
        b't' => (text.get(..text.len() - 1)?, 40),
        _ => (text, 0),
    };
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 4 << 20,
            bytes: 1 << 40,
            directories: 1 << 19,
            whiteouts: 1 << 18,
            extension: 1 << 20,
            extents: 64 << 10,
            directory_xattrs: 16 << 20,
            free: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_set_by_name() {
        let mut limits = Limits::default();
        for (text, value) in [("bytes=2t", 2 << 40), ("bytes=0", 0), ("bytes=12K", 12 << 10)] {
            limits.set(text).unwrap();
            assert_eq!(limits.bytes, value, "{text}");
        }
        limits.set("directory-xattrs=7").unwrap();
        assert_eq!(limits, Limits { bytes: 12 << 10, directory_xattrs: 7, ..Limits::default() });
        for bad in ["", "bytes", "bytes=", "bytes=-1", "bytes=k", "bytes=1kk", "bytes=99999999t"] {
            assert!(matches!(limits.set(bad), Err(LimitError::Malformed(_))), "{bad}");
        }
        assert!(matches!(limits.set("files=1"), Err(LimitError::Unknown { .. })));
    }
}
