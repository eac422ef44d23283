//! `capset(2)` and `capget(2)`.

use nix::errno::Errno;

use super::check;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// `_LINUX_CAPABILITY_VERSION_3`: two words a set.
const VERSION_3: u32 = 0x2008_0522;

/// Sets the effective, permitted and inheritable capabilities of this thread, bit n for capability n.
///
/// # Errors
/// What `capset(2)` reports: `EPERM` for what was not permitted before.
pub fn capset(effective: u64, permitted: u64, inheritable: u64) -> Result<(), Errno> {
    let header = Header { version: VERSION_3, pid: 0 };
    let word = |shift: u32| Data {
        effective: (effective >> shift) as u32,
        permitted: (permitted >> shift) as u32,
        inheritable: (inheritable >> shift) as u32,
    };
    let data = [word(0), word(32)];
    // SAFETY: version 3 reads one header and two data words, all of which outlive the call.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) })?;
    Ok(())
}

/// The permitted capabilities of this thread, bit n for capability n.
///
/// # Errors
/// What `capget(2)` reports.
pub fn capget_permitted() -> Result<u64, Errno> {
    let header = Header { version: VERSION_3, pid: 0 };
    let none = || Data { effective: 0, permitted: 0, inheritable: 0 };
    let mut data = [none(), none()];
    // SAFETY: version 3 reads one header and writes two data words, all of which outlive the call.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw const header, data.as_mut_ptr()) })?;
    Ok(u64::from(data[0].permitted) | u64::from(data[1].permitted) << 32)
}
