//! Writing archives: tar files that get their name when they are whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tar::{EntryType, Header};

use super::files::{failed, unique};
use super::layout::{self, OCI_LAYOUT, blob_path, pour};
use crate::image::transfer::{self, Origin, lock};
use crate::image::{Error, Event, Observer};
use crate::oci::descriptor::Descriptor;
use crate::registry::RawManifest;

/// The size of a header, of which every entry is a multiple (POSIX, "ustar Interchange Format").
const BLOCK: u64 = 512;

/// A tar file in the making; removed when dropped, unless it was finished.
#[derive(Debug)]
pub(super) struct TarFile {
    path: PathBuf,
    temporary: PathBuf,
    file: BufWriter<File>,
    /// The bytes of the present entry.
    size: u64,
}

impl TarFile {
    pub(super) fn create(path: &Path) -> Result<Self, Error> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let temporary = unique(folder.unwrap_or(Path::new(".")))?;
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o644).open(&temporary);
        let file = BufWriter::with_capacity(1 << 18, file.map_err(failed("create", path))?);
        Ok(Self { path: path.to_owned(), temporary, file, size: 0 })
    }

    /// Adds a file that `write` writes. How big it is shows then, and the header is written last.
    pub(super) fn add(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut Self) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let failed = failed("write", &self.path);
        let start = self.file.stream_position().map_err(&failed)?;
        self.file.write_all(&[0; BLOCK as usize]).map_err(&failed)?;
        self.size = 0;
        write(self)?;
        let padding = self.size.next_multiple_of(BLOCK) - self.size;
        io::copy(&mut io::Read::take(io::repeat(0), padding), &mut self.file).map_err(&failed)?;
        self.file.seek(SeekFrom::Start(start)).map_err(&failed)?;
        self.file
            .write_all(header(name, self.size).map_err(&failed)?.as_bytes())
            .map_err(&failed)?;
        self.file.seek(SeekFrom::End(0)).map(drop).map_err(&failed)
    }

    /// Adds a small file.
    pub(super) fn add_bytes(&mut self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let failed = failed("write", &self.path);
        self.add(name, |file| file.write_all(bytes).map_err(failed))
    }

    /// Ends the archive, and gives it its name.
    pub(super) fn finish(mut self) -> Result<(), Error> {
        // Two empty blocks are the end of an archive.
        self.file.write_all(&[0; 2 * BLOCK as usize]).map_err(failed("write", &self.path))?;
        self.file.flush().map_err(failed("write", &self.path))?;
        self.file.get_ref().sync_all().map_err(failed("flush", &self.path))?;
        fs::rename(&self.temporary, &self.path).map_err(failed("rename", &self.path))
    }
}

impl Write for TarFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let count = self.file.write(buf)?;
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for TarFile {
    fn drop(&mut self) {
        // After `finish` there is nothing of this name.
        let _ = fs::remove_file(&self.temporary);
    }
}

fn header(name: &str, size: u64) -> io::Result<Header> {
    let mut header = Header::new_ustar();
    header.set_path(name)?;
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    Ok(header)
}

/// An archive of an OCI image layout, to be copied to.
#[derive(Debug)]
pub(super) struct Target {
    file: Mutex<TarFile>,
    tag: Option<String>,
    top: Mutex<Option<RawManifest>>,
}

impl Target {
    pub(super) fn create(path: &Path, tag: Option<&str>) -> Result<Self, Error> {
        let mut file = TarFile::create(path)?;
        file.add_bytes("oci-layout", OCI_LAYOUT)?;
        let tag = tag.map(str::to_owned);
        Ok(Self { file: Mutex::new(file), tag, top: Mutex::default() })
    }

    /// Names the image, and ends the archive.
    pub(super) fn finish(self) -> Result<(), Error> {
        let mut file = self.file.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        let top = lock(&self.top).take();
        let entries = top.iter().map(|top| layout::entry(top, self.tag.as_deref())).collect();
        file.add_bytes("index.json", layout::index(entries).to_string().as_bytes())?;
        file.finish()
    }
}

impl transfer::Target for Target {
    fn blob(
        &self,
        blob: &Descriptor,
        origin: &dyn Origin,
        observer: &dyn Observer,
    ) -> Result<(), Error> {
        let name = blob_path(&blob.digest);
        lock(&self.file).add(&name, |file| pour(blob, origin, file, observer))?;
        observer.event(Event::Sent(&blob.digest));
        Ok(())
    }

    fn manifest(&self, raw: &RawManifest, is_last: bool) -> Result<(), Error> {
        lock(&self.file).add_bytes(&blob_path(&raw.digest), &raw.bytes)?;
        if is_last {
            *lock(&self.top) = Some(raw.clone());
        }
        Ok(())
    }
}
