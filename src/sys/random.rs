//! Random bytes: getrandom(2).

use nix::errno::Errno;

/// Fills `buffer`, of at most 256 bytes, with random bytes; needs no `/dev`.
///
/// # Errors
/// `ENOSYS` before Linux 3.17.
pub fn getrandom(buffer: &mut [u8]) -> Result<(), Errno> {
    // SAFETY: the kernel writes at most `buffer.len()` bytes to `buffer`.
    let read = unsafe { libc::getrandom(buffer.as_mut_ptr().cast(), buffer.len(), 0) };
    // Requests of up to 256 bytes are answered whole and are not interrupted (getrandom(2)).
    match usize::try_from(Errno::result(read)?) {
        Ok(read) if read == buffer.len() => Ok(()),
        _ => Err(Errno::EIO),
    }
}
