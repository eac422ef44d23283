//! Calling conventions: those that processes of this machine can use, and what is peculiar about them.

use super::tables::{Row, SYSCALLS};

/// A calling convention, with its column in the table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Architecture {
    pub name: &'static str,
    /// `AUDIT_ARCH_*` of `linux/audit.h`.
    pub audit: u32,
    column: usize,
    /// Whether all arguments are taken as 32 bits.
    pub narrow: bool,
    /// A bit that its numbers have, in the same `audit` architecture as the native one.
    pub bit: u32,
    /// `socketcall(2)` and `ipc(2)`, where old programs make many calls through these two.
    multiplexers: Option<(u32, u32)>,
}

const fn wide(name: &'static str, audit: u32, column: usize) -> Architecture {
    Architecture { name, audit, column, narrow: false, bit: 0, multiplexers: None }
}

/// x32 has numbers of its own on x86_64, with this bit.
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// The conventions that processes on this machine can use, the native one first.
#[cfg(target_arch = "x86_64")]
pub(super) const ARCHITECTURES: &[Architecture] = &[
    wide("SCMP_ARCH_X86_64", 0xc000_003e, 0),
    Architecture {
        narrow: true,
        multiplexers: Some((102, 117)),
        ..wide("SCMP_ARCH_X86", 0x4000_0003, 1)
    },
    // Its registers have 64 bits, and what programs pass in them has 32.
    Architecture { narrow: true, bit: X32_BIT, ..wide("SCMP_ARCH_X32", 0xc000_003e, 2) },
];
#[cfg(target_arch = "aarch64")]
pub(super) const ARCHITECTURES: &[Architecture] = &[
    wide("SCMP_ARCH_AARCH64", 0xc000_00b7, 3),
    Architecture { narrow: true, ..wide("SCMP_ARCH_ARM", 0x4000_0028, 4) },
];
#[cfg(target_arch = "riscv64")]
pub(super) const ARCHITECTURES: &[Architecture] = &[wide("SCMP_ARCH_RISCV64", 0xc000_00f3, 5)];

/// The names that the specification has for all architectures.
pub(super) const NAMES: [&str; 23] = [
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
];

/// The first argument of `socketcall(2)`, by the call that it stands for (`linux/net.h`).
const SOCKET_CALLS: [(&str, u64); 20] = [
    ("socket", 1),
    ("bind", 2),
    ("connect", 3),
    ("listen", 4),
    ("accept", 5),
    ("getsockname", 6),
    ("getpeername", 7),
    ("socketpair", 8),
    ("send", 9),
    ("recv", 10),
    ("sendto", 11),
    ("recvfrom", 12),
    ("shutdown", 13),
    ("setsockopt", 14),
    ("getsockopt", 15),
    ("sendmsg", 16),
    ("recvmsg", 17),
    ("accept4", 18),
    ("recvmmsg", 19),
    ("sendmmsg", 20),
];

/// The first argument of `ipc(2)`, by the call that it stands for (`linux/ipc.h`).
const IPC_CALLS: [(&str, u64); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

impl Architecture {
    /// The number of a call, without the architecture's bit.
    pub(super) fn number(&self, row: &Row) -> Option<u32> {
        u32::try_from(row.1.get(self.column).copied()?).ok()
    }

    /// The call through which old programs make the call `name`, and the first argument that stands for it.
    pub(super) fn multiplexed(&self, name: &str) -> Option<(u32, u64)> {
        let (socketcall, ipc) = self.multiplexers?;
        let find = |calls: &[(&str, u64)], through: u32| {
            let found = calls.iter().find(|(known, _)| *known == name);
            found.map(|(_, selector)| (through, *selector))
        };
        find(&SOCKET_CALLS, socketcall).or_else(|| find(&IPC_CALLS, ipc))
    }
}

/// The row of the table with this name.
pub(super) fn row(name: &str) -> Option<&'static Row> {
    let found = SYSCALLS.binary_search_by(|row| row.0.cmp(name)).ok()?;
    SYSCALLS.get(found)
}

#[cfg(test)]
mod tests {
    use super::super::tables::NUMBERS;
    use super::*;

    #[test]
    fn tables_are_sorted_and_known() {
        assert!(SYSCALLS.is_sorted_by(|a, b| a.0 < b.0));
        assert!(NAMES.is_sorted());
        assert!(ARCHITECTURES.iter().all(|architecture| NAMES.contains(&architecture.name)));
        let private = |row: &Row| row.1[4] > 0xf_0000;
        let most = i32::try_from(NUMBERS).unwrap();
        assert!(SYSCALLS.iter().all(|row| private(row) || row.1.iter().all(|n| *n < most)));
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn numbers_are_the_kernels() {
        let [x86_64, i386, x32] = ARCHITECTURES else { panic!("three") };
        for (name, expected) in [
            ("read", libc::SYS_read),
            ("clone3", libc::SYS_clone3),
            ("fchmodat2", libc::SYS_fchmodat2),
            ("mount_setattr", libc::SYS_mount_setattr),
        ] {
            let found = row(name).and_then(|row| x86_64.number(row)).map(i64::from);
            assert_eq!(found, Some(expected), "{name}");
        }
        let socketcall = row("socketcall").unwrap();
        assert_eq!([x86_64.number(socketcall), i386.number(socketcall)], [None, Some(102)]);
        assert_eq!(x32.number(row("ioctl").unwrap()), Some(514));
        assert!(row("no_such_call").is_none());
    }
}
