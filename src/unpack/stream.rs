//! Reading ahead: receiving, decompressing, hashing and extracting at the same time, on buffers that go round.

use std::fs::File;
use std::io::Read;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, ScopedJoinHandle};

use super::chunk::{Buffer, CHUNKS, ChunkReader, pump};
use super::compression::{Compression, decoder, decoder_of_digested};
use super::copy::Copy;
use super::error::Error;
use super::extract::extract_archive;
use super::layer::Layer;
use super::limits::Limits;
use super::list::Origins;
use super::note::Notes;
use super::share::Donor;
use super::tar::Archive;
use crate::oci::digest::{Algorithm, DiffId, Hasher};

/// How hard zstd tries to make a layer's headers small, which it does anyway: they are all alike.
const HEADERS_LEVEL: i32 = -1;

/// The name of the thread that extracts.
const EXTRACT: &str = "extract";

/// Where a layer goes.
#[derive(Debug)]
pub struct Destination<'a> {
    /// The directory that becomes the root of the layer's tree: empty, and nobody else has access to it. After an error
    /// it holds part of the layer and is to be removed.
    pub dir: BorrowedFd<'a>,
    /// How much the layer may ask for.
    pub limits: &'a Limits,
    /// Where to note which files this layer made, and its number; for the list of the tree.
    pub origins: Option<(&'a Origins, u32)>,
    /// A tree that has files of this layer, and the layer's number there; what it has is linked.
    pub donor: Option<(&'a Donor, u32)>,
    /// Where to keep the layer's headers, packed, for [`replay_layer`].
    pub headers: Option<&'a File>,
    /// Where to keep a copy of the uncompressed layer.
    pub copy: Option<&'a Copy>,
    /// Whether the thread that extracts is shut in ([`super::confine`]). Turned off by tests of the extractor alone, since
    /// the walls would hide its mistakes.
    pub walls: bool,
}

impl<'a> Destination<'a> {
    /// A destination where nothing is noted.
    pub fn new(dir: BorrowedFd<'a>, limits: &'a Limits) -> Self {
        Self { dir, limits, origins: None, donor: None, headers: None, copy: None, walls: true }
    }

    pub(super) fn notes(&self) -> Option<Notes<'a>> {
        self.origins.map(|(origins, layer)| Notes::new(origins, layer))
    }
}

/// Reads `tar`, an uncompressed archive, to its very end, and extracts it.
///
/// # Errors
/// [`Error`]; nothing in the archive makes this panic or touch anything outside the destination.
pub fn extract(tar: impl Read, dest: &Destination<'_>) -> Result<Layer, Error> {
    feed(tar, |chunks| extract_archive(Archive::new(chunks, dest.limits), dest))
}

/// Decompresses a layer, extracts it as [`extract`] does, and computes its DiffID.
///
/// The stream is read to its very end before the DiffID is judged. Without a `diff_id` to compare with, an archive that
/// lacks the end-of-archive marker is an error, because it may have been cut off.
///
/// # Errors
/// [`Error`]. What `compressed` itself reports comes back as the source of [`Error::Read`].
pub fn unpack_layer(
    compressed: impl Read + Send,
    compression: Compression,
    diff_id: Option<&DiffId>,
    dest: &Destination<'_>,
) -> Result<(Layer, DiffId), Error> {
    let algorithm = diff_id.map_or(Algorithm::Sha256, |diff_id| diff_id.digest().algorithm());
    let (layer, actual) = thread::scope(|scope| {
        let (to_hasher, hasher_input) = sync_channel(CHUNKS);
        let (to_extractor, extractor_input) = sync_channel(CHUNKS);
        let reader: Box<dyn Read + '_> = if compression == Compression::None {
            Box::new(compressed)
        } else {
            // The network hands over small pieces, each with a wait; decompressing shall not wait with it.
            let (to_decoder, packed) = sync_channel(CHUNKS);
            spawn(scope, "receive", move || pump(compressed, CHUNKS, &[], &to_decoder))?;
            let packed = ChunkReader::new(packed);
            let reader = match diff_id {
                Some(_) => decoder_of_digested(compression, packed),
                None => decoder(compression, packed),
            };
            reader.map_err(Error::Read)?
        };
        let hashing = spawn(scope, "hash", move || hash(algorithm, &hasher_input))?;
        let extracting = spawn(scope, EXTRACT, move || {
            extract_with_headers(ChunkReader::new(extractor_input), dest)
        })?;
        let (mut listeners, mut buffers) = (vec![to_hasher], CHUNKS);
        let copying = match dest.copy {
            Some(copy) => {
                let (to_copier, copier_input) = sync_channel(2 * CHUNKS);
                listeners.push(to_copier);
                buffers += CHUNKS;
                Some(spawn(scope, "copy", move || copy.write(&copier_input))?)
            }
            None => None,
        };
        pump(reader, buffers, &listeners, &to_extractor);
        drop((listeners, to_extractor));
        if let Some(copying) = copying {
            join(copying).map_err(Error::Copy)?;
        }
        let layer = join(extracting)?;
        Ok((layer, DiffId::new(join(hashing).finish())))
    })?;
    match diff_id {
        Some(expected) if *expected != actual => {
            return Err(Error::DiffId { expected: expected.clone(), actual });
        }
        None if !layer.end_marker() => {
            let problem = "archive ends without an end-of-archive marker";
            return Err(Error::Malformed { offset: 0, problem });
        }
        _ => {}
    }
    Ok((layer, actual))
}

/// Extracts a layer whose files are all in another tree, from the headers that were kept when that was made.
///
/// Which layer it is, the caller must know: there is no archive here that a DiffID could be computed from.
///
/// # Errors
/// [`Error`], also if the donor lacks a file; then the layer is to be unpacked from its blob.
pub fn replay_layer(headers: impl Read + Send, dest: &Destination<'_>) -> Result<Layer, Error> {
    let headers = decoder(Compression::Zstd, headers).map_err(Error::Read)?;
    feed(headers, |chunks| extract_archive(Archive::hollow(chunks, dest.limits), dest))
}

/// Reads on this thread and calls `work` on another, which has no descriptor that it could read from itself.
fn feed<T: Send>(
    reader: impl Read,
    work: impl FnOnce(ChunkReader) -> Result<T, Error> + Send,
) -> Result<T, Error> {
    thread::scope(|scope| {
        let (to_worker, input) = sync_channel(CHUNKS);
        let working = spawn(scope, EXTRACT, || work(ChunkReader::new(input)))?;
        pump(reader, CHUNKS, &[], &to_worker);
        drop(to_worker);
        join(working)
    })
}

/// Extracts, and keeps a copy of the headers if it is wanted.
fn extract_with_headers(reader: ChunkReader, dest: &Destination<'_>) -> Result<Layer, Error> {
    let archive = Archive::new(reader, dest.limits);
    let Some(headers) = dest.headers else { return extract_archive(archive, dest) };
    let mut encoder =
        zstd::stream::write::Encoder::new(headers, HEADERS_LEVEL).map_err(Error::Headers)?;
    encoder.include_checksum(true).map_err(Error::Headers)?;
    let layer = extract_archive(archive.with_headers(Some(&mut encoder)), dest)?;
    encoder.finish().map_err(Error::Headers)?;
    Ok(layer)
}

fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    name: &str,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>, Error> {
    thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, work).map_err(Error::Thread)
}

fn join<T>(handle: ScopedJoinHandle<'_, T>) -> T {
    handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn hash(algorithm: Algorithm, input: &Receiver<Arc<Buffer>>) -> Hasher {
    let mut hasher = Hasher::new(algorithm);
    for chunk in input {
        hasher.update(chunk.bytes());
    }
    hasher
}
