//! Partial blobs: what has come of a blob, kept in `partial/` for the next process when this one is interrupted.
//!
//! A partial blob is not a blob: it lies in another folder, and whoever takes it up reads it from its beginning and
//! verifies the whole. It is locked by the process that fills it. When all of it is there and verified, its staging
//! folder gets a second name for the same file, and `partial/` loses the first when the staging folder goes.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

use super::error::{At as _, Error};
use super::{Staging, Store};
use crate::oci::descriptor::Descriptor;
use crate::oci::digest::Digest;

/// How long a partial blob is kept that nobody takes up.
const MAX_AGE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// How often opening starts over because somebody else was faster.
const MAX_TRIES: usize = 8;

/// A blob that is being fetched. Unless it is kept, it goes when it is dropped.
#[derive(Debug)]
pub struct Partial {
    file: Flock<fs::File>,
    path: PathBuf,
    target: PathBuf,
    start: u64,
    keep: bool,
}

impl Store {
    /// Takes up what there is of a blob, or begins it; where another process is at it, begins one of our own that ends
    /// with `staging`.
    pub fn partial(&self, staging: &Staging, blob: &Descriptor) -> Result<Partial, Error> {
        let target = staging.blob_path(&blob.digest);
        let folder = self.partial_folder();
        let mut builder = fs::DirBuilder::new();
        builder.mode(0o700).recursive(true).create(&folder).at("create", &folder)?;
        let path = folder.join(file_name(&blob.digest));
        for _ in 0..MAX_TRIES {
            match open(&path, blob.size)? {
                Opened::Ours(file, start) => {
                    return Ok(Partial { file, path, target, start, keep: false });
                }
                Opened::Others => break,
                Opened::Gone => {}
            }
        }
        match open(&target, 0)? {
            Opened::Ours(file, start) => {
                Ok(Partial { file, path: target.clone(), target, start, keep: false })
            }
            // The staging folder is ours alone.
            Opened::Others | Opened::Gone => Err(Error::Vanished(blob.digest.clone())),
        }
    }

    fn partial_folder(&self) -> PathBuf {
        self.root().join("partial")
    }

    /// Removes partial blobs that nobody has taken up for a long time, and what is left of those that have become blobs.
    pub(super) fn sweep_partial(&self) -> Result<(), Error> {
        let folder = self.partial_folder();
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.at("read", &folder)?,
        };
        for entry in entries {
            let path = entry.at("read", &folder)?.path();
            let is_old = |found: &fs::Metadata| {
                let age = found.modified().ok().and_then(|time| time.elapsed().ok());
                age.is_some_and(|age| age > MAX_AGE)
            };
            let name = entry_digest(&path);
            let is_blob = name.is_some_and(|digest| self.blob_path(&digest).exists());
            if !is_blob && !fs::symlink_metadata(&path).is_ok_and(|found| is_old(&found)) {
                continue;
            }
            let Ok(file) = fs::File::open(&path) else { continue };
            // Held until it is gone: whoever opens it next looks whether it still is there once it is locked.
            let Ok(_lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else { continue };
            remove(&path)?;
        }
        Ok(())
    }
}

/// What came of opening a partial blob.
enum Opened {
    /// It is locked, and so many bytes of it are there.
    Ours(Flock<fs::File>, u64),
    /// Another process has locked it.
    Others,
    /// It went away meanwhile.
    Gone,
}

fn open(path: &Path, size: u64) -> Result<Opened, Error> {
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.custom_flags(libc::O_NOFOLLOW).open(path).at("open", path)?;
    let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(file) => file,
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => return Ok(Opened::Others),
        Err((_, errno)) => return Err(io::Error::from(errno)).at("lock", path),
    };
    let found = file.metadata().at("read", path)?;
    let named = match fs::symlink_metadata(path) {
        Ok(named) => named,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Opened::Gone),
        Err(error) => return Err(error).at("read", path),
    };
    if (found.dev(), found.ino()) != (named.dev(), named.ino()) {
        return Ok(Opened::Gone);
    }
    // A file with a second name may be a blob of the store by now, whatever size somebody claims that it has: it is
    // read and never written to.
    if found.len() > size || (found.nlink() > 1 && found.len() != size) {
        remove(path)?;
        return Ok(Opened::Gone);
    }
    Ok(Opened::Ours(file, found.len()))
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.at("remove", path),
    }
}

fn file_name(digest: &Digest) -> String {
    digest.to_string().replace(':', "-")
}

fn entry_digest(path: &Path) -> Option<Digest> {
    path.file_name()?.to_str()?.replacen('-', ":", 1).parse().ok()
}

impl Partial {
    /// How many bytes an earlier process has left.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// The file, at its beginning: the bytes of an earlier process are read from it, and those behind them written.
    pub fn file(&self) -> Result<fs::File, Error> {
        self.file.try_clone().at("open", &self.path)
    }

    /// Gives the whole and verified blob its place in the staging folder.
    pub fn complete(&mut self) -> Result<(), Error> {
        if self.path == self.target {
            self.keep = true;
            return Ok(());
        }
        match fs::hard_link(&self.path, &self.target) {
            // A file system without hard links.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::EOPNOTSUPP)) => {
                fs::rename(&self.path, &self.target).at("rename", &self.target)
            }
            result => result.at("create", &self.target),
        }
    }

    /// Leaves it for the next process.
    pub fn keep(&mut self) {
        self.keep = true;
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // An empty one is of no use to anybody.
        let empty = self.file.metadata().is_ok_and(|found| found.len() == 0);
        if !self.keep || empty && self.path != self.target {
            // What stays is swept when it is old.
            let _ = remove(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::super::Durability;
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("mydocker-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const BYTES: &[u8] = b"half a blob";

    fn begin(store: &Store, staging: &Staging, blob: &Descriptor) -> Partial {
        let mut partial = store.partial(staging, blob).unwrap();
        partial.file().unwrap().write_all(&BYTES[..4]).unwrap();
        partial.keep();
        partial
    }

    #[test]
    fn taken_up_by_the_next_and_shared_by_nobody() {
        let folder = Folder::new("partial");
        let store = Store::open(&folder.0, Durability::Unflushed).unwrap();
        let staging = store.stage().unwrap();
        let blob = Descriptor::of("x", BYTES);
        let first = begin(&store, &staging, &blob);
        // While one is at it, another begins anew, elsewhere.
        let other = store.stage().unwrap();
        let second = store.partial(&other, &blob).unwrap();
        assert_eq!((first.start(), second.start()), (0, 0));
        assert!(second.path.starts_with(other.path()));
        drop((first, second));
        let mut again = store.partial(&staging, &blob).unwrap();
        assert_eq!(again.start(), 4);
        let mut read = Vec::new();
        again.file().unwrap().read_to_end(&mut read).unwrap();
        assert_eq!(read, &BYTES[..4]);
        again.file().unwrap().write_all(&BYTES[4..]).unwrap();
        again.complete().unwrap();
        assert_eq!(fs::read(staging.blob_path(&blob.digest)).unwrap(), BYTES);
        again.keep();
        drop(again);
        // All is there. One who says that it is longer or shorter does not get to write into it.
        for size in [100, 5] {
            let lie = Descriptor::new("x", blob.digest.clone(), size);
            let partial = store.partial(&store.stage().unwrap(), &lie).unwrap();
            assert_eq!(partial.start(), 0, "{size}");
            partial.file().unwrap().write_all(b"evil").unwrap();
            assert_eq!(fs::read(staging.blob_path(&blob.digest)).unwrap(), BYTES);
            drop(partial);
            let path = store.partial_folder().join(file_name(&blob.digest));
            fs::hard_link(staging.blob_path(&blob.digest), path).unwrap();
        }
    }

    #[test]
    fn swept_when_old_and_not_in_use() {
        let folder = Folder::new("sweep");
        let store = Store::open(&folder.0, Durability::Unflushed).unwrap();
        let staging = store.stage().unwrap();
        let blob = Descriptor::of("x", BYTES);
        let partial = begin(&store, &staging, &blob);
        let age = |age: Duration| {
            let file = fs::File::options().write(true).open(&partial.path).unwrap();
            file.set_modified(std::time::SystemTime::now() - age).unwrap();
        };
        age(MAX_AGE * 2);
        store.sweep_partial().unwrap();
        assert!(partial.path.exists(), "somebody is at it");
        let path = partial.path.clone();
        age(MAX_AGE / 2);
        drop(partial);
        store.sweep_partial().unwrap();
        assert!(path.exists(), "it is not old");
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(std::time::SystemTime::now() - MAX_AGE * 2).unwrap();
        drop(file);
        store.sweep_partial().unwrap();
        assert!(!path.exists());
    }
}
