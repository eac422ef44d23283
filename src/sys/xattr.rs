//! Extended attributes of open files (fsetxattr(2), fgetxattr(2), flistxattr(2), fremovexattr(2)), and of such that must
//! not be opened (lsetxattr(2), lgetxattr(2), llistxattr(2)).

use std::ffi::{CString, c_void};
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

/// The longest list of names that the kernel returns, in bytes (`XATTR_LIST_MAX`); values have the same bound.
const LIST_MAX: usize = 64 << 10;

fn c_name(name: &[u8]) -> nix::Result<CString> {
    CString::new(name).map_err(|_| Errno::EINVAL)
}

/// Sets the attribute `name` of an open file, whether it exists or not.
///
/// # Errors
/// fsetxattr(2); `EINVAL` if the name holds a NUL.
pub fn fsetxattr(fd: BorrowedFd<'_>, name: &[u8], value: &[u8]) -> nix::Result<()> {
    let name = c_name(name)?;
    let pointer = value.as_ptr().cast::<c_void>();
    // SAFETY: the name ends in NUL, and the kernel reads no more than `value.len()` bytes from `value`.
    let result = unsafe { libc::fsetxattr(fd.as_raw_fd(), name.as_ptr(), pointer, value.len(), 0) };
    Errno::result(result).map(drop)
}

/// Sets the attribute `name` of the file `file` in `dir`, which may be of any kind; a symbolic link is not followed.
///
/// # Errors
/// lsetxattr(2); `EINVAL` if the name holds a NUL or `file` a slash.
pub fn lsetxattrat(dir: BorrowedFd<'_>, file: &[u8], name: &[u8], value: &[u8]) -> nix::Result<()> {
    let (path, name) = (path_at(dir, file)?, c_name(name)?);
    let pointer = value.as_ptr().cast::<c_void>();
    // SAFETY: path and name end in NUL, and the kernel reads no more than `value.len()` bytes from `value`.
    let result = unsafe { libc::lsetxattr(path.as_ptr(), name.as_ptr(), pointer, value.len(), 0) };
    Errno::result(result).map(drop)
}

/// Sets the attribute `name` of the file `file` in the working directory; a symbolic link is not followed.
///
/// # Errors
/// lsetxattr(2); `EINVAL` if the name holds a NUL or `file` a slash.
pub fn lsetxattr(file: &[u8], name: &[u8], value: &[u8]) -> nix::Result<()> {
    if file.contains(&b'/') || matches!(file, b"" | b"." | b"..") {
        return Err(Errno::EINVAL);
    }
    let (file, name) = (c_name(file)?, c_name(name)?);
    let pointer = value.as_ptr().cast::<c_void>();
    // SAFETY: path and name end in NUL, and the kernel reads no more than `value.len()` bytes from `value`.
    let result = unsafe { libc::lsetxattr(file.as_ptr(), name.as_ptr(), pointer, value.len(), 0) };
    Errno::result(result).map(drop)
}

/// A path of `file` in `dir`: setxattrat(2) and its like came with Linux 6.13, and before that only a path through /proc
/// reaches a file by its directory.
fn path_at(dir: BorrowedFd<'_>, file: &[u8]) -> nix::Result<CString> {
    if file.contains(&b'/') || matches!(file, b"" | b"." | b"..") {
        return Err(Errno::EINVAL);
    }
    let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    path.extend_from_slice(file);
    c_name(&path)
}

/// The names of the attributes of the file `file` in `dir`, which may be of any kind; a symbolic link is not followed.
///
/// # Errors
/// llistxattr(2); `EINVAL` if `file` holds a slash.
pub fn llistxattrat(dir: BorrowedFd<'_>, file: &[u8]) -> nix::Result<Vec<Vec<u8>>> {
    let path = path_at(dir, file)?;
    let mut list = vec![0_u8; LIST_MAX];
    let pointer = list.as_mut_ptr().cast::<libc::c_char>();
    // SAFETY: the path ends in NUL, and the kernel writes at most `list.len()` bytes to `list`.
    let size = unsafe { libc::llistxattr(path.as_ptr(), pointer, list.len()) };
    names(&list, size)
}

/// The value of the attribute `name` of the file `file` in `dir`, which may be of any kind; a symbolic link is not
/// followed.
///
/// # Errors
/// lgetxattr(2): `ENODATA` if there is no such attribute; `EINVAL` if the name holds a NUL or `file` a slash.
pub fn lgetxattrat(dir: BorrowedFd<'_>, file: &[u8], name: &[u8]) -> nix::Result<Vec<u8>> {
    let (path, name) = (path_at(dir, file)?, c_name(name)?);
    let mut value = vec![0_u8; LIST_MAX];
    let pointer = value.as_mut_ptr().cast::<c_void>();
    // SAFETY: path and name end in NUL, and the kernel writes at most `value.len()` bytes to `value`.
    let size = unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), pointer, value.len()) };
    value.truncate(usize::try_from(Errno::result(size)?).map_err(|_| Errno::EIO)?);
    Ok(value)
}

/// What one of the calls that list names has left in `list`.
fn names(list: &[u8], size: isize) -> nix::Result<Vec<Vec<u8>>> {
    let size = usize::try_from(Errno::result(size)?).map_err(|_| Errno::EIO)?;
    let names = list.get(..size).ok_or(Errno::EIO)?.split(|b| *b == 0);
    Ok(names.filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
}

/// The names of an open file's attributes.
///
/// # Errors
/// flistxattr(2).
pub fn flistxattr(fd: BorrowedFd<'_>) -> nix::Result<Vec<Vec<u8>>> {
    // Nearly every file has none, which an empty buffer learns without a page of memory.
    // SAFETY: with a size of 0 the kernel writes nothing.
    let size = unsafe { libc::flistxattr(fd.as_raw_fd(), std::ptr::null_mut(), 0) };
    if Errno::result(size)? == 0 {
        return Ok(Vec::new());
    }
    let mut list = vec![0_u8; LIST_MAX];
    // SAFETY: the kernel writes at most `list.len()` bytes to `list`.
    let size = unsafe {
        libc::flistxattr(fd.as_raw_fd(), list.as_mut_ptr().cast::<libc::c_char>(), list.len())
    };
    names(&list, size)
}

/// The value of the attribute `name` of an open file.
///
/// # Errors
/// fgetxattr(2): `ENODATA` if there is no such attribute; `EINVAL` if the name holds a NUL.
pub fn fgetxattr(fd: BorrowedFd<'_>, name: &[u8]) -> nix::Result<Vec<u8>> {
    let name = c_name(name)?;
    let mut value = vec![0_u8; LIST_MAX];
    let pointer = value.as_mut_ptr().cast::<c_void>();
    // SAFETY: the name ends in NUL, and the kernel writes at most `value.len()` bytes to `value`.
    let size = unsafe { libc::fgetxattr(fd.as_raw_fd(), name.as_ptr(), pointer, value.len()) };
    value.truncate(usize::try_from(Errno::result(size)?).map_err(|_| Errno::EIO)?);
    Ok(value)
}

/// Removes the attribute `name` of an open file.
///
/// # Errors
/// fremovexattr(2): `ENODATA` if there is no such attribute; `EINVAL` if the name holds a NUL.
pub fn fremovexattr(fd: BorrowedFd<'_>, name: &[u8]) -> nix::Result<()> {
    let name = c_name(name)?;
    // SAFETY: the name ends in NUL.
    let result = unsafe { libc::fremovexattr(fd.as_raw_fd(), name.as_ptr()) };
    Errno::result(result).map(drop)
}
