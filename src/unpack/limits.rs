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
#[derive(Clone, Debug)]
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
        }
    }
}
