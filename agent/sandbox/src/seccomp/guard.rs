//! The filter that seccompiler cannot write: foreign tables, and numbers that are too new.

use seccompiler::{BpfProgram, sock_filter};

/// The newest system call that was judged for the deny list: `file_setattr`, Linux 6.17. Numbers
/// are the same on all architectures from 424 on.
const NEWEST_JUDGED: u32 = 469;

#[cfg(target_arch = "x86_64")]
pub(super) const AUDIT_ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
pub(super) const AUDIT_ARCH: u32 = 0xc000_00b7;

/// Set in the number of an x32 call; other architectures have nothing there.
const X32_BIT: u32 = 0x4000_0000;
/// A number that programs use to ask for nothing, or that a tracer puts there.
const NO_CALL: u32 = u32::MAX;

/// Offsets in `struct seccomp_data`.
const AT_NUMBER: u32 = 0;
const AT_ARCH: u32 = 4;

/// Opcodes, include/uapi/linux/bpf_common.h.
const LOAD_WORD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_SET: u16 = 0x45;
const RETURN: u16 = 0x06;

const KILL: sock_filter = step(RETURN, libc::SECCOMP_RET_KILL_PROCESS, 0, 0);
const ALLOW: sock_filter = step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0);
const NOT_THERE: sock_filter = step(
    RETURN,
    libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs(),
    0,
    0,
);

/// Kills 32-bit and x32 calls, hides calls that are newer than the deny list.
pub(super) fn program() -> BpfProgram {
    vec![
        step(LOAD_WORD, AT_ARCH, 0, 0),
        step(JUMP_EQUAL, AUDIT_ARCH, 0, 5),
        step(LOAD_WORD, AT_NUMBER, 0, 0),
        step(JUMP_EQUAL, NO_CALL, 4, 0),
        step(JUMP_SET, X32_BIT, 2, 0),
        step(JUMP_GREATER, NEWEST_JUDGED, 2, 0),
        ALLOW,
        KILL,
        NOT_THERE,
    ]
}

const fn step(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::{AUDIT_ARCH, NEWEST_JUDGED, X32_BIT, program};
    use crate::seccomp::tests::{ALLOW, KILL, errno, run};

    #[test]
    fn guard_kills_foreign_tables_and_hides_what_is_too_new() {
        for (arch, number, want) in [
            (AUDIT_ARCH, 0, ALLOW),
            (AUDIT_ARCH, NEWEST_JUDGED, ALLOW),
            (AUDIT_ARCH, NEWEST_JUDGED + 1, errno(libc::ENOSYS)),
            (AUDIT_ARCH, u32::MAX, errno(libc::ENOSYS)),
            (AUDIT_ARCH, X32_BIT, KILL),
            (AUDIT_ARCH, X32_BIT | 512, KILL),
            (0x4000_0003, 0, KILL),
        ] {
            assert_eq!(
                run(&program(), arch, number, [0; 6]),
                want,
                "{arch:#x} {number:#x}"
            );
        }
    }
}
