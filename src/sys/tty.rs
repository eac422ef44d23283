//! Pseudoterminals: `ioctl_tty(2)`.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

/// Makes the other end of the pseudoterminal `master` usable, and opens it without going through any path
/// (`TIOCGPTPEER`, since Linux 4.13), so that nothing on `/dev/pts` can stand in for it (CVE-2025-52565).
///
/// # Errors
/// What `ioctl(2)` reports.
pub fn open_peer(master: impl AsFd) -> Result<OwnedFd, Errno> {
    let fd = master.as_fd().as_raw_fd();
    let unlock: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int.
    Errno::result(unsafe { libc::ioctl(fd, libc::TIOCSPTLCK, &raw const unlock) })?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes the flags as a number.
    let peer = Errno::result(unsafe { libc::ioctl(fd, libc::TIOCGPTPEER, flags) })?;
    // SAFETY: the call succeeded, and the new descriptor has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(peer as RawFd) })
}

/// Makes `terminal` the controlling terminal of this session (`TIOCSCTTY`).
///
/// # Errors
/// What `ioctl(2)` reports.
pub fn set_controlling(terminal: impl AsFd) -> Result<(), Errno> {
    // SAFETY: TIOCSCTTY takes a number.
    Errno::result(unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSCTTY, 0) })?;
    Ok(())
}

/// A terminal's size, in characters: rows, columns (`TIOCGWINSZ`).
///
/// # Errors
/// What `ioctl(2)` reports: `ENOTTY` if it is none.
pub fn window_size(terminal: impl AsFd) -> Result<(u16, u16), Errno> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    let fd = terminal.as_fd().as_raw_fd();
    // SAFETY: TIOCGWINSZ writes one winsize.
    Errno::result(unsafe { libc::ioctl(fd, libc::TIOCGWINSZ, &raw mut size) })?;
    Ok((size.ws_row, size.ws_col))
}

/// Sets a terminal's size, in characters (`TIOCSWINSZ`); its foreground processes get `SIGWINCH`.
///
/// # Errors
/// What `ioctl(2)` reports.
pub fn set_window_size(terminal: impl AsFd, rows: u16, columns: u16) -> Result<(), Errno> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let fd = terminal.as_fd().as_raw_fd();
    // SAFETY: TIOCSWINSZ reads one winsize.
    Errno::result(unsafe { libc::ioctl(fd, libc::TIOCSWINSZ, &raw const size) })?;
    Ok(())
}
