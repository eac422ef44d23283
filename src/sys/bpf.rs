//! `bpf(2)`, as far as a version 2 control group needs it: a program that decides about devices.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

use super::check;

/// One instruction: `struct bpf_insn`, registers and all in one byte.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[allow(missing_docs)]
pub struct Instruction {
    pub code: u8,
    /// The destination register in the low four bits, the source register in the high four.
    pub registers: u8,
    pub offset: i16,
    pub immediate: i32,
}

/// `union bpf_attr` for `BPF_PROG_LOAD`, up to `expected_attach_type`.
#[repr(C)]
#[derive(Default)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

/// `union bpf_attr` for `BPF_PROG_ATTACH`.
#[repr(C)]
#[derive(Default)]
struct Attach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
}

const BPF_CGROUP_DEVICE: u32 = 6;

fn bpf<T>(command: libc::c_int, attr: &T) -> Result<libc::c_long, Errno> {
    let attr = std::ptr::from_ref(attr);
    // SAFETY: `attr` has the size that is passed, and what it points to outlives the call.
    check(unsafe { libc::syscall(libc::SYS_bpf, command, attr, size_of::<T>()) })
}

/// Loads a `BPF_PROG_TYPE_CGROUP_DEVICE` program.
///
/// # Errors
/// What `bpf(2)` reports: `EPERM` without `CAP_BPF` or `CAP_SYS_ADMIN`, `EINVAL` or `EACCES` if the verifier refuses it.
pub fn load_cgroup_device(program: &[Instruction]) -> Result<OwnedFd, Errno> {
    const BPF_PROG_LOAD: libc::c_int = 5;
    const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
    let load = Load {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(program.len()).map_err(|_| Errno::E2BIG)?,
        insns: program.as_ptr().addr() as u64,
        license: c"GPL".as_ptr().addr() as u64,
        expected_attach_type: BPF_CGROUP_DEVICE,
        ..Load::default()
    };
    let fd = bpf(BPF_PROG_LOAD, &load)?;
    // SAFETY: the call succeeded, and the new descriptor has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Lets `program` decide about devices for the control group open as `cgroup`. Every program up the tree must agree.
///
/// # Errors
/// What `bpf(2)` reports.
pub fn attach_cgroup_device(cgroup: impl AsFd, program: impl AsFd) -> Result<(), Errno> {
    const BPF_PROG_ATTACH: libc::c_int = 8;
    const BPF_F_ALLOW_MULTI: u32 = 2;
    let number = |fd: RawFd| u32::try_from(fd).unwrap_or(u32::MAX);
    let attach = Attach {
        target_fd: number(cgroup.as_fd().as_raw_fd()),
        attach_bpf_fd: number(program.as_fd().as_raw_fd()),
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: BPF_F_ALLOW_MULTI,
    };
    bpf(BPF_PROG_ATTACH, &attach).map(drop)
}
