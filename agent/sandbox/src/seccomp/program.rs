//! What seccompiler cannot write: calls that are handed to a listener, foreign tables, and calls that
//! are not there.

use clawd_common::syscall::{Arch, NEWEST_JUDGED, X32_BIT};
use seccompiler::{BpfProgram, sock_filter};

/// A number that programs use to ask for nothing, or that a tracer puts there.
const NO_CALL: u32 = u32::MAX;
/// The same on all architectures. Its flags lie in memory, where a filter cannot read them.
const CLONE3: u32 = 435;

/// Offsets in `struct seccomp_data`.
const AT_NUMBER: u32 = 0;
const AT_ARCH: u32 = 4;

/// Opcodes, include/uapi/linux/bpf_common.h.
const LOAD_WORD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_SET: u16 = 0x45;
const RETURN: u16 = 0x06;

/// To the listener.
const NOTIFY: sock_filter = step(RETURN, libc::SECCOMP_RET_USER_NOTIF, 0, 0);
const NOT_THERE: sock_filter = step(
    RETURN,
    libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs(),
    0,
    0,
);

/// Marks in a program that seccompiler compiles what [`complete`] makes of it: it knows no action for
/// a listener. `SECCOMP_RET_TRACE` with this datum.
pub(super) const MARK: u32 = 0;

/// Turns a program's marks into calls for the listener, and puts before it what goes for all numbers.
///
/// Every call of a foreign table goes to the listener too: of 32 bits, and of x32, whose calls have
/// the native table's `arch` and a bit in their number. `clone3` is not there (ENOSYS), after which
/// programs use `clone`, and neither are calls that are newer than the deny list.
///
/// `None` if nothing is marked: then the program would refuse nothing.
pub(super) fn complete(arch: Arch, mut marked: BpfProgram) -> Option<BpfProgram> {
    let mark = step(RETURN, libc::SECCOMP_RET_TRACE | MARK, 0, 0);
    let mut is_marked = false;
    for instruction in &mut marked {
        if *instruction == mark {
            *instruction = NOTIFY;
            is_marked = true;
        }
    }
    let mut program = vec![
        step(LOAD_WORD, AT_ARCH, 0, 0),
        step(JUMP_EQUAL, arch.audit(), 0, 6),
        step(LOAD_WORD, AT_NUMBER, 0, 0),
        step(JUMP_EQUAL, NO_CALL, 5, 0),
        step(JUMP_SET, X32_BIT, 3, 0),
        step(JUMP_EQUAL, CLONE3, 3, 0),
        step(JUMP_GREATER, NEWEST_JUDGED, 2, 0),
        step(JUMP, 2, 0, 0),
        NOTIFY,
        NOT_THERE,
    ];
    program.append(&mut marked);
    is_marked.then_some(program)
}

const fn step(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use clawd_common::syscall::{Arch, NEWEST_JUDGED, X32_BIT};

    use super::{RETURN, complete, step};
    use crate::seccomp::tests::{ALLOW, NOTIFY, errno, run};

    #[test]
    fn program_without_a_mark_is_refused() {
        assert_eq!(complete(Arch::X86_64, Vec::new()), None);
        let allow = vec![step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0)];
        assert_eq!(complete(Arch::X86_64, allow), None);
    }

    #[test]
    fn foreign_tables_go_to_the_listener_and_unjudged_calls_are_not_there() {
        let allow = step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0);
        let marked = vec![allow, step(RETURN, libc::SECCOMP_RET_TRACE, 0, 0)];
        for arch in Arch::ALL {
            let program = complete(arch, marked.clone()).expect("marked");
            let not_there = errno(libc::ENOSYS);
            for (of, number, want) in [
                (arch.audit(), 0, ALLOW),
                (arch.audit(), 434, ALLOW),
                (arch.audit(), 435, not_there),
                (arch.audit(), 436, ALLOW),
                (arch.audit(), NEWEST_JUDGED, ALLOW),
                (arch.audit(), NEWEST_JUDGED + 1, not_there),
                (arch.audit(), u32::MAX, not_there),
                (arch.audit(), X32_BIT, NOTIFY),
                (arch.audit(), X32_BIT | 435, NOTIFY),
                (arch.audit(), X32_BIT | 512, NOTIFY),
                (0x4000_0003, 1, NOTIFY),
                (0x4000_0028, 435, NOTIFY),
                (0x4000_0003, u32::MAX, NOTIFY),
            ] {
                let got = run(&program, of, number, [0; 6]);
                assert_eq!(got, want, "{of:#x} {number:#x}");
            }
        }
    }
}
