//! The system calls of a thread that extracts.

use crate::sys::seccomp::Instruction;

/// Calls on files, reached through descriptors.
const FILES: &[libc::c_long] = &[
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_dup,
    libc::SYS_fallocate,
    libc::SYS_fchdir,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_fcntl,
    libc::SYS_fgetxattr,
    libc::SYS_flistxattr,
    libc::SYS_fremovexattr,
    libc::SYS_fsetxattr,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_ftruncate,
    libc::SYS_getdents64,
    libc::SYS_lgetxattr,
    libc::SYS_linkat,
    libc::SYS_llistxattr,
    libc::SYS_lseek,
    libc::SYS_lsetxattr,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_statx,
    libc::SYS_symlinkat,
    libc::SYS_umask,
    libc::SYS_unlinkat,
    libc::SYS_utimensat,
    libc::SYS_write,
    libc::SYS_writev,
    FCHMODAT2,
];
/// Calls on open files.
const WRITES: &[libc::c_long] = &[
    libc::SYS_close,
    libc::SYS_fchmod,
    libc::SYS_fchown,
    libc::SYS_fsetxattr,
    libc::SYS_fstat,
    // The C library's fstat(3).
    libc::SYS_newfstatat,
    libc::SYS_utimensat,
    libc::SYS_write,
];
/// What memory, locks, the end of a thread and a panic need.
const THREADS: &[libc::c_long] = &[
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_madvise,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
];
/// fchmodat2(2), of Linux 6.6: the same number on every machine.
const FCHMODAT2: libc::c_long = 452;

/// `AUDIT_ARCH_*` of the machine that this program is for.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// `BPF_LD | BPF_W | BPF_ABS`
const LOAD: u16 = 0x20;
/// `BPF_JMP | BPF_JEQ | BPF_K`
const EQUAL: u16 = 0x15;
/// `BPF_RET | BPF_K`
const RETURN: u16 = 0x06;
/// `offsetof(struct seccomp_data, …)`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;

/// The filter of a thread that extracts.
pub(super) fn filter() -> Vec<Instruction> {
    allow(FILES)
}

/// The filter of a thread that writes to files that are open. What two of its calls could do with a
/// name, they can do in the layer's folder alone.
pub(super) fn writer_filter() -> Vec<Instruction> {
    allow(WRITES)
}

/// A filter that answers every other call with `EPERM`. The kernel asks it once for each number, not at each call.
fn allow(calls: &[libc::c_long]) -> Vec<Instruction> {
    let plain = |code, k| Instruction { code, jt: 0, jf: 0, k };
    let refuse = libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs();
    let mut program = vec![
        plain(LOAD, ARCH),
        Instruction { code: EQUAL, jt: 1, jf: 0, k: ARCHITECTURE },
        plain(RETURN, refuse),
        plain(LOAD, NUMBER),
    ];
    for number in calls.iter().chain(THREADS) {
        let Ok(number) = u32::try_from(*number) else { continue };
        program.push(Instruction { code: EQUAL, jt: 0, jf: 1, k: number });
        program.push(plain(RETURN, libc::SECCOMP_RET_ALLOW));
    }
    program.push(plain(RETURN, refuse));
    program
}
