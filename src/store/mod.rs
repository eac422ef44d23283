//! The store: images as plain files that other tools can read, and nothing that a crash can spoil.
//!
//! ```text
//! oci-layout index.json   an OCI image layout (image-spec, `image-layout.md`)
//! blobs/sha256/…          manifests, configurations, layers, byte for byte as they came
//! trees/sha256-<id>/      one merged root filesystem per image; never written to after it is published
//! lists/sha256-<id>/tree  what each path of that tree was when it was unpacked (`unpack::list`); trees of older versions
//!                         of this program have none
//! lists/sha256-<id>/layer-<n>  the headers of its layer n, packed with zstd, for another tree with the same layer
//! rootfs/<name>           a symlink into trees/
//! tmp/<id>/               staging of work under way, each folder locked by its owner
//! reserve                 room for removals when the disk is full
//! partial/sha256-<digest> what has come of a blob whose download was interrupted; for the next who wants it, swept by age
//! ```
//!
//! The layout is the truth; trees are made from it and can be made again. Publishing is always: write in `tmp/`,
//! verify, flush once, rename, and name the image in `index.json` last. So a crash at any point leaves the old state
//! or the new one, plus rubbish in `tmp/` that the next writer sweeps.
//!
//! The lock is a `flock(2)` of the store's own folder: it dies with its owner, and nothing slow happens under it.

mod accounts;
mod collect;
mod error;
mod flush;
mod index;
mod mend;
mod partial;
mod reserve;
mod staging;

use std::fs;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use crate::oci::descriptor::Descriptor;
use crate::oci::digest::{Digest, ImageId, VerifyReader};

pub use accounts::{Accounts, Holder};
pub use error::Error;
pub use index::{ANNOTATION_PULLED, ANNOTATION_SIZE, ANNOTATION_SOURCE, Removed};
pub use partial::Partial;
pub use staging::{Publication, Staging};

use error::At as _;

/// The content of the `oci-layout` file (image-spec, `image-layout.md`).
pub const OCI_LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// The name of a tree's list among the lists that belong to it.
const LIST: &str = "tree";

/// A store in a folder.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    sync: bool,
}

/// Whether what is published is flushed to the disk first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Durability {
    /// What was reported done survives a power cut.
    Flushed,
    /// The kernel writes it out in its own time, as with docker and containerd.
    Unflushed,
}

impl Store {
    /// Opens the store in `root`, and makes an empty one where there is none.
    ///
    /// The folder is for its owner alone (0700): a layer may hold setuid programs and device nodes, which nobody else
    /// on the host may reach (CVE-2021-41091).
    pub fn open(root: &Path, durability: Durability) -> Result<Self, Error> {
        let store = Self { root: root.to_owned(), sync: durability == Durability::Flushed };
        if !root.join("oci-layout").exists() {
            store.create()?;
        }
        Ok(store)
    }

    /// The store in `root` as it is, for those who only look: nothing is made, be it there or not.
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_owned(), sync: false }
    }

    /// Whether there is no store at all.
    pub fn is_absent(&self) -> bool {
        let parts = ["oci-layout", "index.json", "blobs"];
        parts.iter().all(|part| fs::symlink_metadata(self.root.join(part)).is_err())
    }

    fn create(&self) -> Result<(), Error> {
        let mut private = fs::DirBuilder::new();
        private.mode(0o700).recursive(true);
        private.create(&self.root).at("create", &self.root)?;
        for folder in ["blobs/sha256", "blobs/sha512", "partial", "trees", "lists", "rootfs", "tmp"]
        {
            private.create(self.root.join(folder)).at("create", &self.root.join(folder))?;
        }
        let staging = self.stage()?;
        let _lock = self.lock()?;
        if !self.index_path().exists() {
            self.write_index(&staging, &index::empty())?;
        }
        self.replace_file(&staging, &self.root.join("oci-layout"), OCI_LAYOUT.as_bytes())
    }

    /// The store's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether publishing flushes first.
    pub fn syncs(&self) -> bool {
        self.sync
    }

    /// Where the blob of `digest` is, if it is there.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.algorithm().name()).join(digest.encoded())
    }

    /// Where the tree of `image` is, if it is there.
    pub fn tree_path(&self, image: &ImageId) -> PathBuf {
        self.root.join("trees").join(tree_name(image))
    }

    /// Where the lists are that belong to the tree of `image`, if it has any.
    pub fn lists_path(&self, image: &ImageId) -> PathBuf {
        self.root.join("lists").join(tree_name(image))
    }

    /// Opens the list of the tree of `image`; `None` if it has none, as trees of older versions of this program.
    pub fn open_list(&self, image: &ImageId) -> Result<Option<fs::File>, Error> {
        let path = self.lists_path(image).join(LIST);
        match fs::File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            result => result.at("open", &path).map(Some),
        }
    }

    /// Whether the tree of `image` is there.
    pub fn has_tree(&self, image: &ImageId) -> bool {
        self.tree_path(image).is_dir()
    }

    /// Whether the blob of `descriptor` is there in its full size.
    pub fn has_blob(&self, descriptor: &Descriptor) -> bool {
        fs::metadata(self.blob_path(&descriptor.digest))
            .is_ok_and(|found| found.is_file() && found.len() == descriptor.size)
    }

    /// A reader of a blob that fails, at the latest at its end, unless the bytes are what `descriptor` says.
    pub fn open_blob(&self, descriptor: &Descriptor) -> Result<VerifyReader<fs::File>, Error> {
        let path = self.blob_path(&descriptor.digest);
        let mut options = fs::OpenOptions::new();
        // A FIFO in its place is not waited for.
        let file =
            options.read(true).custom_flags(libc::O_NONBLOCK).open(&path).at("open", &path)?;
        if !file.metadata().at("open", &path)?.is_file() {
            return Err(io::Error::other("it is no regular file")).at("read", &path);
        }
        Ok(VerifyReader::new(file, descriptor.digest.clone(), descriptor.size))
    }

    /// A whole, verified blob of at most `limit` bytes.
    pub fn read_blob(&self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>, Error> {
        let path = self.blob_path(&descriptor.digest);
        if descriptor.size > limit {
            return Err(Error::TooLarge { path, size: descriptor.size, limit });
        }
        // One byte more than there is, so that the end is seen without another buffer.
        let mut bytes =
            Vec::with_capacity(usize::try_from(descriptor.size + 1).unwrap_or_default());
        self.open_blob(descriptor)?.read_to_end(&mut bytes).at("read", &path)?;
        Ok(bytes)
    }

    /// A whole, verified manifest or index of at most `limit` bytes, known by its digest alone.
    pub fn read_document(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, Error> {
        let path = self.blob_path(digest);
        let size = fs::metadata(&path).at("open", &path)?.len();
        self.read_blob(&Descriptor::new("", digest.clone(), size), limit)
    }

    /// Keeps every other process from publishing and removing until the lock is dropped.
    fn lock(&self) -> Result<Lock, Error> {
        self.flock(FlockArg::LockExclusive)
    }

    /// Keeps every other process from removing anything until the lock is dropped; for the moment between writing
    /// down that a tree is in use and using it.
    pub fn lock_shared(&self) -> Result<Lock, Error> {
        self.flock(FlockArg::LockShared)
    }

    fn flock(&self, how: FlockArg) -> Result<Lock, Error> {
        let folder = open_folder(&self.root)?;
        match Flock::lock(folder, how) {
            Ok(lock) => Ok(Lock { _flock: lock }),
            Err((_, errno)) => Err(io::Error::from(errno)).at("lock", &self.root),
        }
    }

    /// Replaces a small file as a whole, durably unless flushing is off.
    fn replace_file(&self, staging: &Staging, path: &Path, content: &[u8]) -> Result<(), Error> {
        let temporary = staging.path().join(path.file_name().unwrap_or_default());
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&temporary).at("create", &temporary)?;
        io::Write::write_all(&mut file, content).at("write", &temporary)?;
        if self.sync {
            file.sync_all().at("flush", &temporary)?;
        }
        fs::rename(&temporary, path).at("rename", path)?;
        self.sync_folder(path.parent().unwrap_or(&self.root))
    }

    /// Makes the renames into `folder` survive a power cut, unless flushing is off.
    fn sync_folder(&self, folder: &Path) -> Result<(), Error> {
        if !self.sync {
            return Ok(());
        }
        fs::File::open(folder).and_then(|folder| folder.sync_all()).at("flush", folder)
    }
}

/// The store's lock, released when dropped or when its process ends.
#[derive(Debug)]
pub struct Lock {
    _flock: Flock<OwnedFd>,
}

fn open_folder(path: &Path) -> Result<OwnedFd, Error> {
    let mut options = fs::OpenOptions::new();
    options.read(true).custom_flags(libc::O_DIRECTORY);
    options.open(path).map(OwnedFd::from).at("open", path)
}

/// The name of the headers of a layer among the lists of a tree.
fn headers_name(layer: usize) -> String {
    format!("layer-{layer}")
}

fn tree_name(image: &ImageId) -> String {
    image.to_string().replace(':', "-")
}
