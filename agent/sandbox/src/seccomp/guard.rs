//! The filter that seccompiler cannot write: foreign tables, and numbers that are too new.

use seccompiler::{BpfProgram, sock_filter};

/// The newest system call that was judged for the deny list: `file_setattr`, Linux 6.17. Numbers
/// are the same on all architectures from 424 on.
const NEWEST_JUDGED: u32 = 469;

#[cfg(target_arch = "x86_64")]
const AUDIT_ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCH: u32 = 0xc000_00b7;

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
    use super::{
        AT_ARCH, AUDIT_ARCH, JUMP_EQUAL, JUMP_GREATER, JUMP_SET, LOAD_WORD, NEWEST_JUDGED, RETURN,
        X32_BIT, program,
    };

    /// Runs the program as the kernel does.
    fn verdict(arch: u32, number: u32) -> u32 {
        let program = program();
        let (mut at, mut word) = (0, 0);
        loop {
            let step = &program[at];
            let jump = |hit: bool| usize::from(if hit { step.jt } else { step.jf });
            at += 1 + match step.code {
                LOAD_WORD => {
                    word = if step.k == AT_ARCH { arch } else { number };
                    0
                }
                JUMP_EQUAL => jump(word == step.k),
                JUMP_GREATER => jump(word > step.k),
                JUMP_SET => jump(word & step.k != 0),
                RETURN => return step.k,
                other => panic!("opcode {other}"),
            };
        }
    }

    #[test]
    fn guard_kills_foreign_tables_and_hides_what_is_too_new() {
        let hidden = libc::SECCOMP_RET_ERRNO | 38;
        for (arch, number, want) in [
            (AUDIT_ARCH, 0, libc::SECCOMP_RET_ALLOW),
            (AUDIT_ARCH, NEWEST_JUDGED, libc::SECCOMP_RET_ALLOW),
            (AUDIT_ARCH, NEWEST_JUDGED + 1, hidden),
            (AUDIT_ARCH, u32::MAX, hidden),
            (AUDIT_ARCH, X32_BIT, libc::SECCOMP_RET_KILL_PROCESS),
            (AUDIT_ARCH, X32_BIT | 512, libc::SECCOMP_RET_KILL_PROCESS),
            (0x4000_0003, 0, libc::SECCOMP_RET_KILL_PROCESS),
        ] {
            assert_eq!(verdict(arch, number), want, "{arch:#x} {number:#x}");
        }
    }
}
